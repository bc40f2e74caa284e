"""What the answers of raters say: d', area, share right, agreement, win rates; each with its interval. Pure functions.

Raters and items are both samples: other raters, or other items of the same sets, would have given other numbers. Each
number is therefore the mean over raters of what one rater's answers give (criteria differ, so answers are never pooled
before), and its variance takes both ways of clustering together: that of leaving out one rater, plus that of leaving
out one item for all raters, less that of leaving out one answer, which both hold (Cameron, Gelbach & Miller 2011,
"Robust inference with multiway clustering", eq. 2.12). A two-way bootstrap would count the answers' own noise up to
three times (Owen 2007, "The pigeonhole bootstrap"). With one rater only the items vary, and the record says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TypeAlias

LEVEL = 0.95
_NORMAL = NormalDist()

Answers: TypeAlias = "Mapping[str, float]"
Statistic: TypeAlias = "Callable[[Sequence[float], Sequence[float]], float]"


@dataclass(frozen=True)
class Measured:
    """A number over raters and items with its 95 % interval; `by_rater` is what each rater's own answers give."""

    value: float
    low: float
    high: float
    by_rater: Mapping[str, float]


@dataclass(frozen=True)
class Sheet:
    """One rater's answers to two kinds of items, by item: a number that is larger the surer it is called generated.

    In a forced choice `fake` holds 1 for a right and 0 for a wrong choice, and `real` is empty.
    """

    fake: Answers
    real: Answers


def z(share: float) -> float:
    """The standard normal quantile of a share in (0, 1)."""
    return _NORMAL.inv_cdf(share)


def loglinear(hits: float, n: int) -> float:
    """A rate in (0, 1) from hits of n: (hits + 0.5) / (n + 1), finite after inversion. Hautus 1995, p. 47."""
    return (hits + 0.5) / (n + 1)


def dprime(fake: Sequence[float], real: Sequence[float]) -> float:
    """Sensitivity d' = z(H) - z(F), in standard deviations; 0 cannot tell.

    fake, real: answers, above 0 = called generated; at least one each. Log-linear rates, Hautus 1995.
    """
    hits, alarms = sum(x > 0 for x in fake), sum(x > 0 for x in real)
    return z(loglinear(hits, len(fake))) - z(loglinear(alarms, len(real)))


def dprime_forced(right: Sequence[float], _: Sequence[float]) -> float:
    """Sensitivity of a two-alternative forced choice, sqrt(2) z(p); p by the log-linear rate.

    Macmillan & Creelman 2005, eq. 7.2: two looks are sqrt(2) easier than one.
    """
    return math.sqrt(2) * z(loglinear(sum(right), len(right)))


def area(fake: Sequence[float], real: Sequence[float]) -> float:
    """P(an answer to a generated item is surer of "generated" than one to a real item), equal ones half; in [0, 1].

    Of yes and no alone it is the area under the ROC of one point joined to the corners, (H + 1 - F) / 2, a lower bound
    of the full area (Macmillan & Creelman 2005, section 3.2). A' is not used: it is larger, but no fixed model's area
    (Pastore et al. 2003).
    """
    of_fake, of_real = Counter(fake), Counter(real)
    # Answers are few different numbers, so their counts are compared instead of all pairs.
    above = sum(n * m * ((x > y) + 0.5 * (x == y)) for x, n in of_fake.items() for y, m in of_real.items())
    return above / (len(fake) * len(real))


def share(fake: Sequence[float], _: Sequence[float]) -> float:
    """The mean of answers that are 0 or 1."""
    return fmean(fake)


def right(fake: Sequence[float], real: Sequence[float]) -> float:
    """Share of right answers, both kinds weighing half, in [0, 1]: calling all of them real gives 0.5."""
    return (fmean([x > 0 for x in fake]) + 1 - fmean([x > 0 for x in real])) / 2


def passed_for_real(fake: Sequence[float], _: Sequence[float]) -> float:
    """Share of the generated items that were called real, in [0, 1]."""
    return 1 - fmean([x > 0 for x in fake])


