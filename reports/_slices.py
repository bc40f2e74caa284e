"""Numbers of single groups of the samples (classes, prompts, sources): one table a metric, a line a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.types import Column, Comparison

from ._board import GROUP
from ._numbers import column_cells, decimals, interval, number, settled
from ._words import ARROWS

MOST_GROUPS, MOST_SUBJECTS = 60, 30


@dataclass(frozen=True)
class Slice:
    """One number of one group and subject in words; step: 0 to 5, how far from the row's best towards its worst."""

    text: str
    interval: str
    why: str
    step: int


@dataclass(frozen=True)
class Slices:
    """A metric over its groups: lines of (group, samples, one Slice a subject)."""

    name: str
    arrow: str
    subjects: tuple[str, ...]
    lines: tuple[tuple[str, str, tuple[Slice, ...]], ...]
    left_out: int


def slice_tables(comparison: Comparison) -> tuple[Slices, ...]:
    """A table for each metric with numbers of single groups, in the order of the columns."""
    found: dict[str, list[int]] = {}
    for index, column in enumerate(comparison.columns):
        if GROUP in column.name:
            found.setdefault(column.name.partition(GROUP)[0], []).append(index)
    return tuple(_table(comparison, name, places) for name, places in found.items())


def _table(comparison: Comparison, name: str, indices: Sequence[int]) -> Slices:
    rows = comparison.rows[:MOST_SUBJECTS]
    lines = []
    for index in indices[:MOST_GROUPS]:
        column = comparison.columns[index]
        n = ", ".join(f"{count} {side}" for side, count in column.n.items())
        lines.append((column.name.partition(GROUP)[2], n, _line(comparison, column, index)))
    first = comparison.columns[indices[0]]
    return Slices(name, ARROWS[first.better], tuple(row.name for row in rows), tuple(lines), len(indices) - len(lines))


def _line(comparison: Comparison, column: Column, index: int) -> tuple[Slice, ...]:
    rows = comparison.rows[:MOST_SUBJECTS]
    places = decimals(column_cells(comparison.rows, index))
    values = [cell.value for cell in column_cells(comparison.rows, index) if cell.value is not None]
    best, worst = (min, max) if column.better == "lower" else (max, min)
    good, bad = (best(values), worst(values)) if values else (0.0, 0.0)
    slices = []
    for row in rows:
        cell = settled(row.cells[index])
        if cell.value is None:
            slices.append(Slice("–", "", cell.why, 0))
            continue
        share = 0.0 if bad == good else min(1.0, max(0.0, (cell.value - good) / (bad - good)))
        slices.append(Slice(number(cell.value, places), interval(cell, places), "", round(5 * share)))
    return tuple(slices)
