"""How far the generated images lie from the real ones as CLIP sees them: the CLIP maximum mean discrepancy (CMMD)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ..errors import BadSetting
from ..types import Estimate, Features, metric
from .mmd import BLOCK, Kernel, Panel, biased_estimate, pair_sums, panels

# The factor the paper and its code multiply by "to make the metric more human readable".
SCALE = 1000.0

# Real rows whose distances the median bandwidth is taken of.
MEDIAN_ROWS = 1000


@metric(
    on={"image": "clip:ViT-L-14-336:openai", "text": None},
    better="lower",
    unit="1000 x squared MMD",
    min_n=3,
    caution="with sigma 10 it is about 10 times the squared distance of the mean directions and blind to their spread:"
    " a generator that collapses around the right mean scores well; read its part `median` beside it",
)
def cmmd(
    real: Features, fake: Features, *, sigma: float = 10.0, bandwidth: Literal["fixed", "median"] = "fixed"
) -> dict[str, Estimate]:
    """CLIP maximum mean discrepancy of unit rows, times 1000, >= 0; sigma 10 is blind to the spread, `median` sees it.

    Part "" has the Gaussian kernel of width sigma (the paper's 10), or the median one when bandwidth is `median`;
    part `median` has the median distance of the real rows as width. Jayasumana et al. 2024, section 4.
    Interval: leave-one-out jackknife in closed form.
    """
    return cmmd_estimates(real.rows, fake.rows, sigma=sigma, bandwidth=bandwidth)


def cmmd_distance(real_rows: Tensor, fake_rows: Tensor, *, sigma: float = 10.0) -> float:
    """1000 times the squared maximum mean discrepancy, as a V-statistic, of the rows' directions; in [0, 2000].

    real_rows [N, D], fake_rows [M, D], any float dtype, any length but 0; N, M >= 3. Gaussian kernel
    exp(-|x - y|^2 / 2 sigma^2) of rows divided by their length. Biased upward at small n, as the authors' code is.
    Raises TooFewSamples, BadRows, BadSetting. Jayasumana et al. 2024, section 4; Gretton et al. 2012, eq. 5.
    """
    real, fake = panels(real_rows, fake_rows, unit=True, least=3)
    (sums,) = pair_sums(real, fake, gaussian(sigma), block=BLOCK)
    return SCALE * biased_estimate(sums).value


def cmmd_estimates(
    real_rows: Tensor, fake_rows: Tensor, *, sigma: float = 10.0, bandwidth: Literal["fixed", "median"] = "fixed"
) -> dict[str, Estimate]:
    """`cmmd_distance` under the width asked for (part "") and under the median one (`median`), with 95 % intervals.

    The inner products are made once for both. Raises as `cmmd_distance` does.
    """
    if bandwidth not in ("fixed", "median"):
        raise BadSetting(f"bandwidth is {bandwidth!r}; it must be 'fixed' or 'median'")
    real, fake = panels(real_rows, fake_rows, unit=True, least=3)
    median = median_distance(real)
    first, second = pair_sums(real, fake, gaussian(median if bandwidth == "median" else sigma), gaussian(median))
    return {"": _scaled(biased_estimate(first)), "median": _scaled(biased_estimate(second))}


def gaussian(sigma: float) -> Kernel:
    """exp(-|x - y|^2 / 2 sigma^2) - 1 of unit rows as a function of x.y; the - 1 changes no discrepancy.

    At sigma 10 the kernel lies between 0.98 and 1: less 1, it keeps the digits that rounding next to 1 would take.
    """
    if not 0 < sigma < math.inf:
        raise BadSetting(f"sigma is {sigma}; it must be above 0")
    return lambda products: (products - 1).div_(sigma**2).clamp_max_(0).expm1_()


def median_distance(real: Panel) -> float:
    """Median distance of the real rows among themselves, of at most 1000 rows drawn with a fixed seed.

    Of the real side only, so that every generator is measured with one kernel. Pairs of equal rows are left out; 1,
    the radius of the sphere, where no two rows differ. After Gretton et al. 2012, section 8.
    """
    drawn = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:MEDIAN_ROWS]
    rows = real.rows[drawn].double()
    distances = torch.pdist(rows / rows.norm(dim=1, keepdim=True))
    distances = distances[distances > 1e-6]
    return float(distances.median()) if len(distances) else 1.0


def _scaled(found: Estimate) -> Estimate:
    per_sample = None if found.per_sample is None else SCALE * found.per_sample
    value, low, high = (SCALE * x for x in (found.value, found.low, found.high))
    moves = {side: SCALE * moved for side, moved in (found.moves or {}).items()}
    return Estimate(value, low, high, found.method, found.level, per_sample, moves)
