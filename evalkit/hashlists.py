"""A user's list of hashes of known content, as people keep them: plain lines, CSV, JSON lines.

- plain: one hash a line in hex, `sha256:`, `pdq:` or `phash:` before it where it is to be said; # begins a comment;
- CSV: a header with `hash` and, if wanted, `type` and `label`;
- JSON lines: objects with `hash` or `indicator`, and `type` and `label` or `tags`, as ThreatExchange's exports have
  them (type HASH_PDQ and the like).

16 digits are a pHash. 64 digits of no stated type are looked up both as SHA-256 and as PDQ: neither is mistaken for
the other, since random 256-bit words lie within 31 bits of each other with probability 8e-38. MD5 is refused: two files
of one MD5 can be made at will.

A bad line is refused with its number: a list that was half read would find half of what it should.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BadSource

# Digits of each type of hash.
DIGITS = {"sha256": 64, "pdq": 64, "phash": 16}
REFUSED = {32: "md5", 40: "sha1", 96: "sha384", 128: "sha512"}
COLUMNS = ("hash", "type", "label")
SAYING = ("synthetic", "authentic", "edited")
LONGEST_LABEL = 100
EXPECTED = "expected sha256 or pdq (64 hex digits) or phash (16)"


@dataclass(frozen=True)
class Entry:
    """One line of a list: the hash in lower-case hex, what it may be, its label ("" without one), its line."""

    value: str
    kinds: tuple[str, ...]
    label: str
    line: int


def read_entries(path: Path) -> tuple[list[Entry], str]:
    """The entries of a list and the sha256:... of its bytes.

    Raises BadSource, one line, for a file that cannot be read, an empty list, and a line that is none of the forms.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadSource(f"cannot read hash list {str(path)!r}: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadSource(f"hash list {str(path)!r} line {line}: not UTF-8; expected a text file of hashes") from error
    entries = []
    for line, value, kind, label in _lines(path, text):
        entries.append(_entry(path, line, value, kind, label))
    if not entries:
        raise BadSource(f"hash list {str(path)!r} holds no hash; {EXPECTED}, one a line")
    return entries, f"sha256:{hashlib.sha256(data).hexdigest()}"


def _lines(path: Path, text: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, hash, type, label) of each entry, in whichever form the first line shows."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if first.startswith("{"):
        return _json_lines(path, text)
    if re.search(r"(^|[,;\t ])[\"']?hash[\"']?($|[,;\t ])", first.lower()):
        return _csv_lines(path, text)
    return _plain_lines(text)


def _plain_lines(text: str) -> Iterator[tuple[int, str, str, str]]:
    for line, words in enumerate(text.splitlines(), 1):
        word = words.partition("#")[0].strip()
        if word:
            kind, _, value = word.rpartition(":")
            yield line, value, kind, ""


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, str, str, str]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [cell.strip().lower() for cell in row]
                if "hash" not in header or set(header) - set(COLUMNS) or len(set(header)) < len(header):
                    raise _bad(path, rows.line_num, f"columns {', '.join(header)}; expected {', '.join(COLUMNS)}")
                continue
            if len(row) != len(header):
                raise _bad(path, rows.line_num, f"{len(row)} cells under {len(header)} columns")
            cells = dict(zip(header, row, strict=True))
            yield rows.line_num, cells["hash"], cells.get("type", ""), cells.get("label", "")
    except csv.Error as error:
        raise _bad(path, rows.line_num, f"{error}; expected CSV with {', '.join(COLUMNS)}") from error


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, str, str, str]]:
    for line, words in enumerate(text.splitlines(), 1):
        if not words.strip():
            continue
        try:
            row: Any = json.loads(words)
        except (ValueError, RecursionError) as error:
            raise _bad(path, line, "not JSON; expected one object a line") from error
        value = row.get("hash", row.get("indicator")) if isinstance(row, dict) else None
        kind = row.get("type", "") if isinstance(row, dict) else ""
        if not isinstance(value, str) or not isinstance(kind, str):
            raise _bad(path, line, "no hash; expected an object with `hash` or `indicator`, and `type`, as words")
        yield line, value, kind, _label_of(row)


def _label_of(row: dict[str, Any]) -> str:
    if isinstance(row.get("label"), str):
        return str(row["label"])
    tags = [t for t in row.get("tags") or () if isinstance(t, str)] if isinstance(row.get("tags"), list) else []
    return next((t for t in tags if t.lower() in SAYING), ", ".join(tags))


def _entry(path: Path, line: int, value: str, kind: str, label: str) -> Entry:
    value = value.strip().lower()
    kind = kind.strip().lower().removeprefix("hash_").replace("-", "")
    if not re.fullmatch(r"[0-9a-f]+", value):
        raise _bad(path, line, f"{value[:40]!r} is no hash; {EXPECTED}")
    named = kind or REFUSED.get(len(value), "")
    if named and named not in DIGITS:
        why = "; two files of one md5 can be made at will" if named == "md5" else ""
        raise _bad(path, line, f"{named[:20]} hashes are not supported{why}; {EXPECTED}")
    kinds = (named,) if named else tuple(k for k, digits in DIGITS.items() if digits == len(value))
    if not kinds or len(value) != DIGITS[kinds[0]]:
        raise _bad(path, line, f"{len(value)} digits{f' of {kind}' if kind else ''}; {EXPECTED}")
    label = " ".join(label.split())[:LONGEST_LABEL]
    return Entry(value, kinds, label.lower() if label.lower() in SAYING else label, line)


def _bad(path: Path, line: int, what: str) -> BadSource:
    return BadSource(f"hash list {str(path)!r} line {line}: {what}")
