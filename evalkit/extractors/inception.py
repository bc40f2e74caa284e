"""What the field's FID, KID and inception score look at an image with: Inception v3 of 2015-12-05.

The name says all that a number depends on: `inception` resizes as clean-fid does and reads the torch port's weights;
`inception:tf1`, `inception:768`, `inception:tf1:spatial:adm` say what they do otherwise. On a CPU, EVALKIT_BACKEND
chooses who does the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..errors import BadSetting, UnknownName
from ..weights import HUB, Weights, obtain
from ._backends import Runner, apart, asked_for, candidates
from ._inception_files import open_network
from ._inception_net import SIDE, WIDTHS, InceptionNet, full_precision
from ._resize import DIALECTS, in_range, resize
from .area import image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

# Layer words and what they read; without one the row is "pool3".
LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "64": "first max pool, spatial mean",
        "192": "second max pool, spatial mean",
        "768": "Mixed_6e, spatial mean",
        "spatial": "mixed_6/conv after its ReLU, first 7 of 192 channels, 17 x 17 x 7 (sFID of guided-diffusion)",
        "logits": "1008 class scores with bias",
        "pool3": "pool3 (2048), then 1008 class scores without bias",
    }
)
# Weight words and their records.
FILES: Mapping[str, str] = MappingProxyType(
    {"torch": "inception", "nvidia": "inception_nvidia", "adm": "inception_adm"}
)
KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dialect": tuple(DIALECTS),
        "layer": tuple(word for word in LAYERS if word != "pool3"),
        "weight file": tuple(FILES),
        "precision": ("bf16",),
    }
)


class Inception:
    """Features and class scores of Inception v3 of 2015-12-05, on which published FIDs rest: 2048 + 1008 columns.

    variant: words joined by ":", at most one dialect (clean, tf1, legacy_pytorch, torchmetrics), one layer (64, 192,
    768, spatial, logits), one weight file (torch, nvidia, adm), and bf16, which computes in bfloat16: other features,
    and faster where the device is made for it. The head "logits" holds the class scores without their bias: what the
    inception score has been computed from since TensorFlow's graph (the layer `logits` has it).
    weights, path: another record and where its file lies. Raises UnknownName and BadSetting for a variant that is none.
    """

    name: str = "inception"
    modality: Literal["image"] = "image"
    version = 1

    def __init__(self, variant: str = "", *, weights: Weights | None = None, path: Path | None = None) -> None:
        chosen = _chosen(variant)
        self._dialect_name = chosen.get("dialect", "clean")
        self._dialect = DIALECTS[self._dialect_name]
        self._layer = chosen.get("layer", "pool3")
        self._layout = chosen.get("weight file", "torch")
        self._weights = weights or HUB[FILES[self._layout]]
        self._path = path
        self._precision = chosen.get("precision", "float32")
        self._network: InceptionNet | None = None
        self._runner: Runner | None = None
        # bf16 only, once something was measured: how far its first batch lies from float32, relative to the largest.
        self.drift: float | None = None
        defaults = ("clean", "pool3", "torch", "float32")
        words = (self._dialect_name, self._layer, self._layout, self._precision)
        self.name = ":".join(["inception", *(w for w, d in zip(words, defaults, strict=True) if w != d)])

    @property
    def digest(self) -> str:
        dialect = self._dialect
        settings: dict[str, object] = {
            "resize": [dialect.filter, dialect.antialias, dialect.half_pixel],
            "range": dialect.range,
            "layer": self._layer,
            "weights": self._weights.sha256,
        }
        if self._precision != "float32":
            settings["precision"] = self._precision
        return identity("inception", self.version, settings)

    @property
    def heads(self) -> Mapping[str, slice]:
        everything = slice(0, WIDTHS[self._layer])
        if self._layer == "pool3":
            return MappingProxyType({"features": slice(0, 2048), "logits": slice(2048, everything.stop)})
        if self._layer == "logits":
            return MappingProxyType({"features": everything, "logits": everything})
        return MappingProxyType({"features": everything})

    @property
    def about(self) -> Mapping[str, str]:
        """What this instrument does, in words."""
        return MappingProxyType(
            {
                "dialect": self._dialect_name,
                "resize": f"{SIDE} x {SIDE}, {self._dialect.says}",
                "range": self._dialect.range,
                "layer": LAYERS[self._layer],
                "weights": self._weights.file,
                "weights sha256": self._weights.sha256,
                "precision": "bfloat16 (autocast)" if self._precision == "bf16" else self._precision,
            }
        )

    @property
    def backend(self) -> str | None:
        """Who made the rows, for a record's environment; None before anything was measured."""
        if self._runner is None or not self._runner.used:
            return None
        drift = [] if self.drift is None else [f"bfloat16, {self.drift:.1e} from float32"]
        return ", ".join([*self._runner.used, *drift])

    def fetch(self) -> None:
        """Make sure that the weight file is on this machine, and the backend if one is asked for by name.

        Raises RunFailed, one line, when the file cannot be had, BadSetting or UnknownName for the backend.
        """
        asked_for()
        obtain(self._weights, self._path)

    def prepare(self, sample: Media) -> Tensor:
        """uint8 [3, H, W]: resizing belongs to the device, where a batch of it is a few products."""
        return torch.from_numpy(image_of(sample, "inception").transpose(2, 0, 1).copy())

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """Images uint8 [3, H, W] of any sizes -> one batch float32 [B, 3, 299, 299], on the device they lie on."""
        shapes: dict[torch.Size, list[int]] = {}
        for i, image in enumerate(prepared):
            shapes.setdefault(image.shape, []).append(i)
        device = prepared[0].device
        if len(shapes) == 1:
            # All of one size, the usual case: nothing to put back in order.
            with full_precision(device):
                made = in_range(resize(torch.stack(list(prepared)), self._dialect, SIDE), self._dialect)
            return made.contiguous(memory_format=torch.channels_last)
        batch = torch.empty(len(prepared), 3, SIDE, SIDE, device=device).to(memory_format=torch.channels_last)
        with full_precision(device):
            for where in shapes.values():
                images = torch.stack([prepared[i] for i in where])
                batch[where] = in_range(resize(images, self._dialect, SIDE), self._dialect)
        return batch

    def to(self, device: str) -> None:
        word = asked_for()
        backends = candidates(word, device, exact=self._precision == "float32")
        if self._network is None:
            self._network = open_network(self._layout, self._weights, self._path, self._layer)
            self._runner = Runner(self._network, self._by_torch, word, backends)
        self._network.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, D] of an arranged batch, or of images of one size as `prepare` gives them, uint8 [B, 3, H, W]."""
        if self._network is None:
            self.to("cpu")
        assert self._network is not None and self._runner is not None
        batch = batch.to(self._network.fc.weight.device)
        if batch.dtype == torch.uint8:
            batch = self.arrange(list(batch))
        return self._runner(batch)

    def _by_torch(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        if self._precision == "float32":
            return self._exact(images)
        assert self._network is not None
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            rows: Tensor = self._network(images).float()
        if self.drift is None:
            self.drift = apart(rows, self._exact(images))
        return rows

    def _exact(self, images: Tensor) -> Tensor:
        assert self._network is not None
        with full_precision(images.device):
            rows: Tensor = self._network(images)
        return rows


def _chosen(variant: str) -> dict[str, str]:
    """The word of each kind that a variant names."""
    chosen: dict[str, str] = {}
    for word in variant.split(":") if variant else []:
        kind = next((kind for kind, words in KINDS.items() if word in words), None)
        if kind is None:
            raise UnknownName("variant of inception", word, [w for words in KINDS.values() for w in words])
        if kind in chosen:
            raise BadSetting(f"inception takes one {kind} and was given {chosen[kind]!r} and {word!r}; choose one")
        chosen[kind] = word
    return chosen
