"""Language models that read from left to right: how probable a text is, and the price of repeating."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import BadSetting, BadSource
from evalkit.types import Likely, Tunable
from generators import ngram as ngram_module
from generators._bpe import learn
from generators._escape import BYTE_NATS, ESCAPE_NATS, TOKEN_NATS, encode, escape_nats
from generators._sampling import penalised
from generators.ngram import Ngram

from .quick import data_for, drawn, fitted, make, make_from, one_line, text_set

CAUSAL = ("lm", "lstm")
MASKED = ("masked_lm", "text_diffusion")
NETWORKS = CAUSAL + MASKED
SENTENCES = ["the cat sat on the mat.", "a dog ran to the park."]
TINY = ["a b a c", "b a", "c c b a", "a b", "b c a b", "c", "a a", "b"]


@lru_cache
def taught(name: str):
    """A model that has seen nothing but two sentences."""
    generator = make(name, vocabulary=80, learning_rate=1e-2, steps=100, dropout=0.0)
    generator.fit(text_set(SENTENCES * 20), seed=0)
    return generator


def nats_of(generator, texts: list[str]) -> torch.Tensor:
    return torch.cat([generator.likelihood(generator.prepare(t)[None]) for t in texts])


# ---------------------------------------------------------------------------------------------- drawing


def test_a_penalty_divides_positive_and_multiplies_negative_logits_of_what_was_drawn() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0, -1.0, 0.0]])
    was_drawn = torch.tensor([[True, True, False, False, True]])
    assert penalised(logits, was_drawn, 2.0).tolist() == [[1.0, -4.0, 1.0, -1.0, 0.0]]
    assert penalised(logits, was_drawn, 1.0) is logits


@pytest.mark.parametrize("name", CAUSAL)
def test_a_penalty_makes_texts_repeat_less(name: str) -> None:
    def repeated(penalty: float) -> float:
        texts = drawn(make_from(name, repetition_penalty=penalty, temperature=0.5), 16)[0]
        tokens = [fitted(name)._bpe.encode(t) for t in texts]
        return sum(len(t) - len(set(t)) for t in tokens) / sum(map(len, tokens))

    assert repeated(3.0) < 0.7 * repeated(1.0)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_state_carried_on_gives_the_logits_of_the_whole_text(name: str) -> None:
    """Token by token, with texts leaving the batch on the way: nothing of them may stay behind in the state."""
    net = fitted(name)._net
    tokens = torch.randint(100, (5, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, _ = net(tokens)
        first, state = net(tokens[:, :3])
        assert torch.allclose(first, whole[:, :3], atol=1e-5)
        rows = torch.ones(5, dtype=torch.bool)
        for i in range(3, 40):
            if i in (10, 25):
                leave = torch.tensor([i == 10 or j > 0 for j in range(int(rows.sum()))])
                leave[1] = False
                state = net.keep(state, leave)
                rows[rows.clone()] = leave
            step, state = net(tokens[rows, i : i + 1], state)
            assert torch.allclose(step[:, 0], whole[rows, i], atol=1e-5)
    assert rows.sum() == 2


@pytest.mark.parametrize("name", CAUSAL)
def test_two_sentences_learnt_are_two_sentences_written(name: str) -> None:
    samples, _ = drawn(taught(name), 50)
    assert sum(s in SENTENCES for s in samples) > 40
    assert set(SENTENCES) <= set(samples)


def test_one_sample_costs_one_sample() -> None:
    seen: list[int] = []
    generator = make_from("lstm")
    generator._net.register_forward_hook(lambda net, given, out: seen.append(len(given[0])))
    list(generator.sample(1, 0))
    assert set(seen) == {1}


# ---------------------------------------------------------------------------------------------- likelihood


def test_who_knows_how_probable_a_text_is() -> None:
    assert all(isinstance(fitted(n), Likely) for n in (*CAUSAL, "ngram"))
    assert not any(isinstance(fitted(n), Likely) for n in MASKED)
    assert all(isinstance(fitted(n), Tunable) for n in NETWORKS)


@pytest.mark.parametrize("name", CAUSAL)
def test_likelihood_is_the_sum_of_the_log_softmax_token_by_token(name: str) -> None:
    generator, text = fitted(name), "The value of a name is its object."
    ids = generator.prepare(text).tolist()
    assert ids[0] == ids[-1] == 0 and generator._bpe.decode(ids) == text
    with torch.no_grad():
        steps = [generator._net(torch.tensor([ids[:i]]))[0][0, -1].log_softmax(-1) for i in range(1, len(ids))]
    by_hand = -sum(float(step[token]) for step, token in zip(steps, ids[1:], strict=True))
    row = generator.likelihood(torch.tensor([ids]))
    assert row.dtype == torch.float32
    assert row[0].tolist() == pytest.approx([by_hand + TOKEN_NATS * (len(ids) - 1), len(ids) - 1, len(text)], rel=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_row_does_not_depend_on_its_batch_and_long_texts_are_read_in_windows(name: str) -> None:
    """32 tokens fit; the second window starts with the last token of the first, so every token is paid once."""
    generator, rng = fitted(name), torch.Generator().manual_seed(0)
    batch = torch.randint(1, 150, (20, 80), generator=rng)
    batch[:, 0] = batch[:, -1] = 0
    batch[::3, 40] = -2
    rows = generator.likelihood(batch)
    alone = torch.cat([generator.likelihood(b[None]) for b in batch])
    assert torch.allclose(rows, alone, rtol=1e-5)
    ids = batch[1].tolist()
    parts = [ids[i : i + 33] for i in range(0, 79, 32)]
    with torch.no_grad():
        by_hand = sum(
            float(F.cross_entropy(generator._net(torch.tensor([p[:-1]]))[0][0], torch.tensor(p[1:]), reduction="sum"))
            for p in parts
        )
    assert float(rows[1, 0]) == pytest.approx(by_hand + 79 * TOKEN_NATS, rel=1e-5)


@pytest.mark.parametrize("name", [*CAUSAL, "ngram"])
def test_a_character_that_cannot_be_written_costs_an_escape_and_its_bytes(name: str) -> None:
    """12 bits for the escape and 24 for the three bytes of a snowman, at the end where nothing comes after it."""
    generator = make("ngram", order=1, level="character") if name == "ngram" else fitted(name)
    if name == "ngram":
        generator.fit(data_for("ngram"), seed=0)
    plain, snowy = nats_of(generator, ["a name", "a name☃"])
    assert (snowy - plain).tolist() == pytest.approx([36 * math.log(2), 1, 3], rel=1e-4)
    everything = nats_of(generator, ["☃☃☃", "", "\ud800", "é☃\U0001f600"])
    assert bool(everything.isfinite().all())
    assert everything[:, 2].tolist() == [9, 0, 3, 9]


def test_escapes_and_tokens_together_weigh_no_more_than_one() -> None:
    """All of Unicode, spelt: 2^7 characters of one byte, 2^11 up to two, 2^16 up to three, 0x110000 up to four."""
    sizes = {1: 2**7, 2: 2**11 - 2**7, 3: 2**16 - 2**11, 4: 0x110000 - 2**16}
    spelt = sum(n * math.exp(-ESCAPE_NATS - size * BYTE_NATS) for size, n in sizes.items())
    assert math.exp(-TOKEN_NATS) < math.exp(-TOKEN_NATS) + spelt <= 1
    assert escape_nats(torch.tensor([[0, 3, -4, 0]])).item() == pytest.approx(2 * TOKEN_NATS + 44 * math.log(2))


@given(st.text(alphabet="ab c,☃é", max_size=40))
@settings(max_examples=60, deadline=None)
def test_an_encoding_with_escapes_loses_nothing(text: str) -> None:
    bpe = learn(["ab ab abc, cab.\nab", "c c c ab"], 40)
    ids = encode(bpe, text)
    assert bpe.decode([i for i in ids if i >= 0]) == text.replace("☃", "").replace("é", "")
    assert [-i for i in ids if i < 0] == [len(c.encode()) for c in text if c in "☃é"]
    if not set(text) & set("☃é"):
        assert ids == bpe.encode(text)


@pytest.mark.parametrize("name", [*CAUSAL, "ngram"])
def test_a_text_of_the_training_language_is_likelier_than_its_words_in_disorder(name: str) -> None:
    generator = fitted("ngram") if name == "ngram" else taught(name)
    texts = [s.load() for s in data_for("ngram")][:20] if name == "ngram" else SENTENCES
    disorder = [" ".join(t.split()[::-1]) for t in texts]
    rows, other = nats_of(generator, texts), nats_of(generator, disorder)
    assert bool((rows[:, 0] < other[:, 0]).all())
    assert torch.equal(rows[:, 2], other[:, 2])
    # Blanks around a text are no part of it.
    assert torch.equal(nats_of(generator, [f"\n {texts[0]} "])[0], rows[0])


@pytest.mark.parametrize("name", [*CAUSAL, "ngram"])
def test_only_texts_have_a_likelihood_and_only_after_training(name: str) -> None:
    with pytest.raises(BadSetting, match="learned nothing yet"):
        make(name).prepare("a")
    with pytest.raises(BadSource) as error:
        fitted(name).prepare(np.zeros((8, 8, 3), np.uint8))
    assert "image" in one_line(error)


# ---------------------------------------------------------------------------------------------- n-grams


def kneser_ney(order: int, level: str = "word", texts: list[str] = TINY) -> Ngram:
    generator = Ngram(order=order, level=level, smoothing="kneser_ney")
    generator.fit(text_set(texts), seed=0)
    return generator


@pytest.mark.parametrize("level", ["word", "character"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_kneser_ney_sums_to_one_and_draws_what_it_says(order: int, level: str) -> None:
    generator, chance = kneser_ney(order, level), np.random.default_rng(0)
    for context in ((), ("a",), ("b", "a"), ("never",), ("a", "never"), ("never", "a")):
        p = generator.probabilities(context)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert (p > 0).all()
    h = generator._context([generator.vocabulary.index("a")])
    drawn_share = np.bincount([generator._next(h, chance) for _ in range(10_000)], minlength=len(p)) / 10_000
    assert np.abs(drawn_share - generator.probabilities(("a",))).max() < 0.02


def test_kneser_ney_by_hand() -> None:
    """ "a b" four times, "a c" once, "d b" twice, "e" once: words seen before b: a and d; before c: a; before a: start.

    Bigrams: (start a) 5, (start d) 2, (start e) 1, (a b) 4, (a c) 1, (d b) 2, (b end) 6, (c end) 1, (e end) 1.
    n1 = 4, n2 = 2: D = 4/8. Unigrams by predecessors: a 1, b 2, c 1, d 1, e 1, end 3; total 9; n1 = 4, n2 = 1: D = 4/6.
    P(b) = (2 - 2/3 + 2/3 * 6/6) / 9 = 2/9; P(b | a) = (4 - 1/2 + 1/2 * 2 * 2/9) / 5.
    """
    generator = kneser_ney(2, texts=["a b"] * 4 + ["a c"] + ["d b"] * 2 + ["e"])
    b = generator.vocabulary.index("b")
    assert generator.probabilities(("never",))[b] == pytest.approx(2 / 9)
    assert generator.probabilities(("a",))[b] == pytest.approx((4 - 1 / 2 + 2 / 9) / 5)


def peers(model, generator: Ngram):
    """nltk's model of the very n-grams that were counted, with the end of a text as the word it is here."""
    words = generator.vocabulary
    grams = [
        tuple(words[i] for i in g)
        for table, counts in zip(generator._grams, generator._counts, strict=True)
        for g, n in zip(table.tolist(), counts.tolist(), strict=True)
        for _ in range(n)
    ]
    model.fit([grams], vocabulary_text=None)
    return model


