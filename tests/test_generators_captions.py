"""Captions of images: facts by hand, a grammar that parses back, images of prompts and captions of images."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, RunFailed
from evalkit.samples.arrays import from_images, from_texts
from evalkit.types import Given
from generators._captions import (
    SLANT,
    SPELLED,
    THICKNESS,
    Facts,
    Grammar,
    Vocabulary,
    described,
    facts_of,
    ink_of,
    slant_of,
    thickness_of,
)
from generators._images import study
from generators._training import LastGood
from generators.text_to_image import TextToImage

from .quick import captioned_digits, data_for, drawn, fitted, make, make_from, one_line, shaded

SIDE = 16


def bar(width: int, lean: float, side: int = SIDE) -> np.ndarray:
    """uint8 [side, side, 3]: a white bar of this many pixels, its top to the right where lean > 0."""
    image = np.zeros((side, side, 3), np.uint8)
    for y in range(2, side - 2):
        left = round(side / 2 - width / 2 + lean * (side / 2 - 0.5 - y))
        image[y, left : left + width] = 255
    return image


BARS = {(w, lean): bar(w, lean) for w in (1, 2, 4) for lean in (-0.5, 0.0, 0.5)}


@pytest.fixture(scope="module")
def digits():
    return captioned_digits()


# ---------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize(("width", "length"), [(1, 5), (2, 7), (4, 4)])
def test_thickness_of_a_bar_is_its_area_by_half_its_outline(width: int, length: int) -> None:
    ink = np.zeros((1, 12, 12))
    ink[0, 3 : 3 + length, 4 : 4 + width] = 1
    # One of the four corners has both its edges at one pixel, which make one of length sqrt 2.
    outline = 2 * width + 2 * length - 2 + math.sqrt(2)
    assert thickness_of(ink)[0] == pytest.approx(2 * width * length / outline)
    # A bar at the border of the image is as thick as one within.
    assert thickness_of(ink[:, 3 : 3 + length, 4 : 4 + width])[0] == pytest.approx(2 * width * length / outline)


def test_slant_by_hand() -> None:
    rising = np.eye(6)[::-1]
    assert slant_of(np.stack([rising, rising[:, ::-1], rising[:, :1] ** 0 @ np.ones((1, 6))])) == pytest.approx(
        [1, -1, 0]
    )
    assert slant_of(np.ones((1, 1, 6)))[0] == 0


def test_slant_is_the_slope_of_least_squares() -> None:
    ink = np.random.default_rng(0).random((20, 7, 9)) ** 3
    y, x = np.mgrid[:7, :9]
    slopes = [-np.polyfit(y.ravel(), x.ravel(), 1, w=np.sqrt(i.ravel()))[0] for i in ink]
    assert slant_of(ink) == pytest.approx(slopes)


def test_an_image_without_ink_has_no_thickness_and_stands_upright() -> None:
    assert (thickness_of(np.zeros((1, 4, 4))), slant_of(np.zeros((1, 4, 4)))) == (0, 0)


def test_drawn_bars_are_called_what_they_are() -> None:
    pixels = np.stack(list(BARS.values()))
    grammar = Grammar.of(pixels, [0] * 9, ["1"])
    for (width, lean), image in BARS.items():
        facts = facts_of(grammar.caption_of(image, 0))
        assert facts.kind == "one"
        assert facts.thickness == {1: "thin", 2: "medium", 4: "bold"}[width]
        assert facts.slant == {-0.5: SLANT[0], 0.0: SLANT[1], 0.5: SLANT[2]}[lean]


def test_dark_ink_on_light_paper_reads_the_same() -> None:
    pixels = np.stack(list(BARS.values()))
    light = Grammar.of(255 - pixels, [0] * 9, ["1"])
    assert light.ground == 255
    assert light.facts(255 - pixels, [0] * 9) == Grammar.of(pixels, [0] * 9, ["1"]).facts(pixels, [0] * 9)


def test_each_class_is_measured_by_its_own_thirds(digits) -> None:
    pixels, look, labels = digits
    grammar = Grammar.of(pixels, labels, look.classes)
    facts = grammar.facts(pixels, labels)
    for kind in grammar.kinds:
        own = [f for f in facts if f.kind == kind]
        for field, words in (("thickness", THICKNESS), ("slant", SLANT)):
            counts = [sum(getattr(f, field) == w for f in own) for w in words]
            assert max(counts) - min(counts) <= 1
    # The words say what was measured: order the images of one class by it.
    ink, sevens = ink_of(pixels, grammar.ground), [i for i, f in enumerate(facts) if f.kind == "seven"]
    values = thickness_of(ink)
    assert max(values[i] for i in sevens if facts[i].thickness == "thin") < min(
        values[i] for i in sevens if facts[i].thickness == "bold"
    )


def test_few_images_of_a_class_are_measured_by_the_thirds_of_all() -> None:
    pixels = np.stack([*BARS.values(), bar(4, 0.5)])
    grammar = Grammar.of(pixels, [0] * 9 + [1], ["a", "b"])
    assert grammar.caption_of(bar(4, 0.5), 1) == "a bold b slanting right"
    assert grammar.thickness[1] == pytest.approx(np.quantile(thickness_of(ink_of(pixels, 0)), [1 / 3, 2 / 3]))


# ---------------------------------------------------------------------------------------------- the grammar


def test_every_caption_parses_back_and_is_listed_once() -> None:
    grammar = Grammar(("seven", "a house on a hill", "thin"), 0.0, ((1, 2),) * 3, ((0, 1),) * 3)
    captions = grammar.captions()
    assert len(set(captions)) == len(captions) == 27
    assert {facts_of(c) for c in captions} == {
        Facts(k, t, s) for k, t, s in itertools.product(grammar.kinds, THICKNESS, SLANT)
    }
    assert all(facts_of(c).caption == c == " ".join(facts_of(c).pieces) for c in captions)
    for text in ("", "a seven", "a bold seven", "a bold seven slanting up", "A bold seven slanting left", "seven"):
        with pytest.raises(BadSource) as error:
            facts_of(text)
        assert repr(text) in one_line(error)


def test_a_set_is_taken_at_its_word_only_where_every_image_has_a_prompt() -> None:
    pixels = np.stack(list(BARS.values()))

    def captions_for(prompts):
        data = from_images(pixels, conditions=prompts)
        _, found, own = described(data, pixels, *study(pixels, data, "test"))
        return found, own

    assert captions_for(["a  bar"] * 9) == ([("a", "bar")] * 9, True)
    for prompts in (None, ["a bar"] * 8 + [" "]):
        found, own = captions_for(prompts)
        assert not own
        assert found[0] == ("a", "thin", "picture", "slanting", "left")


def test_words_become_tokens_and_unknown_ones_are_named_with_the_nearest() -> None:
    vocabulary = Vocabulary.of(["A bold seven!", "a thin one"])
    assert vocabulary.words == ("a", "bold", "one", "seven", "thin")
    assert vocabulary.tokens(["seven, bold", "one", "never"]).tolist() == [[4, 2], [3, 0], [0, 0]]
    with pytest.raises(BadSource, match=r"reader never saw the word 'sevn' in training; did you mean 'seven'\?"):
        vocabulary.check("a bold sevn", "reader")
    with pytest.raises(BadSource, match="'xyz' in training; it knows a, bold, one"):
        vocabulary.check("a xyz", "reader")
    with pytest.raises(BadSource, match="holds no word"):
        vocabulary.check(" !\n ", "reader")


# ---------------------------------------------------------------------------------------------- text to image

PROMPTS = Grammar(SPELLED, 0.0, (), ()).captions()[:70]


def given_pixels(generator, prompts, seed: int = 0) -> np.ndarray:
    return np.concatenate([b.items for b in generator.sample_given(from_texts(prompts), seed)])


class Straight(torch.nn.Module):
    """v that ends at `goal` for a prompt and at `other` without one, from wherever it starts."""

    def __init__(self, goal: float, other: float) -> None:
        super().__init__()
        self.goal, self.other, self.seen = goal, other, []

    def forward(self, x, t, tokens):
        self.seen.append(len(x))
        goals = torch.where((tokens > 0).any(1), self.goal, self.other)
        return (goals[:, None, None, None] - x) / (1 - t[:, None, None, None] / 1000)


@pytest.mark.parametrize(("guidance", "end"), [(0, -0.2), (1, 0.4), (0.5, 0.1), (2, 1.0)])
def test_the_flow_ends_where_guidance_says(guidance: float, end: float) -> None:
    """v_0 + w (v - v_0) of two straight flows is the straight flow to other + w (goal - other)."""
    generator = make_from("text_to_image", guidance=guidance, steps=7)
    generator._net = Straight(0.4, -0.2)
    x = generator._imagined(["a bold seven"] * 3, torch.Generator().manual_seed(0))
    assert x.flatten().tolist() == pytest.approx([(end + 1) / 2] * x.numel(), abs=1e-5)
    assert generator._net.seen == [3] * (7 if guidance in (0, 1) else 14)


def test_guidance_0_ignores_the_prompt_and_names_no_class() -> None:
    one, other = ["a bold seven slanting left"] * 3, ["a thin two slanting right"] * 3
    deaf, plain = make_from("text_to_image", guidance=0), make_from("text_to_image", guidance=1)
    assert np.array_equal(given_pixels(deaf, one), given_pixels(deaf, other))
    assert not np.array_equal(given_pixels(plain, one), given_pixels(plain, other))
    assert next(deaf.sample(3, 0)).groups is None


def test_images_come_in_the_order_of_their_prompts() -> None:
    generator = fitted("text_to_image")
    assert isinstance(generator, Given) and generator.takes == "text"
    batches = list(generator.sample_given(from_texts(PROMPTS), 5))
    assert [len(b.items) for b in batches] == [64, 6]
    assert [c for b in batches for c in b.conditions] == PROMPTS
    assert [g for b in batches for g in b.groups] == [str(i // 9) for i in range(70)]
    assert np.array_equal(given_pixels(generator, PROMPTS, 5), np.concatenate([b.items for b in batches]))
    assert not np.array_equal(given_pixels(generator, PROMPTS, 6), np.concatenate([b.items for b in batches]))
    # The noise belongs to the place, the rest to the prompt: only the image whose prompt changed is another one.
    other = given_pixels(generator, ["a thin nine slanting left", *PROMPTS[1:]], 5)
    assert np.array_equal(other[1:], given_pixels(generator, PROMPTS, 5)[1:])


def test_samples_carry_the_prompts_and_classes_of_training(digits) -> None:
    pixels, look, labels = digits
    known = {f.caption for f in Grammar.of(pixels, labels, look.classes).facts(pixels, labels)}
    for batch in fitted("text_to_image").sample(70, 3):
        assert set(batch.conditions) <= known
        kinds = [facts_of(c).kind for c in batch.conditions]
        assert batch.groups == [str(SPELLED.index(k)) for k in kinds]


def test_an_unknown_word_is_refused_before_the_first_image() -> None:
    generator = fitted("text_to_image")
    with pytest.raises(BadSource) as error:
        generator.sample_given(from_texts(["a bold seven", "a bolt seven"]), 0)
    assert "'bolt'" in one_line(error) and "did you mean 'bold'?" in str(error.value)
    with pytest.raises(ModalityMismatch):
        generator.sample_given(data_for("text_to_image"), 0)
    with pytest.raises(BadSetting):
        TextToImage().sample_given(from_texts(["a"]), 0)


def test_images_are_what_their_prompts_ask_for() -> None:
    generator = TextToImage(training_steps=120, steps=6, width=64, guidance=1)
    generator.fit(shaded(), seed=0)
    bright, dark = (given_pixels(generator, [f"very {w} indeed"] * 16).mean() for w in ("bright", "dark"))
    assert bright > 150 and dark < 100
    assert set(next(generator.sample(40, 0)).conditions) == {"very bright indeed", "very dark indeed"}
    assert next(generator.sample(4, 0)).groups is None


def test_larger_colour_images_learn_and_come_back_in_their_size(tmp_path) -> None:
    data = shaded(12, (18, 21), colour=True)
    generator, again = (TextToImage(training_steps=2, steps=2, width=64) for _ in range(2))
    generator.fit(data, seed=0)
    image = given_pixels(generator, ["bright"])
    assert image.shape == (1, 18, 21, 3)
    assert image.std(-1).max() > 0
    generator.save(tmp_path)
    again.load(tmp_path)
    assert drawn(again, 3) == drawn(generator, 3)


# ---------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize(("name", "loss"), [("text_to_image", "mse_loss"), ("captioner", "cross_entropy")])
def test_a_diverged_training_leaves_its_last_sound_state(name: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LastGood, "EVERY", 5)
    calls, real = [], getattr(F, loss)

    def turning_bad(*given, **named):
        calls.append(1)
        return real(*given, **named) * (math.nan if len(calls) > 10 else 1.0)

    monkeypatch.setattr(F, loss, turning_bad)
    generator = make(name)
    with pytest.raises(RunFailed, match="at step 11"):
        generator.fit(data_for(name), seed=0)
    assert generator.trained_on == data_for(name).digest
    assert len(drawn(generator, 5)[0]) == 5


@pytest.mark.parametrize("name", ["text_to_image", "captioner"])
def test_one_sample_costs_one_sample(name: str) -> None:
    seen: list[int] = []
    generator = make_from(name)
    generator._net.register_forward_hook(lambda net, given, out: seen.append(len(given[0])))
    list(generator.sample(1, 0))
    assert set(seen) == {1}
