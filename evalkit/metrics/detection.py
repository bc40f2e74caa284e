"""How well a detector tells generated samples from real ones: AUROC, average precision, equal error rate, TPR at FPR.

Read as a property of the generator: the harder its samples are to detect, the better, so lower is better except for
the error rate. Scores are P(fake); the generated samples are the positives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy import stats
from torch import Tensor

from ..errors import BadSetting, TooFewSamples
from ..resample import LEVEL, bootstrap, moves_of_mean
from ..types import Estimate, Features, metric
from ._guards import scores_of
from .curves import Curve, curve_of_ranks, descending_ranks


@metric(on={"image": "spectrum", "text": "ngram_lr"}, better="lower", unit="area", reads="p_fake", min_n=2)
def auroc(real: Features, fake: Features) -> Estimate:
    """Probability that the detector finds a generated sample more fake than a real one; 0.5 cannot tell, 1 always can.

    Lower is better for a generator. Interval: DeLong et al. 1988 on the logit scale.
    """
    return area_under_roc(real.rows, fake.rows)


@metric(on={"image": "spectrum", "text": "ngram_lr"}, better="lower", unit="area", reads="p_fake", min_n=2)
def average_precision(real: Features, fake: Features, *, seed: int = 0) -> Estimate:
    """Average precision of finding the generated samples among all, in (0, 1]; chance is their share of the samples.

    Lower is better for a generator. Interval: stratified percentile bootstrap.
    """
    return average_precision_estimate(real.rows, fake.rows, seed=seed)


@metric(on={"image": "spectrum", "text": "ngram_lr"}, better="higher", unit="rate", reads="p_fake", min_n=2)
def eer(real: Features, fake: Features, *, seed: int = 0) -> Estimate:
    """Equal error rate of the detector, where it misses as often as it raises false alarms; 0.5 is chance.

    Higher is better for a generator. The crossing is interpolated along the ROC curve. Interval: stratified bootstrap.
    """
    return equal_error_rate(real.rows, fake.rows, seed=seed)


@metric(on={"image": "spectrum", "text": "ngram_lr"}, better="lower", unit="rate", reads="p_fake", min_n=20)
def tpr_at_fpr(real: Features, fake: Features, *, fpr: float = 0.05, seed: int = 0) -> Estimate:
    """Share of the generated samples caught at a threshold that flags at most `fpr` of the real ones, in [0, 1].

    Lower is better for a generator. The threshold is an order statistic of the real scores. Interval: stratified
    bootstrap, which redraws the threshold too.
    """
    return true_positive_rate(real.rows, fake.rows, fpr=fpr, seed=seed)


def area_under_roc(real_scores: Tensor, fake_scores: Tensor, *, inflation: float = 1.0) -> Estimate:
    """P(fake score > real score) + half P(equal), in [0, 1], with its 95 % interval; scores [N] and [M], N, M >= 2.

    DeLong et al. 1988, on the logit scale so that it stays in [0, 1] (Pepe 2003, section 5.2). Where the scores
    separate completely that variance is 0 and Wilson's interval for as many successes as the smaller side is given.
    inflation: factor on the variance, above 1 for scores that are not independent draws.
    Raises TooFewSamples, BadRows.
    """
    real, fake = scores_of("real", real_scores), scores_of("fake", fake_scores)
    of_fake, of_real = _placements(fake, real), 1 - _placements(real, fake)
    value = float(of_fake.mean())
    error = math.sqrt(inflation * float(of_fake.var() / len(fake) + of_real.var() / len(real)))
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    if not 0 < value < 1:
        low, high = wilson(value, min(len(real), len(fake)) / inflation)
    else:
        centre, reach = math.log(value / (1 - value)), z * error / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, x)))) for x in (centre - reach, centre + reach))
    moves = {side: math.sqrt(inflation) * moves_of_mean(x) for side, x in (("real", of_real), ("fake", of_fake))}
    return Estimate(value, min(low, value), max(high, value), "delong", LEVEL, moves=moves)


def area_moves(real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
    """How far each real [N] and each fake sample [M] moves the AUROC of one column of scores; DeLong's components."""
    return moves_of_mean(1 - _placements(real_scores, fake_scores)), moves_of_mean(
        _placements(fake_scores, real_scores)
    )


