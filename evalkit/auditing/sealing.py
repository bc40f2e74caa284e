"""The sealing of an audit: all records as one chain in `audit.jsonl`, then the seal, `audit.json`, over it.

The chain is written beside and renamed, then the seal: a crash between the two leaves a chain without a seal, and
sealing again from the store writes the same bytes. A folder that is sealed is never sealed differently: the seal is
what others may have anchored and what decisions stand on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache import beside
from ..errors import BadRecord, UnwritableOutput
from .custody import AUDIT, DECISIONS, FROZEN, SEAL, chained, genesis, hashed, plain

SEAL_SCHEMA = "evalkit.audit-seal/1"
_OURS = ("schema", "head", "genesis", "count", "file", "verdicts", "states", "anchor", "hash")


@dataclass(frozen=True)
class Seal:
    """What stands over a sealed chain; `document` is the content of `audit.json`."""

    document: Mapping[str, Any]

    @property
    def head(self) -> str:
        """Hash of the last record (the genesis hash of an empty audit): it stands for all of them, in order."""
        return str(self.document["head"])

    @property
    def genesis(self) -> str:
        return str(self.document["genesis"])

    @property
    def hash(self) -> str:
        """Hash of the seal itself: it stands for the head, the counts, the times and the environment."""
        return str(self.document["hash"])

    @property
    def count(self) -> int:
        return int(self.document["count"])

    @property
    def line(self) -> str:
        """One line to keep elsewhere: whoever can rewrite every file of the folder cannot rewrite it."""
        return f"{SEAL_SCHEMA} records={self.count} head={self.head} seal={self.hash}"


def seal(folder: Path, header: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> Seal:
    """Write `audit.jsonl` and `audit.json`; records in manifest order are read once and never held together.

    header: "frozen" holds what the genesis hash covers (`custody.FROZEN`), besides anything that the seal should say
    (started, finished, environment, statistics), all JSON. A folder sealed before keeps its seal when the records are
    the same. Raises BadRecord where they are not, where positions do not rise, or on values that JSON cannot say.
    """
    told = _header(header)
    start = genesis(told["frozen"])
    before = read_seal(folder) if (folder / SEAL).exists() else None
    path = folder / AUDIT
    with beside(path) as draft:
        tally = _written(draft, records, start)
        made = _document(told, start, tally)
        _same_as_before(folder, before, made)
    _settle(folder)
    kept = before or made
    write_synced(folder / SEAL, _text(kept.document))
    _settle(folder)
    return kept


def _text(document: Mapping[str, Any]) -> bytes:
    """The seal's only spelling: names in order, so that not even two members can change places unseen."""
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


@dataclass
class _Tally:
    head: str
    count: int
    size: int
    sha256: str
    verdicts: Counter[str]
    states: Counter[str]


def _written(draft: Path, records: Iterable[Mapping[str, Any]], start: str) -> _Tally:
    """Write the chain behind `start`; the file is on the disk when this returns."""
    tally, running, last = _Tally(start, 0, 0, "", Counter(), Counter()), hashlib.sha256(), -1
    with _writable(draft), draft.open("wb") as file:
        for line, record, own in chained(records, start):
            position = record.get("position")
            if not isinstance(position, int) or position <= last:
                raise BadRecord(
                    f"record {tally.count + 1} has position {position!r} behind {last}; expected manifest order"
                )
            last = position
            file.write(line)
            running.update(line)
            tally.head, tally.count, tally.size = own, tally.count + 1, tally.size + len(line)
            tally.verdicts[str(record.get("verdict"))] += 1
            tally.states[str(record.get("state"))] += 1
        file.flush()
        os.fsync(file.fileno())
    tally.sha256 = running.hexdigest()
    return tally


def _header(header: Mapping[str, Any]) -> dict[str, Any]:
    taken = sorted(set(_OURS) & set(header))
    if taken:
        raise BadRecord(f"a seal's header cannot set {', '.join(taken)}: sealing does")
    if not isinstance(header.get("frozen"), Mapping):
        raise BadRecord(f"a seal's header lacks 'frozen'; expected a mapping with {', '.join(FROZEN)}")
    found: dict[str, Any] = plain(header)
    return found


def _document(header: Mapping[str, Any], start: str, tally: _Tally) -> Seal:
    body = {
        "schema": SEAL_SCHEMA,
        "count": tally.count,
        "head": tally.head,
        "genesis": start,
        "file": {"name": AUDIT, "bytes": tally.size, "sha256": tally.sha256},
        "verdicts": dict(sorted(tally.verdicts.items())),
        "states": dict(sorted(tally.states.items())),
        **header,
    }
    return Seal({**body, "hash": hashed(body)})


def _same_as_before(folder: Path, before: Seal | None, made: Seal) -> None:
    """Refuse to replace a seal, or the head that decisions stand on, by another one."""
    if before is not None and before.head != made.head:
        raise BadRecord(
            f"{folder} is sealed with head {before.head} and would now have {made.head}: its inputs, configuration or"
            " code differ; audit into another folder"
        )
    anchor = decisions_anchor(folder)
    if anchor is not None and anchor != made.head:
        raise BadRecord(f"the decisions in {folder} stand on head {anchor}, not {made.head}; audit into another folder")


def decisions_anchor(folder: Path) -> str | None:
    """The head that the first decision follows; None where none was made or the line cannot be read."""
    try:
        with (folder / DECISIONS).open("rb") as file:
            first = json.loads(file.readline(1 << 20))
            return str(first["previous"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def read_seal(folder: Path) -> Seal:
    """The seal of a folder. Raises BadRecord when there is none, or when it is damaged or was edited."""
    path = folder / SEAL
    try:
        data = path.read_bytes()
        document = json.loads(data)
        schema = document["schema"]
        body = {key: value for key, value in document.items() if key != "hash"}
        intact = document["hash"] == hashed(body) and _text(document) == data
        whole = isinstance(document["count"], int) and {"head", "genesis"} <= document.keys()
    except FileNotFoundError as error:
        raise BadRecord(f"{path} is missing: the audit was not sealed to its end; run the same audit again") from error
    except OSError as error:
        raise BadRecord(f"cannot read {path}: {error.strerror or error}; expected the seal of an audit") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadRecord) as error:
        raise BadRecord(f"{path} is no seal of an audit ({str(error)[:100]}): it was edited or damaged") from error
    if schema != SEAL_SCHEMA:
        raise BadRecord(f"{path} has schema {schema!r}; this version reads {SEAL_SCHEMA!r}")
    if not intact or not whole:
        raise BadRecord(f"{path} does not have its hash: it was edited after the audit was sealed")
    return Seal(document)


# ---------------------------------------------------------------------------------------------- writing


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableOutput(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def write_synced(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, on the disk before it has its name."""
    with beside(path) as draft, _writable(path), draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """The names of a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
