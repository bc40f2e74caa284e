"""The pages of the run browser: the list, one record, and a metric over time as lines with intervals.

Runs stand side by side in the order of their files' times, at equal distances: a history has commits, not a clock. Only
points of one subject and one protocol are joined; a change of protocol breaks the line, and the page says what changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from evalkit.types import Cell

from ._axes import Scale, bounds, text_width, ticks
from ._numbers import decimals, interval, number, tick
from ._words import ARROWS, one_line
from .html import environment, policy, style_and_script
from .svg import series as colours

WIDTH, HEIGHT, SIZE = 960.0, 340.0, 12.5
_LEFT, _TOP, _RIGHT, _BOTTOM = 58.0, 30.0, 948.0, 286.0
# More points than this are drawn without dots and intervals of their own; the line alone can still be read.
MOST_MARKED = 250


def as_html(facts: Mapping[str, Any]) -> str:
    """One page of the run browser; `facts["page"]` is "list", "run" or "metric", the rest is what that page shows."""
    shared, script = style_and_script()
    style = shared + files("reports").joinpath("templates", "history.css").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("history.html.j2")
        .render(
            facts=facts,
            style=Markup(style),
            script=Markup(script),
            # The filter is a form that goes to the page's own address, so that it works without the script.
            policy=policy(style, script).replace("form-action 'none'", "form-action 'self'"),
            chart=chart,
            shown=shown,
            colours=colours,
            arrows=ARROWS,
        )
    )


def stored_policy() -> str:
    """The Content-Security-Policy under which a stored report is shown: no script but that of this version's reports.

    Its own policy, in its head, holds as well. Styles and pictures may be its own; nothing is fetched from elsewhere.
    """
    style, script = style_and_script()
    own = policy(style, script, "'self' data:").split("; ")
    parts = [part if not part.startswith("style-src") else "style-src 'unsafe-inline'" for part in own]
    return "; ".join([*parts, "frame-ancestors 'none'"])


def shown(value: float, ends: Sequence[float] | None) -> tuple[str, str]:
    """A number and its interval as text, with as many digits as its interval bears."""
    low, high = ends if ends else (None, None)
    cell = Cell(value, low, high)
    places = decimals([cell])
    return number(value, places), interval(cell, places)


def chart(facts: Mapping[str, Any]) -> Markup:
    """The history as inline SVG: a line for each subject and protocol, each point with its interval and a link."""
    runs, lines = facts["runs"], facts["series"]
    values = [v for line in lines for p in line["points"] for v in (p["value"], p["low"], p["high"]) if v is not None]
    log = bool(values) and min(values) > 0 and max(values) > 50 * min(values)
    low, high = bounds(values, log=log, pad=0.06)
    y = Scale(low, high, _BOTTOM, _TOP, "log" if log else "linear")
    x = Scale(-0.5, max(0.5, len(runs) - 0.5), _LEFT, _RIGHT)
    says = one_line(f"{facts['name']}, {len(runs)} runs", 120)
    parts = [
        Markup('<svg class="chart history" viewBox="0 0 960 340" role="group" aria-label="{}">').format(says),
        _axes(x, y, runs, str(facts["unit"])),
    ]
    marked = sum(len(line["points"]) for line in lines) <= MOST_MARKED
    parts += [_line(line, index, x, y, marked) for index, line in enumerate(lines)]
    return Markup("").join([*parts, Markup("</svg>")])


def _axes(x: Scale, y: Scale, runs: Sequence[Mapping[str, str]], unit: str) -> Markup:
    parts = [Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(*map(_fix, (_LEFT, _TOP, _BOTTOM, _RIGHT)))]
    last = math.inf
    for value in ticks(y):
        at = y(value)
        parts.append(Markup('<path class="grid" d="M{0} {1}H{2}"/>').format(_fix(_LEFT), _fix(at), _fix(_RIGHT)))
        if at < last - SIZE:
            last = at
            parts.append(_text(_LEFT - 7, at + 4, tick(value), "tick", "end"))
    end = -math.inf
    for place, run in enumerate(runs):
        at, text = x(place), one_line(run["label"], 10)
        half = text_width(text, SIZE) / 2
        if at - half > end + 10 and at + half < WIDTH:
            end = at + half
            parts.append(_text(at, _BOTTOM + 18, text, "tick", "middle"))
    parts.append(_text(2, 16, one_line(unit, 80), "label", "start"))
    parts.append(_text(_RIGHT, HEIGHT - 10, "runs in the order of their files, by commit or date", "label", "end"))
    return Markup("").join(parts)


def _line(line: Mapping[str, Any], index: int, x: Scale, y: Scale, marked: bool) -> Markup:
    colour, dash = colours(index)
    spots = [(x(p["at"]), y(p["value"])) for p in line["points"]]
    d = "M" + "L".join(f"{_fix(a)} {_fix(b)}" for a, b in spots)
    name = one_line(line["subject"], 60)
    parts = [Markup('<g class="line"><path class="curve s{} d{}" d="{}"/>').format(colour, dash, d)]
    for p, (a, b) in zip(line["points"], spots, strict=True) if marked else ():
        value, ends = shown(p["value"], None if p["low"] is None else (p["low"], p["high"]))
        says = f"{name}: {value} {ends}, {one_line(p['label'], 20)}, {p['when']}"
        parts.append(Markup('<a href="{}"><title>{}</title>').format(p["link"], says))
        if p["low"] is not None:
            bar = f"M{_fix(a)} {_fix(y(p['low']))}V{_fix(y(p['high']))}"
            parts.append(Markup('<path class="whisker s{}" d="{}"/>').format(colour, bar))
        parts.append(Markup('<path class="knot s{}" d="M{} {}h0.01"/></a>').format(colour, _fix(a), _fix(b)))
    return Markup("").join([*parts, Markup("</g>")])


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _fix(x), _fix(y), anchor, text
    )


def _fix(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
