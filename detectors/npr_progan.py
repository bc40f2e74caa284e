"""NPR as published: what a pixel has that its 2 x 2 neighbourhood has not, judged by the first half of a ResNet-50.

Tan et al. 2024, "Rethinking the up-sampling operations in CNN-based generative network for generalizable deepfake
detection". The input is x - up(down(x)), both by the nearest pixel, times 2/3. It was trained without JPEG or blur, and
calls many re-encoded photographs fake.

The authors' tables differ in the test preprocessing: most resize to 256 x 256 without keeping the aspect ratio (here
without a variant), GANGen and AIGCDetectBenchmark resize nothing and leave out an odd last row or column (`native`).
There are two files: the one of the benchmark and of their demonstration (here without a variant), and NPR.pth of their
own tables (`tables`), whose digest is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from ._published import PublishedJudge, Release, without_prefix
from ._resnet import Bottleneck, ResNet
from ._views import Squeezed, Whole

SIDE = 256


class NPRProGAN(PublishedJudge):
    """Tan et al. 2024: neighbouring-pixel differences through half a ResNet-50 (`native`: images not resized)."""

    name = "npr_progan"
    licence = "none stated (all rights reserved)"
    trained = "LSUN photographs and ProGAN images of car, cat, chair, horse"
    instead = "npr"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"network": "ResNet-50, stem 3 x 3 of stride 2, two stages", "input": "2/3 (x - up(down(x))), nearest, 2 x 2"}
    )
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType(
        {
            "3090": Release("npr_progan_3090", Squeezed(SIDE)),
            "native": Release("npr_progan_3090", Whole(even=True)),
            "tables": Release("npr_progan_tables", Squeezed(SIDE)),
            "tables:native": Release("npr_progan_tables", Whole(even=True)),
        }
    )

    def network(self) -> ResNet:
        return ResNet(Bottleneck, (3, 4), stem=(3, 2))

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # The authors call the last layer fc1, because it is not ResNet's own.
        return {key.replace("fc1.", "fc."): tensor for key, tensor in without_prefix(tensors).items()}

    def log_odds_of(self, x: Tensor) -> Tensor:
        return super().log_odds_of(neighbour_differences(x) * 2 / 3)


def neighbour_differences(x: Tensor) -> Tensor:
    """x [B, C, H, W] less the upper left pixel of each 2 x 2 block; H and W even."""
    return x - F.interpolate(x[:, :, ::2, ::2], scale_factor=2, mode="nearest")
