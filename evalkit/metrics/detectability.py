"""How well the best of several detectors tells generated samples from real ones, without the luck of picking it.

The largest of several AUROCs is too large: of five detectors that all guess, one looks best by chance. So the detector
is chosen on one half of the samples and measured on the other, both ways round, over several cuts; the number is what a
user gets who picks a detector by its results and then uses it on fresh samples.
"""

from __future__ import annotations

import math
from collections import Counter

import torch
from scipy import stats
from torch import Tensor

from ..resample import LEVEL
from ..types import Estimate, Features, metric
from ._guards import two_sides
from .detection import area_moves, area_under_roc, areas_with_errors, wilson

CUTS = 20
FEWEST = 20


@metric(on={"image": "panel"}, better="lower", unit="area", reads="panel", min_n=20)
def detectability(real: Features, fake: Features, *, seed: int = 0) -> Estimate:
    """AUROC of the best detector of a panel, chosen on other samples than it is measured on, in [0, 1].

    Lower is better for a generator; 0.5 is hidden from all of them. Both sides are brought to one size, codec and
    quality first. Interval: DeLong et al. 1988 on the logit scale, of the two halves.
    """
    return selected_area(real.rows, fake.rows, seed=seed)


def selected_area(real_rows: Tensor, fake_rows: Tensor, *, seed: int = 0) -> Estimate:
    """AUROC of the column that is best on the other half, averaged over both halves and 20 cuts, with its interval.

    Rows [N, K] and [M, K] of K scores a sample, fake positive, N and M at least 20. The error is that of two
    independent halves (DeLong et al. 1988), averaged over the cuts: they share samples, so more cuts do not narrow it.
    The upper end reaches the AUROC of the column that is best on all samples: half of them may not find the best one.
    Raises TooFewSamples, BadRows.
    """
    real, fake = (side.cpu() for side in two_sides(real_rows, fake_rows, FEWEST))
    if real.shape[1] == 1:
        return area_under_roc(real[:, 0], fake[:, 0])
    generator = torch.Generator().manual_seed(seed)
    values, variances, chosen = [], [], []
    for _ in range(CUTS):
        a, b = _halves(len(real), generator), _halves(len(fake), generator)
        found = [areas_with_errors(real[a[i]], fake[b[i]]) for i in (0, 1)]
        picked = [int(found[1 - i][0].argmax()) for i in (0, 1)]
        chosen += picked
        values.append(sum(float(found[i][0][picked[i]]) for i in (0, 1)) / 2)
        variances.append(sum(float(found[i][1][picked[i]]) ** 2 for i in (0, 1)) / 4)
    value, error = sum(values) / CUTS, math.sqrt(sum(variances) / CUTS)
    if not 0 < value < 1 or error == 0:
        low, high = wilson(value, min(len(real), len(fake)))
    else:
        z = float(stats.norm.ppf(0.5 + LEVEL / 2))
        centre, reach = math.log(value / (1 - value)), z * error / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, x)))) for x in (centre - reach, centre + reach))
    best = float(areas_with_errors(real, fake)[0].max())
    return Estimate(
        value, min(low, value), max(high, value, best), "delong of halves", LEVEL, moves=_moves(real, fake, chosen)
    )


def _moves(real: Tensor, fake: Tensor, chosen: list[int]) -> dict[str, Tensor]:
    """How far each sample moves the AUROC of each column that was chosen, by how often it was."""
    of_real, of_fake = torch.zeros(len(real), dtype=torch.float64), torch.zeros(len(fake), dtype=torch.float64)
    for column, times in Counter(chosen).items():
        a, b = area_moves(real[:, column].contiguous(), fake[:, column].contiguous())
        of_real += times / len(chosen) * a
        of_fake += times / len(chosen) * b
    return {"real": of_real, "fake": of_fake}


def _halves(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    order = torch.randperm(n, generator=generator)
    return order[: n // 2], order[n // 2 :]
