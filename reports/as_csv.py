"""The leaderboard as CSV for spreadsheets: one line a subject and metric, safe against formulas in names."""

from __future__ import annotations

import csv
import io

from evalkit.types import Leaderboard

from ._numbers import settled
from ._words import levels, visible

HEADER = (
    *("modality", "subject", "role", "metric", "value", "low", "high", "level", "better", "n_real", "n_fake"),
    *("interval", "best", "tied", "protocol", "why", "rank_best", "rank_worst", "letters"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\x00", "＝", "＋", "－", "＠")


def render(board: Leaderboard) -> str:
    """The leaderboard as CSV: one line a (modality, subject, metric), numbers in full, empty where there is none.

    A text that a spreadsheet would take for a formula gets a leading apostrophe; numbers stay numbers.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    known = levels(board)
    for comparison in board.comparisons:
        for row in comparison.rows:
            for column, raw in zip(comparison.columns, row.cells, strict=True):
                cell = settled(raw)
                level = known.get((comparison.modality, row.name, column.name, column.protocol))
                texts = map(safe, (comparison.modality, row.name, row.role, column.name))
                numbers = (cell.value, cell.low, cell.high, level if cell.low is not None else None)
                sides = (column.n.get("real"), column.n.get("fake"))
                flags = ("true" if cell.best else "false", "true" if cell.tied else "false")
                last = map(safe, (column.protocol, cell.why))
                standing = comparison.standings.get(column.name, {}).get(row.name) if cell.value is not None else None
                ranks = ("", "", "") if standing is None else (standing.best, standing.worst, safe(standing.letters))
                writer.writerow(
                    [
                        *texts,
                        *map(_number, numbers),
                        column.better,
                        *sides,
                        safe(column.interval),
                        *flags,
                        *last,
                        *ranks,
                    ]
                )
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def safe(text: str) -> str:
    """The text as a spreadsheet takes it for text: one that begins like a formula gets a leading apostrophe."""
    return ("'" if text.startswith(_FORMULA) else "") + visible(text)
