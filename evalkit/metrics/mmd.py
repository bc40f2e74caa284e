"""How far two sets of rows lie apart under a kernel: sums over all pairs, whatever their number, in one tile's memory.

A kernel here is a function of inner products. Each tile is one single-precision matrix product of rows moved by a
common centre; what the move takes from an inner product is put back in float64, because
x.y = (x - c).(y - c) + c.x + c.y - c.c whatever c is. The parts that nearly cancel in a distance of means thus never
meet in float32, and everything after the product is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..errors import BadRows, TooFewSamples
from ..resample import jackknife
from ..types import Estimate

BLOCK = 512  # rows and columns of a tile
SMALL = 2**28  # multiplications below which float64 costs nothing that anybody would notice

SIDES = ("real", "fake")

Kernel: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Panel:
    """One side's rows [N, D], read a block at a time; `scale` [N] makes them unit rows where that is wanted.

    own [N]: x.x of each row; pull [N]: c.x - c.c / 2, what moving by the centre c takes from an inner product.
    """

    rows: Tensor
    scale: Tensor | None
    own: Tensor
    pull: Tensor
    centre: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def moved(self, block: slice) -> Tensor:
        """Rows of the block less the centre, in the precision of the products."""
        rows = self.rows[block].to(self.centre.dtype)
        return rows - self.centre if self.scale is None else rows * self.scale[block, None] - self.centre


def panels(real_rows: Tensor, fake_rows: Tensor, *, unit: bool = False, least: int = 2) -> tuple[Panel, Panel]:
    """Both sides ready for `tiles`; unit: each row divided by its length. No copy of the rows is made.

    Raises TooFewSamples below `least` rows, BadRows for rows of unlike width, not finite, or (unit) of length 0.
    """
    for side, rows in (("real", real_rows), ("fake", fake_rows)):
        if rows.ndim != 2:
            raise BadRows(f"{side} rows have shape {tuple(rows.shape)}; expected [N, D]")
        if len(rows) < least:
            raise TooFewSamples(f"{len(rows)} {side} samples; this metric needs at least {least}")
    if real_rows.shape[1] != fake_rows.shape[1]:
        raise BadRows(
            f"real rows have {real_rows.shape[1]} columns, fake rows {fake_rows.shape[1]}; measure both alike"
        )
    lengths = [_lengths(side, rows, unit) for side, rows in (("real", real_rows), ("fake", fake_rows))]
    few = (len(real_rows) + len(fake_rows)) ** 2 * real_rows.shape[1] < SMALL
    exact = few or torch.float64 in (real_rows.dtype, fake_rows.dtype)
    first = real_rows[:BLOCK].double()
    centre = (first / lengths[0][:BLOCK, None] if unit else first).mean(dim=0)
    centre = centre.to(torch.float64 if exact else torch.float32)
    real, fake = (
        _panel(rows, length, centre, unit) for rows, length in zip((real_rows, fake_rows), lengths, strict=True)
    )
    return real, fake


def _lengths(side: str, rows: Tensor, unit: bool) -> Tensor:
    """The length [N] of each row in float64; refuses rows that are not finite, or that have no direction."""
    lengths = torch.cat([block.double().norm(dim=1) for block in torch.split(rows, BLOCK)])
    wrong = ~lengths.isfinite()
    if bool(wrong.any()):
        raise BadRows(
            f"{side} row {int(wrong.nonzero()[0])} holds NaN or infinity; check the instrument and the sample"
        )
    if unit and not bool(lengths.all()):
        empty = int((lengths == 0).nonzero()[0])
        raise BadRows(f"{side} row {empty} is all zeros and has no direction; exclude the sample")
    return lengths


def _panel(rows: Tensor, lengths: Tensor, centre: Tensor, unit: bool) -> Panel:
    c = centre.double()
    onto = torch.cat([block.double() @ c for block in torch.split(rows, BLOCK)])
    own = lengths.square()
    if unit:
        onto, own = onto / lengths, torch.ones_like(own)
    scale = (1 / lengths).to(centre.dtype) if unit else None
    return Panel(rows, scale, own, onto - c @ c / 2, centre)


class Tile(NamedTuple):
    """Inner products [a, b] float64 of some rows of one side with some of the same or of the other side.

    side: whose pairs they are. Of a side's own pairs only tiles on and above the diagonal are made.
    """

    side: Literal["real", "fake", "cross"]
    rows: slice
    columns: slice
    products: Tensor

    @property
    def is_diagonal(self) -> bool:
        return self.side != "cross" and self.rows == self.columns


def tiles(real: Panel, fake: Panel, block: int = BLOCK) -> Iterator[Tile]:
    """All inner products within and between the sides, a tile at a time; memory O(block^2 + block D)."""
    for rows in _blocks(len(real), block):
        left = real.moved(rows)
        yield from _row_of_tiles("real", real, rows, left, real, _blocks(len(real), block, rows.start))
        yield from _row_of_tiles("cross", real, rows, left, fake, _blocks(len(fake), block))
    for rows in _blocks(len(fake), block):
        left = fake.moved(rows)
        yield from _row_of_tiles("fake", fake, rows, left, fake, _blocks(len(fake), block, rows.start))


def _row_of_tiles(
    side: Literal["real", "fake", "cross"], own: Panel, rows: slice, left: Tensor, other: Panel, blocks: list[slice]
) -> Iterator[Tile]:
    for columns in blocks:
        right = left if own is other and columns == rows else other.moved(columns)
        products = (left @ right.T).double()
        products += own.pull[rows, None]
        products += other.pull[columns]
        yield Tile(side, rows, columns, products)


def _blocks(n: int, block: int, start: int = 0) -> list[slice]:
    return [slice(i, min(i + block, n)) for i in range(start, n, block)]


class PairSums:
    """Kernel values of each row added up: with all other rows of its side, and with all rows of the other side.

    real_real, real_fake [N]; fake_fake, fake_real [M]; a row's pair with itself is left out and kept in real_own [N],
    fake_own [M]. Fill it by adding every tile with its kernel values once.
    """

    def __init__(self, real: Panel, fake: Panel, kernel: Kernel) -> None:
        self.real_own, self.fake_own = kernel(real.own.clone()), kernel(fake.own.clone())
        self.real_real, self.fake_fake = torch.zeros_like(real.own), torch.zeros_like(fake.own)
        self.real_fake, self.fake_real = torch.zeros_like(real.own), torch.zeros_like(fake.own)

    def add(self, tile: Tile, values: Tensor) -> None:
        """values [a, b] float64: the kernel of the tile's products; the diagonal of a diagonal tile is overwritten."""
        if tile.side == "cross":
            self.real_fake[tile.rows] += values.sum(dim=1)
            self.fake_real[tile.columns] += values.sum(dim=0)
            return
        sums = self.real_real if tile.side == "real" else self.fake_fake
        if tile.is_diagonal:
            values.fill_diagonal_(0)
        else:
            sums[tile.columns] += values.sum(dim=0)
        sums[tile.rows] += values.sum(dim=1)


