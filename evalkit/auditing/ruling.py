"""The verdict on one file: an ordered table of rules, the first that applies decides, and nothing is decided elsewhere.

What the order and the conditions keep to:

- Absence is no evidence: no rule asks for something that is missing, and evidence that says "unknown" changes nothing.
- What anyone could have written into a file never decides alone (unless `believe_claims`), and never takes away a
  verdict of synthetic: else a camera's EXIF would be an escape. It does take away a verdict of authentic.
- Evidence that cannot be forged and contradicts itself is left to people.
- A detector decides "synthetic" only through the batch's discoveries, at a known false-discovery rate, and "authentic"
  only with calibration reals behind it and nothing against.

docs/verdicts.md shows the table that `in_words` writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..errors import BadSetting
from ..types import Finding, Opinion, Ruling
from ..types.audit import Verdict
from .grounds import Grounds, doubts, reasons


@dataclass(frozen=True)
class RulingSettings:
    """What a user may choose. watermark_alpha, in (0, 1): a watermark's p-value that decides; it is not adjusted for
    the number of files, so alpha times the files is the expected number of false ones. believe_claims: whether an
    unsigned claim of generation is a verdict.
    """

    watermark_alpha: float = 1e-6
    believe_claims: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.watermark_alpha < 1:
            raise BadSetting(f"watermark_alpha {self.watermark_alpha}; expected a p-value between 0 and 1, as 1e-6")


@dataclass(frozen=True)
class Rule:
    """One row: its name in a record, when it applies in words, the verdict it gives, and the same as a question."""

    name: str
    when: str
    verdict: Verdict
    applies: Callable[[Grounds], bool]


LISTED = "its very content (SHA-256) is on the user's list as"

TABLE: tuple[Rule, ...] = (
    Rule("unreadable", "it could not be opened or decoded", "unreadable", lambda g: not g.readable),
    Rule(
        "conflict",
        "evidence that cannot be forged contradicts itself: a strong inconsistency; strong evidence both for synthetic"
        " and for authentic; an intact, trusted claim of capture in a file that is among the discoveries",
        "uncertain",
        lambda g: bool(g.contradictions),
    ),
    Rule(
        "signed_generation",
        "an intact claim of generation, signed by a trusted signer",
        "synthetic",
        lambda g: g.signed("synthetic"),
    ),
    Rule(
        "watermark",
        "a generator's watermark that its reader calls strong, with a p-value (or, beside a null of real files, a"
        " chance of so many matching bits) of at most `watermark_alpha`",
        "synthetic",
        lambda g: g.marked,
    ),
    Rule("listed_synthetic", f"{LISTED} synthetic", "synthetic", lambda g: g.listed("synthetic")),
    Rule("listed_authentic", f"{LISTED} authentic", "authentic", lambda g: g.listed("authentic")),
    Rule(
        "discovery",
        "among the batch's discoveries at the false-discovery rate asked for, by a detector that has no reason against"
        " its own score",
        "synthetic",
        lambda g: g.discovered,
    ),
    Rule(
        "believed_claim",
        "an unsigned claim of generation, claims are believed (`believe_claims`), and no conflict and no strong"
        " evidence for authentic",
        "synthetic",
        lambda g: g.believes and g.claimed and not g.conflicts and "authentic" not in g.strong,
    ),
    Rule(
        "doubted_discovery",
        "among the discoveries, but each detector behind it has a reason against its own score",
        "uncertain",
        lambda g: g.flagged,
    ),
    Rule(
        "signed_capture",
        "an intact claim of capture, signed by a trusted signer, and nothing speaks against it",
        "authentic",
        lambda g: g.signed("authentic") and g.unopposed,
    ),
    Rule(
        "detectors_clear",
        "every detector that scored it is calibrated, puts it below its low threshold and has no reason against its own"
        " score, and nothing speaks against it",
        "authentic",
        lambda g: g.cleared and g.unopposed,
    ),
    Rule("unsigned_claim", "an unsigned claim of generation", "uncertain", lambda g: g.claimed),
    Rule("undecided", "everything else", "uncertain", lambda g: True),
)


def rule(
    finding: Finding,
    flagged: bool,
    settings: RulingSettings | None = None,
    *,
    p_value: float | None = None,
    q_value: float | None = None,
) -> Ruling:
    """The verdict on a finding, by the first rule of TABLE that applies.

    flagged, p_value, q_value: what the batch made of the detectors' `counted` p-values. p_fake of the ruling, in
    [0, 1]: the mean over detectors, of the calibrated ones alone where there are any; the Brier score of a mean is
    never above the mean of the detectors' own, where the largest of several would rise with their number. An uncertain
    or unreadable file has at least one reason, a decided one none. Order of evidence and detectors does not matter.
    """
    chosen = settings or RulingSettings()
    grounds = Grounds(finding, flagged, p_value, q_value, chosen.watermark_alpha, chosen.believe_claims)
    first = next(r for r in TABLE if r.applies(grounds))
    why: Mapping[str, str] = {} if first.verdict in ("synthetic", "authentic") else reasons(grounds)
    return Ruling(
        first.verdict, first.name, _p_fake(finding.opinions), p_value, q_value, flagged, why, grounds.conflicts
    )


def counted(opinion: Opinion) -> float | None:
    """A detector's p-value as it enters the batch, in (0, 1]: 1 where it has a reason against its own score.

    Reasons must count before the discoveries are made: taking files off a list of discoveries afterwards takes true
    ones too, and leaves a higher share of false ones (Katsevich, Sabatti & Bogomolov 2021). None without calibration.
    """
    return opinion.p_value if opinion.p_value is None or not doubts(opinion) else 1.0


def in_words() -> str:
    """TABLE as a Markdown table."""
    rows = [f"| {i} | `{r.name}` | {r.when} | {r.verdict} |" for i, r in enumerate(TABLE, 1)]
    return "\n".join(["| | rule | applies when | verdict |", "|---|---|---|---|", *rows])


def _p_fake(opinions: Iterable[Opinion]) -> float | None:
    opinions = [o for o in opinions if math.isfinite(o.p_fake)]
    found = [o.p_calibrated for o in opinions if o.p_calibrated is not None] or [o.p_fake for o in opinions]
    return math.fsum(found) / len(found) if found else None
