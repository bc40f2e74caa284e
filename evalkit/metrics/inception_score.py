"""Whether a classifier is sure of every generated image and finds all classes among them: Inception Score, classes."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import TooFewSamples
from ..resample import around, jackknife
from ..types import Estimate, Features, metric
from ._guards import at_least_one, rows_of


@metric(on={"image": "digits_net", "text": None}, better="higher", unit="effective classes", reads="logits", min_n=3)
def inception_score(fake: Features, *, splits: int = 1, seed: int = 0) -> Estimate:
    """Exponential of the mean divergence of a sample's class probabilities from their average, in [1, classes].

    Salimans et al. 2016, section 4. Interval: leave-one-out jackknife in closed form.
    """
    return inception_estimate(fake.rows, splits=splits, seed=seed)


@metric(on={"image": "digits_net", "text": None}, better="higher", unit="share", reads="logits", min_n=2)
def classes(fake: Features) -> dict[str, Estimate]:
    """Classifier confidence, the mean top class probability, and balance of the predicted classes, both in (0, 1].

    Interval: standard error of the mean, and leave-one-out jackknife in closed form.
    """
    return class_estimates(fake.rows)


def inception_estimate(logits: Tensor, *, splits: int = 1, seed: int = 0) -> Estimate:
    """exp(mean KL(p(y|x) || p(y))) in [1, C] with its 95 % interval; logits [N, C], any float dtype.

    splits > 1: the mean over that many equal parts of the samples shuffled by `seed`, as in the original code; every
    part must hold 3 samples. Raises TooFewSamples, BadRows, BadSetting. Salimans et al. 2016, section 4.
    """
    rows = rows_of("fake", logits, least=3 * at_least_one("splits", splits))
    p = rows.softmax(dim=1)
    if splits > 1:
        p = p[torch.randperm(len(p), generator=torch.Generator().manual_seed(seed)).to(p.device)]
    bounds = [i * len(p) // splits for i in range(splits + 1)]
    parts = [_one_split(p[a:b]) for a, b in pairwise(bounds)]
    value = sum(value for value, _ in parts) / splits
    # Deleting a sample moves only the score of its own split, by 1 / splits of it in the mean.
    deleted = [value + (without - own) / splits for own, without in parts]
    return jackknife(value, deleted, low=1.0, high=float(p.shape[1]))


def _one_split(p: Tensor) -> tuple[float, Tensor]:
    """The score of class probabilities [N, C], and [N] scores with each sample left out."""
    n, each = len(p), _entropy(p)
    total, ambiguity = p.sum(dim=0), each.sum()
    # Rounding must not carry it past its range.
    value = (_entropy(total / n) - ambiguity / n).exp().clamp(1.0, p.shape[1])
    without = (_entropy((total - p).clamp_min(0) / (n - 1)) - (ambiguity - each) / (n - 1)).exp()
    return float(value), without


def class_estimates(logits: Tensor) -> dict[str, Estimate]:
    """`confidence`, the mean top class probability, and `balance`, exp(entropy of the predicted classes) / C.

    logits [N, C], any float dtype, N >= 2. Both in (0, 1]: balance is 1 when all classes are predicted equally often,
    1 / C when one is. Raises TooFewSamples, BadRows.
    """
    rows = rows_of("fake", logits)
    n, C = rows.shape
    if C < 1:
        raise TooFewSamples("logits of no class; this metric needs at least one column")
    top, predicted = rows.softmax(dim=1).max(dim=1)
    error = float(top.std()) / math.sqrt(n)
    counts = torch.bincount(predicted, minlength=C).double()
    # Leaving out any sample of one class gives the same histogram, so C values stand for n.
    without = (_entropy(_shares((counts - torch.eye(C).to(counts)).clamp_min(0))).exp() / C)[predicted]
    balance = float(_entropy(counts / n).exp()) / C
    return {
        "confidence": around(float(top.mean()), error, "standard error", df=n - 1, low=1 / C, high=1.0),
        "balance": jackknife(balance, [without], low=1 / C, high=1.0),
    }


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum(dim=-1, keepdim=True).clamp_min(1)


def _entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats along the last dimension; 0 log 0 = 0."""
    surprise: Tensor = torch.special.entr(p)
    return surprise.sum(dim=-1)
