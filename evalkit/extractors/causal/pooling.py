"""One state for a whole text: the features that MAUVE, Vendi, PRDC and Frechet distances compare.

`last` is the last hidden state where the last token was read, as MAUVE has it (Pillutla et al. 2021), `mean` the mean
over the text's own tokens. A text longer than the context counts with its beginning alone: states of later windows have
not read the same past, and MAUVE too is computed of truncated texts. The first window of a text reads that beginning
anyway, so its states are taken from there; it reads one token more than predictions need, where the context has room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

POOLS: Mapping[str, str] = MappingProxyType(
    {"last": "the last hidden state at the last token", "mean": "the mean of the last hidden states over the text"}
)


@dataclass(frozen=True)
class Pool:
    """how: a name of POOLS; lead: tokens before the text itself; context: tokens that are read at most."""

    how: str
    lead: int
    context: int

    def reads(self, m: int) -> int:
        """How many tokens of a sequence of m are read for the features."""
        return min(m, self.context)

    def of(self, states: Tensor) -> Tensor:
        """One state [D] of those [S, D] of a text's beginning, its prefix included, S >= 1."""
        if self.how == "last":
            return states[-1]
        # The state of the first token is unlike all others; with a context of one token there is no other.
        return states[min(self.lead, len(states) - 1) :].mean(0)
