"""MesoNet: two small networks for faces out of Deepfakes and Face2Face videos.

Afchar et al. 2018, "MesoNet: a compact facial video forgery detection network", figures 4 and 5. They expect one face,
cropped, resized to 256 x 256 by the nearest pixel (what Keras' folder reader does), in [0, 1]; anything else is outside
what they know. Folders in alphabetical order made df 0 and real 1, so the output is P(real) and is turned round here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._keras import named_for_torch
from ._published import PublishedJudge, Release
from ._views import Squeezed

VIEW = Squeezed(256, "nearest")
PLAIN: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# Keras' batch normalisation; torch's own default is 1e-5.
EPSILON = 1e-3
FLAT = (16, 8, 8)


class MesoNet(PublishedJudge):
    """Afchar et al. 2018: Meso4 on one cropped face (`f2f`: Face2Face; `inception`, `inception_f2f`: MesoInception)."""

    name = "mesonet"
    licence = "Apache-2.0"
    trained = "faces of Deepfakes videos (`f2f`: of Face2Face videos) and of real ones"
    speaks_of: ClassVar[Literal["fake", "real"]] = "real"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"network": "Meso4 or MesoInception4"})
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType(
        {
            "df": Release("meso4_df", VIEW, *PLAIN),
            "f2f": Release("meso4_f2f", VIEW, *PLAIN),
            "inception": Release("mesoinception_df", VIEW, *PLAIN),
            "inception_f2f": Release("mesoinception_f2f", VIEW, *PLAIN),
        }
    )

    def network(self) -> nn.Module:
        return MesoInception4() if "inception" in self.release.weights else Meso4()

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        inception = "inception" in self.release.weights
        conv = [f"mix{i}.{part}" for i in (0, 1) for part in MIX] if inception else ["conv0", "conv1"]
        batch_norms = [f"bn{i}" for i in range(4)]
        return named_for_torch(tensors, [*conv, "conv2", "conv3"], batch_norms, ["fc0", "fc1"], FLAT)


class Meso4(nn.Module):
    """Log-odds of real [B] from faces [B, 3, 256, 256] in [0, 1]: four convolutions, rectified, then normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 8, 5, padding=2)
        self.conv2 = nn.Conv2d(8, 16, 5, padding=2)
        self.conv3 = nn.Conv2d(16, 16, 5, padding=2)
        _common(self, (8, 8, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        for i, pool in enumerate((2, 2, 2, 4)):
            conv, norm = self.get_submodule(f"conv{i}"), self.get_submodule(f"bn{i}")
            x = F.max_pool2d(norm(F.relu(conv(x))), pool)
        return _decided(self, x)


class MesoInception4(nn.Module):
    """Log-odds of real [B] as Meso4, the first two convolutions replaced by four parallel ones of growing reach."""

    def __init__(self) -> None:
        super().__init__()
        self.mix0 = Mixed(3, (1, 4, 4, 2))
        self.mix1 = Mixed(11, (2, 4, 4, 2))
        self.conv2 = nn.Conv2d(12, 16, 5, padding=2)
        self.conv3 = nn.Conv2d(16, 16, 5, padding=2)
        _common(self, (11, 12, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        for i, pool in enumerate((2, 2, 2, 4)):
            conv, norm = self.get_submodule(f"mix{i}" if i < 2 else f"conv{i}"), self.get_submodule(f"bn{i}")
            x = F.max_pool2d(norm(F.relu(conv(x))), pool)
        return _decided(self, x)


# The convolutions of a mixed layer in the order they are made, which is the order of Keras' numbers.
MIX = ("one", "two_in", "two", "three_in", "three", "four_in", "four")


class Mixed(nn.Module):
    """A 1 x 1 convolution beside three 3 x 3 ones of dilation 1, 2, 3, each behind a 1 x 1; rectified inside."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, widths[0], 1)
        for name, width, dilation in zip(("two", "three", "four"), widths[1:], (1, 2, 3), strict=True):
            self.add_module(f"{name}_in", nn.Conv2d(channels, width, 1))
            self.add_module(name, nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        beside = [self.one(x)]
        for name in ("two", "three", "four"):
            beside.append(self.get_submodule(name)(F.relu(self.get_submodule(f"{name}_in")(x))))
        return torch.cat(beside, dim=1)


def _common(network: nn.Module, widths: Sequence[int]) -> None:
    """What both networks have: a normalisation after each stage, two dense layers at the end."""
    for i, width in enumerate(widths):
        network.add_module(f"bn{i}", nn.BatchNorm2d(width, eps=EPSILON))
    channels, height, across = FLAT
    network.add_module("fc0", nn.Linear(channels * height * across, 16))
    network.add_module("fc1", nn.Linear(16, 1))


def _decided(network: nn.Module, x: Tensor) -> Tensor:
    hidden = F.leaky_relu(network.get_submodule("fc0")(x.flatten(1)), 0.1)
    said: Tensor = network.get_submodule("fc1")(hidden)
    return said[:, 0]
