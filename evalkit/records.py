"""Run records and JSON: strict (no NaN, no Infinity), with a schema number, written beside and renamed into place."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .cache import beside
from .errors import BadRecord, UnwritableOutput
from .types import Excluded, MetricResult, Moves, Reference, RunRecord, Share, Subject

RUN_SCHEMA = "evalkit.run/1"


def to_json(record: RunRecord) -> dict[str, Any]:
    """The record as plain JSON types, fields in a fixed order, absent values left out."""
    body = cast(dict[str, Any], _plain(record))
    ordered = {"schema": body.pop("schema"), **body}
    if ordered["attribution"] is None:
        del ordered["attribution"]
    for result in ordered["results"]:
        if result["low"] is None or result["high"] is None:
            del result["low"], result["high"]
        if not result["moves"]:
            del result["moves"]
        for moved in result.get("moves", {}).values():
            # One line for what would be hundreds.
            moved["parts"] = " ".join(map(str, moved["parts"]))
    return ordered


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(document: Any) -> str:
    """Strict JSON text, ending in a newline; ValueError on NaN or Infinity."""
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=True) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; UnwritableOutput when its folder cannot be written."""
    try:
        with beside(path) as draft:
            draft.write_text(text, "utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise UnwritableOutput(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def write_record(record: RunRecord, path: Path) -> None:
    """Write one run record as JSON."""
    write_text(path, dumps(to_json(record)))


def read_record(path: Path) -> RunRecord:
    """The run record of a JSON file; BadRecord when it is not one, or of a schema this version does not know."""
    try:
        body = json.loads(path.read_text("utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise BadRecord(f"cannot read record {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise BadRecord(f"{path} is not strict JSON ({error}); expected a run record, schema {RUN_SCHEMA}") from error
    schema = body.get("schema") if isinstance(body, dict) else None
    if schema != RUN_SCHEMA:
        raise BadRecord(f"{path} has schema {schema!r}; this version reads {RUN_SCHEMA!r}: score again, or upgrade")
    try:
        return _record(body)
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{path} is a damaged {RUN_SCHEMA} record: {type(error).__name__} {error}") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")


def _record(body: dict[str, Any]) -> RunRecord:
    results = []
    for result in body["results"]:
        value = float(result["value"])
        fields = {"low": value, "high": value, "level": 0.95, "interval": "none", "seconds": 0.0, "terms": {}, **result}
        fields["moves"] = {str(side): _moves(moved) for side, moved in result.get("moves", {}).items()}
        results.append(MetricResult(**{f.name: fields[f.name] for f in dataclasses.fields(MetricResult)}))
    return RunRecord(
        subject=Subject(**body["subject"]),
        reference=_reference(body.get("reference")),
        train=_reference(body.get("train")),
        seed=int(body["seed"]),
        results=tuple(results),
        timing=body.get("timing"),
        environment=dict(body["environment"]),
        excluded=tuple(Excluded(e["id"], e["reason"]) for e in body.get("excluded", ())),
        warnings=tuple(str(w) for w in body.get("warnings", ())),
        attribution=_attribution(body.get("attribution")),
    )


def _moves(body: dict[str, Any]) -> Moves:
    return Moves(str(body["key"]), float(body["share"]), tuple(map(int, str(body["parts"]).split())))


def _attribution(body: dict[str, Any] | None) -> dict[str, tuple[Share, ...]] | None:
    return None if body is None else {str(name): tuple(Share(**s) for s in shares) for name, shares in body.items()}


def _reference(body: dict[str, Any] | None) -> Reference | None:
    return None if body is None else Reference(str(body["name"]), int(body["n"]), str(body["digest"]))
