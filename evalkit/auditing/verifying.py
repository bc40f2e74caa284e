"""Whether a sealed audit is still what was sealed: its records, its seal, the decisions on it, and its inputs.

Everything is read once and nothing is believed: each line against its hash, each hash against the line before, the last
one against the seal, the seal against its own hash, and, where a hash was kept elsewhere, all of it against that.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadRecord
from .custody import AUDIT, SEAL, genesis, lines, own_hash
from .deciding import read_log
from .sealing import Seal, decisions_anchor, read_seal

# Problems are counted to the end; so many are told in words.
MOST_TOLD = 50


@dataclass(frozen=True)
class InputsReport:
    """Inputs that are still there, compared by sha256; unchecked: not read then, or not a file of the folder."""

    same: int = 0
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unchecked: int = 0


@dataclass(frozen=True)
class Report:
    """What `verify` found. problems: sentences, the first bad place first; count: all of them, told or not.

    anchored: what the given hash stands for: "records", "seal" or "decisions"; "" when none was given or none fits.
    """

    folder: Path
    records: int
    decisions: int
    head: str
    line: str
    problems: tuple[str, ...] = ()
    count: int = 0
    notes: tuple[str, ...] = ()
    anchored: str = ""
    inputs: InputsReport | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was edited, removed, inserted or moved, and every input that was checked is the same."""
        return self.count == 0


@dataclass
class _Walk:
    """One pass along the chain: what it has seen, and what was wrong."""

    head: str | None
    name: str = AUDIT
    number: int = 0
    position: int = -1
    told: list[str] = field(default_factory=list)
    count: int = 0
    size: int = 0
    running: Any = field(default_factory=hashlib.sha256)
    verdicts: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    def wrong(self, sentence: str) -> None:
        self.count += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(sentence)

    def step(self, line: bytes) -> dict[str, Any] | None:
        """One line; its record where it has its hash."""
        self.number += 1
        self.size += len(line)
        self.running.update(line)
        where = f"{self.name}, line {self.number}"
        if not line.endswith(b"\n"):
            self.wrong(f"{where} is cut short: it does not end where a record ends")
        try:
            record, own = own_hash(line.removesuffix(b"\n"))
        except BadRecord as error:
            self.wrong(f"{where} was edited: {error}")
            self.head = None
            return None
        where += f" ({str(record.get('id'))[:80]!r})"
        if record["hash"] != own:
            self.wrong(f"{where} was edited: its content does not have its hash")
        if self.head is not None and record.get("previous") != self.head:
            self.wrong(f"{where} does not follow line {self.number - 1}: {self._moved(record)}")
        self.head = record["hash"]
        place = record.get("position")
        self.position = place if isinstance(place, int) else self.position + 1
        self.verdicts[str(record.get("verdict"))] += 1
        self.states[str(record.get("state"))] += 1
        return record if record["hash"] == own else None

    def _moved(self, record: Mapping[str, Any]) -> str:
        place, expected = record.get("position"), self.position + 1
        if place == expected:
            return "one of the two was edited and given a new hash, or the seal is of another audit"
        what = "lines were removed, inserted or moved"
        if isinstance(place, int) and place > expected:
            what = "lines before it were removed or moved"
        elif isinstance(place, int):
            what = "it was inserted, repeated or moved"
        return f"{what} (it has position {place}, {expected} was next)"


def verify(folder: Path, head: str | None = None, inputs: Path | None = None) -> Report:
    """Check a sealed audit from end to end; memory does not grow with its size.

    head: a hash kept elsewhere: of the last record, of the seal or of a decision. With it a folder that was rewritten
    as a whole is found too. inputs: the folder the audit's names are relative to. What is wrong is in the report, not
    raised; raises BadRecord only when there is no `audit.jsonl` to read.
    """
    sealed, start, told = _sealed(folder)
    walk = _Walk(start, told=told, count=len(told))
    check = None if inputs is None else _Inputs(inputs)
    for line in lines(folder / AUDIT):
        record = walk.step(line)
        if check is not None and record is not None:
            check.compare(record)
    if sealed is not None:
        _against_seal(walk, sealed)
    ends = sealed.head if sealed is not None else decisions_anchor(folder) or walk.head or ""
    log = read_log(folder, ends)
    for problem in log.problems:
        walk.wrong(problem)
    anchored = _anchored(walk, sealed, [d["hash"] for d in log.decisions], head) if head is not None else ""
    made = None if check is None else check.report(walk)
    return Report(
        folder, walk.number, len(log.decisions), walk.head or "", "" if sealed is None else sealed.line,
        tuple(walk.told), walk.count, tuple(log.notes), anchored, made,
    )  # fmt: skip


