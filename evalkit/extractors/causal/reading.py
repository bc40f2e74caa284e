"""Texts through a language model: windows of like length share a batch, and every scored token is read once.

Windows are sorted by length and cut into batches of about equally many tokens, so little is padding; states of padding
are dropped before the vocabulary is read, which is most of the work of a small model. Padding is on the right: a causal
model's states do not depend on what follows, and positions count from the first token of the window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .pooling import Pool
from .streaming import Given, Head, PairStatistics, Projected, Scores, TokenStatistics, pair_statistics
from .streaming import token_statistics as of_tokens
from .windows import Window

# Tokens a batch of windows may hold, padding counted, and positions whose vocabulary is read at once: small enough on
# a CPU for states and tiles to stay in its cache, large enough on a GPU to keep it busy.
TOKENS = {"cpu": 2048}
POSITIONS = {"cpu": 256}
TOKENS_ELSEWHERE, POSITIONS_ELSEWHERE = 32_768, 4096
# The shortest window of a batch has at least this share of the tokens of its longest, so at most a fifth is padding.
SHORTEST = 0.8


class Network(Protocol):
    """A causal language model: states of tokens, and the head that turns states into logits.

    head: None where logits are more than a product of states and a matrix; then `blocks` gives them, some positions
    at a time. context: the most tokens it reads at once.
    """

    @property
    def head(self) -> Head | None: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def context(self) -> int: ...
    def to(self, device: str) -> None: ...
    def states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """float32 [B, S, D] of int64 [B, S], padded on the right beyond lengths [B]."""

    def blocks(self, tokens: Tensor, size: int) -> Iterator[Tensor]:
        """Logits float32 [n, V] of one window int64 [S], at most `size` positions at a time, in order."""


class _Place(NamedTuple):
    """A window, the text it belongs to, and where its scored tokens go in the statistics of all texts.

    length: tokens that are read, one more than the window's where features need the text's last one.
    """

    text: int
    window: Window
    at: int
    length: int

    @property
    def begins(self) -> bool:
        """Whether this is the first window of its text."""
        return self.window.first == 1


@dataclass(frozen=True, eq=False)
class _Batch:
    """Windows of like length: tokens [B, S] and lengths [B]; of the scored positions row, column, target and place.

    begun: the text whose first window a row is, -1 for later windows.
    """

    tokens: Tensor
    lengths: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    places: Tensor
    begun: Sequence[int]


class _States:
    """Collects the pooled state [D] of each text from the batches that hold its first window."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._found: dict[int, Tensor] = {}

    def take(self, batch: _Batch, states: Tensor) -> None:
        """States [B, S, D] of a batch."""
        lengths = batch.lengths.tolist()
        for row, text in enumerate(batch.begun):
            if text >= 0:
                # A copy: a view would keep the states of the whole batch in memory.
                self._found[text] = self._pool.of(states[row, : lengths[row]]).float().clone()

    def rows(self) -> Tensor:
        """float32 [N, D] on the CPU, in the order of the texts."""
        return torch.stack([self._found[text] for text in range(len(self._found))]).cpu()


def read(network: Network, texts: Sequence[Tensor], windows: Sequence[Sequence[Window]]) -> list[TokenStatistics]:
    """Statistics [T] on the CPU of the scored tokens of each text, in order; texts int64 [m] on the network's device.

    `windows` are those of each text, and score at least one token of it.
    """
    return _read(network, texts, windows, None, None)


def read_pooled(
    network: Network, texts: Sequence[Tensor], windows: Sequence[Sequence[Window]], pool: Pool
) -> tuple[list[TokenStatistics], Tensor]:
    """As `read`, and from the same forward a pooled state of each text, float32 [N, D] on the CPU.

    A network without a head gives logits alone, so its first windows are read a second time for their states.
    """
    states = _States(pool)
    return _read(network, texts, windows, pool, states), states.rows()


def _read(
    network: Network,
    texts: Sequence[Tensor],
    windows: Sequence[Sequence[Window]],
    pool: Pool | None,
    states: _States | None,
) -> list[TokenStatistics]:
    counts = _counts(windows)
    found = torch.zeros(5, sum(counts))
    for batch in _batches(texts, windows, pool):
        for scores, targets, places in _scored(network, batch, network.head is None, states):
            found[:, places.cpu()] = torch.stack(list(of_tokens(scores, targets))).cpu()
    return [TokenStatistics(*part) for part in torch.split(found, counts, dim=1)]


