"""What stands verbatim in the training texts: copied spans, the novelty curve, the longest copy, extraction by prompts.

One lookup serves them all: for each word of a text, how many words from there on stand in one training text. Words are
what whitespace separates, letter case and punctuation as they are; no match crosses from one text into the next.

Human texts share phrases too. The same numbers of the held-out real texts (parts `real`) are the baseline: a share of
copied words is a finding only as far as it lies above theirs. Where the real texts are the training texts themselves,
the baseline is 1 and says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import DoesNotApply, TooFewSamples
from ..resample import LEVEL, around, jackknife, moves_of_mean
from ..types import Estimate, Features, SampleSet, metric
from ._bounded import scored
from ._guards import at_least_one
from ._suffixes import inside_spans, longest_matches
from ._words import texts_of
from .detection import wilson

SPANS = (5, 10, 25, 50)
ORDERS = tuple(range(1, 11))

Lengths = Sequence[Tensor]


@metric(on={"image": None, "text": None}, better="lower", unit="share of words", min_n=2)
def copied(real: Features, train: Features, samples: SampleSet) -> dict[str, Estimate]:
    """Share of the generated words inside verbatim training spans of at least 5, 10, 25 and 50 words, in [0, 1].

    Parts `5`, `10`, `25`, `50`, and `real.5` to `real.50` of the held-out real texts as baseline. Interval:
    leave-one-out jackknife over texts, the training texts taken as given.
    """
    own, held_out = _both(real, train, samples)
    found = {str(least): copied_share(own, least) for least in SPANS}
    return found | {f"real.{least}": copied_share(held_out, least, side="real") for least in SPANS}


@metric(on={"image": None, "text": None}, better="lower", unit="words", min_n=2)
def longest_copy(real: Features, train: Features, samples: SampleSet) -> dict[str, Estimate]:
    """Mean over generated texts of the longest span of each that stands verbatim in a training text, in words, >= 0.

    `max`: the longest of all, counted and without an interval; `real` and `real.max`: the held-out real texts.
    Interval: standard error over texts.
    """
    own, held_out = _both(real, train, samples)
    return {
        "": mean_longest(own),
        "max": _counted(own),
        "real": mean_longest(held_out, side="real"),
        "real.max": _counted(held_out),
    }


@metric(on={"image": None, "text": None}, better="higher", unit="share", min_n=2)
def novelty_curve(real: Features, train: Features, samples: SampleSet) -> dict[str, Estimate]:
    """Share of the generated word n-grams that no training text has, for n = 1 to 10, in [0, 1].

    McCoy et al. 2023, section 4: parts `1` to `10`, and `real.1` to `real.10` of the held-out real texts. Above theirs
    is not better writing: noise is new too. Orders no two texts are long enough for are left out. Interval:
    leave-one-out jackknife over texts.
    """
    own, held_out = _both(real, train, samples)
    found = {}
    for prefix, side, lengths in (("", "fake", own), ("real.", "real", held_out)):
        for n in ORDERS:
            if sum(len(text) >= n for text in lengths) >= 2:
                found[f"{prefix}{n}"] = novel_ngrams(lengths, n, side=side)
    return found


@metric(on={"image": None, "text": None}, better="lower", unit="share of prompts", min_n=2)
def extraction(train: Features, samples: SampleSet, *, words: int = 50) -> Estimate:
    """Share of the generated texts whose first `words` words follow their prompt in a training text, in [0, 1].

    Carlini et al. 2023, "Quantifying memorization", section 3: exact continuation of a prefix. Samples are
    continuations and carry the prompt as their condition. Counted over the samples whose whole prompt stands in a
    training text; does not apply where there is none. Interval: Wilson 1927, n = the number of prompts.
    """
    prompts = [sample.condition for sample in samples]
    return extracted_share(texts_of(train.samples), prompts, texts_of(samples), words=words)


def match_lengths(train_texts: Sequence[str], texts: Sequence[str]) -> list[Tensor]:
    """For each word [T] of each text, how many words from there on stand verbatim in one training text; int64 [T]."""
    known, asked = ([text.split() for text in given] for given in (train_texts, texts))
    return [torch.from_numpy(lengths.copy()) for lengths in longest_matches(known, asked)]


def copied_share(lengths: Lengths, least: int, *, side: str = "fake") -> Estimate:
    """Share in [0, 1] of all words that lie in a copied span of `least` words or more, with its 95 % interval.

    lengths: as `match_lengths` gives them. TooFewSamples with fewer than two texts of any word.
    """
    inside = [int(inside_spans(own.numpy(), at_least_one("least", least)).sum()) for own in lengths]
    return _share(inside, [len(own) for own in lengths], side)


def novel_ngrams(lengths: Lengths, n: int, *, side: str = "fake") -> Estimate:
    """Share in [0, 1] of all n-grams, repeats counted, that no training text has, with its 95 % interval.

    An n-gram is known where at least n words from its first on match. TooFewSamples, BadSetting.
    """
    at_least_one("n", n)
    begun = [own[: max(0, len(own) - n + 1)] for own in lengths]
    return _share([int((own < n).sum()) for own in begun], [len(own) for own in begun], side)


def mean_longest(lengths: Lengths, *, side: str = "fake") -> Estimate:
    """Mean over texts of the longest match of each, in words, with its 95 % interval; TooFewSamples."""
    if len(lengths) < 2:
        raise TooFewSamples(f"{len(lengths)} texts; an interval needs 2")
    each = torch.tensor([_longest(own) for own in lengths], dtype=torch.float64)
    error = float(each.std()) / math.sqrt(len(each))
    found = around(float(each.mean()), error, "standard error", df=len(each) - 1, low=0.0)
    found = replace(found, per_sample=each if side == "fake" else None, moves={side: moves_of_mean(each)})
    # No match is longer than its text.
    return scored(found, len(each), high=sum(map(len, lengths)) / len(each), base=float(each.min()))


def extracted_share(
    train_texts: Sequence[str], prompts: Sequence[str | None], texts: Sequence[str], *, words: int = 50
) -> Estimate:
    """`extraction` of prompts and their continuations, in [0, 1], with its 95 % interval.

    Raises DoesNotApply when no prompt stands in a training text, BadSetting when words < 1.
    """
    at_least_one("words", words)
    pairs = [(prompt.split(), text.split()[:words]) for prompt, text in zip(prompts, texts, strict=True) if prompt]
    asked = [prompt + continued for prompt, continued in pairs]
    lengths = longest_matches([text.split() for text in train_texts], asked)
    hits: dict[tuple[str, ...], list[bool]] = {}
    for (prompt, continued), own in zip(pairs, lengths, strict=True):
        if prompt and own[0] >= len(prompt):
            is_whole = len(continued) == words and int(own[0]) >= len(prompt) + words
            hits.setdefault(tuple(prompt), []).append(is_whole)
    if not hits:
        raise DoesNotApply("no sample has a prompt that stands in a training text; give prompts cut from them")
    each = torch.tensor([hit for own in hits.values() for hit in own], dtype=torch.float64)
    value = float(each.mean())
    # Texts that continue one prompt are no trials of their own.
    low, high = wilson(value, len(hits))
    return Estimate(value, min(low, value), max(high, value), "wilson", LEVEL)


def _both(real: Features, train: Features, samples: SampleSet) -> tuple[list[Tensor], list[Tensor]]:
    made, held_out = texts_of(samples), texts_of(real.samples)
    lengths = match_lengths(texts_of(train.samples), [*made, *held_out])
    return lengths[: len(made)], lengths[len(made) :]


def _share(hits: Sequence[int], sizes: Sequence[int], side: str) -> Estimate:
    part, whole = (torch.tensor(counts, dtype=torch.float64) for counts in (hits, sizes))
    if int((whole > 0).sum()) < 2:
        raise TooFewSamples("fewer than two texts are long enough; nothing can be counted")
    without = (part.sum() - part) / (whole.sum() - whole)
    found = jackknife(float(part.sum() / whole.sum()), [without], low=0.0, high=1.0, sides=(side,))
    return scored(found, int((whole > 0).sum()))


def _longest(own: Tensor) -> int:
    return int(own.max()) if len(own) else 0


def _counted(lengths: Lengths) -> Estimate:
    value = float(max(map(_longest, lengths), default=0))
    # Another draw has another longest: nothing is told apart by this one.
    return Estimate(value, value, value, "none")
