"""Judge by wording: which character and word n-grams a text uses, against those of real texts.

TF-IDF of character 2- to 4-grams and of word 1- and 2-grams, each part of length 1, and a calibrated logistic
regression: the honest floor that any other text detector has to beat. N-grams are hashed into a fixed number of bins,
so the model is four tensors and no vocabulary.

Whitespace is collapsed first: released sets of human and machine texts differ by a newline, and a detector that may
read it learns that instead of the wording.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from evalkit.errors import ModalityMismatch, UnreadableSample
from evalkit.types import SampleSet

from ._calibrate import calibrated_logistic
from ._fit import TrainingSet, collect
from ._judge import Judge
from ._token_rows import LEAST_CHARACTERS

if TYPE_CHECKING:
    from evalkit.types import Media

# For each of the two parts. With 2^16, of a lesson of 2,016 texts, several n-grams share most bins, and pairs that are
# hard to tell (biomedical answers) lose 0.004 to 0.007 of AUROC.
BINS = 1 << 18
CHARS, WORDS = (2, 3, 4), (1, 2)
FEWEST_TEXTS = 2  # an n-gram of a single training text teaches that text, not its author
MULTIPLE = 256
C = 10.0


class NgramLR(Judge):
    """Logistic regression on the TF-IDF of character 2- to 4-grams and word 1- and 2-grams of a text."""

    name = "ngram_lr"
    modality: ClassVar[Literal["text"]] = "text"
    least_characters: ClassVar[int] = LEAST_CHARACTERS
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {
            "bins": BINS,
            "chars": CHARS,
            "words": WORDS,
            "fewest_texts": FEWEST_TEXTS,
            "C": C,
            "hash": "crc32",
            "whitespace": "collapsed",
        }
    )

    def prepare(self, sample: Media) -> Tensor:
        """int32 [L, 2] of bin and count, padded with count 0; the first BINS bins hold characters, the next words."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"detector {self.name!r} judges texts and was given an image")
        if not sample.strip():
            raise UnreadableSample("the text is empty")
        text = " ".join(sample.split())
        counts = Counter(_hashed(_char_grams(text), 0) + _hashed(_word_grams(text), BINS))
        padded = np.zeros((-(-len(counts) // MULTIPLE) * MULTIPLE, 2), dtype=np.int32)
        padded[: len(counts)] = sorted(counts.items())
        return torch.from_numpy(padded)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        t = self._fitted()
        values, bins = _tf_idf(batch, t["idf"])
        log_odds = (values * t["coefficients"][bins]).sum(1) + t["intercept"]
        return torch.sigmoid(log_odds)[:, None]

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed shuffles the folds of the calibration."""
        data = collect(self.name, self.modality, self.prepare, real, fake)
        idf = _idf(data)
        coefficients, intercept = calibrated_logistic(_matrix(data, idf), data.is_fake, C, seed)
        self.to(device)
        tensors = {
            "idf": idf,
            "coefficients": torch.from_numpy(coefficients).float(),
            "intercept": torch.tensor([intercept]),
        }
        self._learn(tensors, {"seed": seed}, data.words)

    def _ready(self) -> None:
        sizes = {key: tuple(self._tensors[key].shape) for key in ("idf", "coefficients", "intercept")}
        if sizes != {"idf": (2 * BINS,), "coefficients": (2 * BINS,), "intercept": (1,)}:
            raise ValueError(f"tensors of shapes {sizes} are not this detector's")


def _char_grams(text: str) -> list[str]:
    return [text[i : i + n] for n in CHARS for i in range(len(text) - n + 1)]


def _word_grams(text: str) -> list[str]:
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return [" ".join(words[i : i + n]) for n in WORDS for i in range(len(words) - n + 1)]


def _hashed(grams: list[str], first_bin: int) -> list[int]:
    # crc32 and not hash(): Python's own hash of a str changes with every process.
    return [first_bin + zlib.crc32(gram.encode("utf-8", errors="surrogatepass")) % BINS for gram in grams]


def _idf(data: TrainingSet) -> Tensor:
    """ln((1 + N) / (1 + texts with it)) + 1, float32 [2 * BINS]; zero for n-grams of fewer than two texts."""
    texts = np.zeros(2 * BINS)
    for prepared in data.prepared:
        bins, counts = prepared.numpy().T
        texts[bins[counts > 0]] += 1
    idf = np.log((1 + len(data.prepared)) / (1 + texts)) + 1
    return torch.from_numpy(np.where(texts >= FEWEST_TEXTS, idf, 0.0)).float()


def _tf_idf(batch: Tensor, idf: Tensor) -> tuple[Tensor, Tensor]:
    """Values [B, L] and bins [B, L] of texts [B, L, 2]: (1 + ln count) * idf, each part scaled to length 1."""
    bins, counts = batch[..., 0].long(), batch[..., 1]
    values = (1 + counts.clamp_min(1).float().log()) * idf[bins] * (counts > 0)
    is_word = (bins >= BINS).float()
    for part in (is_word, 1 - is_word):
        length = (values.square() * part).sum(1, keepdim=True).sqrt().clamp_min(1e-12)
        values = values * (part / length + (1 - part))
    return values, bins


def _matrix(data: TrainingSet, idf: Tensor) -> csr_matrix:
    """The training texts as sparse rows [N, 2 * BINS]."""
    entries = [[part[0].numpy() for part in _tf_idf(prepared[None], idf)] for prepared in data.prepared]
    values, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    rows = np.repeat(np.arange(len(entries)), [len(v) for v, _ in entries])
    return csr_matrix((values, (rows, columns)), shape=(len(entries), 2 * BINS))
