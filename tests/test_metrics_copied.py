"""Copied spans, the novelty curve, the longest copy, extraction: by hand and against a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.errors import DoesNotApply, TooFewSamples
from evalkit.metrics._bounded import variance
from evalkit.metrics._suffixes import inside_spans, longest_matches, suffix_array
from evalkit.metrics.copied import (
    copied,
    copied_share,
    extracted_share,
    extraction,
    longest_copy,
    match_lengths,
    mean_longest,
    novel_ngrams,
    novelty_curve,
)
from evalkit.metrics.ngrams import novel_share
from evalkit.resample import group_jackknife
from evalkit.samples.arrays import from_texts
from evalkit.types import Features

sequences = st.lists(st.text("ab", max_size=12), min_size=0, max_size=4)


def features(*texts: str) -> Features:
    return Features(torch.empty(len(texts), 0), "none", from_texts(list(texts)))


@settings(max_examples=150, deadline=None)
@given(sequences, sequences)
def test_matches_agree_with_a_search_for_every_substring(known, queries):
    found = longest_matches(known, queries)
    for query, lengths in zip(queries, found, strict=True):
        expected = [
            max((n for n in range(len(query) - i + 1) if any(query[i : i + n] in text for text in known)), default=0)
            for i in range(len(query))
        ]
        assert lengths.tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=30))
def test_the_suffix_array_sorts_the_suffixes(tokens):
    ids = np.array([*tokens, 4], dtype=np.int64)
    assert suffix_array(ids).tolist() == sorted(range(len(ids)), key=lambda i: ids[i:].tolist())


def test_a_long_run_of_one_token_and_nothing_at_all():
    run = ["x"] * 20_000
    assert longest_matches([run], [run[:9000]])[0].tolist() == list(range(9000, 0, -1))
    assert longest_matches([], []) == []
    assert longest_matches([], [["a"]])[0].tolist() == [0]
    assert longest_matches([["a"]], [[]])[0].tolist() == []


def test_copied_words_by_hand():
    """b c d stands in the training text; b c d e only runs over the end of one into the next."""
    lengths = match_lengths(["a b c d", "e f g"], ["z b c d e", "q q"])
    assert [own.tolist() for own in lengths] == [[0, 3, 2, 1, 1], [0, 0]]
    assert inside_spans(lengths[0].numpy(), 3).tolist() == [False, True, True, True, False]
    assert copied_share(lengths, 3).value == 3 / 7
    assert copied_share(lengths, 4).value == 0
    assert mean_longest(lengths).value == 1.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=4, max_size=9), min_size=3, max_size=6), st.integers(1, 4))
def test_novelty_agrees_with_the_set_of_ngrams(texts, n):
    lines = [" ".join(own) for own in texts]
    train, made = lines[:1], lines[1:]
    found, expected = novel_ngrams(match_lengths(train, made), n), novel_share(train, made, n=n)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_variance_is_the_leave_one_out_jackknifes():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcd"), int(rng.integers(6, 20)))) for _ in range(30)]
    lengths = match_lengths(texts[:5], texts[5:])
    brute = group_jackknife(lambda k: {"": copied_share([lengths[i] for i in k[0].tolist()], 5).value}, [25])[""]
    found = copied_share(lengths, 5)
    reach = (brute.high - brute.low) / 2
    assert variance(found) == pytest.approx((reach / float(stats.t.ppf(0.975, 24))) ** 2)
    assert found.method == "jackknife, wilson"
    assert found.low - 1e-12 <= brute.low < brute.value == found.value < brute.high <= found.high + 1e-12


def test_a_copier_is_told_from_held_out_text():
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice([f"w{i}" for i in range(60)], 40)) for _ in range(60)]
    train, real, fresh = features(*texts[:20]), features(*texts[20:40]), from_texts(texts[40:])
    thief = from_texts([f"w1 w2 {text}" for text in texts[:20]])
    stolen, own = copied(real, train, thief), copied(real, train, fresh)
    assert stolen["25"].value > 0.9
    assert own["5"].value == pytest.approx(own["real.5"].value, abs=0.1)
    assert set(stolen) == {f"{word}{n}" for word in ("", "real.") for n in (5, 10, 25, 50)}
    assert longest_copy(real, train, thief)["max"].value >= 40
    assert longest_copy(real, train, thief)[""].value > longest_copy(real, train, fresh)[""].value
    curve = novelty_curve(real, train, fresh)
    values = [curve[str(n)].value for n in range(1, 11)]
    assert values == sorted(values)
    assert novelty_curve(real, train, thief)["5"].value < 0.3 < curve["5"].value


def test_extraction_by_hand():
    train = ["p q r s t u v"]
    texts = ["r s t and more", "r s x", "r s", "anything"]
    prompts = ["p q", "p q", "p q", "not there"]
    found = extracted_share(train, prompts, texts, words=3)
    assert found.value == pytest.approx(1 / 3)
    assert 0 <= found.low < found.value < found.high <= 1
    samples = from_texts(texts, conditions=prompts)
    assert extraction(features(*train), samples, words=2).value == 1.0
    for nothing in ([None] * 4, ["q p"] * 4):
        with pytest.raises(DoesNotApply):
            extracted_share(train, nothing, texts)


def test_nothing_to_count_is_refused():
    with pytest.raises(TooFewSamples):
        novel_ngrams(match_lengths(["a b"], ["a", "b c"]), 2)
