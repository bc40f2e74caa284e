"""Score files of others: rows in .csv, .jsonl, .json or .parquet, and the layouts that published detectors leave.

Rows have a column `score`, perhaps `id`, `label` and what is known of each text. Of JSON these layouts are known by
their shape: one run as Fast-DetectGPT records it ({"predictions": {"real": [...], "samples": [...]}}), a collection of
such runs by name ({NAME: {"real": [...], "samples": [...]}}), and scores by group and detector
({GROUP: {DETECTOR: [...]}}, whose truth is not told).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadSource, NothingToEvaluate
from ..judging.truths import LABELS
from .recorded import HUMAN, MACHINE, UNKNOWN, Codes, Recorded

# What a column may be called; the first one that is there is taken. --column NAME=THEIRS names another.
ROLES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "sample", "file"),
    "score": ("score", "p_fake", "prediction"),
    "label": ("label", "truth", "is_fake", "is_machine", "generated"),
    "text": ("text", "generation", "document", "content"),
    "domain": ("domain", "data_type"),
    "model": ("model", "generator", "llm_type"),
    "decoding": ("decoding",),
    "repetition_penalty": ("repetition_penalty",),
    "attack": ("attack",),
    "group": ("group",),
    "detector": ("detector",),
}
SIDES = {"real": HUMAN, "fake": MACHINE}
TRUTHS = {word: SIDES[side] for word, side in LABELS.items()} | {
    **dict.fromkeys(("human-written", "human_written", "0.0", "false"), HUMAN),
    **dict.fromkeys(("machine", "ai", "llm", "generated", "ai-generated", "1.0", "true"), MACHINE),
}
MISSING = ("", "nan", "null", "none", "na", "n/a", "-")
SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
Columns = dict[str, list[Any]]


def read_scores(path: Path, columns: Mapping[str, str] | None = None) -> list[Recorded]:
    """The runs in a score file. columns: role -> the file's own name for it.

    Raises BadSource for a file that is no score file, NothingToEvaluate for an empty one.
    """
    data = _bytes(path)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if path.suffix.lower() == ".json":
        body = _json(path, data)
        if found := list(_known_layout(path, body, digest)):
            return found
        return runs_of(path, _from_rows(path, body), columns or {}, digest)
    return runs_of(path, read_columns(path, data), columns or {}, digest)


def read_columns(path: Path, data: bytes | None = None) -> Columns:
    """Every column of a file of rows, by its name; None where a row has no such field. Errors as in `read_scores`."""
    data = _bytes(path) if data is None else data
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _from_csv(path, _decoded(path, data))
    if suffix == ".jsonl":
        return _from_rows(path, list(_json_lines(path, data)))
    if suffix == ".json":
        return _from_rows(path, _json(path, data))
    if suffix == ".parquet":
        return _from_parquet(path)
    raise BadSource(f"{path}: expected a score file, one of {' '.join(SUFFIXES)}")


# Files ----------------------------------------------------------------------------------------------------------------


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadSource(f"cannot read score file {str(path)!r}: {error.strerror or error}") from error
    if not data.strip():
        raise NothingToEvaluate(f"{path} is empty; expected scores")
    return data


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSource(f"{path}: not valid UTF-8 at byte {error.start}; save it as UTF-8") from error


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(_decoded(path, data))
    except (ValueError, RecursionError) as error:
        raise BadSource(f"{path} is not JSON: {error}") from error


def _json_lines(path: Path, data: bytes) -> Iterator[Any]:
    for number, line in enumerate(_decoded(path, data).splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                expected = 'expected one object a line, such as {"id": "a", "score": 0.7, "label": "human"}'
                raise BadSource(f"{path}: line {number} is not JSON ({error}); {expected}") from error


def _from_rows(path: Path, rows: Any) -> Columns:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadSource(
            f"{path}: expected a list of rows with a score each, or a known layout of recorded runs (predictions of"
            " real and samples, or scores by group and detector)"
        )
    if not rows:
        raise NothingToEvaluate(f"{path} holds no rows")
    names = dict.fromkeys(name for row in rows for name in row)
    return {str(name): [row.get(name) for row in rows] for name in names}


def _from_csv(path: Path, text: str) -> Columns:
    csv.field_size_limit(2**27)
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise BadSource(f"{path}: not a readable CSV file: {error}") from error
    header, lines = rows[0], [row for row in rows[1:] if row]
    if not lines:
        raise NothingToEvaluate(f"{path} has a header and no rows")
    uneven = next((i for i, row in enumerate(lines, 2) if len(row) != len(header)), None)
    if uneven is not None:
        raise BadSource(f"{path}: row {uneven} has {len(lines[uneven - 2])} fields, the header {len(header)}")
    if len(set(header)) < len(header):
        raise BadSource(f"{path}: two columns have one name; the header is {', '.join(header[:12])}")
    return dict(zip(header, map(list, zip(*lines, strict=True)), strict=True))


def _from_parquet(path: Path) -> Columns:
    try:
        import pandas as pd

        table = pd.read_parquet(path)
    except ImportError as error:
        raise BadSource(f"{path}: reading .parquet needs pyarrow; pip install pyarrow, or convert to .csv") from error
    except Exception as error:
        raise BadSource(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from error
    if not len(table):
        raise NothingToEvaluate(f"{path} holds no rows")
    return {str(name): table[name].tolist() for name in table.columns}


# Rows -----------------------------------------------------------------------------------------------------------------


def roles_of(path: Path, columns: Columns, named: Mapping[str, str]) -> dict[str, str]:
    """Role -> name of its column. Raises BadSource for a column that was named and is not there."""
    lower = {name.strip().lower(): name for name in columns}
    found = {}
    for role, names in ROLES.items():
        known = next((lower[name] for name in names if name in lower), None)
        if known is not None:
            found[role] = known
    for role, name in named.items():
        if name not in columns:
            raise BadSource(f"{path} has no column {name!r}; it has {_shown(columns)}")
        found[role] = name
    return found


def _shown(names: Any) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")


def runs_of(path: Path, columns: Columns, named: Mapping[str, str], digest: str) -> list[Recorded]:
    """The runs in columns of rows, one a detector where a column says which."""
    roles = roles_of(path, columns, named)
    if "score" not in roles:
        raise BadSource(f"{path} has columns {_shown(columns)}; expected a column score")
    scores = _numbers(path, columns[roles["score"]])
    n = len(scores)
    ids = _words(columns[roles["id"]]) if "id" in roles else [f"row-{i + 1}" for i in range(n)]
    whole = Recorded(path.stem, scores, truth_of(path, columns, roles), ids, fields_of(columns, roles), digest=digest)
    if "detector" not in roles:
        return [whole]
    which = np.array(whole.fields["detector"], dtype=object)
    names = sorted(set(whole.fields["detector"]))
    if len(names) == 1:
        return [whole]
    parts = ((name, whole.only(np.asarray(which == name, dtype=np.bool_))) for name in names)
    return [Recorded(name, x.scores, x.truth, x.ids, x.fields, digest=digest) for name, x in parts]


def fields_of(columns: Columns, roles: Mapping[str, str]) -> dict[str, list[str]]:
    """What is known of each text, by role where there is one and by the column's own name."""
    taken = {roles.get(role) for role in ("id", "score", "text")}
    own = {name: role for role, name in roles.items()}
    found = {}
    for name, values in columns.items():
        if name not in taken:
            found[own.get(name, name)] = _words(values)
    return found


