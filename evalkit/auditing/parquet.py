"""A sealed audit as a Parquet table with typed columns, written a row group at a time.

Needs the extra: pip install 'evalkit[parquet]'. `name` is the name's bytes, so that hostile names survive; facts of a
piece of evidence are strict JSON text, because no two readers of evidence share a shape.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import BadSetting

ROW_GROUP = 8192
# Columns that keep their lists; a record's other members are one value each.
LISTS = ("detectors", "evidence", "conflicts", "warnings", "reasons")
_TEXTS = (
    "id", "sha256", "modality", "format", "state", "stage", "decoder", "verdict", "rule", "reason", "decision",
    "decided_verdict", "record", "previous",
)  # fmt: skip
_NUMBERS = ("p_fake", "p_value", "q_value", "threshold_low", "threshold_high")
_DETECTOR_TEXTS = ("name", "digest", "trained_on")
_DETECTOR_NUMBERS = ("score", "p_fake", "p_calibrated", "p_value", "threshold_low", "threshold_high")
_EVIDENCE_TEXTS = ("kind", "says", "strength", "source", "detail")


def write_parquet(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows (a flat record with its LISTS) as one table. Raises BadSetting when the extra is not installed."""
    try:
        arrow: Any = importlib.import_module("pyarrow")
        tables: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BadSetting("a .parquet export needs pyarrow: pip install 'evalkit[parquet]'") from error
    schema = _schema(arrow)
    turned, writer = iter(rows), tables.ParquetWriter(str(path), schema, compression="zstd")
    with writer:
        while group := [_row(row) for row in islice(turned, ROW_GROUP)]:
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def _schema(arrow: Any) -> Any:
    text, number, whole = arrow.string(), arrow.float64(), arrow.int64()
    detector = [(name, text) for name in _DETECTOR_TEXTS] + [(name, number) for name in _DETECTOR_NUMBERS]
    evidence = [*((name, text) for name in _EVIDENCE_TEXTS), ("p_value", number), ("facts", text)]
    return arrow.schema(
        [
            ("position", whole),
            ("name", arrow.binary()),
            *((name, text) for name in _TEXTS),
            *((name, whole) for name in ("bytes", "width", "height")),
            *((name, number) for name in _NUMBERS),
            ("flagged", arrow.bool_()),
            ("detectors", arrow.list_(arrow.struct(detector))),
            ("evidence", arrow.list_(arrow.struct(evidence))),
            *((name, arrow.list_(text)) for name in ("conflicts", "warnings")),
            ("reasons", arrow.map_(text, text)),
        ]
    )


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    name = bytes.fromhex(row["name_hex"]) if "name_hex" in row else str(row["id"]).encode()
    return {
        **row,
        "name": name,
        # A number is written 1 where it is whole, and a column has one type.
        **{key: _float(row.get(key)) for key in _NUMBERS},
        **{key: _whole(row.get(key)) for key in ("bytes", "width", "height")},
        "detectors": [_detector(d) for d in row["detectors"]],
        "evidence": [
            {**e, "p_value": _float(e["p_value"]), "facts": json.dumps(e["facts"], allow_nan=False)}
            for e in row["evidence"]
        ],
        "reasons": [(kind, str(said)) for kind, said in (row["reasons"] or {}).items()],
    }


def _detector(told: Mapping[str, Any]) -> dict[str, Any]:
    low, high = told["threshold"]
    numbers = {**told, "threshold_low": low, "threshold_high": high}
    return {**told, **{key: _float(numbers[key]) for key in _DETECTOR_NUMBERS}}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _whole(value: Any) -> int | None:
    """An integer of 64 bits; None where a record has a larger one, which it keeps as text."""
    return value if isinstance(value, int) else None
