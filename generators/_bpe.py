"""Byte-pair encoding learned on the training texts: frequent character pairs become one token (Sennrich et al. 2016).

Merges stay inside a word with the blank before it, so that a token is a word, a piece of one, or punctuation. The base
alphabet is the training texts' characters, not bytes: a drawn sequence is always valid text.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

# A word with the blank before it, a run of signs, or blanks.
PIECE = re.compile(r" ?\w+| ?[^\w\s]+|\s+")

# Token 0 ends a text, and starts it too.
END = 0


class Bpe:
    """Texts to token numbers and back; made by `learn` or from kept `alphabet` and `merges`."""

    def __init__(self, alphabet: Sequence[str], merges: Sequence[tuple[int, int]]) -> None:
        self.alphabet, self.merges = list(alphabet), [(int(a), int(b)) for a, b in merges]
        self.tokens = ["", *self.alphabet]
        for a, b in self.merges:
            self.tokens.append(self.tokens[a] + self.tokens[b])
        first = len(self.alphabet) + 1
        self._rank = {pair: first + i for i, pair in enumerate(self.merges)}
        self._number = {c: i + 1 for i, c in enumerate(self.alphabet)}
        self._encode_piece = lru_cache(maxsize=100_000)(self._merge)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text; characters outside the alphabet are left out."""
        return [token for piece in PIECE.findall(text) for token in self._encode_piece(piece)]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self.tokens[t] for t in tokens)

    def _merge(self, piece: str) -> tuple[int, ...]:
        word = tuple(self._number[c] for c in piece if c in self._number)
        while len(word) > 1:
            # The merge learned first goes first, as in training.
            pair = min(pairwise(word), key=lambda p: self._rank.get(p, len(self.tokens)))
            if pair not in self._rank:
                break
            word = _joined(word, pair, self._rank[pair])
        return word


def learn(texts: Sequence[str], size: int) -> Bpe:
    """An encoding of at most `size` tokens; characters take at most half of them, the most frequent first."""
    characters = Counter(c for t in texts for c in t)
    alphabet = sorted(c for c, _ in sorted(characters.items(), key=lambda kv: (-kv[1], kv[0]))[: size // 2])
    number = {c: i + 1 for i, c in enumerate(alphabet)}
    pieces = Counter(piece for t in texts for piece in PIECE.findall(t))
    words = [tuple(number[c] for c in piece if c in number) for piece in pieces]
    weights = list(pieces.values())
    counts: Counter[tuple[int, int]] = Counter()
    # Which words hold a pair: only these change when it is merged.
    homes: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += weights[i]
            homes[pair].add(i)
    merges: list[tuple[int, int]] = []
    while len(alphabet) + 1 + len(merges) < size:
        best = max(counts, key=lambda p: (counts[p], p), default=None)
        # A pair seen once teaches nothing.
        if best is None or counts[best] < 2:
            break
        token = len(alphabet) + 1 + len(merges)
        merges.append(best)
        for i in sorted(homes.pop(best)):
            for pair in pairwise(words[i]):
                counts[pair] -= weights[i]
            words[i] = _joined(words[i], best, token)
            for pair in pairwise(words[i]):
                counts[pair] += weights[i]
                homes[pair].add(i)
        del counts[best]
    return Bpe(alphabet, merges)


def _joined(word: tuple[int, ...], pair: tuple[int, int], token: int) -> tuple[int, ...]:
    """The word with each occurrence of `pair`, from the left, replaced by `token`."""
    out, at = [], 0
    while at < len(word):
        if word[at : at + 2] == pair:
            out.append(token)
            at += 2
        else:
            out.append(word[at])
            at += 1
    return tuple(out)
