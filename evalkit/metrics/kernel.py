"""How far the generated features lie from the real ones with no Gaussian assumed: the kernel distance (KID)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..resample import jackknife
from ..types import Estimate, Features, metric
from ._guards import two_sides

BLOCK = 1024  # rows of a kernel block held at once


@metric(on={"image": "random_conv", "text": "char_ngrams"}, better="lower", unit="squared MMD", min_n=3)
def kid(real: Features, fake: Features) -> Estimate:
    """Kernel distance of the real and the generated features; unbiased, so it may fall below 0; not multiplied by 1000.

    Binkowski et al. 2018, section 4. Interval: leave-one-out jackknife in closed form.
    """
    return kernel_estimate(real.rows, fake.rows)


def kernel_distance(real_rows: Tensor, fake_rows: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, unbounded below 0, without x1000.

    real_rows [N, D], fake_rows [M, D], any float dtype; N, M >= 3. All pairs, no subsets drawn; memory O(block * N).
    Raises TooFewSamples and BadRows. Gretton et al. 2012, eq. 3; Binkowski et al. 2018, section 4.
    """
    return kernel_estimate(real_rows, fake_rows).value


def kernel_estimate(real_rows: Tensor, fake_rows: Tensor) -> Estimate:
    """`kernel_distance` with its 95 % interval: deleting one row takes its row sums out of the three pair sums."""
    real, fake = two_sides(real_rows, fake_rows, least=3)
    n, m = len(real), len(fake)
    xx, yy = _sums(real, real, own=True), _sums(fake, fake, own=True)
    xy, yx = _sums(real, fake), _sums(fake, real)
    real_pairs, fake_pairs, cross = xx.sum(), yy.sum(), xy.sum()
    real_mean, fake_mean = real_pairs / (n * (n - 1)), fake_pairs / (m * (m - 1))
    value = float(real_mean + fake_mean - 2 * cross / (n * m))
    without_real = (real_pairs - 2 * xx) / ((n - 1) * (n - 2)) + fake_mean - 2 * (cross - xy) / ((n - 1) * m)
    without_fake = (fake_pairs - 2 * yy) / ((m - 1) * (m - 2)) + real_mean - 2 * (cross - yx) / ((m - 1) * n)
    return jackknife(value, [without_real, without_fake])


def _sums(rows: Tensor, others: Tensor, own: bool = False) -> Tensor:
    """For each row its kernel values with all the others added up; `own` leaves out the pair of a row with itself."""
    width = max(1, rows.shape[1])
    sums = torch.cat([(block @ others.T / width + 1).pow(3).sum(dim=1) for block in torch.split(rows, BLOCK)])
    return sums - (rows.square().sum(dim=1) / width + 1).pow(3) if own else sums
