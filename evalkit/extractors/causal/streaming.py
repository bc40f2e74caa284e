"""Statistics of next-token distributions without ever holding one: the vocabulary is read in slices.

Of N positions and a vocabulary of V, logits [N, V] are made slice by slice, and what is kept of each is a running
maximum and three sums: with x = z - max, sum e^x, sum e^x x and sum e^x x^2. They give log-sum-exp, entropy and the
variance of ln p; when the maximum rises, sums move to the new centre exactly. So memory is that of one tile, whatever
the vocabulary, and a tile stays in the processor's cache for the passes over it.

Rank counts strictly greater logits, so ties are in the token's favour. The token's own logit is a product of its own,
equal to the tile's up to the last bit: its column is left out of the count, and a tie with another column may be
counted when it is one of rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

# Columns of a tile.
SLICE = 4096


class TokenStatistics(NamedTuple):
    """Of each of n scored tokens, float32 [n] each, natural logarithms.

    log_p: ln p of the token that came, <= 0; rank: 1 + how many tokens are strictly likelier; entropy: of the
    distribution, >= 0; mu and variance: mean and variance of ln p of a token drawn from it; mu = -entropy.
    """

    log_p: Tensor
    rank: Tensor
    entropy: Tensor
    mu: Tensor
    variance: Tensor


class PairStatistics(NamedTuple):
    """Of each of n positions, float32 [n] each: ln p and ln q of the token; mean and variance of ln p under q."""

    log_p: Tensor
    log_q: Tensor
    mu: Tensor
    variance: Tensor


@dataclass(frozen=True, eq=False)
class Head:
    """The output projection of a language model: logits = states @ weight.T + bias; [V, D] and [V]."""

    weight: Tensor
    bias: Tensor | None = None


class Scores(Protocol):
    """Logits of n positions over a vocabulary, made when asked for."""

    def of(self, tokens: Tensor) -> Tensor:
        """The logit of one token for each position, [n]."""

    def slices(self) -> Iterator[tuple[int, Tensor]]:
        """First column, and logits [n, C] that the reader may overwrite; until the next one is asked for."""


class Projected:
    """Logits as a product of states [n, D] and a head."""

    def __init__(self, states: Tensor, head: Head) -> None:
        self._states, self._head = states, head

    def of(self, tokens: Tensor) -> Tensor:
        found = (self._states * self._head.weight[tokens]).sum(1)
        return found if self._head.bias is None else found + self._head.bias[tokens]

    def slices(self) -> Iterator[tuple[int, Tensor]]:
        weight, bias, n = self._head.weight, self._head.bias, len(self._states)
        # One buffer for all tiles: a fresh one each time costs as much in page faults as the product itself.
        buffer = self._states.new_empty(n * min(SLICE, len(weight)))
        for start in range(0, len(weight), SLICE):
            part = weight[start : start + SLICE]
            tile = buffer[: n * len(part)].view(n, len(part))
            torch.mm(self._states, part.T, out=tile)
            if bias is not None:
                tile += bias[start : start + SLICE]
            yield start, tile


class Given:
    """Logits [n, V] that a model gave whole."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits.float()

    def of(self, tokens: Tensor) -> Tensor:
        return self._logits.gather(1, tokens[:, None])[:, 0]

    def slices(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self._logits.shape[1], SLICE):
            yield start, self._logits[:, start : start + SLICE].clone()


