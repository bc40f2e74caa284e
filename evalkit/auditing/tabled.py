"""The files that a table (.csv or .jsonl) names by its column `path`, with an `id` and a `caption` where it has them.

A table comes from someone: it may name files beside and below it, and others only where the caller allows it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BadSource
from .entries import Entry, Fault, display
from .reading import is_url

TABLES = (b".csv", b".jsonl")
COLUMNS = {"path", "id", "caption"}
LONGEST = 1 << 20  # characters of one line


def rows(table: Path, *, outside: bool) -> Iterator[Entry]:
    """An entry for each row, in order; outside: whether files beyond the table's folder may be named.

    Raises BadSource with the line's number when the table is malformed.
    """
    folder = Path(os.path.realpath(table)).parent
    read = _csv if table.suffix.lower() == ".csv" else _jsonl
    try:
        for number, row in read(table):
            path = row.get("path")
            if not isinstance(path, str) or not path or "\0" in path:
                raise _malformed(table, number, "no `path`")
            yield _entry(folder, path, row, outside)
    except (OSError, csv.Error, ValueError) as error:
        raise BadSource(f"table {str(table)!r} cannot be read: {error}; expected UTF-8 with a column `path`") from error


def _entry(folder: Path, path: str, row: dict[str, Any], outside: bool) -> Entry:
    name = path.encode("utf-8", "surrogateescape" if _escaped(path) else "surrogatepass")
    given, caption = row.get("id"), row.get("caption")
    entry = Entry(
        -1,
        "" if given in (None, "") else display(str(given).encode("utf-8", "surrogatepass")),
        name,
        os.fsencode(folder),
        caption=caption if isinstance(caption, str) and caption else None,
    )
    if is_url(path):
        return entry.failed(Fault("unsupported", "a URL: tables name local files; give URLs as PATH"))
    real = os.path.realpath(os.path.join(os.fsencode(folder), name))  # noqa: PTH118 (names are bytes)
    if not outside and os.path.commonpath((real, os.fsencode(folder))) != os.fsencode(folder):
        return entry.failed(Fault("unsupported", "outside of the table's folder: not read"))
    return entry


def _escaped(path: str) -> bool:
    """Whether every surrogate in the path stands for one byte, as in names that are not UTF-8."""
    return all(not 0xD800 <= ord(c) <= 0xDFFF or 0xDC80 <= ord(c) <= 0xDCFF for c in path)


def _csv(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.DictReader(file)
        if "path" not in (lines.fieldnames or ()):
            raise BadSource(f"table {str(table)!r} has no column `path`; expected path and, where known, id, caption")
        for row in lines:
            yield lines.line_num, {k: v for k, v in row.items() if k in COLUMNS}


def _jsonl(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise _malformed(table, number, "no JSON") from None
            if not isinstance(row, dict):
                raise _malformed(table, number, "no JSON object")
            yield number, {k: v for k, v in row.items() if k in COLUMNS}


def _malformed(table: Path, number: int, what: str) -> BadSource:
    return BadSource(f"table {str(table)!r}, line {number}: {what}; expected a `path` in each row, and id, caption")
