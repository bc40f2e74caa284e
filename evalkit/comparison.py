"""Records side by side: equal protocols share a column, unlike ones are refused in words, ties are called ties."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from .columns import columns_of, instrument_digests, listed, result_of, shown, shown_term, sign, why_empty
from .concordance import alarm, panel
from .differences import ADJUSTMENTS, Lineup, difference, differences_of, lineup, p_of_no_difference
from .errors import BadSetting, ModalityMismatch, NothingToEvaluate, UsageError
from .findings import verdict
from .fronts import fronts
from .standings import Ranking, ranking
from .types import SHARED, Cell, Column, Comparison, Excluded, Modality, Row, RunRecord

__all__ = [
    "compare_records",
    "difference",
    "instrument_digests",
    "p_of_no_difference",
    "result_of",
    "shown_term",
]

TITLES: Mapping[Modality, str] = {"image": "Images", "text": "Texts"}


def compare_records(
    records: Sequence[RunRecord], title: str | None = None, *, baseline: str | None = None, adjust: str = "holm"
) -> Comparison:
    """A board of records of one modality, whose subjects have names of their own.

    A column holds results of one name *and* one protocol. The best of a column is the best candidate (floors and
    ceilings are there to check the metric, not to win); a candidate that is not told apart from it, when all pairs of
    candidates are asked at once, is tied. baseline: the name of the subject that the others are told better or worse
    than. adjust: how the p-values of differences are adjusted, "holm", "bh" or "none".
    Raises NothingToEvaluate without records, ModalityMismatch for two modalities, UsageError for two subjects of one
    name, BadSetting for another adjustment.
    """
    _check(records, baseline, adjust)
    columns, refused = columns_of(records)
    lineups = {c.name: lineup(c, records) for c in columns}
    rankings = {name: found for name, x in lineups.items() if (found := ranking(x)) is not None}
    best = {name: found.best for name, found in rankings.items()}
    ties = {name: found.tied for name, found in rankings.items() if found.tied}
    differences = differences_of(lineups, best, baseline, adjust)
    planes, front = fronts(columns, records, rankings)
    lines = verdict(columns, lineups, rankings, differences, baseline, adjust)
    return Comparison(
        modality=records[0].subject.modality,
        title=title or TITLES[records[0].subject.modality],
        reference=records[0].reference,
        columns=columns,
        rows=_rows(columns, records, rankings),
        best=best,
        ties=ties,
        deltas={name: _deltas(lineups[name], found) for name, found in best.items()},
        refused=refused,
        # An alarm stands right after who leads: it says whether to believe it.
        verdict=(*lines[:1], *alarm(columns, lineups, rankings), *lines[1:], *front),
        warnings=_warnings(columns, records),
        excluded=_excluded(records),
        exhibits=(*planes, *panel(columns, lineups, rankings)),
        standings={name: found.standings for name, found in rankings.items()},
        differences=differences,
        adjustment=adjust,
    )


def _check(records: Sequence[RunRecord], baseline: str | None, adjust: str) -> None:
    if adjust not in ADJUSTMENTS:
        raise BadSetting(f"adjust = {adjust!r}; expected {', '.join(ADJUSTMENTS)}")
    if not records:
        raise NothingToEvaluate("no record to compare; give run records, or subjects with --real SOURCE")
    if len({r.subject.modality for r in records}) > 1:
        named = ", ".join(f"{shown(r.subject.name)} ({r.subject.modality})" for r in records[:6])
        raise ModalityMismatch(f"one table holds one modality; given {named}: compare them separately")
    twice = [name for name, count in Counter(r.subject.name for r in records).items() if count > 1]
    if twice:
        raise UsageError(f"two subjects are called {listed(twice)}; give each record a subject name of its own")
    if baseline is not None and not any(r.subject.name == baseline for r in records):
        raise UsageError(f"the baseline {shown(baseline)} is none of the {len(records)} subjects")


def _rows(columns: Sequence[Column], records: Sequence[RunRecord], rankings: Mapping[str, Ranking]) -> tuple[Row, ...]:
    """Ceilings first, candidates by the first column, floors last: the frame in which the candidates are read."""
    order = {"ceiling": 0, "candidate": 1, "saboteur": 2, "floor": 3}
    lead = columns[0] if columns else None
    tied = {name: set(found.tied) for name, found in rankings.items()}

    def key(record: RunRecord) -> tuple[int, float]:
        result = None if lead is None else result_of(record, lead.name, lead.protocol)
        value = math.inf if result is None or lead is None else sign(lead) * result.value
        return order[record.subject.role], value

    def cell(column: Column, record: RunRecord) -> Cell:
        result = result_of(record, column.name, column.protocol)
        if result is None:
            return Cell(None, why=why_empty(column, record))
        name, found = record.subject.name, rankings.get(column.name)
        is_best = found is not None and found.best == name
        return Cell(result.value, result.low, result.high, is_best, name in tied.get(column.name, ()))

    return tuple(
        Row(r.subject.name, r.subject.role, tuple(cell(c, r) for c in columns), r.subject.n)
        for r in sorted(records, key=key)
    )


def _warnings(columns: Sequence[Column], records: Sequence[RunRecord]) -> tuple[str, ...]:
    """What the records warn of, once each, with whose it is where it is not everybody's."""
    # A number that a subject cannot have says so in its empty cell, where another subject has that number.
    told = tuple(f"{c.name} does not apply: " for c in columns)
    owners: dict[str, list[str]] = {}
    for record in records:
        for warning in dict.fromkeys(w for w in record.warnings if not w.startswith(told)):
            owners.setdefault(warning, []).append(record.subject.name)
    return tuple(w if len(names) == len(records) else f"{listed(names)}: {w}" for w, names in owners.items())


def _excluded(records: Sequence[RunRecord]) -> tuple[tuple[str, Excluded], ...]:
    """Whose sample could not be read, and why; those of a shared reference once and not for every subject."""
    found: dict[tuple[str, str], tuple[str, Excluded]] = {}
    for record in records:
        for entry in record.excluded:
            shared = entry.id.startswith(SHARED)
            found.setdefault(("" if shared else record.subject.name, entry.id), (record.subject.name, entry))
    return tuple(found.values())


def _deltas(own: Lineup, best: str) -> dict[str, Cell]:
    """Each subject's distance from the best one, with its interval."""
    gaps = zip(own.names, own.over(own.places[best]), strict=True)
    return {name: Cell(*gap) for name, gap in gaps if name != best}
