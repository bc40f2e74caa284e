"""Findings and rulings as JSON: the record `evalkit.audit/1` that is sealed, and the document that the store keeps.

The store's document is exact: what is read back equals what was written, with numbers that are not finite, lone
surrogates and large integers in tagged form ({"$": [kind, text]}), because strict JSON has none of them. The record is
what people and pipelines read: every text is Unicode, every number one that RFC 8785 can say (`custody.plain`), and
what a run alone knows (seconds, memory of a worker) is left out, so that equal findings have equal records.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import BadRecord
from ..types import Evidence, Finding, Opened, Opinion, Ruling
from .custody import MOST_DEPTH, RECORD_SCHEMA, SAFE_INTEGER, TOO_DEEP, is_sayable, plain, text

TAG = "$"
_T = TypeVar("_T", Evidence, Opinion, Opened, Finding)
_OPENED = ("state", "stage", "decoder", "format", "modality", "width", "height", "facts", "hashes")
_RULING = ("verdict", "rule", "p_fake", "p_value", "q_value", "flagged", "reasons", "conflicts")
_EVIDENCE = tuple(f.name for f in dataclasses.fields(Evidence))
_OPINION = ("name", "digest", "trained_on", "score", "p_fake", "p_calibrated", "p_value", "reasons")

# ---------------------------------------------------------------------------------------------- record


def record_of(finding: Finding, ruling: Ruling) -> dict[str, Any]:
    """One `evalkit.audit/1` record without its place in the chain ("previous" and "hash" are added when it is sealed).

    name_hex: the bytes of the name, where they are not the UTF-8 of `id`. reason: never null of an unreadable file.
    threshold: [low, high] on P(fake) where all detectors share one. A number that is not finite is null, with a
    warning. All values are such that `custody.canonical` takes them.
    """
    opened, warnings = finding.opened, [text(w) for w in finding.opened.warnings]
    name = text(finding.id)
    evidence = [_evidence_told(e, warnings) for e in _all_evidence(finding)]
    detectors = [_detector(o, warnings) for o in finding.opinions]
    thresholds = [d["threshold"] for d in detectors]
    concluded = _plain(ruling, _RULING, "ruling", warnings)
    unreadable = ruling.verdict == "unreadable" or not opened.readable
    reason = opened.reason or (f"{opened.state}: no reason was given" if unreadable else None)
    return {
        "schema": RECORD_SCHEMA,
        "id": name,
        "position": finding.position,
        **({} if name.encode() == finding.name else {"name_hex": finding.name.hex()}),
        "sha256": finding.sha256,
        "bytes": plain(finding.bytes),
        **_plain(opened, _OPENED, "file", warnings),
        **concluded,
        "threshold": thresholds[0] if thresholds and all(t == thresholds[0] for t in thresholds) else None,
        "detectors": detectors,
        "evidence": evidence,
        "spans": [],
        "reason": None if reason is None else text(reason),
        "warnings": warnings,
    }


def _all_evidence(finding: Finding) -> tuple[Evidence, ...]:
    """What the file said when it was opened, then what was found besides; each once."""
    here = finding.evidence
    return here if here[: len(finding.opened.evidence)] == finding.opened.evidence else finding.opened.evidence + here


def _plain(of: Any, names: tuple[str, ...], what: str, warnings: list[str]) -> dict[str, Any]:
    return {name: _number(getattr(of, name), f"{name} of {what}", warnings) for name in names}


def _number(value: Any, what: str, warnings: list[str]) -> Any:
    if isinstance(value, float) and not is_sayable(value):
        said = text(f"{what} is not a finite number of reasonable size: left out")
        if said not in warnings:
            warnings.append(said)
        return None
    return plain(value)


def _detector(opinion: Opinion, warnings: list[str]) -> dict[str, Any]:
    told = _plain(opinion, _OPINION, opinion.name, warnings)
    ends = zip(("low", "high"), (opinion.low, opinion.high), strict=True)
    return {**told, "threshold": [_number(v, f"{end} threshold of {opinion.name}", warnings) for end, v in ends]}


def _evidence_told(evidence: Evidence, warnings: list[str]) -> dict[str, Any]:
    """A piece of evidence; a match of the user's list is a fingerprint "of" that list, in the kinds a record has."""
    told = _plain(evidence, _EVIDENCE, f"evidence {evidence.source}", warnings)
    return {**told, "kind": "fingerprint", "of": "list"} if evidence.kind == "known" else told


def kind_of(told: Mapping[str, Any]) -> Any:
    """The kind of a record's evidence, with "known" for a match of the user's list."""
    return "known" if told.get("of") == "list" else told["kind"]


