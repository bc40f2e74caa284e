"""What language models that fill gaps share: a mask token, a network that sees both sides, lengths drawn beforehand.

Such a network cannot say when a text ends: it is told the length. Lengths are drawn from those of the training texts;
both end tokens stand at their places from the start and are never hidden. A text longer than `context` was learnt in
windows, and none is drawn longer than one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Batch

from ._bpe import END, Bpe
from ._sampling import choose
from ._tokens import TokenFamily
from ._transformer import HEADS, Filler

# Tokens below which a text is not worth a call of the network for texts of its length alone.
SHORT = 24


class Canvas:
    """Texts of given lengths [B] with every token hidden: what is drawn on, and what may be drawn where."""

    def __init__(self, lengths: Tensor, mask: int, device: str) -> None:
        at = torch.arange(int(lengths.max()) + 2)
        self.open = (at > 0) & (at <= lengths[:, None])
        # Padding behind the closing end is seen by nobody.
        self.visible = at <= lengths[:, None] + 1
        self.tokens = torch.where(self.open, mask, END)
        self.lengths, self.mask, self.device = lengths, mask, device

    def order(self, rng: torch.Generator) -> Tensor:
        """A random order of each text's places, [B, S]: 0 for the one that comes first; beyond S where nothing goes."""
        chance = torch.rand(self.open.shape, generator=rng).masked_fill(~self.open, 2.0)
        rank = chance.argsort(1).argsort(1)
        return torch.where(self.open, rank, self.open.shape[1])

    def fill(
        self, net: Filler, places: Tensor, barred: Tensor, draw: tuple[float, int, float, torch.Generator]
    ) -> None:
        """Hide what stands at `places` [B, S] and draw it anew, all places at once.

        barred [V]: tokens no text may begin with. draw: temperature, top_k, top_p and chance.
        """
        self.tokens = self.tokens.masked_fill(places, self.mask)
        self.tokens[places] = choose(self.scores(net, places, barred), *draw)

    def scores(self, net: Filler, places: Tensor, barred: Tensor) -> Tensor:
        """Logits [M, V] of what may stand at the M `places` [B, S], text by text."""
        logits, number = torch.empty(0), places.flatten().cumsum(0).view(places.shape) - 1
        # Texts with nothing to draw cost nothing; nor, but for short ones, does padding to more than twice a text.
        size = torch.where(places.any(1), self.lengths + 2, 0)
        for low, high in itertools.pairwise([0, *(SHORT << i for i in range(20))]):
            rows = ((size > low) & (size <= high)).nonzero()[:, 0]
            if not len(rows):
                continue
            end = int(size[rows].max())
            shown, seen, asked = (x[rows, :end].to(self.device) for x in (self.tokens, self.visible, places))
            part: Tensor = net(shown, seen, asked).float().cpu()
            if not len(logits):
                logits = part.new_empty(int(places.sum()), part.shape[1])
            logits[number[rows, :end][places[rows, :end]]] = part
        # Ends stand where they stand.
        logits[:, END] = -math.inf
        first = places.nonzero()[:, 1] == 1
        logits[first[:, None] & barred] = -math.inf
        return logits

    def fill_surest(
        self,
        net: Filler,
        counts: Tensor,
        barred: Tensor,
        draw: tuple[float, int, float, torch.Generator],
    ) -> None:
        """Draw so many [B] of each text's masks, all at once: those whose likeliest token has most probability."""
        asked = (self.tokens == self.mask) & (counts > 0)[:, None]
        logits = self.scores(net, asked, barred)
        # Chang et al. 2022, sec. 3.2, draw everywhere and keep what has most probability, which favours likely tokens a
        # second time. Here the distribution chooses the place, and the token is drawn from it as anywhere else.
        sure = torch.full(asked.shape, -math.inf)
        sure[asked] = logits.log_softmax(-1).amax(-1)
        rank = (-sure).argsort(1).argsort(1)
        places = asked & (rank < counts[:, None])
        self.tokens[places] = choose(logits[places[asked]], *draw)


class MaskedFamily(TokenFamily):
    """A family whose network says what belongs where the mask is."""

    _net: Filler
    # How many tokens each training text has, ends left out, in order.
    _lengths: Tensor

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        # Heads share the width, and rotary positions need pairs in each.
        self._settings["width"] = int(self._settings["width"]) // (2 * HEADS) * 2 * HEADS

    def _build(self, vocabulary: int) -> Filler:
        s = self._settings
        return Filler(vocabulary, int(s["width"]), int(s["layers"]), float(s["dropout"]))

    def _become(self, bpe: Bpe, net: nn.Module, sequences: Sequence[Sequence[int]], device: str) -> None:
        super()._become(bpe, net, sequences, device)
        most = int(self._settings["context"]) - 1
        self._lengths = torch.tensor(sorted(max(1, min(len(s) - 2, most)) for s in sequences), dtype=torch.int32)

    def _canvas(self, count: int, rng: torch.Generator) -> Canvas:
        lengths = self._lengths[torch.randint(len(self._lengths), (count,), generator=rng)].long()
        return Canvas(lengths, len(self._bpe), self._device)

    def _barred(self) -> Tensor:
        """Tokens [V] that are blank, with which no text may begin, so that none is empty."""
        return torch.tensor([not t.strip() for t in self._bpe.tokens])

    def _chance(self, rng: torch.Generator) -> tuple[float, int, float, torch.Generator]:
        s = self._settings
        return float(s["temperature"]), int(s["top_k"]), float(s["top_p"]), rng

    def _written(self, canvas: Canvas) -> Batch:
        rows = zip(canvas.tokens.tolist(), canvas.lengths.tolist(), strict=True)
        return Batch([self._bpe.decode(tokens[1 : 1 + length]).strip() for tokens, length in rows])

    def _tensors(self) -> dict[str, Tensor]:
        return {"lengths": self._lengths, **super()._tensors()}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        lengths = tensors.pop("lengths")
        if lengths.dim() != 1 or not len(lengths) or int(lengths.min()) < 1:
            raise ValueError("no lengths of texts")
        super()._restore(tensors, facts)
        self._lengths = lengths


def padded(sequences: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, what is no padding, and what may be hidden (all but the ends), each [B, S]."""
    longest = max(map(len, sequences))
    tokens = torch.tensor([s + [END] * (longest - len(s)) for s in sequences])
    visible = torch.arange(longest) < torch.tensor([len(s) for s in sequences])[:, None]
    return tokens, visible, visible & (tokens != END)


def hidden(places: Tensor, counts: Tensor, rng: torch.Generator) -> Tensor:
    """`counts` [B] of the `places` [B, S] of each text at random, as a mask [B, S]."""
    chance = torch.rand(places.shape, generator=rng).masked_fill(~places, 2.0)
    return places & (chance.argsort(1).argsort(1) < counts[:, None])


def gap_nats(net: Filler, shown: Tensor, truth: Tensor, asked: Tensor, visible: Tensor, device: str) -> Tensor:
    """-ln p of the true tokens at the places asked [B, S], given the tokens shown [B, S]: [M], text by text."""
    logits = net(shown.to(device), visible.to(device), asked.to(device))
    return F.cross_entropy(logits, truth[asked].to(device), reduction="none")
