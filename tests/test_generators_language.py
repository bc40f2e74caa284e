"""Language models: how probable a text is, more training, the price of repeating, gaps filled in rounds."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.lm import KneserNeyInterpolated, Vocabulary, WittenBellInterpolated

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, RunFailed, TooFewSamples
from evalkit.types import Likely, Tunable
from generators import ngram as ngram_module
from generators._bpe import Bpe, learn
from generators._escape import BYTE_NATS, ESCAPE_NATS, TOKEN_NATS, encode, escape_nats
from generators._masked import Canvas, hidden, padded
from generators._sampling import penalised
from generators._training import LastGood
from generators.ngram import Ngram

from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, text_set

CAUSAL = ("lm", "lstm")
MASKED = ("masked_lm", "text_diffusion")
NETWORKS = CAUSAL + MASKED
SENTENCES = ["the cat sat on the mat.", "a dog ran to the park."]
TINY = ["a b a c", "b a", "c c b a", "a b", "b c a b", "c", "a a", "b"]


@lru_cache
def taught(name: str):
    """A model that has seen nothing but two sentences."""
    more = {"lm": {"dropout": 0.0}, "lstm": {"dropout": 0.0}, "masked_lm": {"sweeps": 4, "together": 1}}
    steps = {"training_steps": 250, "steps": 32} if name == "text_diffusion" else {"steps": 150}
    generator = make(name, vocabulary=80, learning_rate=1e-2, **steps, **more.get(name, {}))
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


def test_gaps_filled_one_by_one_give_whole_sentences_and_all_at_once_do_not() -> None:
    """The two sentences have nearly no word in common: tokens drawn as if independent mix them."""
    one_by_one, at_once = taught("text_diffusion"), make("text_diffusion", vocabulary=80, steps=1)
    at_once._restore({k: v.clone() for k, v in one_by_one._tensors().items()}, one_by_one._facts())
    at_once._trained_on = one_by_one.trained_on
    whole = [sum(s in SENTENCES for s in drawn(g, 50)[0]) for g in (one_by_one, at_once)]
    assert whole[0] > 40 and whole[1] < 25


@pytest.mark.parametrize("name", ["lstm", *MASKED])
def test_one_sample_costs_one_sample(name: str) -> None:
    seen: list[int] = []
    generator = make_from(name)
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


# ---------------------------------------------------------------------------------------------- tuning


@lru_cache
def tuned(name: str, seed: int):
    generator = make_from(name)
    generator.tune(text_set(SENTENCES * 20, "new"), seed=seed)
    return generator


@pytest.mark.parametrize("name", NETWORKS)
def test_a_tuned_model_keeps_its_tokens_and_says_what_it_was(name: str, tmp_path: Path) -> None:
    parent, generator = fitted(name), tuned(name, 0)
    assert generator._bpe.tokens == parent._bpe.tokens
    assert generator.trained_on == text_set(SENTENCES * 20).digest != parent.trained_on
    assert generator._facts()["tuned_from"] == parent.trained_on
    assert generator.recipe == parent.recipe and "tuned_from" not in parent._facts()
    generator.save(tmp_path)
    again = make(name)
    again.load(tmp_path)
    assert drawn(again, 5) == drawn(generator, 5) != drawn(parent, 5)
    assert again._facts() == generator._facts()


@pytest.mark.parametrize("name", CAUSAL)
def test_tuning_makes_the_new_texts_likelier_and_repeats_by_seed(name: str) -> None:
    before, after = nats_of(fitted(name), SENTENCES), nats_of(tuned(name, 0), SENTENCES)
    assert float(after[:, 0].sum()) < 0.97 * float(before[:, 0].sum())
    again, other = make_from(name), tuned(name, 1)
    again.tune(text_set(SENTENCES * 20), seed=0)
    assert torch.equal(nats_of(again, SENTENCES), after)
    assert not torch.equal(nats_of(other, SENTENCES), after)


def test_tuning_stops_when_the_held_out_texts_do_not_gain_and_keeps_the_best() -> None:
    """At a rate at which every step destroys: the weights stay what they were, and the progress still ends."""

    class Notes:
        total = done = finished = 0

        def start(self, task: str, total: int) -> None:
            assert task == "tune lm"
            self.total = total

        def advance(self, n: int = 1) -> None:
            self.done += n

        def finish(self) -> None:
            self.finished += 1

    generator, notes = make("lm", vocabulary=80, learning_rate=5.0, steps=100), Notes()
    before = {k: v.clone() for k, v in taught("lm")._tensors().items()}
    generator._restore(dict(before), taught("lm")._facts())
    generator._trained_on = taught("lm").trained_on
    generator.tune(text_set(SENTENCES * 20), seed=0, progress=notes)
    assert all(torch.equal(v, before[k]) for k, v in generator._tensors().items())
    assert notes.done == notes.total == 50 and notes.finished == 1


def test_what_cannot_be_tuned_on_is_refused_and_changes_nothing() -> None:
    generator = make_from("lm")
    with pytest.raises(BadSetting, match="call fit or load before tune"):
        make("lm").tune(data_for("lm"), seed=0)
    with pytest.raises(ModalityMismatch):
        generator.tune(image_set(np.zeros((9, 8, 8, 3), np.uint8)), seed=0)
    with pytest.raises(BadSource) as nothing:
        generator.tune(text_set([f"☃{'❄' * i}" for i in range(9)], "snow"), seed=0)
    assert "45 of the 45 characters of 'snow'" in one_line(nothing)
    with pytest.raises(TooFewSamples) as few:
        generator.tune(text_set([f"☃{'❄' * i}" for i in range(9)] + ["a name"] * 3, "snow"), seed=0)
    assert "45 of the 63 characters" in one_line(few) and "3 texts are left" in str(few.value)
    assert drawn(generator, 5) == drawn(fitted("lm"), 5)
    assert generator.trained_on == fitted("lm").trained_on


@pytest.mark.parametrize("name", ["lm", "text_diffusion"])
def test_a_diverged_training_leaves_its_last_sound_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LastGood, "EVERY", 5)
    generator = make(name)
    calls, real = [], generator._nats

    def turning_bad(*given):
        calls.append(torch.is_grad_enabled())
        return real(*given) * (math.nan if sum(calls) > 12 else 1.0)

    monkeypatch.setattr(generator, "_nats", turning_bad)
    with pytest.raises(RunFailed, match="at step 13"):
        generator.fit(data_for(name), seed=0)
    assert generator.trained_on == data_for(name).digest
    assert all(drawn(generator, 5)[0])


# ---------------------------------------------------------------------------------------------- filling gaps


class Joint(torch.nn.Module):
    """The conditionals of a known joint distribution of two tokens, 1 or 2; a hidden neighbour says nothing."""

    P = torch.tensor([[0.4, 0.1], [0.1, 0.4]])

    def forward(self, tokens, visible, asked):
        other = torch.where(asked[:, 1:2], tokens[:, 2:3], tokens[:, 1:2])[:, 0]
        given_other = torch.where(other[:, None] <= 2, self.P[other.clamp_max(2) - 1], torch.ones(2))
        rows = asked.nonzero()[:, 0]
        return torch.cat([torch.zeros(len(rows), 1), given_other[rows].log()], 1)


def toy(name: str, net: torch.nn.Module, lengths: list[int], characters: str = "ab", **controls: int | float):
    generator = make(name, temperature=1.0, top_p=1.0, **controls)
    generator._bpe, generator._net, generator._trained_on = Bpe(list(characters), []), net, "toy"
    generator._lengths, generator._longest = torch.tensor(lengths), max(lengths) + 2
    return generator


def test_gibbs_draws_the_joint_distribution_of_two_tokens() -> None:
    texts = drawn(toy("masked_lm", Joint(), [2], sweeps=8, together=1), 4000)[0]
    share = {t: n / 4000 for t, n in Counter(texts).items()}
    assert share == pytest.approx({"aa": 0.4, "ab": 0.1, "ba": 0.1, "bb": 0.4}, abs=0.03)


class Counting(torch.nn.Module):
    """Draws any token, and notes how many each call was asked for in each text."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[torch.Tensor] = []

    def forward(self, tokens, visible, asked):
        assert bool((tokens[asked] == 4).all()), "what is asked for must be hidden"
        assert not bool((asked & ~visible).any())
        self.asked.append(asked.clone())
        return torch.zeros(int(asked.sum()), 4)


