"""Repetition, diversity and references of texts: by hand, against nltk, torchmetrics and scipy, and the orientation."""

from __future__ import annotations

import math
import random
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit import registry
from evalkit.errors import BadSetting, TooFewSamples, UsageError
from evalkit.metrics._bounded import variance
from evalkit.metrics.ngrams import self_bleu_by_order, self_bleu_scores
from evalkit.metrics.references import bleu, chrf, common_subsequence, corpus_bleu, corpus_chrf, rouge, rouge_f1
from evalkit.metrics.repetition import (
    compression_ratio,
    diversity_of_ngrams,
    mean_repetition,
    ratio_of_compression,
    repetition,
    seq_rep,
    unrepeated,
    zipf,
    zipf_exponent,
)
from evalkit.resample import around, group_jackknife
from evalkit.samples.arrays import from_texts
from evalkit.types import Estimate, Features

from .data import shared

sentences = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat.", "(a", "dog"]), min_size=1, max_size=8)
pairs = st.lists(st.tuples(sentences, sentences), min_size=2, max_size=5)


def features(texts, **more) -> Features:
    return Features(torch.empty(len(texts), 0), "none", from_texts(list(texts), **more))


def made_up(n: int, vocabulary: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(f"w{int(vocabulary * rng.random() ** 2)}" for _ in range(rng.randint(6, 14))) for _ in range(n)]


def test_repetition_by_hand():
    """a b a b a: bigrams ab ba ab ba, half of them repeat; c d e f g: none do."""
    words = [["a", "b", "a", "b", "a"], ["c", "d", "e", "f", "g"]]
    assert mean_repetition(words, n=2).value == pytest.approx((0.5 + 0) / 2)
    samples = from_texts(["a b a b a", "c d e f g"])
    found = repetition(samples)
    assert [found[part].value for part in ("2", "3", "4")] == pytest.approx([2 / 8, 1 / 6, 0])
    assert unrepeated(samples).value == pytest.approx((1 - 2 / 8) * (1 - 1 / 6))
    with pytest.raises(TooFewSamples):
        mean_repetition(words, n=6)


def test_short_texts_are_left_out_of_seq_rep_and_move_nothing():
    found = mean_repetition([["a"] * 5, ["b"], ["a", "b", "c", "d", "e"]], n=2)
    assert found.value == pytest.approx((0.75 + 0) / 2)
    assert found.moves is not None
    assert float(found.moves["fake"][1]) == 0
    assert found.per_sample is None


def test_ngram_diversity_joins_the_texts():
    """a b | a: 1-grams 2 of 3; 2-grams ab ba, 2 of 2, the second across."""
    assert diversity_of_ngrams([["a", "b"], ["a"], ["c"]], n=1).value == pytest.approx(3 / 4)
    assert diversity_of_ngrams([["a", "b"], ["a"], ["c"]], n=2).value == pytest.approx(3 / 4 + 3 / 3)


def test_intervals_are_the_leave_one_out_jackknife():
    texts = [text.split() for text in made_up(25, 12)]
    brute = group_jackknife(
        lambda k: {"": mean_repetition([texts[i] for i in k[0].tolist()], n=2).value}, [25], groups=25
    )[""]
    found = mean_repetition(texts, n=2)
    # The metric joins Wilson's ends to them.
    even = around(found.value, math.sqrt(variance(found)), "even", df=24)
    assert (even.value, even.low, even.high) == pytest.approx((brute.value, brute.low, brute.high))
    assert found.low - 1e-12 <= even.low < even.high <= found.high + 1e-12
    ordered = diversity_of_ngrams(texts, n=1)
    brute = group_jackknife(lambda k: {"": diversity_of_ngrams([texts[i] for i in k[0].tolist()], n=1).value}, [25])[""]
    assert (ordered.low, ordered.high) == pytest.approx((brute.low, brute.high))


def test_compression_is_one_gzip():
    """gzip is zlib's stream with 18 bytes around it in place of 6."""
    content = ("abc " * 250).strip()
    assert ratio_of_compression(content.split()) == len(content) / (len(zlib.compress(content.encode(), 9)) + 12)
    with pytest.raises(TooFewSamples):
        ratio_of_compression([])
    recorded = {"seq": 3.989, "mle": 3.543, "leakgan": 5.032, "textgan": 18.233}
    for name, expected in recorded.items():
        lines = (shared("data", "text", "texygen") / f"gen_{name}.txt").read_text("utf-8").splitlines()
        assert ratio_of_compression(line.strip() for line in lines) == pytest.approx(expected, abs=0.01)


def test_zipf_agrees_with_scipy_and_a_power_law():
    from scipy import stats

    words = " ".join(made_up(200, 80)).split()
    counts = sorted((words.count(word) for word in set(words)), reverse=True)
    slope = stats.linregress([math.log(i + 1) for i in range(len(counts))], [math.log(c) for c in counts]).slope
    assert zipf_exponent([words]) == pytest.approx(-slope)
    # Frequencies 60, 30, 20, 15, 12 are 60 / rank: exponent 1.
    assert zipf_exponent([[str(rank)] * (60 // rank) for rank in range(1, 6)]) == pytest.approx(1.0)
    real = features(made_up(60, 40))
    found = zipf(real, from_texts(["a b c d e"] * 30))
    assert found[""] == pytest.approx(abs(found["fake"]() - found["real"]()))
    assert found[""] > zipf(real, from_texts(made_up(60, 40, 1)))[""]


def test_repeating_oneself_is_worse_everywhere():
    varied, stuck = from_texts(made_up(40, 400)), from_texts([f"{t} {t}" for t in made_up(5, 400)] * 8)
    for name, better in (("ngram_diversity", 1), ("unrepeated", 1), ("seq_rep", -1), ("compression_ratio", -1)):
        measure = registry.metrics.get(name)
        values = [v.value if isinstance(v := measure(side), Estimate) else v for side in (varied, stuck)]
        assert (values[0] - values[1]) * better > 0, name
        assert measure.better == {1: "higher", -1: "lower"}[better]
    assert compression_ratio(stuck) > 3
    assert seq_rep(stuck).per_sample is not None


@settings(max_examples=12, deadline=None)
@given(pairs)
def test_bleu_and_chrf_agree_with_torchmetrics(texts):
    from torchmetrics.functional.text import bleu_score, chrf_score

    made, references = [" ".join(a) for a, _ in texts], [[" ".join(b)] for _, b in texts]
    assert corpus_bleu(made, references).value == pytest.approx(float(bleu_score(made, references)), abs=1e-5)
    # A text that shares nothing with its reference loses the reference's counts there: all share a word here.
    made, references = [f"{text} a" for text in made], [[f"{other[0]} a"] for other in references]
    for order in (0, 2):
        expected = float(chrf_score(made, references, n_word_order=order))
        assert corpus_chrf(made, references, word_order=order).value == pytest.approx(expected, abs=1e-5)


@settings(max_examples=12, deadline=None)
@given(pairs)
def test_several_references_agree_with_nltk(texts):
    from nltk.translate.bleu_score import corpus_bleu as nltk_bleu

    # nltk counts one bigram for a text of one word.
    made, references = [[*a, "cat"] for a, _ in texts], [[b, texts[0][1]] for _, b in texts]
    joined = [[" ".join(own) for own in given] for given in references]
    found = corpus_bleu([" ".join(own) for own in made], joined, n=2).value
    assert found == pytest.approx(nltk_bleu(references, made, weights=(0.5, 0.5)), abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(sentences, sentences)
def test_rouge_agrees_with_torchmetrics(a, b):
    from torchmetrics.functional.text import rouge_score

    expected = rouge_score(" ".join(a), " ".join(b), rouge_keys=("rouge1", "rouge2", "rougeL"))
    for part in ("1", "2", "L"):
        found = rouge_f1(" ".join(a), " ".join(b), part)
        assert found == pytest.approx(float(expected[f"rouge{part}_fmeasure"]), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.text("abc", max_size=10), st.text("abc", max_size=10))
def test_the_common_subsequence_agrees_with_the_table(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    assert common_subsequence(a, b) == table[-1][-1]


def test_references_are_found_as_told():
    made = from_texts(["a b c d ef", "f g h i jk"], conditions=["one", "two"])
    real = features(["f g h i jk", "a b c d ef", "a b c d x"], conditions=["two", "one", "one"])
    assert bleu(real, made, paired="prompt").value == pytest.approx(1.0)
    assert chrf(real, made, paired="prompt").value == pytest.approx(1.0)
    assert rouge(real, made, paired="prompt")["L"].value == pytest.approx(1.0)
    swapped = features(["f g h i jk", "a b c d ef"])
    assert bleu(swapped, made, paired="place").value == 0
    assert bleu(swapped, made, paired="id").value == 0
    for wrong in ("place", "id"):
        with pytest.raises(UsageError):
            bleu(features(["x y"] * 3, name="others"), made, paired=wrong)
    with pytest.raises(BadSetting):
        bleu(real, made, paired="luck")


def test_self_bleu_of_all_orders_in_one_pass():
    texts = [text.split() for text in made_up(20, 15)]
    for n, scores in enumerate(self_bleu_by_order(texts, 5), 1):
        assert scores == pytest.approx(self_bleu_scores(texts, n))
