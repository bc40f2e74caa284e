"""Judge by neighbouring pixels: what is left of an image when each block of 2 x 2 is measured from its first pixel.

Generators enlarge feature maps, and what was enlarged relates neighbouring pixels in a way that cameras do not: NPR,
the image less its halved and doubled self (Tan et al. 2024, section 3.2). A small residual network reads these
relations and averages over the crop; the published network is wider (a cut ResNet-50), and one of its size learns
little more from some hundred images, at many times the cost.

As published it is trained without blur and without JPEG, only cropped and mirrored: what it reads is what both erase,
so it is strong on files as they came and weak on re-encoded ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ._augment import Augmentation
from ._network import CropJudge, Crops, Effort, Plans
from ._resnet import BasicBlock, ResNet, initialise
from ._training import Schedule

WIDTH = 16
PLANS = Plans(Crops(8, 64), Effort(4_000, 2, 60), Schedule(0, 32, 3e-3, 0.02), Augmentation())


class Relations(nn.Module):
    """Log-odds of fake [B] from images [B, 3, S, S] in [-1, 1], S even."""

    def __init__(self, side: int) -> None:
        super().__init__()
        # Digits of 8 x 8 keep their pixels; from 32 on the stem halves the side.
        stem = (3, 2 if side >= 32 else 1)
        self.network = ResNet(BasicBlock, (2, 2), stem=stem, pool=False, width=WIDTH)
        initialise(self.network)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(relations(images))
        return found


def relations(images: Tensor) -> Tensor:
    """Each pixel less the first pixel of its block of 2 x 2; images [..., H, W], H and W even."""
    first = images[..., ::2, ::2]
    return images - first.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)


class NPR(CropJudge):
    """Three small residual networks on neighbouring pixel relations of crops, cross-fitted and calibrated."""

    name = "npr"
    modality: ClassVar[Literal["image"]] = "image"
    plans = PLANS
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"width": WIDTH, **PLANS.settings})

    def _network(self, facts: Mapping[str, Any]) -> nn.Module:
        return Relations(facts["crop"])