def _sealed(folder: Path) -> tuple[Seal | None, str | None, list[str]]:
    """The seal, the hash the first record must follow, and what is wrong with either."""
    try:
        sealed = read_seal(folder)
    except BadRecord as error:
        return None, None, [str(error)]
    try:
        start = genesis(sealed.document["frozen"])
    except (BadRecord, KeyError, TypeError) as error:
        return sealed, sealed.genesis, [f"{SEAL} was edited: its frozen part is damaged ({str(error)[:100]})"]
    if start != sealed.genesis:
        return sealed, sealed.genesis, [f"{SEAL} was edited: its frozen part does not have the genesis hash"]
    return sealed, start, []


def _against_seal(walk: _Walk, sealed: Seal) -> None:
    said = sealed.document
    if walk.number != sealed.count:
        what = "the end was removed" if walk.number < sealed.count else "lines were added"
        walk.wrong(f"{AUDIT} has {walk.number} of {sealed.count} sealed records: {what}, or lines in it")
    elif walk.head != sealed.head:
        walk.wrong(f"{AUDIT} ends in {walk.head or 'an unreadable line'}, {SEAL} has head {sealed.head}")
    elif walk.count == 0:
        whole = {"name": AUDIT, "bytes": walk.size, "sha256": walk.running.hexdigest()}
        counts = (dict(sorted(walk.verdicts.items())), dict(sorted(walk.states.items())))
        if said.get("file") != whole or (said.get("verdicts"), said.get("states")) != counts:
            walk.wrong(f"{SEAL} was edited: its size, digest or counts are not those of {AUDIT}")


def _anchored(walk: _Walk, sealed: Seal | None, decisions: list[str], given: str) -> str:
    wanted = given if given.startswith("sha256:") else f"sha256:{given}"
    if sealed is not None and wanted == sealed.hash:
        return "seal"
    if walk.head == wanted:
        return "records"
    if wanted in decisions:
        return "decisions"
    walk.wrong(
        f"nothing here has the hash {given!r} that was kept elsewhere: the audit was rewritten, or it is another one"
    )
    return ""


class _Inputs:
    """The files that records are about, looked up under one folder by their bytes of a name."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise BadRecord(f"--inputs {str(root)!r} is no folder; expected the one the audited names are relative to")
        self.root = root.resolve()
        self.same = self.unchecked = 0
        self.changed: list[str] = []
        self.missing: list[str] = []

    def compare(self, record: Mapping[str, Any]) -> None:
        expected, path = record.get("sha256"), self._path(record)
        if not expected or path is None:
            self.unchecked += 1
            return
        try:
            with _opened(path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            self.missing.append(str(record.get("id")))
        except (OSError, ValueError):
            self.unchecked += 1
        else:
            if found == str(expected).removeprefix("sha256:"):
                self.same += 1
            else:
                self.changed.append(str(record.get("id")))

    def _path(self, record: Mapping[str, Any]) -> Path | None:
        """Where the file of a record lies; None for a name that leads out of the folder, which a record may hold."""
        try:
            name = bytes.fromhex(record["name_hex"]) if "name_hex" in record else str(record["id"]).encode()
            path = (self.root / os.fsdecode(name)).resolve()
            return path if path.is_relative_to(self.root) else None
        except (KeyError, ValueError, OSError, RuntimeError):
            return None

    def report(self, walk: _Walk) -> InputsReport:
        for what, names in (("changed", self.changed), ("are missing", self.missing)):
            if names:
                walk.wrong(f"{len(names)} inputs {what} since the audit, the first {names[0][:200]!r}")
        return InputsReport(self.same, tuple(self.changed), tuple(self.missing), self.unchecked)


def _opened(path: Path) -> Any:
    """A regular file, open for reading; a pipe or a device of that name would never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    return path.open("rb")
