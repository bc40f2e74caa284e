"""How varied and how new generated texts are, by their word n-grams: distinct, self-BLEU, novelty.

Words are what whitespace separates; an n-gram never crosses from one text into the next.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nlargest
from typing import NamedTuple

import torch

from ..errors import TooFewSamples
from ..resample import jackknife
from ..types import Estimate, Features, SampleSet, metric
from ._bounded import mixed, scored, unvaried
from ._guards import at_least_one
from ._words import Gram, Words, ngrams_of, texts_of


@metric(on={"image": None, "text": None}, better="higher", unit="share", min_n=2)
def distinct(samples: SampleSet, *, n: int = 2) -> Estimate:
    """Share of the word n-grams of all generated texts that are distinct, in (0, 1]; falls as texts repeat themselves.

    Li et al. 2016, section 5.1. Falls with the number of texts too. Interval: leave-one-out jackknife over texts.
    """
    return distinct_share(texts_of(samples), n=n)


@metric(on={"image": None, "text": None}, better="lower", unit="BLEU", min_n=3)
def self_bleu(samples: SampleSet, *, n: int = 4) -> Estimate:
    """Mean BLEU of each generated text against all the others, in [0, 1]; 1 where all texts say the same.

    Zhu et al. 2018 (Texygen), section 3.3. Rises with the number of texts. Interval: leave-one-out jackknife.
    """
    return mean_self_bleu(texts_of(samples), n=n)


@metric(on={"image": None, "text": None}, better="higher", unit="share", min_n=2)
def novelty(train: Features, samples: SampleSet, *, n: int = 4) -> Estimate:
    """Share of the word n-grams of the generated texts that occur nowhere in the training texts, in [0, 1].

    McCoy et al. 2023, section 4. 0 is copying; noise scores 1. Interval: leave-one-out jackknife over generated texts.
    """
    return novel_share(texts_of(train.samples), texts_of(samples), n=n)


def distinct_share(texts: Iterable[str], *, n: int = 2) -> Estimate:
    """Distinct word n-grams over all word n-grams of the texts together, in (0, 1], with its 95 % interval.

    Raises TooFewSamples when fewer than two texts have n words, BadSetting when n < 1.
    """
    grams = [Counter(ngrams_of(text.split(), at_least_one("n", n))) for text in texts]
    _check(grams, n)
    holders = Counter(gram for counts in grams for gram in counts)
    own = torch.tensor([sum(1 for gram in counts if holders[gram] == 1) for counts in grams], dtype=torch.float64)
    sizes = torch.tensor([counts.total() for counts in grams], dtype=torch.float64)
    # Without a text, the n-grams that only it holds are gone, and its share of the total.
    without = (len(holders) - own) / (sizes.sum() - sizes)
    value, n = len(holders) / float(sizes.sum()), int((sizes > 0).sum())
    found = jackknife(value, [without], low=0.0, high=1.0, sides=("fake",))
    return unvaried(found, n, lambda share: mixed(value, share, 0.0, 1.0))


def novel_share(train_texts: Iterable[str], fake_texts: Iterable[str], *, n: int = 4) -> Estimate:
    """Word n-grams of the generated texts, repeats counted, that no training text has, as a share in [0, 1].

    With its 95 % interval; the training texts are taken as given. Raises TooFewSamples when fewer than two generated
    texts have n words, BadSetting when n < 1.
    """
    known = {gram for text in train_texts for gram in ngrams_of(text.split(), at_least_one("n", n))}
    grams = [ngrams_of(text.split(), n) for text in fake_texts]
    _check(grams, n)
    new = torch.tensor([sum(1 for gram in own if gram not in known) for own in grams], dtype=torch.float64)
    sizes = torch.tensor([len(own) for own in grams], dtype=torch.float64)
    without = (new.sum() - new) / (sizes.sum() - sizes)
    found = jackknife(float(new.sum() / sizes.sum()), [without], low=0.0, high=1.0, sides=("fake",))
    return scored(found, int((sizes > 0).sum()))


def mean_self_bleu(texts: Iterable[str], *, n: int = 4) -> Estimate:
    """Mean sentence BLEU-n of each text with all the other texts as references, in [0, 1], with its 95 % interval.

    The convention of Texygen: weights 1 / n, zero matches counted as 0.1 (Chen & Cherry 2014, method 1), brevity by
    the reference of closest length. The interval leaves out each text as hypothesis and as reference, its length for
    the others' brevity excepted. Raises TooFewSamples unless three texts or more, all of them with words, are given;
    BadSetting when n < 1.
    """
    matches = _matches([text.split() for text in texts], at_least_one("n", n), least=3)
    scores = torch.tensor([_score(own, own.matched) for own in matches], dtype=torch.float64)
    left = scores.sum() - scores
    for own, score in zip(matches, scores.tolist(), strict=True):
        for other, losses in own.losses.items():
            left[other] += _score(own, [m - lost for m, lost in zip(own.matched, losses, strict=True)]) - score
    value = float(scores.mean())
    found = jackknife(value, [left / (len(scores) - 1)], low=0.0, high=1.0, sides=("fake",))
    return unvaried(found, len(scores), lambda share: mixed(value, share, 0.0, 1.0))


def self_bleu_scores(texts: Sequence[Words], n: int = 4) -> list[float]:
    """BLEU-n in [0, 1] of each text, given in words, against all the others; two texts or more, all with words."""
    return [_score(own, own.matched) for own in _matches(texts, n, least=2)]


def self_bleu_by_order(texts: Sequence[Words], n: int = 5) -> list[list[float]]:
    """BLEU-1 to BLEU-n in [0, 1], [n][texts], in one pass; as `self_bleu_scores` for each order."""
    matches = _matches(texts, n, least=2)
    return [[_score(own._replace(total=own.total[:k]), own.matched[:k]) for own in matches] for k in range(1, n + 1)]


class _Match(NamedTuple):
    """What a text has in common with the others, for n-grams of each order: matched of total, and its brevity penalty.

    losses: how many matches hang on one other text alone, by that text's index.
    """

    matched: list[int]
    total: list[int]
    brevity: float
    losses: dict[int, list[int]]


def _matches(texts: Sequence[Words], n: int, least: int) -> list[_Match]:
    """No pair of texts is compared: an n-gram's three largest counts tell the best and second best of the others."""
    worded = sum(1 for words in texts if words)
    if worded < max(least, len(texts)):
        raise TooFewSamples(f"{len(texts)} texts, {worded} with words; self-BLEU needs {least} or more, all with words")
    lengths = sorted(map(len, texts))
    found = [_Match([0] * n, [0] * n, _brevity(len(words), lengths), {}) for words in texts]
    for order in range(n):
        grams = [Counter(ngrams_of(words, order + 1)) for words in texts]
        holders: dict[Gram, list[tuple[int, int]]] = {}
        for i, counts in enumerate(grams):
            for gram, count in counts.items():
                holders.setdefault(gram, []).append((count, i))
        top = {gram: nlargest(3, held) for gram, held in holders.items()}
        for i, (counts, own) in enumerate(zip(grams, found, strict=True)):
            own.total[order] = counts.total()
            for gram, count in counts.items():
                others = [held for held in top[gram] if held[1] != i]
                if others:
                    best, who = min(count, others[0][0]), others[0][1]
                    own.matched[order] += best
                    lost = best - (min(count, others[1][0]) if len(others) > 1 else 0)
                    if lost:
                        own.losses.setdefault(who, [0] * n)[order] += lost
    return found


def _score(own: _Match, matched: Sequence[int]) -> float:
    # As in nltk: no word in common at all is a BLEU of 0; the smoothing is for the higher orders.
    if matched[0] == 0:
        return 0.0
    logs = [math.log((m or 0.1) / max(1, total)) for m, total in zip(matched, own.total, strict=True)]
    return own.brevity * math.exp(sum(logs) / len(logs))


def _brevity(length: int, lengths: Sequence[int]) -> float:
    """BLEU's penalty for a text shorter than the other text closest in length; `lengths` sorted, its own among them."""
    own = bisect_left(lengths, length)
    others = [lengths[i] for i in (own - 1, own + 1) if 0 <= i < len(lengths)]
    closest = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length > closest else math.exp(1 - closest / length)


def _check(grams: Sequence[Iterable[Gram]], n: int) -> None:
    if len([own for own in grams if own]) < 2:
        raise TooFewSamples(f"fewer than two texts have {n} words; no {n}-grams to compare")
