"""Texts in one file: .txt (one a line), .jsonl (field `text`), .csv and .parquet (column `text`).

A sample is called by the field `id` of its row where every row's is another; otherwise by its place, as in `line-3`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import BadSource, NothingToEvaluate, UnreadableSample
from ..types import Sample
from ._media import decode_text
from ._set import ListedSet

if TYPE_CHECKING:
    from ..types import Media

TEXT_FIELDS = ("text", "generated_text", "completion", "output", "content")
GROUP_FIELDS = ("group", "label", "class", "source", "model")
CONDITION_FIELDS = ("condition", "prompt")
ONE_A_LINE = 'one JSON object with a text, {"text": "..."}, or one string, each on a line of its own'
# A row's own name, where it has one, and the sample under its place in the file.
Row: TypeAlias = tuple[str | None, Sample]


def open_lines(path: Path) -> ListedSet:
    """The texts of a file by its suffix; BadSource when it cannot be parsed, NothingToEvaluate when it has none."""
    try:
        samples = _called(list(_READERS[path.suffix.lower()](path)))
    except OSError as error:
        raise BadSource(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    if not samples:
        raise NothingToEvaluate(f"{str(path)!r} holds no text")
    return ListedSet(path.stem, "text", tuple(samples), str(path))


def _called(rows: list[tuple[str | None, Sample]]) -> list[Sample]:
    """The samples under their own ids, under their places where two would be called the same."""
    own = [sample.id if name is None else name for name, sample in rows]
    if len(set(own)) < len(own):
        return [sample for _, sample in rows]
    return [replace(sample, id=name) for name, (_, sample) in zip(own, rows, strict=True)]


def _sample(position: str, data: bytes, group: Any = None, condition: Any = None) -> Sample:
    def load() -> Media:
        return decode_text(data)

    digest = hashlib.sha256(data).hexdigest()
    return Sample(
        position, digest, load, None if group is None else str(group), None if condition is None else str(condition)
    )


def _txt(path: Path) -> Iterable[Row]:
    # A blank line between others is listed (and excluded as empty); blank lines at the end are only the end.
    for number, line in enumerate(path.read_bytes().rstrip().splitlines(), 1):
        yield None, _sample(f"line-{number}", line.strip())


def _jsonl(path: Path) -> Iterable[Row]:
    for number, line in enumerate(path.read_bytes().rstrip().splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = f"not valid JSON ({str(error)[:80]}); expected {ONE_A_LINE}"
            yield None, _broken(f"line-{number}", line, f"line {number} is {why}")
            continue
        row = {"text": row} if isinstance(row, str) else row
        if not isinstance(row, dict):
            yield None, _broken(f"line-{number}", line, f"line {number} is JSON, but not {ONE_A_LINE}")
            continue
        yield _from_row(f"line-{number}", row, path)


def _broken(position: str, data: bytes, reason: str) -> Sample:
    def load() -> Media:
        raise UnreadableSample(reason)

    return Sample(position, hashlib.sha256(data).hexdigest(), load)


def _from_row(position: str, row: Mapping[str, Any], path: Path) -> Row:
    field = next((f for f in TEXT_FIELDS if f in row), None)
    if field is None:
        have = ", ".join(str(k) for k in list(row)[:8])
        raise BadSource(f"{path}: {position} has fields {have}; expected one of {', '.join(TEXT_FIELDS)}")
    group = next((row[f] for f in GROUP_FIELDS if row.get(f) is not None), None)
    condition = next((row[f] for f in CONDITION_FIELDS if row.get(f) is not None), None)
    name = row.get("id")
    own = str(name) if isinstance(name, str | int) and str(name) else None
    text = row[field]
    if not isinstance(text, str):
        return own, _broken(position, repr(text).encode(), f"field {field!r} is {type(text).__name__}, expected text")
    return own, _sample(position, text.encode("utf-8", "surrogatepass"), group, condition)


def _csv(path: Path) -> Iterable[Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSource(f"{path}: not valid UTF-8 at byte {error.start}; save it as UTF-8") from error
    csv.field_size_limit(2**27)
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 2):
            yield _from_row(f"row-{number}", {k: v for k, v in row.items() if k is not None}, path)
    except csv.Error as error:
        raise BadSource(f"{path}: not a readable CSV file: {error}") from error


def _parquet(path: Path) -> Iterable[Row]:
    try:
        import pandas as pd

        table = pd.read_parquet(path)
    except ImportError as error:
        raise BadSource(f"{path}: reading .parquet needs pyarrow; pip install pyarrow, or convert to .jsonl") from error
    except Exception as error:
        raise BadSource(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from error
    for number, row in enumerate(table.to_dict("records"), 1):
        yield _from_row(f"row-{number}", {str(k): v for k, v in row.items()}, path)


_READERS: dict[str, Callable[[Path], Iterable[Row]]] = {
    ".txt": _txt,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
SUFFIXES = tuple(_READERS)
