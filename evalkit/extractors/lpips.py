"""How alike two images look to people: rows whose squared distance is their LPIPS distance.

LPIPS (Zhang et al. 2018, eq. 1) compares the activations of a classifier layer by layer: unit length along channels,
squared difference, weighted by what people's judgements taught, mean over the places. Written into one row,
sqrt(w) * unit activation / sqrt(places), that is the squared Euclidean distance of two rows: the mean over all pairs
of N images then costs N forward passes and no pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ..errors import RunFailed, UnknownName
from ..weights import HUB, Weights
from ._center import on_grey_levels, resized_float
from ._lpips_stacks import SIDE, STACKS
from ._network import Checkpoint, loaded, plain_float32
from .area import image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

# The published code maps [-1, 1] to ImageNet's mean and deviation.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPS = 1e-8
RESIZE = f"to {SIDE} x {SIDE} px, bicubic, antialiased, clipped to 0..255 (torch), aspect ratio not kept"

JUDGEMENTS = "BAPPS, judgements of people on pairs of distorted image patches"


def _heads(backbone: str, sha256: str) -> Weights:
    return Weights(
        file=f"{backbone}.pth",
        sha256=sha256,
        licence="BSD-2-Clause",
        trained_on=JUDGEMENTS,
        card="https://github.com/richzhang/PerceptualSimilarity",
        url="https://github.com/richzhang/PerceptualSimilarity",
        preprocessing="LPIPS 0.1",
    )


# Channel weights of LPIPS version 0.1, as they travel inside the torchmetrics package.
HEADS: Mapping[str, Weights] = MappingProxyType(
    {
        "alex": _heads("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        "squeeze": _heads("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
        "vgg": _heads("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    }
)


class Lpips:
    """Rows whose squared distance is LPIPS at 64 x 64: AlexNet, 31,872 columns; `lpips:squeeze` and `lpips:vgg` others.

    A row of the default takes 125 kB, of squeeze 465 kB, of vgg 2 MB.
    """

    name: str = "lpips"
    modality: Literal["image"] = "image"
    version = 1

    def __init__(self, variant: str = "", *, weights: Weights | None = None, path: Path | None = None) -> None:
        """variant: alex, squeeze or vgg. weights, path: another backbone file and where it lies. Raises UnknownName."""
        self._backbone = variant or "alex"
        if self._backbone not in STACKS:
            raise UnknownName("variant of lpips", variant, STACKS)
        self.name = "lpips" if self._backbone == "alex" else f"lpips:{self._backbone}"
        self._stack = STACKS[self._backbone]
        self._file = Checkpoint(self.name, weights or HUB.get(self._stack.weights), path)
        self._network: nn.Sequential | None = None
        self._roots: list[Tensor] = []

    @property
    def digest(self) -> str:
        settings = {
            "backbone": self._backbone,
            "weights": self._file.sha256,
            "heads": HEADS[self._backbone].sha256,
            "side": SIDE,
            "resize": RESIZE,
            "eps": EPS,
        }
        return identity("lpips", self.version, settings)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, self._stack.columns)})

    @property
    def about(self) -> Mapping[str, str]:
        return {
            "network": f"LPIPS 0.1, backbone {self._backbone}",
            "resize": RESIZE,
            "range": f"(x / 127.5 - 1 - {list(SHIFT)}) / {list(SCALE)}",
            "layer": f"{len(self._stack.taps)} activations, unit length along channels (eps {EPS}), times sqrt(weight)",
            "channel weights sha256": HEADS[self._backbone].sha256,
            **self._file.about,
        }

    def fetch(self) -> None:
        """Have both weight files on this machine; raises RunFailed, one line, when they cannot be had."""
        self._file.fetch()
        _channel_weights(self._backbone)

    def prepare(self, sample: Media) -> Tensor:
        """float32 [3, 64, 64] in [-1, 1]."""
        return self.batch_of(on_grey_levels(image_of(sample, self.name)))[0].contiguous()

    def batch_of(self, images: Tensor) -> Tensor:
        """float32 [B, 3, 64, 64] in [-1, 1] of images float32 [B, 3, H, W] in grey levels, their fractions kept."""
        return resized_float(images, SIDE).clamp(0, 255) / 127.5 - 1

    def to(self, device: str) -> None:
        if self._network is None:
            with torch.device("meta"):
                network = self._stack.build()
            own = network.state_dict()
            tensors = {key.removeprefix("features."): t for key, t in self._file.tensors().items()}
            loaded(self.name, network, {key: t for key, t in tensors.items() if key in own})
            self._network, self._roots = network, _channel_weights(self._backbone)
        self._network.to(device)
        self._roots = [root.to(device) for root in self._roots]

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, columns]: |row a - row b|^2 is the LPIPS distance of a and b."""
        if self._network is None:
            self.to(str(batch.device))
        shift = torch.tensor(SHIFT, device=batch.device).view(3, 1, 1)
        scale = torch.tensor(SCALE, device=batch.device).view(3, 1, 1)
        parts: list[Tensor] = []
        x = (batch - shift) / scale
        with plain_float32(batch.device):
            for i, layer in enumerate(self._network or ()):
                x = layer(x)
                if i in self._stack.taps:
                    unit = x / (x.square().sum(dim=1, keepdim=True) + EPS).sqrt()
                    places = x.shape[2] * x.shape[3]
                    parts.append((unit * self._roots[len(parts)] / places**0.5).flatten(1))
            return torch.cat(parts, dim=1)


def _channel_weights(backbone: str) -> list[Tensor]:
    """Square roots of the channel weights, [1, C, 1, 1] a layer; they were trained to be 0 or more."""
    package = find_spec("torchmetrics")
    if package is None or not package.submodule_search_locations:
        raise RunFailed("torchmetrics is not installed; it holds the channel weights of LPIPS")
    folder = Path(package.submodule_search_locations[0]) / "functional" / "image" / "lpips_models"
    tensors = Checkpoint(f"lpips:{backbone}", HEADS[backbone], folder / f"{backbone}.pth").tensors()
    return [tensors[key].float().sqrt() for key in sorted(tensors)]
