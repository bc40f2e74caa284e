"""LaDeDa and Tiny-LaDeDa: a deepfake score for every patch of 9 x 9 pixels, averaged over the image.

Cavia et al. 2024, "Real-time deepfake detection in the real world". LaDeDa is a ResNet-50 whose convolutions are 1 x 1
from the third stage on and never padded; Tiny-LaDeDa, distilled from it, has four convolutions and 1,297 numbers. Both
see the image resized to 256 x 256, aspect ratio not kept, through a filter: differences of neighbours (LaDeDa, as NPR),
a diagonal gradient (Tiny). Fake when the log-odds exceed 0.

`score_map` gives the log-odds of each patch; their mean is the image's. The networks never saw a mask, so the map says
what the score is made of, not where an image was changed.

The ForenSynth weights do not carry over to images of 2023 and later; the WildRF ones were taught posts of one platform.
The published ForenSynth file of Tiny-LaDeDa does not fit the published diagonal gradient: the variances kept in its
normalisations are 5 to 900 times smaller than those that filter gives, log-odds are near 1,000 for every image tried,
and P(fake) is 1. It is run as published all the same; `wildrf` fits and is the one to use.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.extractors._network import plain_float32

from ._published import PublishedJudge, Release
from ._resnet import Bottleneck
from ._views import Squeezed
from .npr_progan import neighbour_differences

VIEW = Squeezed(256)
RIGHT_DIAGONAL = ((-2.0, -1.0, 0.0), (-1.0, 0.0, 1.0), (0.0, 1.0, 2.0))


class _PatchJudge(PublishedJudge):
    """A judge whose network gives a map of patch scores [B, h, w]; the image's log-odds are their mean."""

    instead = "patch"

    @property
    def localises(self) -> bool:
        return False

    def log_odds_of(self, x: Tensor) -> Tensor:
        return super().log_odds_of(x).mean(dim=(1, 2))

    def score_map(self, batch: Tensor) -> Tensor:
        """Log-odds of fake [B, h, w] of each 9 x 9 patch of a prepared batch; what the score is made of."""
        network = self._ready_network()
        with plain_float32(batch.device):
            found: Tensor = network(self.normalised(batch))
            return found


class LaDeDa(_PatchJudge):
    """Cavia et al. 2024: mean score of 9 x 9 patches, ResNet-50 size (`wildrf`: trained on images posted on Reddit)."""

    name = "ladeda"
    licence = "Yissum Software Research License (research use only)"
    trained = "ForenSynths: LSUN photographs and ProGAN images; `wildrf`: images posted on Reddit"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"network": "LaDeDa9, neighbour differences"})
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType(
        {"forensynth": Release("ladeda_forensynth", VIEW), "wildrf": Release("ladeda_wildrf", VIEW)}
    )

    def network(self) -> nn.Module:
        return PatchNet()


class TinyLaDeDa(_PatchJudge):
    """Cavia et al. 2024: mean score of 9 x 9 patches, 1,297 numbers (`wildrf`: taught images posted on Reddit)."""

    name = "tiny_ladeda"
    licence = "Yissum Software Research License (research use only)"
    trained = "LaDeDa's patch scores on ForenSynths (LSUN, ProGAN); `wildrf`: on images posted on Reddit"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"network": "Tiny-LaDeDa, right diagonal gradient"})
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType(
        {"forensynth": Release("tiny_ladeda_forensynth", VIEW), "wildrf": Release("tiny_ladeda_wildrf", VIEW)}
    )

    def network(self) -> nn.Module:
        return TinyPatchNet()


class PatchNet(nn.Module):
    """LaDeDa with patches of 9 x 9: log-odds [B, h, w] from images [B, 3, H, W] of even sides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 64, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        have = 64
        # The first block of the first two stages sees 3 x 3, every other one single places: 9 x 9 in all.
        stages = [(64, 3, 2, 3), (128, 4, 2, 3), (256, 6, 2, 1), (512, 3, 1, 1)]
        for number, (width, blocks, stride, kernel) in enumerate(stages, 1):
            made = []
            for i in range(blocks):
                made.append(Unpadded(have, width, stride if i == 0 else 1, kernel=kernel if i == 0 else 1))
                have = width * Bottleneck.expansion
            self.add_module(f"layer{number}", nn.Sequential(*made))
        self.fc = nn.Linear(have, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv2(self.conv1(neighbour_differences(x) * 2 / 3))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return _score_each_place(x, self.fc)


class Unpadded(Bottleneck):
    """A bottleneck without padding: the shortcut loses its last rows and columns to fit."""

    def __init__(self, channels_in: int, width: int, stride: int, *, kernel: int) -> None:
        super().__init__(channels_in, width, stride, kernel=kernel)
        self.conv2.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        short = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        out = self.bn3(self.conv3(out))
        return F.relu(out + short[:, :, : out.shape[2], : out.shape[3]])


class TinyPatchNet(nn.Module):
    """Tiny-LaDeDa: log-odds [B, h, w] from images [B, 3, H, W]; four convolutions of eight channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(TwoConvolutions(8))
        self.fc = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv2(self.conv1(right_diagonal(x)))))
        return _score_each_place(self.layer1(x), self.fc)


class TwoConvolutions(nn.Module):
    """1 x 1, then 3 x 3 of stride 2 without padding, each normalised and rectified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def right_diagonal(x: Tensor) -> Tensor:
    """The gradient from upper left to lower right of each channel, Sobel's weights; zeros beyond the border."""
    kernel = torch.tensor(RIGHT_DIAGONAL, device=x.device, dtype=x.dtype).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def _score_each_place(x: Tensor, fc: nn.Linear) -> Tensor:
    scores: Tensor = fc(x.permute(0, 2, 3, 1))
    return scores[..., 0]
