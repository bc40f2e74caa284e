"""The trivial rules, the sentence splitter, the groups and the clustered interval: numbers known by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import TooFewSamples
from evalkit.metrics.detection import area_under_roc
from evalkit.shortcuts.areas import CLUSTERED, TIES, area
from evalkit.shortcuts.openings import common, copies, dealt, group_of, longest_shared
from evalkit.shortcuts.rules import RULES, numbers_of
from evalkit.shortcuts.scripts import is_mixed
from evalkit.shortcuts.sentences import sentences


def number(rule: str, text: str) -> float:
    return dict(zip((r.name for r in RULES), numbers_of(text), strict=True))[rule]


@pytest.mark.parametrize(
    ("rule", "text", "value"),
    [
        ("newline", "a\nb", 1), ("newline", "a b", 0), ("newlines", "a\n\nb\n", 3),
        ("final_punctuation", "Done. \n", 1), ("final_punctuation", 'He said "no"', 1), ("final_punctuation", "no", 0),
        ("ends_in_letter", "end", 1), ("ends_in_digit", "in 1999", 1), ("ends_in_closer", "(so)", 1),
        ("ends_in_comma", "and then,", 1), ("ends_in_comma", "then —", 1),
        ("characters", "naïve", 5), ("bytes", "naïve", 6), ("words", " one  two\nthree ", 3),
        ("word_length", "a bcd", 2), ("starts_upper", "  Über", 1), ("starts_upper", "1st", 0),
        ("non_ascii", "aé", 0.5), ("curly_quotes", "“a”b", 0.5), ("dashes", "a—b–", 0.5), ("dashes", "a-b", 0),
        ("invisible", "a\u200bb\u200f", 0.5), ("mixed_script", "p\u0430ypal is paypal", 1),
        ("not_latin", "aб", 0.5), ("not_latin", "12", 0), ("not_latin", "שלום", 1),
        ("white_space_runs", "a  b\n\nc d", 2), ("double_spaces", "a  b   c\n  d", 2),
        ("trailing_space", "a \nb\t\nc", 2), ("outer_space", " a", 1), ("outer_space", "a", 0), ("tabs", "a\tb\t", 2),
        ("odd_spaces", "a\u00a0b\r\n", 2), ("markdown", "# A\n- b **c** `d` [e](f)\n2. g\n> h", 7),
        ("markdown", "3 * 4 - 2 # no", 0),
    ],
)  # fmt: skip
def test_a_rule_is_what_it_says(rule: str, text: str, value: float) -> None:
    assert number(rule, text) == pytest.approx(value)


def test_every_rule_has_its_own_name_and_words() -> None:
    assert len({rule.name for rule in RULES}) == len({rule.says for rule in RULES}) == len(RULES)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_rules_are_finite_on_any_text_and_binary_ones_are_zero_or_one(text: str) -> None:
    for rule, value in zip(RULES, numbers_of(text), strict=True):
        assert np.isfinite(value) and value >= 0
        assert not rule.binary or value in (0, 1)


MANY = 200_000


@pytest.mark.parametrize(
    "text",
    ["a" * MANY, " " * MANY + "x", "." * MANY + "x", "[" * MANY, "**" * MANY, "\n" * MANY + "x"],
    ids=["letter", "space", "stop", "bracket", "star", "newline"],
)
def test_two_hundred_thousand_of_one_mark_is_counted_and_not_tried_from_each_of_its_places(text: str) -> None:
    """A pattern that is quadratic in the text would take an hour here."""
    assert number("characters", text) == len(text)
    assert len(sentences(text)) <= 1


def test_a_word_of_two_scripts_is_a_forgery_and_of_japanese_scripts_is_not() -> None:
    assert is_mixed("Αpple") and is_mixed("сode") and not is_mixed("naïve") and not is_mixed("カタカナと漢字")
    assert not is_mixed("µ-meson") and not is_mixed("Привет")


# Sentences ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? four", ["One.", "Two!"]),
        ('"Why?" he said. Then he left', ['"Why?" he said.']),
        ("Dr. Li of the U.S. Army met J. Doe, i.e. him. So.", ["Dr. Li of the U.S. Army met J. Doe, i.e. him.", "So."]),
        ("It cost 3.50 in 2.0. Now more...", ["It cost 3.50 in 2.0.", "Now more..."]),
        ("He said “Go.” She went.", ["He said “Go.”", "She went."]),
        ("今日は。明日は！", ["今日は。", "明日は！"]),
        ("no end at all", []),
        ("So did I. It rained.", ["So did I.", "It rained."]),
        ("Call at 9 a.m. Then go!", ["Call at 9 a.m.", "Then go!"]),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text("ab .!?”\nU", max_size=60))
def test_sentences_are_pieces_of_the_text_in_order(text: str) -> None:
    at = 0
    for sentence in sentences(text):
        assert sentence and sentence == sentence.strip()
        at = text.index(sentence, at) + len(sentence)


# Openings and groups --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.lists(st.sampled_from("ab"), max_size=5), st.sampled_from("xyz")), min_size=1, max_size=12)
)
def test_the_longest_shared_opening_is_that_of_all_pairs(given: list[tuple[list[str], str]]) -> None:
    texts, sides = [words for words, _ in given], [side for _, side in given]
    slow = [
        max((common(one, other) for other, there in given if there != side), default=0)
        for one, side in zip(texts, sides, strict=True)
    ]
    assert longest_shared(texts, sides) == slow


def test_eight_equal_words_are_one_group_and_seven_are_not() -> None:
    eight = "a b c d e f g h".split()  # noqa: SIM905
    assert group_of([*eight, "i"]) == group_of([*eight, "j"]) != group_of([*eight[:7], "x"])
    assert group_of(eight[:3]) != group_of([*eight[:3], "x"])


def test_copies_are_counted_without_the_text_itself() -> None:
    assert copies(["a", "b", "a", "a"]) == [2, 0, 2, 2]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), min_size=1, max_size=40), st.integers(0, 5))
def test_no_group_is_torn_apart_and_order_does_not_matter(given: list[tuple[str, bool]], seed: int) -> None:
    groups, fakes = [g for g, _ in given], [f for _, f in given]
    halves = dealt(groups, fakes, seed)
    assert len(set(zip(groups, halves, strict=True))) == len(set(groups))
    assert dealt(groups[::-1], fakes[::-1], seed) == halves[::-1]
    sizes = [len({g for g, h in zip(groups, halves, strict=True) if h == k}) for k in (0, 1)]
    assert abs(sizes[0] - sizes[1]) <= 1


# The clustered interval -----------------------------------------------------------------------------------------------


def test_groups_of_one_text_have_delongs_interval() -> None:
    rng = np.random.default_rng(0)
    scores, is_fake = np.round(rng.normal(size=70), 1), np.arange(70) >= 40
    found = area(scores, is_fake, np.arange(70))
    known = area_under_roc(torch.from_numpy(scores[:40]), torch.from_numpy(scores[40:]))
    assert (found.value, found.low, found.high) == pytest.approx((known.value, known.low, known.high), abs=1e-9)
    assert found.method == "delong"


def test_texts_given_twice_in_one_group_widen_nothing_and_as_their_own_would_narrow_it() -> None:
    rng = np.random.default_rng(1)
    scores, is_fake = rng.normal(size=60), np.arange(60) >= 30
    once = area(scores, is_fake, np.arange(60))
    twice = area(np.tile(scores, 2), np.tile(is_fake, 2), np.tile(np.arange(60), 2))
    naive = area(np.tile(scores, 2), np.tile(is_fake, 2), np.arange(120))
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)
    assert naive.high - naive.low < 0.75 * (once.high - once.low) and twice.method == CLUSTERED


def test_the_clustered_interval_covers_where_pairs_share_their_level() -> None:
    """Pairs with a common level: AUROC of a shift of 0.5 in noise of SD 1 each and a level of SD 2 is known."""
    from scipy.stats import norm

    truth, held = float(norm.cdf(0.5 / np.sqrt(2 * (1 + 4)))), 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        level = rng.normal(0, 2, 40)
        scores = np.concatenate([level + rng.normal(size=40), level + 0.5 + rng.normal(size=40)])
        found = area(scores, np.arange(80) >= 40, np.arange(80) % 40)
        held += found.low <= truth <= found.high
    assert 108 <= held <= 119


def test_ties_complete_separation_and_one_group_have_their_own_intervals() -> None:
    is_fake, alone = np.arange(40) >= 20, np.arange(40)
    tied = area(np.zeros(40), is_fake, alone)
    assert tied.value == 0.5 and tied.method == TIES and tied.low < 0.4 < 0.6 < tied.high
    apart = area(is_fake.astype(float), is_fake, alone)
    assert apart.value == 1 and 0.8 < apart.low < 0.9
    # Every pair alike: the value is certain of these pairs, not of the next.
    alike = area(np.tile(np.arange(20.0), 2), is_fake, np.tile(np.arange(20), 2))
    assert alike.value == 0.5 and alike.low < 0.4
    one = area(np.arange(40.0), is_fake, np.where(is_fake, 0, alone + 1))
    assert (one.low, one.high) == (0, 1)
    with pytest.raises(TooFewSamples, match="0 fake"):
        area(np.zeros(3), np.zeros(3, bool), np.arange(3))


def test_orientation_more_in_the_fakes_is_above_a_half() -> None:
    is_fake = np.arange(20) >= 10
    values = [area(np.arange(20.0) * np.float64(sign), is_fake, np.arange(20)).value for sign in (-1.0, 0.0, 1.0)]
    assert values == [0, 0.5, 1] and all(a < b for a, b in pairwise(values))
