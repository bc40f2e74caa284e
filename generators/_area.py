"""Area averaging: how a generator reads an image that is not of the size it learned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def area_resized(images: npt.NDArray[np.uint8], height: int, width: int) -> Tensor:
    """Images [B, H, W, C] averaged over the cells of a height x width grid, float32 [B, C, height, width] in 0..255.

    Each pixel counts by the area of it that lies in the cell: the mean is kept, an image of that size comes back
    exactly, a smaller one is repeated; the aspect ratio is not kept.
    """
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return _shares(images.shape[1], height) @ x @ _shares(images.shape[2], width).T


def _shares(length: int, cells: int) -> Tensor:
    """[cells, length] share of each cell that each pixel fills; rows sum to 1."""
    # In units of 1 / (length * cells) all edges are whole numbers, so that an equal size is exactly the identity.
    cell, pixel = torch.arange(cells)[:, None] * length, torch.arange(length)[None] * cells
    shared = torch.minimum(cell + length, pixel + cells) - torch.maximum(cell, pixel)
    return shared.clamp_min(0).float() / length
