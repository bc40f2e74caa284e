"""Ends of an interval for numbers that cannot leave a range, where few samples make the difference, or none does.

- A standard error of 0 is no certainty: it says that none of n samples was of another kind, so the share of other kinds
  is at most 1 - 0.025 ** (1 / n), about 3.7 / n (Clopper & Pearson 1934, none of n; the rule of three has 3 / n, one-
  sided). The ends are what the number would be if so many samples were of the kinds that lower and raise it most.
- A share, or a mean of terms in a range, gets Wilson's ends (1927) for its standard error, or the even ones where they
  reach further. Even ends alone would allow less after one copy in 200 texts (0.015) than after none (0.018); Wilson's
  alone begin above many a rare share (docs/intervals.md).
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
    return 1 - math.pow((1 - LEVEL) / 2, 1 / n)


def scored(found: Estimate, n: int, *, low: float = 0.0, high: float = 1.0, base: float | None = None) -> Estimate:
    """A mean of n independent terms in [low, high], or a ratio of two such sums, with Wilson's ends joined to its own.

    found: the number with its `moves`, whose squares add up to its variance. Student's quantile of n - 1 replaces the
    normal one. base: what nearly all terms are where few exceed it, `low` when not given. Where no term differs,
    `unvaried`.
    """
    if not math.sqrt(variance(found)) > ROUNDING * (high - low):
        return unvaried(found, n, lambda share: mixed(found.value, share, low, high), low=low, high=high)
    t = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1))
    base = low if base is None else base
    at, room = found.value - base, high - found.value
    if not (at > 0 and room > 0):
        # At the end of a range that varies with the terms, as when texts of unlike lengths are copied whole.
        return found
    # t^2 over the number of trials of 0 or 1 that would have this variance.
    k = t * t * variance(found) / (at * room)
    centre, reach = at + (room - at) * k / 2 / (1 + k), math.sqrt(k * at * room + (k * (at + room) / 2) ** 2) / (1 + k)
    ends = min(found.low, base + centre - reach), max(found.high, base + centre + reach)
    return _with(found, max(low, ends[0]), min(high, ends[1]), f"{found.method}, wilson")


def on_logit_scale(found: Estimate, df: float) -> Estimate:
    """A number in [0, 1] with the ends t standard errors away on the logit scale (delta method), inside (0, 1).

    found: as in `scored`; as it is at 0 and 1, where there is no logit, and where nothing moves it.
    """
    value, error = found.value, math.sqrt(variance(found))
    if not 0 < value < 1 or not error > ROUNDING:
        return found
    reach = error * float(stats.t.ppf(0.5 + LEVEL / 2, df)) / (value * (1 - value))
    # Past 700 an exponential overflows; 0 and 1 are all that is left there.
    low, high = (1 / (1 + (1 - value) / value * math.exp(min(700.0, way))) for way in (reach, -reach))
    return _with(found, low, high, found.method)


def unvaried(found: Estimate, n: int, ends: Ends, *, low: float = 0.0, high: float = 1.0) -> Estimate:
    """`found` as it is, unless none of its n independent samples moves it: then with the ends of unseen samples.

    ends: see `Ends`; low, high: the range of the number, to which they are cut. Where they leave no room the number has
    no interval: its method is "none".
    """
    if math.sqrt(variance(found)) > ROUNDING * (high - low):
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


def variance(found: Estimate) -> float:
    """The variance behind a number: the squares of how far each sample moves it, added up."""
    return sum(float(moved.square().sum()) for moved in (found.moves or {}).values())
