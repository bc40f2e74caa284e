"""How much texts repeat themselves and each other: n-gram diversity, seq-rep, rep-n, compression ratio, Zipf's law.

Every formula is a published convention, and each falls or rises with the number and length of texts: compare at equal
n. Words are what whitespace separates.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import TooFewSamples
from ..resample import around, jackknife
from ..types import Estimate, Features, Part, SampleSet, metric
from ._bounded import mixed, scored, unvaried
from ._guards import at_least_one
from ._words import Words, ngrams_of, texts_of

REPEATED = (2, 3, 4)
MOST_WORDS = 5000
LEVEL = 9


@metric(on={"image": None, "text": None}, better="higher", unit="sum of shares", min_n=2)
def ngram_diversity(samples: SampleSet, *, n: int = 4) -> Estimate:
    """Sum over orders 1..n of distinct n-grams over n-grams of all generated texts joined by spaces, in (0, n].

    Meister et al. 2023 and the package `diversity`: an n-gram may cross from one text into the next. Falls with the
    number of texts. Interval: leave-one-out jackknife, an n-gram belonging to the text it begins in.
    """
    return diversity_of_ngrams([text.split() for text in texts_of(samples)], n=n)


@metric(on={"image": None, "text": None}, better="lower", unit="share", min_n=2)
def seq_rep(samples: SampleSet, *, n: int = 4) -> Estimate:
    """Mean over generated texts of the share of a text's n-grams that repeat an earlier one of it, in [0, 1).

    seq-rep-n of Welleck et al. 2020, section 6. Texts of fewer than n words are left out. Interval: standard error.
    """
    return mean_repetition([text.split() for text in texts_of(samples)], n=n)


@metric(on={"image": None, "text": None}, better="lower", unit="share", min_n=2)
def repetition(samples: SampleSet) -> dict[str, Estimate]:
    """rep-n for n = 2, 3, 4: share of all n-grams that repeat an earlier one of their text, in [0, 1).

    Su et al. 2022 (SimCTG), section 4: they print it times 100. Counts are summed over the texts, so long texts weigh
    more than in `seq_rep`. Interval: leave-one-out jackknife.
    """
    words = [text.split() for text in texts_of(samples)]
    return {str(n): _rep_of(_counts(words, (n,))) for n in REPEATED}


# A metric of its own, because more of it is better.
@metric(on={"image": None, "text": None}, better="higher", unit="share", min_n=2)
def unrepeated(samples: SampleSet) -> Estimate:
    """The product over n = 2, 3, 4 of 1 - rep-n, in (0, 1]: what SimCTG calls diversity; 1: no text repeats itself.

    Su et al. 2022, section 4. Interval: leave-one-out jackknife.
    """
    return product_of_unrepeated([text.split() for text in texts_of(samples)])


@metric(on={"image": None, "text": None}, better="lower", unit="ratio", min_n=2)
def compression_ratio(samples: SampleSet) -> float:
    """UTF-8 bytes of all generated texts joined by spaces over those of one gzip of them (level 9), > 0.

    Shaib et al. 2024, section 3; high where texts repeat each other. Their package compresses twice, which lifts the
    size of a small set (72 bytes: 1.108 in place of 1.636) and is left out here. Grows with the set. Interval:
    jackknife of 20 groups of texts.
    """
    return ratio_of_compression(texts_of(samples))


@metric(
    on={"image": None, "text": None},
    better="lower",
    unit="difference of exponents",
    min_n=2,
    caution="zipf.fake and zipf.real are facts, not scores: no exponent is the better one",
)
def zipf(real: Features, samples: SampleSet) -> Mapping[str, Part]:
    """How far the Zipf exponent of the generated texts is from that of the real texts, >= 0.

    Holtzman et al. 2020, section 5.1: minus the slope of ln frequency on ln rank of the 5000 most frequent words. The
    exponents themselves are the parts `fake` and `real`. Falls with more text: compare sides of one size. Interval:
    jackknife of 20 groups of texts.
    """
    real_texts, fake_texts = texts_of(real.samples), texts_of(samples)
    fake_exponent = zipf_exponent(text.split() for text in fake_texts)
    real_exponent = zipf_exponent(text.split() for text in real_texts)
    return {
        "": abs(fake_exponent - real_exponent),
        "fake": lambda: fake_exponent,
        "real": lambda: real_exponent,
    }


def diversity_of_ngrams(texts: Sequence[Words], *, n: int = 4) -> Estimate:
    """`ngram_diversity` of texts given in words, in (0, n], with its 95 % interval; TooFewSamples, BadSetting."""
    value = 0.0
    without = torch.zeros(len(texts), dtype=torch.float64)
    joined = [word for words in texts for word in words]
    owner = [i for i, words in enumerate(texts) for _ in words]
    for order in range(1, at_least_one("n", n) + 1):
        held = ngrams_of(joined, order)
        if len(set(owner[: len(held)])) < 2:
            raise TooFewSamples(f"fewer than two texts have {order}-grams")
        counts = Counter(held)
        own: dict[int, Counter[tuple[str, ...]]] = {}
        for i, gram in zip(owner, held, strict=False):
            own.setdefault(i, Counter())[gram] += 1
        value += len(counts) / len(held)
        for i in range(len(texts)):
            mine = own.get(i, Counter())
            gone = sum(1 for gram, count in mine.items() if count == counts[gram])
            without[i] += (len(counts) - gone) / (len(held) - mine.total())
    found = jackknife(value, [without], low=0.0, high=float(n), sides=("fake",))
    return unvaried(found, len(own), lambda share: mixed(value, share, 0.0, float(n)), high=float(n))


def mean_repetition(texts: Sequence[Words], *, n: int = 4) -> Estimate:
    """`seq_rep` of texts given in words, in [0, 1), with its 95 % interval; TooFewSamples, BadSetting."""
    at_least_one("n", n)
    counts = _counts(texts, (n,))[:, 0]
    long_enough = counts[:, 1] > 0
    kept = counts[long_enough]
    if len(kept) < 2:
        raise TooFewSamples(f"fewer than two texts have {n} words; no {n}-grams to repeat")
    shares = 1 - kept[:, 0] / kept[:, 1]
    mean, error = float(shares.mean()), float(shares.std()) / math.sqrt(len(shares))
    found = around(mean, error, "standard error", df=len(shares) - 1, low=0.0, high=1.0)
    moves = torch.zeros(len(texts), dtype=torch.float64)
    moves[long_enough] = (shares - mean) / math.sqrt(len(shares) * (len(shares) - 1))
    found = replace(found, per_sample=shares if bool(long_enough.all()) else None, moves={"fake": moves})
    return scored(found, len(shares))


def product_of_unrepeated(texts: Sequence[Words]) -> Estimate:
    """`unrepeated` of texts given in words, in (0, 1], with its 95 % interval; TooFewSamples."""
    return _of_counts(_counts(texts, REPEATED), lambda rep: (1 - rep).prod(0))


def _rep_of(counts: Tensor) -> Estimate:
    return scored(_of_counts(counts, lambda rep: rep[0]), int((counts[..., 1] > 0).all(1).sum()))


def ratio_of_compression(texts: Iterable[str]) -> float:
    """`compression_ratio` of texts: bytes in UTF-8 joined by spaces over bytes of one gzip of them, > 0.

    TooFewSamples when there is nothing to compress. Libraries of compression differ by a few bytes.
    """
    content = " ".join(texts).encode("utf-8", "surrogatepass")
    if not content:
        raise TooFewSamples("no text to compress")
    return len(content) / len(gzip.compress(content, LEVEL, mtime=0))


def zipf_exponent(texts: Iterable[Words], *, most: int = MOST_WORDS) -> float:
    """Minus the least-squares slope of ln frequency on ln rank of the `most` most frequent words.

    Holtzman et al. 2020; TooFewSamples with fewer than two different words.
    """
    counts = Counter(word for words in texts for word in words)
    frequent = sorted(counts.values(), reverse=True)[: at_least_one("most", most)]
    if len(frequent) < 2:
        raise TooFewSamples("fewer than two different words; they have no ranks")
    x = torch.arange(1, len(frequent) + 1, dtype=torch.float64).log()
    y = torch.tensor(frequent, dtype=torch.float64).log()
    x = x - x.mean()
    return -float((x * y).sum() / x.square().sum())


def _counts(texts: Sequence[Words], orders: Sequence[int]) -> Tensor:
    """Distinct and all n-grams of each text, of each order: float64 [N, orders, 2]."""
    found = []
    for words in texts:
        held = [ngrams_of(words, n) for n in orders]
        found.append([[len(set(own)), len(own)] for own in held])
    return torch.tensor(found, dtype=torch.float64).reshape(len(texts), len(orders), 2)


def _of_counts(counts: Tensor, number: Callable[[Tensor], Tensor]) -> Estimate:
    """A number of rep-n [orders], from counts summed over the texts, with its jackknife interval in [0, 1]."""
    total = counts.sum(0)
    less = total - counts
    if not bool((less[..., 1] > 0).all()):
        raise TooFewSamples("fewer than two texts are long enough for an n-gram; nothing can be repeated")
    without = number((1 - less[..., 0] / less[..., 1]).T)
    rep = 1 - total[..., 0] / total[..., 1]
    found = jackknife(float(number(rep)), [without], low=0.0, high=1.0, sides=("fake",))

    def ends(share: float) -> tuple[float, float]:
        low, high = sorted(float(number(to)) for to in (rep * (1 - share), rep + share * (1 - rep)))
        return low, high

    return unvaried(found, int((counts[..., 1] > 0).all(1).sum()), ends)
