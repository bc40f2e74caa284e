"""An audit as people read it: a worklist, statistics and a page a file, out of the sealed records in one pass.

Records come as JSON mappings and are read once; of a million of them only the rows of the worklist, the counts and the
first names of each list stay in memory. Missing parts are shown as missing, never guessed.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..types import (
    STATES,
    Curves,
    Decision,
    Dossier,
    DossierLimits,
    FilePage,
    FileRow,
    Group,
    Histogram,
    Line,
    Named,
    Preview,
)
from .dossier_rows import OTHER, Key, conflicts_of, in_sentences, key_of, listed, negated, row_of, stands_out, text
from .dossier_words import Batch, custody, ended, facts, findings, order, part, undone
from .ruling import TABLE

BINS = 20
# Distinct p-values that are kept for the drawing: to three digits, so that a million of them stay a few thousand.
DIGITS = 3
MOST_POINTS = 300


def build(
    records: Iterable[Mapping[str, Any]],
    seal: Mapping[str, Any],
    decisions: Iterable[Mapping[str, Any]] = (),
    pictures: Mapping[str, Preview] | None = None,
    limits: DossierLimits | None = None,
) -> Dossier:
    """The dossier of an audit; same input, same dossier.

    records: `evalkit.audit/1` in manifest order, read once. seal: the header. decisions: in the order they were made.
    pictures: sha256 -> Preview, looked up for files that have a row only. Memory grows with `limits`, not with records.
    """
    limits = limits or DossierLimits()
    made = _decisions(decisions, limits)
    seen = _Seen(limits, made)
    for record in records:
        seen.add(record)
    rows = seen.rows()
    batch = seen.batch(seal)
    groups = _groups(seal, limits)
    near = _neighbours(groups)
    with_page = [row for i, row in enumerate(rows) if i < limits.pages or stands_out(row)]
    pages = tuple(FilePage(row, seen.kept[row.position], made.of(row), near.get(row.position, ())) for row in with_page)
    shown = {row.sha256: found for row in rows if pictures and (found := pictures.get(row.sha256)) is not None}
    return Dossier(
        title=f"Audit of {seen.total:,} {'file' if seen.total == 1 else 'files'}",
        findings=findings(batch),
        undone=undone(batch),
        order=order(len(rows), seen.total, len(pages)),
        total=seen.total,
        rows=rows,
        pages=pages,
        verdicts=tuple((state, dict(seen.verdicts[state])) for state in _states(seen.verdicts)),
        facts=facts(batch),
        histograms=seen.histograms(batch),
        discovery=seen.discovery(batch),
        groups=groups,
        group_count=len(part(seal, "near_duplicates")),
        conflicts=tuple(seen.conflicts),
        conflict_count=seen.conflict_count,
        ended=ended(batch, seen.first),
        decisions=tuple(made.last),
        decision_count=made.count,
        custody=custody(seal),
        pictures=shown,
        rules={rule.name: rule.when for rule in TABLE},
    )


def _states(found: Mapping[str, Any]) -> list[str]:
    return [state for state in (*STATES, OTHER) if state in found]


# ---------------------------------------------------------------------------------------------- one pass


@dataclass
class _Decided:
    """Decisions by file, and the last of all of them."""

    by_file: dict[object, list[Decision]] = field(default_factory=dict)
    last: deque[Decision] = field(default_factory=deque)
    count: int = 0

    def of(self, row: FileRow) -> tuple[Decision, ...]:
        return (*self.by_file.get(row.position, ()), *self.by_file.get(row.id, ()))

    def noted(self, row: FileRow) -> FileRow:
        """The row with the last decision on it."""
        found = self.of(row) if self.by_file else ()
        return replace(row, decided=found[-1].decision) if found else row


def _decisions(given: Iterable[Mapping[str, Any]], limits: DossierLimits) -> _Decided:
    made = _Decided(last=deque(maxlen=limits.listed))
    for entry in given:
        place = entry.get("position")
        one = Decision(
            place if isinstance(place, int) else None,
            text(entry.get("id")),
            _decided(entry),
            text(entry.get("reason")),
            text(entry.get("reviewer")),
            text(entry.get("time", entry.get("at"))),
            text(entry.get("hash")),
        )
        made.by_file.setdefault(one.id if one.position is None else one.position, []).append(one)
        made.last.append(one)
        made.count += 1
    return made


def _decided(entry: Mapping[str, Any]) -> str:
    """What was decided; of an overturned verdict, to what."""
    said = text(entry.get("decision", entry.get("verdict")))
    return f"overturned to {text(entry.get('verdict'))}" if said == "overturned" and entry.get("verdict") else said


class _Seen:
    """What one pass over the records leaves behind."""

    def __init__(self, limits: DossierLimits, made: _Decided) -> None:
        self.limits, self.made = limits, made
        self.total = 0
        self.verdicts: dict[str, Counter[str]] = {}
        self.rules: Counter[tuple[str, str]] = Counter()
        self.first: dict[str, list[Named]] = {}
        self.conflicts: list[Named] = []
        self.conflict_count = 0
        self.p_values: Counter[float] = Counter()
        self.bins = {name: ([0] * BINS, [0] * BINS) for name in ("p", "score")}
        self.scored = self.flagged = 0
        self.largest_flagged: float | None = None
        self.kept: dict[int, Mapping[str, Any]] = {}
        self._heap: list[tuple[Key, int, FileRow, Mapping[str, Any]]] = []

    def add(self, record: Mapping[str, Any]) -> None:
        row = self.made.noted(row_of(record, self.total))
        self.total += 1
        self.verdicts.setdefault(row.state, Counter())[row.verdict] += 1
        self.rules[row.verdict, row.rule] += 1
        if row.state != "ok":
            self._list(row, record)
        if "conflict" in row.chips:
            self.conflict_count += 1
            if len(self.conflicts) < self.limits.listed:
                self.conflicts.append(Named(row.id, row.position, in_sentences(conflicts_of(record))))
        self._number(row)
        # heapq keeps the smallest on top: with all parts negated that is the row to give up first.
        entry = (negated(key_of(row)), self.total, row, record)
        if len(self._heap) < self.limits.rows:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry[0] > self._heap[0][0]:
            heapq.heapreplace(self._heap, entry)

    def _list(self, row: FileRow, record: Mapping[str, Any]) -> None:
        names = self.first.setdefault(row.state, [])
        if len(names) < 10:
            why = record.get("reason") or "; ".join(map(text, listed(record, "warnings")))
            names.append(Named(row.id, row.position, text(why)))

    def _number(self, row: FileRow) -> None:
        called = row.verdict == "synthetic"
        for name, value in (("p", row.p_value), ("score", row.p_fake)):
            if value is not None:
                at = min(BINS - 1, max(0, int(value * BINS)))
                self.bins[name][0][at] += 1
                self.bins[name][1][at] += called
        self.scored += row.p_fake is not None
        if row.p_value is not None:
            self.p_values[float(f"{row.p_value:.{DIGITS}g}")] += 1
            if row.flagged:
                self.flagged += 1
                self.largest_flagged = max(self.largest_flagged or 0.0, row.p_value)

    def rows(self) -> tuple[FileRow, ...]:
        """The worklist in order: p-value, then P(fake), then place in the manifest."""
        self.kept = {row.position: record for _, _, row, record in self._heap}
        return tuple(sorted((row for _, _, row, _ in self._heap), key=lambda row: key_of(row)[1:]))

    def batch(self, seal: Mapping[str, Any]) -> Batch:
        verdicts: Counter[str] = sum(self.verdicts.values(), Counter())
        states = {state: sum(found.values()) for state, found in self.verdicts.items()}
        return Batch(
            seal, self.total, verdicts, self.rules, states, self.scored, sum(self.p_values.values()), self.flagged,
            self.largest_flagged,
        )  # fmt: skip

    def histograms(self, batch: Batch) -> tuple[Histogram, ...]:
        made = []
        if batch.tested:
            counts, marked = self.bins["p"]
            note = (
                "Were every file like the calibration reals, each bar would reach the dashed line; an excess at the"
                " left is what the detectors found."
            )
            said = "" if batch.threshold is None else f"largest p-value among the discoveries: {batch.threshold:.3g}"
            made.append(
                Histogram(
                    "p-values of the batch", note, "p-value", tuple(counts), tuple(marked),
                    batch.tested / BINS, "expected of reals alone", batch.threshold, said,
                )
            )  # fmt: skip
        if batch.scored:
            counts, marked = self.bins["score"]
            note = "P(fake) as the detectors give it. It is no probability of a verdict: the decision is by p-values."
            made.append(Histogram("Scores of the batch", note, "P(fake)", tuple(counts), tuple(marked)))
        return tuple(made)

    def discovery(self, batch: Batch) -> Curves | None:
        """The p-values in order beside the line of Benjamini & Hochberg (1995): what lies under it is flagged."""
        if not batch.tested:
            return None
        points, rank = [], 0
        for value, count in sorted(self.p_values.items()):
            rank += count
            points.append((float(rank), value))
        points = _thinned(points)
        slope = batch.fdr / batch.tested / batch.dependence
        lines = (
            Line("p-values in order", tuple(points), f"{batch.tested:,} files with a p-value"),
            Line(
                f"{batch.method_words} line",
                tuple((x, slope * x) for x, _ in points),
                f"rank × {batch.fdr:.3g} / {batch.tested:,}" + (" / H" if batch.dependence > 1 else ""),
            ),
        )
        note = (
            "All files up to the last one that lies on or under the line are discoveries: of such sets, on average at"
            f" most {batch.fdr:.3g} is real."
        )
        return Curves("What was discovered", note, "rank", "p-value", lines, x_scale="log", y_scale="log")


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about MOST_POINTS of them, evenly over powers of ten: the axis counts in those."""
    if len(points) <= MOST_POINTS:
        return points
    span = math.log(points[-1][0] / points[0][0]) or 1.0
    found: dict[int, tuple[float, float]] = {}
    for point in points:
        found[int(MOST_POINTS * math.log(point[0] / points[0][0]) / span)] = point
    return list(found.values())


# ---------------------------------------------------------------------------------------------- near-duplicates


def _groups(seal: Mapping[str, Any], limits: DossierLimits) -> tuple[Group, ...]:
    """The batch's groups of near-duplicates, as the seal has them."""
    made = []
    for one in part(seal, "near_duplicates")[: limits.listed]:
        members = [m for m in listed(one, "members") if isinstance(m, Mapping)] if isinstance(one, Mapping) else []
        named = [Named(text(m.get("id")), m.get("position"), text(m.get("says"))) for m in members]
        if named:
            made.append(Group(text(one.get("says")), len(named), tuple(named[: limits.listed])))
    return tuple(made)


def _neighbours(groups: Sequence[Group]) -> dict[int, tuple[Named, ...]]:
    return {
        member.position: tuple(other for other in group.members if other is not member)
        for group in groups
        for member in group.members
        if member.position is not None
    }
