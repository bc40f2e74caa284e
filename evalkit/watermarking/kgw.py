"""KGW: a keyed share of the vocabulary is green after each context, and the model is nudged towards it.

Kirchenbauer et al. 2023, "A watermark for large language models" and "On the reliability of watermarks": the seed is a
function of the last tokens, the green list the first int(gamma V) entries of a random permutation, whose logits gain
delta. The seeding functions and their constants are those of the authors' code. With `selfhash` the token itself is
part of its seed, so its greenness needs no earlier permutation.

A token counts once after each seed: a repeated n-gram is not fresh evidence (section 4 of the second paper). The
authors leave out repeated n-grams only; with the schemes that take a minimum, different n-grams often come to one seed,
whose token is then the same coin counted twice, and p-values come out too small. With simple_1 both rules are one.
Under the null each scored token is green with probability int(gamma V) / V over the choice of the key; tokens after
one context share a list and are negatively associated, so the binomial tail is no smaller than the true one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Generator, Tensor

from ..errors import BadSetting
from .evidence import Evidence
from .randomness import DEVICES, Device, generator
from .tails import binomial_tail, normal_tail

HASH_KEY = 15485863
TABLE_SIZE, TABLE_SEED = 1_000_003, 2971215073
SEEDS = 2**64 - 1
# Context tokens that decide a seed; with selfhash the last of them is the token itself.
WIDTHS = {"simple_1": 1, "minhash": 4, "selfhash": 4, "skipgram": 5}
# Candidates that are tried for greenness of their own when drawing with selfhash; the authors' limit too.
CANDIDATES = 40
# Green lists kept, in bytes of their masks.
KEPT = 1 << 25
SHORTEST_WINDOW = 25


@cache
def _table() -> Tensor:
    """The authors' fixed permutation of 0..1000002, plus one: int64 [1000003]."""
    drawn = torch.randperm(TABLE_SIZE, generator=torch.Generator().manual_seed(TABLE_SEED))
    return drawn + 1


def _mixed(numbers: Tensor) -> Tensor:
    return _table()[numbers % TABLE_SIZE]


@dataclass(frozen=True)
class Window:
    """The stretch of scored tokens [start, end) that speaks loudest, and its p-value corrected for the search."""

    start: int
    end: int
    green: int
    z: float
    p: float
    windows: int


