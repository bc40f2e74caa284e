"""Two causal language models of one vocabulary on one text: what Binoculars and Fast-DetectGPT read.

The first model observes (it samples, q), the second performs (it scores, p). Row = the columns of `columns.PAIR_HEADS`:
likelihood is the performer's. The cross entropy -E_q[ln p] is summed over every position, the one after the last token
included, because the published code of Binoculars averages over all of them (Hans et al. 2024, `metrics.py`); mu and
variance are summed over the scored tokens alone (Bao et al. 2024, eqs. 5 and 6, as Fast-DetectGPT's code does).

With `prefix=none` on both models the positions are those of the published code of both. Longer texts than the context
are read in windows, where Binoculars cuts them at 512 tokens; a token for the end of a text is counted wherever it
stands, where Binoculars takes it for padding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ...errors import BadSetting
from .._network import plain_float32
from ..identity import identity
from .columns import PAIR_HEADS, slices
from .hub import HubLM
from .instrument import VERSION, CausalLM, packed, unpacked
from .llama2c import Llama2c
from .reading import Network, read_pair
from .settings import Settings
from .streaming import PairStatistics
from .windows import Window

if TYPE_CHECKING:
    from ...types import Media

KINDS: Mapping[str, type[CausalLM]] = MappingProxyType({"hf_lm": HubLM, "llama2c": Llama2c})


class PairLM:
    """Two causal language models that share a vocabulary: `lm_pair:hf_lm:OBSERVER+hf_lm:PERFORMER`."""

    name = "lm_pair"
    modality: Literal["text"] = "text"

    def __init__(self, variant: str = "") -> None:
        """variant: two instruments joined by "+"; nothing is opened before `fetch`."""
        self.name = f"lm_pair:{variant}" if variant else "lm_pair"
        self._variant = variant

    @cached_property
    def models(self) -> tuple[CausalLM, CausalLM]:
        """Observer and performer; BadSetting unless two are named that share vocabulary and settings."""
        parts = re.split(r"\+(?=(?:hf_lm|llama2c):)", self._variant)
        named = [part.partition(":") for part in parts]
        if len(parts) != 2 or any(kind not in KINDS for kind, _, _ in named):
            raise BadSetting(f"{self.name} needs two models: write lm_pair:hf_lm:OBSERVER+hf_lm:PERFORMER")
        observer, performer = (KINDS[kind](place) for kind, _, place in named)
        check_pair(observer, performer)
        return observer, performer

    @property
    def digest(self) -> str:
        return identity("causal.pair", VERSION, {"models": [model.digest for model in self.models]})

    @property
    def heads(self) -> Mapping[str, slice]:
        return slices(PAIR_HEADS)

    @property
    def about(self) -> Mapping[str, str]:
        sides = zip(("observer", "performer"), self.models, strict=True)
        return {
            f"{side}: {key}": says for side, model in sides for key, says in model.about.items() if key != "features"
        }

    def fetch(self) -> None:
        """Have both models' files on this machine and checked; raises BadSetting or RunFailed, one line."""
        for model in self.models:
            model.fetch()

    def prepare(self, sample: Media) -> Tensor:
        """As `CausalLM.prepare`: bytes, prefix and tokens, int64 [1 + m]."""
        return self.models[1].prepare(sample)

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """One batch, int64: see `CausalLM.arrange`."""
        return packed(prepared)

    def to(self, device: str) -> None:
        for model in self.models:
            model.to(device)
        check_outputs(*(model.network for model in self.models))

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 10] of a batch as `arrange` made it."""
        observer, performer = self.models
        texts = unpacked(batch)
        context = min(observer.context, performer.context)
        found = pair_token_statistics(
            observer.network, performer.network, [text[1:] for text in texts], performer.settings, context
        )
        return torch.stack([_row(series, int(text[0])) for series, text in zip(found, texts, strict=True)])


def pair_token_statistics(
    observer: Network, performer: Network, texts: Sequence[Tensor], settings: Settings, context: int
) -> list[PairStatistics]:
    """Statistics [T + 1] of every position of each text int64 [m], m >= 2, T = m - 1 of them with a token to score.

    In the last place ln p and ln q are those of no token, and mean nothing. BadSetting when the vocabularies differ.
    """
    check_outputs(observer, performer)
    # One more token, which stands for what never comes: its place is read like the others.
    longer = [torch.cat([text, text[:1]]) for text in texts]
    windows = [_with_last(settings.windows(len(text), context), len(text), context) for text in texts]
    with plain_float32(texts[0].device):
        return read_pair(observer, performer, longer, windows)


def check_pair(observer: CausalLM, performer: CausalLM) -> None:
    """Refuse two models whose token numbers mean different things, or that are asked to read differently."""
    if observer.opened.tokens != performer.opened.tokens:
        raise BadSetting(
            f"{observer.name} and {performer.name} have different vocabularies, so their probabilities are of different"
            " tokens; give two models that share a tokenizer"
        )
    if observer.settings != performer.settings or observer.opened.prefix != performer.opened.prefix:
        raise BadSetting(
            f"{observer.name} and {performer.name} have different settings or prefixes; give both the same"
        )


def check_outputs(observer: Network, performer: Network) -> None:
    """Refuse two models that predict vocabularies of different size."""
    if observer.vocabulary != performer.vocabulary:
        raise BadSetting(
            f"the observer predicts {observer.vocabulary} tokens, the performer {performer.vocabulary}; give two models"
            " of one vocabulary"
        )


def _with_last(windows: list[Window], m: int, context: int) -> list[Window]:
    """The windows of a text of m tokens, and the place after its last one: in the last window, if it has room."""
    last = windows[-1]
    if last.stop - last.start < context:
        return [*windows[:-1], last._replace(stop=m)]
    return [*windows, Window(m - context, m, m)]


def _row(series: PairStatistics, size: int) -> Tensor:
    log_p, log_q, mu, variance = (part.double() for part in series)
    tokens = len(mu) - 1
    nats, log_q_sum = -float(log_p[:-1].sum()), float(log_q[:-1].sum())
    crossed = [float(mu[:-1].sum()), float(variance[:-1].sum()), -float(mu.sum())]
    return torch.tensor([nats, tokens, size, tokens, tokens + 1, -nats, log_q_sum, *crossed], dtype=torch.float32)
