"""Synthetic, authentic or uncertain, and why: the rules that turn what was measured of a sample into a verdict.

A score above the upper threshold says synthetic, one below the lower threshold authentic. Every other reason can only
take a verdict back, to uncertain: so the false positive rate promised for the threshold holds for the verdicts too.
Nothing here is measured and nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["synthetic", "authentic", "uncertain"]
NOVEL = 0.01


@dataclass(frozen=True)
class Reason:
    """Why a verdict is not one to act on: one word to count by, and one sentence."""

    kind: str
    detail: str


@dataclass(frozen=True)
class Judgement:
    """A verdict with the reasons why it is uncertain; a decided one has none."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What was measured of one sample under one detector; what was not measured stays away.

    score: P(fake). low, high: thresholds on it. size: the smaller side in pixels, or characters of a text, and
    least_size what it must reach, with `least_of` in words. novelty: conformal p-value of its looks among the
    calibration reals. members: P(fake) of the members of an ensemble. again: P(fake) after each mild re-encoding.
    constant: whether the detector gave every sample the same score.
    """

    score: float
    low: float
    high: float
    size: int | None = None
    least_size: int | None = None
    least_of: str = ""
    unit: str = "pixels"
    novelty: float | None = None
    members: tuple[float, ...] = ()
    again: Mapping[str, float] = field(default_factory=dict)
    constant: bool = False


def position(score: float, low: float, high: float) -> Verdict:
    """The verdict of the thresholds alone; a score on a threshold is uncertain."""
    return "synthetic" if score > high else "authentic" if score < low else "uncertain"


def judged(seen: Seen) -> Judgement:
    """The verdict of one detector on one sample: that of the thresholds, unless anything speaks against it."""
    if not math.isfinite(seen.score):
        return Judgement("uncertain", (Reason("no_score", "the detector gave no finite score"),))
    found = position(seen.score, seen.low, seen.high)
    reasons = [reason for rule in RULES if (reason := rule(seen)) is not None]
    if found == "uncertain":
        between = f"P(fake) {seen.score:.3g} lies between the thresholds {seen.low:.3g} and {seen.high:.3g}"
        reasons = [Reason("between_thresholds", between), *reasons]
    return Judgement("uncertain", tuple(reasons)) if reasons else Judgement(found)


def combined(judgements: Mapping[str, Judgement]) -> Judgement:
    """One verdict of several detectors, given by name: theirs where all agree, else uncertain.

    Unanimity, because whatever all of them flag each of them flags: the false positive rate stays at or under each
    one's, where flagging what any of them flags would add theirs up.
    """
    verdicts = {name: j.verdict for name, j in judgements.items()}
    if len(set(verdicts.values())) == 1:
        only = next(iter(judgements.values()))
        return only if len(judgements) == 1 else Judgement(only.verdict, _all_reasons(judgements))
    said = ", ".join(f"{name} says {verdict}" for name, verdict in verdicts.items())
    kind = "detectors_disagree" if {"synthetic", "authentic"} <= set(verdicts.values()) else "not_all_decided"
    return Judgement("uncertain", (Reason(kind, said), *_all_reasons(judgements)))


def _all_reasons(judgements: Mapping[str, Judgement]) -> tuple[Reason, ...]:
    return tuple(Reason(r.kind, f"{name}: {r.detail}") for name, j in judgements.items() for r in j.reasons)


# ---------------------------------------------------------------------------------------------- reasons


def _constant(seen: Seen) -> Reason | None:
    if not seen.constant:
        return None
    return Reason("constant_score", f"the detector gives every sample the score {seen.score:.3g}")


def _too_small(seen: Seen) -> Reason | None:
    if seen.size is None or seen.least_size is None or seen.size >= seen.least_size:
        return None
    kind = "too_short" if seen.unit == "characters" else "too_small"
    return Reason(kind, f"{seen.size} {seen.unit}; {seen.least_of} {seen.least_size}")


def _novel(seen: Seen) -> Reason | None:
    if seen.novelty is None or seen.novelty >= NOVEL:
        return None
    return Reason("out_of_distribution", f"its looks are unlike the calibration reals' (p = {seen.novelty:.2g})")


def _members(seen: Seen) -> Reason | None:
    if not seen.members:
        return None
    least, most = min(seen.members), max(seen.members)
    if not (least < seen.low and most > seen.high):
        return None
    return Reason("members_disagree", f"members of the detector say from {least:.3g} to {most:.3g}")


def _flips(seen: Seen) -> Reason | None:
    own = position(seen.score, seen.low, seen.high)
    if own == "uncertain":
        return None
    other = {how: p for how, p in seen.again.items() if position(p, seen.low, seen.high) != own}
    if not other:
        return None
    said = ", ".join(f"{how} {p:.3g}" for how, p in other.items())
    return Reason("flips", f"the verdict changes under mild re-encoding (P(fake) {seen.score:.3g}; {said})")


RULES = (_constant, _too_small, _novel, _members, _flips)
