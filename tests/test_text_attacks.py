"""Attacks on texts: what each may touch and nothing else, seeds, counts, and a detector under stress by them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.attacking import ATTACKS, attack_of, attacks_of
from evalkit.attacking.tables import AMERICAN_TO_BRITISH, HOMOGLYPHS, MISSPELLINGS
from evalkit.errors import BadSetting, ModalityMismatch, UnknownName
from evalkit.samples._transformed import transformed
from evalkit.samples.arrays import from_images, from_texts
from evalkit.stressing.suites import stress

TEXT = 'The color of "a great dog." He said 12,500 people in the theatre, because they WOULD. Then 3 left! A man came.'
SHARES = {
    "homoglyph": 1.0, "zero_width_space": 1.0, "whitespace": 0.5, "upper_lower": 0.5, "article_deletion": 0.5,
    "number": 0.5, "insert_paragraphs": 0.5, "misspelling": 0.5, "alternative_spelling": 1.0,
}  # fmt: skip
anything = st.text(max_size=200)
names = st.sampled_from(sorted(ATTACKS))


def test_the_nine_are_there_with_the_shares_of_the_protocol() -> None:
    assert {name: attack.share for name, attack in ATTACKS.items()} == SHARES


BY_HAND = {
    "article_deletion": TEXT.replace("The ", "")
    .replace("a great", "great")
    .replace("the ", "")
    .replace("A man", "man"),
    "insert_paragraphs": TEXT.replace('dog." ', 'dog."\n\n').replace("WOULD. ", "WOULD.\n\n").replace("! ", "!\n\n"),
    "misspelling": 'Teh color of "a great dog." He said 12,500 poeple in teh theatre, becuase thye WOUDL. Tehn 3 left!'
    " A man came.",
    "alternative_spelling": TEXT.replace("color", "colour").replace("theatre", "theater"),
    "upper_lower": 'the Color Of "A Great Dog." he Said 12,500 People In The Theatre, Because They wOULD. then 3 Left!'
    " a Man Came.",
    "whitespace": TEXT.replace(" ", "  "),
    "zero_width_space": "\u200b".join(TEXT),
}
COUNTS = (4, 3, 7, 2, 20, 21, len(TEXT) - 1)


@pytest.mark.parametrize(
    ("name", "expected", "changes"), [(*pair, n) for pair, n in zip(BY_HAND.items(), COUNTS, strict=True)]
)
def test_every_place_changed_by_hand(name: str, expected: str, changes: int) -> None:
    done = attack_of(name).edited(TEXT, share=1.0)
    assert (done.text, done.changes, done.places) == (expected, changes, changes)


def test_homoglyphs_read_back_and_numbers_keep_their_shape() -> None:
    done = attack_of("homoglyph").edited(TEXT)
    back = {alike: latin for latin, alike in HOMOGLYPHS.items()}
    assert len(back) == len(HOMOGLYPHS) and all(ord(c) > 127 for c in back)
    assert "".join(back.get(c, c) for c in done.text) == TEXT
    assert done.changes == sum(c in HOMOGLYPHS for c in TEXT)
    numbers = re.compile(r"\d[\d,]*")
    for seed in range(20):
        text = attack_of("number").edited(TEXT, seed, share=1.0).text
        assert numbers.sub("#", text) == numbers.sub("#", TEXT)
        long, short = numbers.findall(text)
        assert long != "12,500" and re.fullmatch(r"[1-9]\d,\d{3}", long) and short != "3" and len(short) == 1


@given(anything, names, st.integers(0, 3), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_a_share_of_the_places_and_nothing_else(text: str, name: str, seed: int, share: float) -> None:
    attack = attack_of(name)
    done = attack.edited(text, seed, share)
    assert done == attack.edited(text, seed, share)
    assert abs(done.changes - share * done.places) < 1 + 1e-6 and done.changes <= done.places
    assert (done.text == text) == (done.changes == 0)
    assert attack.edited(text, seed, 0.0).text == text


@given(anything, st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_what_each_attack_leaves_as_it_was(text: str, seed: int) -> None:
    def after(name: str) -> str:
        return attack_of(name)(text, seed)

    assert after("zero_width_space").replace("\u200b", "") == text.replace("\u200b", "")
    assert after("whitespace").replace(" ", "") == text.replace(" ", "")
    assert "".join(after("insert_paragraphs").split()) == "".join(text.split())
    assert len(after("upper_lower")) == len(text) and len(after("homoglyph")) == len(text)
    assert len(after("number")) == len(text)


def test_another_seed_changes_other_places_and_global_chance_none() -> None:
    import random

    attack = attack_of("whitespace")
    state = random.getstate()
    assert len({attack(TEXT, seed) for seed in range(10)}) > 5
    assert random.getstate() == state


def test_tables_have_no_loops_and_no_word_that_stays() -> None:
    assert not set(AMERICAN_TO_BRITISH) & set(AMERICAN_TO_BRITISH.values())
    assert all(a != b for table in (AMERICAN_TO_BRITISH, MISSPELLINGS, HOMOGLYPHS) for a, b in table.items())
    assert not set(MISSPELLINGS) & set(MISSPELLINGS.values())


def test_hard_texts_take_every_attack() -> None:
    for text in ("", "x", "\u202eabc the\u202c", "\ud800 the 3", "ß 12 \u0663\u0664 the.", "a" * 100_000, "." * 50_000):
        for attack in ATTACKS.values():
            assert isinstance(attack(text, 0), str)


def test_names_and_shares_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'homoglyph'"):
        attack_of("homoglif")
    with pytest.raises(BadSetting, match="expected 0 to 1"):
        attack_of("number").edited(TEXT, share=1.5)
    assert attacks_of(["number", "all", "number"])[0].name == "number" and len(attacks_of(["all"])) == 9


def test_an_attacked_set_is_another_set_and_the_same_one_each_time() -> None:
    samples = from_texts([TEXT, "No place here"], "t")
    attack = attack_of("article_deletion")
    one, two = (transformed(samples, attack, attack.recipe, modality="text") for _ in range(2))
    assert one.digest == two.digest != samples.digest and one.modality == "text"
    assert [s.load() for s in one] == [s.load() for s in two] != [s.load() for s in samples]
    with pytest.raises(ModalityMismatch, match="only texts"):
        transformed(from_images(np.zeros((3, 8, 8, 3), dtype=np.uint8)), attack, attack.recipe, modality="text")


class Articles:
    """P(fake) falls with the share of articles among the words, and rises a little with the letters."""

    modality, recipe, threshold, trained_on = "text", "toy", (0.2, 0.8), "nothing"
    name, digest = "articles", "toy:articles"
    heads: Mapping[str, slice] = {"p_fake": slice(0, 1)}

    def prepare(self, sample: Any) -> Tensor:
        words = sample.lower().split()
        share = sum(word in ("a", "an", "the") for word in words) / len(words)
        return torch.tensor([0.9 - share + len("".join(words)) / 10_000], dtype=torch.float32)

    def to(self, device: str) -> None:
        pass

    def __call__(self, batch: Tensor) -> Tensor:
        return batch


def sentences(side: str, n: int) -> list[str]:
    article = "the " if side == "real" else ""
    return [f"We saw {article}house number {i} and {article}garden of {article}man by {article}sea." for i in range(n)]


def test_a_text_detector_under_stress_loses_what_the_attack_takes(tmp_path: Path) -> None:
    judge: Any = Articles()
    real, fake = from_texts(sentences("real", 60), "people"), from_texts(sentences("fake", 60), "machines")
    study = stress({"articles": judge}, real, {"machines": fake}, chains=["article_deletion", "whitespace"])
    found = study.data["suites"]["text-attacks"]["articles"]
    assert study.data["clean"]["articles"]["auroc"]["value"] == 1.0
    # With half their articles gone all people write above the threshold that was set on whole sentences.
    assert found["article_deletion"]["fpr"]["value"] == 1.0 and found["whitespace"]["fpr"]["value"] <= 0.1
    json.dumps(study.data, allow_nan=False)
    with pytest.raises(BadSetting, match="suite sizes is for images"):
        stress({"articles": judge}, real, {"machines": fake}, suites=["sizes"])
    with pytest.raises(UnknownName, match="text attack"):
        stress({"articles": judge}, real, {"machines": fake}, chains=["jpeg95"])
