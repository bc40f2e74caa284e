"""What a watermark test says of one text: score, z-score, exact p-value, and how many tokens were scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Generator, Tensor


@dataclass(frozen=True)
class Evidence:
    """One text under one key.

    score: the scheme's own mean score a token (share of green tokens, mean g-value, mean -ln(1 - r)). z: its distance
    from the null in standard deviations. p: chance of so high a score without the watermark, exact, in [1e-300, 1].
    n: tokens scored, repeated ones left out. tokens: tokens of the text.
    """

    score: float
    z: float
    p: float
    n: int
    tokens: int


class Outcome(NamedTuple):
    """z-score, exact p-value and number of scored tokens."""

    z: float
    p: float
    n: int


class Scheme(Protocol):
    """One watermark with its key: tests a text's tokens, and draws tokens that carry it.

    `needed` is how many tokens before one decide its mark. `choose` draws one token [B] from logits [B, V] that went
    through temperature and truncation, given the tokens of each text so far; `biased` changes logits before that.
    """

    @property
    def vocabulary(self) -> int: ...
    @property
    def needed(self) -> int: ...
    def test(self, tokens: list[int]) -> Evidence: ...
    def biased(self, logits: Tensor, texts: list[list[int]]) -> Tensor: ...
    def choose(self, logits: Tensor, texts: list[list[int]], rng: Generator) -> Tensor: ...
