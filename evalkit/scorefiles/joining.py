"""The runs of several files made ready: truths joined by id, names told apart, directions settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import BadSource, UsageError
from .reading import SIDES, fields_of, read_columns, read_scores, roles_of, truth_of
from .recorded import UNKNOWN, Recorded


def runs_from(paths: Sequence[Path], columns: Mapping[str, str], truth: str | None) -> list[Recorded]:
    """The runs of all files, each under a name of its own.

    truth: real or fake for every text that is not labelled, or a file of rows whose label and other columns are joined
    to the scores by id. Raises UsageError for a truth that is neither, BadSource when it names no text of a run.
    """
    runs = [run for path in paths for run in _named(path, read_scores(path, columns), len(paths) > 1)]
    seen: Counter[str] = Counter()
    told_apart = []
    for run in runs:
        seen[run.name] += 1
        told_apart.append(replace(run, name=f"{run.name}#{seen[run.name]}") if seen[run.name] > 1 else run)
    return told(told_apart, truth)


def _named(path: Path, runs: list[Recorded], several: bool) -> list[Recorded]:
    """Runs of several files say which file they are of."""
    if not several or (len(runs) == 1 and runs[0].name == path.stem):
        return runs
    return [replace(run, name=f"{path.stem}: {run.name}") for run in runs]


def told(runs: Sequence[Recorded], truth: str | None) -> list[Recorded]:
    """The runs with the truth that is told of them; errors as in `runs_from`."""
    if truth is None:
        return list(runs)
    if truth in SIDES:
        code = SIDES[truth]
        return [replace(run, truth=np.where(run.truth == UNKNOWN, code, run.truth).astype(np.int8)) for run in runs]
    path = Path(truth)
    if not path.is_file():
        raise UsageError(f"--truth {truth!r}; expected real, fake, or a file of rows with columns id and label")
    columns = read_columns(path)
    roles = roles_of(path, columns, {})
    if "id" not in roles:
        raise BadSource(
            f"{path} has columns {', '.join(map(str, list(columns)[:12]))}; expected id, and label or model"
        )
    ids = [str(x) for x in columns[roles["id"]]]
    place = dict(zip(ids, range(len(ids)), strict=True))
    if len(place) < len(ids):
        raise BadSource(f"{path}: {len(ids):,} rows have {len(place):,} ids; give each text one row")
    codes, fields = truth_of(path, columns, roles), fields_of(columns, roles)
    return [_joined(run, place, codes.tolist(), fields, path) for run in runs]


def _joined(
    run: Recorded, place: Mapping[str, int], codes: Sequence[int], fields: Mapping[str, Sequence[str]], path: Path
) -> Recorded:
    rows = [place.get(name) for name in run.ids]
    if all(row is None for row in rows):
        raise BadSource(f"{path} names none of the {len(run):,} texts of {run.name}, such as {run.ids[0]!r}")
    known = [UNKNOWN if row is None else codes[row] for row in rows]
    truth = np.where(run.truth == UNKNOWN, np.array(known, dtype=np.int8), run.truth).astype(np.int8)
    more = {name: ["" if row is None else words[row] for row in rows] for name, words in fields.items()}
    return replace(run, truth=truth, fields={**more, **run.fields})
