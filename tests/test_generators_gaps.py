"""Networks over tokens: gaps filled in rounds or by diffusion, more training, and a training that fails."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, RunFailed, TooFewSamples
from generators._bpe import Bpe
from generators._masked import Canvas, hidden, padded
from generators._training import LastGood, isolated
from generators._transformer import Filler
from generators.text_diffusion import TextDiffusion

from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, text_set

CAUSAL = ("lm", "lstm")
MASKED = ("masked_lm", "text_diffusion")
NETWORKS = CAUSAL + MASKED
SENTENCES = ["the cat sat on the mat.", "a dog ran to the park."]


@lru_cache
def taught() -> TextDiffusion:
    """A diffusion that has seen nothing but two sentences."""
    generator = make("text_diffusion", vocabulary=80, learning_rate=1e-2, training_steps=100, steps=32, dropout=0.0)
    generator.fit(text_set(SENTENCES * 20), seed=0)
    return generator


def again(**controls: int | float | str) -> TextDiffusion:
    generator = make("text_diffusion", vocabulary=80, **controls)
    generator._restore({k: v.clone() for k, v in taught()._tensors().items()}, taught()._facts())
    generator._trained_on = taught().trained_on
    return generator


# ---------------------------------------------------------------------------------------------- filling gaps


def test_neighbours_are_learnt_long_before_attention_finds_them() -> None:
    """In a round of eight tokens a hidden one follows from either neighbour: a few steps must suffice to see it."""
    generator = make("text_diffusion")
    with isolated(0, "cpu") as rng:
        net = Filler(9, 32, 1, 0.0)
    adam = torch.optim.AdamW(net.parameters(), 1e-2)
    losses, starts = [], torch.randint(8, (30, 16), generator=rng).tolist()
    texts = [[[0, *(1 + (i + j) % 8 for j in range(12)), 0] for i in batch] for batch in starts]
    for batch in texts:
        loss = generator._nats(net, batch, "cpu", rng) / (16 * 12)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[0] > math.log(8) > 2 * np.mean(losses[-5:])


def test_what_a_text_says_does_not_depend_on_the_padding_behind_it() -> None:
    """Neither attention nor the convolution over neighbours may look behind the end."""
    net, mask = fitted("text_diffusion")._net, fitted("text_diffusion")._net.mask
    short, long = [0, 5, mask, 7, mask, 0], [0, *range(10, 30), 0]
    with torch.inference_mode():
        tokens, visible, _ = padded([short, long])
        both = net(tokens, visible, (tokens == mask) & visible)
        alone = net(torch.tensor([short]), torch.ones(1, 6, dtype=torch.bool), torch.tensor([short]) == mask)
    assert torch.allclose(both, alone, atol=1e-5)


@pytest.mark.parametrize("order", ["sure", "random"])
def test_gaps_filled_one_by_one_give_whole_sentences(order: str) -> None:
    samples = drawn(again(order=order, steps=32), 50)[0]
    assert sum(s in SENTENCES for s in samples) > 40
    assert set(SENTENCES) <= set(samples)


def test_gaps_filled_all_at_once_give_mixed_sentences() -> None:
    """The two sentences have nearly no word in common: tokens drawn as if independent mix them."""
    assert sum(s in SENTENCES for s in drawn(again(steps=1), 50)[0]) < 25


@pytest.mark.parametrize("name", MASKED)
def test_one_sample_costs_one_sample(name: str) -> None:
    seen, generator = [], make_from(name)
    generator._net.register_forward_hook(lambda net, given, out: seen.append(len(given[0])))
    list(generator.sample(1, 0))
    assert set(seen) == {1}


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
    texts = drawn(toy("masked_lm", Joint(), [2], sweeps=6, together=1), 2000)[0]
    share = {t: n / 2000 for t, n in Counter(texts).items()}
    assert share == pytest.approx({"aa": 0.4, "ab": 0.1, "ba": 0.1, "bb": 0.4}, abs=0.035)


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
    drawn(toy("text_diffusion", net, [7], "abc", steps=7, order="random"), 64)
    asked = torch.stack(net.asked)
    assert asked.shape[0] == 7
    assert bool((asked.sum(2) == 1).all())
    assert bool((asked.sum(0)[:, 1:8] == 1).all())
    first = asked[0].float().argmax(1).bincount(minlength=9)[1:8]
    assert bool((first > 0).all())


class Surer(torch.nn.Module):
    """Says 1, at even places 1 or 2, the surer the smaller (7 * place) % 10; notes what was hidden at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[torch.Tensor] = []

    def forward(self, tokens, visible, asked):
        self.asked.append(asked.clone())
        place = asked.nonzero()[:, 1]
        sure = 10.0 - (7 * place[:, None]) % 10
        return sure * torch.tensor([0.0, 1.0, 1.0, 0.0]) - (place[:, None] % 2) * torch.tensor([0.0, 0.0, 99.0, 0.0])


