"""Captions of images: always in the grammar, in order, of images kept back, and learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalkit.errors import BadSetting, BadSource, ModalityMismatch
from evalkit.samples.arrays import from_texts
from evalkit.types import Given
from generators._captions import (
    Grammar,
    facts_of,
)
from generators.captioner import Captioner, Lesson, numbered, padded

from .quick import captioned_digits, data_for, drawn, image_set, make_from, shaded
from .test_generators_captions import BARS

# ---------------------------------------------------------------------------------------------- captioner


@pytest.fixture(scope="module")
def digits():
    return captioned_digits()


def test_captions_as_numbers_by_hand() -> None:
    rows = numbered([("a", "b"), ("b",), ("c", "a")], ["", "a", "b"])
    assert rows == [[1, 2], [2], [1]]
    reads, writes = padded(rows)
    assert reads.tolist() == [[0, 1, 2], [0, 2, 0], [0, 1, 0]]
    assert writes.tolist() == [[1, 2, 0], [2, 0, -100], [1, 0, -100]]


def test_a_word_may_follow_another_only_where_it_did(digits) -> None:
    lesson = Lesson.of(digits[1], [("a", "b"), ("b",)], torch.zeros(0), torch.zeros(0))
    assert lesson.words == ["", "a", "b"]
    assert lesson.follows.tolist() == [[False, True, True], [False, False, True], [True, False, False]]


@pytest.mark.parametrize("temperature", [0, 1, 10])
def test_what_is_written_is_in_the_grammar_however_unsure(digits, temperature: float) -> None:
    grammar = set(Grammar.of(digits[0], digits[2], digits[1].classes).captions())
    generator = make_from("captioner", temperature=temperature)
    written, groups = drawn(generator, 128)
    assert set(written) <= grammar
    assert len(groups) == 128
    if temperature == 10:
        assert len(set(written)) > 40


def test_a_class_of_several_words_is_one_piece_of_the_grammar() -> None:
    pixels = np.stack([*BARS.values()] * 4)
    names = ["new york", "york minster"] * 18
    generator = Captioner(steps=3, width=8, temperature=10)
    generator.fit(image_set(pixels, names), seed=0)
    kinds = {facts_of(c).kind for c in drawn(generator, 200)[0]}
    assert kinds == {"new york", "york minster"}


def test_captions_come_in_the_order_of_their_images_and_the_likeliest_need_no_chance() -> None:
    generator, data = make_from("captioner", temperature=0), data_for("captioner")
    assert isinstance(generator, Given) and generator.takes == "image"
    some = type(data)("some", "image", data.samples[:70])
    one, other = (list(generator.sample_given(some, seed)) for seed in (0, 1))
    assert [len(b.items) for b in one] == [64, 6]
    assert one == other
    assert [g for b in one for g in b.groups] == [s.group for s in some]
    backwards = type(data)("some", "image", data.samples[69::-1])
    again = [c for b in generator.sample_given(backwards, 0) for c in b.items]
    assert again[::-1] == [c for b in one for c in b.items]
    with pytest.raises(BadSource, match="learned 8x8 images"):
        list(generator.sample_given(image_set(np.zeros((2, 9, 9, 3), np.uint8)), 0))
    with pytest.raises(ModalityMismatch):
        generator.sample_given(from_texts(["a"]), 0)
    with pytest.raises(BadSetting):
        Captioner().sample_given(some, 0)


def test_captions_are_of_images_that_were_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Captioner, "_train", lambda self, lesson, x, *_: seen.append(x) or self._build(lesson))
    generator = Captioner(width=8)
    generator.fit(data_for("captioner"), seed=0)
    assert len(generator._lesson.kept) == 54 and len(seen[0]) == 1087 - 54
    trained = {tuple((i * 255).round().int().flatten().tolist()) for i in seen[0]}
    kept = {tuple(i[..., 0].int().flatten().tolist()) for i in generator._lesson.kept}
    assert len(kept & trained) <= 1  # the set holds a few copies of one image


@pytest.mark.parametrize(("shape", "colour"), [((8, 8), False), ((20, 17), True)])
def test_captioner_learns_to_tell_bright_from_dark(shape: tuple[int, int], colour: bool) -> None:
    data, generator = shaded(64, shape, colour), Captioner(steps=40, width=16, temperature=0)
    generator.fit(data, seed=0)
    written = [c for b in generator.sample_given(data, 0) for c in b.items]
    assert written == [s.condition for s in data]
