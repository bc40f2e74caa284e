"""How real each single generated sample looks, and what share of them looks real: the realism score."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..types import Estimate, Features, metric
from ._balls import SLACK, Balls, meetings
from ._distances import Cloud, direct
from ._halves import DRAWS, Halves, listed_for, radii_in_halves, split_share
from ._nearest import SPARE, neighbours_among, own_radii
from .neighbours import two_clouds

MOST = 1e6  # realism of a copy of a real sample, which would divide by 0
LEAST = 1e-30  # a radius of 0, where it divides


@metric(on={"image": "inception", "text": "char_ngrams"}, better="higher", unit="share", min_n=5)
def realism(real: Features, fake: Features, *, k: int = 3) -> Estimate:
    """Share of the generated samples that look real, with a realism score of 1 or more, in [0, 1].

    The score of each sample is its `per_sample`; a mean of scores would belong to its largest, which have no bound
    near a real sample. Kynkaanniemi et al. 2019, eq. 5. Interval: differences between random halves of both sides.
    """
    return realism_estimate(real.rows, fake.rows, k=k)


def realism_scores(real_rows: Tensor, fake_rows: Tensor, *, k: int = 3) -> Tensor:
    """Realism [M] of each generated row, float64 in [0, 1e6]: the largest ratio of a real radius to the distance.

    1: on the surface of a real ball, more: inside. Only the real balls not larger than the median one take part, since
    those of outliers would hold anything. real_rows [N, D], fake_rows [M, D]; N >= k + 2, M >= 1. Raises TooFewSamples,
    BadRows, BadSetting. Kynkaanniemi et al. 2019, eq. 5.
    """
    real, fake = two_clouds(real_rows, fake_rows, k, least_fake=1)
    radii, _ = own_radii(real, k)
    return _scores(real, fake, radii, radii <= radii.median())


def realism_estimate(real_rows: Tensor, fake_rows: Tensor, *, k: int = 3) -> Estimate:
    """Share of `realism_scores` that are 1 or more, with its 95 % interval and the scores as `per_sample`."""
    real, fake = two_clouds(real_rows, fake_rows, k, least_fake=2)
    halves = Halves(real, fake)
    radii, near = own_radii(real, k, listed_for(k))
    within = radii_in_halves(near, halves.real, k)
    balls = Balls(real, radii, reach=within.amax(dim=1))
    inner = torch.where(within <= halves.medians(within), balls.roughly(within), -1.0)
    held = torch.zeros(len(fake), DRAWS, dtype=torch.int32, device=fake.rows.device)
    for of_real, _ in meetings(real, fake, balls):
        for some in of_real.chunks():
            held.index_add_(0, some.fake, halves.kept(some, inner[some.real]).int())
    scores = _scores(real, fake, radii, radii <= radii.median())
    estimate = split_share((scores >= 1).double(), (held > 0).double(), halves.fake, "fake")
    return replace(estimate, per_sample=scores.cpu())


def _scores(real: Cloud, fake: Cloud, radii: Tensor, takes_part: Tensor) -> Tensor:
    units = torch.where(takes_part, radii.clamp_min(LEAST), torch.nan)
    # The best few by products are measured again; which of them is best is decided in float64.
    near = neighbours_among(fake, real, 1 + SPARE, units=units.float())
    listed = near.places.shape[1]
    query = torch.arange(len(fake), device=fake.rows.device).repeat_interleave(listed)
    base = near.places.flatten().clamp_min(0)
    squared = direct(fake, query, real, base)
    ratio = (radii[base] / squared.clamp_min(LEAST)).sqrt().clamp_max(MOST)
    inside = squared <= radii[base] * (1 + SLACK)
    ratio = torch.where(inside, ratio.clamp_min(1.0), ratio)
    ratio = torch.where(squared == 0, MOST, ratio)
    return ratio.where(takes_part[base], 0.0).view(len(fake), listed).amax(dim=1)
