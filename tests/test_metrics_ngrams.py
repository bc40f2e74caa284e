"""Metrics of words: distinct n-grams, self-BLEU, novelty."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.errors import BadSetting, ModalityMismatch, TooFewSamples
from evalkit.metrics._bounded import variance
from evalkit.metrics.ngrams import distinct, distinct_share, mean_self_bleu, novel_share, novelty, self_bleu
from evalkit.metrics.ngrams import self_bleu_scores as bleu_scores
from evalkit.resample import group_jackknife
from evalkit.types import Features, Sample


class Lines:
    """A sample set of texts in ten lines."""

    def __init__(self, texts, modality="text"):
        self.name, self.modality, self.digest, self.texts = "lines", modality, "", texts

    def __len__(self):
        return len(self.texts)

    def __iter__(self):
        return (Sample(str(i), "", lambda t=t: t) for i, t in enumerate(self.texts))


def made_up(n: int, seed: int, vocabulary: int = 12) -> list[str]:
    rng = random.Random(seed)
    words = [[f"w{int(vocabulary * rng.random() ** 2)}" for _ in range(rng.randint(1, 14))] for _ in range(n)]
    return [" ".join(own) for own in words]


word_lists = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=2, max_size=7)


def test_distinct_by_hand():
    """Bigrams ab bc | ab ba | none: 3 distinct of 4; none crosses from one text into the next."""
    assert distinct_share(["a b c", "a  b\na", "c"], n=2).value == 3 / 4
    assert distinct_share(["a b c", "a b a", "c"], n=1).value == 3 / 7


@settings(max_examples=40, deadline=None)
@given(word_lists, st.integers(1, 3))
def test_distinct_agrees_with_nltk(texts, n):
    from nltk.util import ngrams

    grams = [g for text in texts for g in ngrams(text, n)]
    if sum(len(text) >= n for text in texts) < 2:
        with pytest.raises(TooFewSamples):
            distinct_share([" ".join(t) for t in texts], n=n)
    else:
        found = distinct_share([" ".join(t) for t in texts], n=n)
        assert found.value == pytest.approx(len(set(grams)) / len(grams))
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_distinct_and_novelty_intervals_are_the_leave_one_out_jackknife():
    texts, known = made_up(25, 0), made_up(10, 1)
    for measure in (lambda own: distinct_share(own, n=2), lambda own: novel_share(known, own, n=2)):
        brute = group_jackknife(lambda k, m=measure: {"": m([texts[i] for i in k[0].tolist()]).value}, [25])[""]
        found = measure(texts)
        even = (brute.high - brute.low) / 2
        assert found.value == brute.value
        assert math.sqrt(variance(found)) * stats.t.ppf(0.975, 24) == pytest.approx(even)
        # Wilson's ends may reach further.
        assert found.low <= brute.low + 1e-12
        assert found.high >= brute.high - 1e-12


def test_repeating_oneself_lowers_distinct_and_raises_self_bleu():
    varied = made_up(30, 0, vocabulary=400)
    stuck = varied[:5] * 6
    assert distinct_share(stuck).value < distinct_share(varied).value
    assert mean_self_bleu(stuck).value > mean_self_bleu(varied).value


def test_self_bleu_by_hand():
    assert mean_self_bleu(["a b c d e"] * 3, n=4).value == pytest.approx(1.0)
    assert mean_self_bleu(["a b c", "d e f", "g h i"], n=2).value == 0.0
    # "a b" finds 1 of 2 words and no bigram (0.1 of 1): sqrt(1/2 * 0.1); the other is as long, so no penalty.
    assert bleu_scores([["a", "b"], ["a", "c"]], n=2) == pytest.approx([(0.5 * 0.1) ** 0.5] * 2)
    # One word of its own two against a longer text: brevity exp(1 - 4/2).
    assert bleu_scores([["a", "b"], ["a", "b", "c", "d"]], n=1)[0] == pytest.approx(torch.tensor(-1.0).exp().item())


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(word_lists, st.integers(1, 5))
def test_self_bleu_agrees_with_nltk(texts, n):
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method1
    theirs = [
        sentence_bleu(texts[:i] + texts[i + 1 :], text, weights=[1 / n] * n, smoothing_function=smooth)
        for i, text in enumerate(texts)
    ]
    assert bleu_scores(texts, n) == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_self_bleu_agrees_with_nltk_on_longer_texts():
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    texts = [t.split() for t in made_up(60, 3)]
    theirs = [
        sentence_bleu(texts[:i] + texts[i + 1 :], t, weights=[0.25] * 4, smoothing_function=SmoothingFunction().method1)
        for i, t in enumerate(texts)
    ]
    found = mean_self_bleu([" ".join(t) for t in texts])
    assert found.value == pytest.approx(sum(theirs) / len(theirs))


def test_self_bleu_interval_is_the_leave_one_out_jackknife():
    """Texts of one length, so that no brevity changes when one is left out."""
    rng = random.Random(5)
    texts = [" ".join(f"w{int(40 * rng.random() ** 2)}" for _ in range(9)) for _ in range(25)]
    brute = group_jackknife(lambda k: {"": mean_self_bleu([texts[i] for i in k[0].tolist()]).value}, [25])[""]
    found = mean_self_bleu(texts)
    assert (found.low, found.high) == pytest.approx((brute.low, brute.high))


def test_novelty_by_hand():
    """Bigrams ab bc | cd cd... of which bc and cd are new: repeats count."""
    assert novel_share(["x a b", "c"], ["a b c", "c d", "c d"], n=2).value == 3 / 4
    assert novel_share(["a b", "b c"], ["a b c", "a b"], n=3 - 1).value == 0.0


def test_novelty_agrees_with_counting():
    known, texts = made_up(40, 0), made_up(30, 1)
    windows = [tuple(w[i : i + 3]) for w in map(str.split, texts) for i in range(len(w) - 2)]
    seen = {tuple(w[i : i + 3]) for w in map(str.split, known) for i in range(len(w) - 2)}
    count = Counter(w in seen for w in windows)
    assert novel_share(known, texts, n=3).value == pytest.approx(count[False] / len(windows))


def test_copying_is_less_novel_than_noise():
    known = made_up(40, 0)
    copies, fresh, noise = known[:20], made_up(20, 1), ["q " * 9] * 20
    values = [novel_share(known, texts, n=2).value for texts in (copies, fresh, noise)]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[2] == 1


@settings(max_examples=20, deadline=None)
@given(word_lists, st.randoms(use_true_random=False))
def test_order_of_texts_does_not_matter(texts, rng):
    shuffled = rng.sample(texts, len(texts))
    lines, mixed = ([" ".join(t) for t in own] for own in (texts, shuffled))
    assert distinct_share(lines, n=1).value == pytest.approx(distinct_share(mixed, n=1).value)
    assert sum(bleu_scores(texts, 2)) == pytest.approx(sum(bleu_scores(shuffled, 2)))


def test_metrics_read_sample_sets():
    texts, known = made_up(20, 0), made_up(20, 1)
    train = Features(torch.empty(20, 0), "none", Lines(known))
    assert distinct(Lines(texts), n=1) == distinct_share(texts, n=1)
    assert self_bleu(Lines(texts), n=2) == mean_self_bleu(texts, n=2)
    assert novelty(train, Lines(texts), n=2) == novel_share(known, texts, n=2)


def test_refusals():
    with pytest.raises(ModalityMismatch, match="image"):
        distinct(Lines([torch.zeros(2, 2, 3).numpy()] * 3, "image"))
    with pytest.raises(TooFewSamples, match="4 words"):
        novel_share(["a"], ["a b", "c d", "a b c d"], n=4)
    with pytest.raises(TooFewSamples, match="2 texts"):
        mean_self_bleu(["a b", "a b"])
    with pytest.raises(BadSetting):
        distinct_share(["a", "b"], n=0)