def _words(values: Sequence[Any]) -> list[str]:
    return ["" if value is None else str(value) for value in values]


def _numbers(path: Path, values: Sequence[Any]) -> Any:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([_number(path, i, value) for i, value in enumerate(values)], dtype=np.float64)


def _number(path: Path, i: int, value: Any) -> float:
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadSource(f"{path}: score {str(value)[:40]!r} of row {i + 1} is no number") from error


def truth_of(path: Path, columns: Columns, roles: Mapping[str, str]) -> Codes:
    """The truth of each row [N]: its label, else whether its model is called human; -1 where nothing says it."""
    n = len(next(iter(columns.values())))
    if "label" not in roles:
        models = [word.strip().lower() for word in _words(columns[roles["model"]])] if "model" in roles else []
        if "human" not in models:
            return np.full(n, UNKNOWN, dtype=np.int8)
        return np.array([HUMAN if word == "human" else MACHINE if word else UNKNOWN for word in models], dtype=np.int8)
    known: dict[Any, int] = {}
    codes = np.empty(n, dtype=np.int8)
    for i, value in enumerate(columns[roles["label"]]):
        word = value if isinstance(value, str) else "" if value is None else str(value)
        if word not in known:
            known[word] = _code(path, i, word)
        codes[i] = known[word]
    return codes


