"""A sealed audit as SARIF 2.1.0 (OASIS, 2020), for code hosts and dashboards that take findings.

One result a file that is not authentic: synthetic is an error, what people must look at a warning, the rest a note. At
most 5,000 results, the most severe first, and under 10 MB, because that is what code hosts take; what is left out is
counted in the file. A name of a file is percent-encoded whole, so that no name becomes an address of something else.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import IO, Any
from urllib.parse import quote

from .ruling import TABLE
from .sealing import Seal

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST_RESULTS, MOST_BYTES, MOST_WORDS = 5000, 9_500_000, 1000
_LEVELS = {"synthetic": "error", "uncertain": "warning", "unreadable": "note"}
# Undecided for want of evidence: nothing speaks for looking at it first.
_NOTES = ("undecided",)
_RANK = {"error": 0, "warning": 1, "note": 2}


def write_sarif(records: Iterable[Mapping[str, Any]], seal: Seal, file: IO[bytes]) -> None:
    """Write the most severe results of an audit; records are read once, MOST_RESULTS of them are held."""
    levels: Counter[str] = Counter()
    heap: list[tuple[tuple[int, float, int], bytes, str]] = []
    rules: dict[str, str] = {rule.name: rule.when for rule in TABLE if rule.verdict != "authentic"}
    for record in records:
        verdict, name = str(record.get("verdict")), str(record.get("rule"))
        level = "note" if name in _NOTES else _LEVELS.get(verdict, "none")
        if level == "none":
            continue
        levels[level] += 1
        rules.setdefault(name, f"a rule of another version of evalkit; verdict {verdict}")
        p = record.get("p_value")
        key = (-_RANK[level], -(2.0 if p is None else float(p)), -int(record["position"]))
        if len(heap) < MOST_RESULTS or key > heap[0][0]:
            entry = (key, json.dumps(_result(record, level)).encode(), level)
            (heapq.heappush if len(heap) < MOST_RESULTS else heapq.heapreplace)(heap, entry)
    _write(file, sorted(heap, reverse=True), levels, _descriptors(rules), seal)


def _write(
    file: IO[bytes],
    held: list[tuple[tuple[int, float, int], bytes, str]],
    levels: Counter[str],
    descriptors: list[dict[str, Any]],
    seal: Seal,
) -> None:
    chosen, size, kept = [], 0, Counter[str]()
    for _, result, level in held:
        size += len(result) + 1
        if size > MOST_BYTES:
            break
        chosen.append(result)
        kept[level] += 1
    run = {
        "tool": {"driver": {"name": "evalkit audit", "rules": descriptors}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _left_out(levels, kept)}],
        "columnKind": "utf16CodeUnits",
        "properties": {
            "records": seal.count,
            "head": seal.head,
            "verdicts": seal.document.get("verdicts", {}),
            "results": {"found": levels.total(), "included": kept.total(), "leftOut": (levels - kept).total()},
        },
    }
    # The results go last, between what is before and behind them: they are text already.
    head = json.dumps({"$schema": SCHEMA, "version": "2.1.0"})[:-1] + ', "runs": [' + json.dumps(run)[:-1]
    file.write(head.encode() + b', "results": [\n' + b",\n".join(chosen) + b"]}]}\n")


def _left_out(levels: Counter[str], kept: Counter[str]) -> list[dict[str, Any]]:
    left = levels - kept
    if not left:
        return []
    each = ", ".join(f"{left[level]} of {levels[level]} {level}s" for level in _RANK if left[level])
    said = f"{left.total()} of {levels.total()} results are left out, the least severe: {each}. All are in audit.jsonl."
    return [{"level": "note", "message": {"text": said}}]


def _descriptors(rules: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"id": name, "shortDescription": {"text": words}, "fullDescription": {"text": words}}
            for name, words in rules.items()]  # fmt: skip


def _result(record: Mapping[str, Any], level: str) -> dict[str, Any]:
    numbers = {key: record[key] for key in ("p_fake", "p_value", "q_value") if record.get(key) is not None}
    return {
        "ruleId": record["rule"],
        "level": level,
        "kind": "fail",
        "message": {"text": _words(record)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(record)}}}],
        # The same content is the same finding in the next audit, wherever it lies.
        "partialFingerprints": {"evalkitContent/v1": str(record.get("sha256") or record.get("hash"))},
        "properties": {
            **{key: record.get(key) for key in ("position", "verdict", "state", "modality", "flagged")},
            **numbers,
            "record": record.get("hash"),
        },
    }


def _words(record: Mapping[str, Any]) -> str:
    """Verdict, rule and what it rests on. Brackets and braces have a meaning in SARIF messages (3.11.5, 3.11.6)."""
    reasons = [*(record.get("reasons") or {}).values(), record.get("reason") or ""]
    said = [e["detail"] for e in record.get("evidence", ()) if e.get("says") != "unknown"]
    parts = dict.fromkeys(str(words) for words in (*record.get("conflicts", ()), *reasons, *said) if words)
    text = f"{record['verdict']} by rule {record['rule']}" + (": " + "; ".join(parts) if parts else "")
    text = text if len(text) <= MOST_WORDS else text[: MOST_WORDS - 1] + "…"
    return text.translate({ord("["): "(", ord("]"): ")", ord("{"): "{{", ord("}"): "}}"})


def uri(record: Mapping[str, Any]) -> str:
    """The bytes of a name as a URI reference (RFC 3986): absolute paths by file:, all else relative, ":" encoded."""
    name = bytes.fromhex(record["name_hex"]) if "name_hex" in record else str(record["id"]).encode()
    path = quote(name, safe="/")
    if path.startswith("/"):
        return "file:///" + path.lstrip("/")
    return path or "."
