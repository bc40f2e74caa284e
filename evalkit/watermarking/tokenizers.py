"""Tokenizers as far as a watermark needs them: from a text to the token numbers its generator drew.

A watermark lives in token numbers, so a text is scored with the tokenizer of the model that may have written it, no
special tokens added. Four kinds: byte-level pairs (GPT-2, OPT), pairs of characters (the `lm` generator), pieces by
score (llama2.c's `tokenizer.bin`, LLaMA), and any folder of Hugging Face transformers with the extra `transformers`.
"""

from __future__ import annotations

import importlib
import re
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from ..errors import BadSource

T = TypeVar("T")


class Tokenizer(Protocol):
    """`encode` gives token numbers below `size`, without special tokens."""

    @property
    def size(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...


# ---------------------------------------------------------------------------------------------- byte-level pairs


@lru_cache(maxsize=1)
def byte_letters() -> Mapping[int, str]:
    """The printable letter that stands for each byte: itself where it is printable in Latin-1, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Over classes of characters: L letter, N number, o other, s blank, w other white space.
RUNS = re.compile(r"s?L+|s?N+|s?o+|[sw]+(?![LNo])|[sw]+")
# What str.isspace() takes for white space and Unicode's White_Space does not.
SEPARATORS = frozenset("\x1c\x1d\x1e\x1f")


@lru_cache(maxsize=65536)
def _class(character: str) -> str:
    if character == " ":
        return "s"
    if character.isspace() and character not in SEPARATORS:
        return "w"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "o"


def pieces(text: str) -> list[str]:
    """The words that GPT-2's byte-level encoding never merges across (Radford et al. 2019, `encoder.py`'s pattern)."""
    classes = "".join(map(_class, text))
    found, at = [], 0
    while at < len(text):
        end = at + next((len(c) for c in CONTRACTIONS if text.startswith(c, at)), 0)
        if end == at:
            match = RUNS.match(classes, at)
            assert match is not None
            end = match.end()
        found.append(text[at:end])
        at = end
    return found


class BytePairs:
    """Byte-level pair encoding from vocab.json (token -> number) and merges.txt (one pair a line, likeliest first)."""

    def __init__(self, numbers: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        self._numbers, self.size = numbers, max(numbers.values(), default=-1) + 1
        self._rank = {pair: i for i, pair in enumerate(merges)}
        self._encoded = lru_cache(maxsize=100_000)(self._merge)
        missing = [letter for letter in byte_letters().values() if letter not in numbers]
        if missing:
            raise BadSource(f"the vocabulary lacks {len(missing)} of 256 bytes; expected a byte-level vocab.json")

    def encode(self, text: str) -> list[int]:
        """Token numbers of any text; lone surrogates become a question mark."""
        return [number for piece in pieces(text) for number in self._encoded(piece)]

    def _merge(self, piece: str) -> tuple[int, ...]:
        letters = byte_letters()
        word = [letters[b] for b in piece.encode("utf-8", "replace")]
        while len(word) > 1:
            pair = min(pairwise(word), key=lambda p: self._rank.get(p, len(self._rank)))
            if pair not in self._rank:
                break
            word = _joined(word, pair, pair[0] + pair[1])
        try:
            return tuple(self._numbers[token] for token in word)
        except KeyError as error:
            raise BadSource(
                f"merges.txt makes the token {error}, which vocab.json lacks; take both of one model"
            ) from error


def read_merges(text: str) -> list[tuple[str, str]]:
    """Pairs of a merges.txt; a first line with the version is left out. BadSource for a line that is no pair."""
    lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    wrong = next((line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2), None)
    if wrong is not None:
        raise BadSource(f"merges.txt holds the line {wrong[:40]!r}; expected two tokens with a blank between them")
    return [(pair[0], pair[1]) for pair in pairs]


# ---------------------------------------------------------------------------------------------- pairs of characters


class CharacterPairs:
    """The encoding that `lm` and its like learn: characters of an alphabet and merges of them, 0 the end of a text."""

    WORDS = re.compile(r" ?\w+| ?[^\w\s]+|\s+")

    def __init__(self, alphabet: Sequence[str], merges: Sequence[tuple[int, int]]) -> None:
        self._number = {c: i + 1 for i, c in enumerate(alphabet)}
        first = len(alphabet) + 1
        self._rank = {(int(a), int(b)): first + i for i, (a, b) in enumerate(merges)}
        self.size = first + len(merges)
        self._encoded = lru_cache(maxsize=100_000)(self._merge)

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text without blanks around it; characters outside the alphabet are left out."""
        return [number for word in self.WORDS.findall(text.strip()) for number in self._encoded(word)]

    def _merge(self, piece: str) -> tuple[int, ...]:
        word = [self._number[c] for c in piece if c in self._number]
        while len(word) > 1:
            pair = min(pairwise(word), key=lambda p: self._rank.get(p, self.size))
            if pair not in self._rank:
                break
            word = _joined(word, pair, self._rank[pair])
        return tuple(word)


