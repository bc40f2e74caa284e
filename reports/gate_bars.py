"""A check drawn: the run's interval, the baseline's below it, the limit to keep and the change that is let through.

Numbers grow to the right. Everything drawn stands in words beside it; the drawing is for the eye only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.types import Check, Floor, Reading

from ._axes import Scale, bounds
from ._numbers import finite
from ._words import one_line, visible


@dataclass(frozen=True)
class Edges:
    """Where values are refused: below `low`, above `high`; soft ones are a baseline with the change let through."""

    low: float | None = None
    high: float | None = None
    soft_low: float | None = None
    soft_high: float | None = None

    @property
    def drawn(self) -> list[float]:
        return [x for x in (self.low, self.high, self.soft_low, self.soft_high) if x is not None and math.isfinite(x)]


def edges(check: Check) -> Edges:
    """The limits of a check's rule as places on its axis."""
    rule, base = check.rule, check.baseline
    if rule is None:
        return Edges()
    up, down = (None if base is None else _let(floor, base) for floor in (rule.max_increase, rule.max_decrease))
    return Edges(
        rule.min,
        rule.max,
        None if base is None or down is None else base.value - down,
        None if base is None or up is None else base.value + up,
    )


def _let(floor: Floor | None, base: Reading) -> float | None:
    if floor is None:
        return None
    return floor.amount * abs(base.value) if floor.relative else floor.amount


def bar(check: Check) -> Markup:
    """The drawing of one check; nothing where there is no finite number."""
    found, base = _sound(check.found), _sound(check.baseline)
    if found is None:
        return Markup("")
    own = edges(check)
    values = [x for reading in (found, base) if reading is not None for x in (reading.value, reading.low, reading.high)]
    low, high = bounds([*values, *own.drawn], pad=0.12)
    x = Scale(low, high, 1.0, 99.0)
    parts = [
        Markup('<svg class="gate-bar" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">'),
        Markup("<title>{}</title>").format(visible(one_line(f"{check.metric}: {check.says}", 300))),
    ]
    for edge, end in ((own.low, 0.0), (own.high, 100.0)):
        if edge is not None and math.isfinite(edge):
            left, right = sorted((x(edge), end))
            parts.append(
                Markup('<path class="refused" d="M{0} 0H{1}V16H{0}z"/>').format(_fix(left), _fix(right))
                + Markup('<path class="limit" d="M{} 0V16"/>').format(_fix(x(edge)))
            )
    for edge in (own.soft_low, own.soft_high):
        if edge is not None and math.isfinite(edge):
            parts.append(Markup('<path class="let" d="M{} 0V16"/>').format(_fix(x(edge))))
    if base is not None:
        parts.append(_interval(base, x, 11.5, "base"))
    parts.append(_interval(found, x, 5.0, "own"))
    return Markup("").join([*parts, Markup("</svg>")])


def _sound(reading: Reading | None) -> Reading | None:
    if reading is None or not all(finite(v) for v in (reading.value, reading.low, reading.high)):
        return None
    return reading


def _interval(reading: Reading, x: Scale, y: float, kind: str) -> Markup:
    line = Markup('<path class="{} bar" d="M{} {}H{}"/>').format(
        kind, _fix(x(reading.low)), _fix(y), _fix(x(reading.high))
    )
    return line + Markup('<path class="{} dot" d="M{} {}h0.01"/>').format(kind, _fix(x(reading.value)), _fix(y))


def _fix(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
