"""Ends of an interval for numbers that cannot leave a range, where few samples make the difference, or none does.

- A standard error of 0 is no certainty: it says that none of n samples was of another kind, so the share of other kinds
  is at most 1 - 0.025 ** (1 / n), about 3.7 / n (Clopper & Pearson 1934, none of n; the rule of three has 3 / n, one-
  sided). The ends are what the number would be if so many samples were of the kinds that lower and raise it most.
- A share, or a mean of terms in a range, gets Wilson's ends (1927) for its standard error. Even ends would say less
  of no copy in 200 texts (at most 0.018) than of one (0.015), and hold a rare share too seldom (docs/intervals.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from scipy import stats

from ..resample import LEVEL
from ..types import Estimate

UNSEEN = "unseen share"
# Below this part of the range a standard error is the rounding of equal terms.
ROUNDING = 1e-12

# Of the share of samples that are of other kinds than those drawn, the lowest and the highest the number could be.
Ends = Callable[[float], tuple[float, float]]


def unseen(n: int) -> float:
    """The largest share in (0, 1) of a kind of sample that n >= 1 independent draws may all miss, at 95 % (two-sided).

    Clopper & Pearson 1934, none of n.
    """
    return 1 - ((1 - LEVEL) / 2) ** (1 / n)


def scored(found: Estimate, n: int, *, low: float = 0.0, high: float = 1.0) -> Estimate:
    """A mean of n independent terms in [low, high], or a ratio of two such sums, with Wilson's ends.

    found: the number with its `moves`, whose squares add up to its variance. Student's quantile of n - 1 replaces the
    normal one. Where no term differs, `unvaried`.
    """
    variance = _variance(found)
    if not math.sqrt(variance) > ROUNDING * (high - low):
        return unvaried(found, n, lambda share: mixed(found.value, share, low, high), low=low, high=high)
    t = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1))
    at, room = found.value - low, high - found.value
    # t^2 over the number of trials of 0 or 1 that would have this variance.
    k = t * t * variance / (at * room)
    centre, reach = at + (room - at) * k / 2 / (1 + k), math.sqrt(k * at * room + (k * (high - low) / 2) ** 2) / (1 + k)
    ends = max(low, low + centre - reach), min(high, low + centre + reach)
    return _with(found, *ends, f"{found.method}, wilson")


def unvaried(found: Estimate, n: int, ends: Ends, *, low: float = 0.0, high: float = 1.0) -> Estimate:
    """`found` as it is, unless none of its n independent samples moves it: then with the ends of unseen samples.

    ends: see `Ends`; low, high: the range of the number, to which they are cut. Where they leave no room the number has
    no interval: its method is "none".
    """
    if math.sqrt(_variance(found)) > ROUNDING * (high - low):
        return found
    lowest, highest = ends(unseen(n))
    if not min(high, highest) > max(low, lowest):
        return replace(found, low=found.value, high=found.value, method="none")
    return _with(found, max(low, lowest), min(high, highest), UNSEEN)


def mixed(value: float, share: float, low: float, high: float) -> tuple[float, float]:
    """The mean of terms of this value if a share of them were `low`, and if it were `high`."""
    return value - share * (value - low), value + share * (high - value)


def _with(found: Estimate, low: float, high: float, method: str) -> Estimate:
    return replace(found, low=min(found.value, low), high=max(found.value, high), method=method)


def _variance(found: Estimate) -> float:
    return sum(float(moved.square().sum()) for moved in (found.moves or {}).values())
