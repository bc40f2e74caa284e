"""Where an image, and the text it was made for, lie for CLIP: one space for both, taught by captions of the web.

Rows are projected embeddings, not normalised: the CLIP-FID of clean-fid wants them so, and a metric that wants unit
rows (CMMD, CLIPScore) divides by the length itself. Float32 on every device: OpenAI's own loader runs in half precision
on a GPU, where the same image then has other features than on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ..errors import ModalityMismatch, UnknownName
from ..weights import HUB, Weights
from ._center import CLIP_MEAN, CLIP_STD, Fit, View
from ._network import plain_float32
from ._open_clip import Tower, configuration, model_names
from .area import image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

MODEL, TAG = "ViT-B-32", "openai"
PINNED: Mapping[str, str] = MappingProxyType(
    {"ViT-B-32": "clip_vit_b_32", "ViT-L-14": "clip_vit_l_14", "ViT-L-14-336": "clip_vit_l_14_336"}
)
# CMMD cuts the square out first (Jayasumana et al. 2024, published code); all others resize first, as CLIP was trained.
CROPPED_FIRST = "ViT-L-14-336"


class Clip:
    """CLIP image embedding by open_clip, ViT-B/32 of OpenAI: 512 columns; `clip:ViT-L-14-336:openai` is CMMD's network.

    `clip:model:tag` is any pair that open_clip knows; without a tag the weights are OpenAI's.
    """

    name: str = "clip"
    modality: Literal["image"] = "image"
    version = 1

    def __init__(self, variant: str = "", *, weights: Weights | None = None, path: Path | None = None) -> None:
        """variant: `model` or `model:tag` of open_clip. weights, path: another weight file and where it lies.

        Raises UnknownName for a model that open_clip does not know; an unknown tag is found by `fetch`.
        """
        model, _, tag = variant.partition(":")
        model, tag = model or MODEL, tag or TAG
        if tag == TAG:
            # OpenAI's weights were trained with QuickGELU, whatever the model is called.
            model = model.removesuffix("-quickgelu")
        if model not in (known := model_names()):
            raise UnknownName("CLIP model", model, known)
        self.name = "clip" if (model, tag) == (MODEL, TAG) else f"clip:{model}:{tag}"
        self._columns, side = configuration(model)
        fit: Fit = "crop" if (model, tag) == (CROPPED_FIRST, TAG) else "shorter"
        view = View(side, fit, CLIP_MEAN, CLIP_STD)
        pinned = HUB.get(PINNED[model]) if tag == TAG and model in PINNED else None
        self._tower = Tower(self.name, model, tag, view, weights or pinned, path)

    @property
    def digest(self) -> str:
        return identity("clip", self.version, {**self._tower.terms, **self._tower.view.about})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, self._columns)})

    @property
    def about(self) -> Mapping[str, str]:
        layer = f"projected image embedding, not normalised, {self._columns} numbers"
        return {**self._tower.about, **self._tower.view.about, "layer": layer}

    def texts(self, prefix: str = "") -> ClipTexts:
        """The instrument that reads prompts into the same space with the same network.

        prefix: put before every text; "A photo depicts " for the CLIPScore of Hessel et al. 2021.
        """
        return ClipTexts(self.name, self._columns, self._tower, prefix)

    def fetch(self) -> None:
        """Have the weight file on this machine; raises RunFailed, one line, or UnknownName for an unknown tag."""
        self._tower.fetch()

    def prepare(self, sample: Media) -> Tensor:
        """uint8 [3, side, side] in grey levels, side as the model takes it (224, 336)."""
        self._tower.fetch()
        return self._tower.view.prepare(image_of(sample, self.name))

    def to(self, device: str) -> None:
        self._tower.to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, columns]."""
        with plain_float32(batch.device):
            rows: Tensor = self._tower.network(batch.device).encode_image(self._tower.view.normalised(batch))
            return rows.float()


class ClipTexts:
    """CLIP text embedding, of prompts: the other half of a `Clip`, whose network it shares; rows are not normalised."""

    modality: Literal["text"] = "text"
    version = 1

    def __init__(self, image_side: str, columns: int, tower: Tower, prefix: str = "") -> None:
        self.name = f"{image_side}.text"
        self._columns = columns
        self._tower = tower
        self._prefix = prefix

    @property
    def digest(self) -> str:
        return identity("clip.text", self.version, {**self._tower.terms, "prefix": self._prefix})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, self._columns)})

    @property
    def about(self) -> Mapping[str, str]:
        cut = "texts longer than the context are cut before its last token, which stays the end token"
        layer = f"projected text embedding, not normalised, {self._columns} numbers"
        return {**self._tower.about, "prefix": self._prefix, "long texts": cut, "layer": layer}

    def fetch(self) -> None:
        """Have the weight file and the tokenizer on this machine; raises RunFailed, one line."""
        self._tower.fetch()
        self._tower.tokens("")

    def prepare(self, sample: Media) -> Tensor:
        """int64 [context], 77 tokens for OpenAI's models: start, text, end, zeros."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        return self._tower.tokens(self._prefix + sample)

    def to(self, device: str) -> None:
        self._tower.to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, columns]."""
        with plain_float32(batch.device):
            rows: Tensor = self._tower.network(batch.device).encode_text(batch)
            return rows.float()