def areas_with_errors(real_scores: Tensor, fake_scores: Tensor) -> tuple[Tensor, Tensor]:
    """AUROC of each column and its standard error (DeLong et al. 1988), float64 [K] each; scores [N, K] and [M, K]."""
    areas, errors = [], []
    for real, fake in zip(real_scores.T.contiguous(), fake_scores.T.contiguous(), strict=True):
        of_fake, of_real = _placements(fake, real), 1 - _placements(real, fake)
        areas.append(of_fake.mean())
        errors.append((of_fake.var() / len(fake) + of_real.var() / len(real)).sqrt())
    return torch.stack(areas), torch.stack(errors)


def _placements(scores: Tensor, others: Tensor) -> Tensor:
    """For each score the share of `others` below it, equal ones counted half."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, scores, right=False)
    not_above = torch.searchsorted(ordered, scores, right=True)
    return (below + not_above).double() / (2 * len(others))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n trials, n effective ones where they are not independent. Wilson 1927."""
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def average_precision_estimate(real_scores: Tensor, fake_scores: Tensor, *, seed: int = 0) -> Estimate:
    """Sum over thresholds of precision times the recall gained there, fake positive, in (0, 1]; scores [N] and [M].

    No interpolation, equal scores are one threshold. With its 95 % stratified bootstrap interval. Raises
    TooFewSamples, BadRows.
    """
    return _resampled(average_precision_of, real_scores, fake_scores, seed)


def equal_error_rate(real_scores: Tensor, fake_scores: Tensor, *, seed: int = 0) -> Estimate:
    """The rate at which false alarms and misses are equal, in [0, 1], interpolated along the ROC curve.

    Scores [N] and [M]. With its 95 % stratified bootstrap interval. Raises TooFewSamples, BadRows.
    """
    return _resampled(equal_error_rate_of, real_scores, fake_scores, seed)


def true_positive_rate(real_scores: Tensor, fake_scores: Tensor, *, fpr: float = 0.05, seed: int = 0) -> Estimate:
    """Share of fake scores above the (floor(fpr N) + 1)-th largest real score, in [0, 1]; ties are counted.

    So the false alarms never exceed `fpr` N. Scores [N] and [M]. With its 95 % stratified bootstrap interval. Raises
    BadSetting when fpr is not in (0, 1), TooFewSamples when N < 1 / fpr (no threshold short of silence keeps the
    promise), BadRows.
    """
    if not 0 < fpr < 1:
        raise BadSetting(f"fpr is {fpr}; it must lie between 0 and 1")
    allowed = math.floor(fpr * len(real_scores) + 1e-9)  # 0.05 * 20 must be 1 whatever binary makes of 0.05
    if allowed < 1:
        raise TooFewSamples(f"{len(real_scores)} real samples; an FPR of {fpr} needs at least {math.ceil(1 / fpr)}")

    def rate(curve: Curve) -> Tensor:
        permitted = torch.where(curve.false_alarms <= allowed, curve.catches, 0)
        return permitted.amax(dim=1).double() / curve.catches[:, -1]

    return _resampled(rate, real_scores, fake_scores, seed)


def _resampled(read: Callable[[Curve], Tensor], real_scores: Tensor, fake_scores: Tensor, seed: int) -> Estimate:
    real, fake = scores_of("real", real_scores), scores_of("fake", fake_scores)
    ranks, count = descending_ranks(real, fake)
    real_ranks, fake_ranks = ranks[: len(real)], ranks[len(real) :]

    def statistic(keeps: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"": read(curve_of_ranks(real_ranks[keeps[0]], fake_ranks[keeps[1]], count))}

    return bootstrap(statistic, [len(real), len(fake)], seed=seed)[""]


def average_precision_of(curve: Curve) -> Tensor:
    """Average precision of each of B curves, float64 [B], without interpolation."""
    catches = curve.catches.double()
    called = (curve.false_alarms + curve.catches)[:, 1:].clamp_min(1)
    return (catches.diff(dim=1) * catches[:, 1:] / called).sum(dim=1) / catches[:, -1]


def equal_error_rate_of(curve: Curve) -> Tensor:
    """Equal error rate of each of B curves, float64 [B], interpolated at the crossing."""
    fpr = curve.false_alarms.double() / curve.false_alarms[:, -1:]
    excess = (
        fpr + curve.catches.double() / curve.catches[:, -1:] - 1
    )  # false alarms less misses: from -1 to 1, never falling
    after = (excess >= 0).int().argmax(dim=1, keepdim=True)
    before = after - 1
    below, above = excess.gather(1, before), excess.gather(1, after)
    weight = below / (below - above)
    return torch.lerp(fpr.gather(1, before), fpr.gather(1, after), weight)[:, 0]
