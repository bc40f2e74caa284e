"""Where an image lies for ConvNeXt, a modern network of convolutions: a second opinion beside the transformers.

Row = the spatial mean of the last feature map, before any norm, as in the FDr of Yang et al. 2026 (arXiv 2604.28190),
who divide Frechet distances of six networks by those between training and validation images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ..errors import UnknownName
from ..weights import HUB, Weights
from ._center import View
from ._network import Checkpoint, hub_file, loaded, plain_float32
from .area import image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

VIEW = View(224, "squash", rounded=False)
# Width of a row, and timm's name of the architecture.
NETWORKS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {"v2-base": (1024, "convnextv2_base"), "tiny": (768, "convnext_tiny")}
)
# The weights of V2-B that FDr takes; nobody publishes their digest.
V2_BASE = partial(hub_file, "timm/convnextv2_base.fcmae_ft_in22k_in1k", "model.safetensors")


class ConvNeXt:
    """Mean last feature map of ConvNeXt V2-B (weights for non-commercial use): 1024 columns; `convnext:tiny` is free.

    V2-B was taught on ImageNet-22k and 1k; tiny is torchvision's, taught on ImageNet-1k, with 768 columns.
    """

    name: str = "convnext"
    modality: Literal["image"] = "image"
    version = 1

    def __init__(self, variant: str = "", *, weights: Weights | None = None, path: Path | None = None) -> None:
        """variant: v2-base or tiny. weights, path: another weight file and where it lies. Raises UnknownName."""
        self._size = variant or "v2-base"
        if self._size not in NETWORKS:
            raise UnknownName("variant of convnext", variant, NETWORKS)
        self.name = "convnext" if self._size == "v2-base" else f"convnext:{self._size}"
        self._columns, self._architecture = NETWORKS[self._size]
        self._file = Checkpoint(self.name, weights or HUB.get(self._architecture), path, V2_BASE)
        self._network: nn.Module | None = None

    @property
    def digest(self) -> str:
        settings = {"network": self._architecture, "weights": self._file.sha256, "pooling": "mean", **VIEW.about}
        return identity("convnext", self.version, settings)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, self._columns)})

    @property
    def about(self) -> Mapping[str, str]:
        layer = f"spatial mean of the last feature map, before the norm, {self._columns} numbers"
        return {"network": self._architecture, **VIEW.about, "layer": layer, **self._file.about}

    def fetch(self) -> None:
        """Have the weight file on this machine; raises RunFailed, one line, when it cannot be had."""
        self._file.fetch()

    def prepare(self, sample: Media) -> Tensor:
        """float32 [3, 224, 224] in grey levels."""
        return VIEW.prepare(image_of(sample, self.name))

    def to(self, device: str) -> None:
        if self._network is None:
            self._network = _network(self.name, self._architecture, self._file.tensors())
        self._network.to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, columns], not normalised."""
        if self._network is None:
            self.to(str(batch.device))
        images = VIEW.normalised(batch).contiguous(memory_format=torch.channels_last)
        with plain_float32(batch.device):
            maps: Tensor = self._network.forward_features(images)  # type: ignore[union-attr, operator]
            return maps.mean(dim=(2, 3))


def _network(name: str, architecture: str, tensors: dict[str, Tensor]) -> nn.Module:
    import timm

    # Built on meta, so that no first weights are drawn from the caller's random stream.
    with torch.device("meta"):
        network: nn.Module = timm.create_model(architecture, num_classes=0)
    named = dict(filter(None, (_renamed(key, tensor) for key, tensor in tensors.items())))
    return loaded(name, network, named).to(memory_format=torch.channels_last)


def _renamed(key: str, tensor: Tensor) -> tuple[str, Tensor] | None:
    """The name timm has for a tensor of torchvision's file; a timm name stays; None for the classifier."""
    if key.startswith(("head.fc.", "classifier.2.")):
        return None
    if found := re.fullmatch(r"features\.0\.([01])\.(\w+)", key):
        return f"stem.{found[1]}.{found[2]}", tensor
    if found := re.fullmatch(r"features\.(\d)\.(\d+)\.layer_scale", key):
        return f"stages.{int(found[1]) // 2}.blocks.{found[2]}.gamma", tensor.flatten()
    if found := re.fullmatch(r"features\.(\d)\.(\d+)\.block\.(\d)\.(\w+)", key):
        part = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}[found[3]]
        return f"stages.{int(found[1]) // 2}.blocks.{found[2]}.{part}.{found[4]}", tensor
    if found := re.fullmatch(r"features\.(\d)\.([01])\.(\w+)", key):
        return f"stages.{int(found[1]) // 2}.downsample.{found[2]}.{found[3]}", tensor
    return key.replace("classifier.0.", "head.norm."), tensor
