"""Which rows are near which: float32 products find the few pairs that matter, float64 decides the close calls.

|x - y|^2 = |x|^2 + |y|^2 - 2 x.y turns all distances of two blocks of rows into one matrix product, at the price of a
rounding error of some units in the last place of |x|^2 + |y|^2. Nothing is decided inside that error: such pairs are
measured again by their differences in float64. Rows are read block by block where they lie, so they may be
memory-mapped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import BadRows, TooFewSamples

BLOCK = 1024  # rows of a block of distances held at once
LARGEST = 1e15  # a larger number has a square that float32 cannot hold
PAIRS = 1 << 20  # numbers of rows held at once when pairs are measured by their differences


class Block(NamedTuple):
    """Some rows of a cloud, less its centre [B, D], and their squared lengths [B]."""

    start: int
    rows: Tensor
    lengths: Tensor


class Cloud:
    """Rows [N, D] of one side, checked but not copied, and the point they are centred on when they are multiplied."""

    def __init__(self, rows: Tensor, centre: Tensor) -> None:
        self.rows = rows
        self.centre = centre

    def __len__(self) -> int:
        return len(self.rows)

    def block(self, start: int, dtype: torch.dtype = torch.float32) -> Block:
        """The rows from `start` on, centred: distances between far away rows would cancel to nothing."""
        own = self.rows[start : start + BLOCK]
        # float32 rows less a float32 centre round once; anything else is subtracted in float64 first.
        wide = own if own.dtype == dtype == torch.float32 else own.double()
        centred = (wide - self.centre.to(wide)).to(dtype)
        return Block(start, centred, torch.linalg.vector_norm(centred, dim=1).square())

    def blocks(self, first: int = 0, dtype: torch.dtype = torch.float32) -> Iterator[Block]:
        """All blocks from row `first` on; `first` is a multiple of BLOCK."""
        return (self.block(start, dtype) for start in range(first, len(self), BLOCK))

    @cached_property
    def lengths(self) -> Tensor:
        """Squared lengths [N] of the centred rows, float64."""
        return torch.cat([block.lengths for block in self.blocks()]).double()


def clouds(least: int = 2, **sides: Tensor) -> tuple[Cloud, ...]:
    """The sides, named as errors shall name them, each centred on the first one's mean.

    Raises BadRows and TooFewSamples as every metric of features does; no copy of the rows is made for it.
    """
    found = [checked(side, rows, least) for side, rows in sides.items()]
    (first, rows), *others = zip(sides, found, strict=True)
    for side, other in others:
        if other.shape[1] != rows.shape[1]:
            raise BadRows(
                f"{first} rows have {rows.shape[1]} columns, {side} rows {other.shape[1]}; measure both alike"
            )
    centre = mean_of(rows)
    return tuple(Cloud(own, centre) for own in found)


def checked(side: str, rows: Tensor, least: int) -> Tensor:
    """The rows as they are: [N, D] of some float dtype, N >= `least`, all finite and below 1e15."""
    if rows.ndim != 2:
        raise BadRows(f"{side} rows have shape {tuple(rows.shape)}; expected [N, D]")
    if len(rows) < least:
        raise TooFewSamples(f"{len(rows)} {side} samples; this metric needs at least {least}")
    for start in range(0, len(rows), BLOCK):
        # A comparison with NaN is false too.
        bad = ~(rows[start : start + BLOCK].abs() <= LARGEST).all(dim=1)
        if bool(bad.any()):
            first = start + int(bad.nonzero()[0])
            what = f"numbers beyond {LARGEST:g}" if bool(rows[first].isfinite().all()) else "NaN or infinity"
            raise BadRows(f"{side} row {first} holds {what}; check the instrument and the sample")
    return rows if rows.is_floating_point() else rows.float()


def mean_of(rows: Tensor) -> Tensor:
    """The mean row [D] as float32, summed block by block in float64."""
    sums = [rows[start : start + BLOCK].double().sum(dim=0) for start in range(0, len(rows), BLOCK)]
    return (torch.stack(sums).sum(dim=0) / len(rows)).float()


def squares(a: Block, b: Block) -> Tensor:
    """Squared distances [A, B], >= 0, each within `doubt` of the truth."""
    tile = torch.addmm(a.lengths[:, None], a.rows, b.rows.T, alpha=-2)
    return tile.add_(b.lengths).clamp_min_(0)


def doubt(lengths: Tensor, squared: Tensor, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """How far a product may miss a squared distance near `squared` from a row of this squared length to any other row.

    The other row is no longer than its distance allows: |y|^2 <= 2 |x|^2 + 2 |x - y|^2. A sum of D products is off by
    at most D units of the last place, and by more than 8 sqrt(D) in one of 10^10 (Higham & Mary
    2019, "A new approach to probabilistic rounding error analysis").
    """
    coarse = {"highest": 2.0**-24, "high": 2.0**-11, "medium": 2.0**-8}  # tf32 and bfloat16 keep fewer digits
    unit = 2.0**-53 if dtype == torch.float64 else coarse[torch.get_float32_matmul_precision()]
    return 3 * (min(columns, 8 * math.sqrt(columns)) + 8) * unit * (lengths + squared)


def direct(a: Cloud, i: Tensor, b: Cloud, j: Tensor) -> Tensor:
    """Squared distances [P] of the pairs (a[i], b[j]) by their differences in float64; copies lie at exactly 0."""
    step = max(1, PAIRS // max(1, a.rows.shape[1]))
    found = [
        (a.rows[i[s : s + step]].double() - b.rows[j[s : s + step]].double()).square().sum(dim=1)
        for s in range(0, len(i), step)
    ]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64, device=i.device)


def where(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column [P] of the true entries; numpy skips empty stretches several times faster than torch does."""
    flat = (
        torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.flatten().nonzero()[:, 0]
    )
    return flat.div(mask.shape[1], rounding_mode="floor"), flat.remainder(mask.shape[1])
