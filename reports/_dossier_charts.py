"""The drawings of a dossier: how a batch divides into verdicts, and counts over [0, 1] with a level and a mark."""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup

from evalkit.types import Histogram

from ._axes import Scale, linear_ticks, text_width
from ._numbers import tick
from ._words import one_line

VERDICTS = ("synthetic", "uncertain", "authentic", "unreadable")
WIDTH, HEIGHT, SIZE = 480.0, 300.0, 12.5
_LEFT, _TOP, _RIGHT, _BOTTOM = 52.0, 34.0, 468.0, 252.0


def shares(counts: Mapping[str, int]) -> Markup:
    """A bar divided by verdict; the same counts stand beside it in words."""
    total, at = sum(counts.get(name, 0) for name in VERDICTS), 0.0
    parts = [Markup('<svg class="shares" viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true">')]
    for name in VERDICTS:
        # What is there at all is seen: half a per mille of the width at least.
        wide = 1000 * counts.get(name, 0) / total if total else 0.0
        wide = max(wide, 3.0) if wide else 0.0
        parts.append(
            Markup('<rect class="v-{}" x="{}" y="0" width="{}" height="12"/>').format(name, _fix(at), _fix(wide))
        )
        at += wide
    return Markup("").join([*parts, Markup("</svg>")])


def histogram(chart: Histogram) -> Markup:
    """Counts over equal bins of [0, 1] as bars, the part called synthetic in the accent; dashed level, upright mark."""
    top = max([*chart.counts, chart.level or 0.0, 1.0]) * 1.06
    x, y = Scale(0.0, 1.0, _LEFT, _RIGHT), Scale(0.0, top, _BOTTOM, _TOP)
    parts = [
        Markup('<svg class="chart hist" viewBox="0 0 480 300" role="img"><title>{}</title>').format(
            one_line(chart.title, 120)
        ),
        Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(*map(_fix, (_LEFT, _TOP, _BOTTOM, _RIGHT))),
        *_ticks(x, y, top),
        *_bars(chart, x, y),
    ]
    if chart.level is not None:
        parts.append(_line("level", f"M{_fix(_LEFT)} {_fix(y(chart.level))}H{_fix(_RIGHT)}", chart.level_says))
    if chart.mark is not None:
        parts.append(_line("threshold", f"M{_fix(x(chart.mark))} {_fix(_TOP)}V{_fix(_BOTTOM)}", chart.mark_says))
    parts.append(_text(2, 16, "files", "label", "start"))
    parts.append(_text(_RIGHT, HEIGHT - 10, one_line(chart.x_label, 62), "label", "end"))
    return Markup("").join([*parts, Markup("</svg>")])


def _ticks(x: Scale, y: Scale, top: float) -> list[Markup]:
    parts, last = [], math.inf
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(_text(x(value), _BOTTOM + 17, tick(value), "tick", "middle"))
    for value in linear_ticks(0.0, top):
        at = y(value)
        parts.append(Markup('<path class="grid" d="M{0} {1}H{2}"/>').format(_fix(_LEFT), _fix(at), _fix(_RIGHT)))
        if at < last - SIZE and text_width(tick(value), SIZE) < _LEFT:
            last = at
            parts.append(_text(_LEFT - 7, at + 4, tick(value), "tick", "end"))
    return parts


def _bars(chart: Histogram, x: Scale, y: Scale) -> list[Markup]:
    n = len(chart.counts)
    parts = []
    for place, (count, marked) in enumerate(zip(chart.counts, chart.marked, strict=True)):
        if not count:
            continue
        left, right = x(place / n) + 1, x((place + 1) / n) - 1
        says = f"{tick(place / n)} to {tick((place + 1) / n)}: {count:,} files, {marked:,} called synthetic"
        parts.append(Markup("<g><title>{}</title>").format(says))
        for kind, low, high in (("called", 0, marked), ("others", marked, count)):
            if high > low:
                parts.append(
                    Markup('<path class="{}" d="M{} {}H{}V{}H{}z"/>').format(
                        kind, _fix(left), _fix(y(low)), _fix(right), _fix(y(high)), _fix(left)
                    )
                )
        parts.append(Markup("</g>"))
    return parts


def _line(kind: str, d: str, says: str) -> Markup:
    return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(kind, d, one_line(says, 120))


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _fix(x), _fix(y), anchor, text
    )


def _fix(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
