"""How evenly a generator's images change with its code: the perceptual path length."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import BadRows, BadSetting, TooFewSamples
from ..resample import around
from ..types import Estimate, Features, metric

# Values of float64 held at once: 128 MB. A row of LPIPS has tens of thousands of columns.
AT_ONCE = 16_000_000


@metric(on={"image": "lpips", "text": None}, better="lower", unit="LPIPS per squared step", min_n=2)
def ppl(
    paths: Features,
    *,
    epsilon: float = 1e-4,
    discard: float = 0.01,
    pairs: int = 2000,
    along: str = "full",
    between: str = "slerp",
) -> Estimate:
    """Perceptual path length: mean LPIPS distance of two images a small step of the code apart, per squared step.

    At least 0. Karras et al. 2019, section 4.1, in z. epsilon: the step, as a share of the way between two codes.
    discard: the share of the shortest and of the longest steps left out. pairs, along (full, ends), between (slerp,
    lerp): how the steps are drawn; `along=ends between=lerp` is what torch-fidelity and torchmetrics do by default.
    """
    if len(paths.rows) != 2 * pairs:
        raise BadRows(f"paths have {len(paths.rows)} rows; {pairs} pairs make {2 * pairs}")
    return path_length(step_distances(paths.rows), epsilon, discard)


def step_distances(rows: Tensor) -> Tensor:
    """Squared Euclidean distances of rows 2 i and 2 i + 1, float64 [n]; rows [2 n, D]. Raises BadRows."""
    if rows.ndim != 2 or len(rows) % 2:
        raise BadRows(f"paths have shape {tuple(rows.shape)}; expected [2 n, D], the ends of a step side by side")
    pairs = rows.reshape(len(rows) // 2, 2, -1)
    some = max(1, AT_ONCE // max(1, 2 * rows.shape[1]))
    found = [(part[:, 1].double() - part[:, 0].double()).square().sum(dim=1) for part in torch.split(pairs, some)]
    distances = torch.cat(found)
    if not bool(distances.isfinite().all()):
        raise BadRows("a row of the paths holds NaN or infinity; check the instrument and the generator")
    return distances


def path_length(distances: Tensor, epsilon: float = 1e-4, discard: float = 0.01) -> Estimate:
    """Mean of distances / epsilon^2 without the lowest and highest share `discard`, >= 0, with its 95 % interval.

    distances [n], n >= 2, one a step of length epsilon. Limits: the order statistics next outward of the two quantiles,
    themselves kept, as in torch-fidelity (torchmetrics takes the one next below for the upper limit and so leaves out
    one more). Interval: standard error of a trimmed mean (Tukey & McLaughlin 1963). Raises BadSetting, TooFewSamples.
    """
    if epsilon <= 0:
        raise BadSetting(f"epsilon is {epsilon}; it must be above 0")
    if not 0 <= discard < 0.5:
        raise BadSetting(f"discard is {discard}; it must be at least 0 and below 0.5")
    n = len(distances)
    if n < 2:
        raise TooFewSamples(f"{n} steps; a path length needs at least 2")
    ordered = distances.double().sort().values / epsilon**2
    cut = math.floor(discard * (n - 1))
    low, high = ordered[cut], ordered[n - 1 - cut]
    value = float(ordered[(ordered >= low) & (ordered <= high)].mean())
    # What was cut counts as the limit it lies beyond: the trimmed mean moves with the limits too.
    spread = float(ordered.clamp(low, high).std())
    error = spread / ((1 - 2 * cut / n) * math.sqrt(n))
    method = "standard error of the trimmed mean" if cut else "standard error"
    return around(value, error, method, df=n - 2 * cut - 1, low=0.0)
