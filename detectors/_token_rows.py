"""Which language model a text detector reads with: one row a text, its columns by name, whatever the model is.

`prose_lm` reads bytes, `hf_lm:FOLDER` and `llama2c:FOLDER` tokens of their own, `lm_pair:A+B` two models at once. One
model gives the columns ZERO_SHOT and SURPRISAL, a pair the columns PAIR of `evalkit.extractors.causal.columns`. A text
is scored from its first token on, given the model's prefix; with `:prefix=none` from the second on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from evalkit.errors import ModalityMismatch, UnknownName, UnreadableSample
from evalkit.extractors.causal.columns import (
    PAIR,
    PAIR_HEADS,
    SINGLE_HEADS,
    SURPRISAL,
    ZERO_SHOT,
    named,
    single_row,
    slices,
)
from evalkit.extractors.causal.instrument import CausalLM, packed
from evalkit.extractors.causal.pair import KINDS, PairLM
from evalkit.extractors.causal.streaming import TokenStatistics
from evalkit.extractors.prose_lm import OUTSIDE, ProseLM

if TYPE_CHECKING:
    from evalkit.types import Media

Columns = Mapping[str, Tensor]

DEFAULT = "prose_lm"
# Bytes that prose_lm reads at once, padding included.
AT_ONCE = 1 << 18
# Shorter texts have no verdict: `ngram_lr` gives 10 % of human texts of 400 characters a P(fake) over 0.8, and 3 % of
# those of 600 (docs/text-detectors.md).
LEAST_CHARACTERS = 600
# Texts of a lesson that are read at once.
BATCH = 64


class Reader(Protocol):
    """A language model as a detector reads it; `pair` says which of the two sets of columns it gives."""

    name: str
    pair: bool

    @property
    def digest(self) -> str: ...
    @property
    def about(self) -> Mapping[str, str]: ...
    def prepare(self, text: str) -> Tensor:
        """int64 [m]; UnreadableSample for a text that the model cannot score."""

    def to(self, device: str) -> None: ...
    def columns(self, texts: Sequence[Tensor]) -> Columns:
        """The columns [N] of prepared texts, float64 on the CPU."""


def reader_of(name: str) -> Reader:
    """The language model of an instrument's name; nothing is opened. UnknownName for one without token statistics."""
    kind, _, place = name.partition(":")
    if name == DEFAULT:
        return ProseReader()
    if kind in KINDS:
        return SingleReader(KINDS[kind](place))
    if kind == "lm_pair":
        return PairReader(PairLM(place))
    raise UnknownName("language model with token statistics", name, [DEFAULT, *(f"{k}:FOLDER" for k in KINDS)])


class SingleReader:
    """A causal language model."""

    pair = False

    def __init__(self, lm: CausalLM) -> None:
        self._lm = lm
        self.name = lm.name

    @property
    def digest(self) -> str:
        return self._lm.digest

    @property
    def about(self) -> Mapping[str, str]:
        return self._lm.about

    def prepare(self, text: str) -> Tensor:
        return self._lm.prepare(text)

    def to(self, device: str) -> None:
        self._lm.to(device)

    def columns(self, texts: Sequence[Tensor]) -> Columns:
        return _single(self._lm(packed(texts)))


class PairReader:
    """Two causal language models: the first observes and samples, the second performs and scores."""

    pair = True

    def __init__(self, lm: PairLM) -> None:
        self._lm = lm
        self.name = lm.name

    @property
    def digest(self) -> str:
        return self._lm.digest

    @property
    def about(self) -> Mapping[str, str]:
        return self._lm.about

    def prepare(self, text: str) -> Tensor:
        return self._lm.prepare(text)

    def to(self, device: str) -> None:
        self._lm.to(device)

    def columns(self, texts: Sequence[Tensor]) -> Columns:
        return named(self._lm(packed(texts)).double().cpu()[:, slices(PAIR_HEADS)["pair"]], PAIR)


class ProseReader:
    """The byte-level language model that ships, its statistics summed as those of the others are."""

    name, pair = DEFAULT, False

    def __init__(self) -> None:
        self._lm = ProseLM()

    @property
    def digest(self) -> str:
        return self._lm.digest

    @property
    def about(self) -> Mapping[str, str]:
        return {"model": "prose_lm, of bytes"}

    def prepare(self, text: str) -> Tensor:
        return self._lm.prepare(text).long()

    def to(self, device: str) -> None:
        self._lm.to(device)

    def columns(self, texts: Sequence[Tensor]) -> Columns:
        rows: dict[int, Tensor] = {}
        for chosen in _alike(texts):
            found = self._lm.token_statistics(torch.stack([texts[i] for i in chosen]))
            for i, *series in zip(chosen, *found, strict=True):
                rows[i] = _prose_row([each.cpu() for each in series], int((texts[i] != OUTSIDE).sum()))
        return _single(torch.stack([rows[i] for i in range(len(texts))]))


def _alike(texts: Sequence[Tensor]) -> Iterator[list[int]]:
    """Places of texts of one padded length, as many as are read at once."""
    by_length: dict[int, list[int]] = {}
    for i, text in enumerate(texts):
        by_length.setdefault(len(text), []).append(i)
    for length, places in by_length.items():
        size = max(1, AT_ONCE // length)
        yield from (places[start : start + size] for start in range(0, len(places), size))


def _prose_row(series: Sequence[Tensor], size: int) -> Tensor:
    """The row of one text of `size` bytes, from its five series [T], padding behind it."""
    nats, entropy, variance, log_rank, _ = (each[:size] for each in series)
    return single_row(TokenStatistics(-nats, log_rank.exp().round(), entropy, -entropy, variance), size)


def _single(rows: Tensor) -> Columns:
    parts, wide = slices(SINGLE_HEADS), rows.double().cpu()
    return {**named(wide[:, parts["zero_shot"]], ZERO_SHOT), **named(wide[:, parts["surprisal"]], SURPRISAL)}


def text_of(sample: Media, detector: str) -> str:
    """The sample as a text with something in it; ModalityMismatch for an image, UnreadableSample for blank ones."""
    if not isinstance(sample, str):
        raise ModalityMismatch(f"detector {detector!r} judges texts and was given an image")
    if not sample.strip():
        raise UnreadableSample("the text is empty")
    return sample


def batches(prepared: Sequence[Tensor], device: str) -> Iterator[Tensor]:
    """Prepared texts of a lesson as `arrange` makes batches of them."""
    for start in range(0, len(prepared), BATCH):
        yield packed(prepared[start : start + BATCH]).to(device)
