"""How far a detector's P(fake) can be believed: Brier score, calibration error, Cllr, and risk against coverage.

These say something about the detector's probabilities, not about a generator's samples: a board that ranked generators
by them would not know which way is better, so none of them is a metric of the board. Scores are P(fake) at even prior
odds, real [N] and fake [M]; unless `balanced` is off, both sides weigh one half whatever N and M are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import BadRows, BadSetting
from ..resample import bootstrap
from ..types import Estimate
from ._guards import scores_of

# One wrong P(fake) of 1 costs 25 bits instead of infinitely many: float32 knows no number nearer to 1.
NEAREST_ONE, NEAREST_ZERO = 1 - 2.0**-25, 1e-30


def brier(real_p: Tensor, fake_p: Tensor, *, balanced: bool = True, seed: int = 0) -> Estimate:
    """Mean squared distance of P(fake) from the truth, in [0, 1]; 0.25 for one who always says one half. Lower is
    better. Brier 1950. With its 95 % stratified bootstrap interval. Raises TooFewSamples, BadRows."""
    real, fake = _probabilities(real_p, fake_p)
    return _mean(real.square(), (1 - fake).square(), balanced, seed)


def cllr(real_p: Tensor, fake_p: Tensor, *, seed: int = 0) -> Estimate:
    """Cost of the log-likelihood ratios in bits a sample, >= 0; 1 is what it costs to know nothing. Lower is better.

    The mean of log2(1 + 1/LR) over fakes and log2(1 + LR) over reals, each side half, LR = P / (1 - P) at even odds;
    balanced negative log-likelihood is ln 2 times this. Brummer & du Preez 2006, eq. 12. With its 95 % stratified
    bootstrap interval. P(fake) is held within [1e-30, 1 - 2^-25]. Raises TooFewSamples, BadRows.
    """
    real, fake = (side.clamp(NEAREST_ZERO, NEAREST_ONE) for side in _probabilities(real_p, fake_p))
    return _mean(-torch.log1p(-real) / math.log(2), -fake.log2(), True, seed)


def min_cllr(real_scores: Tensor, fake_scores: Tensor) -> float:
    """Cllr after the best rising map of the scores, in bits, in [0, 1]: the cost of discrimination alone.

    The map is isotonic regression (pool adjacent violators) on these very samples, so it flatters small sets; no
    interval, because redrawn samples flatter it more. Brummer & du Preez 2006, section 6. Raises TooFewSamples,
    BadRows.
    """
    from sklearn.isotonic import isotonic_regression

    real, fake = scores_of("real", real_scores, 1), scores_of("fake", fake_scores, 1)
    _, group = torch.unique(torch.cat([real, fake]), return_inverse=True)
    count = int(group.max()) + 1
    weight_real = torch.bincount(group[: len(real)], minlength=count).double() / len(real)
    weight_fake = torch.bincount(group[len(real) :], minlength=count).double() / len(fake)
    weight = weight_real + weight_fake
    p = torch.from_numpy(isotonic_regression((weight_fake / weight).numpy(), sample_weight=weight.numpy()))
    # A block of one side alone has P 0 or 1 and costs nothing: xlogy(0, 0) is 0.
    cost = torch.special.xlogy(weight_fake, p) + torch.special.xlogy(weight_real, 1 - p)
    return max(0.0, -float(cost.sum()) / (2 * math.log(2)))


@dataclass(frozen=True)
class Bin:
    """Samples whose P(fake) lies in [low, high): how many, what was said on average, and the share that is fake."""

    low: float
    high: float
    n_real: int
    n_fake: int
    said: float
    share: float
    weight: float


@dataclass(frozen=True)
class Reliability:
    """Expected calibration error in [0, 1], and the bins that are not empty."""

    ece: float
    bins: tuple[Bin, ...]


def expected_calibration_error(real_p: Tensor, fake_p: Tensor, *, bins: int = 15, balanced: bool = True) -> Reliability:
    """Mean over equal-width bins of P(fake) of |mean P - share of fakes|, weighed by the samples in them, in [0, 1].

    Lower is better. Binned on P(fake) itself, not on the confidence in the winning class. No interval: the error of
    binning does not vanish for a calibrated detector, and an interval around it would hide that. Naeini et al. 2015.
    Raises BadSetting for fewer than one bin, TooFewSamples, BadRows.
    """
    if bins < 1:
        raise BadSetting(f"bins is {bins}; it must be 1 or more")
    real, fake = _probabilities(real_p, fake_p)
    p = torch.cat([real, fake])
    truth = torch.cat([torch.zeros(len(real)), torch.ones(len(fake))]).double()
    weight = _weights(len(real), len(fake), balanced)
    # Upper edges as float32 multiples would put 0.2 into another bin than 3 / 15; searchsorted on exact quotients not.
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    place = torch.searchsorted(edges, p, right=True)
    found, total = [], 0.0
    for b in range(bins):
        inside = place == b
        mass = float(weight[inside].sum())
        if not mass:
            continue
        said = float((weight * p)[inside].sum()) / mass
        share = float((weight * truth)[inside].sum()) / mass
        n_fake = int(truth[inside].sum())
        found.append(Bin(b / bins, (b + 1) / bins, int(inside.sum()) - n_fake, n_fake, said, share, mass))
        total += mass * abs(said - share)
    return Reliability(total, tuple(found))


@dataclass(frozen=True)
class RiskCoverage:
    """The area under the risk-coverage curve, and its points (coverage, risk), coverage rising to 1."""

    area: Estimate
    points: tuple[tuple[float, float], ...]


def risk_coverage(real_p: Tensor, fake_p: Tensor, *, balanced: bool = True, seed: int = 0) -> RiskCoverage:
    """AURC: the share of wrong answers among the most confident ones, averaged over how many are answered, in [0, 1].

    An answer is fake where P(fake) > 0.5, its confidence |P - 0.5|; lower is better, the error rate is what a random
    order would give. Equal confidences count in the mean order. Geifman & El-Yaniv 2017, "Selective classification for
    deep neural networks", section 2. With its 95 % stratified bootstrap interval. Raises TooFewSamples, BadRows.
    """
    real, fake = _probabilities(real_p, fake_p)
    sides = [_doubt(real, real > 0.5), _doubt(fake, fake <= 0.5)]
    weight = _weights(len(real), len(fake), balanced)
    doubt, wrong = (torch.cat(parts) for parts in zip(*sides, strict=True))

    def area(keeps: Sequence[Tensor]) -> dict[str, Tensor]:
        index = torch.cat([keeps[0], len(real) + keeps[1]], dim=1)
        return {"": _areas(doubt[index], wrong[index], weight.expand(len(index), -1))}

    found = bootstrap(area, [len(real), len(fake)], seed=seed)[""]
    # Within equal confidence every order is as good: each sample is as wrong as its equals are on average.
    _, group = torch.unique(doubt, return_inverse=True)
    mass = torch.zeros(int(group.max()) + 1).double().index_add(0, group, weight)
    errors = torch.zeros_like(mass).index_add(0, group, weight * wrong) / mass
    value = float(_areas(doubt[None], errors[group][None], weight[None])[0])
    curve = replace(found, value=value, low=min(found.low, value), high=max(found.high, value))
    covered = mass.cumsum(0)
    risks = (mass * errors).cumsum(0) / covered
    return RiskCoverage(curve, tuple(zip(covered.tolist(), risks.tolist(), strict=True)))


def accuracy(real_p: Tensor, fake_p: Tensor, *, threshold: float = 0.5, seed: int = 0) -> Estimate:
    """Share of right answers with each side weighing half, in [0, 1], fake where the score is above the threshold.

    With its 95 % stratified bootstrap interval. Raises TooFewSamples, BadRows.
    """
    real, fake = scores_of("real", real_p, 1), scores_of("fake", fake_p, 1)
    return _mean((real <= threshold).double(), (fake > threshold).double(), True, seed)


def oracle_accuracy(real_scores: Tensor, fake_scores: Tensor) -> tuple[float, float]:
    """The best accuracy any threshold has on these samples, and that threshold: an oracle's, no detector's.

    Each side weighs half; a sample is called fake when its score is above the threshold (the lowest of the best; minus
    infinity calls all fake). No interval: the threshold was chosen on what it is scored on. Raises TooFewSamples,
    BadRows.
    """
    from .curves import operating_curve

    real, fake = scores_of("real", real_scores, 1), scores_of("fake", fake_scores, 1)
    alarms, catches = (counts[0].double() for counts in operating_curve(real, fake))
    right = 0.5 * (1 - alarms / alarms[-1] + catches / catches[-1])
    at = len(right) - 1 - int(right.flip(0).argmax())
    thresholds = torch.cat([_distinct(real, fake).flip(0), torch.tensor([-math.inf]).double()])
    return float(right[at]), float(thresholds[at])


# ---------------------------------------------------------------------------------------------- how they do it


def _probabilities(real_p: Tensor, fake_p: Tensor) -> tuple[Tensor, Tensor]:
    real, fake = scores_of("real", real_p, 1), scores_of("fake", fake_p, 1)
    for side, p in (("real", real), ("fake", fake)):
        if float(p.min()) < 0 or float(p.max()) > 1:
            raise BadRows(f"{side} scores reach from {float(p.min()):.3g} to {float(p.max()):.3g}; expected P(fake)")
    return real, fake


def _distinct(real: Tensor, fake: Tensor) -> Tensor:
    scores: Tensor = torch.unique(torch.cat([real, fake]))
    return scores


def _weights(n_real: int, n_fake: int, balanced: bool) -> Tensor:
    """[N + M], reals first, adding up to 1."""
    if not balanced:
        return torch.full((n_real + n_fake,), 1 / (n_real + n_fake), dtype=torch.float64)
    sides = (torch.full((n,), 0.5 / n, dtype=torch.float64) for n in (n_real, n_fake))
    return torch.cat(list(sides))


def _mean(of_real: Tensor, of_fake: Tensor, balanced: bool, seed: int) -> Estimate:
    """The mean of one term a sample, with its interval."""
    share = 0.5 if balanced else len(of_fake) / (len(of_real) + len(of_fake))

    def statistic(keeps: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"": (1 - share) * of_real[keeps[0]].mean(dim=1) + share * of_fake[keeps[1]].mean(dim=1)}

    return bootstrap(statistic, [len(of_real), len(of_fake)], seed=seed)[""]


def _doubt(p: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
    return 0.5 - (p - 0.5).abs(), wrong.double()


def _areas(doubt: Tensor, wrong: Tensor, weight: Tensor) -> Tensor:
    """[B] mean risk over coverage of answers [B, N], the most confident first."""
    order = doubt.argsort(dim=1, stable=True)
    mass = weight.gather(1, order)
    risk = (mass * wrong.gather(1, order)).cumsum(dim=1) / mass.cumsum(dim=1)
    return (mass * risk).sum(dim=1)
