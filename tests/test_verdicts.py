"""The three verdicts: what each reason does, that none makes a verdict bolder, and what several detectors say."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from evalkit.judging.verdicts import Judgement, Reason, Seen, combined, judged, position

FAKE, REAL, BETWEEN = Seen(0.9, 0.2, 0.8), Seen(0.1, 0.2, 0.8), Seen(0.5, 0.2, 0.8)


def kinds(judgement):
    return [reason.kind for reason in judgement.reasons]


def test_the_thresholds_alone():
    assert judged(FAKE) == Judgement("synthetic") and judged(REAL) == Judgement("authentic")
    assert judged(BETWEEN).verdict == "uncertain" and kinds(judged(BETWEEN)) == ["between_thresholds"]
    # On a threshold is not above it: a p-value counts equal scores against the flag too.
    assert [position(x, 0.2, 0.8) for x in (0.2, 0.8)] == ["uncertain"] * 2
    assert position(0.5, 0.5, 0.5) == "uncertain" and position(0.51, 0.5, 0.5) == "synthetic"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            {"size": 24, "least_size": 32, "least_of": "the calibration reals have at least"},
            "too_small",
            "24 pixels; the",
        ),
        ({"novelty": 0.0099}, "out_of_distribution", "p = 0.0099"),
        ({"members": (0.1, 0.95, 0.9)}, "members_disagree", "0.1 to 0.95"),
        ({"again": {"jpeg95": 0.88, "webp90": 0.79}}, "flips", "webp90 0.79"),
        ({"constant": True}, "constant_score", "every sample"),
    ],
)
def test_each_reason_takes_a_verdict_back(change, kind, words):
    found = judged(replace(FAKE, **change))
    assert found.verdict == "uncertain" and kinds(found) == [kind] and words in found.reasons[0].detail


def test_what_is_no_reason():
    same = {"size": 32, "least_size": 32, "novelty": 0.01, "members": (0.5, 0.95), "again": {"jpeg95": 0.81}}
    assert judged(replace(FAKE, **same)) == Judgement("synthetic")
    # A verdict that is not decided cannot flip; the other reasons still stand beside the first.
    assert kinds(judged(replace(BETWEEN, again={"jpeg95": 0.9}, novelty=0.001))) == [
        "between_thresholds",
        "out_of_distribution",
    ]


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_no_verdict(score):
    assert kinds(judged(replace(FAKE, score=score, novelty=0.5))) == ["no_score"]


P = st.floats(0, 1)


@settings(max_examples=200, deadline=None)
@given(P, P, P, st.none() | P, st.lists(P, max_size=4), st.lists(P, max_size=4), st.integers(1, 64), st.booleans())
def test_reasons_never_make_a_verdict_bolder(score, a, b, novelty, members, again, size, constant):
    low, high = sorted((a, b))
    changed = dict(zip(("jpeg95", "jpeg85", "resize0.9", "webp90"), again, strict=False))
    seen = Seen(score, low, high, size, 32, "x", "pixels", novelty, tuple(members), changed, constant)
    found = judged(seen)
    assert found.verdict in (position(score, low, high), "uncertain")
    assert (found.verdict == "uncertain") == bool(found.reasons)


def test_several_detectors():
    yes, no, maybe = (
        Judgement("synthetic"),
        Judgement("authentic"),
        Judgement("uncertain", (Reason("flips", "it flips"),)),
    )
    assert combined({"a": yes, "b": yes}) == yes and combined({"a": no}) == no
    against = combined({"a": yes, "b": no, "c": yes})
    assert against.verdict == "uncertain" and kinds(against) == ["detectors_disagree"]
    assert "a says synthetic, b says authentic" in against.reasons[0].detail
    half = combined({"a": yes, "b": maybe})
    assert half.verdict == "uncertain" and kinds(half) == ["not_all_decided", "flips"]
    assert half.reasons[1].detail == "b: it flips"
    assert combined({"a": maybe, "b": maybe}).verdict == "uncertain"
