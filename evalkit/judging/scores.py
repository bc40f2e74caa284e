"""How well a detector did on samples whose truth is known: its numbers with intervals, and the curves behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import registry
from ..calibration import (
    LEVEL,
    PREVALENCES,
    Proportion,
    least_reals,
    predictive_interval,
    predictive_value,
    proportion,
)
from ..errors import TooFewSamples
from ..metrics.calibration import (
    Reliability,
    accuracy,
    brier,
    cllr,
    expected_calibration_error,
    min_cllr,
    oracle_accuracy,
    risk_coverage,
)
from ..metrics.curves import roc_points
from ..types import Estimate, Features

METRICS = ("auroc", "average_precision", "eer")
FPRS = (0.05, 0.01)
FEW = 20
NOTES = {
    "average_precision": "fakes are the positives; chance is their share",
    "eer": "interpolated along the ROC curve, not its nearest point",
    "accuracy": "at P(fake) 0.5; both sides weigh half",
    "ece": "15 equal bins of P(fake); both sides weigh half",
    "brier": "both sides weigh half",
    "cllr": "bits; 1 knows nothing",
    "min_cllr": "bits; after the best rising map of these very scores",
    "aurc": "fake above P(fake) 0.5, the confident first; both sides weigh half",
}
CURVE_POINTS = 200


@dataclass(frozen=True)
class Known:
    """Samples of known truth under one detector: P(fake) of reals [N] and fakes [M], raw and calibrated; verdicts."""

    name: str
    real: Tensor
    fake: Tensor
    real_calibrated: Tensor | None
    fake_calibrated: Tensor | None
    verdicts: Sequence[tuple[str, str]]
    threshold: float
    rows: tuple[Features, Features]
    prevalences: Sequence[float] = PREVALENCES
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n(self) -> dict[str, int]:
        return {"real": len(self.real), "fake": len(self.fake)}

    def add(
        self, name: str, value: Estimate | Proportion | float, note: str = "", n: dict[str, int] | None = None
    ) -> None:
        """One number under `name@detector.part`, given as `name` or `name.part`."""
        stem, _, part = name.partition(".")
        full = f"{stem}@{self.name}" + (f".{part}" if part else "")
        ends: dict[str, Any] = {}
        if isinstance(value, Estimate):
            ends = {"low": value.low, "high": value.high, "level": value.level, "interval": value.method}
        elif isinstance(value, Proportion):
            ends = {"low": value.low, "high": value.high, "level": value.level, "interval": "clopper-pearson"}
        plain = value if isinstance(value, float) else value.value
        said = {"note": note or NOTES[stem]} if note or stem in NOTES else {}
        self.results.append({"name": full, "value": plain, **ends, "n": n or self.n, **said})


def measure_known(known: Known, warnings: list[str]) -> dict[str, Any]:
    """Fill in the numbers of one detector and return its curves; what cannot be said is a warning with its reason."""
    few = min(len(known.real), len(known.fake))
    _operating(known, warnings)
    if few < 2:
        counts = f"{len(known.real)} samples known to be real and {len(known.fake)} known to be fake"
        warnings.append(f"{known.name}: {counts}, so no AUROC, AP, EER or TPR at FPR")
        return {}
    if few < FEW:
        warnings.append(f"{known.name}: only {few} samples of one side are known: take the intervals seriously")
    for name in METRICS:
        value = registry.metrics.get(name).fn(*known.rows)
        assert isinstance(value, Estimate)
        known.add(name, value)
    _rates(known, warnings)
    curves: dict[str, Any] = {"roc": [list(p) for p in roc_points(known.real, known.fake)]}
    known.add("accuracy", accuracy(known.real, known.fake))
    best, at = oracle_accuracy(known.real, known.fake)
    where = f"at P(fake) {at:.3g}" if at > float("-inf") else "by calling all of them fake"
    known.add("accuracy.oracle", best, f"oracle: {where}, chosen on these very samples; both sides weigh half")
    known.add("min_cllr", min_cllr(known.real, known.fake))
    _beliefs(known, "", known.real, known.fake, curves)
    if known.real_calibrated is not None and known.fake_calibrated is not None:
        _beliefs(known, ".calibrated", known.real_calibrated, known.fake_calibrated, curves)
    return curves


def _operating(known: Known, warnings: list[str]) -> None:
    """Rates at the threshold in use, and what the three verdicts are worth."""
    for name, side in (("fpr", known.real), ("tpr", known.fake)):
        if len(side):
            flagged = int((side > known.threshold).sum())
            note = f"scores above {known.threshold:.6g}, before any reason to abstain"
            known.add(f"{name}.threshold", proportion(flagged, len(side)), note)
    if len(known.real) and len(known.fake):
        # Ends of both rates at 97.5 %, so that both hold at once in at least 95 % of cases.
        alarms, caught = (
            proportion(int((side > known.threshold).sum()), len(side), (1 + LEVEL) / 2)
            for side in (known.real, known.fake)
        )
        if not caught.count + alarms.count:
            warnings.append(f"{known.name}: nothing of known truth was flagged, so its PPV is not measurable")
        for prevalence in known.prevalences if caught.count + alarms.count else ():
            value = predictive_value(caught.value, alarms.value, prevalence)
            low, high = predictive_interval(caught, alarms, prevalence)
            note = f"of the flagged, fake, where {prevalence:.3g} of all are; at the FPR and TPR seen here"
            found = Estimate(value, min(low, value), max(high, value), "clopper-pearson, both rates")
            known.add(f"ppv.at_{prevalence:g}", found, note)
    decided = [(truth, verdict) for truth, verdict in known.verdicts if verdict != "uncertain"]
    if known.verdicts:
        known.add("decided", proportion(len(decided), len(known.verdicts)), "synthetic or authentic, not uncertain")
    if decided:
        wrong = sum((truth == "fake") != (verdict == "synthetic") for truth, verdict in decided)
        known.add("wrong", proportion(wrong, len(decided)), "of the decided ones, at this mix of real and fake")


def _rates(known: Known, warnings: list[str]) -> None:
    metric = registry.metrics.get("tpr_at_fpr").fn
    for fpr in FPRS:
        name = "tpr_at_fpr" if fpr == FPRS[0] else f"tpr_at_fpr.fpr{fpr:g}"
        least, n = least_reals(fpr, LEVEL), len(known.real)
        try:
            value = metric(*known.rows, fpr=fpr)
        except TooFewSamples:
            warnings.append(f"{known.name}: TPR at {fpr:.0%} FPR is not measurable on {n} reals ({least} would do)")
            continue
        short = f"; {n} reals cannot bound this FPR, {least} would" if n < least else ""
        known.add(name, value, f"at {fpr:.0%} FPR on these reals; {_worth(value.value, fpr, n, known)}{short}")


def _worth(tpr: float, fpr: float, n: int, known: Known) -> str:
    """The PPV of a threshold that at most a share `fpr` of n reals exceeds: it is the real of rank r from the top."""
    if not tpr:
        return "no fake is above that threshold, so PPV is not measurable"
    # The rate of fresh reals above the r-th largest of n is Beta(r, n - r + 1); its mean, as for calibrated ones.
    rank = math.floor(fpr * n + 1e-9) + 1
    expected = rank / (n + 1)
    worth = ", ".join(f"{predictive_value(tpr, expected, p):.3g} at {p:.3g} prevalence" for p in known.prevalences)
    return f"PPV {worth}, at the expected FPR r / (n + 1) = {rank} / {n + 1:,}"


def _beliefs(known: Known, part: str, real: Tensor, fake: Tensor, curves: dict[str, Any]) -> None:
    reliability = expected_calibration_error(real, fake)
    known.add(f"ece{part}", reliability.ece)
    known.add(f"brier{part}", brier(real, fake))
    known.add(f"cllr{part}", cllr(real, fake))
    risk = risk_coverage(real, fake)
    known.add(f"aurc{part}", risk.area)
    curves[f"reliability{part}"] = _bins(reliability)
    step = max(1, len(risk.points) // CURVE_POINTS)
    thinned = list(risk.points[::step])
    curves[f"risk_coverage{part}"] = [list(p) for p in ([*thinned, risk.points[-1]] if step > 1 else thinned)]


def _bins(reliability: Reliability) -> list[dict[str, Any]]:
    return [
        {"low": b.low, "high": b.high, "n": {"real": b.n_real, "fake": b.n_fake}, "said": b.said, "share": b.share}
        for b in reliability.bins
    ]


def as_scores(values: Sequence[float]) -> Tensor:
    """float64 [N] of a list, which may be empty."""
    return torch.tensor(list(values), dtype=torch.float64)
