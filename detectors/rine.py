"""RINE: what every block of CLIP ViT-L/14 says of an image, weighed feature by feature, and a small network on it.

Koutlis and Papadopoulos 2024, "Leveraging representations from intermediate encoder-blocks for synthetic image
detection". The class token after the second norm of each of the 24 blocks is projected, weighed by a softmax over the
blocks that was learnt for each feature, summed, projected again and judged.

The models taught ProGAN judge the centre 224 x 224, nothing resized (smaller images padded with black). The one taught
latent diffusion (`ldm`) averages the log-odds of ten crops of that size. Decision at P > 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from evalkit.weights import HUB

from ._published import Release
from ._views import Centre, TenSquares
from ._vit_l import BACKBONE, MEAN, SIDE, STD, OnClip

BLOCKS, WIDTH = 24, 1024
# Release -> (layers of each projection, their width): the authors' best settings for each training set.
SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"rine_1class": (4, 1024), "rine_2class": (4, 128), "rine_4class": (2, 1024), "rine_ldm": (4, 1024)}
)


class RINE(OnClip):
    """Koutlis and Papadopoulos 2024: all blocks of CLIP ViT-L/14, weighed (`1class`, `4class`, `ldm`: other sets)."""

    name = "rine"
    licence = "Apache-2.0"
    trained = "LSUN photographs and ProGAN images of chair, horse; `ldm`: COCO, LSUN and Latent Diffusion"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"network": "RINE on the class tokens of 24 blocks", "backbone": HUB[BACKBONE].sha256}
    )
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType(
        {
            "2class": Release("rine_2class", Centre(SIDE), MEAN, STD),
            "1class": Release("rine_1class", Centre(SIDE), MEAN, STD),
            "4class": Release("rine_4class", Centre(SIDE), MEAN, STD),
            "ldm": Release("rine_ldm", TenSquares(SIDE), MEAN, STD),
        }
    )

    def network(self) -> nn.Module:
        return Head(*SIZES[self.release.weights])

    def log_odds_of(self, x: Tensor) -> Tensor:
        crops = x.flatten(0, -4)
        said = super().log_odds_of(self.first_tokens(crops))
        return said.view(x.shape[0], -1).mean(dim=1)


class Head(nn.Module):
    """Log-odds [B] of class tokens [B, 24, 1024]; dropout, which only training has, keeps the authors' numbering."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1, BLOCKS, width))
        self.proj1 = _projection(WIDTH, layers, width)
        self.proj2 = _projection(width, layers, width)
        self.head = nn.Sequential(
            *(nn.Linear(width, width), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(width, width), nn.ReLU(), nn.Dropout()),
            nn.Linear(width, 1),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        weighed = torch.softmax(self.alpha, dim=1) * self.proj1(tokens)
        said: Tensor = self.head(self.proj2(weighed.sum(dim=1)))
        return said[:, 0]


def _projection(width_in: int, layers: int, width: int) -> nn.Sequential:
    made: list[nn.Module] = [nn.Dropout()]
    for i in range(layers):
        made += [nn.Linear(width if i else width_in, width), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*made)
