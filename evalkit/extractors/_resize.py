"""How an image becomes the 299 x 299 input of Inception: the field's dialects, each exactly, batched on the device.

The same images under two dialects have FIDs that differ by more than two good models do (Parmar et al. 2022), so a
dialect is part of an instrument's name. None of them rounds to whole grey levels after resizing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# float32 values resized at once: 256 MiB, whatever the size of the images.
AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Dialect:
    """A resize and a range. `zero`: the grey level that becomes 0; the range is (x - zero) / zero."""

    filter: Literal["bilinear", "bicubic"]
    antialias: bool
    half_pixel: bool
    zero: float
    says: str

    @property
    def range(self) -> str:
        return f"(x - {self.zero:g}) / {self.zero:g}"


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        # Parmar et al. 2022: Pillow's bicubic on float channels, clipped to 0..255.
        "clean": Dialect("bicubic", True, True, 128.0, "bicubic, antialiased, clipped to 0..255, as clean-fid"),
        # The resize inside the TensorFlow graph, which TTUR, guided-diffusion and torch-fidelity use.
        "tf1": Dialect(
            "bilinear", False, False, 128.0, "bilinear, no antialias, pixel corners aligned, as TensorFlow 1"
        ),
        "legacy_pytorch": Dialect("bilinear", False, True, 127.5, "bilinear, no antialias, as pytorch-fid"),
        # Since 1.8.0; before that torchmetrics was tf1.
        "torchmetrics": Dialect("bilinear", True, True, 128.0, "bilinear, antialiased, as torchmetrics 1.8 and later"),
    }
)


def resize(images: Tensor, dialect: Dialect, side: int) -> Tensor:
    """Images uint8 [B, 3, H, W] resized to float32 [B, 3, side, side], in grey levels 0..255, on their device."""
    step = max(1, AT_ONCE // max(1, images[0].numel()))
    parts = [_resized(images[i : i + step], dialect, side) for i in range(0, len(images), step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def in_range(grey: Tensor, dialect: Dialect) -> Tensor:
    """Grey levels 0..255 in the range the network was given: [-1, 1], or [-1, 0.992] for the dialects of 128."""
    return (grey - dialect.zero) / dialect.zero


def _resized(images: Tensor, dialect: Dialect, side: int) -> Tensor:
    if not dialect.half_pixel:
        return _from_corners(images, side)
    sized = F.interpolate(
        images.float(), size=(side, side), mode=dialect.filter, align_corners=False, antialias=dialect.antialias
    )
    # Bicubic overshoots at edges.
    return sized.clamp_(0, 255) if dialect.filter == "bicubic" else sized


def _from_corners(images: Tensor, side: int) -> Tensor:
    """TensorFlow 1's bilinear resize as two products, of the pixels that count: at most two an output and axis."""
    rows, down, columns, across = (
        part.to(images.device) for length in images.shape[2:] for part in corner_weights(length, side)
    )
    grey = images.index_select(2, rows).index_select(3, columns).float()
    return down @ (grey @ across.T)


@lru_cache(maxsize=16)
def corner_weights(length: int, side: int) -> tuple[Tensor, Tensor]:
    """The pixels that count [P] and their weights [side, P]: output i lies at i * length / side, no half pixel added.

    Positions in float32, as the op computes them: in float64 some fall into the next pixel.
    """
    at = torch.arange(side, dtype=torch.float32) * torch.tensor(length / side, dtype=torch.float32)
    low = at.long().clamp_max(length - 1)
    high = (low + 1).clamp_max(length - 1)
    pixels = torch.unique(torch.cat([low, high]))
    share = at - low
    weights = torch.zeros(side, len(pixels))
    outputs = torch.arange(side)
    weights[outputs, torch.searchsorted(pixels, low)] = 1 - share
    weights[outputs, torch.searchsorted(pixels, high)] += share
    return pixels, weights
