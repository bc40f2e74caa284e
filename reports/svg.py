"""Charts as inline SVG: curves, a scatter with intervals, the strip of a table cell; colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.types import Better, Cell, Curves, Point, Scatter

from ._axes import Rect, Scale, axis, bounds, place_labels, text_width, ticks
from ._numbers import finite, tick
from ._words import one_line

WIDTH, HEIGHT, SIZE = 480.0, 350.0, 12.5
SERIES = 8
_LEFT, _TOP, _RIGHT, _BOTTOM = 52.0, 34.0, 468.0, 302.0


@dataclass(frozen=True)
class Span:
    """What a strip's width stands for; `flipped` where lower is better, so that further right is always better."""

    low: float
    high: float
    flipped: bool
    log: bool

    def __call__(self, value: float) -> float:
        at = Scale(self.low, self.high, 4.0, 96.0, "log" if self.log else "linear")(value)
        return 100.0 - at if self.flipped else at

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def span(cells: Sequence[Cell], better: Better) -> Span:
    """The scale of a column's strips; logarithmic where its values differ more than fiftyfold."""
    values = [v for c in cells for v in (c.value, c.low, c.high) if v is not None and math.isfinite(v)]
    log = bool(values) and min(values) > 0 and max(values) > 50 * min(values)
    low, high = bounds(values, log=log, pad=0.02)
    return Span(low, high, better == "lower", log)


def strip(cell: Cell, scale: Span, leader: float | None, best: bool = False) -> Markup:
    """An interval as a bar with its value as a dot; a thin line is the best candidate, an arrowhead is off scale.

    Hidden from screen readers: the same numbers stand beside it in words.
    """
    if cell.value is None:
        return Markup("")
    parts = [
        Markup('<svg class="strip{}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">').format(
            " is-best" if best else ""
        )
    ]
    parts.append(Markup('<path class="track" d="M0 5H100"/>'))
    if leader is not None and math.isfinite(leader):
        parts.append(Markup('<path class="leader" d="M{0} 0V10"/>').format(_fix(scale(leader))))
    if scale.holds(cell.value):
        if cell.low is not None and cell.high is not None:
            parts.append(
                Markup('<path class="bar" d="M{} 5H{}"/>').format(_fix(scale(cell.low)), _fix(scale(cell.high)))
            )
        parts.append(Markup('<path class="dot" d="M{} 5h0.01"/>').format(_fix(scale(cell.value))))
    else:
        at_right = (cell.value > scale.high) != scale.flipped
        parts.append(Markup('<path class="off" d="{}"/>').format("M96 2L99 5L96 8" if at_right else "M4 2L1 5L4 8"))
    return Markup("").join([*parts, Markup("</svg>")])


def curves(chart: Curves) -> Markup:
    """Curves on one pair of axes; their names stand in the legend beside the drawing."""
    points = [p for line in chart.lines for p in line.points if math.isfinite(p[0]) and math.isfinite(p[1])]
    x = axis([p[0] for p in points], _LEFT, _RIGHT, chart.x_scale)
    y = axis([p[1] for p in points], _BOTTOM, _TOP, chart.y_scale)
    parts = [_open(chart.title), _axes(x, y, chart.x_label, chart.y_label)]
    if chart.diagonal:
        parts.append(_diagonal(x, y))
    for index, line in enumerate(chart.lines):
        says = f"{one_line(line.name, 60)}: {one_line(line.says, 120)}".rstrip(": ")
        parts.append(
            Markup('<path class="curve s{} d{}" d="{}"><title>{}</title></path>').format(
                *series(index), _path(line.points, x, y), says
            )
        )
        for (a, b), n in zip(line.points, line.counts, strict=False):
            if math.isfinite(a) and math.isfinite(b):
                parts.append(
                    Markup('<circle class="counted s{}" cx="{}" cy="{}" r="{}"><title>n = {}</title></circle>').format(
                        series(index)[0], _fix(x(a)), _fix(y(b)), _fix(min(7.0, 1.5 + math.sqrt(n) / 4)), n
                    )
                )
    return Markup("").join([*parts, Markup("</svg>")])


