"""Error bars of metrics that look at neighbours: both sides are split into halves, many times, and scored apart.

A neighbour metric of one half is independent of the same metric of the other half, so that their difference shows what
another draw of the samples would do. Deleting samples one by one or in groups, as the jackknife does, counts what
neighbours do to each other several times over (Efron & Stein 1981), and came out up to twice too wide; drawing with
replacement gives a sample itself as its nearest neighbour.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scipy import stats
from torch import Tensor

from ..resample import LEVEL, around, moves_of_mean
from ..types import Estimate
from ._balls import Meetings
from ._distances import BLOCK, Cloud
from ._nearest import Near
from .detection import wilson

DRAWS = 20
METHOD = "split halves"


class Halves:
    """Which half each real [N, DRAWS] and each fake row [M, DRAWS] falls into, at random, in each draw."""

    def __init__(self, real: Cloud, fake: Cloud) -> None:
        self.real, self.fake = _deal(real, seed=0), _deal(fake, seed=1)

    def medians(self, within: Tensor) -> Tensor:
        """The square of the median distance in each real row's own half, from squares [N, DRAWS]; the same shape."""
        found = torch.empty_like(within)
        for draw in range(DRAWS):
            for half in (self.real[:, draw], ~self.real[:, draw]):
                found[half, draw] = within[half, draw].sqrt().quantile(0.5).square()
        return found

    def kept(self, pairs: Meetings, within: Tensor) -> Tensor:
        """Whether the two of a pair [P] fall into one half and no further apart than `within` [P, DRAWS]."""
        return (pairs.squares.float()[:, None] <= within) & (self.real[pairs.real] == self.fake[pairs.fake])


def _deal(side: Cloud, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    halves = torch.zeros(len(side), DRAWS, dtype=torch.bool)
    for draw in range(DRAWS):
        halves[torch.randperm(len(side), generator=generator)[: len(side) // 2], draw] = True
    return halves.to(side.rows.device)


def listed_for(k: int) -> int:
    """How many neighbours to list so that k of them almost always (0.999) fall into one's own half."""
    return 3 * k + 8


def radii_in_halves(near: Near, dealt: Tensor, k: int) -> Tensor:
    """Squared distance [N, DRAWS], float32, of each row to the k-th of its listed neighbours in its own half.

    near: lists of `listed_for(k)` neighbours; dealt [N, DRAWS]: which half each row falls into.
    """
    k = max(1, min(k, len(dealt) // 2 - 1))
    found = []
    for start in range(0, len(dealt), BLOCK):
        rows = slice(start, start + BLOCK)
        stays = dealt[near.places[rows]] == dealt[rows][:, None]
        reached = stays.cumsum(dim=1, dtype=torch.int16) >= k
        # The last listed one, where fewer than k fall into the half.
        reached[:, -1] = True
        found.append(near.squares[rows].gather(1, reached.int().argmax(dim=1)))
    return torch.cat(found)


def split_share(whole: Tensor, apart: Tensor, dealt: Tensor, side: str) -> Estimate:
    """A mean of numbers in [0, 1], with Wilson's interval for as many independent draws as would vary like it.

    whole [n]: each sample's number among all; apart [n, DRAWS]: within its half; dealt [n, DRAWS]: which half that is.
    side: "real" or "fake", whose samples they are.
    """
    value, spread = float(whole.mean()), float(whole.var(unbiased=False))
    # Numbers between 0 and 1 vary less than zeros and ones: fewer zeros and ones would do.
    draws = _draws(whole, apart, dealt) * (value * (1 - value) / spread if spread > 0 else 1.0)
    t, z = (float(of.ppf(0.5 + LEVEL / 2)) for of in (stats.t(DRAWS), stats.norm))
    low, high = wilson(value, draws * (z / t) ** 2)
    return Estimate(value, min(low, value), max(high, value), METHOD, LEVEL, moves=_moves(apart, dealt, side))


def split_mean(whole: Tensor, apart: Tensor, dealt: Tensor, side: str) -> Estimate:
    """A mean of numbers >= 0, with Student's interval; arguments as in `split_share`."""
    error = math.sqrt(float(whole.var(unbiased=False)) / _draws(whole, apart, dealt))
    found = around(float(whole.mean()), error, METHOD, df=DRAWS, low=0.0)
    return replace(found, moves=_moves(apart, dealt, side))


def _moves(apart: Tensor, dealt: Tensor, side: str) -> dict[str, Tensor]:
    """How far each sample of the side moves the mean by what it adds, and what else there is in the halves' difference.

    The differences alone say it too, but they are few: two of DRAWS numbers that have nothing in common correlate by
    1 / sqrt(DRAWS) at random. What a sample adds within its half, averaged over the draws, takes that noise away.
    """
    own = apart.double().mean(dim=1)
    (one, _), (two, _) = _within(apart, dealt), _within(apart, ~dealt)
    expected = own[:, None].expand(apart.shape)
    (of_one, _), (of_two, _) = _within(expected, dealt), _within(expected, ~dealt)
    rest = (one - two - (of_one - of_two)) / (2 * math.sqrt(DRAWS))
    return {side: moves_of_mean(own), "draws": rest}


def _draws(whole: Tensor, apart: Tensor, dealt: Tensor) -> float:
    """How many independent draws would have a mean as uncertain as this one; n at the most.

    The means of two independent halves differ by four times the variance of the mean over both. That is set against
    how single samples vary within the halves, not among all, where samples are closer together and vary otherwise.
    """
    (one, one_spread), (two, two_spread) = _within(apart, dealt), _within(apart, ~dealt)
    variance = float((one - two).square().mean()) / 4
    spread = float((one_spread + two_spread).mean()) / 2
    return min(float(len(whole)), spread / variance) if variance > 0 and spread > 0 else float(len(whole))


def _within(apart: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over one half [DRAWS]."""
    size = half.sum(dim=0).clamp_min(1)
    mean = torch.where(half, apart, 0).sum(dim=0) / size
    square = torch.where(half, apart, 0).square().sum(dim=0) / size
    return mean, (square - mean.square()).clamp_min(0)
