"""EXP, Aaronson's watermark: the context seeds a uniform number r for every token, and the draw is argmax r^(1/p).

Aaronson 2022 ("My AI safety lecture"), in the conventions of Fernandez et al. 2023, "Three bricks to consolidate
watermarks for large language models": the seed is folded from the last `ngram` tokens, r is `torch.rand(V)`, the score
a token -ln(1 - r). Under the null r is uniform, so the total of n tokens is Gamma(n, 1): an exact p-value. A pair of
context and token counts once (their scoring v2): without that, p-values of repetitive text are far too small.

The first scored token is number ngram + 1, counted from 0: the authors leave out the very first possible one.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Generator, Tensor

from ..errors import BadSetting
from .evidence import Evidence
from .randomness import DEVICES, Device, generator
from .synthid import is_fresh
from .tails import gamma_tail

SALT = 35317
MODULUS = 2**64 - 1
# Rows of uniform numbers kept, in numbers.
KEPT = 1 << 22


class Exponential:
    """One EXP key: the model's vocabulary, the seed, the salt, the length of the context, the generator's device."""

    def __init__(
        self, vocabulary: int, *, key: int = 0, salt: int = SALT, ngram: int = 2, device: Device = "cpu"
    ) -> None:
        """Raises BadSetting for a context of no tokens or an unknown device."""
        if not 1 <= ngram <= 32:
            raise BadSetting(f"ngram = {ngram}; expected 1 to 32 tokens of context")
        if device not in DEVICES:
            raise BadSetting(f"device {device!r}; expected cpu or cuda: where the numbers were drawn")
        self.vocabulary, self.key, self.salt, self.ngram, self.device = vocabulary, key, salt, ngram, device
        self._rows: OrderedDict[int, Tensor] = OrderedDict()

    @property
    def needed(self) -> int:
        return self.ngram

    def uniform(self, context: list[int]) -> Tensor:
        """r of every token after a context, float32 [V] in [0, 1)."""
        seed = self.key
        for token in context[-self.ngram :]:
            seed = (seed * self.salt + token) % MODULUS
        row = self._rows.get(seed)
        if row is None:
            rng = generator(self.device).manual_seed(seed)
            row = self._rows[seed] = torch.rand(self.vocabulary, generator=rng, device=self.device).cpu()
            if len(self._rows) * self.vocabulary > KEPT:
                self._rows.popitem(last=False)
        return row

    def test(self, tokens: list[int]) -> Evidence:
        """The mean of -ln(1 - r), its z-score and exact gamma p-value."""
        seen, total = set(), 0.0
        for i in range(self.ngram + 1, len(tokens)):
            pair = tuple(tokens[i - self.ngram : i + 1])
            if pair not in seen:
                seen.add(pair)
                total -= math.log1p(-float(self.uniform(list(pair[:-1]))[pair[-1]]))
        n = len(seen)
        if n == 0:
            return Evidence(0.0, 0.0, 1.0, 0, len(tokens))
        return Evidence(total / n, (total - n) / math.sqrt(n), gamma_tail(total, n), n, len(tokens))

    def biased(self, logits: Tensor, texts: list[list[int]]) -> Tensor:
        """The logits [B, V] as they are: the mark is in the draw."""
        return logits

    def choose(self, logits: Tensor, texts: list[list[int]], rng: Generator) -> Tensor:
        """argmax of ln r / p [B]; an ordinary draw where the context is too short or came before.

        A context decides the token, so a text that came back to one would go round in circles.
        """
        probabilities = logits.softmax(-1)
        drawn = torch.multinomial(probabilities, 1, generator=rng).squeeze(1)
        for row, text in enumerate(texts):
            if is_fresh(text, self.needed):
                p = probabilities[row]
                ranked = self.uniform(text).clamp_min(1e-30).log() / p
                drawn[row] = ranked.masked_fill(p <= 0, -math.inf).argmax()
        return drawn
