"""Verdicts: each row of the table reached by a file made by hand, and what no evidence can do."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from evalkit.auditing.ruling import TABLE, RulingSettings, counted, in_words, rule
from evalkit.errors import BadSetting
from evalkit.types import Evidence, Finding, Opened, Opinion

LOW = Opinion("spectrum", "sha256:1", "cifar", 0.1, -2.2, 0.2, 0.8, p_value=0.7)
HIGH = replace(LOW, p_fake=0.95, score=2.9, p_value=0.001)
MIDDLE = replace(LOW, p_fake=0.5, score=0.0, p_value=0.1)

SIGNED = Evidence("c2pa", "synthetic", "strong", "provenance", "signed by OpenAI")
CAPTURE = Evidence("c2pa", "authentic", "strong", "provenance", "signed by a camera")
EDIT = Evidence("c2pa", "edited", "strong", "provenance", "signed by an editor")
CLAIM = Evidence("metadata", "synthetic", "claim", "provenance", "PNG text of ComfyUI")
CAMERA = Evidence("metadata", "authentic", "claim", "provenance", "EXIF of a camera")
MARK = Evidence("watermark", "synthetic", "strong", "dwtdct", "48 of 48 bits", {}, 1e-12)
LISTED = Evidence("known", "synthetic", "strong", "list", "line 3")
GOOD = Evidence("known", "authentic", "strong", "list", "line 4")
ALIKE = Evidence("known", "synthetic", "hint", "list", "looks like line 3")
LIKENESS = Evidence("fingerprint", "synthetic", "hint", "source_probe", "resembles gan")
ODD = Evidence("inconsistency", "unknown", "hint", "conflicts", "no camera writes these tables")
CLASH = Evidence("inconsistency", "unknown", "strong", "conflicts", "signed capture, P(fake) 0.99")
SILENT = Evidence("likelihood", "unknown", "hint", "patch", "could not be scored")
NOTHING = Evidence("c2pa", "unknown", "hint", "provenance", "no manifest")
ALL = (SIGNED, CAPTURE, EDIT, CLAIM, CAMERA, MARK, LISTED, GOOD, ALIKE, LIKENESS, ODD, CLASH, SILENT, NOTHING)
BELIEVING = RulingSettings(believe_claims=True)


def file(*evidence, opinions=(), state="ok", **opened):
    return Finding(0, "a.png", b"a.png", "0" * 64, 10, Opened(state, **opened), tuple(opinions), evidence)


def doubted(opinion, kind="too_small", said="24 pixels"):
    return replace(opinion, reasons={**opinion.reasons, kind: said})


ROWS = {
    "unreadable": (file(SIGNED, state="truncated", stage="decode", reason="cut off"), False, None),
    "conflict": (file(SIGNED, CAPTURE), False, None),
    "signed_generation": (file(SIGNED, opinions=[LOW]), False, None),
    "watermark": (file(MARK), False, None),
    "listed_synthetic": (file(LISTED), False, None),
    "listed_authentic": (file(GOOD), False, None),
    "discovery": (file(opinions=[HIGH]), True, None),
    "believed_claim": (file(CLAIM, opinions=[MIDDLE]), False, BELIEVING),
    "doubted_discovery": (file(opinions=[doubted(HIGH)]), True, None),
    "signed_capture": (file(CAPTURE), False, None),
    "detectors_clear": (file(opinions=[LOW]), False, None),
    "unsigned_claim": (file(CLAIM, opinions=[LOW]), False, None),
    "undecided": (file(opinions=[MIDDLE]), False, None),
}


def test_each_row_is_reached_and_gives_its_verdict():
    assert list(ROWS) == [r.name for r in TABLE]
    for row in TABLE:
        finding, flagged, chosen = ROWS[row.name]
        found = rule(finding, flagged, chosen, p_value=0.002, q_value=0.01)
        assert (found.rule, found.verdict) == (row.name, row.verdict)
        assert (found.p_value, found.q_value, found.flagged) == (0.002, 0.01, flagged)


def test_the_documentation_shows_the_table():
    page = Path(__file__).resolve().parent.parent / "docs" / "verdicts.md"
    assert in_words() in page.read_text("utf-8")


# ---------------------------------------------------------------------------------------------- the rows


@pytest.mark.parametrize("state", ["unsupported", "truncated", "corrupt", "too_large", "timeout", "oom", "crash"])
def test_an_unreadable_file_says_where_it_ended(state):
    found = rule(file(state=state, stage="decode", reason="IDAT is missing"), False)
    assert found.verdict == "unreadable" and found.reasons == {state: "decode: IDAT is missing"}
    assert rule(file(state=state), False).reasons == {state: state}
    assert rule(file(state="ok_with_warning"), False).verdict == "uncertain"


@pytest.mark.parametrize(
    ("finding", "flagged", "words"),
    [
        (file(MARK, GOOD), False, "synthetic (48 of 48 bits) and authentic (line 4)"),
        (file(LISTED, GOOD), False, "line 3"),
        (file(CAPTURE, opinions=[HIGH]), True, "detectors flag it"),
        (file(CLASH, SIGNED), False, "signed capture, P(fake) 0.99"),
    ],
)
def test_what_cannot_be_forged_and_contradicts_itself_is_left_to_people(finding, flagged, words):
    found = rule(finding, flagged)
    assert (found.verdict, found.rule) == ("uncertain", "conflict")
    assert any(words in sentence for sentence in found.conflicts)
    assert found.reasons["conflict"] == "; ".join(found.conflicts) and "hint" not in found.reasons


def test_what_anyone_can_write_takes_no_synthetic_verdict_away_but_is_shown():
    flagged = rule(file(ODD, CAMERA, opinions=[HIGH]), True)
    assert (flagged.verdict, flagged.conflicts) == ("synthetic", (ODD.detail,))
    assert rule(file(ODD, SIGNED), False).conflicts == (ODD.detail,)
    for against in (ODD, CLAIM, ALIKE, LIKENESS, EDIT):
        for finding in (file(against, opinions=[LOW]), file(against, CAPTURE)):
            assert rule(finding, False).verdict == "uncertain"
    # A trace of a program (an EXIF Software tag) is no claim of an edit; a camera's EXIF is no claim of capture.
    assert rule(file(replace(EDIT, strength="hint"), CAMERA, opinions=[LOW]), False).verdict == "authentic"
    assert rule(file(CAMERA), False).rule == "undecided"


def test_the_users_own_decision_on_this_very_content_stands_and_the_detectors_are_shown():
    found = rule(file(GOOD, opinions=[HIGH]), True)
    assert found.verdict == "authentic" and found.conflicts == ("detectors flag it; the user's list says authentic",)
    assert rule(file(replace(GOOD, strength="hint"), opinions=[HIGH]), True).verdict == "synthetic"


def test_a_watermark_decides_at_alpha_and_only_when_its_reader_calls_it_strong():
    at = replace(MARK, p_value=1e-6)
    assert rule(file(at), False).rule == "watermark"
    for weak in (replace(at, p_value=1.1e-6), replace(at, strength="hint"), replace(at, p_value=None)):
        found = rule(file(weak, opinions=[LOW]), False)
        assert (found.verdict, list(found.reasons)) == ("uncertain", ["hint"])
    assert rule(file(replace(at, p_value=0.001)), False, RulingSettings(watermark_alpha=0.01)).rule == "watermark"
    # Beside a null of real files the p-value is conformal and cannot be as small.
    with_null = replace(at, p_value=1 / 2001, facts={"p_binomial": 3e-12})
    assert rule(file(with_null), False).rule == "watermark"
    assert rule(file(replace(with_null, strength="hint")), False).verdict == "uncertain"
    for alpha in (0, 1, math.nan):
        with pytest.raises(BadSetting, match="watermark_alpha"):
            RulingSettings(watermark_alpha=alpha)


def test_claims_are_believed_only_when_asked_and_never_against_anything():
    assert rule(file(CLAIM), False).reasons["unsigned_claim"].endswith("can be forged")
    assert rule(file(CLAIM), False, BELIEVING).rule == "believed_claim"
    assert rule(file(CLAIM, LIKENESS), False, BELIEVING).verdict == "synthetic"
    assert rule(file(LIKENESS, opinions=[HIGH]), False, BELIEVING).rule == "undecided"
    # A discovery that is doubted speaks no less for synthetic than none.
    assert rule(file(CLAIM, opinions=[doubted(HIGH)]), True, BELIEVING).rule == "believed_claim"
    for against in (ODD, CAPTURE):
        assert rule(file(CLAIM, against), False, BELIEVING).rule == "unsigned_claim"


def test_a_discovery_stands_on_a_detector_without_doubts():
    blind = replace(LOW, name="patch", p_value=0.9)
    other = replace(HIGH, name="patch", p_value=0.002)
    assert rule(file(opinions=[doubted(HIGH), other]), True, p_value=0.004).verdict == "synthetic"
    # The other's p-value is over the file's: it is not what was discovered.
    for given_p in (0.002, None):
        found = rule(file(opinions=[doubted(HIGH), blind]), True, p_value=given_p)
        assert (found.rule, found.reasons["too_small"]) == ("doubted_discovery", "spectrum: 24 pixels")
    # Where a score lies among a detector's own thresholds is no doubt: the batch's rate is another threshold.
    assert rule(file(opinions=[doubted(MIDDLE, "between_thresholds")]), True, p_value=0.1).verdict == "synthetic"
    assert counted(HIGH) == 0.001 and counted(doubted(HIGH)) == 1.0 and counted(replace(HIGH, p_value=None)) is None
    assert counted(doubted(MIDDLE, "between_thresholds")) == 0.1


def kinds(*opinions, flagged=False):
    found = rule(file(opinions=opinions), flagged, q_value=0.31)
    assert found.rule == "undecided" and all(found.reasons.values())
    return found.reasons


def test_what_is_not_decided_says_why():
    other = replace(LOW, name="patch")
    assert list(kinds()) == ["no_detector"]
    assert "between the thresholds 0.2 and 0.8" in kinds(MIDDLE)["between_thresholds"]
    assert kinds(HIGH)["not_discovered"].endswith("rate of 0.31")
    assert list(kinds(replace(HIGH, p_value=None))) == list(kinds(replace(LOW, p_value=None))) == ["not_calibrated"]
    assert kinds(HIGH, other)["detectors_disagree"].endswith("P(fake) patch 0.1, spectrum 0.95")
    assert list(kinds(doubted(LOW))) == ["too_small"]
    assert list(kinds(replace(LOW, p_fake=math.nan))) == ["no_score"]
    # Two detectors with one kind of reason: both are heard, in the order of their names.
    both = kinds(doubted(LOW, said="24"), doubted(other, said="31"))
    assert both == {"too_small": "patch: 31; spectrum: 24"}
    inside = replace(LOW, p_value=None, reasons={"in_calibration": "it is in the calibration set"})
    assert list(kinds(inside)) == ["in_calibration"]


def test_on_a_threshold_is_between_them():
    for p in (LOW.low, LOW.high):
        assert list(kinds(replace(LOW, p_fake=p))) == ["between_thresholds"]


def test_p_fake_is_the_mean_of_the_calibrated():
    sure, unsure = replace(LOW, p_calibrated=0.3), replace(HIGH, name="patch", p_calibrated=0.8)
    assert rule(file(opinions=[sure, unsure]), False).p_fake == pytest.approx(0.55)
    assert rule(file(opinions=[sure, HIGH]), False).p_fake == 0.3
    assert rule(file(opinions=[LOW, MIDDLE]), False).p_fake == pytest.approx(0.3)
    assert rule(file(opinions=[replace(LOW, p_fake=math.nan)]), False).p_fake is None is rule(file(), False).p_fake


# ---------------------------------------------------------------------------------------------- properties

EVIDENCE = st.lists(st.sampled_from(ALL), max_size=5)
P = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.8, 0.95, 1.0])
OPINIONS = st.lists(
    st.builds(
        lambda name, p, p_value, reasons: replace(LOW, name=name, p_fake=p, p_value=p_value, reasons=reasons),
        st.sampled_from("abc"),
        P,
        st.sampled_from([None, 0.001, 0.2, 1.0]),
        st.sampled_from([{}, {"too_small": "24 pixels"}, {"between_thresholds": "0.5"}, {"flips": "jpeg95"}]),
    ),
    max_size=3,
    unique_by=lambda o: o.name,
)
SETTINGS = st.sampled_from([RulingSettings(), BELIEVING, RulingSettings(watermark_alpha=1e-15)])
CASES = (EVIDENCE, OPINIONS, st.booleans(), SETTINGS)


@settings(max_examples=70)
@given(*CASES)
def test_a_verdict_is_decided_or_has_reasons(evidence, opinions, flagged, chosen):
    found = rule(file(*evidence, opinions=opinions), flagged, chosen)
    assert bool(found.reasons) == (found.verdict == "uncertain") and all(found.reasons.values())
    if found.verdict == "authentic":
        assert found.rule == "listed_authentic" or not (found.conflicts or flagged)


@settings(max_examples=70)
@given(*CASES, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(evidence, opinions, flagged, chosen, rng: random.Random):
    other, others = [*evidence, *evidence[:1]], list(opinions)
    rng.shuffle(other)
    rng.shuffle(others)
    first = rule(file(*evidence, opinions=opinions), flagged, chosen)
    second = rule(file(*other, opinions=others), flagged, chosen)
    assert first == second and list(first.reasons) == list(second.reasons)


@settings(max_examples=50)
@given(*CASES, st.sampled_from(["metadata", "c2pa", "watermark", "fingerprint", "likelihood", "known"]))
def test_what_says_nothing_changes_nothing(evidence, opinions, flagged, chosen, kind):
    for strength in ("strong", "claim", "hint"):
        silent = Evidence(kind, "unknown", strength, "x", "nothing was found", {"p_binomial": 1e-20}, 1e-20)
        with_it = rule(file(*evidence, silent, opinions=opinions), flagged, chosen)
        assert with_it == rule(file(*evidence, opinions=opinions), flagged, chosen)


@settings(max_examples=70)
@given(*CASES, st.sampled_from([CAPTURE, EDIT, CAMERA, GOOD, ODD, CLASH, SILENT, NOTHING]), st.data())
def test_nothing_against_it_makes_a_file_synthetic(evidence, opinions, flagged, chosen, against, data):
    """Neither a piece of evidence that does not say synthetic, nor a detector's reason, nor losing the flag."""
    if rule(file(*evidence, opinions=opinions), flagged, chosen).verdict == "synthetic":
        return
    assert rule(file(*evidence, against, opinions=opinions), flagged, chosen).verdict != "synthetic"
    assert rule(file(*evidence, opinions=opinions), False, chosen).verdict != "synthetic"
    if opinions:
        at = data.draw(st.integers(0, len(opinions) - 1))
        more = [doubted(o, "out_of_distribution") if i == at else o for i, o in enumerate(opinions)]
        assert rule(file(*evidence, opinions=more), flagged, chosen).verdict != "synthetic"


@settings(max_examples=70)
@given(*CASES, st.sampled_from([SIGNED, EDIT, CLAIM, MARK, LISTED, ALIKE, LIKENESS, ODD, CLASH]))
def test_nothing_for_generation_makes_a_file_authentic(evidence, opinions, flagged, chosen, against):
    """The other way round: what says synthetic, edited or inconsistent, and a flag."""
    if rule(file(*evidence, opinions=opinions), flagged, chosen).verdict == "authentic":
        return
    assert rule(file(*evidence, against, opinions=opinions), flagged, chosen).verdict != "authentic"
    assert rule(file(*evidence, opinions=opinions), True, chosen).verdict != "authentic"


@settings(max_examples=70)
@given(*CASES, st.sampled_from([CLAIM, CAMERA, ODD, replace(EDIT, strength="claim")]))
def test_what_anyone_can_write_clears_no_file(evidence, opinions, flagged, chosen, written):
    """Once a file is synthetic by more than its own claim, nothing its author can add takes the verdict away."""
    before = rule(file(*evidence, opinions=opinions), flagged, chosen)
    if before.verdict == "synthetic" and before.rule != "believed_claim":
        assert rule(file(*evidence, written, opinions=opinions), flagged, chosen).rule == before.rule
