"""The nearest few rows of every row, listed block by block, and the exact distance to the k-th of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._distances import Cloud, direct, doubt, mean_of, squares, where

SPARE = 4  # neighbours listed beyond the k-th, for those that rounding may have put in the wrong order


class Near(NamedTuple):
    """Of each query the nearest base rows, in order: squared distances [N, L] as multiplied, and places [N, L]."""

    squares: Tensor
    places: Tensor


class _Best:
    """The nearest few of every query so far, and offers not yet sorted in."""

    def __init__(self, queries: int, listed: int, dtype: torch.dtype, device: torch.device) -> None:
        self.squares = torch.full((queries, listed), torch.inf, dtype=dtype, device=device)
        self.index = torch.full((queries, listed), -1, dtype=torch.int64, device=device)
        self.offers: list[tuple[Tensor, Tensor, Tensor]] = []
        self.waiting = 0

    def offer(self, tile: Tensor, query: int, base: int) -> None:
        """Take what in tile [Q, B] is nearer than the furthest listed; its first row is query `query`, and so on."""
        bound = self.squares[query : query + len(tile), -1]
        if bool(bound.isinf().any()):
            near, j = tile.topk(min(self.squares.shape[1], tile.shape[1]), dim=1, largest=False)
            self._merge(slice(query, query + len(tile)), near, j + base)
            return
        self._wait(*where(tile < bound[:, None]), tile, query, base)

    def offer_across(self, tile: Tensor, query: int, base: int) -> None:
        """The same where the columns of the tile are the queries and its rows the base."""
        bound = self.squares[query : query + tile.shape[1], -1]
        if bool(bound.isinf().any()):
            self.offer(tile.T, query, base)
            return
        j, i = where(tile < bound)
        self._wait(i, j, tile.T, query, base)

    def _wait(self, i: Tensor, j: Tensor, tile: Tensor, query: int, base: int) -> None:
        self.offers.append((i + query, j + base, tile[i, j]))
        self.waiting += len(i)
        if self.waiting > self.squares.numel():
            self.settle()

    def _merge(self, rows: slice | Tensor, near: Tensor, index: Tensor) -> None:
        all_near, all_index = torch.cat([self.squares[rows], near], dim=1), torch.cat([self.index[rows], index], dim=1)
        best, place = all_near.topk(self.squares.shape[1], dim=1, largest=False)
        self.squares[rows], self.index[rows] = best, all_index.gather(1, place)

    def settle(self) -> None:
        """Sort the waiting offers into the lists."""
        if not self.waiting:
            return
        i, j, value = (torch.cat(parts) for parts in zip(*self.offers, strict=True))
        self.offers, self.waiting = [], 0
        order = value.argsort()
        order = order[i[order].argsort(stable=True)]
        i = i[order]
        counts = i.bincount(minlength=len(self.squares))
        queries = counts.nonzero()[:, 0]
        counts = counts[queries]
        place = torch.arange(len(i), device=i.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        row = torch.arange(len(queries), device=i.device).repeat_interleave(counts)
        fits = place < self.squares.shape[1]
        near = torch.full_like(self.squares[queries], torch.inf)
        index = torch.full_like(self.index[queries], -1)
        near[row[fits], place[fits]] = value[order][fits]
        index[row[fits], place[fits]] = j[order][fits]
        self._merge(queries, near, index)

    def lists(self) -> Near:
        """The nearest few, nearest first."""
        self.settle()
        ordered, order = self.squares.sort(dim=1)
        return Near(ordered, self.index.gather(1, order))


def neighbours_within(cloud: Cloud, listed: int) -> Near:
    """The `listed` (at most N - 1) nearest other rows of every row; half of the products serve both rows of a pair."""
    best = _Best(len(cloud), min(listed, len(cloud) - 1), torch.float32, cloud.rows.device)
    for base in cloud.blocks():
        for query in cloud.blocks(base.start):
            tile = squares(query, base)
            if query.start == base.start:
                best.offer(tile.fill_diagonal_(torch.inf), query.start, base.start)
            else:
                best.offer(tile, query.start, base.start)
                best.offer_across(tile, base.start, query.start)
    return best.lists()


def neighbours_among(
    queries: Cloud,
    base: Cloud,
    listed: int,
    *,
    own: Tensor | None = None,
    units: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Near:
    """The `listed` nearest base rows of every query, or all there are.

    own [N]: which base row each query itself is; it is left out. units [K]: squared lengths in which the distances to
    each base row are taken; a base row of unit NaN is left out.
    """
    best = _Best(len(queries), min(listed, len(base) - (own is not None)), dtype, queries.rows.device)
    for block in base.blocks(dtype=dtype):
        for query in queries.blocks(dtype=dtype):
            tile = squares(query, block)
            if own is not None:
                column = own[query.start : query.start + len(tile)] - block.start
                here = ((column >= 0) & (column < tile.shape[1])).nonzero()[:, 0]
                tile[here, column[here]] = torch.inf
            if units is not None:
                tile = tile.div_(units[block.start : block.start + tile.shape[1]]).nan_to_num_(nan=torch.inf)
            best.offer(tile, query.start, block.start)
    return best.lists()


def kth_nearest(queries: Cloud, base: Cloud, near: Near, k: int, *, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Squared distance [N] (float64, exact) of each query to its k-th nearest base row, and that row's index [N].

    near: its lists by `neighbours_within` or `neighbours_among`, longer than k; own: which base row each query itself
    is, where it is one. Of listed rows at one distance the first counts.
    """
    found, index, is_whole = _kth(queries, base, near, k, torch.float32)
    lost = (~is_whole).nonzero()[:, 0]
    if len(lost) and near.squares.shape[1] < len(base) - (own is not None):
        again = Cloud(queries.rows[lost], queries.centre)
        mine = None if own is None else own[lost]
        # More rows lie within rounding of the k-th than were listed: copies, or a knot far from the rest.
        finer = neighbours_among(again, base, near.places.shape[1], own=mine, dtype=torch.float64)
        found[lost], index[lost], _ = _kth(again, base, finer, k, torch.float64)
    return found, index


def _kth(queries: Cloud, base: Cloud, near: Near, k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The k-th of each list with the close calls measured again, its index, and whether the list held all of those."""
    reach = near.squares[:, k - 1].double()
    margin = 2 * doubt(queries.lengths, reach, queries.rows.shape[1], dtype)
    exact = near.squares.double()
    # Rows nearer than the k-th beyond doubt keep their place in front and need no measuring.
    open_ = (exact >= (reach - margin)[:, None]) & (exact <= (reach + margin)[:, None])
    i, place = where(open_)
    exact[i, place] = direct(queries, i, base, near.places[i, place])
    by_index = near.places.argsort(dim=1)
    order = by_index.gather(1, exact.gather(1, by_index).argsort(dim=1, stable=True))
    chosen = order[:, k - 1 : k]
    return exact.gather(1, chosen)[:, 0], near.places.gather(1, chosen)[:, 0], ~open_[:, -1]


def own_radii(side: Cloud, k: int, listed: int = 0) -> tuple[Tensor, Near]:
    """Squared distance [N] (float64, exact) of every row to its k-th nearest other row, and the lists behind it.

    listed: how many neighbours to list at least; a few more than k are, because rounding may change their order.
    """
    own = Cloud(side.rows, mean_of(side.rows))
    near = neighbours_within(own, max(listed, k + SPARE))
    return kth_nearest(own, own, near, k, own=torch.arange(len(own), device=side.rows.device))[0], near
