"""Reviewers' decisions: appended to `decisions.jsonl`, chained on behind the seal's head, never overwritten.

The log is append-only: what a crash left of an unfinished line stays where it is, and the next decision says how many
bytes it skips and their sha256, so that a torn line is told apart from an edited one. A chain alone cannot say that its
last lines were removed: `decisions.json` holds how many there are and the last hash. It is written after the log, so
after a crash the log may be one decision ahead of it, never behind.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ..errors import BadRecord, BadSetting, UnwritableOutput
from ..types import Verdict
from .cells import cell
from .custody import AUDIT, DECISIONS, STANDING, canonical, lines, linked, own_hash, plain
from .sealing import read_seal, write_synced

DECISION_SCHEMA, STANDING_SCHEMA = "evalkit.audit-decision/1", "evalkit.audit-decisions/1"
Choice: TypeAlias = Literal["upheld", "overturned", "noted"]
# What a reviewer can turn a verdict into: nobody can decide that a file is unreadable.
VERDICTS: tuple[Verdict, ...] = ("synthetic", "authentic", "uncertain")
MOST_REASON, MOST_REVIEWER = 4000, 200
CASES = ("path", "name_hex", "sha256", "verdict_before", "decision", "verdict", "reviewer", "reason", "time")


@dataclass
class Log:
    """The decisions of a folder as its log has them, what is wrong with them, and what a crash left behind them."""

    decisions: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: str = ""
    torn: bytes = b""


def decide(
    folder: Path,
    record: str | int,
    decision: Choice,
    *,
    reviewer: str,
    reason: str,
    verdict: Verdict | None = None,
    at: datetime | None = None,
) -> dict[str, Any]:
    """Append one decision on one file and return it; it is on the disk when this returns.

    record: the file's id, its position (a number), the hash of its record or of its content. upheld and noted leave the
    verdict that stands, overturned needs another one. at: UTC, now by default. Raises BadSetting on what cannot be
    decided, BadRecord when the log was edited: nothing is built on it.
    """
    _check(decision, verdict, reviewer, reason)
    found = find(folder, record)
    head = read_seal(folder).head
    with _locked(folder / DECISIONS) as file:
        log = read_log(folder, head)
        if log.problems:
            raise BadRecord(f"{log.problems[0]}; run `evalkit audit verify {folder}` before anything is decided")
        before = standing(found, [d for d in log.decisions if d["record"] == found["hash"]])
        if decision == "overturned" and verdict == before:
            raise BadSetting(f"{found['id']!r} is {before} already; uphold it, or overturn it to another verdict")
        body: dict[str, Any] = {
            "schema": DECISION_SCHEMA,
            "number": len(log.decisions) + 1,
            "time": (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reviewer": plain(reviewer.strip()),
            "decision": decision,
            "before": before,
            "verdict": verdict if decision == "overturned" else before,
            "reason": plain(reason.strip()),
            "record": found["hash"],
            "sealed": found["verdict"],
            **{key: found[key] for key in ("id", "name_hex", "position", "sha256") if key in found},
        }
        return _append(folder, file, log, body)


def _check(decision: str, verdict: str | None, reviewer: str, reason: str) -> None:
    if decision not in get_args(Choice):
        raise BadSetting(f"decision {decision!r}; expected {', '.join(get_args(Choice))}")
    if (decision == "overturned") != (verdict is not None):
        given = "no verdict (--verdict)" if verdict is None else f"the verdict {verdict}"
        raise BadSetting(f"{decision} with {given}; a verdict is given to overturn one, and only then")
    if verdict is not None and verdict not in VERDICTS:
        raise BadSetting(f"verdict {verdict!r}; expected {', '.join(VERDICTS)}")
    for name, value, most in (("reviewer", reviewer, MOST_REVIEWER), ("reason", reason, MOST_REASON)):
        if not 0 < len(value.strip()) <= most:
            raise BadSetting(f"a decision needs a {name} of 1 to {most} characters; given {len(value.strip())}")


def standing(record: Mapping[str, Any], decisions: list[dict[str, Any]]) -> str:
    """The verdict that stands of a record after the decisions on it."""
    return str(decisions[-1]["verdict"] if decisions else record["verdict"])


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The log, open for appending, for one reviewer at a time."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UnwritableOutput(f"cannot write {path}: {error.strerror or error}; decisions are kept there") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _append(folder: Path, file: int, log: Log, body: dict[str, Any]) -> dict[str, Any]:
    start = b""
    if log.torn:
        start = b"" if log.torn.endswith(b"\n") else b"\n"
        torn = log.torn + start
        body["after_torn"] = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
    # Made anew where it lacks the last decision after a crash, and before the first: then its absence is a removal.
    _count(folder, len(log.decisions), log.head)
    line, own = linked(body, log.head)
    try:
        data = memoryview(start + line + b"\n")
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    except OSError as error:
        raise UnwritableOutput(f"cannot write {folder / DECISIONS}: {error.strerror or error}; not decided") from error
    _count(folder, len(log.decisions) + 1, own)
    return {**body, "previous": log.head, "hash": own}


def _count(folder: Path, count: int, head: str) -> None:
    write_synced(folder / STANDING, _standing(count, head))


def _standing(count: int, head: str) -> bytes:
    return canonical({"schema": STANDING_SCHEMA, "count": count, "head": head}) + b"\n"


# ---------------------------------------------------------------------------------------------- reading


def read_log(folder: Path, head: str) -> Log:
    """The decisions behind a seal's head, with every problem named by its line. Raises BadRecord if unreadable."""
    log, path = Log(head=head), folder / DECISIONS
    if path.exists():
        for number, line in enumerate(lines(path), 1):
            _read(log, f"{DECISIONS}, line {number}", line)
    _compare(log, folder / STANDING, head, path.exists())
    if log.torn:
        log.notes.append(
            f"{DECISIONS} ends in {len(log.torn)} bytes of a decision that was never finished, as a crash leaves them;"
            " no decision is lost"
        )
    return log


