"""What recorded scores say of a detector: areas with intervals, and what it catches at few false positives.

Thresholds are exact order statistics of the human scores, never searched for: with c the (floor(a n) + 1)-th largest
human score a text is called machine when its score is above c, so that at most floor(a n) of the n humans are. Equal
scores stay on one side together. RAID's rule "score >= t" is the same with t the smallest number above c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..calibration import Proportion, proportion
from ..errors import BadSetting, TooFewSamples
from ..stressing.bed import threshold_at
from ..types import Estimate
from .recorded import Array, Recorded, rank_area

FPRS = (0.05, 0.01)
# The bootstrap of average precision and equal error rate redraws all rows a thousand times: of more scores than this,
# in all runs together, they come without an interval.
MOST_RESAMPLED = 10_000


@dataclass(frozen=True)
class Threshold:
    """The score above which at most a share `fpr` of n humans lies, or why there is none; `realised`: those above."""

    fpr: float
    n: int
    score: float | None
    realised: Proportion | None
    why: str = ""


@dataclass(frozen=True)
class Replayed:
    """One run's numbers. At each of `thresholds` the share of machine texts above it is in `caught`.

    claimed: the recorded AUROC less the one found here, where the file records one. apart: texts under attack that are
    in none of these numbers.
    """

    run: Recorded
    auroc: Estimate
    average_precision: Estimate
    eer: Estimate
    thresholds: tuple[Threshold, ...]
    caught: tuple[Proportion | None, ...]
    constant: float | None
    claimed: float | None
    apart: int = 0


def exact_threshold(human: Array, fpr: float) -> Threshold:
    """The threshold of one FPR from human scores [n], refused in words when n < 1 / fpr.

    Raises BadSetting for an FPR outside (0, 1).
    """
    if not 0 < fpr < 1:
        raise BadSetting(f"fpr is {fpr}; it must lie between 0 and 1")
    try:
        score = threshold_at(human.tolist(), fpr)
    except TooFewSamples:
        least = math.ceil(1 / fpr - 1e-9)
        return Threshold(fpr, len(human), None, None, f"{len(human):,} humans; an FPR of {fpr:g} needs {least:,}")
    return Threshold(fpr, len(human), score, proportion(int((human > score).sum()), len(human)))


def share_above(scores: Array, threshold: Threshold) -> Proportion | None:
    """The share of scores [n] above a threshold that is held fixed; None without a threshold or without scores."""
    if threshold.score is None or not len(scores):
        return None
    return proportion(int((scores > threshold.score).sum()), len(scores))


def area(human: Array, machine: Array) -> Estimate:
    """AUROC with DeLong's interval; its value is the exact count of pairs, so that a recorded one is met to the bit."""
    import torch

    from ..metrics.detection import area_under_roc

    found = area_under_roc(torch.from_numpy(human), torch.from_numpy(machine))
    value = rank_area(human, machine)
    return replace(found, value=value, low=min(found.low, value), high=max(found.high, value))


def replayed(run: Recorded, *, resample: bool = True) -> Replayed:
    """All numbers of a run whose scores are higher for machine texts; at least two of each side.

    resample: whether average precision and equal error rate get their bootstrap interval.
    """
    human, machine = run.human, run.machine
    thresholds = tuple(exact_threshold(human, fpr) for fpr in FPRS)
    auroc = area(human, machine)
    precision, error = _areas(human, machine, resample)
    claim = run.claims.get("roc_auc")
    return Replayed(
        run,
        auroc,
        precision,
        error,
        thresholds,
        tuple(share_above(machine, threshold) for threshold in thresholds),
        float(run.scores[0]) if bool((run.scores == run.scores[0]).all()) else None,
        None if claim is None else claim - (1 - auroc.value if run.flipped else auroc.value),
    )


def _areas(human: Array, machine: Array, resample: bool) -> tuple[Estimate, Estimate]:
    import torch

    from ..metrics.curves import operating_curve
    from ..metrics.detection import (
        average_precision_estimate,
        average_precision_of,
        equal_error_rate,
        equal_error_rate_of,
    )

    sides = torch.from_numpy(human), torch.from_numpy(machine)
    if resample:
        return average_precision_estimate(*sides), equal_error_rate(*sides)
    curve = operating_curve(*sides)
    precision, error = float(average_precision_of(curve)[0]), float(equal_error_rate_of(curve)[0])
    return Estimate(precision, precision, precision, "none"), Estimate(error, error, error, "none")


def plain(value: Estimate | Proportion | None) -> dict[str, Any] | None:
    """A number as plain JSON, with its interval where it has one."""
    if value is None:
        return None
    if isinstance(value, Proportion):
        ends = {"low": value.low, "high": value.high, "level": value.level, "interval": "clopper-pearson"}
        return {"value": value.value, "count": value.count, "n": value.n, **ends}
    if value.method == "none":
        return {"value": value.value}
    return {"value": value.value, "low": value.low, "high": value.high, "level": value.level, "interval": value.method}


def said(value: Estimate | Proportion | None, why: str = "–") -> str:
    """A number in words, 0.912 [0.890, 0.931], or why there is none."""
    if value is None:
        return why
    if isinstance(value, Estimate) and value.method == "none":
        return f"{value.value:.4f}"
    return f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]"
