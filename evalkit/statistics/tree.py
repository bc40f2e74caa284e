"""Moments of a set measured in pieces: a fixed tree of sums, so that any number of pieces gives the same bits.

The samples of a set are cut into leaves of 256. Two neighbouring nodes that are both there become their parent, always
these two and always in this order, so what a node holds does not depend on who measured which part of it, on how many
parts there were or on when they met. Of a complete set of n samples only some log2(n / 256) nodes are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ..errors import BadSetting, UsageError
from ..hardware import one_thread
from ..types import Moments

if TYPE_CHECKING:
    from torch import Tensor

# Samples of a leaf: fewer make more nodes to add up, more make coarser shards.
LEAF = 256
# Columns of a panel: only the panels on and below the diagonal of a leaf's scatter are made.
PANEL = 256


@dataclass(frozen=True, eq=False)
class Node:
    """Sums of the leaves `index` 2^level to (`index` + 1) 2^level: how many rows, their mean [D], their scatter [D, D].

    The scatter is about the node's own mean, float64, filled on and below its diagonal.
    """

    level: int
    index: int
    count: int
    mean: Tensor
    scatter: Tensor

    @property
    def leaves(self) -> range:
        return range(self.index << self.level, (self.index + 1) << self.level)


@dataclass(frozen=True, eq=False)
class Tree:
    """The largest nodes there are of a set of `total` samples, whose digest is `of`; in the order of the samples."""

    total: int
    of: str
    nodes: tuple[Node, ...]

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The stretches [start, stop) of samples that no node holds."""
        gaps: list[tuple[int, int]] = []
        at, end = 0, -(-self.total // LEAF)
        for start, stop in [(n.leaves.start, n.leaves.stop) for n in self.nodes] + [(end, end)]:
            if at < start:
                gaps.append((at * LEAF, min(start * LEAF, self.total)))
            at = stop
        return gaps

    def moments(self) -> Moments:
        """Mean and covariance of the complete set. Raises UsageError when a part is missing, or under 2 rows."""
        import torch

        if self.missing:
            gaps = ", ".join(f"{start}-{stop - 1}" for start, stop in self.missing)
            raise UsageError(f"statistics of a part only: samples {gaps} of {self.total} are missing; merge theirs")
        with one_thread():
            whole = self.nodes[0]
            for node in self.nodes[1:]:
                whole = _sum(whole, node, whole.level, whole.index)
        if whole.count < 2:
            raise UsageError(f"statistics of {whole.count} rows; a covariance needs at least 2")
        lower = whole.scatter.tril()
        scatter = lower + torch.tril(lower, -1).T
        return Moments(whole.mean, scatter / (whole.count - 1), whole.count)


def shard_bounds(n: int, shards: int) -> list[tuple[int, int]]:
    """[start, stop) of each of `shards` shards of n samples: whole leaves, each sample in exactly one of them.

    With more shards than leaves some are empty. Raises BadSetting for no shard.
    """
    if shards < 1:
        raise BadSetting(f"{shards} shards; at least 1 is needed")
    leaves = -(-n // LEAF)
    cuts = [min(n, i * leaves // shards * LEAF) for i in range(shards + 1)]
    return list(pairwise(cuts))


def tree_of(rows: Tensor, start: int, stop: int, total: int, of: str, positions: Sequence[int] | None = None) -> Tree:
    """The tree over the samples [start, stop) of `total`, from their rows [n, D].

    positions: which sample of the whole set each row belongs to, ascending; needed when some could not be read.
    Raises UsageError when the stretch is not made of whole leaves or the rows do not fit it.
    """
    import torch

    if start % LEAF or not 0 <= start < stop <= total or (stop % LEAF and stop != total):
        raise UsageError(f"samples {start}-{stop} of {total} are no shard of whole leaves; take one of shard_bounds")
    where = torch.arange(start, stop) if positions is None else torch.tensor(positions, dtype=torch.int64)
    fits = len(where) == len(rows) and bool((where[1:] > where[:-1]).all())
    if not fits or (len(where) and not start <= int(where[0]) <= int(where[-1]) < stop):
        raise UsageError(f"{len(rows)} rows for the samples {start}-{stop - 1}; give one row a sample, in their order")
    edges = torch.arange(start, stop + LEAF, LEAF).clamp_max(stop)
    cuts = torch.searchsorted(where, edges).tolist()
    found: dict[tuple[int, int], Node] = {}
    with one_thread():
        for i, (first, last) in enumerate(pairwise(cuts)):
            if int(edges[i]) < stop:
                _insert(found, _leaf(rows[first:last], start // LEAF + i))
    return Tree(total, of, _in_order(found))


def merged(trees: Sequence[Tree]) -> Tree:
    """One tree of several of the same set, in whatever order they come; what is still missing may come later.

    Raises UsageError when they are of different sets or hold a sample twice.
    """
    first = trees[0]
    for tree in trees:
        if (tree.total, tree.of) != (first.total, first.of):
            raise UsageError(
                f"statistics of different sets do not add up: {first.total} samples ({first.of[:19]})"
                f" and {tree.total} samples ({tree.of[:19]})"
            )
    nodes = sorted((node for tree in trees for node in tree.nodes), key=lambda node: node.leaves.start)
    for node, following in pairwise(nodes):
        if following.leaves.start < node.leaves.stop:
            start, stop = following.leaves.start * LEAF, min(node.leaves.stop, following.leaves.stop) * LEAF
            raise UsageError(
                f"samples {start}-{min(stop, first.total) - 1} are in more than one of the files; leave one of them out"
            )
    found: dict[tuple[int, int], Node] = {}
    with one_thread():
        for node in nodes:
            _insert(found, node)
    return Tree(first.total, first.of, _in_order(found))


def _leaf(rows: Tensor, index: int) -> Node:
    import torch

    # A copy of its own, because the bits of a product may depend on where in memory its factors begin.
    block = rows.to("cpu", torch.float64, copy=True)
    width = rows.shape[1]
    scatter = torch.zeros(width, width, dtype=torch.float64)
    if len(block) == 0:
        return Node(0, index, 0, torch.zeros(width, dtype=torch.float64), scatter)
    mean = block.mean(dim=0)
    block -= mean
    for start in range(0, width, PANEL):
        stop = start + PANEL
        scatter[start:stop, :stop] = block[:, start:stop].T @ block[:, :stop]
    return Node(0, index, len(block), mean, scatter)


def _insert(found: dict[tuple[int, int], Node], node: Node) -> None:
    """Add a node, and as long as its neighbour is there put their parent in the place of both."""
    while (neighbour := found.pop((node.level, node.index ^ 1), None)) is not None:
        left, right = (node, neighbour) if node.index < neighbour.index else (neighbour, node)
        node = _sum(left, right, node.level + 1, node.index >> 1)
    found[node.level, node.index] = node


def _sum(left: Node, right: Node, level: int, index: int) -> Node:
    """Both together: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm", eq. 2.1."""
    count = left.count + right.count
    if not (left.count and right.count):
        one = left if left.count else right
        return Node(level, index, count, one.mean, one.scatter)
    gap = right.mean - left.mean
    mean = left.mean + gap * (right.count / count)
    scatter = (left.scatter + right.scatter).addr_(gap, gap, alpha=left.count * right.count / count)
    return Node(level, index, count, mean, scatter)


def _in_order(found: Mapping[tuple[int, int], Node]) -> tuple[Node, ...]:
    nodes: Iterable[Node] = found.values()
    return tuple(sorted(nodes, key=lambda node: node.leaves.start))
