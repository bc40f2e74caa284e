"""How sure a change against the baseline is, and what this n could have seen.

The difference of two records has an interval by `comparison.difference`: MOVER (Zou & Donner 2008) with the correlation
that comes from the samples both share. Read as a normal distribution around the change, the leg of that interval
towards zero gives the chance of so large a change when nothing changed. Several regressions tested in one run share
one alpha by Holm's method (1979): the smallest p is held against alpha / m, the next against alpha / (m - 1), until
one fails. The interval that is shown has the level of that step, so it excludes zero exactly where Holm does.

alpha counts both directions, as the 95 % interval does; only one is a regression, so an unchanged run is called worse
with a chance of alpha / 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from ..comparison import difference
from ..types import Floor, MetricResult, Reading

POWER = 0.8
_NORMAL = NormalDist()
LEVEL = 0.95
# The error bars of a worse model are wider than this run's: fid and recall that fell by what is just seen had 1.1 to
# 1.3 times the standard error (docs/gate.md). Without it "8 of 10" would be 5 of 10.
WORSE_NOISE = 1.3
Z_LEVEL = _NORMAL.inv_cdf(0.5 + LEVEL / 2)
Z_POWER = _NORMAL.inv_cdf(POWER)


@dataclass(frozen=True)
class Change:
    """A run's number less its baseline's; down, up: standard errors of the two legs of its interval.

    known: whether both numbers have an interval, without which nothing is known of the noise. base: the baseline's.
    """

    value: float
    down: float
    up: float
    known: bool
    base: float

    def at(self, alpha: float) -> Reading:
        """The change with its interval of level 1 - alpha; without one where the noise is not known."""
        if not self.known:
            return Reading(self.value, self.value, self.value)
        reach = quantile(alpha)
        return Reading(self.value, self.value - reach * self.down, self.value + reach * self.up, 1 - alpha)


@dataclass(frozen=True)
class Limited:
    """A change in the one direction a rule limits: sign +1 for an increase, -1 for a decrease."""

    change: Change
    sign: int
    floor: float

    @property
    def size(self) -> float:
        """How far it went in the limited direction; negative the other way."""
        return self.sign * self.change.value

    @property
    def error(self) -> float:
        """Standard error on the side of zero, seen from a change in the limited direction."""
        return self.change.down if self.sign > 0 else self.change.up

    @property
    def p(self) -> float:
        """Two-sided chance of a change this far in the limited direction when there is none; 1 the other way."""
        if self.size <= 0:
            return 1.0
        return 2 * (1 - _NORMAL.cdf(self.size / self.error)) if self.error > 0 else 0.0

    def seen(self, alpha: float) -> float:
        """The smallest true change in the limited direction that a run like this finds with at least 80 % power.

        Found is what is above the floor and above the noise at level alpha; the number varies around its true change.
        """
        error = WORSE_NOISE * self.error
        return max(self.floor, quantile(alpha) * error) + Z_POWER * error

    def n_for(self, size: float, n: int, alpha: float) -> int | None:
        """How many samples a side would tell a change of that size from none with 80 % power, by the rule of n ** -1/2.

        None where that is no more than there are, or beyond any count.
        """
        return needed(n, (quantile(alpha) + Z_POWER) * self.error, size)


def quantile(alpha: float) -> float:
    """Half the width of the interval of level 1 - alpha, in standard errors."""
    return _NORMAL.inv_cdf(1 - alpha / 2)


def needed(n: int, reach: float, distance: float) -> int | None:
    """The n at which `reach`, found at n, shrinks to `distance`; two digits, rounded up; None where it already has."""
    if not (n > 0 and distance > 0 and reach > distance and math.isfinite(reach)):
        return None
    exact = n * (reach / distance) ** 2
    if not exact < 1e9:
        return None
    step = float(10 ** max(0, math.floor(math.log10(exact)) - 1))
    return int(math.ceil(exact / step) * step)


def change_of(now: MetricResult, base: MetricResult) -> Change:
    """The change from `base` to `now` with the standard errors of its interval's legs."""
    gap, low, high = difference(now, base)
    known = has_interval(now) and has_interval(base) and math.isfinite(low) and math.isfinite(high)
    # At full correlation rounding can leave a leg of the size of the last digit.
    down, up = (max(0.0, gap - low), max(0.0, high - gap)) if known else (0.0, 0.0)
    return Change(gap, down / Z_LEVEL, up / Z_LEVEL, known, base.value)


def has_interval(result: MetricResult) -> bool:
    """Whether a number comes with an interval, without which nothing is known of its noise."""
    return result.low < result.high


def floor_of(floor: Floor, base: float) -> float:
    """A floor in the metric's unit; a share is one of the baseline's size, whatever its sign."""
    return floor.amount * abs(base) if floor.relative else floor.amount


def steps(ps: Sequence[float], alpha: float, adjust: str) -> list[tuple[float, float]]:
    """For each p-value its adjusted one and the alpha it was held against; p adjusted < alpha is a proven change.

    One that is not proven is held against the alpha of the step at which Holm stopped.
    """
    if adjust == "none":
        return [(p, alpha) for p in ps]
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    found: list[tuple[float, float]] = [(1.0, alpha)] * len(ps)
    highest, stopped = 0.0, 0.0
    for rank, i in enumerate(order):
        left = len(ps) - rank
        highest = max(highest, min(1.0, left * ps[i]))
        stopped = stopped or (alpha / left if highest >= alpha else 0.0)
        found[i] = highest, stopped or alpha / left
    return found
