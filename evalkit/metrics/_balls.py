"""Who lies in whose ball: around every row a ball of its own radius, and the pairs of both sides that meet in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ._distances import PAIRS, Block, Cloud, direct, doubt, squares, where

# Two float64 roundings of one distance must compare as equal: a radius is a distance too. (On squares.)
SLACK = 2e-9
# Where more pairs of a block than this share are close calls, a float64 product is cheaper than measuring each.
CROWDED = 1 / 32


class Balls:
    """The ball of every row of a cloud: `radii` [N] squared and exact, and how far around it pairs are wanted, `reach`.

    With `strict` a point on the surface is outside. reach [N]: squared; never less than the ball itself.
    """

    def __init__(self, cloud: Cloud, radii: Tensor, *, strict: bool = False, reach: Tensor | None = None) -> None:
        self.strict = strict
        self.limit = radii * (1 - SLACK if strict else 1 + SLACK)
        self.margin = {
            dtype: doubt(cloud.lengths, self.limit, cloud.rows.shape[1], dtype)
            for dtype in (torch.float32, torch.float64)
        }
        wanted = self.limit + self.margin[torch.float32]
        self.reach = (wanted if reach is None else torch.maximum(wanted, reach)).float()

    def hold(self, squared: Tensor, ball: Tensor) -> Tensor:
        """Whether points at these squared distances [P] from the centres of these balls [P] are inside."""
        return squared < self.limit[ball] if self.strict else squared <= self.limit[ball]

    def roughly(self, squared: Tensor) -> Tensor:
        """Squared radii [N, R] found by products, so that products compared with them put copies where they belong."""
        margin = self.margin[torch.float32][:, None]
        return (squared - margin if self.strict else squared + margin).float()

    def close_calls(self, squared: Tensor, ball: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Whether multiplied squares [P] are inside beyond doubt, and which are too close to the surface to tell."""
        margin = self.margin[dtype][ball]
        inside = self.hold(squared + margin, ball)
        # No margin: both rows lie on the centre, where nothing is rounded.
        return inside, (~inside & (squared <= self.limit[ball] + margin) & (margin > 0)).nonzero()[:, 0]

    def inside(self, a: Cloud, i: Tensor, b: Cloud, j: Tensor, squared: Tensor, ball: Tensor) -> Tensor:
        """Whether the pairs (a[i], b[j]), at these multiplied squares [P], meet in these balls [P]; exact."""
        inside, close = self.close_calls(squared, ball, torch.float32)
        inside[close] = self.hold(direct(a, i[close], b, j[close]), ball[close])
        return inside


class Meetings(NamedTuple):
    """Pairs of a real [P] and a fake row [P] near to the ball of one of them; inside: whether it holds the other.

    squares: their squared distances as multiplied.
    """

    real: Tensor
    fake: Tensor
    squares: Tensor
    inside: Tensor

    def chunks(self) -> Iterator[Meetings]:
        """The same pairs, not too many at a time."""
        return (Meetings(*(part[s : s + PAIRS // 4] for part in self)) for s in range(0, len(self.real), PAIRS // 4))


def meetings(
    real: Cloud, fake: Cloud, real_balls: Balls, fake_balls: Balls | None = None
) -> Iterator[tuple[Meetings, Meetings]]:
    """For one block of pairs after the other: those near to the ball of the real row, and to that of the fake row."""
    for a in real.blocks():
        for b in fake.blocks():
            tile = squares(a, b)
            of_real = _meet(real, fake, (a, b), tile, real_balls, False)
            if fake_balls is None:
                yield of_real, Meetings(*(part[:0] for part in of_real))
            else:
                yield of_real, _meet(real, fake, (a, b), tile, fake_balls, True)


def _meet(
    real: Cloud, fake: Cloud, blocks: tuple[Block, Block], tile: Tensor, balls: Balls, are_fake: bool
) -> Meetings:
    a, b = blocks
    own = blocks[are_fake]
    reach = balls.reach[own.start : own.start + len(own.rows)].to(tile.dtype)
    i, j = where(tile <= (reach if are_fake else reach[:, None]))
    squared = tile[i, j].double()
    i, j = i + a.start, j + b.start
    ball = j if are_fake else i
    inside, close = balls.close_calls(squared, ball, tile.dtype)
    if len(close) > CROWDED * tile.numel() and tile.dtype == torch.float32:
        finer = real.block(a.start, torch.float64), fake.block(b.start, torch.float64)
        return _meet(real, fake, finer, squares(*finer), balls, are_fake)
    inside[close] = balls.hold(direct(real, i[close], fake, j[close]), ball[close])
    return Meetings(i, j, squared, inside)
