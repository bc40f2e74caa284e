"""The chain of custody: records as canonical JSON, each with its own hash and the hash of the one before it.

- Canonical JSON is RFC 8785: members ordered by UTF-16 code units, numbers as ECMAScript writes them, UTF-8, no white
  space. The same record therefore has the same bytes wherever it is written.
- hash = sha256 over the canonical JSON of the record without its member "hash". "previous" is inside what is hashed;
  the first record's is the genesis hash, over all that the audit had frozen before it began. One hash, the head, so
  stands for every record, their order and their number (Haber & Stornetta 1991).
- A line is the canonical JSON of the whole record. Because a record cannot contain its own hash elsewhere, cutting the
  one member `"hash":"...",` out of a line leaves exactly the hashed bytes: a line is checked without writing its JSON
  again, by us or by sed and sha256sum.
- RFC 8785 numbers are IEEE 754 doubles. Numbers beyond 2^53 - 1 and numbers that are not finite are kept as strings.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import rfc8785

from ..errors import BadRecord

AUDIT, SEAL, DECISIONS, STANDING = "audit.jsonl", "audit.json", "decisions.jsonl", "decisions.json"
RECORD_SCHEMA = "evalkit.audit/1"
# What the genesis hash covers; each must be in the frozen part of a header.
FROZEN = ("configuration", "manifest", "detectors", "calibration", "code")
# Beyond it a line is no record of ours, and reading it whole would take the memory that a hostile file asks for.
MOST_BYTES = 1 << 26
# How deep untrusted facts may nest; deeper ones are cut, because every JSON reader gives up somewhere.
MOST_DEPTH = 64
TOO_DEEP = "(nested too deeply: left out)"
SAFE_INTEGER = 2**53 - 1
_PYTHON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
# What Python's JSON may write otherwise than RFC 8785: whole floats, exponents, integers of 16 digits and more, and the
# order of names with characters beyond U+FFFF. A text that only looks like one of these takes the slow way for nothing.
_OTHERWISE = re.compile(r"(?:\":|[\[,])-?[0-9]+(?:\.0(?![0-9])|(?:\.[0-9]+)?e|[0-9]{15})")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


def plain(value: Any, depth: int = 0) -> Any:
    """The value as RFC 8785 can say it: tuples as lists, large integers and non-finite numbers as strings.

    Lone surrogates, which no UTF-8 has, become their backslash escapes. Raises BadRecord on what is no JSON.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= SAFE_INTEGER else whole(value)
    if isinstance(value, float):
        # A whole double is written as an integer, by RFC 8785 too.
        return (int(value) if value.is_integer() else float(value)) if is_sayable(value) else str(float(value))
    if depth >= MOST_DEPTH:
        return TOO_DEEP
    if isinstance(value, Mapping):
        return _members(value, depth)
    if isinstance(value, list | tuple):
        return [plain(v, depth + 1) for v in value]
    raise BadRecord(f"a record cannot hold {type(value).__name__}; expected text, numbers, lists and mappings")


def is_sayable(value: float) -> bool:
    """Whether a float is written as a number: one that is finite and no larger than the integers that are."""
    return math.isfinite(value) and abs(value) <= SAFE_INTEGER


def _members(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, member in value.items():
        name = text(str(key))
        while name in found:  # two names that differ only in what cannot be written: both stay
            name += "'"
        found[name] = plain(member, depth + 1)
    return found


def text(value: str) -> str:
    """The text with each lone surrogate as its backslash escape."""
    if value.isascii():
        return str(value)
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def whole(value: int) -> str:
    """An integer as text: decimal, or hexadecimal where decimal would take quadratic time."""
    return str(value) if value.bit_length() <= 4096 else hex(value)


def canonical(value: Any) -> bytes:
    """RFC 8785 JSON of plain JSON values. Raises BadRecord on what it cannot say (see `plain`)."""
    try:
        return _canonical(value)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadRecord(f"not sayable as canonical JSON: {str(error)[:200]}; expected the values of `plain`") from error


def _canonical(value: Any) -> bytes:
    """Python's own JSON where it writes the same, which is much faster; else member by member."""
    if not isinstance(value, dict | list | tuple):
        return rfc8785.dumps(value)
    quick = _PYTHON.encode(value)
    if not _OTHERWISE.search(quick) and (quick.isascii() or not _ASTRAL.search(quick)):
        return quick.encode()
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16be"))
        return b"{" + b",".join(rfc8785.dumps(name) + b":" + _canonical(value[name]) for name in names) + b"}"
    return b"[" + b",".join(map(_canonical, value)) + b"]"


def hashed(value: Any) -> str:
    """sha256:... over the canonical JSON of a value."""
    return digest(canonical(value))


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def genesis(frozen: Mapping[str, Any]) -> str:
    """The hash that the first record follows: over the frozen part of a header. Raises BadRecord if one is absent."""
    missing = [name for name in FROZEN if name not in frozen]
    if missing:
        raise BadRecord(f"the frozen part of a seal lacks {', '.join(missing)}; expected {', '.join(FROZEN)}")
    return hashed(frozen)


def linked(record: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """The line of a record (canonical JSON, no newline) behind the record of hash `previous`, and its own hash."""
    body = {**record, "previous": previous}
    body.pop("hash", None)
    own = hashed(body)
    return canonical({**body, "hash": own}), own


def chained(records: Iterable[Mapping[str, Any]], previous: str) -> Iterator[tuple[bytes, Mapping[str, Any], str]]:
    """Line with newline, record and hash of each record, one behind the other; nothing is kept in memory."""
    for record in records:
        line, previous = linked(record, previous)
        yield line + b"\n", record, previous


def own_hash(line: bytes) -> tuple[dict[str, Any], str]:
    """A line's record and the hash that its bytes have. Raises BadRecord on what is no line of a chain."""
    try:
        record = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"it is no strict JSON ({str(error)[:100]})") from error
    said = record.get("hash") if isinstance(record, dict) else None
    if not isinstance(said, str):
        raise BadRecord("it is no record: it has no hash")
    member = b'"hash":' + json.dumps(said).encode()
    body = line.replace(member + b",", b"", 1)
    # The last member has its comma before it.
    return record, digest(body if len(body) < len(line) else line.replace(b"," + member, b"", 1))


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their newlines. Raises BadRecord when it cannot be read or has an endless line."""
    try:
        with path.open("rb") as file:
            while line := file.readline(MOST_BYTES + 1):
                if len(line) > MOST_BYTES:
                    raise BadRecord(f"{path} has a line of over {MOST_BYTES >> 20} MiB; expected one record a line")
                yield line
    except OSError as error:
        raise BadRecord(f"cannot read {path}: {error.strerror or error}; expected the folder of an audit") from error


def checked(folder: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines of a sealed chain with their records, each checked against its own hash; BadRecord at the first bad."""
    path = folder / AUDIT
    for number, line in enumerate(lines(path), 1):
        try:
            record, own = own_hash(line.removesuffix(b"\n"))
        except BadRecord as error:
            raise BadRecord(f"{path}, line {number}: {error}; run `evalkit audit verify {folder}`") from error
        if record["hash"] != own:
            raise BadRecord(f"{path}, line {number} does not have its hash; run `evalkit audit verify {folder}`")
        yield line, record


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The sealed records in manifest order, as `checked` gives them."""
    return (record for _, record in checked(folder))
