"""CNNDetection: ResNet-50 that was taught ProGAN images, blurred and JPEG-coded on the way, and found others too.

Wang et al. 2020, "CNN-generated images are surprisingly easy to spot... for now". At test time nothing is resized: the
paper cuts the centre 224 x 224 (zero-padding smaller images), the authors' later runs judge the whole image, which is
better on most of their sets and is what is done without a variant. Their log-odds rank well and are badly calibrated:
AP 98.5 and accuracy 73.4 % at P > 0.5 on StyleGAN are the same scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from ._published import PublishedJudge, Release, without_prefix
from ._resnet import ResNet, resnet50
from ._views import Centre, Whole

CROP = 224


class CNNDetection(PublishedJudge):
    """Wang et al. 2020: ResNet-50 on the whole image (`0.5`, `0.1`: share augmented; `0.5:crop`: centre 224 only)."""

    name = "cnndetection"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    trained = "ForenSynths: LSUN photographs and ProGAN images of 20 classes"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"network": "ResNet-50, one log-odds"})
    releases: ClassVar[Mapping[str, Release]] = MappingProxyType(
        {
            "0.5": Release("cnndetection_0.5", Whole()),
            "0.1": Release("cnndetection_0.1", Whole()),
            "0.5:crop": Release("cnndetection_0.5", Centre(CROP)),
            "0.1:crop": Release("cnndetection_0.1", Centre(CROP)),
        }
    )

    def network(self) -> ResNet:
        return resnet50()

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return without_prefix(tensors)
