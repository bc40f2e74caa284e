"""What a finding comes down to before the verdict: the questions that the table of rules asks, and reasons in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..types import Evidence, Finding, Opinion
from ..types.audit import Says

# A detector's reason that says where its score lies, and so nothing against flagging it at another rate.
POSITION = "between_thresholds"


@dataclass(frozen=True)
class Grounds:
    """One finding, what the batch made of it, and the questions that the table's rules ask."""

    finding: Finding
    flagged: bool
    p_value: float | None
    q_value: float | None
    alpha: float
    believes: bool

    # ------------------------------------------------------------------ evidence in the file

    @property
    def readable(self) -> bool:
        return self.finding.opened.readable

    def signed(self, says: Says) -> bool:
        """An intact claim, signed by someone trusted."""
        return any(e.kind == "c2pa" and e.strength == "strong" and e.says == says for e in self.finding.evidence)

    @property
    def marked(self) -> bool:
        return any(_is_marked(e, self.alpha) for e in self.finding.evidence)

    def listed(self, says: Says) -> bool:
        """On the user's list with its very content; what only looks alike is a hint."""
        return any(e.kind == "known" and e.strength == "strong" and e.says == says for e in self.finding.evidence)

    @property
    def claimed(self) -> bool:
        return any(e.says == "synthetic" and e.strength == "claim" for e in self.finding.evidence)

    @property
    def edited(self) -> bool:
        """Said to be edited by more than a trace of a program."""
        return any(e.says == "edited" and e.strength != "hint" for e in self.finding.evidence)

    @cached_property
    def strong(self) -> frozenset[Says]:
        """What evidence that cannot be forged speaks for."""
        return frozenset(
            e.says
            for e in self.finding.evidence
            if e.strength == "strong"
            and e.kind != "inconsistency"
            and (e.kind != "watermark" or _is_marked(e, self.alpha))
        )

    # ------------------------------------------------------------------ detectors

    @property
    def discovered(self) -> bool:
        """Among the discoveries, through a detector that has nothing against it."""
        given = [(o.p_value, doubts(o)) for o in self.finding.opinions if o.p_value is not None]
        limit = min((p for p, _ in given), default=0.0) if self.p_value is None else self.p_value
        return self.flagged and any(p <= limit and not against for p, against in given)

    @property
    def alarmed(self) -> bool:
        return self.flagged or any(_side(o) == "above" for o in self.finding.opinions)

    @property
    def cleared(self) -> bool:
        """Every detector that scored it is calibrated, puts it below its low threshold and has nothing against it."""
        opinions = self.finding.opinions
        return bool(opinions) and all(o.p_value is not None and _side(o) == "below" and not o.reasons for o in opinions)

    # ------------------------------------------------------------------ both

    @cached_property
    def contradictions(self) -> tuple[str, ...]:
        """What nobody can have forged and that still cannot all be true."""
        found = [e.detail for e in _inconsistent(self.finding) if e.strength == "strong"]
        if {"synthetic", "authentic"} <= self.strong:
            found.append(f"strong evidence says synthetic ({self._said('synthetic')}) and authentic"
                         f" ({self._said('authentic')})")  # fmt: skip
        if self.flagged and self.signed("authentic"):
            found.append(f"detectors flag it; strong evidence says authentic ({self._said('authentic')})")
        return tuple(found)

    @cached_property
    def conflicts(self) -> tuple[str, ...]:
        """All contradictions, also those in which one side could have been forged or was settled by the user's list."""
        found = [*self.contradictions, *(e.detail for e in _inconsistent(self.finding))]
        if self.flagged and self.listed("authentic"):
            found.append("detectors flag it; the user's list says authentic")
        return _distinct(found)

    @property
    def unopposed(self) -> bool:
        """Nothing says synthetic, edited or inconsistent, however weakly, and no detector flags it."""
        says = {e.says for e in self.finding.evidence}
        return not (self.conflicts or self.alarmed or self.edited or "synthetic" in says)

    def _said(self, says: Says) -> str:
        strong = (e for e in self.finding.evidence if e.strength == "strong" and e.says == says)
        return "; ".join(_distinct(e.detail for e in strong))


