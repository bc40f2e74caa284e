"""What a statistics file says, how it is made of rows, and how those of several shards become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import UsageError
from ..types import Features, Moments
from .tree import Tree, merged, tree_of

if TYPE_CHECKING:
    from torch import Tensor

Origin: TypeAlias = Literal["pytorch-fid", "clean-fid", "ADM", "EDM2", "evalkit"]


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a statistics file says.

    pooled: of the features; None while shards are missing. spatial: of the spatial ones (ADM). families: by the first
    word of an instrument's name, where a file holds several (EDM2). instrument: name, digest and what it does, where
    the file says. tree: what merges (ours). rows: float32 [n, D], where they were kept.
    """

    origin: Origin
    pooled: Moments | None
    spatial: Moments | None = None
    families: Mapping[str, Moments] = field(default_factory=dict)
    instrument: Mapping[str, str] | None = None
    tree: Tree | None = None
    rows: Tensor | None = None
    positions: tuple[int, ...] = ()

    @property
    def n(self) -> int | None:
        """How many rows it is of, where that is known."""
        return None if self.pooled is None else self.pooled.n

    @property
    def mean(self) -> Tensor:
        """[D], float64."""
        return self.moments().mean

    @property
    def covariance(self) -> Tensor:
        """[D, D], float64, N - 1 below the line."""
        return self.moments().covariance

    def moments(self, instrument: str = "") -> Moments:
        """The moments an instrument of this name would be compared with.

        Raises UsageError when the file holds none for it, or when shards are missing.
        """
        family, _, variant = instrument.partition(":")
        if "spatial" in variant.split(":"):
            if self.spatial is None:
                raise UsageError(f"the statistics hold no spatial features for {instrument}; ADM's do (mu_s, sigma_s)")
            return self.spatial
        if self.families and family:
            if family not in self.families:
                raise UsageError(f"the statistics hold {', '.join(self.families)}; none for {instrument}")
            return self.families[family]
        if self.pooled is None:
            assert self.tree is not None  # only a tree can be incomplete
            return self.tree.moments()
        return self.pooled


def summarise(
    features: Features,
    *,
    instrument: str,
    shard: tuple[int, int] | None = None,
    total: int | None = None,
    of: str = "",
    positions: Sequence[int] | None = None,
    keep_rows: bool = False,
) -> Statistics:
    """The mergeable statistics of a set, or of one of its shards.

    instrument: the name of what made the rows. shard: [start, stop) of the samples, from `shard_bounds`; total, of: how
    many samples the whole set has, and its digest. Without these the rows are the whole set. positions: which sample of
    the whole set each row belongs to, needed where some could not be read. Raises UsageError.
    """
    size = len(features.rows) if total is None else total
    start, stop = shard or (0, size)
    tree = tree_of(features.rows, start, stop, size, of or features.samples.digest, positions)
    facts = {**features.about, "name": instrument, "digest": features.extractor}
    if not keep_rows:
        return Statistics("evalkit", complete(tree), instrument=facts, tree=tree)
    kept = tuple(range(start, stop) if positions is None else positions)
    return Statistics("evalkit", complete(tree), None, {}, facts, tree, features.rows.float().cpu(), kept)


def merge_statistics(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of several shards as one, in whatever order they come; the result merges on with what is missing.

    Rows stay where every part kept its own. Raises UsageError for files that are not ours, that were made with
    different instruments or of different sets, or that hold a sample twice.
    """
    import torch

    trees = []
    for part in parts:
        if part.tree is None:
            raise UsageError(
                f"statistics in the layout of {part.origin} do not merge; make the parts with evalkit stats"
            )
        if part.instrument != parts[0].instrument:
            names = [
                f"{p.instrument['name']} ({p.instrument['digest'][:19]})" for p in (parts[0], part) if p.instrument
            ]
            raise UsageError(f"statistics of different instruments do not add up: {' and '.join(names)}")
        trees.append(part.tree)
    tree = merged(trees)
    found = Statistics("evalkit", complete(tree), instrument=parts[0].instrument, tree=tree)
    kept = [(at, row) for p in parts if p.rows is not None for at, row in zip(p.positions, p.rows, strict=True)]
    if not kept or any(p.rows is None for p in parts):
        return found
    kept.sort(key=lambda pair: pair[0])
    return replace(found, rows=torch.stack([row for _, row in kept]), positions=tuple(at for at, _ in kept))


def complete(tree: Tree) -> Moments | None:
    """The moments of a tree to which no part is missing."""
    return None if tree.missing else tree.moments()
