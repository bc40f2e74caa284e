"""Mean and covariance of very many rows, block by block: the rows may lie in a file and are never copied whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadRows, TooFewSamples
from ..types import Moments

# Numbers of a block: 64 MB in float64, enough rows for a product at full speed.
BLOCK = 2**23
# Columns of a panel: only the panels on and below the diagonal of a symmetric product are made.
PANEL = 256


@dataclass(frozen=True, eq=False)
class Side:
    """One side as a Gaussian: mean [D], and its covariance S [D, D], or where there are few rows X [n, D] with S = X'X.

    X is centred and divided by sqrt(n - 1). rows: as they were given; None when the side is a statistics file.
    """

    mean: Tensor
    X: Tensor | None
    S: Tensor | None
    n: int | None
    rows: Tensor | None

    @property
    def trace(self) -> float:
        """Total variance, in squared feature units."""
        if self.X is not None:
            return float(self.X.square().sum())
        return 0.0 if self.S is None else float(self.S.diagonal().sum())


def side_of(word: str, given: Tensor | Moments, least: int = 2, take: Tensor | None = None) -> Side:
    """A side from rows [N, D] of any float dtype, or from moments; `word` is what an error calls it.

    N <= D: a product of the rows themselves stays exact where a covariance is singular, and is smaller than one.
    take: the positions of the rows that make the side, all of them when not given. Raises TooFewSamples and BadRows.
    """
    if isinstance(given, Moments):
        return Side(given.mean.double(), None, given.covariance.double(), given.n, None)
    mean = mean_of(word, given, least, take)
    n, width = len(given) if take is None else len(take), given.shape[1]
    if n <= width:
        rows = given if take is None else given[take]
        return Side(mean, (rows.double() - mean) / math.sqrt(n - 1), None, n, given)
    return Side(mean, None, covariance_of(given, mean, take), n, given)


def both_sides(real: Tensor | Moments, fake: Tensor | Moments, least: int = 2) -> tuple[Side, Side]:
    """Both sides, of one width."""
    sides = side_of("real", real, least), side_of("fake", fake, least)
    widths = [len(side.mean) for side in sides]
    if widths[0] != widths[1]:
        raise BadRows(f"real rows have {widths[0]} columns, fake rows {widths[1]}; measure both alike")
    return sides


def blocks(rows: Tensor, take: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """The rows [N, D], or those at the positions `take`, in blocks of at most BLOCK numbers, with where each begins."""
    n = len(rows) if take is None else len(take)
    step = max(1, BLOCK // max(1, rows.shape[1]))
    for start in range(0, n, step):
        yield start, rows[start : start + step] if take is None else rows[take[start : start + step]]


def mean_of(word: str, rows: Tensor, least: int = 2, take: Tensor | None = None) -> Tensor:
    """The mean [D] in float64 of at least `least` finite rows [N, D]."""
    if rows.ndim != 2:
        raise BadRows(f"{word} rows have shape {tuple(rows.shape)}; expected [N, D]")
    n = len(rows) if take is None else len(take)
    if n < least:
        raise TooFewSamples(f"{n} {word} samples; this metric needs at least {least}")
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for start, block in blocks(rows, take):
        added = block.sum(dim=0, dtype=torch.float64)
        # The sum of finite numbers is finite, so the rows are looked through only when it is not.
        if not bool(added.isfinite().all()):
            bad = (~block.isfinite()).any(dim=1).nonzero()
            first = start + int(bad[0]) if len(bad) else start
            raise BadRows(f"{word} row {first} holds NaN or infinity; check the instrument and the sample")
        total += added
    return total / n


def covariance_of(rows: Tensor, mean: Tensor, take: Tensor | None = None) -> Tensor:
    """The covariance [D, D] in float64 of rows [N, D] about their mean, N - 1 below the line.

    The mean goes off each block before the product: sum xx' - N mu mu' loses all digits of a small variance.
    """
    n, width = len(rows) if take is None else len(take), rows.shape[1]
    total = torch.zeros(width, width, dtype=torch.float64, device=rows.device)
    for _, block in blocks(rows, take):
        add_square(total, block.double() - mean)
    return mirrored(total) / (n - 1)


def add_square(total: Tensor, block: Tensor) -> None:
    """Add X'X of a block X [b, D] to the panels of `total` [D, D] on and below its diagonal: half the work."""
    for start in range(0, block.shape[1], PANEL):
        stop = start + PANEL
        total[start:stop, :stop] += block[:, start:stop].T @ block[:, :stop]


def mirrored(lower: Tensor) -> Tensor:
    """The symmetric matrix of which only the lower triangle is filled."""
    return lower.tril() + lower.tril(-1).T
