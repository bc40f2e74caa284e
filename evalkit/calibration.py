"""From a detector's scores to probabilities, operating points and p-values: numbers in, numbers out.

Probabilities are at even prior odds (both sides count half, however many samples each has); `at_prevalence` moves them
to another prior. Three maps, all of them rising in the score: temperature has one parameter and keeps the score 0.5
where it is, so it cannot mend a detector whose threshold is off; isotonic and Venn-Abers can. Thresholds are order
statistics of the calibration reals: what they promise follows from ranks alone, whatever the law of the scores is, as
long as fresh reals are drawn as the calibration reals were. A score must lie *above* a threshold to be flagged: then
equal scores only make a promise safer.

Venn-Abers is written here on scikit-learn's isotonic regression: the package `venn-abers` switches numpy's warnings off
for the whole process when it is imported and compares every pair of distinct scores. A test holds both side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import BadRows, BadSetting, TooFewSamples

Array: TypeAlias = "npt.NDArray[np.float64]"

METHODS = ("temperature", "isotonic", "venn_abers")
LEVEL = 0.95
# float32 has no number between 1 - 2^-24 and 1: a P(fake) of 1 is any P above that.
NEAREST_ONE, NEAREST_ZERO = 1 - 2.0**-25, 1e-30
COLDEST, HOTTEST = 1e-2, 1e3
# The shares of fakes a PPV is given for where none was declared.
PREVALENCES = (0.5, 0.1, 0.01)


def log_odds(p_fake: npt.ArrayLike) -> Array:
    """Natural log-odds of P(fake), any shape, kept finite: P is held within [1e-30, 1 - 2^-25]. Raises BadRows."""
    p = np.asarray(p_fake, dtype=np.float64)
    if not np.isfinite(p).all() or (p.size and (p.min() < 0 or p.max() > 1)):
        raise BadRows("a detector's score is not a probability; check the detector and its weights")
    p = np.clip(p, NEAREST_ZERO, NEAREST_ONE)
    return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)


def at_prevalence(p_fake: npt.ArrayLike, prevalence: float) -> Array:
    """P(fake) at even prior odds moved to a share `prevalence` of fakes, in (0, 1): the odds times its prior odds."""
    if not 0 < prevalence < 1:
        raise BadSetting(f"prevalence is {prevalence}; expected a share of fakes between 0 and 1")
    p = np.asarray(p_fake, dtype=np.float64)
    fake = p * prevalence
    return np.asarray(fake / (fake + (1 - p) * (1 - prevalence)))


# ---------------------------------------------------------------------------------------------- maps


@dataclass(frozen=True)
class Calibrated:
    """P(fake) [N] at even prior odds; `low` and `high` [N] are Venn-Abers' two probabilities where there are two."""

    p_fake: Array
    low: Array | None = None
    high: Array | None = None


Map: TypeAlias = Callable[[Array], Calibrated]


def fitted_map(method: str, real: Array, fake: Array) -> Map:
    """The map of a method learnt from calibration log-odds of reals [N] and fakes [M].

    Raises BadSetting for an unknown method, TooFewSamples for an empty side.
    """
    if not len(real) or not len(fake):
        raise TooFewSamples(f"{len(real)} real and {len(fake)} fake scores; a calibration map needs both sides")
    if method == "temperature":
        warmth = temperature(real, fake)
        return lambda scores: Calibrated(_sigmoid(np.asarray(scores, dtype=np.float64) / warmth))
    if method == "isotonic":
        return _isotonic(real, fake)
    if method == "venn_abers":
        return lambda scores: venn_abers(real, fake, scores)
    raise BadSetting(f"calibration method {method!r}; expected one of {', '.join(METHODS)}")


def temperature(real: Array, fake: Array) -> float:
    """The T > 0 that makes sigmoid(log-odds / T) most likely, both sides weighing the same; Guo et al. 2017, sect. 4.2.

    Held within [0.01, 1000]; scores that are the wrong way round end at the upper end, where all P are near 0.5.
    """
    from scipy.optimize import minimize_scalar

    def cost(log_t: float) -> float:
        t = math.exp(log_t)
        return float(np.logaddexp(0, real / t).mean() + np.logaddexp(0, -fake / t).mean())

    # The cost is convex in 1 / T, so it has one valley in log T as well.
    found = minimize_scalar(cost, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded")
    return math.exp(float(found.x))


def _isotonic(real: Array, fake: Array) -> Map:
    from sklearn.isotonic import IsotonicRegression

    scores = np.concatenate([real, fake])
    # One real and one fake beyond both ends: no P of exactly 0 or 1 from a finite set (rule of succession, as in
    # Brummer & du Preez 2013, section 4).
    ends = np.array([scores.min() - 1, scores.max() + 1])
    x = np.concatenate([real, ends, fake, ends])
    y = np.repeat([0.0, 1.0], [len(real) + 2, len(fake) + 2])
    weights = np.repeat([1 / (len(real) + 2), 1 / (len(fake) + 2)], [len(real) + 2, len(fake) + 2])
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y, sample_weight=weights)
    return lambda given: Calibrated(np.asarray(model.predict(np.asarray(given, dtype=np.float64)), dtype=np.float64))


