"""Axes of a chart: a linear, logarithmic or probit scale, the ticks a reader expects, and labels kept apart.

The probit scale is that of the DET plot (Martin et al. 1997, "The DET curve in assessment of detection task
performance"): rates at the distance of the normal distribution's quantiles, so that two normal score distributions give
a straight line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from evalkit.types import AxisScale

Rect = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] of the data onto [start, end] of the drawing, in equal steps of what `kind` counts in."""

    low: float
    high: float
    start: float
    end: float
    kind: AxisScale = "linear"

    def __call__(self, value: float) -> float:
        low, high, at = (_counted(v, self.kind) for v in (self.low, self.high, value))
        share = min(1.0, max(0.0, (at - low) / (high - low)))
        return self.start + share * (self.end - self.start)

    def back(self, spot: float) -> float:
        """The value that is drawn at `spot`."""
        low, high = (_counted(v, self.kind) for v in (self.low, self.high))
        at = low + (high - low) * (spot - self.start) / (self.end - self.start)
        return 10**at if self.kind == "log" else _NORMAL.cdf(at) if self.kind == "probit" else at


_NORMAL = NormalDist()
# Rates that a DET plot has marks for; Martin et al. 1997, figure 1.
RATES = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999, 0.9999)


def _counted(value: float, kind: AxisScale) -> float:
    if kind == "log":
        return _log(value)
    return _NORMAL.inv_cdf(min(1 - 1e-9, max(1e-9, value))) if kind == "probit" else value


def _log(value: float) -> float:
    return math.log10(max(value, 1e-300))


def bounds(values: Iterable[float], *, log: bool = False, pad: float = 0.05) -> tuple[float, float]:
    """Ends of an axis that holds every value with some air; (0, 1), or (1, 10) for powers, where there is none."""
    kept = [v for v in values if math.isfinite(v) and (v > 1e-290 or not log)]
    if not kept:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = (_log(min(kept)), _log(max(kept))) if log else (min(kept), max(kept))
    air = (high - low) * pad or (0.5 if log else abs(high) * 0.1 or 0.5)
    if log:
        return (10 ** max(low - air, -290.0), 10 ** min(high + air, 290.0))
    # An axis of counts or shares starts at zero when the data nearly does.
    return (0.0 if 0 <= low <= air * 4 else low - air, high + air)


def axis(values: Sequence[float], start: float, end: float, kind: AxisScale = "linear", *, pad: float = 0.04) -> Scale:
    """The scale that shows the values: of a share from 0 to 1, of rates between the marks around them."""
    if kind == "probit":
        rates = [v for v in values if 0 < v < 1] or [0.01, 0.99]
        low = max((rate for rate in RATES if rate < min(rates)), default=RATES[0])
        high = min((rate for rate in RATES if rate > max(rates)), default=RATES[-1])
        return Scale(low, high, start, end, kind)
    if kind == "log" and values and max(values) == 1:
        # Rates: from the power of ten below the smallest, 0 at its left edge, up to 1.
        least = min((v for v in values if v > 0), default=0.1)
        return Scale(min(0.1, 10.0 ** math.floor(math.log10(least) - 1e-9)), 1.0, start, end, kind)
    is_share = bool(values) and kind == "linear" and min(values) >= 0 and 0.5 < max(values) <= 1
    low, high = (0.0, 1.0) if is_share else bounds(values, log=kind == "log", pad=pad)
    return Scale(low, high, start, end, kind)


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers (1, 2, 5 times a power of ten) inside [low, high]."""
    raw = (high - low) / wanted
    if not math.isfinite(raw) or raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [
        round(k * step, 12 - math.floor(math.log10(step))) for k in range(first, math.floor(high / step + 1e-9) + 1)
    ]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high]; with their doubles and fives where fewer than three powers fit."""
    first, last = math.floor(_log(low)), math.ceil(_log(high))
    every = max(1, math.ceil((last - first) / 7))
    powers = [10.0**k for k in range(first, last + 1, every)]
    inside = [p for p in powers if low <= p <= high]
    if len(inside) < 3:
        inside = [p * factor for p in powers for factor in (1, 2, 5) if low <= p * factor <= high]
    return inside or linear_ticks(low, high)


def ticks(scale: Scale) -> list[float]:
    if scale.kind == "probit":
        return [rate for rate in RATES if scale.low <= rate <= scale.high]
    return log_ticks(scale.low, scale.high) if scale.kind == "log" else linear_ticks(scale.low, scale.high)


def text_width(text: str, size: float) -> float:
    """A safe guess at the drawn width: no font is known here, so a wide one is assumed."""
    return (
        sum(0.36 if c in "il.,:;|!'jtf()[] " else 0.98 if c in "mwMW@%" or ord(c) > 0x2E80 else 0.63 for c in text)
        * size
    )


def overlap(one: Rect, two: Rect) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    return width * height if width > 0 and height > 0 else 0.0


def place_labels(
    anchors: Sequence[tuple[float, float]], texts: Sequence[str], taken: Sequence[Rect], room: Rect, size: float
) -> list[Rect]:
    """A box for each label beside its anchor: the first free of eight places near it, then of places farther away.

    `taken` are the marks that no label may cover, `room` is the drawing's inside. Greedy, in the order given.
    """
    placed: list[Rect] = []
    for (x, y), text in zip(anchors, texts, strict=True):
        options = [_clamp(box, room) for box in _around(x, y, text_width(text, size), size)]
        costs = [sum(overlap(box, other) for other in (*taken, *placed)) for box in options]
        free = next((place for place, cost in enumerate(costs) if cost == 0), None)
        placed.append(options[costs.index(min(costs)) if free is None else free])
    return placed


def _around(x: float, y: float, width: float, size: float) -> list[Rect]:
    half, boxes = size * 0.6, []
    for gap in (8.0, 16.0, 28.0, 44.0):
        near = gap * 0.7
        for left, middle in (
            (x + gap, y),
            (x - gap - width, y),
            (x - width / 2, y - gap - half),
            (x - width / 2, y + gap + half),
            (x + near, y - near - half),
            (x + near, y + near + half),
            (x - near - width, y - near - half),
            (x - near - width, y + near + half),
        ):
            boxes.append((left, middle - half, left + width, middle + half))
    return boxes


def _clamp(box: Rect, room: Rect) -> Rect:
    right = max(0.0, room[0] - box[0]) - max(0.0, box[2] - room[2])
    down = max(0.0, room[1] - box[1]) - max(0.0, box[3] - room[3])
    return (box[0] + right, box[1] + down, box[2] + right, box[3] + down)
