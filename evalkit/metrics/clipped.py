"""Fidelity and coverage as shares of good samples that no outlier can move: clipped density and clipped coverage.

Density and coverage with the influence of every single sample cut off, and read on a scale where 0.7 means what 70 %
good samples and 30 % far off ones would score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import gammaln
from torch import Tensor

from ..types import Estimate, Features, metric
from ._balls import Balls, Meetings, meetings
from ._distances import Cloud
from ._halves import DRAWS, Halves, listed_for, radii_in_halves, split_mean, split_share
from ._nearest import Near, own_radii
from .neighbours import two_clouds


@metric(on={"image": "inception", "text": "char_ngrams"}, better="higher", unit="share", min_n=7)
def clipped(real: Features, fake: Features, *, k: int = 5) -> dict[str, Estimate]:
    """Clipped density and clipped coverage in [0, 1]: the share of good samples that would score the same.

    1 for equal distributions, falling in proportion to the bad samples. Salvy et al. 2026, "Enhanced generative model
    evaluation with clipped density and coverage". Interval: differences between random halves of both sides.
    """
    return clipped_estimates(real.rows, fake.rows, k=k)


def clipped_density_coverage(real_rows: Tensor, fake_rows: Tensor, *, k: int = 5) -> dict[str, float]:
    """`density` and `coverage` in [0, 1], clipped and calibrated; real_rows [N, D], fake_rows [M, D], N, M >= k + 2.

    density: the mean number of real balls around a generated sample, over k and at most 1, no ball larger than the
    median one, relative to the same for the real samples among themselves. coverage: the mean number of generated
    samples in a real ball, over k and at most 1, taken back through `expected_coverage`. Raises TooFewSamples, BadRows,
    BadSetting. Salvy et al. 2026.
    """
    return {part: estimate.value for part, estimate in clipped_estimates(real_rows, fake_rows, k=k).items()}


def clipped_estimates(real_rows: Tensor, fake_rows: Tensor, *, k: int = 5) -> dict[str, Estimate]:
    """`clipped_density_coverage` with a 95 % interval for each.

    per_sample of density: what each generated sample adds, 1 being what real samples add on average.
    """
    real, fake = two_clouds(real_rows, fake_rows, k)
    halves = Halves(real, fake)
    radii, near = own_radii(real, k, listed_for(k))
    within = radii_in_halves(near, halves.real, k)
    balls = Balls(real, radii, reach=within.amax(dim=1))
    # The median of distances, which for an even number is not the root of the median of squares.
    small = Balls(real, radii.clamp_max(float(radii.sqrt().quantile(0.5)) ** 2))
    ends, small_ends = (balls.roughly(w) for w in (within, torch.minimum(within, halves.medians(within))))
    covered, covered_apart, around, around_apart = (
        torch.zeros(len(side), draws, dtype=torch.int32, device=side.rows.device)
        for side in (real, fake)
        for draws in (1, DRAWS)
    )
    for pairs, _ in meetings(real, fake, balls):
        is_near = small.inside(real, pairs.real, fake, pairs.fake, pairs.squares, pairs.real)
        covered.index_add_(0, pairs.real, pairs.inside[:, None].int())
        around.index_add_(0, pairs.fake, is_near[:, None].int())
        for some in pairs.chunks():
            covered_apart.index_add_(0, some.real, halves.kept(some, ends[some.real]).int())
            around_apart.index_add_(0, some.fake, halves.kept(some, small_ends[some.real]).int())
    best, best_apart = _best_density(real, near, small, small_ends, halves, k)
    return {
        "density": _density(_share(around, k)[:, 0] / best, _share(around_apart, k) / best_apart, halves),
        "coverage": _coverage(_share(covered, k)[:, 0], _share(covered_apart, k), halves, len(fake), k),
    }


def expected_coverage(n: int, m: int, k: int = 5) -> npt.NDArray[np.float64]:
    """The coverage before calibration that 0, 1, ..., m good samples would have on average, [m + 1], rising from 0.

    A real ball of n samples has a mass of distribution Beta(k, n - k) and holds a beta-binomial number S of i good
    samples; the mean of min(S, k) / k is 1 less the chances of holding too few. Salvy et al. 2026.
    """
    good = np.arange(m + 1, dtype=np.float64)
    lacking = np.zeros(m + 1)
    for s in range(k):
        some = good[s:]
        log_chance = (
            gammaln(some + 1) - gammaln(some - s + 1) - gammaln(s + 1)
            + gammaln(k + s) + gammaln(n - k + some - s) - gammaln(n + some)
            + gammaln(n) - gammaln(k) - gammaln(n - k)
        )  # fmt: skip
        lacking[s:] += (k - s) / k * np.exp(log_chance)
    return 1 - lacking


def _share(counts: Tensor, k: int) -> Tensor:
    """The clip: what one sample adds is at most 1, however many balls it lies in."""
    return (counts.double() / k).clamp_max(1)


def _density(whole: Tensor, apart: Tensor, halves: Halves) -> Estimate:
    raw = split_mean(whole, apart, halves.fake, "fake")
    value, low, high = (min(1.0, number) for number in (raw.value, raw.low, raw.high))
    return Estimate(value, low, high, raw.method, per_sample=whole.cpu(), moves=raw.moves)


def _coverage(whole: Tensor, apart: Tensor, halves: Halves, m: int, k: int) -> Estimate:
    raw = split_share(whole, apart, halves.real, "real")
    curve = expected_coverage(len(whole), m, k)
    shares = np.linspace(0, 1, m + 1)
    value, low, high = (float(np.interp(number, curve, shares)) for number in (raw.value, raw.low, raw.high))
    return Estimate(value, low, high, raw.method, moves=raw.moves)


def _best_density(
    real: Cloud, near: Near, small: Balls, small_ends: Tensor, halves: Halves, k: int
) -> tuple[Tensor, Tensor]:
    """What real samples score among themselves, none counting its own ball: among all, and [M, DRAWS] in each half."""
    owner = torch.arange(len(real), device=real.rows.device).repeat_interleave(near.places.shape[1])
    pairs = Meetings(owner, near.places.flatten(), near.squares.flatten().double(), owner)
    held, held_apart = (torch.zeros(len(real), d, dtype=torch.int32, device=owner.device) for d in (1, DRAWS))
    for some in pairs.chunks():
        inside = small.inside(real, some.real, real, some.fake, some.squares, some.real)
        held.index_add_(0, some.fake, inside[:, None].int())
        kept = (some.squares.float()[:, None] <= small_ends[some.real]) & (
            halves.real[some.real] == halves.real[some.fake]
        )
        held_apart.index_add_(0, some.fake, kept.int())
    share = _share(held_apart, k)
    one, two = (
        (torch.where(h, share, 0).sum(dim=0) / h.sum(dim=0)).clamp_min(1 / k) for h in (halves.real, ~halves.real)
    )
    return _share(held, k).mean(), torch.where(halves.fake, one, two)
