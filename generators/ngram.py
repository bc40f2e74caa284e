"""Texts from a Markov chain: the next word by what followed the last few words in the training texts.

- P(w | h) = (c(h w) + T(h) P(w | h')) / (c(h) + T(h)): Witten-Bell interpolation (Chen & Goodman 1999, sec. 2.5), where
  h' is h without its oldest word, c counts and T(h) is how many different words followed h. The recursion ends in the
  uniform distribution over the vocabulary.
- P(w | h) = (c(h w) - D + D T(h) P(w | h')) / c(h): Kneser-Ney interpolation (Kneser & Ney 1995; Chen & Goodman 1999,
  eq. 26). Below the longest n-grams c is the number of different words seen before h w, so that a word which always
  follows the same one is unlikely elsewhere. D = n1 / (n1 + 2 n2) for each length, where n1 and n2 are how many n-grams
  count once and twice (eq. 27). The model is the same counts read in another way, so nothing is learnt anew.
- A draw walks the same recursion: from what followed h with the share of h that is not left to h', else from h'. It
  needs no array over the vocabulary.
- An end token is learnt like a word, so that length is too. Words are what stands between blanks; at level
  "character" every character is a word.
- `likelihood` is exact: the probability of the words and of the end, blanks between words counted as one byte. A word
  never seen is an escape that spells it (see `_escape`), and no context for what follows.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import BadSetting, BadSource
from evalkit.types import Batch, Control, Progress, SampleSet

from ._escape import escape_nats, escaped
from ._family import Family
from ._texts import pack, read_texts, unpack

if TYPE_CHECKING:
    from evalkit.types import Media

# The end of a text is token 0; before its start, a context is filled up with it too.
END = 0
LEVELS = ("word", "character")
# A word never seen, as a context: followed by nothing.
UNKNOWN = -1
# Where few n-grams count once or twice, n1 / (n1 + 2 n2) can be 0 or 1, and a word would lose nothing or all it has.
LEAST_DISCOUNT, MOST_DISCOUNT = 0.1, 0.9


class Ngram(Family):
    """Markov chain over words or characters with interpolated back-off."""

    name = "ngram"
    modality = "text"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("order", 3, "length of the longest n-gram counted, so order - 1 tokens are remembered", 1, 10),
        Control("level", "word", "'word' or 'character'"),
        Control(
            "smoothing",
            "witten_bell",
            "how unseen n-grams get their share: 'witten_bell' or 'kneser_ney'",
            choices=("witten_bell", "kneser_ney"),
        ),
    )
    # Both read the same counts.
    at_sampling = frozenset({"smoothing"})

    _vocabulary: list[str]
    # grams[k]: int32 [M, k + 1] n-grams in lexical order; counts[k]: int32 [M].
    _grams: list[Tensor]
    _counts: list[Tensor]
    # Context -> what followed it: tokens, running weights, and what all weigh together with what is left to h'.
    _followers: dict[tuple[int, ...], tuple[list[int], list[float], float]]
    _number: dict[str, int]
    _longest: int

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        if self._settings["level"] not in LEVELS:
            raise BadSetting(f"ngram.level = {self._settings['level']!r}; expected 'word' or 'character'")

    @property
    def order(self) -> int:
        return int(self._settings["order"])

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens that `probabilities` speaks of; the first is the end of the text."""
        return tuple(self._vocabulary)

    def probabilities(self, context: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """P(token | context), float64 [V] in the order of `vocabulary`, summing to 1; unseen contexts back off."""
        h = self._context([self._number.get(w, UNKNOWN) for w in context])
        p = np.full(len(self._vocabulary), 1 / len(self._vocabulary))
        for k in range(len(h) + 1):
            found = self._followers.get(h[len(h) - k :])
            if found is None:
                break
            tokens, running, total = found
            weight = np.zeros_like(p)
            weight[tokens] = np.diff(running, prepend=0)
            p = (weight + (total - running[-1]) * p) / total
        return p

    def prepare(self, sample: Media) -> Tensor:
        """int64 [S] word numbers between two ends, escapes negative; BadSource for an image, BadSetting before fit."""
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before likelihood")
        if not isinstance(sample, str):
            raise BadSource(f"{self.name} learned texts, this is an image; give it a text")
        # The blank behind it ends a word that is spelt.
        close = " " if self._settings["level"] == "word" else ""
        words = self._split(sample.strip())
        return torch.tensor([END, *(self._number.get(w, escaped(w + close)) for w in words), END])

    def likelihood(self, batch: Tensor) -> Tensor:
        """float32 [B, 3] of (nats, words with the end, bytes in UTF-8) of texts as `prepare` made them, [B, S]."""
        batch = batch.cpu()
        blank = int(self._settings["level"] == "word")
        sizes = [len(w.encode()) + blank for w in self._vocabulary]
        nats, rows = escape_nats(batch), []
        for i, (_, *words, end) in enumerate(batch.tolist()):
            seen = [max(w, UNKNOWN) for w in words]
            known = [(at, w) for at, w in enumerate([*seen, end]) if w != UNKNOWN]
            nats[i] -= sum(math.log(self._probability(self._context(seen[:at]), w)) for at, w in known)
            rows.append(sum(sizes[w] if w >= 0 else -w for w in words) - blank * bool(words))
        units = torch.full_like(nats, batch.shape[1] - 1)
        return torch.stack([nats, units, torch.tensor(rows).double()], 1).float()

    def _probability(self, h: tuple[int, ...], token: int) -> float:
        """P(token | h), as in `probabilities` but of one token."""
        p = 1 / len(self._vocabulary)
        for k in range(len(h) + 1):
            found = self._followers.get(h[len(h) - k :])
            if found is None:
                break
            tokens, running, total = found
            at = bisect_left(tokens, token)
            met = at < len(tokens) and tokens[at] == token
            weight = running[at] - (running[at - 1] if at else 0) if met else 0
            p = (weight + (total - running[-1]) * p) / total
        return p

    def _context(self, tokens: list[int]) -> tuple[int, ...]:
        """The last order - 1 tokens, filled up before the start of the text."""
        return tuple([END] * (self.order - 1) + tokens)[len(tokens) :]

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        texts = [self._split(t) for t in read_texts(samples, self.name)]
        self._vocabulary = ["", *sorted({w for t in texts for w in t})]
        number = {w: i for i, w in enumerate(self._vocabulary)}
        counters: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(self.order)]
        for text in texts:
            tokens = [END] * (self.order - 1) + [number[w] for w in text] + [END]
            for at in range(self.order - 1, len(tokens)):
                for k, counter in enumerate(counters):
                    counter[tuple(tokens[at - k : at + 1])] += 1
        tables = [sorted(counter.items()) for counter in counters]
        self._grams = [torch.tensor([g for g, _ in table], dtype=torch.int32) for table in tables]
        self._counts = [torch.tensor([c for _, c in table], dtype=torch.int32) for table in tables]
        self._longest = max(map(len, texts))
        self._index()
        return sum(len(c) for c in self._counts)

    def _index(self) -> None:
        self._number = {w: i for i, w in enumerate(self._vocabulary)}
        self._followers = {}
        is_kneser_ney = self._settings["smoothing"] == "kneser_ney"
        for k, grams in enumerate(self._grams):
            c = self._counts[k].tolist()
            if is_kneser_ney and k + 1 < self.order:
                c = self._continuations(k)
            d = self._discount(c) if is_kneser_ney else 0
            for (*context, token), count in zip(grams.tolist(), c, strict=True):
                tokens, running, _ = self._followers.setdefault(tuple(context), ([], [], 0.0))
                tokens.append(token)
                running.append(count - d + (running[-1] if running else 0))
            for h, (tokens, running, _) in self._followers.items():
                if len(h) == k:
                    # Kneser-Ney takes D from each of the T(h) words; Witten-Bell counts T(h) words more.
                    self._followers[h] = tokens, running, running[-1] + len(tokens) * (d or 1)

    def _continuations(self, k: int) -> list[int]:
        """N1+(. g): how many different words were seen before each n-gram g of k + 1 words, in the order of `grams`."""
        after: Counter[tuple[int, ...]] = Counter(tuple(g[1:]) for g in self._grams[k + 1].tolist())
        return [after[tuple(g)] for g in self._grams[k].tolist()]

    def _discount(self, counts: list[int]) -> float:
        """D of n-grams of one length, from how many of them count once and twice."""
        n1, n2 = counts.count(1), counts.count(2)
        return min(max(n1 / (n1 + 2 * n2), LEAST_DISCOUNT), MOST_DISCOUNT) if n1 else LEAST_DISCOUNT

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        chance = np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
        return Batch([self._text(chance) for _ in range(count)])

    def _text(self, chance: np.random.Generator) -> str:
        tokens: list[int] = []
        while len(tokens) < self._longest:
            token = self._next(self._context(tokens), chance)
            if token != END:
                tokens.append(token)
            elif self._join(tokens).strip():
                break
            # An end before the first word would be an empty text: draw again.
        return self._join(tokens).strip()

    def _next(self, h: tuple[int, ...], chance: np.random.Generator) -> int:
        for k in range(len(h) + 1):
            found = self._followers.get(h[k:])
            if found is not None:
                tokens, running, total = found
                u = chance.random() * total
                if u < running[-1]:
                    return tokens[bisect_right(running, u)]
        return int(chance.integers(len(self._vocabulary)))

    def _split(self, text: str) -> list[str]:
        return text.split() if self._settings["level"] == "word" else list(text)

    def _join(self, tokens: list[int]) -> str:
        return (" " if self._settings["level"] == "word" else "").join(self._vocabulary[i] for i in tokens)

    def _tensors(self) -> dict[str, Tensor]:
        kept = {f"grams.{k}": g for k, g in enumerate(self._grams)} | {
            f"counts.{k}": c for k, c in enumerate(self._counts)
        }
        return {"vocabulary": pack(self._vocabulary), **kept}

    def _facts(self) -> dict[str, Any]:
        return {"longest": self._longest}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._vocabulary, self._longest = unpack(tensors["vocabulary"]), int(facts["longest"])
        self._grams = [tensors[f"grams.{k}"] for k in range(self.order)]
        self._counts = [tensors[f"counts.{k}"] for k in range(self.order)]
        self._index()
