"""Judge by small patches: many verdicts on 9 x 9 pixels each, averaged, and where they differ, a map.

What a generator leaves behind is local: a network that never sees more than 9 x 9 pixels at once cannot learn what
faces look like, only how their pixels are made (LaDeDa, Cavia et al. 2024, section 3). Its input is a gradient, each
pixel less the one to its lower right, as in their smallest network. Two pixels of gradient, 3 x 3, 2 x 2 at every
second pixel and 3 x 3 again make a field of 9 x 9; all further layers are 1 x 1. Nothing is padded inside, so every
patch lies in the image.

The network is small enough to read a whole view of up to 256 pixels, so there is one view and no grid of crops. The
map is what the score is the mean of; it says which patches spoke for fake, and is no location of a forgery.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ._augment import Augmentation
from ._network import REGION, CropJudge, Crops, Effort, Plans
from ._resnet import initialise
from ._training import Schedule

WIDTH, FIELD, STEP = 16, 9, 2
PLANS = Plans(Crops(16, 64, REGION, 1), Effort(4_000, 2, 60), Schedule(0, 32, 1e-2, 0.02), Augmentation())


class Patches(nn.Module):
    """Log-odds of fake [B] from images [B, 3, H, W] in [-1, 1], 9 pixels a side or more: the mean of their patches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_layer(3, WIDTH, 3, 1), *_layer(WIDTH, 2 * WIDTH, 2, STEP), *_layer(2 * WIDTH, 2 * WIDTH, 3, 1),
            *_layer(2 * WIDTH, 2 * WIDTH, 1, 1),
        )  # fmt: skip
        self.head = nn.Conv2d(2 * WIDTH, 1, 1)
        initialise(self)

    def patches(self, images: Tensor) -> Tensor:
        """Log-odds [B, h, w] of the patches; the one at (i, j) has its first pixel at (2 i, 2 j)."""
        found: Tensor = self.head(self.layers(images[..., :-1, :-1] - images[..., 1:, 1:]))
        return found.squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images).mean(dim=(1, 2))


def _layer(channels_in: int, channels_out: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()


class Patch(CropJudge):
    """Three networks of a field of 9 x 9 pixels, their patches' log-odds averaged, cross-fitted and calibrated."""

    name = "patch"
    modality: ClassVar[Literal["image"]] = "image"
    localises = False
    plans = PLANS
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"width": WIDTH, "field": FIELD, **PLANS.settings})

    def _network(self, facts: Mapping[str, Any]) -> nn.Module:
        return Patches()

    @torch.no_grad()
    def score_map(self, batch: Tensor) -> Tensor:
        """Calibrated log-odds of fake [B, h, w] of the patches of one prepared batch; their mean is that of the image.

        The patch at (i, j) is the 9 x 9 pixels from (2 i, 2 j) of the view; of an image over 256 pixels a side that is
        the centre.
        """
        calibration = self._fitted()["calibration"]
        maps = []
        for image in torch.split(batch.flatten(0, 1), 1):
            seen = image.float() / 127.5 - 1
            # `_ready` builds nothing else.
            each = [n.patches(seen) for n in self._networks if isinstance(n, Patches)]
            found = torch.stack(each, dim=-1) * calibration[:, 0] + calibration[:, 1]
            maps.append(found.mean(dim=-1))
        return torch.cat(maps)
