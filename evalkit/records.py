"""Run records and JSON: strict (no NaN, no Infinity), with a schema number, written beside and renamed into place."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from .cache import beside
from .errors import BadRecord, UnwritableOutput
from .types import Excluded, MetricResult, Modality, Moves, Reference, Role, RunRecord, Share, Subject

RUN_SCHEMA = "evalkit.run/1"
# What a record keeps of how far samples move a number (evalkit/pairing.py writes it): places, and the largest part.
MOST_PLACES, LARGEST_PART = 256, 999
_USUAL = {str(i): i for i in range(-LARGEST_PART, LARGEST_PART + 1)}


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
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord(f"{path} is not strict JSON ({error}); expected a run record, schema {RUN_SCHEMA}") from error
    schema = body.get("schema") if isinstance(body, dict) else None
    if schema != RUN_SCHEMA:
        raise BadRecord(f"{path} has schema {schema!r}; this version reads {RUN_SCHEMA!r}: score again, or upgrade")
    try:
        return _record(body)
    except KeyError as error:
        raise BadRecord(f"{path} is a damaged {RUN_SCHEMA} record: {error} is missing; score again") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        said = str(error)[:200]
        raise BadRecord(f"{path} is a damaged {RUN_SCHEMA} record: {said}; score again") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")


def _record(body: dict[str, Any]) -> RunRecord:
    results = tuple(_result(result) for result in body["results"])
    twice = [name for name, count in Counter(r.name for r in results).items() if count > 1]
    if twice:
        raise ValueError(f"it holds {twice[0][:80]!r} twice")
    timing = body.get("timing")
    return RunRecord(
        subject=_subject(body["subject"]),
        reference=_reference(body.get("reference")),
        train=_reference(body.get("train")),
        seed=int(body["seed"]),
        results=results,
        timing=None if timing is None else _mapping(timing, "timing"),
        environment=_mapping(body["environment"], "environment"),
        excluded=tuple(Excluded(str(e["id"]), str(e["reason"])) for e in body.get("excluded", ())),
        warnings=tuple(str(w) for w in body.get("warnings", ())),
        attribution=_attribution(body.get("attribution")),
    )


def _result(body: dict[str, Any]) -> MetricResult:
    """One number, checked: edited by hand it would be believed otherwise."""
    value = _number(body["value"], "value")
    known = "low" in body or "high" in body
    fields = {"level": 0.95, "interval": "none", "seconds": 0.0, "terms": {}, **body, "value": value}
    if not known:
        # Without ends a method's name would promise an interval of no width.
        fields.update(low=value, high=value, interval="none")
    # Shortened and printable: it goes into an error line.
    name = str(body["name"])[:80]
    for key in ("name", "interval", "unit", "protocol"):
        if not isinstance(fields[key], str) or not (fields[key] or key == "unit"):
            raise ValueError(f"{key} of {name!r} is {str(fields[key])[:40]!r}, expected text")
    for key in ("low", "high", "level", "seconds"):
        fields[key] = _number(fields[key], f"{key} of {name!r}")
    low, high = fields["low"], fields["high"]
    if not low <= value <= high:
        raise ValueError(f"{name!r} is {value:g}, outside its interval [{low:g}, {high:g}]")
    if not 0 < fields["level"] < 1:
        raise ValueError(f"level of {name!r} is {fields['level']:g}, expected a share such as 0.95")
    if fields["better"] not in ("lower", "higher"):
        raise ValueError(f"better of {name!r} is {str(fields['better'])[:40]!r}, expected lower or higher")
    counts = _mapping(fields["n"], f"n of {name!r}")
    fields["n"] = {side: _count(count, f"n of {name!r}") for side, count in counts.items()}
    fields["version"] = _count(fields["version"], f"version of {name!r}")
    fields["terms"] = _mapping(fields["terms"], f"terms of {name!r}")
    fields["moves"] = _moves(body.get("moves", {}))
    return MetricResult(**{f.name: fields[f.name] for f in dataclasses.fields(MetricResult)})


def _number(value: Any, what: str) -> float:
    """A finite number that JSON holds as a number: "NaN" as text, true and 1e999 are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} is {str(value)[:40]!r}, expected a finite number")
    return float(value)


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{what} is {str(value)[:40]!r}, expected a whole number, 0 or more")
    return value


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {str(value)[:40]!r}, expected an object")
    return value


def _subject(body: dict[str, Any]) -> Subject:
    found = Subject(**body)
    texts = (found.name, found.source, found.digest)
    if not found.name or not all(isinstance(text, str) for text in texts):
        raise ValueError("its subject needs name, source and digest as text")
    _count(found.n, "n of its subject")
    if found.modality not in get_args(Modality):
        raise ValueError(
            f"its modality is {str(found.modality)[:40]!r}, expected one of {', '.join(get_args(Modality))}"
        )
    if found.role not in get_args(Role):
        raise ValueError(f"its role is {str(found.role)[:40]!r}, expected one of {', '.join(get_args(Role))}")
    return found


def _whole(text: str) -> tuple[int, ...]:
    """Whole numbers between spaces; the usual ones as one object each, or thousands of records fill the memory."""
    return tuple(_USUAL[word] if word in _USUAL else int(word) for word in text.split())


def _moves(body: Any) -> dict[str, Moves]:
    """How far each side moves a number; ValueError when that cannot have been worked out by this program.

    It narrows the interval of a difference, so an edited one must not be believed half.
    """
    if not isinstance(body, dict):
        raise ValueError(f"moves are {type(body).__name__}; expected one entry a side")
    found = {}
    for side, moved in body.items():
        key, share, parts = str(moved["key"]), float(moved["share"]), _whole(str(moved["parts"]))
        # The key ends in the number of samples, of which up to so many have a place of their own.
        n = int(key.rpartition(":")[2])
        if len(parts) != min(n, MOST_PLACES):
            raise ValueError(f"moves of {side!r} have {len(parts)} parts; {n} samples have {min(n, MOST_PLACES)}")
        if not 0 <= share <= 1 or any(abs(part) > LARGEST_PART for part in parts):
            raise ValueError(
                f"moves of {side!r} are out of range: share 0 to 1, parts -{LARGEST_PART} to {LARGEST_PART}"
            )
        found[str(side)] = Moves(key, share, parts)
    return found


def _attribution(body: dict[str, Any] | None) -> dict[str, tuple[Share, ...]] | None:
    return None if body is None else {str(name): tuple(Share(**s) for s in shares) for name, shares in body.items()}


def _reference(body: dict[str, Any] | None) -> Reference | None:
    return None if body is None else Reference(str(body["name"]), int(body["n"]), str(body["digest"]))
