"""The texts of a set with their groups, ready for the audit: what cannot be read is listed, never passed over."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadSetting, ModalityMismatch, UnreadableSample
from ..samples import some
from ..types import Excluded, SampleSet
from .openings import group_of

MOST = 4000  # texts of a set that are read


@dataclass(frozen=True)
class Side:
    """One side: of each text its id, what it says and the group it must not be parted from."""

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)


def read(
    samples: SampleSet, seed: int, field: str | None = None, most: int = MOST
) -> tuple[Side, tuple[Excluded, ...]]:
    """At most `most` texts of a set, drawn by content and seed, and what of those could not be read.

    field: where the groups are given; a text without one is grouped by its opening. Raises ModalityMismatch where the
    set holds no texts, BadSetting where no text has the field.
    """
    if samples.modality != "text":
        raise ModalityMismatch(f"{samples.name!r} holds {samples.modality} samples, expected text")
    listed, given = tuple(samples), _given(samples, field)
    ids, texts, groups, out = [], [], [], []
    for i in some(samples, most, seed):
        try:
            text = listed[i].load()
        except UnreadableSample as error:
            out.append(Excluded(listed[i].id, str(error)))
            continue
        assert isinstance(text, str)
        ids.append(listed[i].id)
        texts.append(text)
        groups.append(group_of(text.split()) if given[i] is None else f"{field}={given[i]}")
    return Side(samples.name, tuple(ids), tuple(texts), tuple(groups)), tuple(out)


def _given(samples: SampleSet, field: str | None) -> Sequence[str | None]:
    """The group of each sample by `group`, by `condition`, or by a field of its .jsonl or column of its .csv file."""
    listed = tuple(samples)
    if field is None:
        return [None] * len(listed)
    path = Path(str(getattr(samples, "source", "")))
    rows = _rows(path) if path.is_file() else {}
    found = [_word(rows.get(sample.id, {}).get(field)) for sample in listed]
    if not any(found) and field in ("group", "condition"):
        found = [_word(getattr(sample, field)) for sample in listed]
    if not any(found):
        raise BadSetting(
            f"--groups {field!r}: no text of {samples.name!r} has it; expected a field of its .jsonl or a column of its"
            " .csv file, or `group` or `condition`"
        )
    return found


def _word(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a file that was opened as samples, by the ids its samples have."""
    if path.suffix.lower() == ".csv":
        text = path.read_bytes().decode("utf-8-sig")
        return {f"row-{i}": row for i, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 2)}
    if path.suffix.lower() != ".jsonl":
        return {}
    found = {}
    for number, line in enumerate(path.read_bytes().rstrip().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found[f"line-{number}"] = row
    return found
