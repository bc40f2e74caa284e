"""Whether a classifier is sure of every generated image and finds all classes among them: Inception Score, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import BadSetting, TooFewSamples, UnknownName
from ..resample import around, jackknife, moves_of_mean
from ..types import Estimate, Features, metric
from ._guards import at_least_one, rows_of


class Dialect(NamedTuple):
    """How a library cuts the samples: into how many parts and where, shuffled by what, and its standard deviation.

    cut: "even" [i N // s, (i + 1) N // s), "ceil" parts of N / s rounded up, "blocks" of 5000. ddof: None where no
    standard deviation is reported.
    """

    splits: int
    cut: str
    shuffle: str
    seed: int
    ddof: int | None


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "": Dialect(1, "even", "torch", 0, 0),
        "torch_fidelity": Dialect(10, "even", "numpy", 2020, 0),
        "torchmetrics": Dialect(10, "ceil", "torch", 0, 1),
        "adm": Dialect(1, "blocks", "", 0, None),
    }
)
ADM_BLOCK = 5000


@metric(
    on={"image": "inception", "text": None},
    better="higher",
    unit="effective classes",
    reads="logits",
    min_n=3,
)
def inception_score(
    fake: Features,
    *,
    splits: int | None = None,
    dialect: str = "",
    ddof: int | None = None,
    seed: int | None = None,
) -> Estimate | dict[str, Estimate]:
    """Exponential of the mean divergence of a sample's class probabilities from their average, in [1, classes].

    All samples together, or with splits or a dialect the mean over parts of them as other libraries have it, and
    `split_std`, how far the parts differ, which is not an error of the mean. Salimans et al. 2016, section 4.
    Interval: leave-one-out jackknife in closed form.
    """
    found = split_estimates(fake.rows, dialect=dialect, splits=splits, ddof=ddof, seed=seed)
    return found if len(found) > 1 else found[""]


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
    return split_estimates(logits, splits=splits, seed=seed)[""]


def split_estimates(
    logits: Tensor,
    *,
    dialect: str = "",
    splits: int | None = None,
    ddof: int | None = None,
    seed: int | None = None,
) -> dict[str, Estimate]:
    """The score "" as the mean over parts of the samples, cut and shuffled exactly as the dialect does.

    `split_std`, where there are several parts and the dialect reports it: their standard deviation with `ddof` taken
    off below the line, no interval. All of it in float64. What is None is the dialect's own; torchmetrics shuffles by
    the global seed, here by 0. logits [N, C]. Raises TooFewSamples, BadRows, BadSetting, UnknownName.
    """
    if dialect not in DIALECTS:
        raise UnknownName("inception_score dialect", dialect, DIALECTS)
    own = DIALECTS[dialect]
    if own.cut == "blocks" and splits is not None:
        raise BadSetting(f"dialect {dialect!r} cuts blocks of {ADM_BLOCK} and takes no splits; leave them out")
    splits = at_least_one("splits", own.splits if splits is None else splits)
    p = rows_of("fake", logits, least=3 * splits).softmax(dim=1)
    n, bounds = len(p), _bounds(len(p), splits, own.cut)
    if min(b - a for a, b in pairwise(bounds)) < 3:
        raise TooFewSamples(f"the last part of {n} samples holds {n - bounds[-2]}; every part needs at least 3")
    order = _order(n, len(bounds) - 1, own.shuffle, own.seed if seed is None else seed).to(p.device)
    scores, without = zip(*(_one_split(p[order[a:b]]) for a, b in pairwise(bounds)), strict=True)
    each = torch.tensor(scores, dtype=torch.float64)
    value = float(each.mean())
    # Deleting a sample moves only the score of its own part, by 1 / parts of it in the mean.
    deleted = [value + (left - part) / len(each) for part, left in zip(scores, without, strict=True)]
    found = jackknife(value, deleted, low=1.0, high=float(p.shape[1]), sides=[str(i) for i in range(len(deleted))])
    moves = torch.empty_like(p[:, 0])
    moves[order] = torch.cat(list((found.moves or {}).values()))
    influence = torch.empty_like(p[:, 0])
    influence[order] = (n - 1) * (value - torch.cat(deleted))
    parts = {"": replace(found, per_sample=influence - influence.mean(), moves={"fake": moves})}
    ddof = own.ddof if ddof is None else ddof
    if ddof is not None and len(each) > 1:
        std = float(each.std(correction=ddof))
        parts["split_std"] = Estimate(std, std, std, "no interval")
    return parts


def _bounds(n: int, splits: int, cut: str) -> list[int]:
    """Where the parts begin and end, 0 first and n last."""
    if cut == "even":
        return [i * n // splits for i in range(splits + 1)]
    size = ADM_BLOCK if cut == "blocks" else -(-n // splits)
    return [*range(0, n, size), n]


def _order(n: int, parts: int, shuffle: str, seed: int) -> Tensor:
    """The order of the samples before they are cut; as they come where one part holds them all."""
    if parts == 1 or not shuffle:
        return torch.arange(n)
    if shuffle == "numpy":
        return torch.from_numpy(np.random.RandomState(seed).permutation(n))
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


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
    confidence = around(float(top.mean()), error, "standard error", df=n - 1, low=1 / C, high=1.0)
    return {
        "confidence": replace(confidence, moves={"fake": moves_of_mean(top)}),
        "balance": jackknife(balance, [without], low=1 / C, high=1.0, sides=("fake",)),
    }


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum(dim=-1, keepdim=True).clamp_min(1)


def _entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats along the last dimension; 0 log 0 = 0."""
    surprise: Tensor = torch.special.entr(p)
    return surprise.sum(dim=-1)
