"""Training texts as a list, words as a Markov model sees them, and texts as a tensor for a model file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from evalkit.errors import BadSource, TooFewSamples, UnreadableSample
from evalkit.types import SampleSet

FEWEST = 8


def read_texts(samples: SampleSet, family: str, *, fewest: int = FEWEST) -> list[str]:
    """All texts of a set, stripped; raises TooFewSamples, or BadSource for what nothing can be learnt from."""
    texts = []
    for sample in samples:
        try:
            texts.append(cast("str", sample.load()).strip())
        except UnreadableSample as e:
            raise BadSource(f"training text {sample.id!r} cannot be read ({e}); remove it from the set") from e
    written = [t for t in texts if t]
    if len(written) < fewest:
        raise TooFewSamples(
            f"{family} needs at least {fewest} texts that are not blank, {samples.name!r} has {len(written)}"
        )
    if fewest > 1 and len(set(written)) == 1:
        raise BadSource(f"every text of {samples.name!r} is the same; {family} cannot learn from constant texts")
    return written


def pack(texts: Sequence[str]) -> Tensor:
    """Texts as one uint8 tensor, for a model file that holds tensors only."""
    return torch.frombuffer(bytearray(json.dumps(list(texts), ensure_ascii=False).encode()), dtype=torch.uint8)


def unpack(packed: Tensor) -> list[str]:
    """What `pack` packed; ValueError when it is something else."""
    texts = json.loads(packed.numpy().tobytes())
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise ValueError("not a list of texts")
    return texts
