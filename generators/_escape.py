"""What a text model pays for what it cannot write, so that every text has a finite price in bits per byte.

A text with a character outside the alphabet has probability zero, and one such text would make a mean infinite. So each
place has an escape: with probability 2^-12 the model gives up its own tokens and spells what stands there in UTF-8,
8 bits a byte. UTF-8 is a prefix code, so all that can be spelt weighs no more than the escape, and the tokens keep
1 - 2^-12 of their probability: texts of different models stay comparable, and no model gains by a small alphabet.

A negative token number is an escape of that many bytes. The network does not see it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._bpe import Bpe

ESCAPE_BITS = 12
# Nats of an escape, of each byte that is spelt after it, and of not escaping.
ESCAPE_NATS = ESCAPE_BITS * math.log(2)
BYTE_NATS = 8 * math.log(2)
TOKEN_NATS = -math.log1p(-(2.0**-ESCAPE_BITS))


def escaped(text: str) -> int:
    """The number that stands for a text which has no token: minus its bytes in UTF-8."""
    return -len(text.encode("utf-8", "surrogatepass"))


def encode(bpe: Bpe, text: str) -> list[int]:
    """Tokens of a text, and an escape in the place of each character outside the alphabet."""
    known, tokens, run = set(bpe.alphabet), [], ""
    for character in text:
        if character in known:
            run += character
            continue
        tokens += [*bpe.encode(run), escaped(character)]
        run = ""
    return tokens + bpe.encode(run)


def escape_nats(ids: Tensor) -> Tensor:
    """Nats [B] that the choice between token and escape adds to texts int64 [B, S], the first column left out."""
    places = ids[:, 1:]
    nats = torch.where(places < 0, ESCAPE_NATS - BYTE_NATS * places, TOKEN_NATS)
    return nats.double().sum(1)
