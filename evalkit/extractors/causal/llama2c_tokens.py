"""llama2.c's tokenizer file: pieces with scores, joined best score first; bytes for what no piece spells.

The file: the length of the longest piece, then for each token its score (float32), length and bytes. Token 0 is
unknown, 1 begins a text, 2 ends it, and 3 to 258 are the 256 bytes, written `<0xNN>`. A text gets a blank before it,
as SentencePiece adds one. Of equal scores the pair that stands first is joined first.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Sequence
from pathlib import Path

from ...errors import BadSetting, BadSource

BOS = 1
FIRST_BYTE = 3
PIECE = struct.Struct("<fi")
LONGEST_PIECE = 1 << 16


class Pieces:
    """Texts to token numbers and back: `pieces` and `scores`, one a token."""

    def __init__(self, pieces: Sequence[bytes], scores: Sequence[float]) -> None:
        self._pieces, self._scores = list(pieces), list(scores)
        # The first of two equal pieces is the one that a text gets.
        self._number = {piece: i for i, piece in reversed(list(enumerate(self._pieces)))}

    def encode(self, text: str) -> list[int]:
        """Token numbers; none for an empty text. Joins cost n log n, so a megabyte of one letter is no trouble."""
        tokens: list[int] = []
        for character in f" {text}" if text else "":
            spelt = character.encode("utf-8")
            own = self._number.get(spelt)
            tokens += [own] if own is not None else [byte + FIRST_BYTE for byte in spelt]
        return self._joined(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens that followed the beginning: without the blank that `encode` adds."""
        spelt = [
            bytes([token - FIRST_BYTE]) if FIRST_BYTE <= token < FIRST_BYTE + 256 else self._pieces[token]
            for token in tokens
        ]
        return b"".join(spelt).removeprefix(b" ").decode("utf-8", errors="replace")

    def _joined(self, tokens: list[int]) -> list[int]:
        """Neighbours joined while a piece spells both, the best score first: a linked list and a heap of its pairs."""
        after = [*range(1, len(tokens)), -1]
        before = list(range(-1, len(tokens) - 1))
        pairs: list[tuple[float, int, int, int, int]] = []

        def offer(left: int) -> None:
            right = after[left] if left >= 0 else -1
            if right >= 0:
                joined = self._number.get(self._pieces[tokens[left]] + self._pieces[tokens[right]])
                if joined is not None:
                    heapq.heappush(pairs, (-self._scores[joined], left, tokens[left], tokens[right], joined))

        for left in range(len(tokens) - 1):
            offer(left)
        while pairs:
            _, left, own, other, joined = heapq.heappop(pairs)
            right = after[left]
            # A pair that was offered before one of its tokens was joined to another is no pair any more.
            if tokens[left] != own or right < 0 or tokens[right] != other:
                continue
            tokens[left], tokens[right], after[left] = joined, -1, after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(left)
            offer(before[left])
        return [token for token in tokens if token >= 0]


def read_pieces(path: Path, vocabulary: int) -> Pieces:
    """The tokenizer of a model of so many tokens; BadSetting when the file has others, BadSource when there is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadSource(f"{path} cannot be read ({error.strerror}); expected a llama2.c tokenizer") from error
    pieces: list[bytes] = []
    scores: list[float] = []
    at = 4
    while at + PIECE.size <= len(content):
        score, length = PIECE.unpack_from(content, at)
        at += PIECE.size
        if not 0 <= length <= LONGEST_PIECE or at + length > len(content):
            raise BadSetting(f"{path} is no llama2.c tokenizer: piece {len(pieces)} does not fit the file")
        pieces.append(content[at : at + length])
        scores.append(score)
        at += length
    if at != len(content) or len(pieces) != vocabulary:
        raise BadSetting(
            f"{path} has {len(pieces)} tokens, the model predicts {vocabulary}; they do not belong together"
        )
    return Pieces(pieces, scores)
