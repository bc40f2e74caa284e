"""The leaderboard as JUnit XML for CI servers: one test case a subject and metric, an empty cell is skipped."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from evalkit.types import Cell, Column, Comparison, Leaderboard

from ._numbers import settled
from ._words import ARROWS, visible


def render(board: Leaderboard) -> str:
    """The leaderboard as JUnit XML: a report judges nothing, so no case fails; a missing number is skipped."""
    root = ET.Element("testsuites", name=visible(board.title))
    for comparison in board.comparisons:
        _suite(root, comparison)
    for key in ("tests", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, comparison: Comparison) -> None:
    suite = ET.SubElement(root, "testsuite", name=visible(f"{comparison.modality}: {comparison.title}"))
    skipped = 0
    for row in comparison.rows:
        for column, raw in zip(comparison.columns, row.cells, strict=True):
            cell = settled(raw)
            skipped += cell.value is None
            _case(suite, f"{comparison.modality}.{row.name}", column, cell)
    counts = {"tests": len(suite), "skipped": skipped, "failures": 0, "errors": 0}
    for key, value in counts.items():
        suite.set(key, str(value))
    notes = [*comparison.refused, *comparison.warnings]
    notes += [f"{name}: {out.id}: {out.reason}" for name, out in comparison.excluded]
    if notes:
        ET.SubElement(suite, "system-out").text = visible("\n".join(notes))


def _case(suite: ET.Element, subject: str, column: Column, cell: Cell) -> None:
    case = ET.SubElement(suite, "testcase", classname=visible(subject), name=visible(column.name), time="0")
    if cell.value is None:
        ET.SubElement(case, "skipped", message=visible(cell.why))
        return
    bracket = "" if cell.low is None else f" [{cell.low!r}, {cell.high!r}]"
    ET.SubElement(case, "system-out").text = visible(f"{ARROWS[column.better]} {cell.value!r}{bracket} {column.unit}")