def _code(path: Path, i: int, word: str) -> int:
    clean = word.strip().lower()
    if clean in MISSING:
        return UNKNOWN
    if clean not in TRUTHS:
        raise BadSource(f"{path}: label {word[:40]!r} of row {i + 1}; expected human or machine (real, fake, 0, 1)")
    return TRUTHS[clean]


# Layouts --------------------------------------------------------------------------------------------------------------


def _known_layout(path: Path, body: Any, digest: str) -> Iterator[Recorded]:
    """The runs of a recorded layout; none when the JSON has another shape."""
    if not isinstance(body, dict) or not body:
        return
    if isinstance(body.get("predictions"), dict):
        yield _pair(path, str(body.get("name", path.stem)), body["predictions"], _claims(body), digest)
    elif all(isinstance(run, dict) and {"real", "samples"} <= set(run) for run in body.values()):
        for name, run in body.items():
            yield _pair(path, str(name), run, _claims(run), digest)
    elif all(isinstance(by, dict) and by and all(isinstance(x, list) for x in by.values()) for by in body.values()):
        yield from _by_group(path, body, digest)


def _pair(path: Path, name: str, run: Mapping[str, Any], claims: Mapping[str, float], digest: str) -> Recorded:
    sides = [run.get("real"), run.get("samples")]
    if not all(isinstance(side, list) for side in sides):
        raise BadSource(f"{path}: {name} has predictions without lists real and samples")
    human, machine = (_numbers(path, side or []) for side in sides)
    ids = [f"human-{i + 1}" for i in range(len(human))] + [f"machine-{i + 1}" for i in range(len(machine))]
    truth = np.repeat(np.array([HUMAN, MACHINE], dtype=np.int8), [len(human), len(machine)])
    return Recorded(name, np.concatenate([human, machine]), truth, ids, claims=claims, digest=digest)


def _claims(run: Mapping[str, Any]) -> dict[str, float]:
    """AUROC and area under the precision-recall curve as the file gives them, at its top or in blocks of their own."""
    blocks = [run, *(run[key] for key in ("metrics", "pr_metrics") if isinstance(run.get(key), dict))]
    found = {}
    for key in ("roc_auc", "pr_auc"):
        value = next((block[key] for block in blocks if isinstance(block.get(key), int | float)), None)
        if value is not None and math.isfinite(value):
            found[key] = float(value)
    return found


def _by_group(path: Path, body: Mapping[str, Mapping[str, list[Any]]], digest: str) -> Iterator[Recorded]:
    for detector in dict.fromkeys(name for by in body.values() for name in by):
        own = {group: _numbers(path, by[detector]) for group, by in body.items() if detector in by}
        groups = [group for group, scores in own.items() for _ in range(len(scores))]
        ids = [f"{group}-{i + 1}" for group, scores in own.items() for i in range(len(scores))]
        scores = np.concatenate(list(own.values()))
        truth = np.full(len(scores), UNKNOWN, dtype=np.int8)
        yield Recorded(str(detector), scores, truth, ids, {"group": groups}, digest=digest)