def _read(log: Log, where: str, line: bytes) -> None:
    """One line: a decision, or bytes that only a decision behind them can excuse."""
    try:
        if not line.endswith(b"\n"):
            raise BadRecord("it is cut short")
        decision, own = own_hash(line[:-1])
    except BadRecord:
        log.torn += line
        return
    if decision["hash"] != own:
        log.problems.append(f"{where} was edited: it does not have its hash")
    elif decision.get("previous") != log.head:
        log.problems.append(f"{where} does not follow the line before it: a line was removed, inserted or moved")
    torn = {"bytes": len(log.torn), "sha256": hashlib.sha256(log.torn).hexdigest()} if log.torn else None
    if decision.get("after_torn") != torn:
        log.problems.append(f"{where}: the bytes before it are no decision and not what it says it skipped")
    log.torn, log.head = b"", decision["hash"]
    log.decisions.append(decision)


def _compare(log: Log, path: Path, head: str, has_log: bool) -> None:
    """The log against the count kept beside it."""
    found, count = path.read_bytes() if path.is_file() else None, len(log.decisions)
    if found == _standing(count, log.head) or (found is None and not has_log):
        return
    if found is None:
        # The log is opened, empty, before the count is first written.
        if count or log.torn:
            log.problems.append(f"{STANDING} is missing, which says how many decisions there are: it was removed")
        return
    behind = log.decisions[-2]["hash"] if count > 1 else head
    if count and found == _standing(count - 1, behind):
        log.notes.append("the last decision is not counted yet: a crash came between; the next one counts it")
        return
    said = _counted(found)
    if said is not None and said > count:
        log.problems.append(
            f"{DECISIONS} has {count} of {said} decisions: the last {said - count} were removed or edited"
        )
    else:
        log.problems.append(f"{STANDING} does not fit the {count} decisions: it or the last of them was edited")


def _counted(data: bytes) -> int | None:
    try:
        count = json.loads(data)["count"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return count if isinstance(count, int) else None


def current(folder: Path) -> dict[str, tuple[dict[str, Any], ...]]:
    """All decisions by the hash of the record they are on, each record's in order; BadRecord if any was edited."""
    log = read_log(folder, read_seal(folder).head)
    if log.problems:
        raise BadRecord(f"{log.problems[0]}; run `evalkit audit verify {folder}`")
    found: dict[str, list[dict[str, Any]]] = {}
    for decision in log.decisions:
        found.setdefault(str(decision["record"]), []).append(decision)
    return {record: tuple(made) for record, made in found.items()}


def cases(folder: Path) -> str:
    """The files whose sealed verdict no longer stands, as CSV: what the next version has to get right."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(CASES)
    for made in current(folder).values():
        last = next(d for d in reversed(made) if d["decision"] == "overturned") if _overturned(made) else None
        if last is not None:
            told = {**last, "path": last["id"], "verdict_before": last["sealed"]}
            rows.writerow([cell(str(told.get(name, ""))) for name in CASES])
    return out.getvalue()


def _overturned(made: tuple[dict[str, Any], ...]) -> bool:
    return bool(made[-1]["verdict"] != made[-1]["sealed"])


def find(folder: Path, record: str | int) -> dict[str, Any]:
    """The sealed record of an id, a position, a record's hash or a content's sha256; several: by id first.

    Raises BadSetting when there is none or there are several, BadRecord when its line was edited.
    """
    given = str(record)
    bare = given.removeprefix("sha256:")
    wanted: dict[str, Any] = {"id": plain(given), "hash": f"sha256:{bare}", "sha256": bare, "position": None}
    if given.isascii() and given.isdigit() and len(given) < 16:
        wanted["position"] = int(given)
    if isinstance(record, int):
        wanted = {"position": record}
    # A needle spares reading a million lines as JSON; what holds one by chance is read and found not to fit.
    needles = [canonical(k) + b":" + canonical(v) for k, v in wanted.items() if v is not None]
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in wanted}
    for number, line in enumerate(lines(folder / AUDIT), 1):
        if any(needle in line for needle in needles):
            one, own = _whole(folder, number, line)
            for key in (k for k, v in wanted.items() if v is not None and one.get(k) == v):
                if one["hash"] != own:
                    raise BadRecord(f"{AUDIT}, line {number} was edited; run `evalkit audit verify {folder}`")
                found[key].append(one)
    best: list[dict[str, Any]] = next((matches for matches in found.values() if matches), [])
    if len(best) > 1:
        places = ", ".join(str(one.get("position")) for one in best[:5])
        raise BadSetting(f"{given!r} is {len(best)} files (positions {places}); give the position of one of them")
    if not best:
        raise BadSetting(f"no file of this audit is {given!r}; expected an id, a position or a hash from {AUDIT}")
    return best[0]


def _whole(folder: Path, number: int, line: bytes) -> tuple[dict[str, Any], str]:
    try:
        return own_hash(line.removesuffix(b"\n"))
    except BadRecord as error:
        raise BadRecord(f"{AUDIT}, line {number}: {error}; run `evalkit audit verify {folder}`") from error
