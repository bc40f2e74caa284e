"""Toy objects of ten lines, used instead of mocks: a set in memory, instruments whose rows are known by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.samples import ListedSet
from evalkit.samples.arrays import from_images, from_texts


class Mean:
    """Row = [mean red, mean green, mean blue] in [0, 1]; counts what it was asked to do."""

    modality = "image"
    heads: Mapping[str, slice] = {"features": slice(0, 3)}

    def __init__(self, name: str = "mean", limit: int | None = None) -> None:
        self.name, self.digest, self.limit = name, f"toy:{name}", limit
        self.prepared, self.batches = 0, []  # type: ignore[var-annotated]

    def prepare(self, sample: Any) -> Tensor:
        self.prepared += 1
        return torch.from_numpy(sample.astype(np.float32) / 255)

    def to(self, device: str) -> None: ...

    def __call__(self, batch: Tensor) -> Tensor:
        if self.limit is not None and len(batch) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        self.batches.append(len(batch))
        return batch.mean(dim=(1, 2))


class Length:
    """Row = [number of characters]: an instrument for texts."""

    name, modality, digest = "length", "text", "toy:length"
    heads: Mapping[str, slice] = {"features": slice(0, 1)}

    def prepare(self, sample: Any) -> Tensor:
        return torch.tensor([float(len(sample))])

    def to(self, device: str) -> None: ...

    def __call__(self, batch: Tensor) -> Tensor:
        return batch


def images(n: int, seed: int = 0, size: int = 6, shift: int = 0, name: str = "images") -> ListedSet:
    """n random images, brighter by `shift`."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 200 - shift, (n, size, size, 3)) + shift
    return from_images(pixels.astype(np.uint8), name)


def texts(*lines: str) -> ListedSet:
    return from_texts(list(lines), "texts")