def doubts(opinion: Opinion) -> Mapping[str, str]:
    """Its reasons that speak against acting on its score: all but where the score lies."""
    return {kind: said for kind, said in opinion.reasons.items() if kind != POSITION}


def reasons(grounds: Grounds) -> dict[str, str]:
    """Why a file is not decided: kind -> sentence, in a fixed order; of one that is not readable, its state."""
    if not grounds.readable:
        opened = grounds.finding.opened
        return {opened.state: ": ".join(w for w in (opened.stage, opened.reason) if w) or opened.state}
    found = [*_of_evidence(grounds), *_of_detectors(grounds)]
    kinds = dict.fromkeys(kind for kind, _ in found)
    return {kind: "; ".join(_distinct(said for k, said in found if k == kind)) for kind in kinds}


# ---------------------------------------------------------------------------------------------- parts


def _is_marked(evidence: Evidence, alpha: float) -> bool:
    """A watermark that its reader calls strong and whose chance is at most alpha.

    Where the reader has a null of real files its p-value is conformal, never below 1 / (n + 1), and strength already
    says that no real came near: then the chance of so many matching bits, `p_binomial`, is held against alpha.
    """
    if (evidence.kind, evidence.says, evidence.strength) != ("watermark", "synthetic", "strong"):
        return False
    chances = [p for p in (evidence.p_value, evidence.facts.get("p_binomial")) if isinstance(p, float | int)]
    return bool(chances) and min(chances) <= alpha


def _inconsistent(finding: Finding) -> list[Evidence]:
    return [e for e in finding.evidence if e.kind == "inconsistency"]


def _side(opinion: Opinion) -> str:
    """Where P(fake) lies: above, below, between the thresholds, or nowhere when it is no number."""
    p = opinion.p_fake
    if not math.isfinite(p):
        return "nowhere"
    return "above" if p > opinion.high else "below" if p < opinion.low else "between"


def _distinct(sentences: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(sentences)))


def _of_evidence(grounds: Grounds) -> list[tuple[str, str]]:
    found = [("conflict", sentence) for sentence in grounds.conflicts]
    for e in sorted(grounds.finding.evidence, key=lambda e: (e.strength, e.says, e.detail)):
        if e.kind == "inconsistency":
            continue
        if e.says == "synthetic" and e.strength == "claim":
            found.append(
                ("unsigned_claim", f"{e.detail}: claims to be generated; not signed by anyone trusted, can be forged")
            )
        elif e.says == "synthetic" and not (e.strength == "strong" and grounds.contradictions):
            found.append(("hint", f"{e.detail}: speaks for synthetic, and does not decide alone"))
        elif e.says == "edited" and e.strength != "hint":
            found.append(("edited", e.detail))
    return found


def _of_detectors(grounds: Grounds) -> list[tuple[str, str]]:
    opinions = sorted(grounds.finding.opinions, key=lambda o: (o.name, o.digest))
    if not opinions:
        return [("no_detector", "no detector scored it")]
    found = [(kind, f"{o.name}: {said}") for o in opinions for kind, said in o.reasons.items()]
    sides = {side: [o for o in opinions if _side(o) == side] for side in ("above", "between", "below", "nowhere")}
    if sides["above"] and sides["below"]:
        said = ", ".join(f"{o.name} {o.p_fake:.3g}" for o in opinions)
        found.append(("detectors_disagree", f"some lie above their thresholds and some below: P(fake) {said}"))
    for o in sides["between"]:
        if POSITION not in o.reasons:
            where = f"P(fake) {o.p_fake:.3g} lies between the thresholds {o.low:.3g} and {o.high:.3g}"
            found.append((POSITION, f"{o.name}: {where}"))
    found += [("no_score", f"{o.name}: it gave no finite score") for o in sides["nowhere"]]
    found += [
        ("not_calibrated", f"{o.name}: no calibration reals to hold it against")
        for o in opinions
        if o.p_value is None and "in_calibration" not in o.reasons
    ]
    if not grounds.flagged and any(o.p_value is not None for o in sides["above"]):
        rate = "" if grounds.q_value is None else f": it would be at a false-discovery rate of {grounds.q_value:.3g}"
        found.append(("not_discovered", f"above a detector's threshold, and not among this batch's discoveries{rate}"))
    return found