def test_diffusion_with_as_many_steps_as_tokens_draws_one_a_step_in_random_order() -> None:
    net = Counting()
    drawn(toy("text_diffusion", net, [7], "abc", steps=7), 64)
    asked = torch.stack(net.asked)
    assert asked.shape[0] == 7
    assert bool((asked.sum(2) == 1).all())
    assert bool((asked.sum(0)[:, 1:8] == 1).all())
    first = asked[0].float().argmax(1).bincount(minlength=9)[1:8]
    assert bool((first > 0).all())


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_diffusion_draws_every_token_once_whatever_the_steps(steps: int) -> None:
    net = Counting()
    texts = drawn(toy("text_diffusion", net, [1, 4, 9], "abc", steps=steps), 64)[0]
    # No mask is left, or it could not be decoded; so as many as there are places is each of them once.
    assert sum(int(asked.sum()) for asked in net.asked) == sum(map(len, texts))
    assert len(net.asked) <= steps
    assert set(map(len, texts)) == {1, 4, 9}


def test_masked_lm_draws_every_place_once_a_sweep() -> None:
    net = Counting()
    texts = drawn(toy("masked_lm", net, [4, 8], "abc", sweeps=3, together=4), 64)[0]
    assert [int(asked.sum(1).max()) for asked in net.asked] == [4] * 6
    assert sum(int(asked.sum()) for asked in net.asked) == 3 * sum(map(len, texts))
    # The short texts are done after the first half of each sweep, and leave.
    assert [len(asked) for asked in net.asked] == [64, sum(len(t) == 8 for t in texts)] * 3