def measure(statistic: Statistic, sheets: Mapping[str, Sheet], *, unit: bool) -> Measured:
    """The mean over raters of `statistic(fake, real)` with its interval over raters and items.

    sheets: by rater, each with at least 2 answers a kind that the statistic uses. unit: whether the value lives in
    [0, 1]; then the interval is made on the logit scale, and is Wilson's for as many trials as there are items where
    every answer agrees. ValueError without raters.
    """
    if not sheets:
        raise ValueError("no rater to measure")
    by_rater = {name: _value(statistic, s) for name, s in sheets.items()}
    value = fmean(by_rater.values())
    of_raters = _variance_of_mean(list(by_rater.values()))
    of_items, of_answers = _deleting(statistic, sheets, by_rater)
    variance = max(of_raters + of_items - of_answers, of_answers, of_items if len(sheets) == 1 else 0.0)
    if not unit:
        variance = max(variance, sum(_binomial(statistic, s) for s in sheets.values()) / len(sheets) ** 2)
    items = min(len(side) for s in (_items(sheets, "fake"), _items(sheets, "real")) if (side := s))
    degrees = _degrees(of_raters, len(sheets) - 1, of_items, items - 1)
    low, high = _ends(value, variance, degrees, items, unit)
    return Measured(value, low, high, by_rater)


def _value(statistic: Statistic, sheet: Sheet) -> float:
    return statistic(list(sheet.fake.values()), list(sheet.real.values()))


def _items(sheets: Mapping[str, Sheet], side: str) -> list[str]:
    return sorted({item for sheet in sheets.values() for item in getattr(sheet, side)})


def _variance_of_mean(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    centre = fmean(values)
    return sum((v - centre) ** 2 for v in values) / (len(values) - 1) / len(values)


def _deleting(statistic: Statistic, sheets: Mapping[str, Sheet], by_rater: Mapping[str, float]) -> tuple[float, float]:
    """Jackknife variances of the mean over raters: one item left out for all raters, and one answer at a time."""
    count, of_items, of_answers = len(sheets), 0.0, 0.0
    for side in ("fake", "real"):
        items = _items(sheets, side)
        moved: dict[str, list[float]] = {item: [] for item in items}
        for name, sheet in sheets.items():
            own = getattr(sheet, side)
            if len(own) < 2:
                continue
            left = {item: _value(statistic, _without(sheet, side, item)) for item in own}
            centre = fmean(left.values())
            of_answers += (len(own) - 1) / len(own) * sum((v - centre) ** 2 for v in left.values()) / count**2
            for item, v in left.items():
                moved[item].append((v - by_rater[name]) / count)
        sums = [sum(moves) for moves in moved.values()]
        if len(sums) > 1:
            centre = fmean(sums)
            of_items += (len(sums) - 1) / len(sums) * sum((s - centre) ** 2 for s in sums)
    return of_items, of_answers


def _without(sheet: Sheet, side: str, item: str) -> Sheet:
    kept = {key: value for key, value in getattr(sheet, side).items() if key != item}
    return Sheet(kept, sheet.real) if side == "fake" else Sheet(sheet.fake, kept)


def _binomial(statistic: Statistic, sheet: Sheet) -> float:
    """Variance of one rater's d' from the answers' own noise, never 0. Gourevitch & Galanter 1967, eq. 3."""
    if statistic is dprime_forced:
        return 2 * _of_quantile(sum(sheet.fake.values()), len(sheet.fake))
    sides = (list(sheet.fake.values()), list(sheet.real.values()))
    return sum(_of_quantile(sum(x > 0 for x in side), len(side)) for side in sides)


def _of_quantile(hits: float, n: int) -> float:
    rate = loglinear(hits, n)
    return rate * (1 - rate) / (n * _NORMAL.pdf(z(rate)) ** 2)


def _degrees(of_raters: float, raters: int, of_items: float, items: int) -> float:
    """Degrees of freedom of a sum of two variances. Satterthwaite 1946."""
    parts = [(v, max(1, n)) for v, n in ((of_raters, raters), (of_items, items)) if v > 0]
    return sum(v for v, _ in parts) ** 2 / sum(v * v / n for v, n in parts) if parts else float(max(1, items))


def _ends(value: float, variance: float, degrees: float, items: int, unit: bool) -> tuple[float, float]:
    from scipy import stats

    reach = float(stats.t.ppf(0.5 + LEVEL / 2, degrees)) * math.sqrt(variance)
    if not unit:
        return value - reach, value + reach
    if not 0 < value < 1 or variance <= 0:
        return wilson(value, items)
    centre, reach = math.log(value / (1 - value)), reach / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-max(-700.0, min(700.0, x)))) for x in (centre - reach, centre + reach))
    return min(low, value), max(high, value)


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n trials. Wilson 1927."""
    q = z(0.5 + LEVEL / 2)
    centre = (rate + q * q / (2 * n)) / (1 + q * q / n)
    reach = q * math.sqrt(rate * (1 - rate) / n + q * q / (4 * n * n)) / (1 + q * q / n)
    return max(0.0, min(rate, centre - reach)), min(1.0, max(rate, centre + reach))
