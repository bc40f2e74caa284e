"""What lies under a folder: each file's kind and head, read as far as a list needs and remembered by its time.

A list needs a name, a kind and a date; a record's numbers are read when its page or a metric's history asks for them.
So the first 4 KiB of each file are read for the list, once, and again only when its size or time of change differs.
The walk is bounded, follows no link to a folder, and reads a linked file only if it lies under the same folder.
Everything found is untrusted: a file that is cut off, too deep or of an unknown kind is listed with the reason.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = 4096
LARGEST = 64 * 2**20  # bytes of a document that is read whole
MOST_FILES = 100_000
DEEPEST = 16
# Schema without its version -> what the list calls it, and the version whose pages are known here.
KINDS = {
    "evalkit.run": "run",
    "evalkit.gate": "gate",
    "evalkit.leaderboard": "report",
    **dict.fromkeys(
        (
            *("evalkit.human", "evalkit.shortcuts", "evalkit.matrix", "evalkit.stress", "evalkit.leakage"),
            *("evalkit.attribute", "evalkit.detect", "evalkit.replay", "evalkit.subgroups"),
        ),
        "study",
    ),
}
KNOWN_VERSION = "1"
SUBJECT_LENGTH = 200


@dataclass(frozen=True)
class Entry:
    """One thing of the list; `path` is relative to the folder, `page` the index.html beside it, `why` what is wrong."""

    path: str
    kind: str
    title: str
    detail: str
    time: float
    page: str = ""
    why: str = ""


@dataclass(frozen=True)
class _Stamp:
    size: int
    time_ns: int


class Folder:
    """The documents under one folder, kept in memory by size and time of change; safe to ask from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._lock = threading.Lock()
        self._heads: dict[str, tuple[_Stamp, Entry | None]] = {}
        self._bodies: dict[str, tuple[_Stamp, dict[str, Any] | None]] = {}
        self.truncated = False

    def entries(self) -> list[Entry]:
        """Everything that is shown, newest first; equal times by path."""
        with self._lock:
            seen: dict[str, tuple[_Stamp, Entry | None]] = {}
            for relative, stamp in self._walk():
                known = self._heads.get(relative)
                seen[relative] = known if known and known[0] == stamp else (stamp, self._look(relative, stamp))
            self._heads = seen
            shown = [entry for _, entry in seen.values() if entry is not None]
        return sorted(shown, key=lambda e: (-e.time, e.path))

    def document(self, relative: str) -> dict[str, Any]:
        """A document of the list, whole; ValueError with the reason when it cannot be read, KeyError for a stranger.

        What no page shows (influence of each sample, the parts of `moves`) is not kept.
        """
        with self._lock:
            stamp, entry = self._heads[relative]
            known = self._bodies.get(relative)
        if entry is None:
            raise KeyError(relative)
        if known is not None and known[0] == stamp and known[1] is not None:
            return known[1]
        body = _parsed(self._read(relative, stamp.size))
        body.pop("attribution", None)
        for result in body.get("results", ()) if isinstance(body.get("results"), list) else ():
            if isinstance(result, dict):
                result.pop("moves", None)
        with self._lock:
            self._bodies[relative] = (stamp, body)
        return body

    def mentions(self, relative: str, words: bytes) -> bool:
        """Whether a document holds these bytes; spares parsing those that do not. False when it cannot be read."""
        with self._lock:
            stamp, _ = self._heads[relative]
            if (known := self._bodies.get(relative)) is not None and known[0] == stamp:
                return True
        try:
            return words in self._read(relative, stamp.size)
        except ValueError:
            return False

    def _walk(self) -> Iterator[tuple[str, _Stamp]]:
        count = 0
        self.truncated = False
        for place, folders, files in os.walk(self.root, followlinks=False):
            depth = len(Path(place).relative_to(self.root).parts)
            folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < DEEPEST else []
            for name in sorted(files):
                count += 1
                if count > MOST_FILES:
                    self.truncated = True
                    return
                if name.endswith(".json") and (stamp := self._stamp(Path(place, name))) is not None:
                    yield os.path.relpath(Path(place, name), self.root), stamp

    def _stamp(self, path: Path) -> _Stamp | None:
        """Size and time of a plain file under the folder; None for anything else."""
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(self.root):
                return None
            state = path.stat()
        except OSError:
            return None
        return _Stamp(state.st_size, state.st_mtime_ns) if path.is_file() else None

    def _look(self, relative: str, stamp: _Stamp) -> Entry | None:
        """What the list says of a file; None for JSON that is none of ours."""
        when = stamp.time_ns / 1e9
        try:
            with (self.root / relative).open("rb") as file:
                head = file.read(HEAD)
                file.seek(max(0, stamp.size - 64))
                tail = file.read(64).rstrip()
        except OSError as error:
            return Entry(relative, "broken", relative, "", when, why=error.strerror or str(error))
        facts = head_of(head)
        schema = str(facts.get("schema", ""))[:80]
        family, _, version = schema.rpartition("/")
        kind = KINDS.get(family)
        if kind is None and head.lstrip()[:1] in (b"{", b"[") and tail[-1:] in (b"}", b"]"):
            return None
        if kind is not None and version != KNOWN_VERSION:
            why = f"schema {schema!r}; this version reads '{family}/{KNOWN_VERSION}'"
            return Entry(relative, "broken", relative, "", when, why=why)
        if kind is None or not tail.endswith(b"}"):
            why = "cut off: it does not end as JSON does" if kind else "not a JSON document"
            return Entry(relative, "broken", relative, "", when, why=why if stamp.size else "empty file")
        page = Path(relative).parent / "index.html"
        beside = kind in ("report", "study", "gate") and (self.root / page).is_file()
        title, detail = _words(kind, facts)
        return Entry(relative, kind, title or relative, detail, when, str(page) if beside else "")

    def _read(self, relative: str, size: int) -> bytes:
        if size > LARGEST:
            raise ValueError(f"larger than {LARGEST // 2**20} MiB")
        try:
            return (self.root / relative).read_bytes()
        except OSError as error:
            raise ValueError(error.strerror or str(error)) from error


