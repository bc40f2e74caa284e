"""Transformer blocks, for the network that reads from left to right and for the one that fills gaps.

Pre-norm with RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), heads of equal width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 4
# How many neighbouring tokens a network that fills gaps sees at once, before any attention: two on each side.
NEAR = 5


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """x [B, H, S, E] turned by its positions [S]: pairs of coordinates as angles, so that q.k sees distances only."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = positions[:, None] * rates
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Cache:
    """Keys and values [B, H, S, E] of one layer so far, with room to grow: one copy a doubling, not one a token."""

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self._k, self._v, self.length = k, v, k.shape[2]

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add what follows, and return everything so far."""
        start, self.length = self.length, self.length + k.shape[2]
        if self.length > self._k.shape[2]:
            self._k, self._v = (F.pad(x, (0, 0, 0, 2 * self.length - x.shape[2])) for x in (self._k, self._v))
        self._k[:, :, start : self.length] = k
        self._v[:, :, start : self.length] = v
        return self._k[:, :, : self.length], self._v[:, :, : self.length]

    def keep(self, rows: Tensor) -> None:
        """Drop every text but those of `rows`, a mask [B]."""
        self._k, self._v = self._k[rows], self._v[rows]


class Block(nn.Module):
    """Attention and a feed-forward layer, each on normalised input and added back."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, positions: Tensor, past: Cache | None = None, visible: Tensor | None = None
    ) -> tuple[Tensor, Cache]:
        """x [B, S, D]; with `visible` [B, S] everything there is seen from everywhere, else only what came before."""
        b, s, d = x.shape
        qkv: Tensor = self.qkv(self.norm1(x))
        q, k, v = qkv.view(b, s, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, positions), rotate(k, positions)
        if past is None:
            past = Cache(k, v)
        else:
            k, v = past.extend(k, v)
        mask = None if visible is None else visible[:, None, None, :]
        # One new token may see everything before it; several are the start of a text, where no cache exists yet.
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and s > 1)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(b, s, d)))
        return x + self.drop(self.feed(self.norm2(x))), past


class Filler(nn.Module):
    """Tokens [B, S], some of them the mask -> what belongs where the mask is, from both sides.

    A mask says nothing of itself, so without `near` even the most likely neighbour of a token is known only after
    attention has learnt to find places by distance. Small networks spend hundreds of steps on that, at the nats of the
    plain frequencies. A convolution over the tokens (as in Gulati et al. 2020, sec. 2.2) shows the neighbours at once.
    """

    def __init__(self, vocabulary: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        # One more than can be written: the mask.
        self.mask = vocabulary
        self.embed = nn.Embedding(vocabulary + 1, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.near = nn.Conv1d(width, width, NEAR, padding=NEAR // 2, bias=False)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, tokens: Tensor, visible: Tensor, asked: Tensor) -> Tensor:
        """Logits [M, V] at the M places that `asked` [B, S] marks; what `visible` [B, S] leaves out is padding."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embed(tokens) * math.sqrt(self.embed.embedding_dim)
        # Padding is nothing here too, or a text's end would look otherwise in another batch.
        x = self.drop(x + self.near((x * visible[..., None]).transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x, _ = block(x, positions, visible=visible)
        return F.linear(self.norm(x[asked]), self.embed.weight[:-1])