def _diagonal(x: Scale, y: Scale) -> Markup:
    """The line of x = y, which is bent where the axes count differently."""
    low, high = max(x.low, y.low), min(x.high, y.high)
    bent = [x.back(x.start + (x.end - x.start) * k / 60) for k in range(61)]
    spots = [low, high] if x.kind == y.kind else bent
    drawn = [(v, v) for v in spots if low <= v <= high]
    return Markup('<path class="diagonal" d="{}"><title>chance</title></path>').format(_path(drawn, x, y))


def series(index: int) -> tuple[int, int]:
    """Colour 1 to 8 and dash pattern 0 to 3 of the line at `index`: the two differ together only after 32 lines."""
    return index % SERIES + 1, (index + index // SERIES) % 4


def swatch(index: int) -> Markup:
    """A short piece of the line at `index`, for a legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 30 8" aria-hidden="true"><path class="curve s{} d{}" d="M1 4H29"/></svg>'
    ).format(*series(index))


def shape(role: str) -> Markup:
    """The mark of a role, for a legend."""
    return Markup('<svg class="shape" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg>').format(_mark(0, 0, role, ""))


def scatter(chart: Scatter) -> Markup:
    """Subjects in a plane with the interval of their height; each is labelled where its label covers no other."""
    points = [p for p in chart.points if drawable(chart, p)]
    breadths = [v for p in points for v in (p.x, *_across(p)) if math.isfinite(v)]
    x = axis(breadths, _LEFT, _RIGHT, "log" if chart.log_x else "linear", pad=0.08)
    heights = [v for p in points for v in (p.y, p.low, p.high) if math.isfinite(v)]
    y = axis(heights, _BOTTOM, _TOP, "log" if chart.log_y else "linear", pad=0.08)
    spots = [(x(p.x), y(p.y)) for p in points]
    names = [one_line(p.name, 18) for p in points]
    taken: list[Rect] = [(a - 6, b - 6, a + 6, b + 6) for a, b in spots]
    taken += [(a - 3, y(p.high), a + 3, y(p.low)) for (a, _), p in zip(spots, points, strict=True) if _bar(p)]
    labels = place_labels(spots, names, taken, (_LEFT + 2, _TOP, _RIGHT, _BOTTOM - 2), SIZE)
    parts = [_open(chart.title), _axes(x, y, chart.x_label, chart.y_label)]
    found = {p.name: (p.x, p.y) for p in points}
    front = [found[name] for name in chart.front if name in found]
    if len(front) > 1:
        parts.append(Markup('<path class="front" d="{}"><title>Pareto front</title></path>').format(_path(front, x, y)))
    for point, (a, b), name, box in zip(points, spots, names, labels, strict=True):
        says = f"{one_line(point.name, 60)}: {tick(point.x)}, {tick(point.y)}"
        says += f" [{tick(point.low)}, {tick(point.high)}]" if _bar(point) else ""
        bar = f"M{_fix(a)} {_fix(y(point.low))}V{_fix(y(point.high))}" if _bar(point) else ""
        if across := _across(point):
            bar += f"M{_fix(x(across[0]))} {_fix(b)}H{_fix(x(across[1]))}"
        is_ahead = " on-front" if point.name in chart.front else ""
        parts.append(Markup('<g class="point {}{}"><title>{}</title>').format(_role(point.role), is_ahead, says))
        parts.append(Markup('<path class="whisker" d="{}"/>').format(bar) if bar else Markup(""))
        parts.append(_mark(a, b, point.role, says))
        parts.append(_label(a, b, name, box))
        parts.append(Markup("</g>"))
    return Markup("").join([*parts, Markup("</svg>")])


def drawable(chart: Scatter, point: Point) -> bool:
    """Whether the point has a place: finite, and above zero where the axis counts in powers."""
    ok_x = math.isfinite(point.x) and (point.x > 0 or not chart.log_x)
    return ok_x and math.isfinite(point.y) and (point.y > 0 or not chart.log_y)


def heat(cell: Cell, neutral: float, extreme: float) -> str:
    """Class name of a matrix cell's colour: ten steps of warm towards `extreme`, of cool on the other side."""
    if not finite(cell.value) or cell.value is None or extreme == neutral:
        return "h0"
    share = (cell.value - neutral) / (extreme - neutral)
    step = min(10, round(abs(share) * 10))
    return f"{'h' if share >= 0 else 'c'}{step}" if step else "h0"


def _bar(point: Point) -> bool:
    return math.isfinite(point.low) and math.isfinite(point.high)


def _across(point: Point) -> tuple[float, ...]:
    """The ends of the interval of the breadth; none where the point has none."""
    left, right = point.left, point.right
    return (left, right) if left is not None and right is not None and finite(left) and finite(right) else ()


def _role(role: str) -> str:
    return role if role in ("floor", "ceiling", "saboteur") else "candidate"


def _fix(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _open(title: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 480 350" role="img"><title>{}</title>').format(one_line(title, 120))


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> Markup:
    parts = [Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(*map(_fix, (_LEFT, _TOP, _BOTTOM, _RIGHT)))]
    last = -math.inf
    for value in ticks(x):
        at, text = x(value), tick(value)
        parts.append(Markup('<path class="grid" d="M{0} {1}V{2}"/>').format(_fix(at), _fix(_TOP), _fix(_BOTTOM)))
        if at - text_width(text, SIZE) / 2 > last + 4:
            last = at + text_width(text, SIZE) / 2
            parts.append(_text(at, _BOTTOM + 17, text, "tick", "middle"))
    last = math.inf
    for value in ticks(y):
        at = y(value)
        parts.append(Markup('<path class="grid" d="M{0} {1}H{2}"/>').format(_fix(_LEFT), _fix(at), _fix(_RIGHT)))
        if at < last - SIZE:
            last = at
            parts.append(_text(_LEFT - 7, at + 4, tick(value), "tick", "end"))
    parts.append(_text(2, 16, one_line(y_label, 62), "label", "start"))
    parts.append(_text(_RIGHT, HEIGHT - 10, one_line(x_label, 62), "label", "end"))
    return Markup("").join(parts)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _fix(x), _fix(y), anchor, text
    )


def _label(x: float, y: float, name: str, box: Rect) -> Markup:
    """The name in its box, with a thin line to a mark that lies farther away."""
    middle = (box[1] + box[3]) / 2
    near_x, near_y = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    lead = Markup("")
    if math.hypot(near_x - x, near_y - y) > 15:
        lead = Markup('<path class="lead" d="M{} {}L{} {}"/>').format(_fix(x), _fix(y), _fix(near_x), _fix(near_y))
    # Anchored on the side of its mark, so that a narrower font than assumed leaves no gap.
    side, at = (
        ("start", box[0]) if box[0] >= x else ("end", box[2]) if box[2] <= x else ("middle", (box[0] + box[2]) / 2)
    )
    return lead + _text(at, middle + SIZE * 0.35, name, "name", side)


def _mark(x: float, y: float, role: str, says: str) -> Markup:
    if role == "floor":
        d = f"M{_fix(x - 5)} {_fix(y - 4)}h10l-5 9z"
    elif role == "ceiling":
        d = f"M{_fix(x)} {_fix(y - 6)}l6 6l-6 6l-6 -6z"
    elif role == "saboteur":
        d = f"M{_fix(x - 5)} {_fix(y - 5)}h10v10h-10z"
    else:
        return Markup('<circle class="mark candidate" cx="{}" cy="{}" r="4.5"/>').format(_fix(x), _fix(y))
    return Markup('<path class="mark {}" d="{}"/>').format(role, d)


def _path(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    drawn: list[str] = []
    for a, b in points:
        if math.isfinite(a) and math.isfinite(b):
            spot = f"{_fix(x(a))} {_fix(y(b))}"
            if not drawn or drawn[-1] != spot:
                drawn.append(spot)
    return "M" + "L".join(drawn) if drawn else ""
