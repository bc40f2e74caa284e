"""Where an image lies for DINOv2, a network taught by images alone: closer to people's judgement than Inception.

Row = the class token after the last norm (Oquab et al. 2023; Stein et al. 2023, section 4, who propose the FD on it).
Published values come from two dialects of resize that differ, the paper's (dgm-eval) and that of EDM2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownName
from ..weights import HUB, Weights
from ._center import View
from ._network import Checkpoint, hub_file, loaded, plain_float32
from .area import image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

# Width of a row, and timm's name of the architecture.
SIZES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "vits14": (384, "vit_small_patch14_dinov2"),
        "vitb14": (768, "vit_base_patch14_dinov2"),
        "vitl14": (1024, "vit_large_patch14_dinov2"),
        "vitg14": (1536, "vit_giant_patch14_dinov2"),
    }
)
DIALECTS: Mapping[str, View] = MappingProxyType(
    {"dgm": View(224, "squash"), "edm2": View(224, "squash", rounded=False)}
)
GRID = 16
# The offset of the published code: the positions are laid out for 16.1 patches a side and read at 16.
OFFSET = 0.1


class DINOv2:
    """Class token of DINOv2 ViT-L/14: 1024 columns; `dinov2:vitb14` other sizes, `dinov2:edm2` the resize of EDM2."""

    name: str = "dinov2"
    modality: Literal["image"] = "image"
    version = 1

    def __init__(self, variant: str = "", *, weights: Weights | None = None, path: Path | None = None) -> None:
        """variant: a size (vits14, vitb14, vitl14, vitg14) and a dialect (dgm, edm2), in any order, joined by ":".

        weights, path: another weight file and where it lies. Raises UnknownName for any other word.
        """
        words = [word for word in variant.split(":") if word]
        sizes = [word for word in words if word in SIZES]
        dialects = [word for word in words if word in DIALECTS]
        if len(sizes) > 1 or len(dialects) > 1 or len(words) > len(sizes) + len(dialects):
            raise UnknownName("variant of dinov2", variant, [*SIZES, *DIALECTS])
        self._size, self._dialect = (sizes or ["vitl14"])[0], (dialects or ["dgm"])[0]
        own = [word for word in (self._size, self._dialect) if word not in ("vitl14", "dgm")]
        self.name = ":".join(["dinov2", *own])
        self._columns, self._architecture = SIZES[self._size]
        self._view = DIALECTS[self._dialect]
        published = partial(hub_file, f"timm/{self._architecture}.lvd142m", "model.safetensors")
        self._file = Checkpoint(self.name, weights or HUB.get(f"dinov2_{self._size}"), path, published)
        self._network: nn.Module | None = None

    @property
    def digest(self) -> str:
        settings = {
            "size": self._size,
            "weights": self._file.sha256,
            "positions": f"bicubic to {GRID}, offset {OFFSET}",
            **self._view.about,
        }
        return identity("dinov2", self.version, settings)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, self._columns)})

    @property
    def about(self) -> Mapping[str, str]:
        layer = f"class token after the last norm, {self._columns} numbers"
        positions = (
            f"position embedding bicubic from the trained grid to {GRID} x {GRID}, offset {OFFSET}, as published"
        )
        return {
            "network": f"DINOv2 {self._size}",
            "dialect": self._dialect,
            **self._view.about,
            "layer": layer,
            "positions": positions,
            **self._file.about,
        }

    def fetch(self) -> None:
        """Have the weight file on this machine; raises RunFailed, one line, when it cannot be had."""
        self._file.fetch()

    def prepare(self, sample: Media) -> Tensor:
        """[3, 224, 224] in grey levels: uint8 for dgm, float32 for edm2."""
        return self._view.prepare(image_of(sample, self.name))

    def to(self, device: str) -> None:
        if self._network is None:
            self._network = _network(self.name, self._architecture, self._file.tensors())
        self._network.to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, columns], not normalised."""
        if self._network is None:
            self.to(str(batch.device))
        with plain_float32(batch.device):
            tokens: Tensor = self._network.forward_features(self._view.normalised(batch))  # type: ignore[union-attr, operator]
            return tokens[:, 0].clone()


def at_grid(positions: Tensor, grid: int = GRID) -> Tensor:
    """Position embedding [1, 1 + M * M, D] of class token and M x M patches, read on a grid x grid one.

    As the published code does, which the weights' FD values come from: bicubic without antialiasing, and at the scale
    (grid + 0.1) / M although there are only `grid` patches. timm's own resampling differs (antialiased, no offset).
    """
    patches = positions.shape[1] - 1
    side = round(patches**0.5)
    if side == grid:
        return positions
    laid = positions[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (grid + OFFSET) / side
    read = F.interpolate(laid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1].float(), read.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _network(name: str, architecture: str, tensors: dict[str, Tensor]) -> nn.Module:
    import timm

    # Built on meta, so that no first weights are drawn from the caller's random stream.
    with torch.device("meta"):
        network: nn.Module = timm.create_model(architecture, img_size=14 * GRID, num_classes=0)
    # Meta's file and timm's hold the same tensors; Meta's has a mask token for training and other names in the giant.
    kept = {_renamed(key): tensor for key, tensor in tensors.items() if key != "mask_token"}
    if "pos_embed" in kept:
        kept["pos_embed"] = at_grid(kept["pos_embed"])
    return loaded(name, network, kept)


def _renamed(key: str) -> str:
    return key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
