"""The leaderboard as strict JSON for dashboards and scripts: every number, interval and reason, no pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evalkit.types import (
    Cell,
    Column,
    Comparison,
    Curves,
    Difference,
    Exhibit,
    Leaderboard,
    Line,
    Matrix,
    Point,
    Scatter,
    Table,
)

from ._numbers import finite, settled
from ._words import levels


def render(board: Leaderboard) -> str:
    """The leaderboard as strict JSON, schema `evalkit.leaderboard/1`.

    ASCII only, so that any name survives any terminal; no NaN or Infinity: a cell without a finite value holds
    `why` and no `value`. Ends with a newline.
    """
    known = levels(board)
    document = {
        "schema": board.schema,
        "title": board.title,
        "comparisons": [_comparison(comparison, known) for comparison in board.comparisons],
        "records": [
            {
                "subject": record.subject.name,
                "modality": record.subject.modality,
                "n": record.subject.n,
                "digest": record.subject.digest,
                "seed": record.seed,
                "schema": record.schema,
            }
            for record in board.records
        ],
        "provenance": dict(board.provenance),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _comparison(comparison: Comparison, known: Mapping[tuple[str, str, str, str], float]) -> dict[str, Any]:
    reference = comparison.reference
    exhibits = (_exhibit(exhibit) for exhibit in comparison.exhibits)
    return {
        "modality": comparison.modality,
        "title": comparison.title,
        "verdict": list(comparison.verdict),
        "reference": reference and {"name": reference.name, "n": reference.n, "digest": reference.digest},
        "columns": [_column(column) for column in comparison.columns],
        "rows": [
            {
                "name": row.name,
                "role": row.role,
                "n": row.n,
                "cells": [
                    {
                        "metric": column.name,
                        **_cell(cell, known.get((comparison.modality, row.name, column.name, column.protocol))),
                    }
                    for column, cell in zip(comparison.columns, row.cells, strict=True)
                ],
            }
            for row in comparison.rows
        ],
        "best": dict(comparison.best),
        "ties": {name: list(subjects) for name, subjects in comparison.ties.items()},
        "deltas": {
            name: {subject: _cell(cell) for subject, cell in subjects.items()}
            for name, subjects in comparison.deltas.items()
        },
        "standings": {
            name: {subject: asdict(standing) for subject, standing in subjects.items()}
            for name, subjects in comparison.standings.items()
        },
        "adjustment": comparison.adjustment,
        "differences": {name: [_step(step) for step in steps] for name, steps in comparison.differences.items()},
        "refused": list(comparison.refused),
        "warnings": list(comparison.warnings),
        "excluded": [{"subject": name, "id": out.id, "reason": out.reason} for name, out in comparison.excluded],
        "exhibits": [exhibit for exhibit in exhibits if exhibit is not None],
    }


def _step(step: Difference) -> dict[str, Any]:
    """A difference without what is not known of it: no bound that is infinite, no count that would not settle it."""
    fields = asdict(step)
    return {key: value for key, value in fields.items() if isinstance(value, str) or finite(value)}


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "better": column.better,
        "unit": column.unit,
        "n": dict(column.n),
        "interval": column.interval,
        "protocol": column.protocol,
    }


def _cell(cell: Cell, level: float | None = None) -> dict[str, Any]:
    cell = settled(cell)
    if cell.value is None:
        return {"why": cell.why}
    fields: dict[str, Any] = {"value": cell.value}
    if cell.low is not None:
        fields |= {"low": cell.low, "high": cell.high}
        fields |= {} if level is None else {"level": level}
    fields |= {"best": cell.best, "tied": cell.tied}
    return fields | ({"why": cell.why} if cell.why else {})


def _exhibit(exhibit: Exhibit) -> dict[str, Any] | None:
    """The numbers of an exhibit; None for pictures and texts, which only the page shows."""
    match exhibit:
        case Curves():
            return {
                "kind": "curves",
                "title": exhibit.title,
                "x": exhibit.x_label,
                "y": exhibit.y_label,
                "x_scale": exhibit.x_scale,
                "y_scale": exhibit.y_scale,
                "lines": [_line(line) for line in exhibit.lines],
            }
        case Scatter():
            return {
                "kind": "scatter",
                "title": exhibit.title,
                "x": exhibit.x_label,
                "y": exhibit.y_label,
                "points": [_point(point) for point in exhibit.points],
                "front": list(exhibit.front),
            }
        case Matrix():
            return {
                "kind": "matrix",
                "title": exhibit.title,
                "rows": list(exhibit.rows),
                "columns": list(exhibit.columns),
                "cells": [[_cell(cell) for cell in line] for line in exhibit.cells],
            }
        case Table():
            rows = [list(row) for row in exhibit.rows]
            return {"kind": "table", "title": exhibit.title, "header": list(exhibit.header), "rows": rows}
        case _:
            return None


def _line(line: Line) -> dict[str, Any]:
    kept = [math.isfinite(x) and math.isfinite(y) for x, y in line.points]
    points = [[x, y] for (x, y), is_kept in zip(line.points, kept, strict=True) if is_kept]
    counts = [n for n, is_kept in zip(line.counts, kept, strict=False) if is_kept]
    return {"name": line.name, "says": line.says, "points": points, **({"counts": counts} if counts else {})}


def _point(point: Point) -> dict[str, Any]:
    numbers: dict[str, float | None] = {"x": point.x, "y": point.y, "low": point.low, "high": point.high}
    numbers |= {"left": point.left, "right": point.right}
    kept = {key: value for key, value in numbers.items() if value is not None and math.isfinite(value)}
    return {"name": point.name, "role": point.role, **kept}