class _Sums:
    """Running sums of e^a, e^a b and e^a b^2 [n], a and b measured from maxima that may rise; float64."""

    def __init__(self, n: int, like: Tensor) -> None:
        wide = torch.float32 if like.device.type == "mps" else torch.float64
        self.zeroth, self.first, self.second = (torch.zeros(n, dtype=wide, device=like.device) for _ in range(3))

    def recentre(self, weight: Tensor, values: Tensor) -> None:
        """a falls by `weight` and b by `values`, both [n] and >= 0: maxima rose by so much."""
        w, v = (-weight).to(self.first).exp(), values.to(self.first)
        self.second = w * (self.second - 2 * v * self.first + v.square() * self.zeroth)
        self.first = w * (self.first - v * self.zeroth)
        self.zeroth = w * self.zeroth

    def add(self, powers: Tensor, values: Tensor) -> None:
        """A tile of e^a and of b, [n, C] each; `powers` is overwritten."""
        self.zeroth += powers.sum(1)
        self.first += powers.mul_(values).sum(1)
        self.second += powers.mul_(values).sum(1)

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [n] and variance [n] of b where b has weight e^a."""
        mean = self.first / self.zeroth
        return mean, (self.second / self.zeroth - mean.square()).clamp_min(0)


class _Maximum:
    """The running maximum [n] of logits, and how far each tile raised it."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def rise(self, tile: Tensor) -> Tensor:
        """How far the tile's maxima lie above those so far, [n], >= 0; 0 for the first tile, where no sum exists."""
        before, highest = self.value, tile.amax(1)
        self.value = highest if before is None else torch.maximum(before, highest)
        return torch.zeros_like(highest) if before is None else self.value - before


@torch.no_grad()
def token_statistics(scores: Scores, tokens: Tensor) -> TokenStatistics:
    """What came, int64 [n], against what the model expected."""
    own = scores.of(tokens)
    sums, top, rank = _Sums(len(tokens), own), _Maximum(), torch.ones_like(own)
    room: Tensor | None = None
    for start, tile in scores.slices():
        width = tile.shape[1]
        room = torch.empty_like(tile) if room is None or room.shape != tile.shape else room
        # As floats: summing truth values is several times slower.
        rank += torch.gt(tile, own[:, None], out=room).sum(1)
        mine = tile.gather(1, (tokens - start).clamp(0, width - 1)[:, None])[:, 0]
        rank -= ((mine > own) & (tokens >= start) & (tokens < start + width)).float()
        rise = top.rise(tile)
        sums.recentre(rise, rise)
        assert top.value is not None
        tile -= top.value[:, None]
        sums.add(torch.exp(tile, out=room), tile)
    assert top.value is not None
    mean, variance = sums.moments
    mass = sums.zeroth.log()
    # Rounding may leave ln p of a certain token above 0.
    log_p = (own.to(mass) - top.value - mass).clamp_max(0)
    entropy = (mass - mean).clamp_min(0)
    return TokenStatistics(log_p.float(), rank, entropy.float(), -entropy.float(), variance.float())


@torch.no_grad()
def pair_statistics(q: Scores, p: Scores, tokens: Tensor) -> PairStatistics:
    """Tokens int64 [n] under both models, and ln p averaged over q: Bao et al. 2024, eqs. 5 and 6."""
    own_q, own_p = q.of(tokens), p.of(tokens)
    crossed, plain = _Sums(len(tokens), own_p), _Sums(len(tokens), own_p)
    top_q, top_p = _Maximum(), _Maximum()
    for (_, a), (_, b) in zip(q.slices(), p.slices(), strict=True):
        rise_q, rise_p = top_q.rise(a), top_p.rise(b)
        crossed.recentre(rise_q, rise_p)
        plain.recentre(rise_p, rise_p)
        assert top_q.value is not None and top_p.value is not None
        a -= top_q.value[:, None]
        b -= top_p.value[:, None]
        crossed.add(a.exp_(), b)
        plain.zeroth += b.exp_().sum(1)
    assert top_q.value is not None and top_p.value is not None
    mean, variance = crossed.moments
    mass_q, mass_p = crossed.zeroth.log(), plain.zeroth.log()
    log_p = own_p.to(mass_p) - top_p.value - mass_p
    log_q = own_q.to(mass_q) - top_q.value - mass_q
    return PairStatistics(log_p.float(), log_q.float(), (mean - mass_p).float(), variance.float())
