"""Judge by several detectors at once: their log-odds weighed by what each is worth on samples that it did not see.

Stacking (Wolpert 1992): the members are fitted on two thirds of the samples and asked about the last one, three times
over, so that every sample has log-odds from members that did not learn from it. Copies of a sample are never on both
sides. A logistic regression on these log-odds gives the weights, none of them below zero (Breiman 1996, section 3: a
member that is wrong more often than right is left out, never turned round), drawn a little towards equal shares;
Platt's map follows, and at last the members are fitted again on everything.

Where the fakes come from three or more origins, a whole origin is left out at a time and all members count the same.
What is learnt from three or four origins about a fifth is mostly chance: on generators that nobody had seen, learnt
weights took the mean AUROC from 0.77 to 0.71 on digits and from 0.85 to 0.82 on photographs of 32 pixels.

Beside the one probability a row holds that of every member: where they lie far apart, the detectors disagree, and the
mean of them is no one's opinion. `ensemble:spectrum+cnn` chooses the members.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import TooFewSamples, UnreadableSample
from evalkit.types import SampleSet

from ._calibrate import platt
from ._fit import FEWEST, FEWEST_ORIGINS, TrainingSet, balanced_weights, grouped_folds, rows_of
from .panel import MEMBERS, Member, Panel, packed, rows_of_members, together

FOLDS = 3
# Members learn from at least ten a side, also in two thirds of the samples.
FEWEST_STACKED = -(-FEWEST * FOLDS // (FOLDS - 1))
# Log-odds of a probability are cut off here: float32 knows no probability between 1 - 6e-8 and 1.
SURE = 14.0
RIDGE = 0.01


class Ensemble(Panel):
    """Detectors stacked by cross-fitted, non-negative logistic weights; a row is [P(fake), P(fake) of every member]."""

    version: ClassVar[int] = 2
    name: str = "ensemble"  # type: ignore[misc]  # A choice of members has a name of its own.
    modality: ClassVar[Literal["image"]] = "image"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"members": MEMBERS, "folds": FOLDS, "sure": SURE, "ridge": RIDGE}
    )

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"p_fake": slice(0, 1), "members": slice(1, 1 + len(self.members))})

    @property
    def weights(self) -> Mapping[str, float]:
        """What a member's log-odds count for, >= 0, by name."""
        return MappingProxyType(dict(zip(self.members, self._fitted()["weights"].tolist(), strict=True)))

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """float32 [B, 1 + members]: P(fake), then that of every member."""
        t = self._fitted()
        rows = rows_of_members(self._judges, batch)
        p_fake = torch.sigmoid(log_odds_of(rows) @ t["weights"].double() + t["offset"].double())
        return torch.cat([p_fake[:, None].float(), rows], dim=1)

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least fifteen samples a side; the seed is that of the folds and of every member.

        Raises TooFewSamples, also when copies leave fewer than three different samples a side, or when too few samples
        can be read by all members.
        """
        data = self._collected(real, fake)
        _check_count(data, np.ones(len(data.is_fake), dtype=bool), self.name)
        unseen = self._unseen(data, seed, device)
        known = np.asarray(np.isfinite(unseen).all(axis=1), dtype=np.bool_)
        _check_count(data, known, self.name)
        stack = averaged if len(data.origins) >= FEWEST_ORIGINS else stacked
        weights, offset = stack(unseen[known], data.is_fake[known])
        judges = self._trained(data, range(len(data.is_fake)), seed, device, "whole")
        learnt = {"weights": torch.tensor(weights).float(), "offset": torch.tensor([offset]).float()}
        self.to(device)
        self._learn(*together(judges, learnt, {"seed": seed}), data.words)

    def _unseen(self, data: TrainingSet, seed: int, device: str) -> npt.NDArray[np.float64]:
        """Log-odds [N, members] from members that did not learn from the sample; NaN where one cannot read it."""
        fold = grouped_folds(data, FOLDS, seed)
        found = np.full((len(fold), len(self.members)), np.nan)
        for k in range(FOLDS):
            judges = self._trained(data, np.flatnonzero(fold != k).tolist(), seed, device, f"part{k}")
            where, prepared = _readable(judges, data, np.flatnonzero(fold == k))
            if where:
                rows = rows_of(lambda batch, judges=judges: rows_of_members(judges, batch), prepared, device)  # type: ignore[misc]
                found[where] = log_odds_of(rows).numpy()
        return found

    def _ready(self) -> None:
        if self._tensors["weights"].shape != (len(self.members),) or self._tensors["offset"].shape != (1,):
            raise ValueError("the weights are not those of these members")
        super()._ready()


def log_odds_of(p_fake: Tensor) -> Tensor:
    """ln(p / (1 - p)), float64, cut off at -14 and 14."""
    return torch.logit(p_fake.double()).clamp(-SURE, SURE)


def averaged(
    log_odds: npt.NDArray[np.float64], is_fake: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], float]:
    """Equal weights [members] and an offset, Platt's map of the mean log-odds of [N, members]."""
    calibration = platt(log_odds.mean(axis=1), is_fake)
    return np.full(log_odds.shape[1], calibration.slope / log_odds.shape[1]), calibration.offset


def stacked(log_odds: npt.NDArray[np.float64], is_fake: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], float]:
    """Weights [members], none below zero, and offset whose P(fake) of log-odds [N, members] is calibrated.

    Logistic regression of highest likelihood at even odds under a ridge around equal shares 1 / members, then Platt's
    map. Members of no worth at all keep equal shares, and Platt's map takes them close to one half.
    """
    from scipy.optimize import minimize

    n, members = log_odds.shape
    share, sample = 1 / members, balanced_weights(is_fake) / n
    sign = np.where(is_fake == 1, 1.0, -1.0)

    def loss(beta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        margin = sign * (log_odds @ beta[:-1] + beta[-1])
        slope = -sample * sign / (1 + np.exp(np.clip(margin, -700, 700)))
        away = beta[:-1] - share
        value = float(sample @ np.logaddexp(0, -margin) + RIDGE * away @ away)
        return value, np.append(log_odds.T @ slope + 2 * RIDGE * away, slope.sum())

    bounds = [(0, None)] * members + [(None, None)]
    start = np.append(np.full(members, share), 0.0)
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x[:-1]
    if weights.max() < 1e-6:
        # Weights of zero would tie all samples.
        weights = np.full(members, share)
    calibration = platt(log_odds @ weights, is_fake)
    return weights * calibration.slope, calibration.offset


def _readable(judges: list[Member], data: TrainingSet, which: npt.NDArray[np.int64]) -> tuple[list[int], list[Tensor]]:
    """Those of the samples `which` that every member can read, and what the members prepared of them."""
    where, prepared = [], []
    for i in which.tolist():
        try:
            prepared.append(packed([judge.prepare(data.prepared[i].numpy()) for judge in judges]))
        except UnreadableSample:
            continue
        where.append(i)
    return where, prepared


def _check_count(data: TrainingSet, kept: npt.NDArray[np.bool_], name: str) -> None:
    for label, role in enumerate(("real", "fake")):
        count = int((data.is_fake[kept] == label).sum())
        if count < FEWEST_STACKED:
            raise TooFewSamples(
                f"detector {name!r} learns from at least {FEWEST_STACKED} {role} samples that all its members can read;"
                f" there are {count}"
            )