def venn_abers(real: Array, fake: Array, scores: Array) -> Calibrated:
    """Inductive Venn-Abers: P(fake) if the sample is taken to be real (low), and to be fake (high); Vovk & Petej 2014.

    The sample joins the calibration scores once with each label, and its value under isotonic regression is read. One
    of the two is calibrated at the calibration set's own mix; both are then moved to even prior odds, and merged as
    high / (1 - low + high), the choice of least regret in log loss (section 4). O(distinct scores * (N + M)).
    """
    distinct, group = np.unique(np.concatenate([real, fake]), return_inverse=True)
    counts = np.bincount(group, minlength=len(distinct)).astype(np.float64)
    fakes = np.bincount(group[len(real) :], minlength=len(distinct)).astype(np.float64)
    asked, back = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    # Scores that fall between the same two calibration scores get the same answer: one fit for all of them.
    left = np.searchsorted(distinct, asked, side="left")
    hit = np.append(distinct, np.inf)[left] == asked
    places, place = np.unique(2 * left + hit, return_inverse=True)
    pairs = np.array([_added(fakes, counts, int(p) // 2, bool(p % 2)) for p in places]).reshape(-1, 2)
    even = at_prevalence(pairs, len(real) / (len(real) + len(fake)))
    low, high = even[place][back].T
    return Calibrated(high / (1 - low + high), low, high)


def _added(fakes: Array, counts: Array, at: int, hit: bool) -> tuple[float, float]:
    """The isotonic value at group `at` once a real, once a fake is added: into the group, or as a new one before it."""
    from sklearn.isotonic import isotonic_regression

    if not hit:
        fakes, counts = np.insert(fakes, at, 0.0), np.insert(counts, at, 0.0)
    weights = counts.copy()
    weights[at] += 1
    values = []
    for label in (0.0, 1.0):
        total = fakes.copy()
        total[at] += label
        values.append(float(isotonic_regression(total / weights, sample_weight=weights)[at]))
    return values[0], values[1]


def _sigmoid(x: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(x), dtype=np.float64)


# ---------------------------------------------------------------------------------------------- shares and thresholds


@dataclass(frozen=True)
class Proportion:
    """`count` of `n`, with an exact interval of the share behind it (Clopper & Pearson 1934) at `level`."""

    count: int
    n: int
    low: float
    high: float
    level: float = LEVEL

    @property
    def value(self) -> float:
        """The share in [0, 1]."""
        return self.count / self.n


def proportion(count: int, n: int, level: float = LEVEL) -> Proportion:
    """A share of n independent trials, n >= 1, with its Clopper-Pearson interval: the truth is outside in at most
    (1 - level) / 2 of all cases on either side. Raises TooFewSamples for n = 0."""
    from scipy.stats import beta

    if n < 1:
        raise TooFewSamples("a share of no samples; give at least one")
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, n - count + 1))
    high = 1.0 if count == n else float(beta.ppf(1 - tail, count + 1, n - count))
    return Proportion(count, n, low, high, level)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on P(fake) of which the false positive rate is known: a score above it is flagged.

    `rank`: it is the rank-th largest of the `n` calibration reals. `above` of them lie above it (fewer than rank).
    `attained`: the probability, over calibration sets, that the false positive rate on fresh reals is at most `fpr`.
    """

    fpr: float
    confidence: float
    threshold: float
    rank: int
    n: int
    above: Proportion

    @property
    def expected_fpr(self) -> float:
        """The false positive rate on fresh reals, averaged over calibration sets, in (0, fpr]; ties only lower it."""
        return self.rank / (self.n + 1)

    @property
    def attained(self) -> float:
        return _assurance(self.rank, self.n, self.fpr)


def operating_point(real: npt.ArrayLike, fpr: float, confidence: float = LEVEL) -> OperatingPoint:
    """The lowest threshold among n calibration reals' scores [n] that keeps the false positive rate at `fpr` or under.

    confidence > 0: with that probability over calibration sets, a tolerance limit: the rate at the r-th largest score
    follows Beta(r, n - r + 1) (Wilks 1941), and less where scores are equal. confidence = 0: on average over
    calibration sets, r = floor(fpr (n + 1)), which flags exactly the conformal p-values of at most fpr (Vovk et al.
    2005). Raises BadSetting, and TooFewSamples naming the number of reals it would take.
    """
    scores = np.sort(np.asarray(real, dtype=np.float64))[::-1]
    enough_reals(len(scores), fpr, confidence)
    rank = _rank(len(scores), fpr, confidence)
    threshold = float(scores[rank - 1])
    above = proportion(int((scores > threshold).sum()), len(scores))
    return OperatingPoint(fpr, confidence, threshold, rank, len(scores), above)


def enough_reals(n: int, fpr: float, confidence: float = LEVEL) -> None:
    """Nothing where n calibration reals can carry the promise; TooFewSamples with the number it takes where not."""
    least = least_reals(fpr, confidence)
    if n < least:
        promise = f"with {confidence:.0%} confidence" if confidence else "on average"
        raise TooFewSamples(
            f"{n:,} calibration reals; an FPR of {fpr:.3g} {promise} needs at least {least:,}: give more or ask for a"
            " higher --fpr" + (" (--fpr-in-expectation promises less)" if confidence else "")
        )


def least_reals(fpr: float, confidence: float = LEVEL) -> int:
    """How many calibration reals an operating point needs: 59, 299, 2,995 for 5, 1, 0.1 % at 95 % confidence."""
    if not 0 < fpr < 1:
        raise BadSetting(f"fpr is {fpr}; it must lie between 0 and 1")
    if not 0 <= confidence < 1:
        raise BadSetting(f"confidence is {confidence}; it must be at least 0 and under 1 (0: on average)")
    n = max(1, math.floor(math.log1p(-confidence) / math.log1p(-fpr) if confidence else 1 / fpr - 1) - 1)
    while _rank(n, fpr, confidence) < 1:
        n += 1
    return n


def _rank(n: int, fpr: float, confidence: float) -> int:
    """The largest r for which the r-th largest score keeps the promise; 0 when none does."""
    if not confidence:
        return math.floor(fpr * (n + 1) + 1e-9)  # 0.05 * 20 must be 1 whatever binary makes of 0.05
    from scipy.stats import binom

    rank = int(binom.ppf(1 - confidence, n, fpr))
    return rank + 1 if _assurance(rank + 1, n, fpr) >= confidence else rank


def _assurance(rank: int, n: int, fpr: float) -> float:
    """P(Beta(rank, n - rank + 1) <= fpr) = P(Binomial(n, fpr) >= rank)."""
    from scipy.stats import binom

    return float(binom.sf(rank - 1, n, fpr))


def low_threshold(fake: npt.ArrayLike, misses: float = 0.05) -> float:
    """The score below which at most a share `misses` of the calibration fakes [M] lies: an order statistic of theirs.

    Raises TooFewSamples for no fakes.
    """
    scores = np.sort(np.asarray(fake, dtype=np.float64))
    if not len(scores):
        raise TooFewSamples("no calibration fakes; the lower threshold is one of their scores")
    return float(scores[min(math.floor(misses * len(scores) + 1e-9), len(scores) - 1)])


def predictive_value(tpr: float, fpr: float, prevalence: float) -> float:
    """PPV, the share of fakes among what is flagged, in [0, 1], where a share `prevalence` of everything is fake.

    1 where nothing real is flagged, 0 where nothing is flagged at all.
    """
    caught = prevalence * tpr
    flagged = caught + (1 - prevalence) * fpr
    return caught / flagged if flagged else 0.0


def predictive_interval(caught: Proportion, alarms: Proportion, prevalence: float) -> tuple[float, float]:
    """Ends of the PPV from the ends of both rates: it holds at least as often as both of them hold at once."""
    return (
        predictive_value(caught.low, alarms.high, prevalence),
        predictive_value(caught.high, alarms.low, prevalence),
    )


# ---------------------------------------------------------------------------------------------- p-values


def conformal_p_values(calibration: npt.ArrayLike, scores: npt.ArrayLike) -> Array:
    """(1 + calibration reals scored at least as high) / (n + 1) for each score [M], in (0, 1].

    For a fresh real, P(p <= a) <= a for every a; equal scores count against the flag (Vovk et al. 2005; Bates et al.
    2023 for what many such p-values of one calibration set allow together).
    """
    ordered = np.sort(np.asarray(calibration, dtype=np.float64))
    at_least = len(ordered) - np.searchsorted(ordered, np.asarray(scores, dtype=np.float64), side="left")
    return np.asarray((1 + at_least) / (len(ordered) + 1), dtype=np.float64)


def novelty_p_values(calibration: Array, rows: Array, least_variance: float = 1e-6) -> Array:
    """How usual each row [M, D] is among the calibration rows [N, D]: conformal p-values in (0, 1] of its distance.

    Mahalanobis distance with mean and covariance of the calibration rows *and* the row in question, so that all N + 1
    are alike and P(p <= a) <= a is exact for a fresh draw (full conformal prediction). `least_variance` is added to
    every column's variance: a column that never varied then counts only departures larger than rounding.
    """
    centre = calibration.mean(0)
    known, asked = calibration - centre, rows - centre
    total, products, n = known.sum(0), known.T @ known, len(known)
    found = np.empty(len(asked))
    block = max(1, 2_000_000 // max(1, known.size))
    for start in range(0, len(asked), block):
        z = asked[start : start + block]
        mean = (total + z) / (n + 1)
        covariance = (products + z[:, :, None] * z[:, None, :]) / (n + 1) - mean[:, :, None] * mean[:, None, :]
        precision = np.linalg.inv(covariance + least_variance * np.eye(z.shape[1]))
        away = known[None] - mean[:, None]
        others = np.einsum("bnd,bnd->bn", away @ precision, away)
        own = np.einsum("bd,bde,be->b", z - mean, precision, z - mean)
        found[start : start + block] = (1 + (others >= own[:, None] * (1 - 1e-9)).sum(1)) / (n + 1)
    return found
