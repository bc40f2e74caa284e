"""Generators of texts: the transformer, its tokens and its lengths, the Markov chain, the floor without order."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generators._bpe import learn
from generators._texts import pack, unpack
from generators.lm import choose, rotate
from generators.ngram import Ngram
from generators.unigram import Unigram

from .quick import data_for, drawn, fitted, make, make_from, text_set


def test_cached_and_uncached_logits_agree() -> None:
    net = fitted("lm")._net
    tokens = torch.randint(len(fitted("lm")._bpe), (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, _ = net(tokens)
        step, cache = net(tokens[:, :7])
        parts = [step]
        for i in range(7, 20):
            step, cache = net(tokens[:, i : i + 1], cache)
            parts.append(step)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)


def test_rotary_products_depend_on_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    products = [(rotate(q, torch.tensor([s + 3])) * rotate(k, torch.tensor([s]))).sum() for s in (0, 5, 40)]
    assert torch.allclose(torch.stack(products), products[0].expand(3), atol=1e-4)


def test_top_k_one_and_a_cold_temperature_are_greedy() -> None:
    greedy = drawn(make_from("lm", top_k=1), 3, seed=1)[0]
    assert greedy == drawn(make_from("lm", top_k=1), 3, seed=2)[0] == drawn(make_from("lm", temperature=0.01), 3)[0]
    generator = fitted("lm")
    tokens, text = [0], []
    with torch.inference_mode():
        while len(text) < generator._longest:
            logits = generator._net(torch.tensor([tokens]))[0][0, -1]
            if not text:
                logits[[not t.strip() for t in generator._bpe.tokens]] = -math.inf
            tokens.append(int(logits.argmax()))
            if tokens[-1] == 0:
                break
            text.append(tokens[-1])
    assert greedy[0] == generator._finished(text, len(text) == generator._longest)


@given(st.integers(1, 6), st.floats(0.05, 1.0), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_choose_stays_within_top_k_and_top_p(top_k: int, top_p: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 8, generator=rng)
    p = logits.softmax(-1)[0]
    order = p.argsort(descending=True).tolist()
    kept = order[:top_k]
    share = p[kept] / p[kept].sum()
    while len(kept) > 1 and float(share[: len(kept) - 1].sum()) >= top_p + 1e-6:
        kept = kept[:-1]
    picks = {int(choose(logits, 1.0, top_k, top_p, rng)) for _ in range(30)}
    assert picks <= set(kept)


def test_choose_draws_from_the_softmax() -> None:
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log().expand(20_000, 3)
    share = choose(logits, 1.0, 0, 1.0, torch.Generator().manual_seed(0)).bincount(minlength=3) / 20_000
    assert torch.allclose(share, torch.tensor([0.6, 0.3, 0.1]), atol=0.015)


@given(st.text(alphabet="ab c,\n.", max_size=60))
@settings(max_examples=100, deadline=None)
def test_byte_pairs_give_back_every_text_over_their_alphabet(text: str) -> None:
    bpe = learn(["ab ab abc, cab.\nab", "c c c ab"], 40)
    assert bpe.decode(bpe.encode(text)) == text


def test_byte_pairs_learn_the_most_frequent_pair_first() -> None:
    """ "low" 5, "lower" 2, "newest" 6, "widest" 3 of Sennrich et al. 2016: "es" then "est" come first."""
    bpe = learn(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3, 64)
    alphabet = len(bpe.alphabet) + 1
    merged = bpe.tokens[alphabet:]
    assert {merged[0], merged[1]} <= {"es", "st", "est"}
    assert "est" in merged[:2] and "low" in merged
    assert len(bpe.encode("lowest")) == 2


def test_lm_learns_a_text_that_never_changes_its_order() -> None:
    """Two sentences are all there is: after training, nearly every sample is one of them, with its end."""
    texts = ["the cat sat on the mat.", "a dog ran to the park."] * 20
    generator = make("lm", steps=150, vocabulary=80, learning_rate=1e-2, dropout=0.0)
    generator.fit(text_set(texts), seed=0)
    samples, _ = drawn(generator, 50)
    assert sum(s in texts for s in samples) > 40


def test_lm_ends_a_text_as_often_as_the_training_texts_do() -> None:
    """Half of the texts are one word, half go on: a short text's tokens must not count for more than a long one's."""
    generator = make("lm", steps=200, vocabulary=64, learning_rate=1e-2, dropout=0.0)
    generator.fit(text_set(["a"] * 64 + ["a" + " b" * 24] * 64), seed=0)
    ended = sum(s == "a" for s in drawn(generator, 300)[0]) / 300
    assert ended == pytest.approx(0.5, abs=0.15)


def test_lm_takes_texts_longer_than_its_context() -> None:
    texts = [f"{i} " + "word and word " * 60 for i in range(8)]
    generator = make("lm", steps=3, context=32, vocabulary=64)
    generator.fit(text_set(texts), seed=0)
    assert all(len(generator._bpe.encode(t)) <= 32 for t in drawn(generator, 4)[0])


@pytest.mark.parametrize("level", ["word", "character"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_ngram_probabilities_sum_to_one(order: int, level: str) -> None:
    texts = ["a b a c", "b a", "c c b a", "a b", "b c a b", "c", "a a", "b"]
    generator = Ngram(order=order, level=level)
    generator.fit(text_set(texts), seed=0)
    for context in ((), ("a",), ("b", "a"), ("never",), ("a", "never"), ("never", "a")):
        p = generator.probabilities(context)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert (p > 0).all()


def test_ngram_probability_by_hand() -> None:
    """Four times "a b", four times "a c": V = {end, a, b, c}; Witten-Bell by hand.

    Unigrams: 24 tokens of 4 kinds: P(b) = (4 + 4 * 1/4) / 28 = 5/28. After a: b 4, c 4: P(b | a) = (4 + 2 * 5/28) / 10.
    """
    generator = Ngram(order=2)
    generator.fit(text_set(["a b"] * 4 + ["a c"] * 4), seed=0)
    assert generator.vocabulary == ("", "a", "b", "c")
    assert generator.probabilities(("never",))[2] == pytest.approx(5 / 28)
    assert generator.probabilities(("a",))[2] == pytest.approx((4 + 2 * 5 / 28) / 10)


def test_ngram_draws_what_its_probabilities_say() -> None:
    generator = Ngram(order=2)
    generator.fit(text_set(["a b c", "a c", "b a", "c a b", "a", "b b c", "c", "a b"]), seed=0)
    chance = np.random.default_rng(0)
    h = generator._context([generator.vocabulary.index("a")])
    share = np.bincount([generator._next(h, chance) for _ in range(20_000)], minlength=4) / 20_000
    assert np.abs(share - generator.probabilities(("a",))).max() < 0.015


def test_a_longer_ngram_memory_copies_more_of_the_training_text() -> None:
    data = data_for("ngram")
    seen = {tuple(t.split()[i : i + 4]) for t in (s.load() for s in data) for i in range(len(t.split()) - 3)}

    def copied(generator) -> float:
        words = [t.split() for t in drawn(generator, 100)[0]]
        fours = [tuple(w[i : i + 4]) for w in words for i in range(len(w) - 3)]
        return sum(f in seen for f in fours) / len(fours)

    shares = []
    for order in (2, 4):
        generator = Ngram(order=order)
        generator.fit(data, seed=0)
        shares.append(copied(generator))
    assert copied(fitted("unigram")) < shares[0] < shares[1]


def test_packed_texts_come_back() -> None:
    texts = ["", "a\nb", "ß “x”", "\u2028"]
    assert unpack(pack(texts)) == texts


def test_unigram_keeps_frequencies_and_lengths() -> None:
    generator = Unigram()
    generator.fit(text_set(["a a a b"] * 6 + ["a b"] * 6), seed=0)
    samples, _ = drawn(generator, 4000)
    words = Counter(w for t in samples for w in t.split())
    assert words["a"] / words.total() == pytest.approx(24 / 36, abs=0.02)
    lengths = Counter(len(t.split()) for t in samples)
    assert set(lengths) == {2, 4}
    assert lengths[2] / 4000 == pytest.approx(0.5, abs=0.04)
