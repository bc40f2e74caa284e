"""Whether generated samples look like real ones and cover all of them: precision, recall, density and coverage.

A sample set is taken as the union of balls around its samples that reach to the k-th nearest neighbour. One pass over
the distances answers for the whole sets and, for the interval, for the sets without each of 20 random groups: the rows
are put in the order of their groups, so that leaving one out is leaving out a run of columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import TooFewSamples
from ..resample import jackknife, partition
from ..types import Estimate, Features, metric
from ._guards import at_least_one, two_sides

BLOCK = 1024  # rows of a distance block held at once
PARTS = ("precision", "recall", "density", "coverage")

# Two roundings of one distance must compare as equal: a radius is a distance too.
SLACK = 1 + 1e-9
# Below this share of the squared lengths a squared distance is cancellation: an exact copy must lie at 0.
ZERO = 1e-13


@metric(on={"image": "random_conv", "text": "char_ngrams"}, better="higher", unit="share", min_n=7)
def prdc(real: Features, fake: Features, *, k: int = 5) -> dict[str, Estimate]:
    """Precision, recall and coverage in [0, 1] and density >= 0 of the generated features against the real ones.

    Kynkaanniemi et al. 2019, eq. 2; Naeem et al. 2020, eq. 4 and 6. Interval: jackknife over 20 random groups a side.
    """
    return neighbour_estimates(real.rows, fake.rows, k=k)


def precision_recall_density_coverage(real_rows: Tensor, fake_rows: Tensor, *, k: int = 5) -> dict[str, float]:
    """The four shares by name: precision, recall, coverage in [0, 1], density >= 0 (about 1 for equal distributions).

    real_rows [N, D], fake_rows [M, D], any float dtype; N, M >= k + 2. Precision and recall count a sample in a ball
    with `<=` (Kynkaanniemi et al. 2019, eq. 2). So do density and coverage, where the code of Naeem et al. 2020 has
    `<`: it makes no difference to continuous features, and keeps a set of repeated samples from scoring 0 against
    itself. Raises TooFewSamples, BadRows, and BadSetting when k < 1.
    """
    return {part: estimate.value for part, estimate in neighbour_estimates(real_rows, fake_rows, k=k).items()}


def neighbour_estimates(real_rows: Tensor, fake_rows: Tensor, *, k: int = 5) -> dict[str, Estimate]:
    """`precision_recall_density_coverage` with a 95 % interval for each, all from one pass; memory O(block * N)."""
    least = at_least_one("k", k) + 2
    for side, rows in (("real", real_rows), ("fake", fake_rows)):
        if len(rows) < least:
            raise TooFewSamples(f"{len(rows)} {side} samples; prdc with k={k} needs at least {least}")
    real, fake = two_sides(real_rows, fake_rows, least)
    centre = real.mean(dim=0)
    real_side, fake_side = _side(real - centre, k, seed=0), _side(fake - centre, k, seed=1)
    of_real, of_fake = _seen(real_side, fake_side, k), _seen(fake_side, real_side, k)
    # The roles: balls of the real side hold fake samples (precision), balls of the fake side hold real ones (recall).
    found = {
        "precision": _estimate(of_fake.inside, of_fake.inside_without, fake_side, real_side),
        "recall": _estimate(of_real.inside, of_real.inside_without, real_side, fake_side),
        "density": _estimate(of_fake.balls, of_fake.balls_without, fake_side, real_side, high=math.inf),
        "coverage": _coverage(real_side, of_real, fake_side),
    }
    return {part: found[part] for part in PARTS}


class _Side(NamedTuple):
    """Rows in the order of their groups, and the radius of each row's ball: whole, and without each group [G, N].

    A row has no ball where its own group is deleted: radius -1.
    """

    rows: Tensor
    starts: list[int]
    radii: Tensor
    radii_without: Tensor

    @property
    def sizes(self) -> list[int]:
        return [b - a for a, b in zip(self.starts, [*self.starts[1:], len(self.rows)], strict=True)]

    def groups(self) -> Iterator[slice]:
        for start, size in zip(self.starts, self.sizes, strict=True):
            yield slice(start, start + size)


def _side(rows: Tensor, k: int, seed: int) -> _Side:
    parts = partition(len(rows), seed=seed)
    sizes = torch.tensor([len(part) for part in parts], device=rows.device)
    rows = rows[torch.cat(parts).to(rows.device)]
    group = torch.arange(len(parts), device=rows.device).repeat_interleave(sizes)
    # The k-th neighbour left after a deletion is looked up among this many. Groups are random and hold a twentieth
    # each: that more than these less k fall into one group does not happen (chance below 1e-40).
    listed = min(len(rows), 8 * k + 64)
    whole, without = [], []
    for start in range(0, len(rows), BLOCK):
        distances = _distances(rows[start : start + BLOCK], rows)
        own = torch.arange(len(distances), device=rows.device)
        distances[own, own + start] = -1.0  # itself comes first whatever its copies do, so the k-th other is at k
        near, where = distances.topk(listed, dim=1, largest=False)
        whole.append(near[:, k])
        stays = group[where][None] != torch.arange(len(parts), device=rows.device)[:, None, None]
        # Where its own group is deleted the row is not counted either; its radius is blanked below.
        reached = (stays[:, :, 1:].cumsum(dim=2) >= k).int().argmax(dim=2)
        without.append(near[own[None], reached + 1])
    radii_without = torch.cat(without, dim=1) * SLACK
    radii_without[group, torch.arange(len(rows), device=rows.device)] = -1.0
    return _Side(rows, [0, *sizes.cumsum(0).tolist()[:-1]], torch.cat(whole) * SLACK, radii_without)


class _Seen(NamedTuple):
    """What each row [N] of one side sees of the other side, whole and without each of its groups [G, N].

    inside: whether some ball of the other side holds it; balls: how many do; nearest: distance to the nearest row.
    """

    inside: Tensor
    inside_without: Tensor
    balls: Tensor
    balls_without: Tensor
    nearest: Tensor
    nearest_without: Tensor


def _seen(side: _Side, other: _Side, k: int) -> _Seen:
    balls, nearest = [], []
    for block in torch.split(side.rows, BLOCK):
        distances = _distances(block, other.rows)
        counts = [(distances <= radii).sum(dim=1) for radii in (other.radii, *other.radii_without)]
        by_group = torch.stack([distances[:, columns].amin(dim=1) for columns in other.groups()])
        closest, second = by_group.topk(2, dim=0, largest=False).values
        # Without the group that holds the nearest row, the nearest is the best of the others.
        left = torch.where(by_group == closest, second, closest)
        balls.append(torch.stack(counts).double())
        nearest.append(torch.cat([closest[None], left]))
    per_row, reach = torch.cat(balls, dim=1), torch.cat(nearest, dim=1)
    held = (per_row > 0).double()
    return _Seen(held[0], held[1:], per_row[0] / k, per_row[1:] / k, reach[0], reach[1:])


def _estimate(seen: Tensor, seen_without: Tensor, side: _Side, other: _Side, high: float = 1.0) -> Estimate:
    """Mean over `side` of what its rows see, with the interval from deleting groups of either side."""
    own = _mean_without(seen.expand(len(side.starts), -1), side)
    return _interval(float(seen.mean()), own, seen_without.mean(dim=1), side, other, high)


def _coverage(real: _Side, seen: _Seen, fake: _Side) -> Estimate:
    """Share of real rows whose ball holds a fake row: here the balls are the ones of the side the mean is over."""
    covered = (seen.nearest <= real.radii).double()
    own = _mean_without((seen.nearest <= real.radii_without).double(), real)
    others = (seen.nearest_without <= real.radii).double().mean(dim=1)
    return _interval(float(covered.mean()), own, others, real, fake)


def _mean_without(seen: Tensor, side: _Side) -> Tensor:
    """Row g of `seen` [G, N] averaged over the rows that are not in group g."""
    sums = [row.sum() - row[columns].sum() for row, columns in zip(seen, side.groups(), strict=True)]
    left = torch.tensor([len(side.rows) - size for size in side.sizes], dtype=torch.float64, device=seen.device)
    return torch.stack(sums) / left


def _interval(value: float, own: Tensor, others: Tensor, side: _Side, other: _Side, high: float = 1.0) -> Estimate:
    shares = [torch.tensor(s.sizes, dtype=torch.float64) / len(s.rows) for s in (side, other)]
    return jackknife(value, [own.cpu(), others.cpu()], shares, low=0.0, high=high)


def _distances(block: Tensor, rows: Tensor) -> Tensor:
    """Euclidean distances [B, N] by one matrix product, copies at exactly 0."""
    lengths = block.square().sum(dim=1)[:, None] + rows.square().sum(dim=1)
    squares = torch.addmm(lengths, block, rows.T, alpha=-2)
    return torch.where(squares <= ZERO * lengths, 0.0, squares).sqrt_()