def head_of(data: bytes) -> dict[str, Any]:
    """The first members of a JSON object whose values are whole in `data`; empty where it is no object."""
    text = data.decode("utf-8", "replace").lstrip()
    decoder, found, at = json.JSONDecoder(), dict[str, Any](), 1
    if not text.startswith("{"):
        return {}
    while True:
        try:
            at = _blank(text, at)
            key, at = decoder.raw_decode(text, at)
            at = _blank(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                return found
            value, end = decoder.raw_decode(text, _blank(text, at + 1))
        except (ValueError, RecursionError):
            return found
        after = _blank(text, end)
        if after == len(text):
            # A number at the end of what was read may be half of one.
            return found
        found[key] = value
        if text[after] != ",":
            return found
        at = after + 1


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _words(kind: str, facts: Mapping[str, Any]) -> tuple[str, str]:
    """Title and detail of an entry, from whatever its head holds."""
    if kind in ("run", "gate"):
        subject = facts.get("subject")
        reference = facts.get("reference")
        subject = subject if isinstance(subject, Mapping) else {}
        name = str(subject.get("name", ""))
        detail = f"{subject.get('modality', '')}, n = {subject.get('n', '?')}" if subject else ""
        if isinstance(reference, Mapping):
            detail += f", against {reference.get('name', '')}"
        outcome = facts.get("outcome")
        detail = f"{outcome}; {detail}" if kind == "gate" and isinstance(outcome, str) else detail
        return name[:SUBJECT_LENGTH], detail[:SUBJECT_LENGTH]
    said = facts.get("findings")
    first = str(said[0]) if isinstance(said, list) and said else ""
    return str(facts.get("title", ""))[:SUBJECT_LENGTH], first[:SUBJECT_LENGTH]


def _parsed(data: bytes) -> dict[str, Any]:
    """A strict JSON object; ValueError in words."""

    def refuse(word: str) -> Any:
        raise ValueError(f"it holds {word}")

    try:
        body = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"not strict JSON ({error})"[:200]) from error
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    return body
