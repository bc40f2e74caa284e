"""The shortcut audit in words: sentences first, then every rule as given and cleaned, then the same as plain JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..types import Estimate, Excluded, Exhibit, Study, Table
from .choosing import AMONG, BINARY, SAYS, Best, Found, Scored
from .cleaning import STEPS
from .openings import OPENING

if TYPE_CHECKING:
    from .auditing import Pair

SCHEMA = "evalkit.shortcuts/1"


def study_of(
    real: str,
    pairs: Sequence[Pair],
    limit: float,
    read: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, str],
    excluded: tuple[tuple[str, Excluded], ...],
) -> Study:
    """The study of one real set and the pairs it was audited in."""
    over = [pair.name for pair in pairs if pair.raw.best is not None and pair.raw.best.is_over(limit)]
    findings, warnings = [], []
    for pair in pairs:
        said = list(_findings(pair, limit))
        findings += said
        if pair.name in over:
            warnings.append(f"shortcut: {said[0]}")
        if not pair.why and pair.again is not None and pair.again.best is not None and pair.again.best.is_over(limit):
            warnings.append(f"left after cleaning: {pair.name}: {words_of(pair.again.best)}")
    data = {
        "limit": limit,
        "over_limit": over,
        "cleaning": STEPS,
        "fakes": [_plain(pair) for pair in pairs],
        "read": list(read),
    }
    title = f"Shortcut audit: {real} against {', '.join(pair.name for pair in pairs)}"
    exhibits = tuple(table for pair in pairs for table in _tables(pair, real))
    return Study(SCHEMA, title, tuple(findings), exhibits, data, provenance, tuple(warnings), excluded)


def words_of(best: Best) -> str:
    """The best rule with its number, as a part of a sentence."""
    return (
        f"the best trivial rule, {SAYS[best.name]!r} ({direction(best)} in the fakes), has AUROC {said(best.auc)} on"
        f" the half of the groups it was not chosen on ({best.n_real} real, {best.n_fake} fake)"
    )


def direction(best: Best) -> str:
    """More or less of it in the fakes; for a rule of yes or no, more or less often."""
    often = " often" if best.name in BINARY else ""
    return f"{'more' if best.higher else 'less'}{often}"


def said(auc: Estimate) -> str:
    """A number with its interval."""
    return f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"


def _findings(pair: Pair, limit: float) -> Iterator[str]:
    raw, left = pair.raw, pair.left
    if raw.best is None:
        yield f"{pair.name}: no best rule: {raw.why}"
    else:
        verdict = "above" if raw.best.is_over(limit) else "not above"
        yield f"{pair.name}: {words_of(raw.best)}, {verdict} the limit of {limit:g}"
    kept = f"{len(left.real)} of {raw.n_real} real and {len(left.fake)} of {raw.n_fake} fake texts are left"
    gone = f"without a whole sentence: {_both(left.cut_away)}; copies: {_both(left.copies)}"
    yield f"{pair.name}, cleaned ({STEPS}): {kept} ({gone})"
    if pair.again is None:
        yield f"{pair.name}, cleaned: no number: {pair.why}"
    elif pair.again.best is None:
        yield f"{pair.name}, cleaned: no best rule: {pair.again.why}"
    else:
        yield f"{pair.name}, cleaned: {words_of(pair.again.best)}"
    if pair.openings:
        yield (
            f"{pair.name}: {pair.openings} of {raw.n_fake} fake texts have the first {OPENING} words of a real one:"
            " they are one source, and are kept in one half"
        )
    for rule in raw.rules:
        if rule.name in AMONG and max(rule.auc.low, 1 - rule.auc.high) > limit:
            yield (
                f"{pair.name}: {SAYS[rule.name]!r} has AUROC {said(rule.auc)}: texts of one side resemble each other,"
                " and a split by file would test on what was learnt"
            )
    if pair.copies:
        yield f"{pair.name}: {pair.copies} of {raw.n_fake} fake texts are exact copies of real ones"
    for one in pair.crossings:
        if one.copies or one.openings:
            yield (
                f"{one.of}: of {one.n} texts {one.copies} are copies of a text of {one.learnt} and {one.openings} open"
                f" like one: a detector that learns from {one.learnt} has read them"
            )


def _both(counts: tuple[int, int]) -> str:
    return f"{counts[0]} real, {counts[1]} fake"


def _tables(pair: Pair, real: str) -> Iterator[Exhibit]:
    again = {} if pair.again is None else {rule.name: rule for rule in pair.again.rules}
    shown = [r for r in pair.raw.rules if r.varies or (r.name in again and again[r.name].varies)]
    same = [r.name for r in pair.raw.rules if r not in shown]
    rows = tuple(
        (
            SAYS[rule.name],
            said(rule.auc),
            said(again[rule.name].auc) if rule.name in again else "–",
            *(_mean(rule, side) for side in (rule.real, rule.fake)),
        )
        for rule in shown
    )
    note = (
        "AUROC of each rule by itself on all texts, with its 95 % interval, furthest from 0.5 first: above it fakes"
        " have more, below it less. The largest of them flatters; the findings have the number that does not."
    )
    note += f" The same in every text: {', '.join(SAYS[name] for name in same)}." if same else ""
    header = ("rule", "AUROC as given", "AUROC cleaned", f"mean, real: {real}", f"mean, fake: {pair.name}")
    yield Table(f"Trivial rules on {pair.name}", note, header, rows)


def _mean(rule: Scored, value: float) -> str:
    return f"{value:.0%} of texts" if rule.name in BINARY else f"{value:.4g}"


def plain_best(best: Best) -> dict[str, Any]:
    """The best rule as JSON."""
    return {
        "rule": best.name,
        "says": SAYS[best.name],
        "fakes_have": direction(best),
        **plain_auc(best.auc, best.n_real, best.n_fake),
        "chosen_by": best.chosen_by,
    }


def plain_auc(auc: Estimate, n_real: int, n_fake: int) -> dict[str, Any]:
    """An AUROC with its interval as JSON."""
    ends = {"low": auc.low, "high": auc.high, "level": auc.level, "interval": auc.method}
    return {"auc": auc.value, **ends, "n": {"real": n_real, "fake": n_fake}}


def _plain_found(found: Found) -> dict[str, Any]:
    return {
        "n": {"real": found.n_real, "fake": found.n_fake},
        "groups": found.groups,
        **({"best": plain_best(found.best)} if found.best is not None else {"no_best": found.why}),
        "rules": [
            {
                "name": rule.name,
                "says": SAYS[rule.name],
                **plain_auc(rule.auc, found.n_real, found.n_fake),
                "mean": {"real": rule.real, "fake": rule.fake},
            }
            for rule in found.rules
        ],
    }


def _plain(pair: Pair) -> dict[str, Any]:
    left = pair.left
    dropped = {
        kind: {"real": counts[0], "fake": counts[1]}
        for kind, counts in (("without_whole_sentence", left.cut_away), ("copies", left.copies))
    }
    again = {"none": pair.why} if pair.again is None else _plain_found(pair.again)
    crossings = [
        {"set": one.of, "train": one.learnt, "n": one.n, "copies": one.copies, "openings": one.openings}
        for one in pair.crossings
    ]
    return {
        "name": pair.name,
        "as_given": _plain_found(pair.raw),
        "cleaned": {**again, "dropped": dropped},
        "fakes_that_copy_a_real": pair.copies,
        "fakes_that_open_like_a_real": pair.openings,
        **({"across_splits": crossings} if crossings else {}),
    }
