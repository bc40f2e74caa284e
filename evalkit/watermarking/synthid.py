"""SynthID-Text: a tournament over keyed coin flips decides which token is drawn (Dathathri et al. 2024, Nature).

Each of `depth` keys gives every token a coin g in {0, 1} after each context of ngram - 1 tokens; the draw prefers
tokens whose coins are 1. Two forms are in use, and a key of one says nothing of the other:

- hash: the coins of the authors' repository: initial value sha256 of the keys, bit 30 after twelve more steps of the
  linear congruential hash. The null takes the coins for fair and independent: Binomial(depth * n, 1/2) for the mean.
- table: the coins of Hugging Face transformers and MarkLLM: initial value 1, entry (hash mod 65536) of a table that
  `torch.randint` drew with seed 0 on the model's device. All coins of a token are then a function of 16 bits of its
  hash, so the null is known exactly: the distribution of the score over the 65536 values, which is not quite that of
  fair coins (the table of seed 0 has its own share of ones).

A context seen before in a text is not scored, and not marked: its coins are not fresh. The weighted mean gives early
keys more say, linspace(10, 1, depth); with whole weights both scores are sums on a lattice, and their tails exact.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from ..errors import BadSetting
from .evidence import Evidence
from .randomness import DEVICES, Device, bits
from .tails import lattice_tail

Form: TypeAlias = Literal["table", "hash"]
Weighting: TypeAlias = Literal["weighted", "mean"]
FORMS: tuple[Form, ...] = ("table", "hash")
WEIGHTINGS: tuple[Weighting, ...] = ("weighted", "mean")

MULTIPLIER, INCREMENT = 6364136223846793005, 1
TABLE_SIZE, TABLE_SEED = 65536, 0
HASH_STEPS, HASH_BIT = 12, 30
MOST_KEYS = 64
INT64 = 2**63 - 1

# The thirty keys of the examples of transformers and of the authors' notebook.
PUBLIC_KEYS = (
    654, 400, 836, 123, 340, 443, 597, 160, 57, 29, 590, 639, 13, 715, 468,
    990, 966, 226, 324, 585, 118, 504, 421, 521, 129, 669, 732, 225, 90, 960,
)  # fmt: skip


class SynthId:
    """One SynthID key: the model's vocabulary, the keys, the n-gram length, the form of the coins and their device."""

    def __init__(
        self,
        vocabulary: int,
        *,
        keys: Sequence[int] = PUBLIC_KEYS,
        ngram: int = 5,
        form: Form = "table",
        device: Device = "cpu",
        weighting: Weighting = "weighted",
    ) -> None:
        """Raises BadSetting for keys that repeat or are too many, an n-gram without context, an unknown word."""
        if form not in FORMS or weighting not in WEIGHTINGS:
            raise BadSetting(f"form {form!r}, score {weighting!r}; expected table or hash, weighted or mean")
        if device not in DEVICES:
            raise BadSetting(f"device {device!r}; expected cpu or cuda: where the table was drawn")
        if not 1 <= len(keys) <= MOST_KEYS or len({k % TABLE_SIZE for k in keys}) < len(keys):
            raise BadSetting(f"{len(keys)} keys; expected 1 to {MOST_KEYS} that differ modulo {TABLE_SIZE}")
        if not 2 <= ngram <= 32:
            raise BadSetting(f"ngram = {ngram}; expected 2 to 32: the scored token and its context")
        self.vocabulary, self.keys, self.ngram = vocabulary, tuple(int(k) for k in keys), ngram
        self.form, self.device, self.weighting = form, device, weighting
        self._table = torch.from_numpy(bits(TABLE_SIZE, TABLE_SEED, device)) if form == "table" else None
        self._start = 1 if form == "table" else _digest(self.keys)

    @property
    def needed(self) -> int:
        return self.ngram - 1

    @property
    def depth(self) -> int:
        return len(self.keys)

    @cached_property
    def weights(self) -> npt.NDArray[np.int64]:
        """Whole weights of the keys [depth]: all 1, or those of linspace(10, 1, depth) times depth - 1."""
        if self.weighting == "mean" or self.depth == 1:
            return np.ones(self.depth, np.int64)
        return 10 * (self.depth - 1) - 9 * np.arange(self.depth)

    # -------------------------------------------------------------------------------------------- coins

    def coins(self, ngrams: Tensor) -> Tensor:
        """g-values uint8 [N, depth] of n-grams int64 [N, ngram]."""
        return self._flipped(_hashed(torch.full((len(ngrams),), self._start), ngrams.T))

    def all_coins(self, context: list[int]) -> Tensor:
        """g-values uint8 [V, depth] of every token after one context."""
        state = _hashed(torch.tensor([self._start]), torch.tensor(context[-self.needed :])[:, None])
        return self._flipped(_hashed(state, torch.arange(self.vocabulary)[None]))

    def _flipped(self, state: Tensor) -> Tensor:
        drawn = (state[:, None] + torch.tensor(self.keys)) * MULTIPLIER + INCREMENT
        if self._table is not None:
            return self._table[drawn % TABLE_SIZE]
        for _ in range(HASH_STEPS):
            drawn = ((drawn + 1) * MULTIPLIER + INCREMENT) >> (64 // HASH_STEPS)
        return ((drawn >> HASH_BIT) & 1).to(torch.uint8)

    # -------------------------------------------------------------------------------------------- detection

    def scored(self, tokens: list[int]) -> Tensor:
        """g-values uint8 [n, depth] of the tokens whose context comes for the first time."""
        seen, ngrams = set(), []
        for i in range(self.needed, len(tokens)):
            context = tuple(tokens[i - self.needed : i])
            if context not in seen:
                seen.add(context)
                ngrams.append([*context, tokens[i]])
        # Without the type, no n-grams at all would be floats.
        return self.coins(torch.tensor(ngrams, dtype=torch.int64).reshape(-1, self.ngram))

    def test(self, tokens: list[int]) -> Evidence:
        """The (weighted) mean g-value, its z-score and exact p-value under the null of the key's form."""
        g = self.scored(tokens).numpy()
        n, total = len(g), int((g.astype(np.int64) * self.weights).sum())
        if n == 0:
            return Evidence(0.0, 0.0, 1.0, 0, len(tokens))
        k = np.arange(len(self.null))
        mean = float(self.null @ k)
        deviation = math.sqrt(n * float(self.null @ (k - mean) ** 2))
        p = lattice_tail(self.null, n, total)
        return Evidence(total / (n * int(self.weights.sum())), (total - n * mean) / deviation, p, n, len(tokens))

    @cached_property
    def null(self) -> npt.NDArray[np.float64]:
        """Chance of each weighted sum of one token's coins without a watermark, float64 [sum of weights + 1]."""
        size = int(self.weights.sum()) + 1
        if self._table is not None:
            # Every hash is as likely as any other; what the table makes of it is known.
            sums = (self._flipped(torch.arange(TABLE_SIZE)).numpy().astype(np.int64) * self.weights).sum(1)
            return np.bincount(sums, minlength=size) / TABLE_SIZE
        found = np.zeros(size)
        found[0] = 1.0
        for weight in self.weights:
            found = found + np.concatenate([np.zeros(weight), found[:-weight]])
        return found / 2.0**self.depth

    # -------------------------------------------------------------------------------------------- generation

    def biased(self, logits: Tensor, texts: list[list[int]]) -> Tensor:
        """The logits [B, V] as they are: the mark is in the draw."""
        return logits

    def choose(self, logits: Tensor, texts: list[list[int]], rng: Generator) -> Tensor:
        """Winners [B] of the tournaments; an ordinary draw where the context is too short or came before.

        Each key multiplies the probabilities by 1 + g - (mass of tokens with g = 1): Dathathri et al. 2024, methods,
        two-candidate tournaments. Averaged over keys the distribution is the model's own.
        """
        probabilities = logits.softmax(-1)
        for row, text in enumerate(texts):
            if not is_fresh(text, self.needed):
                continue
            g, p = self.all_coins(text).to(probabilities.dtype), probabilities[row]
            for level in range(self.depth):
                p = p * (1 + g[:, level] - (g[:, level] * p).sum())
            probabilities[row] = p.clamp_min(0)
        return torch.multinomial(probabilities, 1, generator=rng).squeeze(1)


def is_fresh(text: list[int], needed: int) -> bool:
    """Whether the last `needed` tokens of a text are all there and did not come before in it."""
    if len(text) < needed:
        return False
    last = text[-needed:]
    return all(text[i : i + needed] != last for i in range(len(text) - needed))


def _hashed(state: Tensor, numbers: Tensor) -> Tensor:
    """The linear congruential hash, one step a row of `numbers` [steps, N]; int64, wrapping around."""
    for number in numbers:
        state = (state + number) * MULTIPLIER + INCREMENT
    return state


def _digest(keys: Sequence[int]) -> int:
    """The initial value of the hash form: sha256 of the keys as int64, modulo 2^63 - 1."""
    return int.from_bytes(hashlib.sha256(np.array(keys, "<i8").tobytes()).digest(), "big") % INT64
