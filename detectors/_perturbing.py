"""Small changes to a text that leave most of it standing, for detectors that compare a text with its neighbours.

DetectGPT (Mitchell et al. 2023) has T5 fill spans of two words; here nothing is downloaded, so the fillers are words of
the text itself, or neighbours change places. That is not T5: what is put in does not fit its sentence, so every text
loses likelihood, and how much it loses says less of where it stands. A perturber that fills spans with a language model
is any object with `name`, `digest` and a call: `ZeroShot("detectgpt", perturber=mine)`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

# Of the published code: spans of two words, a word on either side of each left alone, and 0.3 of the words over the
# four that a span takes with its margins; so 0.15 of the words are replaced.
SPAN, MARGIN, SHARE = 2, 1, 0.3
# A place for a span is sought so often for each span; short texts have no room for all.
TRIES = 20


class Perturber(Protocol):
    """Makes n changed copies of a text; the same text, n and seed give the same copies."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    def __call__(self, text: str, n: int, seed: int) -> list[str]: ...


class WordSpans:
    """Spans of two words replaced by two words drawn from the text itself; whitespace stays as it is."""

    name, digest = "spans", f"spans:{SPAN}:{MARGIN}:{SHARE}:1"

    def __call__(self, text: str, n: int, seed: int) -> list[str]:
        """n copies; a text of one word comes back unchanged."""
        return [_spans(text, _random(text, seed, k)) for k in range(n)]


class WordSwaps:
    """Pairs of neighbouring words change places, as many words as spans would replace; whitespace stays as it is."""

    name, digest = "swaps", f"swaps:{SPAN}:{MARGIN}:{SHARE}:1"

    def __call__(self, text: str, n: int, seed: int) -> list[str]:
        """n copies; a text of one word comes back unchanged."""
        return [_swaps(text, _random(text, seed, k)) for k in range(n)]


PERTURBERS: Mapping[str, type[WordSpans] | type[WordSwaps]] = MappingProxyType({"spans": WordSpans, "swaps": WordSwaps})


def _spans(text: str, random: np.random.Generator) -> str:
    parts, words = _cut(text)
    for start in _places(len(words), random):
        for at in words[start : start + SPAN]:
            parts[at] = _another(parts[at], [parts[i] for i in words], random)
    return "".join(parts)


def _another(word: str, words: list[str], random: np.random.Generator) -> str:
    others = [w for w in words if w != word]
    return others[int(random.integers(len(others)))] if others else word


def _swaps(text: str, random: np.random.Generator) -> str:
    parts, words = _cut(text)
    for start in _places(len(words), random):
        a, b = words[start : start + SPAN]
        parts[a], parts[b] = parts[b], parts[a]
    return "".join(parts)


def _cut(text: str) -> tuple[list[str], list[int]]:
    """Words and the whitespace between them, and where the words are."""
    parts = re.findall(r"\s+|\S+", text)
    return parts, [i for i, part in enumerate(parts) if not part.isspace()]


def _places(words: int, random: np.random.Generator) -> list[int]:
    """Where spans begin: none within another's margin; ceil(0.3 words / 4) of them where there is room."""
    wanted = math.ceil(SHARE * words / (SPAN + 2 * MARGIN))
    taken, found = np.zeros(words, dtype=bool), list[int]()
    for _ in range(TRIES * wanted if words >= SPAN else 0):
        start = int(random.integers(words - SPAN + 1))
        if not taken[max(0, start - MARGIN) : start + SPAN + MARGIN].any():
            taken[start : start + SPAN] = True
            found.append(start)
            if len(found) == wanted:
                break
    return found


def _random(text: str, seed: int, k: int) -> np.random.Generator:
    """Chance of its own for each copy of each text, whatever is perturbed before it."""
    key = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()[:8]
    return np.random.default_rng([int.from_bytes(key, "big"), seed, k])
