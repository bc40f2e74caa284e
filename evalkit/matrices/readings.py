"""What is read off the scores of detectors that judge the same samples: one drawing again serves every number.

Cells of a matrix depend on each other: the same reals stand in all of them, and the same fakes in all of a column. So
reals and each set of fakes are drawn again once, and every reading of every cell is made of the same draws: the mean
over cells and the difference of two detectors' means then get honest intervals (a paired, stratified bootstrap; Efron &
Tibshirani 1993, section 8.3). The interval is over samples: the generators are those that were given, and another
choice of generators would move a mean further than it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..calibration import least_reals
from ..hardware import derive_seed
from ..metrics.curves import Curve, curve_of_ranks, descending_ranks
from ..metrics.detection import area_under_roc, average_precision_of, equal_error_rate_of, wilson
from ..resample import DRAWS, LEVEL
from ..types import Estimate

# Reading -> the heading it has in tables.
READINGS: Mapping[str, str] = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "accuracy": "accuracy at 0.5",
    "oracle_accuracy": "accuracy, oracle threshold",
    "eer": "EER",
    "tpr_at_0.05": "TPR at 5 % FPR",
    "tpr_at_0.01": "TPR at 1 % FPR",
}
RATES = (0.05, 0.01)
# The threshold is chosen on the very samples it is scored on: an interval around that would pretend it was not.
WITHOUT_INTERVAL = ("oracle_accuracy",)

# Counts held at once, over the draws of one cell: 64 MB.
BLOCK = 4_000_000


def drawings(sizes: Mapping[str, int], seed: int, draws: int = DRAWS) -> dict[str, Tensor]:
    """Positions int32 [1 + draws, n] of every set: first each sample once, then n drawn with replacement.

    A set's draws depend on the seed, its name and its size alone, not on which other sets there are.
    """
    found = {}
    for name, n in sizes.items():
        generator = torch.Generator().manual_seed(derive_seed(seed, "drawings", name))
        again = torch.randint(n, (draws, n), generator=generator, dtype=torch.int32)
        found[name] = torch.cat([torch.arange(n, dtype=torch.int32)[None], again])
    return found


@dataclass(frozen=True, eq=False)
class Reading:
    """The numbers of one detector on one set of reals and one of fakes.

    again: by reading, its value [1 + draws], undisturbed first. missing: readings that cannot be measured, and why.
    is_constant: whether all samples got one score.
    """

    auroc: Estimate
    again: Mapping[str, Tensor]
    missing: Mapping[str, str]
    is_constant: bool
    n_real: int
    n_fake: int

    def estimate(self, name: str) -> Estimate | None:
        """A reading with its 95 % interval (AUROC: DeLong; others: bootstrap); None when it is missing."""
        if name == "auroc":
            return self.auroc
        return None if name in self.missing else estimated(name, self.again[name])


def read(real: Tensor, fake: Tensor, real_draws: Tensor, fake_draws: Tensor) -> Reading:
    """Every reading of P(fake) [N] and [M], for each of the drawn positions [1 + B, N] and [1 + B, M].

    Accuracies weigh both sides one half. TPR at an FPR is missing where no false alarm among all reals would not even
    show, at 95 %, that the FPR is kept: below 59 reals for 5 %, 299 for 1 %. Raises TooFewSamples, BadRows.
    """
    auroc = area_under_roc(real, fake)
    real, fake = real.double(), fake.double()
    missing = {f"tpr_at_{rate}": f"n < {least_reals(rate)}" for rate in RATES if len(real) < least_reals(rate)}
    ranks, count = descending_ranks(real, fake)
    called = int((torch.unique(torch.cat([real, fake])) > 0.5).sum())
    again: dict[str, list[Tensor]] = {}
    step = max(1, BLOCK // (len(real) + len(fake)))
    for start in range(0, len(real_draws), step):
        kept_real, kept_fake = (d[start : start + step].long() for d in (real_draws, fake_draws))
        curve = curve_of_ranks(ranks[: len(real)][kept_real], ranks[len(real) :][kept_fake], count)
        for name, values in _values(curve, called, missing).items():
            again.setdefault(name, []).append(values)
    drawn = {name: torch.cat(parts) for name, parts in again.items()}
    return Reading(auroc, drawn, missing, count == 1, len(real), len(fake))


def _values(curve: Curve, called: int, missing: Mapping[str, str]) -> dict[str, Tensor]:
    """Readings [B] of curves [B, T + 1]; the first `called` thresholds are those above 0.5."""
    alarms, catches = curve.false_alarms.double(), curve.catches.double()
    fpr, tpr = alarms / alarms[:, -1:], catches / catches[:, -1:]
    right = (1 - fpr + tpr) / 2
    found = {
        "auroc": (fpr.diff(dim=1) * (tpr[:, 1:] + tpr[:, :-1]) / 2).sum(dim=1),
        "average_precision": average_precision_of(curve),
        "accuracy": right[:, called],
        "oracle_accuracy": right.amax(dim=1),
        "eer": equal_error_rate_of(curve),
    }
    for rate in RATES:
        if f"tpr_at_{rate}" not in missing:
            # 0.05 * 20 must be 1 whatever binary makes of 0.05.
            allowed = torch.floor(rate * alarms[:, -1:] + 1e-9)
            found[f"tpr_at_{rate}"] = torch.where(alarms <= allowed, tpr, 0).amax(dim=1)
    return found


def estimated(name: str, values: Tensor, n: int = 0) -> Estimate:
    """The first of values [1 + B] with the percentile interval of the others; value, low and high in the same unit.

    n: the size of the smallest side; where it is given, a share of exactly 0 or 1 that no draw moved gets Wilson's
    interval of n trials. The oracle's accuracy has no interval: its ends are its value, its method is "none".
    """
    value = float(values[0])
    if name in WITHOUT_INTERVAL or len(values) == 1:
        return Estimate(value, value, value, "none", LEVEL)
    tails = torch.tensor([0.5 - LEVEL / 2, 0.5 + LEVEL / 2], dtype=torch.float64)
    low, high = torch.quantile(values[1:].double(), tails).tolist()
    # A mean of exact ones can be off by its rounding.
    share = round(value, 9)
    if n and share in (0, 1) and high - low < 1e-9:
        low, high = wilson(share, n)
        return Estimate(value, min(low, value), max(high, value), "wilson", LEVEL)
    return Estimate(value, min(low, value), max(high, value), "bootstrap", LEVEL)


def mean_again(readings: Sequence[Reading], name: str) -> Tensor | None:
    """A reading averaged over cells, [1 + draws]; None when there are no cells or one of them misses it."""
    if not readings or any(name in reading.missing for reading in readings):
        return None
    return torch.stack([reading.again[name] for reading in readings]).mean(dim=0)


def shown(estimate: Estimate | None, why: str = "–", sign: str = "") -> str:
    """An estimate in words: 0.912 [0.890, 0.931]; without ends where it has no interval; `why` where it is missing."""
    if estimate is None:
        return why
    if estimate.method == "none":
        return f"{estimate.value:{sign}.3f}"
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate as plain JSON; low and high are left out where there is no interval."""
    if estimate.method == "none":
        return {"value": estimate.value, "interval": "none"}
    ends = {"low": estimate.low, "high": estimate.high, "level": estimate.level}
    return {"value": estimate.value, **ends, "interval": estimate.method}