class Kgw:
    """One KGW key: the model's vocabulary (not the tokenizer's), share gamma, push delta, hash key, seeding."""

    def __init__(
        self,
        vocabulary: int,
        *,
        gamma: float = 0.25,
        delta: float = 2.0,
        key: int = HASH_KEY,
        seeding: str = "simple_1",
        device: Device = "cpu",
    ) -> None:
        """Raises BadSetting for a share that leaves no green or no red token, or an unknown seeding or device."""
        if seeding not in WIDTHS:
            raise BadSetting(f"seeding {seeding!r}; expected one of {', '.join(WIDTHS)}")
        if device not in DEVICES:
            raise BadSetting(f"device {device!r}; expected cpu or cuda: where the green lists were drawn")
        if not (math.isfinite(gamma) and 0 < int(gamma * vocabulary) < vocabulary):
            raise BadSetting(f"gamma = {gamma!r} of {vocabulary} tokens leaves no green or no red one; expected 0.25")
        if not (math.isfinite(delta) and delta >= 0):
            raise BadSetting(f"delta = {delta!r}; expected a number from 0: what is added to green logits")
        self.vocabulary, self.gamma, self.delta, self.key = vocabulary, gamma, delta, key
        self.seeding, self.device = seeding, device
        self._size = int(gamma * vocabulary)
        self._masks: OrderedDict[int, Tensor] = OrderedDict()

    @property
    def share(self) -> float:
        """The green share as it is drawn: int(gamma V) / V."""
        return self._size / self.vocabulary

    @property
    def needed(self) -> int:
        """Tokens before the one that is scored."""
        return WIDTHS[self.seeding] - (self.seeding == "selfhash")

    def seed(self, context: list[int]) -> int:
        """The generator's seed after a context; with selfhash its last token is the one that is scored."""
        ids = torch.tensor(context[-WIDTHS[self.seeding] :])
        # int64 products wrap around, as they do in the authors' code.
        if self.seeding == "simple_1":
            seed = int(self.key * ids.sum())
        elif self.seeding == "minhash":
            seed = int(_mixed(self.key * ids).min())
        elif self.seeding == "skipgram":
            seed = int(_mixed(self.key * ids[0]))
        else:
            seed = int((self.key * _mixed(ids) * _mixed(ids[-1])).min())
        return seed % SEEDS

    def greenlist(self, context: list[int]) -> Tensor:
        """The green tokens after a context in the order drawn, int64 [int(gamma V)]."""
        return self._drawn(self.seed(context))[: self._size]

    def green(self, context: list[int]) -> Tensor:
        """Which tokens are green after a context, bool [V]."""
        return self._mask(self.seed(context))

    def _own_seeds(self, text: list[int], candidates: list[int]) -> list[int]:
        """Seeds of the selfhash scheme for each candidate after a text."""
        before, last = _mixed(torch.tensor(text[-self.needed :])), _mixed(torch.tensor(candidates))
        whole = torch.cat([before.expand(len(candidates), -1), last[:, None]], 1)
        return [seed % SEEDS for seed in (self.key * whole * last[:, None]).amin(1).tolist()]

    def _mask(self, seed: int) -> Tensor:
        mask = self._masks.get(seed)
        if mask is None:
            mask = torch.zeros(self.vocabulary, dtype=torch.bool)
            mask[self._drawn(seed)[: self._size]] = True
            self._masks[seed] = mask
            if len(self._masks) * self.vocabulary > KEPT:
                self._masks.popitem(last=False)
        else:
            self._masks.move_to_end(seed)
        return mask

    def _drawn(self, seed: int) -> Tensor:
        rng = generator(self.device).manual_seed(seed)
        return torch.randperm(self.vocabulary, generator=rng, device=self.device).cpu()

    # -------------------------------------------------------------------------------------------- detection

    def flags(self, tokens: list[int], *, unique: bool = True) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether each scored token is green, in order; a pair of seed and token is scored once, or each time."""
        needed, seen, found = self.needed, set(), []
        for i in range(needed, len(tokens)):
            ngram = tokens[i - needed : i + 1]
            seed, token = self.seed(ngram if self.seeding == "selfhash" else ngram[:-1]), tokens[i]
            if unique and (seed, token) in seen:
                continue
            seen.add((seed, token))
            found.append(bool(self._mask(seed)[token]))
        return np.array(found, dtype=bool)

    def test(self, tokens: list[int], *, unique: bool = True) -> Evidence:
        """The share of green tokens, its z-score and exact binomial p-value."""
        flags = self.flags(tokens, unique=unique)
        n, green = len(flags), int(flags.sum())
        if n == 0:
            return Evidence(0.0, 0.0, 1.0, 0, len(tokens))
        return Evidence(green / n, self.z(green, n), binomial_tail(green, n, self.share), n, len(tokens))

    def z(self, green: int, n: int) -> float:
        """(g - gamma n) / sqrt(n gamma (1 - gamma)); Kirchenbauer et al. 2023, eq. 3."""
        return (green - self.gamma * n) / math.sqrt(n * self.gamma * (1 - self.gamma))

    def normal_p(self, green: int, n: int) -> float:
        """The p-value of the references: the normal tail of z."""
        return normal_tail(self.z(green, n))

    def scan(self, tokens: list[int], *, shortest: int = SHORTEST_WINDOW) -> Window:
        """The window of scored tokens with the smallest p-value, corrected for all windows looked at (Bonferroni).

        Windows are `shortest` tokens and its doublings, each a quarter of its length after the last, and the whole:
        any stretch of L >= shortest tokens shares most of its length with one of them, and there are few. Raises
        BadSetting when a window is shorter than one token.
        """
        if shortest < 1:
            raise BadSetting(f"windows of {shortest} tokens; expected at least 1")
        flags = self.flags(tokens)
        total = np.concatenate([[0], np.cumsum(flags)])
        spans = windows(len(flags), shortest)
        if not spans:
            return Window(0, 0, 0, 0.0, 1.0, 0)
        counts = [int(total[end] - total[start]) for start, end in spans]
        p_values = [binomial_tail(g, end - start, self.share) for g, (start, end) in zip(counts, spans, strict=True)]
        best = int(np.argmin(p_values))
        (start, end), green = spans[best], counts[best]
        p = min(1.0, len(spans) * p_values[best])
        return Window(start, end, green, self.z(green, end - start), p, len(spans))

    def highest_z(self, tokens: list[int]) -> float:
        """The highest z-score of all windows of any length, the authors' WinMax; it has no p-value of its own."""
        total = np.concatenate([[0], np.cumsum(self.flags(tokens))])
        best = -math.inf
        for length in range(1, len(total)):
            green = int((total[length:] - total[:-length]).max())
            best = max(best, self.z(green, length))
        return best

    # -------------------------------------------------------------------------------------------- generation

    def biased(self, logits: Tensor, texts: list[list[int]]) -> Tensor:
        """Logits [B, V] with delta added to the green tokens; a text without enough context stays as it is."""
        logits = logits.clone()
        for row, text in enumerate(texts):
            if len(text) < self.needed:
                continue
            if self.seeding == "selfhash":
                likely = logits[row].topk(min(CANDIDATES, self.vocabulary)).indices.tolist()
                green = [
                    t for t, seed in zip(likely, self._own_seeds(text, likely), strict=True) if self._mask(seed)[t]
                ]
                logits[row, green] += self.delta
            else:
                logits[row, self.green(text)] += self.delta
        return logits

    def choose(self, logits: Tensor, texts: list[list[int]], rng: Generator) -> Tensor:
        """An ordinary draw [B]: the mark is in the logits."""
        return torch.multinomial(logits.softmax(-1), 1, generator=rng).squeeze(1)


def windows(n: int, shortest: int) -> list[tuple[int, int]]:
    """Stretches of n tokens that `Kgw.scan` looks at: lengths shortest * 2^j at quarter steps, and the whole."""
    found, length = [], shortest
    while length < n:
        found += [(start, start + length) for start in range(0, n - length + 1, max(1, length // 4))]
        length *= 2
    return [*found, (0, n)] if n else []
