"""Features of an untrained convolutional network: the fallback for images unlike photographs.

A network trained on photographs maps digits, medical scans or drawings to a corner of its space where it cannot tell
them apart. A network with random weights has no such home domain; it keeps local structure at several scales and is
the known fallback there (Naeem et al. 2020, section 4, who argue for random embeddings). It needs no download.

The weights are drawn uniformly with He scaling (He et al. 2015, eq. 10) from numpy's RandomState, whose stream is
frozen by numpy's policy; uniform and not normal, because uniform draws pass through no platform's logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .area import image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

SEED = 0
SIDE = 64
CHANNELS = (3, 32, 64, 64, 96)
KERNELS = (5, 3, 3, 3)
COLUMNS = 2 * sum(CHANNELS[1:])


class RandomConv:
    """Mean and spread of the activations of a fixed random convolutional network: 512 columns."""

    name = "random_conv"
    modality: Literal["image"] = "image"
    version = 1
    incomparable = (
        "random_conv is an untrained network with fixed random weights: its FID, KID and PRDC rank models on the same "
        "data but cannot be compared with published values, which use Inception features"
    )

    def __init__(self) -> None:
        rng = np.random.RandomState(SEED)
        shapes = zip(CHANNELS[1:], CHANNELS[:-1], KERNELS, strict=True)
        self._weights = [_he_uniform(rng, (fan_out, fan_in, side, side)) for fan_out, fan_in, side in shapes]

    @property
    def digest(self) -> str:
        settings = {"side": SIDE, "resize": "bilinear, antialiased", "range": [-1, 1]}
        named = {f"stage{i}": weight for i, weight in enumerate(self._weights)}
        return identity(self.name, self.version, settings, named)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, COLUMNS)})

    def prepare(self, sample: Media) -> Tensor:
        """float32 [3, 64, 64] in [-1, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(image_of(sample, self.name))).permute(2, 0, 1)[None]
        sized = F.interpolate(pixels.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return sized[0].contiguous() / 127.5 - 1

    def to(self, device: str) -> None:
        # Channels last: on a CPU these small convolutions are about twice as fast.
        self._weights = [w.to(device).contiguous(memory_format=torch.channels_last) for w in self._weights]

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 512]: per stage the spatial means, then the spatial standard deviations."""
        x = batch.contiguous(memory_format=torch.channels_last)
        columns = []
        for weight in self._weights:
            x = F.relu(F.conv2d(x, weight, stride=2, padding=weight.shape[-1] // 2))
            columns += [x.mean(dim=(2, 3)), x.std(dim=(2, 3), correction=0)]
        return torch.cat(columns, dim=1)


def _he_uniform(rng: np.random.RandomState, shape: tuple[int, int, int, int]) -> Tensor:
    """Variance 2 / fan-in, so that activations keep their scale through ReLU stages."""
    bound = np.sqrt(6 / np.prod(shape[1:]))
    drawn = (rng.random_sample(shape) * 2 - 1) * bound
    return torch.from_numpy(drawn.astype(np.float32)).contiguous(memory_format=torch.channels_last)
