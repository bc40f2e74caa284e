"""A causal language model as an instrument: one row a text, of what its tokens cost and of how they were expected.

Row = the columns of `columns.SINGLE_HEADS`, then `features`, one state for the whole text (`pooling`). Each token of a
text is predicted once, the first one from the prefix: the model's token for the beginning of a text, else the one for
its end; with `prefix=none` the first token is context only.
Nothing is added at the end. nats / bytes count the UTF-8 bytes of the text as it was given.

A backend says how a place becomes a model: `_open` finds and checks its files, `Opened.load` reads the weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ...errors import BadSetting, ModalityMismatch, RunFailed, UnreadableSample
from .._network import plain_float32
from ..identity import identity
from .columns import SINGLE_HEADS, single_row, slices, with_features
from .pooling import Pool
from .reading import Network, read, read_pooled
from .settings import Settings, split
from .streaming import TokenStatistics
from .windows import Window

if TYPE_CHECKING:
    from ...types import Media

LONGEST = 1 << 20  # bytes
# Of the columns and of how they are computed: part of every digest.
VERSION = 2


@dataclass(frozen=True, eq=False)
class Opened:
    """A model whose files were found and checked: their sha256 by name, its encoding, how to load its weights.

    encode: a text to token numbers, nothing added. prefix: the token before a text, None where there is none;
    prefix_says: which that is, in words. tokens: sha256 of the vocabulary, equal where token numbers mean the same.
    width: of the last hidden state.
    """

    files: Mapping[str, str]
    encode: Callable[[str], Sequence[int]]
    prefix: int | None
    prefix_says: str
    tokens: str
    context: int
    width: int
    load: Callable[[], Network]
    about: Mapping[str, str]


class CausalLM:
    """Base of the instruments: nats, tokens, bytes and per-token statistics of a text under a causal language model."""

    name: str
    kind: ClassVar[str]
    place_says: ClassVar[str]
    modality: Literal["text"] = "text"

    def __init__(self, variant: str = "") -> None:
        """variant: where the model is, and settings after it (`settings.split`); nothing is opened before `fetch`."""
        self.name = f"{self.kind}:{variant}" if variant else self.kind
        self._variant = variant
        self._network: Network | None = None

    @abstractmethod
    def _open(self, place: str) -> Opened:
        """Find and check a model's files; BadSetting or RunFailed, one line, when they are not what they should be."""

    @cached_property
    def _asked(self) -> tuple[str, Settings]:
        place, settings = split(self._variant)
        if not place:
            raise BadSetting(f"{self.kind} needs a model: write {self.kind}:{self.place_says}")
        return place, settings

    @property
    def settings(self) -> Settings:
        return self._asked[1]

    @cached_property
    def opened(self) -> Opened:
        """The model's files, found when first asked for."""
        found = self._open(self._asked[0])
        if self.settings.prefix and found.prefix is None:
            raise BadSetting(
                f"{self.name} has no token for the beginning or the end of a text; add :prefix=none, and the first"
                " token of each text is context only"
            )
        return found

    @property
    def context(self) -> int:
        """Tokens that are read at once."""
        return self.settings.context_of(self.opened.context)

    @property
    def digest(self) -> str:
        terms = {"files": dict(self.opened.files), "context": self.context, **self.settings.terms}
        return identity(f"causal.{self.kind}", VERSION, terms)

    @property
    def heads(self) -> Mapping[str, slice]:
        """Where each head lies in a row; `features` is as wide as the model, so its files are found for this."""
        return with_features(slices(SINGLE_HEADS), self.opened.width)

    @property
    def about(self) -> Mapping[str, str]:
        prefix = self.opened.prefix_says if self.settings.prefix else "none: the first token is context only"
        return MappingProxyType(
            {
                **self.opened.about,
                "prefix": prefix,
                **self.settings.about,
                "context": f"{self.context} tokens",
                "dtype": "float32, sums in float64",
                **{f"sha256 of {name}": sha256 for name, sha256 in self.opened.files.items()},
            }
        )

    def fetch(self) -> None:
        """Have the model's files on this machine and checked; raises BadSetting or RunFailed, one line."""
        _ = self.opened, self.context

    def prepare(self, sample: Media) -> Tensor:
        """int64 [1 + m]: the text's bytes in UTF-8, and its m tokens, the prefix before them.

        UnreadableSample when the text is empty, over 1 MiB, holds half of a surrogate pair, or has no token to predict.
        """
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        size = checked_size(sample)
        begun = [self.opened.prefix] if self.settings.prefix and self.opened.prefix is not None else []
        tokens = [*begun, *self.opened.encode(sample)]
        if len(tokens) < 2:
            raise UnreadableSample(f"the text is too short: {self.name} has no token of it to predict")
        return torch.tensor([size, *tokens])

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """One batch, int64 [1 + B + sum of lengths]: B, the B lengths, and the texts one after the other."""
        return packed(prepared)

    def to(self, device: str) -> None:
        self.network.to(device)

    @property
    def network(self) -> Network:
        """The model with its weights, read when first asked for."""
        if self._network is None:
            self._network = self.opened.load()
        return self._network

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 36 + width of the model] of a batch as `arrange` made it."""
        texts = unpacked(batch)
        pool = Pool(self.settings.pool, int(self.settings.prefix), self.context)
        with plain_float32(texts[0].device):
            found, features = read_pooled(self.network, [text[1:] for text in texts], self._windows(texts), pool)
        if features.shape[1] != self.opened.width:
            raise RunFailed(f"{self.name} has states of {features.shape[1]} numbers, its files say {self.opened.width}")
        rows = [single_row(series, int(text[0])) for series, text in zip(found, texts, strict=True)]
        return torch.cat([torch.stack(rows), features], 1)

    def token_statistics(self, prepared: Sequence[Tensor]) -> list[TokenStatistics]:
        """Statistics of each scored token of each prepared text, float32 [T] on the CPU, in the text's order."""
        with plain_float32(prepared[0].device):
            return read(self.network, [text[1:] for text in prepared], self._windows(prepared))

    def _windows(self, prepared: Sequence[Tensor]) -> list[list[Window]]:
        return [self.settings.windows(len(text) - 1, self.context) for text in prepared]


def checked_size(text: str) -> int:
    """Bytes of a text in UTF-8; UnreadableSample for one that is empty, over 1 MiB, or no text in UTF-8."""
    if not text:
        raise UnreadableSample("the text is empty")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise UnreadableSample(
            f"character {error.start + 1} of the text is half of a surrogate pair, which UTF-8 cannot hold; its file"
            " was decoded wrongly"
        ) from error
    if size > LONGEST:
        raise UnreadableSample(f"the text has {size} bytes; language models read up to {LONGEST}: split it")
    return size


def packed(prepared: Sequence[Tensor]) -> Tensor:
    """Texts int64 [T_i] as one tensor int64 [1 + B + sum T_i]: padding them would let one long text cost B of them."""
    header = torch.tensor([len(prepared), *map(len, prepared)])
    return torch.cat([header.to(prepared[0].device), *prepared])


def unpacked(batch: Tensor) -> list[Tensor]:
    """The texts that `packed` packed; RunFailed for another tensor."""
    count = int(batch[0]) if batch.dim() == 1 and len(batch) else 0
    lengths = batch[1 : 1 + count].tolist()
    if not count or 1 + count + sum(lengths) != len(batch):
        raise RunFailed(f"a tensor of shape {tuple(batch.shape)} is no batch of texts; make it with `arrange`")
    return list(torch.split(batch[1 + count :], lengths))
