"""Texts from a Markov chain: the next word by what followed the last few words in the training texts.

- P(w | h) = (c(h w) + T(h) P(w | h')) / (c(h) + T(h)): Witten-Bell interpolation (Chen & Goodman 1999, sec. 2.5), where
  h' is h without its oldest word, c counts and T(h) is how many different words followed h. The recursion ends in the
  uniform distribution over the vocabulary.
- A draw walks the same recursion: with probability c(h) / (c(h) + T(h)) from what followed h, else from h'. It needs no
  array over the vocabulary.
- An end token is learnt like a word, so that length is too. Words are what stands between blanks; at level
  "character" every character is a word.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import BadSetting
from evalkit.types import Batch, Control, Progress, SampleSet

from ._family import Family
from ._texts import pack, read_texts, unpack

# The end of a text is token 0; before its start, a context is filled up with it too.
END = 0
LEVELS = ("word", "character")


class Ngram(Family):
    """Markov chain over words or characters with interpolated back-off."""

    name = "ngram"
    modality = "text"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("order", 3, "length of the longest n-gram counted, so order - 1 tokens are remembered", 1, 10),
        Control("level", "word", "'word' or 'character'"),
    )

    _vocabulary: list[str]
    # grams[k]: int32 [M, k + 1] n-grams in lexical order; counts[k]: int32 [M].
    _grams: list[Tensor]
    _counts: list[Tensor]
    # Context -> what followed it: tokens and running counts.
    _followers: dict[tuple[int, ...], tuple[list[int], list[int]]]
    _longest: int

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        if self._settings["level"] not in LEVELS:
            raise BadSetting(f"ngram.level = {self._settings['level']!r}; expected 'word' or 'character'")

    @property
    def order(self) -> int:
        return int(self._settings["order"])

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens that `probabilities` speaks of; the first is the end of the text."""
        return tuple(self._vocabulary)

    def probabilities(self, context: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """P(token | context), float64 [V] in the order of `vocabulary`, summing to 1; unseen contexts back off."""
        number = {w: i for i, w in enumerate(self._vocabulary)}
        # -1 stands for a token never seen, so that no context with it is found.
        h = self._context([number.get(w, -1) for w in context])
        p = np.full(len(self._vocabulary), 1 / len(self._vocabulary))
        for k in range(len(h) + 1):
            found = self._followers.get(h[len(h) - k :])
            if found is None:
                break
            tokens, running = found
            c = np.zeros_like(p)
            c[tokens] = np.diff(running, prepend=0)
            p = (c + len(tokens) * p) / (running[-1] + len(tokens))
        return p

    def _context(self, tokens: list[int]) -> tuple[int, ...]:
        """The last order - 1 tokens, filled up before the start of the text."""
        return tuple([END] * (self.order - 1) + tokens)[len(tokens) :]

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        texts = [self._split(t) for t in read_texts(samples, self.name)]
        self._vocabulary = ["", *sorted({w for t in texts for w in t})]
        number = {w: i for i, w in enumerate(self._vocabulary)}
        counters: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(self.order)]
        for text in texts:
            tokens = [END] * (self.order - 1) + [number[w] for w in text] + [END]
            for at in range(self.order - 1, len(tokens)):
                for k, counter in enumerate(counters):
                    counter[tuple(tokens[at - k : at + 1])] += 1
        tables = [sorted(counter.items()) for counter in counters]
        self._grams = [torch.tensor([g for g, _ in table], dtype=torch.int32) for table in tables]
        self._counts = [torch.tensor([c for _, c in table], dtype=torch.int32) for table in tables]
        self._longest = max(map(len, texts))
        self._index()
        return sum(len(c) for c in self._counts)

    def _index(self) -> None:
        self._followers = {}
        for grams, counts in zip(self._grams, self._counts, strict=True):
            for (*context, token), count in zip(grams.tolist(), counts.tolist(), strict=True):
                tokens, running = self._followers.setdefault(tuple(context), ([], []))
                tokens.append(token)
                running.append(count + (running[-1] if running else 0))

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        chance = np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
        return Batch([self._text(chance) for _ in range(count)])

    def _text(self, chance: np.random.Generator) -> str:
        tokens: list[int] = []
        while len(tokens) < self._longest:
            token = self._next(self._context(tokens), chance)
            if token != END:
                tokens.append(token)
            elif self._join(tokens).strip():
                break
            # An end before the first word would be an empty text: draw again.
        return self._join(tokens).strip()

    def _next(self, h: tuple[int, ...], chance: np.random.Generator) -> int:
        for k in range(len(h) + 1):
            found = self._followers.get(h[k:])
            if found is not None:
                tokens, running = found
                u = chance.random() * (running[-1] + len(tokens))
                if u < running[-1]:
                    return tokens[bisect_right(running, u)]
        return int(chance.integers(len(self._vocabulary)))

    def _split(self, text: str) -> list[str]:
        return text.split() if self._settings["level"] == "word" else list(text)

    def _join(self, tokens: list[int]) -> str:
        return (" " if self._settings["level"] == "word" else "").join(self._vocabulary[i] for i in tokens)

    def _tensors(self) -> dict[str, Tensor]:
        kept = {f"grams.{k}": g for k, g in enumerate(self._grams)} | {
            f"counts.{k}": c for k, c in enumerate(self._counts)
        }
        return {"vocabulary": pack(self._vocabulary), **kept}

    def _facts(self) -> dict[str, Any]:
        return {"longest": self._longest}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._vocabulary, self._longest = unpack(tensors["vocabulary"]), int(facts["longest"])
        self._grams = [tensors[f"grams.{k}"] for k in range(self.order)]
        self._counts = [tensors[f"counts.{k}"] for k in range(self.order)]
        self._index()