# ---------------------------------------------------------------------------------------------- pieces by score


class ScoredPieces:
    """Pairs merged by the highest score of what they make, as in llama2.c's tokenizer.bin; unknown bytes are b + 3."""

    FIRST_BYTE = 3

    def __init__(self, tokens: Sequence[bytes], scores: Sequence[float]) -> None:
        self.size, self._scores, self._tokens = len(tokens), scores, tokens
        self._number: dict[bytes, int] = {}
        for number, token in enumerate(tokens):
            self._number.setdefault(token, number)

    @classmethod
    def read(cls, content: bytes) -> ScoredPieces:
        """From a tokenizer.bin: the longest token's length, then score, length and bytes of each. Raises BadSource."""
        tokens, scores, at = [], [], 4
        try:
            struct.unpack_from("<i", content)
            while at < len(content):
                score, length = struct.unpack_from("<fi", content, at)
                if not 0 <= length <= len(content) - at - 8 or score != score:
                    raise ValueError(f"a token of {length} bytes at {at}")
                tokens.append(content[at + 8 : at + 8 + length])
                scores.append(float(score))
                at += 8 + length
        except (struct.error, ValueError) as error:
            raise BadSource(f"not a llama2.c tokenizer.bin ({error}); take the file beside the model") from error
        if len(tokens) < 256 + cls.FIRST_BYTE:
            raise BadSource(f"a tokenizer.bin of {len(tokens)} tokens lacks the 256 bytes; take the model's own file")
        return cls(tokens, scores)

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, with the blank that SentencePiece puts before it."""
        if not text:
            return []
        word: list[int] = []
        for character in f" {text}":
            raw = character.encode("utf-8", "replace")
            number = self._number.get(raw)
            word += [number] if number is not None else [b + self.FIRST_BYTE for b in raw]
        merged = [self._merged(a, b) for a, b in pairwise(word)]
        while merged and (best := max(merged))[0] > -1e30:
            at = merged.index(best)
            word[at : at + 2] = [best[1]]
            del merged[at]
            for i in (at - 1, at):
                if 0 <= i < len(merged):
                    merged[i] = self._merged(word[i], word[i + 1])
        return word

    def _merged(self, a: int, b: int) -> tuple[float, int]:
        """Score and number of what two tokens make; equal scores go to the leftmost, so the number is no tie-break."""
        number = self._number.get(self._tokens[a] + self._tokens[b])
        return (-1e30, -1) if number is None else (self._scores[number], number)


# ---------------------------------------------------------------------------------------------- Hugging Face


class HuggingFace:
    """A tokenizer folder of transformers, read from disk only."""

    def __init__(self, folder: str) -> None:
        """Raises BadSource when the extra is missing or the folder holds no tokenizer."""
        try:
            transformers: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise BadSource(
                "a Hugging Face tokenizer needs transformers: pip install 'evalkit[transformers]'"
            ) from error
        try:
            found = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise BadSource(f"{folder} holds no readable tokenizer ({str(error).splitlines()[0]})") from error
        self.size = len(found)
        self._encode: Callable[[str], list[int]] = lambda text: list(found.encode(text, add_special_tokens=False))

    def encode(self, text: str) -> list[int]:
        return self._encode(text)


def _joined(word: Sequence[T], pair: tuple[T, T], whole: T) -> list[T]:
    """The word with each occurrence of `pair`, from the left, replaced by `whole`."""
    out: list[T] = []
    at = 0
    while at < len(word):
        if at + 1 < len(word) and word[at] == pair[0] and word[at + 1] == pair[1]:
            out.append(whole)
            at += 2
        else:
            out.append(word[at])
            at += 1
    return out