class Costing(torch.nn.Module):
    """Gives the true token, 1, as many nats as the text has masks."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = 3

    def forward(self, tokens, visible, asked):
        k = (tokens == self.mask).sum(1)[asked.nonzero()[:, 0]]
        p = torch.exp(-k.float())
        return torch.stack([torch.full_like(p, 1e-30), p, 1 - p], 1).log()


def test_the_weight_1_over_t_makes_the_loss_the_sum_over_all_numbers_of_masks() -> None:
    """n = 5 tokens that cost k nats where k are hidden: drawn one by one they cost 5 + 4 + 3 + 2 + 1 nats."""
    generator, rng = make("text_diffusion"), torch.Generator().manual_seed(0)
    losses = [float(generator._nats(Costing(), [[0, 1, 1, 1, 1, 1, 0]] * 5, "cpu", rng)) / 5 for _ in range(50)]
    assert np.mean(losses) == pytest.approx(15, abs=0.01)


def test_masked_lm_hides_its_share_and_shows_80_10_10() -> None:
    """The share of tokens asked for, and how many of these show the mask; ends and padding are never asked for."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Looking(torch.nn.Module):
        mask = 50

        def forward(self, tokens, visible, asked):
            seen.append((tokens, asked))
            return torch.zeros(int(asked.sum()), 50)

    generator = make("masked_lm", masked=0.4)
    texts = [[0, *range(1, 1 + n), 0] for n in (20, 45) * 100]
    loss = generator._nats(Looking(), texts, "cpu", torch.Generator().manual_seed(0))
    tokens, asked = seen[0]
    assert asked.sum(1).tolist() == [8, 18] * 100
    assert not bool((asked & ~padded(texts)[2]).any())
    right = tokens == padded(texts)[0]
    assert float((tokens[asked] == 50).float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float(right[asked].float().mean()) == pytest.approx(0.1, abs=0.03)
    assert bool(right[~asked].all())
    assert float(loss) == pytest.approx(6500 * math.log(50), rel=1e-5)


def test_a_canvas_orders_and_hides_places_of_texts_and_nothing_else() -> None:
    rng = torch.Generator().manual_seed(0)
    canvas = Canvas(torch.tensor([2, 5]), 9, "cpu")
    assert canvas.tokens.tolist() == [[0, 9, 9, 0, 0, 0, 0], [0, 9, 9, 9, 9, 9, 0]]
    assert canvas.visible.sum(1).tolist() == [4, 7]
    order = canvas.order(rng)
    assert sorted(order[0, 1:3].tolist()) == [0, 1] and sorted(order[1, 1:6].tolist()) == [0, 1, 2, 3, 4]
    assert bool((order[~canvas.open] == 7).all())
    assert hidden(canvas.open, torch.tensor([1, 5]), rng).sum(1).tolist() == [1, 5]


@pytest.mark.parametrize("name", MASKED)
def test_lengths_are_those_of_the_training_texts(name: str) -> None:
    generator = fitted(name)
    known = [min(len(generator._bpe.encode(s.load())), 31) for s in data_for(name)]
    assert sorted(generator._lengths.tolist()) == sorted(known)
    lengths = generator._canvas(3000, torch.Generator().manual_seed(0)).lengths
    assert set(lengths.tolist()) <= set(known)
    assert float(lengths.float().mean()) == pytest.approx(np.mean(known), rel=0.05)


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
