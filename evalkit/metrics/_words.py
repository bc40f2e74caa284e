"""Texts as words, and words as n-grams: what the metrics of texts count.

Words are what whitespace separates; an n-gram never crosses from one text into the next.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ModalityMismatch
from ..types import SampleSet

Words = Sequence[str]
Gram = tuple[str, ...]


def texts_of(samples: SampleSet) -> list[str]:
    """The texts of a set, in order; ModalityMismatch for images."""
    texts = []
    for sample in samples:
        text = sample.load()
        if not isinstance(text, str):
            raise ModalityMismatch(f"{samples.name!r} holds {samples.modality} samples; this metric reads texts")
        texts.append(text)
    return texts


def ngrams_of(words: Words, n: int) -> list[Gram]:
    """All n-grams of the words, repeats included; none of fewer than n words."""
    return list(zip(*(words[i:] for i in range(n)), strict=False))
