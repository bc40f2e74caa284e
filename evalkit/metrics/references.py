"""How near generated texts come to the reference texts written for them: BLEU, ROUGE and chrF.

Which references belong to a text is said, never guessed (`paired`): those of the same id (the same line of two files,
the same name in two folders), those at the same place, or all those with the same prompt. Corpus scores are functions
of counts summed over the texts, so their jackknife has a closed form.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import BadSetting, TooFewSamples, UsageError
from ..resample import around, jackknife, moves_of_mean
from ..types import Estimate, Features, SampleSet, metric
from ._bounded import mixed, scored, unvaried
from ._guards import at_least_one
from ._words import ngrams_of, texts_of

CHARACTERS = 6
BETA = 2.0
PAIRED = ("id", "place", "prompt")

_TOKEN = re.compile(r"[^\W_]+")


@metric(on={"image": None, "text": None}, better="higher", unit="BLEU", min_n=2)
def bleu(real: Features, samples: SampleSet, *, n: int = 4, paired: str = "id") -> Estimate:
    """Corpus BLEU of the generated texts against their references, in [0, 1], unsmoothed.

    Papineni et al. 2002: clipped n-gram counts over all texts, the reference of closest length for brevity; words are
    what whitespace separates. Interval: leave-one-out jackknife.
    """
    return corpus_bleu(texts_of(samples), references_of(real.samples, samples, paired), n=n)


@metric(on={"image": None, "text": None}, better="higher", unit="F1", min_n=2)
def rouge(real: Features, samples: SampleSet, *, paired: str = "id") -> dict[str, Estimate]:
    """ROUGE-1, -2 and -L: mean over texts of the F1 with the best reference of each, in [0, 1].

    Lin 2004, L by the longest common subsequence of the whole text. Lower case, words are runs of letters and digits of
    any script, no stemming. Interval: standard error.
    """
    texts, references = texts_of(samples), references_of(real.samples, samples, paired)
    return {part: mean_rouge(texts, references, part) for part in ("1", "2", "L")}


@metric(on={"image": None, "text": None}, better="higher", unit="chrF", min_n=2)
def chrf(real: Features, samples: SampleSet, *, word_order: int = 0, paired: str = "id") -> Estimate:
    """Corpus chrF of the generated texts against their references, in [0, 1]: recall weighs twice as much.

    Popovic 2015: F2 of character 1- to 6-grams without blanks, averaged over the orders; word_order = 2 is chrF++
    (Popovic 2017). Interval: leave-one-out jackknife.
    """
    return corpus_chrf(texts_of(samples), references_of(real.samples, samples, paired), word_order=word_order)


def references_of(real: SampleSet, fake: SampleSet, paired: str) -> list[list[str]]:
    """The reference texts of each generated text, at least one each; UsageError where one has none.

    paired: "id", "place" or "prompt"; BadSetting for another word.
    """
    if paired not in PAIRED:
        raise BadSetting(f"paired is {paired!r}; expected {', '.join(PAIRED)}")
    texts = texts_of(real)
    if paired == "place":
        if len(texts) != len(fake):
            raise UsageError(f"{len(fake)} generated texts and {len(texts)} references; by place both must be as many")
        return [[text] for text in texts]
    known: dict[str, list[str]] = {}
    for sample, text in zip(real, texts, strict=True):
        key = sample.id if paired == "id" else sample.condition
        if key is not None:
            known.setdefault(key, []).append(text)
    found = []
    for sample in fake:
        key = sample.id if paired == "id" else sample.condition
        if key not in known:
            raise UsageError(f"generated text {sample.id!r} has no reference of its {paired}; set paired to another")
        found.append(known[key])
    return found


def corpus_bleu(texts: Sequence[str], references: Sequence[Sequence[str]], *, n: int = 4) -> Estimate:
    """Corpus BLEU-n in [0, 1] of texts against the references of each, with its 95 % interval.

    0 where the texts share no n-gram of some order with their references. TooFewSamples with fewer than two texts,
    BadSetting when n < 1.
    """
    at_least_one("n", n)
    rows = []
    for text, others in zip(texts, references, strict=True):
        words, theirs = text.split(), [other.split() for other in others]
        closest = min((len(other) for other in theirs), key=lambda size: (abs(size - len(words)), size))
        row = [len(words), closest]
        for order in range(1, n + 1):
            best: Counter[tuple[str, ...]] = Counter()
            for other in theirs:
                best |= Counter(ngrams_of(other, order))
            own = Counter(ngrams_of(words, order))
            row += [(own & best).total(), own.total()]
        rows.append(row)
    return _of_sums(rows, _bleu, _bleu_extremes)


def corpus_chrf(texts: Sequence[str], references: Sequence[Sequence[str]], *, word_order: int = 0) -> Estimate:
    """Corpus chrF in [0, 1] of texts against the best reference of each, with its 95 % interval.

    The mean over orders of F2, as the author's chrF++ has it; sacrebleu takes F2 of the mean precision and recall.
    """
    if word_order < 0:
        raise BadSetting(f"word_order is {word_order}; it must be 0 or more")
    rows = []
    for text, others in zip(texts, references, strict=True):
        own = _pieces(text, word_order)
        each = [_overlap(own, _pieces(other, word_order)) for other in others]
        rows.append(max(each, key=lambda row: float(_chrf(torch.tensor(row, dtype=torch.float64)))))
    return _of_sums(rows, _chrf, _chrf_extremes)


def mean_rouge(texts: Sequence[str], references: Sequence[Sequence[str]], part: str) -> Estimate:
    """Mean ROUGE F1 in [0, 1] with its 95 % interval; part: "1", "2" (n-grams) or "L" (longest common subsequence)."""
    if len(texts) < 2:
        raise TooFewSamples(f"{len(texts)} texts; an interval needs 2")
    scores = [max(rouge_f1(text, other, part) for other in own) for text, own in zip(texts, references, strict=True)]
    each = torch.tensor(scores, dtype=torch.float64)
    error = float(each.std()) / math.sqrt(len(each))
    found = around(float(each.mean()), error, "standard error", df=len(each) - 1, low=0.0, high=1.0)
    return scored(replace(found, per_sample=each, moves={"fake": moves_of_mean(each)}), len(each))


def rouge_f1(text: str, reference: str, part: str) -> float:
    """F1 in [0, 1] of one text and one reference: "1" or "2" of their n-grams, "L" of their common subsequence."""
    own, other = (_TOKEN.findall(given.lower()) for given in (text, reference))
    if part == "L":
        shared, sizes = common_subsequence(own, other), (len(own), len(other))
    else:
        a, b = (Counter(ngrams_of(words, int(part))) for words in (own, other))
        shared, sizes = (a & b).total(), (a.total(), b.total())
    return 2 * shared / sum(sizes) if shared else 0.0


def common_subsequence(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, by one addition a word of `a` (Hyyro 2004, bit-parallel)."""
    places: dict[Hashable, int] = {}
    for i, word in enumerate(b):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(b)) - 1
    row = full
    for word in a:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(b) - row.bit_count()