def test_diffusion_begins_where_the_network_is_surest_and_draws_from_all_it_says() -> None:
    """Odd places go first, by their sureness; even ones hesitate between two tokens, and both are drawn."""
    net = Surer()
    texts = drawn(toy("text_diffusion", net, [9], "abc", steps=9, order="sure"), 64)[0]
    left = [*net.asked, torch.zeros_like(net.asked[0])]
    gone = [(a & ~b).nonzero() for a, b in itertools.pairwise(left)]
    assert all(g[:, 0].tolist() == list(range(64)) for g in gone), "one token of each text a step"
    order = [set(g[:, 1].tolist()) for g in gone]
    assert order == [{3}, {9}, {5}, {1}, {7}, {6}, {2}, {8}, {4}]
    assert "b" not in {c for t in texts for c in t[0::2]}
    assert {"a", "b"} <= {c for t in texts for c in t[1::2]}


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_diffusion_draws_every_token_once_whatever_the_steps(steps: int) -> None:
    net = Counting()
    texts = drawn(toy("text_diffusion", net, [1, 4, 9], "abc", steps=steps, order="random"), 64)[0]
    assert set(map(len, drawn(toy("text_diffusion", Counting(), [1, 4, 9], "abc", steps=steps), 64)[0])) == {1, 4, 9}
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
    loaded = make(name)
    loaded.load(tmp_path)
    assert drawn(loaded, 5) == drawn(generator, 5) != drawn(parent, 5)
    assert loaded._facts() == generator._facts()


def nats_of(generator, texts: list[str]) -> torch.Tensor:
    return torch.cat([generator.likelihood(generator.prepare(t)[None]) for t in texts])


@pytest.mark.parametrize("name", CAUSAL)
def test_tuning_makes_the_new_texts_likelier_and_repeats_by_seed(name: str) -> None:
    before, after = nats_of(fitted(name), SENTENCES), nats_of(tuned(name, 0), SENTENCES)
    assert float(after[:, 0].sum()) < 0.97 * float(before[:, 0].sum())
    repeated, other = make_from(name), tuned(name, 1)
    repeated.tune(text_set(SENTENCES * 20), seed=0)
    assert torch.equal(nats_of(repeated, SENTENCES), after)
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

    generator, notes = make("lm", vocabulary=80, learning_rate=1e-2, steps=100), Notes()
    generator.fit(text_set(SENTENCES * 20), seed=0)
    before = {k: v.clone() for k, v in generator._tensors().items()}
    generator._settings["learning_rate"] = 5.0
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


def test_a_diverged_training_leaves_its_last_sound_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LastGood, "EVERY", 5)
    generator, data = make("text_diffusion"), data_for("text_diffusion")
    calls, real = [], generator._nats

    def turning_bad(*given):
        calls.append(torch.is_grad_enabled())
        return real(*given) * (math.nan if sum(calls) > 12 else 1.0)

    monkeypatch.setattr(generator, "_nats", turning_bad)
    with pytest.raises(RunFailed, match="at step 13"):
        generator.fit(data, seed=0)
    assert generator.trained_on == data.digest
    assert all(drawn(generator, 5)[0])
