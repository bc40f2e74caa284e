"""Where an image of a digit, and the caption it was made for, lie for a small pair of encoders: CLIP in miniature.

Row = 32 numbers of unit length, whose cosine with the caption's row says how far the image shows what the words ask
for. Sixteen words have a meaning here: what (zero to nine), how thick (thin, medium, bold), which way (left, upright,
right), each relative to other digits of its class. All other words are passed over, as "a", "slanting" or a prefix are.

Trained on captions measured in the training split with the symmetric loss of Radford et al. 2021 (fig. 3), with two
changes because there are only ninety captions: an image chooses among all of them, a caption has several right images
in a batch. Parts of the caption are left out half of the time, so that "a seven" is a text of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModalityMismatch, UnreadableSample
from ..weights import SHIPPED, load_weights
from .area import area_average, image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

SIDE = 8
COLUMNS = 32
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = (*DIGITS, "thin", "medium", "bold", "left", "upright", "right")


class DualEncoder(nn.Module):
    """Unit rows [B, 32] of grey images [B, 1, 8, 8] in [0, 1], and of texts as the words they hold [B, 16]."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 40, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(40, 40, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(40 * (SIDE // 2) ** 2, 40),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(40, COLUMNS),
        )
        self.read = nn.Sequential(nn.Linear(len(WORDS), 48), nn.ReLU(), nn.Linear(48, COLUMNS))
        # ln of the inverse temperature of the softmax; a cosine does not need it.
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def images(self, x: Tensor) -> Tensor:
        return F.normalize(self.see(x), dim=1)

    def texts(self, words: Tensor) -> Tensor:
        return F.normalize(self.read(words), dim=1)


def bag(text: str) -> Tensor:
    """float32 [16]: 1 for each of `WORDS` that a text holds; "7" is "seven". Punctuation and capitals do not matter."""
    held = set(re.findall(r"[a-z]+|[0-9]+", text.lower()))
    held |= {word for i, word in enumerate(DIGITS) if str(i) in held}
    return torch.tensor([float(word in held) for word in WORDS])


class DigitsCaptions:
    """Image embedding of a dual encoder for handwritten digits and their captions: 32 columns of unit length."""

    name = "digits_captions"
    modality: Literal["image"] = "image"
    version = 1

    def __init__(self) -> None:
        # Built on meta, so that no first weights are drawn from the caller's random stream.
        with torch.device("meta"):
            self._model = DualEncoder()
        self._model.load_state_dict(load_weights(SHIPPED[self.name]), assign=True)
        self._model.eval().requires_grad_(False)

    @property
    def digest(self) -> str:
        settings = {"weights": SHIPPED[self.name].sha256, "side": SIDE, "resize": "area", "grey": "mean of RGB"}
        return identity(self.name, self.version, settings)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, COLUMNS)})

    def texts(self, prefix: str = "") -> DigitsCaptionsTexts:
        """The instrument that reads prompts into the same space; prefix: put before every text."""
        return DigitsCaptionsTexts(self._model, prefix)

    def prepare(self, sample: Media) -> Tensor:
        """float32 [1, 8, 8] grey in [0, 1]; other sizes are area-averaged to 8 x 8."""
        # The mean of the three channels leaves a grey image exactly as it is.
        grey = area_average(image_of(sample, self.name), SIDE).mean(axis=2)
        return torch.from_numpy(grey)[None] / 255

    def to(self, device: str) -> None:
        self._model.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 32]."""
        return self._model.images(batch.float())


class DigitsCaptionsTexts:
    """Text embedding of captions of digits: the other half of a `DigitsCaptions`, whose network it shares."""

    name = "digits_captions.text"
    modality: Literal["text"] = "text"
    version = 1

    def __init__(self, model: DualEncoder, prefix: str = "") -> None:
        self._model = model
        self._prefix = prefix

    @property
    def digest(self) -> str:
        settings = {"weights": SHIPPED["digits_captions"].sha256, "words": WORDS, "prefix": self._prefix}
        return identity(self.name, self.version, settings)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, COLUMNS)})

    def prepare(self, sample: Media) -> Tensor:
        """float32 [16], which words the text holds; UnreadableSample when it holds none that has a meaning here."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        words = bag(self._prefix + sample)
        if not words.any():
            shown = sample if len(sample) <= 80 else sample[:77] + "..."
            raise UnreadableSample(f"{shown!r} holds no word that {self.name} knows; it knows {', '.join(WORDS)}")
        return words

    def to(self, device: str) -> None:
        self._model.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 32]."""
        return self._model.texts(batch.float())
