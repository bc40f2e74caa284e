"""What a text is made of: its character 1- to 4-grams, hashed and projected to 256 columns.

Each n-gram counts 1 + ln(count), signed hashing (Weinberger et al. 2009) gathers them in 4,096 bins, the vector is
scaled to length 1 and projected by a fixed matrix of random signs (Achlioptas 2003), which keeps cosines to about
1 / sqrt(256) = 0.06. Nothing is learnt, so no corpus is at home here.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ModalityMismatch, UnreadableSample
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

SEED = 0
ORDERS = (1, 2, 3, 4)
BINS = 4096
COLUMNS = 256


class CharNgrams:
    """Character 1- to 4-grams of a text, hashed and projected to 256 columns of length about 1."""

    name = "char_ngrams"
    modality: Literal["text"] = "text"
    version = 1

    def __init__(self) -> None:
        signs = np.random.RandomState(SEED).randint(0, 2, size=(BINS, COLUMNS)) * 2 - 1
        self._projection = torch.from_numpy((signs / np.sqrt(COLUMNS)).astype(np.float32))

    @property
    def digest(self) -> str:
        settings = {"orders": ORDERS, "hash": "crc32 of utf-8", "tf": "1 + ln", "norm": "l2"}
        return identity(self.name, self.version, settings, {"projection": self._projection})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, COLUMNS)})

    def prepare(self, sample: Media) -> Tensor:
        """float32 [4096] of length 1; UnreadableSample when the text is empty."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        if not sample:
            raise UnreadableSample("the text is empty")
        grams = Counter(sample[i : i + n] for n in ORDERS for i in range(len(sample) - n + 1))
        # crc32 and not hash(): Python's own hash of a str changes with every process.
        hashes = np.array([zlib.crc32(gram.encode("utf-8", errors="surrogatepass")) for gram in grams])
        weights = 1 + np.log(np.array(list(grams.values())))
        signs = 1 - 2 * (hashes // BINS % 2)
        binned = np.bincount(hashes % BINS, weights=signs * weights, minlength=BINS)
        # Two n-grams of one bin may cancel: a text of few n-grams can be zero, and then stays zero.
        return torch.from_numpy((binned / max(float(np.linalg.norm(binned)), 1e-12)).astype(np.float32))

    def to(self, device: str) -> None:
        self._projection = self._projection.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        return batch.float() @ self._projection
