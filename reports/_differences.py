"""Who is told from whom: one table a column of the board, row minus column, with its interval and adjusted p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalkit.types import Cell, Comparison, Difference, Standpoint

from ._board import Heading
from ._numbers import decimals, finite, interval, number, p_words

MOST = 30  # subjects: more do not fit a page, on paper or on a screen
SQUARE = 10  # up to so many subjects each pair stands in both its cells; beyond, in the lower half only
BUDGET = 4000  # cells of all tables of one comparison together, about half a megabyte

SIGNS: Mapping[Standpoint, str] = {"better": "▲", "worse": "▼", "inconclusive": "≈"}
ADJUSTED = {
    "holm": "Holm's method over all differences of this board together",
    "bh": "the method of Benjamini and Hochberg over all differences of this board together",
    "none": "nothing: each stands alone",
}


@dataclass(frozen=True)
class Step:
    """One cell in words: the difference row minus column, and what it is worth."""

    verdict: Standpoint
    sign: str
    text: str
    interval: str
    p: str
    settles: str


@dataclass(frozen=True)
class Differences:
    """One column's table: a line a subject, None where there is no such difference or it stands mirrored."""

    heading: Heading
    names: tuple[str, ...]
    lines: tuple[tuple[Step | None, ...], ...]
    left_out: int

    @property
    def counts(self) -> str:
        """How many pairs are told apart."""
        steps = {frozenset((a, b)): step for a, line in enumerate(self.lines) for b, step in enumerate(line) if step}
        told = sum(step.verdict != "inconclusive" for step in steps.values())
        return f"{told} of {len(steps)} pairs told apart"


def difference_tables(comparison: Comparison, headings: Sequence[Heading]) -> tuple[Differences, ...]:
    """A table for each column that has differences, the lead's first, until the page's room for them is used up."""
    found: list[Differences] = []
    room = BUDGET
    for head in sorted(headings, key=lambda head: head.index):
        entries = comparison.differences.get(head.column.name, ())
        known = {name for entry in entries for name in (entry.one, entry.other)}
        names = [row.name for row in comparison.rows if row.name in known]
        table = _table(head, entries, names) if names else None
        if table is not None:
            room -= len(table.names) ** 2 if len(table.names) <= SQUARE else len(table.names) ** 2 // 2
            if found and room < 0:
                break
            found.append(table)
    return tuple(found)


def _table(head: Heading, entries: Sequence[Difference], names: Sequence[str]) -> Differences:
    shown = tuple(names[:MOST])
    place = {name: k for k, name in enumerate(shown)}
    kept = [e for e in entries if e.one in place and e.other in place and e.one != e.other and finite(e.value)]
    places = decimals(Cell(e.value, e.low, e.high) for e in kept)
    grid: list[list[Step | None]] = [[None] * len(shown) for _ in shown]
    for entry in kept:
        a, b = place[entry.one], place[entry.other]
        if len(shown) <= SQUARE or a > b:
            grid[a][b] = _step(entry, places)
        if len(shown) <= SQUARE or b > a:
            grid[b][a] = _step(_turned(entry), places)
    return Differences(head, shown, tuple(map(tuple, grid)), len(names) - len(shown))


def _turned(entry: Difference) -> Difference:
    """The same difference seen from the other subject."""
    verdict: Mapping[Standpoint, Standpoint] = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}
    ends = (-entry.value, -entry.high, -entry.low)
    return Difference(entry.other, entry.one, *ends, entry.p, entry.adjusted, verdict[entry.verdict], entry.settles_at)


def _step(entry: Difference, places: int) -> Step:
    cell = Cell(entry.value, entry.low, entry.high) if finite(entry.low) and finite(entry.high) else Cell(entry.value)
    settles = f"n = {entry.settles_at:,} would settle it" if entry.settles_at else ""
    return Step(
        entry.verdict,
        SIGNS[entry.verdict],
        number(entry.value, places, sign=True),
        interval(cell, places, sign=True),
        p_words(entry.adjusted),
        settles.replace(",", "\u202f") if entry.verdict == "inconclusive" else "",
    )
