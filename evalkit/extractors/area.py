"""Area averaging: how the small instruments see an image of any size."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import ModalityMismatch

if TYPE_CHECKING:
    from ..types import Media


def image_of(sample: Media, reader: str) -> npt.NDArray[np.uint8]:
    """The sample when it is an image, uint8 [H, W, 3]; ModalityMismatch, naming the reader, when it is a text."""
    if isinstance(sample, str):
        raise ModalityMismatch(f"{reader} reads images and was given a text")
    return sample


def area_average(image: npt.NDArray[np.generic], side: int) -> npt.NDArray[np.float32]:
    """An image [H, W, C] averaged over the cells of a side x side grid -> float32 [side, side, C], in its own unit.

    Each pixel counts by the area of it that lies in the cell, so the mean is kept, an image that is already side x side
    comes back exactly, and a smaller one is repeated. The aspect ratio is not kept.
    """
    height, width, channels = image.shape
    rows = (_overlaps(height, side) @ image.reshape(height, -1).astype(np.float32)).reshape(side, width, channels)
    averaged: npt.NDArray[np.float32] = np.matmul(_overlaps(width, side), rows)
    return averaged


@lru_cache(maxsize=64)
def _overlaps(length: int, side: int) -> npt.NDArray[np.float32]:
    """[side, length] share of each cell that each pixel fills; rows sum to 1."""
    # In units of 1 / (length * side) all edges are whole numbers, so 8 -> 8 is exactly the identity.
    cell, pixel = np.arange(side)[:, None] * length, np.arange(length)[None] * side
    shared = np.minimum(cell + length, pixel + side) - np.maximum(cell, pixel)
    weights: npt.NDArray[np.float32] = (np.maximum(shared, 0) / length).astype(np.float32)
    weights.setflags(write=False)
    return weights