def pair_sums(real: Panel, fake: Panel, *kernels: Kernel, block: int = BLOCK) -> list[PairSums]:
    """The pair sums under each kernel, from one pass over the tiles."""
    sums = [PairSums(real, fake, kernel) for kernel in kernels]
    for tile in tiles(real, fake, block):
        for found, kernel in zip(sums, kernels, strict=True):
            found.add(tile, kernel(tile.products))
    return sums


def unbiased_estimate(sums: PairSums) -> Estimate:
    """Squared maximum mean discrepancy as a U-statistic, with its 95 % leave-one-out jackknife interval.

    Deleting one row takes its row sums out of the three pair sums. Needs 3 rows a side. Gretton et al. 2012, eq. 3.
    """
    return _estimate(sums.real_real, sums.real_fake, sums.fake_fake, sums.fake_real)


def biased_estimate(sums: PairSums) -> Estimate:
    """The same as a V-statistic, >= 0: a row's pair with itself counts too. Gretton et al. 2012, eq. 5."""
    return _estimate(sums.real_real, sums.real_fake, sums.fake_fake, sums.fake_real, own=(sums.real_own, sums.fake_own))


def _estimate(
    real_real: Tensor, real_fake: Tensor, fake_fake: Tensor, fake_real: Tensor, own: tuple[Tensor, Tensor] | None = None
) -> Estimate:
    n, m = len(real_real), len(fake_fake)
    real, fake = _Side(real_real, own and own[0]), _Side(fake_fake, own and own[1])
    cross = real_fake.sum()
    value = float(real.mean + fake.mean - 2 * cross / (n * m))
    without_real = real.without + fake.mean - 2 * (cross - real_fake) / ((n - 1) * m)
    without_fake = fake.without + real.mean - 2 * (cross - fake_real) / ((m - 1) * n)
    if own is None:
        found = jackknife(value, [without_real, without_fake], sides=SIDES)
    else:
        # Rounding must not carry it past its range.
        found = jackknife(max(0.0, value), [without_real, without_fake], low=0.0, sides=SIDES)
    # First-order influence: twice the witness function at the sample, mean of its own side less mean of the other.
    witness = 2 * (fake_fake / (m - 1) - fake_real / n)
    return replace(found, per_sample=witness - witness.mean())


class _Side:
    """Mean kernel value over the pairs of one side, and [N] with each row left out; `own` counts pairs x, x too."""

    def __init__(self, sums: Tensor, own: Tensor | None) -> None:
        n, pairs = len(sums), sums.sum()
        if own is None:
            self.mean = pairs / (n * (n - 1))
            self.without = (pairs - 2 * sums) / ((n - 1) * (n - 2))
        else:
            self.mean = (pairs + own.sum()) / n**2
            self.without = (pairs + own.sum() - 2 * sums - own) / (n - 1) ** 2
