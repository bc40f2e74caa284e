"""What two numbers have in common because they were measured against the same samples.

Two subjects scored against one reference share its luck: a draw of real samples that makes one look bad makes the
other look bad too. A number therefore keeps how far the samples of each side move it (`Moves`), dealt into buckets so
that a record stays small; the correlation of two numbers follows from the buckets they share, and with it the interval
of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .types import Moves

if TYPE_CHECKING:
    from torch import Tensor

BUCKETS = 256
THOUSANDTHS = 999


def kept(moves: Mapping[str, Tensor] | None, keys: Mapping[str, str]) -> dict[str, Moves]:
    """What a record keeps of how far each side's samples [n] move a number; sides without a key are left out.

    keys: by side, what must be equal for the same place to hold the same sample; the count is added here.
    """
    if not moves:
        return {}
    total = sum(float(side.double().square().sum()) for side in moves.values())
    found = {}
    for side, moved in moves.items():
        if side not in keys or not total > 0:
            continue
        share = float(moved.double().square().sum()) / total
        found[side] = Moves(f"{keys[side]}:{len(moved)}", round(share, 4), _parts(moved))
    return found


def _parts(moved: Tensor) -> tuple[int, ...]:
    """The sums over each bucket, as whole thousandths of the largest; one bucket a sample where they are few."""
    import torch

    moved = moved.double()
    if len(moved) > BUCKETS:
        # At random with a fixed seed: any rule on the place would follow some order of the samples.
        order = torch.randperm(len(moved), generator=torch.Generator().manual_seed(0))
        dealt = torch.empty_like(order)
        dealt[order] = torch.arange(len(moved)) % BUCKETS
        moved = torch.zeros(BUCKETS, dtype=torch.float64).index_add_(0, dealt, moved)
    largest = float(moved.abs().max()) if len(moved) else 0.0
    if not largest > 0:
        return (0,) * len(moved)
    return tuple(int(x) for x in (moved / largest * THOUSANDTHS).round().tolist())


def correlation(a: Mapping[str, Moves], b: Mapping[str, Moves]) -> float:
    """How the draws of the samples that two numbers share move both, from -1 to 1; 0 where they share none.

    Sides with equal keys only: those of one reference, and of generated samples that were made of the same prompts,
    inputs or seeds.
    """
    found = 0.0
    for side, one in a.items():
        other = b.get(side)
        if other is not None and one.key == other.key and len(one.parts) == len(other.parts):
            found += math.sqrt(one.share * other.share) * _cosine(one.parts, other.parts)
    return max(-1.0, min(1.0, found))


def _cosine(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0
