"""The image itself as a feature: its colours on an 8 x 8 grid.

The grid is always 8 x 8, whatever the size of the image, so that every image has the same 192 columns: handwritten
digits of 8 x 8 pixels pass through exactly, larger images are area-averaged (antialiased), smaller ones repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .area import area_average, image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

SIDE = 8


class Pixels:
    """Red, green and blue in [0, 1] of the image averaged over an 8 x 8 grid: 192 columns."""

    name = "pixels"
    modality: Literal["image"] = "image"
    version = 1

    @property
    def digest(self) -> str:
        return identity(self.name, self.version, {"side": SIDE, "resize": "area"})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, 3 * SIDE * SIDE)})

    def prepare(self, sample: Media) -> Tensor:
        """float32 [192] in [0, 1]: rows of the grid, then columns, then colours."""
        return torch.from_numpy(area_average(image_of(sample, self.name), SIDE).reshape(-1)) / 255

    def to(self, device: str) -> None:
        """Nothing to move: there are no weights."""

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        return batch.float()
