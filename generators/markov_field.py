"""Images from a Markov random field of counts: each pixel by its place and by what is left of it and above it.

- p(x | y) is the product, in reading order, of p(pixel | class, place, left, up) (Abend et al. 1965, a Markov mesh), so
  the likelihood is exact. Without a label it is p(x) = sum_y p(y) p(x | y), p(y) uniform because samples take the
  classes in turn.
- Neighbours count in a few coarse levels, else no context would be seen twice; beyond the border everything is dark.
- p = (c + a V b) / (n + a V): counts c of n with a pseudo-counts for each of V grey levels, spread like b, which is the
  same without neighbours, itself smoothed towards uniform (Jelinek & Mercer 1980): an unseen context draws
  what is usual at its place, not any grey.
- Colours of a pixel in the order R, G, B: neighbours are of the same colour, and the colour before it counts too.
- The table has an entry for each place only while it stays under four million; in larger images places are merged into
  the finest grid that fits, at last into one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Batch, Control, Progress

from ._images import LikelyFamily, Look
from ._training import announced

MOST_ENTRIES = 4_000_000


class Table(nn.Module):
    """ln p, float32 [classes, colours, places, contexts, grey levels]; a context is (left, up, the colour before)."""

    def __init__(self, look: Look, coarse: int) -> None:
        super().__init__()
        self.look, self.coarse = look, coarse
        c, h, w = look.shape
        self.contexts = coarse ** (2 if c == 1 else 3)
        each = look.kinds * c * self.contexts * len(look.values)
        side = next(
            s for s in range(1, max(h, w) + 1) if each * -(-h // s) * -(-w // s) <= MOST_ENTRIES or s >= max(h, w)
        )
        self.side, self.across = side, -(-w // side)
        places = -(-h // side) * self.across
        self.log_p = nn.Parameter(
            torch.zeros(look.kinds, c, places, self.contexts, len(look.values)), requires_grad=False
        )

    def place(self, i: Tensor, j: Tensor) -> Tensor:
        """The place that row i and column j belong to."""
        return i // self.side * self.across + j // self.side

    def context(self, left: Tensor, up: Tensor, before: Tensor) -> Tensor:
        """The context of neighbouring indices; `before` is the colour before, read in colour images only."""
        found = self._coarse(left) * self.coarse + self._coarse(up)
        return found if self.look.channels == 1 else found * self.coarse + self._coarse(before)

    def contexts_of(self, indices: Tensor) -> Tensor:
        """Of every pixel of indices int64 [B, C, H, W], each from pixels before it in reading order."""
        return self.context(
            F.pad(indices, (1, 0))[..., :-1],
            F.pad(indices, (0, 0, 1, 0))[..., :-1, :],
            F.pad(indices, (0, 0, 0, 0, 1, 0))[:, :-1],
        )

    def cells(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(colour, place, context, level) of every pixel of indices [B, C, H, W], each as that shape needs it."""
        _, c, h, w = indices.shape
        i, j = (torch.arange(n, device=indices.device) for n in (h, w))
        colour = torch.arange(c, device=indices.device)[:, None, None].expand(c, h, w)
        place = self.place(i[:, None], j[None, :]).expand(c, h, w)
        return colour, place, self.contexts_of(indices), indices

    def nats(self, indices: Tensor, y: int) -> Tensor:
        """-ln p(x | y) of indices [B, C, H, W], in nats [B]."""
        return -self.log_p[y][self.cells(indices)].sum((1, 2, 3))

    def _coarse(self, index: Tensor) -> Tensor:
        return index * self.coarse // len(self.look.values)


def smoothed(counts: Tensor, smoothing: float) -> Tensor:
    """ln p of counts [..., contexts, V]: each context leans on all contexts of its place, these on uniform."""
    V = counts.shape[-1]
    weight = smoothing * V
    usual = counts.sum(-2, keepdim=True)
    b = (usual + smoothing) / (usual.sum(-1, keepdim=True) + weight)
    return ((counts + weight * b) / (counts.sum(-1, keepdim=True) + weight)).log()


class MarkovField(LikelyFamily):
    """Markov mesh of counts with exact likelihood for images up to 64x64."""

    name = "markov_field"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("levels", 5, "coarse levels in which a neighbour counts", 1, 16),
        Control("smoothing", 0.02, "pseudo-counts for each grey level", 1e-6, 100),
    )

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        net = self._build(look)
        levels = torch.tensor(look.values)
        with announced(progress, f"fit {self.name}", look.kinds) as advance:
            for y in range(look.kinds):
                counts = torch.zeros_like(net.log_p[y], dtype=torch.float64)
                # A few images at a time: the positions of their pixels take eight bytes each, four times over.
                for mine in torch.chunk(x[labels == y], -(-len(x) // 256)):
                    indices = torch.bucketize((mine * 255).round().long().contiguous(), levels)
                    cells = [cell.expand_as(indices) for cell in net.cells(indices)]
                    counts.index_put_(tuple(cells), torch.ones((), dtype=torch.float64), accumulate=True)
                net.log_p[y] = smoothed(counts, float(self._settings["smoothing"]))
                advance(1)
        return net.to(device)

    def _build(self, look: Look) -> Table:
        return Table(look, int(self._settings["levels"]))

    def _nats(self, indices: Tensor) -> Tensor:
        assert isinstance(self._net, Table)
        each = torch.stack([self._net.nats(indices, y) for y in range(self._look.kinds)])
        return math.log(self._look.kinds) - each.neg().logsumexp(0)

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        labels = self._look.cycle(start, count)
        x = self._generate(labels.to(self._device), rng)
        # The levels are drawn, not approximated: there is no haze to take away.
        return Batch(replace(self._look, haze=0).render(x), self._look.names(labels))

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        net, (c, h, w) = self._net, self._look.shape
        assert isinstance(net, Table)
        dark = torch.zeros_like(labels)
        drawn = torch.zeros(len(labels), c, h, w, dtype=torch.long, device=labels.device)
        for i in range(h):
            for j in range(w):
                for k in range(c):
                    left = drawn[:, k, i, j - 1] if j else dark
                    up = drawn[:, k, i - 1, j] if i else dark
                    context = net.context(left, up, drawn[:, k - 1, i, j] if k else dark)
                    place = i // net.side * net.across + j // net.side
                    p = net.log_p[labels, k, place, context].exp().cpu()
                    drawn[:, k, i, j] = torch.multinomial(p, 1, generator=rng).squeeze(1).to(labels.device)
        return self._look.shades(drawn)
