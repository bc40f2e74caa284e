"""The instrument of captions: one space for digits and words, where a caption lies nearest to its image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evalkit.errors import ModalityMismatch, UnreadableSample
from evalkit.extractors import BUILTIN
from evalkit.extractors.digits_captions import COLUMNS, DIGITS, WORDS, DigitsCaptions, bag
from evalkit.metrics.alignment import clip_score_estimate, paired_cosines
from evalkit.planning import instruments, plan, texts_of
from evalkit.samples.embedded import open_embedded
from evalkit.types import Extractor
from evalkit.weights import PACKAGE, SHIPPED
from generators._captions import SLANT, SPELLED, THICKNESS, Facts, Grammar, facts_of
from generators._images import read_images, study

from .rows import rows


@pytest.fixture(scope="module")
def instrument() -> DigitsCaptions:
    return DigitsCaptions()


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    data = open_embedded("embedded:digits/train")
    pixels = read_images(data, "test")
    look, labels = study(pixels, data, "test")
    return Grammar.of(pixels, labels.tolist(), look.classes)


@pytest.fixture(scope="module")
def heldout(grammar: Grammar) -> tuple[list, list[str]]:
    """Images of the held-out digits and their true captions."""
    data = list(open_embedded("embedded:digits/heldout"))
    pixels = [s.load() for s in data]
    return pixels, [f.caption for f in grammar.facts(np.stack(pixels), [int(s.group) for s in data])]


@pytest.fixture(scope="module")
def seen(instrument: DigitsCaptions, heldout) -> torch.Tensor:
    return rows(instrument, heldout[0], 64)


def read(instrument: DigitsCaptions, captions: list[str], prefix: str = "") -> torch.Tensor:
    return rows(instrument.texts(prefix), captions, 64)


def test_both_sides_keep_the_protocol_and_draw_no_chance() -> None:
    stream = torch.get_rng_state()
    images = DigitsCaptions()
    texts = images.texts()
    assert torch.equal(torch.get_rng_state(), stream)
    assert BUILTIN["digits_captions"] == f"{DigitsCaptions.__module__}:DigitsCaptions"
    for side, sample in ((images, np.zeros((5, 7, 3), np.uint8)), (texts, "seven")):
        assert isinstance(side, Extractor)
        row = rows(side, [sample])
        assert row.dtype == torch.float32 and row.shape == (1, COLUMNS) == (1, side.heads["features"].stop)
        assert row.norm().item() == pytest.approx(1, abs=1e-5)
    assert images.digest == DigitsCaptions().digest
    assert len({images.digest, texts.digest, images.texts("a photo of ").digest}) == 3
    with pytest.raises(ModalityMismatch, match="digits_captions reads images"):
        images.prepare("words")
    with pytest.raises(ModalityMismatch, match=r"digits_captions\.text reads texts"):
        texts.prepare(np.zeros((8, 8, 3), np.uint8))


def test_rows_do_not_depend_on_the_batch(instrument: DigitsCaptions, heldout) -> None:
    pixels, captions = heldout[0][:9], heldout[1][:9]
    torch.testing.assert_close(rows(instrument, pixels, 9), rows(instrument, pixels), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows(instrument.texts(), captions, 9), read(instrument, captions), rtol=1e-4, atol=1e-5)


def test_words_by_hand() -> None:
    assert [WORDS[i] for i in bag("A BOLD seven, slanting left.").nonzero().flatten()] == ["seven", "bold", "left"]
    assert torch.equal(bag("a bold 7 left"), bag("left seven bold bold"))
    # 17 is no digit, and "sevens" another word.
    assert bag("17 sevens boldly").sum() == 0


def test_every_fact_of_the_grammar_has_one_word_that_is_known() -> None:
    assert DIGITS == SPELLED
    for fact in (*SPELLED, *THICKNESS, *SLANT):
        assert bag(fact).sum() == 1
    assert bag(" ".join((*SPELLED, *THICKNESS, *SLANT))).all()


def test_a_text_without_a_known_word_is_one_clear_line(instrument: DigitsCaptions) -> None:
    for text in ("", "a cat on a mat", "x" * 500):
        with pytest.raises(UnreadableSample) as error:
            instrument.texts().prepare(text)
        assert "holds no word" in str(error.value) and "seven, eight" in str(error.value)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_words_without_a_meaning_here_change_nothing(instrument: DigitsCaptions) -> None:
    plain, prefixed = read(instrument, ["thin two"]), read(instrument, ["a thin two"], "A photo depicts ")
    assert torch.equal(plain, prefixed)


def test_retrieval_is_as_good_on_heldout_as_the_card_says(
    instrument: DigitsCaptions, grammar: Grammar, heldout, seen: torch.Tensor
) -> None:
    record = SHIPPED["digits_captions"]
    card = json.loads((PACKAGE / record.card).read_text())
    every = grammar.captions()
    nearest = [every[i] for i in (seen @ read(instrument, every).T).argmax(1).tolist()]
    assert card["heldout"]["captions"] == len(every) == 90
    found = np.mean([a == b for a, b in zip(nearest, heldout[1], strict=True)])
    # Two rows may be as near as rounding: one image in 386.
    assert found == pytest.approx(card["heldout"]["retrieval"], abs=0.003)
    assert found > 0.6
    for field, least in (("kind", 0.97), ("thickness", 0.78), ("slant", 0.78)):
        right = [
            getattr(facts_of(a), field) == getattr(facts_of(b), field) for a, b in zip(nearest, heldout[1], strict=True)
        ]
        assert np.mean(right) == pytest.approx(card["heldout"][field], abs=0.003)
        assert np.mean(right) > least
    assert record.path.stat().st_size <= 250_000


def test_true_captions_score_higher_than_shuffled_ones(instrument: DigitsCaptions, heldout, seen: torch.Tensor) -> None:
    captions = read(instrument, heldout[1])
    true = clip_score_estimate(seen, captions)
    order = torch.randperm(len(captions), generator=torch.Generator().manual_seed(0))
    shuffled = clip_score_estimate(seen, captions[order])
    assert shuffled.high < true.low
    assert true.value > 2 and shuffled.value < 1


@pytest.mark.parametrize(
    ("field", "others"),
    [
        ("kind", {k: SPELLED[(i + 1) % 10] for i, k in enumerate(SPELLED)}),
        ("thickness", {"thin": "bold", "bold": "thin", "medium": "medium"}),
        ("slant", {SLANT[0]: SLANT[2], SLANT[2]: SLANT[0], SLANT[1]: SLANT[1]}),
    ],
)
def test_one_wrong_fact_costs_score(
    instrument: DigitsCaptions, heldout, seen: torch.Tensor, field: str, others: dict[str, str]
) -> None:
    facts = [facts_of(c) for c in heldout[1]]
    changed = [i for i, f in enumerate(facts) if others[getattr(f, field)] != getattr(f, field)]
    wrong = [facts[i]._replace(**{field: others[getattr(facts[i], field)]}).caption for i in changed]
    right = clip_score_estimate(seen[changed], read(instrument, [facts[i].caption for i in changed]))
    assert clip_score_estimate(seen[changed], read(instrument, wrong)).high < right.low


@pytest.mark.parametrize("field", Facts._fields)
def test_a_caption_of_one_fact_is_nearer_to_the_images_that_show_it(
    instrument: DigitsCaptions, heldout, seen: torch.Tensor, field: str
) -> None:
    values = [getattr(facts_of(c), field) for c in heldout[1]]
    for word in set(values):
        cosines = (seen @ read(instrument, [word]).T).flatten()
        shows = torch.tensor([v == word for v in values])
        assert cosines[shows].mean() > cosines[~shows].mean() + 0.1


def test_a_larger_copy_lies_where_the_digit_does(instrument: DigitsCaptions, heldout, seen: torch.Tensor) -> None:
    larger = [np.repeat(np.repeat(p, 4, 0), 4, 1) for p in heldout[0][:20]]
    torch.testing.assert_close(rows(instrument, larger, 20), seen[:20], rtol=1e-4, atol=1e-5)


def test_clip_score_plans_on_it_and_reads_prompts_with_its_other_half(heldout, seen: torch.Tensor) -> None:
    tasks = plan(
        ["clip_score@digits_captions"],
        "image",
        with_train=False,
        with_timing=False,
        with_prompts=True,
        settings={"clip_score": {"prefix": "A photo depicts "}},
    )
    made = instruments(tasks, "image")
    (reader,) = texts_of(tasks, made).values()
    assert reader.name == "digits_captions.text"
    assert reader.digest == DigitsCaptions().texts("A photo depicts ").digest != DigitsCaptions().texts().digest
    cosines = paired_cosines(seen[:50], rows(reader, heldout[1][:50], 50))
    assert cosines.mean() > 0.8