@pytest.mark.parametrize("smoothing", ["witten_bell", "kneser_ney"])
def test_ngrams_agree_with_nltk(smoothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk ends in the plain frequencies and not in the uniform distribution, and has one discount for all lengths:
    its share of the words and of the shorter context is compared at every length above that."""
    from nltk.lm import KneserNeyInterpolated, Vocabulary, WittenBellInterpolated

    monkeypatch.setattr(ngram_module, "LEAST_DISCOUNT", 0.4)
    monkeypatch.setattr(ngram_module, "MOST_DISCOUNT", 0.4)
    generator = Ngram(order=3, smoothing=smoothing)
    generator.fit(text_set(TINY), seed=0)
    vocabulary = Vocabulary(generator.vocabulary, unk_cutoff=1)
    if smoothing == "kneser_ney":
        peer = peers(KneserNeyInterpolated(3, discount=0.4, vocabulary=vocabulary), generator)
    else:
        peer = peers(WittenBellInterpolated(3, vocabulary=vocabulary), generator)
    words, compared = generator.vocabulary, 0
    for h in generator._followers:
        for i, word in enumerate(words if h else ()):
            alpha, gamma = peer.estimator.alpha_gamma(word, tuple(words[j] for j in h))
            assert generator._probability(h, i) == pytest.approx(alpha + gamma * generator._probability(h[1:], i))
            compared += 1
    assert compared > 40


@pytest.mark.parametrize("smoothing", ["witten_bell", "kneser_ney"])
def test_all_texts_over_a_tiny_alphabet_sum_to_one(smoothing: str) -> None:
    """Texts of up to four words, and the chance that a text is longer."""
    generator = Ngram(order=3, smoothing=smoothing)
    generator.fit(text_set(TINY), seed=0)
    words = generator.vocabulary[1:]
    texts = [" ".join(t) for n in range(5) for t in itertools.product(words, repeat=n)]
    rows = nats_of(generator, texts).double()
    ended = float((-rows[:, 0] + TOKEN_NATS * rows[:, 1]).exp().sum())
    longer = sum(
        math.prod(generator.probabilities(t[:i])[generator.vocabulary.index(w)] for i, w in enumerate(t))
        for t in itertools.product(words, repeat=5)
    )
    assert ended + longer == pytest.approx(1, abs=1e-6)
    assert 0.01 < longer < 0.5


def test_ngram_likelihood_pays_a_new_word_by_its_letters_and_goes_on_without_a_context() -> None:
    """ "snow" is spelt in five bytes, the blank behind it among them; b then follows something never seen."""
    generator = Ngram(order=2)
    generator.fit(text_set(TINY), seed=0)
    (nats, words, size), p, index = nats_of(generator, ["a snow b"])[0].tolist(), generator.probabilities, 2
    assert generator.vocabulary[index] == "b"
    known = [p(())[1], p(("never",))[index], p(("b",))[0]]
    assert nats == pytest.approx(-np.log(known).sum() + 3 * TOKEN_NATS + (12 + 40) * math.log(2), rel=1e-6)
    assert (words, size) == (4, len("a snow b"))


def test_one_ngram_model_is_read_with_either_smoothing(tmp_path: Path) -> None:
    fitted("ngram").save(tmp_path)
    other = Ngram(smoothing="kneser_ney")
    other.load(tmp_path)
    assert other._tensors().keys() == fitted("ngram")._tensors().keys()
    assert drawn(other, 5) != drawn(fitted("ngram"), 5)
    with pytest.raises(BadSetting, match="expected one of witten_bell, kneser_ney"):
        Ngram(smoothing="good_turing")
