"""Whether a generator hands out its training data: are its samples nearer to them than fresh real samples are?"""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import Estimate, Features, metric
from ._guards import rows_of, two_sides
from .detection import area_under_roc

BLOCK = 1024  # rows of a distance block held at once
CANDIDATES = 4


@metric(on={"image": "random_conv", "text": "char_ngrams"}, better="lower", unit="probability", min_n=2)
def memorization(real: Features, fake: Features, train: Features) -> Estimate:
    """Chance that a generated sample lies nearer to the training data than a held-out real one does; 1 means copies.

    0.5: as far as fresh real data. Below 0.5: further away than real data, which is no sign of copying. In the spirit
    of Meehan et al. 2020, C_T. Interval: DeLong et al. 1988.
    """
    return memorization_estimate(real.rows, fake.rows, train.rows)


def memorization_estimate(real_rows: Tensor, fake_rows: Tensor, train_rows: Tensor) -> Estimate:
    """P(d(fake) < d(real)) + half P(equal) in [0, 1], d the distance to the nearest training row, with its interval.

    real_rows [N, D] that were not trained on, fake_rows [M, D], train_rows [K, D]; N, M >= 2, K >= 1. The training
    rows are taken as given, the other two as draws. Raises TooFewSamples, BadRows. Meehan et al. 2020, section 3.
    """
    real, fake = two_sides(real_rows, fake_rows)
    return area_under_roc(-nearest(real, train_rows)[0], -nearest(fake, train_rows)[0])


def nearest(rows: Tensor, train_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distance [N] (float64, >= 0) of each row to its nearest training row, and that row's index [N].

    rows [N, D], train_rows [K, D], K >= 1. Exact: an exact copy lies at exactly 0. Memory O(block * K). Raises
    TooFewSamples, BadRows.
    """
    own, train = rows_of("query", rows, 1), rows_of("train", train_rows, 1)
    centre = train.mean(dim=0)
    found = [_nearest_in_block(block, train, centre) for block in torch.split(own, BLOCK)]
    return torch.cat([distance for distance, _ in found]), torch.cat([index for _, index in found])


def _nearest_in_block(block: Tensor, train: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    shifted = train - centre
    squares = torch.addmm(shifted.square().sum(dim=1).expand(len(block), -1), block - centre, shifted.T, alpha=-2)
    # The matrix product cancels; the few it finds nearest are measured again by their differences.
    candidates = squares.topk(min(CANDIDATES, len(train)), dim=1, largest=False).indices
    distances = (block[:, None] - train[candidates]).square().sum(dim=2).sqrt()
    best, which = distances.min(dim=1)
    return best, candidates.gather(1, which[:, None])[:, 0]
