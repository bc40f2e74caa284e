"""CIFAKE's small network: CIFAR-10 against Stable Diffusion images of its classes, 32 x 32 pixels.

Bird and Lotfi 2024, "CIFAKE: image classification and explainable identification of AI-generated synthetic images";
their own weights are not published, these are two trainings of their best network by others. FAKE is 0 and REAL is 1 in
both, so the output is P(real) and is turned round here.

It knows CIFAR-10 more than it knows fakes: larger images that are shrunk to 32 x 32 are called fake for not looking
like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ._keras import named_for_torch
from ._published import PublishedJudge, Release
from ._views import Squeezed

PLAIN: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# Release -> padding of both convolutions, and the side of the map that is flattened.
PADDING: Mapping[str, tuple[int, int]] = MappingProxyType({"cifake_torch": (1, 8), "cifake_keras": (0, 6)})


class CIFAKE(PublishedJudge):
    """Bird and Lotfi 2024: two convolutions on 32 x 32 pixels, trained by others (`keras`: another training)."""

    name = "cifake"
    licence = "none stated (all rights reserved)"
    trained = "CIFAKE: CIFAR-10 and Stable Diffusion 1.4 images of its classes"
    speaks_of: ClassVar[Literal["fake", "real"]] = "real"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"network": "CIFAKE: 2 convolutions, 2 dense"})
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType(
        {
            # ToTensor before Resize: fractions of grey levels are kept.
            "torch": Release("cifake_torch", Squeezed(32, "bilinear", rounded=False), *PLAIN),
            "keras": Release("cifake_keras", Squeezed(32, "bicubic"), *PLAIN),
        }
    )

    def network(self) -> nn.Module:
        return CifakeNet(*PADDING[self.release.weights])

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.release.weights == "cifake_torch":
            return dict(tensors)
        side = PADDING[self.release.weights][1]
        return named_for_torch(tensors, ["conv1", "conv2"], [], ["fc1", "fc2"], (32, side, side))


class CifakeNet(nn.Module):
    """Log-odds of real [B] from images [B, 3, 32, 32] in [0, 1]."""

    def __init__(self, padding: int, side: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=padding)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=padding)
        self.fc1 = nn.Linear(32 * side * side, 64)
        self.fc2 = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        said: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return said[:, 0]
