"""The floor for texts: training words drawn independently, as many as a training text has. Nothing may score below it.

Every word is real and every frequency right; only order, the whole of language, is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from evalkit.types import Batch, Control, Progress, SampleSet

from ._family import Family
from ._texts import pack, read_texts, unpack


class Unigram(Family):
    """Words from the training frequencies, lengths from the training lengths, nothing else."""

    name = "unigram"
    modality = "text"
    role = "floor"
    controls: ClassVar[tuple[Control, ...]] = ()

    _words: list[str]
    _counts: Tensor
    _lengths: Tensor

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        texts = [t.split() for t in read_texts(samples, self.name)]
        counts = sorted(Counter(w for t in texts for w in t).items())
        self._words = [w for w, _ in counts]
        self._counts = torch.tensor([c for _, c in counts], dtype=torch.float64)
        self._lengths = torch.tensor([len(t) for t in texts])
        return len(self._words)

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        lengths = self._lengths[torch.randint(len(self._lengths), (count,), generator=rng)].tolist()
        # Not torch.multinomial, which is limited to 2**24 categories and slow when it draws with replacement.
        edges = self._counts.cumsum(0)
        drawn = torch.rand(sum(lengths), generator=rng, dtype=torch.float64) * edges[-1]
        words = [self._words[i] for i in torch.searchsorted(edges, drawn, right=True).tolist()]
        texts, at = [], 0
        for length in lengths:
            texts.append(" ".join(words[at : at + length]))
            at += length
        return Batch(texts)

    def _tensors(self) -> dict[str, Tensor]:
        return {"words": pack(self._words), "counts": self._counts, "lengths": self._lengths}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._words, self._counts = unpack(tensors["words"]), tensors["counts"]
        self._lengths = tensors["lengths"]