def _of_sums(
    rows: Sequence[Sequence[float]], number: Callable[[Tensor], Tensor], extremes: Callable[[Tensor], list[Tensor]]
) -> Estimate:
    """A number of counts summed over the texts, with its leave-one-out jackknife in [0, 1].

    extremes: of the sums of texts, what they were of texts that share nothing and of texts that are their references.
    """
    if len(rows) < 2:
        raise TooFewSamples(f"{len(rows)} texts; an interval needs 2")
    counts = torch.tensor(rows, dtype=torch.float64)
    total = counts.sum(0)
    value = float(number(total))
    found = jackknife(value, [number(total - counts)], low=0.0, high=1.0, sides=("fake",))

    def ends(share: float) -> tuple[float, float]:
        # Corpus scores are no means: a few texts can move them by more than their share, or be too short to count.
        one, two = (float(number((1 - share) * total + share * end)) for end in extremes(total))
        low, high = mixed(value, share, 0.0, 1.0)
        return min(one, low), max(two, high)

    return unvaried(found, len(rows), ends)


def _bleu(sums: Tensor) -> Tensor:
    """BLEU of sums [..., 2 + 2 n]: words, words of the closest references, matched and all n-grams of each order."""
    length, closest = sums[..., 0], sums[..., 1]
    precision = sums[..., 2::2] / sums[..., 3::2].clamp_min(1)
    brevity = torch.where(length > closest, torch.ones_like(length), torch.exp(1 - closest / length.clamp_min(1)))
    # ln 0 is minus infinity and its exponential 0: no n-gram of some order in common.
    return brevity * precision.log().mean(-1).exp()


def _bleu_extremes(sums: Tensor) -> list[Tensor]:
    none, all_of_it = sums.clone(), sums.clone()
    none[2::2] = 0
    all_of_it[1], all_of_it[2::2] = sums[0], sums[3::2]
    return [none, all_of_it]


def _chrf_extremes(sums: Tensor) -> list[Tensor]:
    none, all_of_it = sums.clone(), sums.clone()
    none[0::3] = 0
    all_of_it[0::3], all_of_it[1::3] = sums[2::3], sums[2::3]
    return [none, all_of_it]


def _chrf(sums: Tensor) -> Tensor:
    """chrF of sums [..., 3 x orders]: shared, own and the reference's n-grams of each order."""
    shared, own, other = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    # (1 + b^2) P R / (b^2 P + R), multiplied out; 0 where an order has nothing in common.
    return ((1 + BETA**2) * shared / (BETA**2 * other + own).clamp_min(1)).mean(-1)


def _pieces(text: str, word_order: int) -> list[Mapping[tuple[str, ...], int]]:
    """Counts of character n-grams without blanks and of word n-grams, punctuation at a word's end apart."""
    characters = "".join(text.split())
    words = [piece for word in text.split() for piece in _unpunctuated(word)]
    return [
        *(Counter(ngrams_of(characters, order)) for order in range(1, CHARACTERS + 1)),
        *(Counter(ngrams_of(words, order)) for order in range(1, word_order + 1)),
    ]


def _unpunctuated(word: str) -> list[str]:
    """The rule of chrF++: one mark of punctuation at the end, else one at the beginning, is a word of its own."""
    if len(word) > 1 and word[-1] in string.punctuation:
        return [word[:-1], word[-1]]
    if len(word) > 1 and word[0] in string.punctuation:
        return [word[0], word[1:]]
    return [word]


def _overlap(
    own: Sequence[Mapping[tuple[str, ...], int]], other: Sequence[Mapping[tuple[str, ...], int]]
) -> list[float]:
    row: list[float] = []
    for a, b in zip(own, other, strict=True):
        row += [(Counter(a) & Counter(b)).total(), sum(a.values()), sum(b.values())]
    return row