def read_pair(
    sampling: Network, scoring: Network, texts: Sequence[Tensor], windows: Sequence[Sequence[Window]]
) -> list[PairStatistics]:
    """Statistics [T] on the CPU of each text's scored tokens under two models of one vocabulary; see `read`."""
    counts = _counts(windows)
    found = torch.zeros(4, sum(counts))
    by_row = sampling.head is None or scoring.head is None
    for batch in _batches(texts, windows):
        both = zip(_scored(sampling, batch, by_row), _scored(scoring, batch, by_row), strict=True)
        for (q, targets, places), (p, _, _) in both:
            found[:, places.cpu()] = torch.stack(list(pair_statistics(q, p, targets))).cpu()
    return [PairStatistics(*part) for part in torch.split(found, counts, dim=1)]


def _counts(windows: Sequence[Sequence[Window]]) -> list[int]:
    """How many tokens of each text are scored."""
    return [sum(w.stop - w.first + 1 for w in own) for own in windows]


def _batches(
    texts: Sequence[Tensor], windows: Sequence[Sequence[Window]], pool: Pool | None = None
) -> Iterator[_Batch]:
    device = texts[0].device
    room = TOKENS.get(device.type, TOKENS_ELSEWHERE)
    starts = [0, *accumulate(_counts(windows))]
    places = []
    for text, own in enumerate(windows):
        at = starts[text]
        for window in own:
            length = window.stop - window.start
            if pool is not None and window.first == 1:
                length = max(length, pool.reads(len(texts[text])))
            places.append(_Place(text, window, at, length))
            at += window.stop - window.first + 1
    # Longest first: what is too much for the memory shows at once.
    places.sort(key=lambda p: -p.length)
    taken: list[_Place] = []
    for place in places:
        longest = taken[0].length if taken else place.length
        if taken and (place.length < SHORTEST * longest or (len(taken) + 1) * longest > room):
            yield _batch(texts, taken)
            taken = []
        taken.append(place)
    if taken:
        yield _batch(texts, taken)


def _batch(texts: Sequence[Tensor], places: Sequence[_Place]) -> _Batch:
    device = texts[0].device
    lengths = [p.length for p in places]
    tokens = torch.zeros(len(places), max(lengths), dtype=torch.int64, device=device)
    rows, columns, targets, where = [], [], [], []
    for row, (text, (start, stop, first), at, length) in enumerate(places):
        tokens[row, :length] = texts[text][start : start + length]
        scored = stop - first + 1
        rows.append(torch.full((scored,), row))
        # s[t] is predicted where s[t - 1] was read.
        columns.append(torch.arange(first - 1 - start, stop - start))
        targets.append(texts[text][first : stop + 1])
        where.append(torch.arange(at, at + scored))
    return _Batch(
        tokens,
        torch.tensor(lengths, device=device),
        torch.cat(rows).to(device),
        torch.cat(columns).to(device),
        torch.cat(targets),
        torch.cat(where),
        [p.text if p.begins else -1 for p in places],
    )


def _scored(
    network: Network, batch: _Batch, by_row: bool, pooled: _States | None = None
) -> Iterator[tuple[Scores, Tensor, Tensor]]:
    """The scored positions of a batch, some at a time: what their logits are made of, their targets and places.

    by_row: one window after the other, as a network without a head must be read. pooled: is given all states.
    """
    size = POSITIONS.get(batch.tokens.device.type, POSITIONS_ELSEWHERE)
    if by_row:
        if pooled is not None and max(batch.begun) >= 0:
            pooled.take(batch, network.states(batch.tokens, batch.lengths))
        for row in range(len(batch.tokens)):
            yield from _scored_of_row(network, batch, row, size)
        return
    assert network.head is not None
    whole = network.states(batch.tokens, batch.lengths)
    if pooled is not None:
        pooled.take(batch, whole)
    states = whole[batch.rows, batch.columns]
    parts = [torch.split(each, size) for each in (states, batch.targets, batch.places)]
    for part, targets, places in zip(*parts, strict=True):
        yield Projected(part, network.head), targets, places


def _scored_of_row(network: Network, batch: _Batch, row: int, size: int) -> Iterator[tuple[Scores, Tensor, Tensor]]:
    tokens = batch.tokens[row, : int(batch.lengths[row])]
    own = batch.rows == row
    wanted, targets, places = batch.columns[own], batch.targets[own], batch.places[own.cpu()]
    if network.head is None:
        blocks = network.blocks(tokens, size)
    else:
        blocks = iter(torch.split(network.states(tokens[None], batch.lengths[row : row + 1])[0], size))
    for start, block in zip(range(0, len(tokens), size), blocks, strict=True):
        inside = (wanted >= start) & (wanted < start + size)
        if inside.any():
            chosen = block[wanted[inside] - start]
            scores = Given(chosen) if network.head is None else Projected(chosen, network.head)
            yield scores, targets[inside], places[inside.cpu()]
