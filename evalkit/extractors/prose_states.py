"""How a text reads, word after word: where the small language model of English reference prose is surprised.

Row = mean over the bytes of a text of -ln p(byte) times the recurrent state that predicted it, cast to 128 columns.
The state holds what came before, the surprise says how ill the next byte fits it: words in a false order are common
words in unlikely places. A bag of n-grams cannot see that, nor can the mean of the states alone, which real words leave
almost where it was in whatever order they come.

- A mean and not a sum, so that a long text lies where a short one does; only the scatter of short texts is wider.
- 256 columns would be about as many as samples, so a fixed matrix of random signs (Achlioptas 2003) keeps 128.
- The model learnt from `embedded:prose/train`, so it is less surprised by copies from there than by new real text, and
  they lie apart from it. Compare with held-out text.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ModalityMismatch
from .identity import identity
from .prose_lm import OUTSIDE, WIDTH, ProseLM

if TYPE_CHECKING:
    from ..types import Media

SEED = 0
COLUMNS = 128


class ProseStates:
    """Surprise-weighted mean state of a small recurrent language model of English reference prose, 128 columns."""

    name = "prose_states"
    modality: Literal["text"] = "text"
    version = 1

    def __init__(self) -> None:
        self._lm = ProseLM()
        signs = np.random.RandomState(SEED).randint(0, 2, size=(WIDTH, COLUMNS)) * 2 - 1
        self._projection = torch.from_numpy((signs / np.sqrt(COLUMNS)).astype(np.float32))

    @property
    def digest(self) -> str:
        settings = {"model": self._lm.digest, "pooling": "mean of nats * state"}
        return identity(self.name, self.version, settings, {"projection": self._projection})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, COLUMNS)})

    def prepare(self, sample: Media) -> Tensor:
        """UTF-8 bytes as int16 [T], padded to a multiple of 64; UnreadableSample when empty or over 1 MiB."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        return self._lm.prepare(sample)

    def to(self, device: str) -> None:
        self._lm.to(device)
        self._projection = self._projection.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 128], in nats: states lie between -1 and 1."""
        total = torch.zeros(len(batch), WIDTH, device=batch.device)
        for states, nats in self._lm.states(batch):
            total += torch.einsum("btd,bt->bd", states, nats)
        return total / (batch != OUTSIDE).sum(1, keepdim=True) @ self._projection
