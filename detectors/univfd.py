"""UnivFD: one linear layer on the embedding of CLIP ViT-L/14, which never learnt what a fake is.

Ojha et al. 2023, "Towards universal fake image detectors that generalize across generative models". At test time the
centre 224 x 224 is cut out of the image and nothing is resized (smaller images are padded with black); the embedding is
not divided by its length. Decision at P > 0.5; the authors' "oracle" accuracies use a threshold found on the test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor, nn

from evalkit.weights import HUB

from ._published import Release
from ._views import Centre
from ._vit_l import BACKBONE, MEAN, SIDE, STD, OnClip

COLUMNS = 768


class UnivFD(OnClip):
    """Ojha et al. 2023: a linear layer on the CLIP ViT-L/14 embedding of the image's centre."""

    name = "univfd"
    licence = "MIT"
    trained = "ForenSynths: LSUN photographs and ProGAN images of 20 classes"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"network": "linear on encode_image, not normalised", "backbone": HUB[BACKBONE].sha256}
    )
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType({"progan": Release("univfd", Centre(SIDE), MEAN, STD)})

    def network(self) -> nn.Module:
        return nn.Linear(COLUMNS, 1)

    def log_odds_of(self, x: Tensor) -> Tensor:
        return super().log_odds_of(self.embedded(x))[:, 0]
