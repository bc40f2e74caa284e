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
    """A window, the text it belongs to, and where its scored tokens go in the statistics of all texts."""

    text: int
    window: Window
    at: int


@dataclass(frozen=True, eq=False)
class _Batch:
    """Windows of like length: tokens [B, S] and lengths [B]; of the scored positions row, column, target and place."""

    tokens: Tensor
    lengths: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    places: Tensor


def read(network: Network, texts: Sequence[Tensor], windows: Sequence[Sequence[Window]]) -> list[TokenStatistics]:
    """Statistics [T] on the CPU of the scored tokens of each text, in order; texts int64 [m] on the network's device.

    `windows` are those of each text, and score at least one token of it.
    """
    counts = _counts(windows)
    found = torch.zeros(5, sum(counts))
    for batch in _batches(texts, windows):
        for scores, targets, places in _scored(network, batch, network.head is None):
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


def _batches(texts: Sequence[Tensor], windows: Sequence[Sequence[Window]]) -> Iterator[_Batch]:
    device = texts[0].device
    room = TOKENS.get(device.type, TOKENS_ELSEWHERE)
    starts = [0, *accumulate(_counts(windows))]
    places = []
    for text, own in enumerate(windows):
        at = starts[text]
        for window in own:
            places.append(_Place(text, window, at))
            at += window.stop - window.first + 1
    # Longest first: what is too much for the memory shows at once.
    places.sort(key=lambda p: p.window.start - p.window.stop)
    taken: list[_Place] = []
    for place in places:
        length = place.window.stop - place.window.start
        longest = taken[0].window.stop - taken[0].window.start if taken else length
        if taken and (length < SHORTEST * longest or (len(taken) + 1) * longest > room):
            yield _batch(texts, taken)
            taken = []
        taken.append(place)
    if taken:
        yield _batch(texts, taken)


def _batch(texts: Sequence[Tensor], places: Sequence[_Place]) -> _Batch:
    device = texts[0].device
    lengths = [p.window.stop - p.window.start for p in places]
    tokens = torch.zeros(len(places), max(lengths), dtype=torch.int64, device=device)
    rows, columns, targets, where = [], [], [], []
    for row, (text, (start, stop, first), at) in enumerate(places):
        tokens[row, : stop - start] = texts[text][start:stop]
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
    )


def _scored(network: Network, batch: _Batch, by_row: bool) -> Iterator[tuple[Scores, Tensor, Tensor]]:
    """The scored positions of a batch, some at a time: what their logits are made of, their targets and places.

    by_row: one window after the other, as a network without a head must be read.
    """
    size = POSITIONS.get(batch.tokens.device.type, POSITIONS_ELSEWHERE)
    if by_row:
        for row in range(len(batch.tokens)):
            yield from _scored_of_row(network, batch, row, size)
        return
    assert network.head is not None
    states = network.states(batch.tokens, batch.lengths)[batch.rows, batch.columns]
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