def restored(record: Mapping[str, Any]) -> tuple[Finding, Ruling]:
    """Finding and ruling as a record says them; `record_of` makes the same record of them again.

    What a record does not hold (seconds and memory of the worker, which evidence came from which stage) is empty; a
    detector's number that was not finite is NaN. Raises BadRecord.
    """
    try:
        name = bytes.fromhex(record["name_hex"]) if "name_hex" in record else str(record["id"]).encode()
        opened = {key: record[key] for key in _OPENED}
        ruling = {key: record[key] for key in _RULING}
        return Finding(
            record["position"], record["id"], name, record["sha256"], record["bytes"],
            Opened(**opened, reason=record["reason"], warnings=tuple(record["warnings"])),
            tuple(_opinion(o) for o in record["detectors"]),
            tuple(Evidence(**{**{key: e[key] for key in _EVIDENCE}, "kind": kind_of(e)}) for e in record["evidence"]),
        ), Ruling(**{**ruling, "conflicts": tuple(ruling["conflicts"])})  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(f"a damaged {RECORD_SCHEMA} record: {str(error)[:200]}; verify the audit") from error


def _opinion(told: Mapping[str, Any]) -> Opinion:
    body: dict[str, Any] = {key: told[key] for key in _OPINION}
    body |= dict(zip(("low", "high"), told["threshold"], strict=True))
    optional = ("p_calibrated", "p_value")
    filled: dict[str, Any] = {k: math.nan if v is None and k not in optional else v for k, v in body.items()}
    return Opinion(**filled)


# ---------------------------------------------------------------------------------------------- document


def document(finding: Finding) -> dict[str, Any]:
    """A finding as strict JSON, exactly: `finding_of` gives an equal one back.

    Values that are a field's default are absent; tuples inside facts become lists; facts nested deeper than 64 levels
    are cut. Raises BadRecord on facts that are no JSON.
    """
    first, whole = finding.opened.evidence, finding.evidence
    # What the file said when it was opened usually heads all evidence: it is kept once.
    shared = len(whole) >= len(first) and all(a is b for a, b in zip(first, whole, strict=False))
    return {
        **_kept_fields(finding),
        "name": finding.name.hex(),
        "opened": {**_kept_fields(finding.opened), "evidence": [_kept_fields(e) for e in first]},
        "opinions": [_kept_fields(o) for o in finding.opinions],
        "more" if shared else "evidence": [_kept_fields(e) for e in (whole[len(first) :] if shared else whole)],
    }


def finding_of(document: Mapping[str, Any]) -> Finding:
    """The finding that `document` was made of. Raises BadRecord when it is no such document."""
    try:
        first = _evidence(document["opened"]["evidence"])
        opened = _given(Opened, document["opened"], evidence=first)
        return _given(
            Finding,
            {key: value for key, value in document.items() if key != "more"},
            name=bytes.fromhex(document["name"]),
            opened=dataclasses.replace(opened, warnings=tuple(opened.warnings)),
            opinions=tuple(_given(Opinion, o) for o in document["opinions"]),
            evidence=(*first, *_evidence(document["more"])) if "more" in document else _evidence(document["evidence"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(f"a damaged finding in the store: {str(error)[:200]}; audit into another folder") from error


def _evidence(listed: list[Mapping[str, Any]]) -> tuple[Evidence, ...]:
    return tuple(_given(Evidence, e) for e in listed)


def _kept_fields(of: Any) -> dict[str, Any]:
    found = {}
    for one in dataclasses.fields(of):
        value = getattr(of, one.name)
        if one.name in ("name", "opened", "opinions", "evidence") and isinstance(of, Finding | Opened):
            continue  # written by `document`
        # Compared as written: -0.0 equals 0.0, and True equals 1.
        if not value if isinstance(value, Mapping) else repr(value) == repr(one.default):
            continue
        found[one.name] = _kept(value, 0)
    return found


def _given(noun: type[_T], told: Mapping[str, Any], **made: Any) -> _T:
    return noun(**{key: _back(value) for key, value in told.items() if key not in made}, **made)


def _kept(value: Any, depth: int) -> Any:
    """Strict JSON of any JSON value of Python's, tagged where strict JSON has no word for it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if _is_unicode(value) else {TAG: ["text", value.encode("utf-8", "surrogatepass").hex()]}
    if isinstance(value, int):
        return int(value) if abs(value) <= SAFE_INTEGER else {TAG: ["int", hex(value)]}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {TAG: ["float", str(float(value))]}
    if depth >= MOST_DEPTH:
        return TOO_DEEP
    if isinstance(value, Mapping):
        if all(isinstance(k, str) and _is_unicode(k) for k in value) and TAG not in value:
            return {k: _kept(v, depth + 1) for k, v in value.items()}
        return {TAG: ["map", [[_kept(k, depth + 1), _kept(v, depth + 1)] for k, v in value.items()]]}
    if isinstance(value, list | tuple):
        return [_kept(v, depth + 1) for v in value]
    raise BadRecord(f"a finding cannot hold {type(value).__name__}; expected text, numbers, lists and mappings")


def _is_unicode(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _back(value: Any) -> Any:
    if isinstance(value, list):
        return [_back(v) for v in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {k: _back(v) for k, v in value.items()}
    kind, held = value[TAG]
    if kind == "map":
        return {_back(k): _back(v) for k, v in held}
    if kind == "text":
        return bytes.fromhex(held).decode("utf-8", "surrogatepass")
    return int(held, 16) if kind == "int" else float(held)
