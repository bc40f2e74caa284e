"""One audit's state in one SQLite file: the frozen configuration and manifest, the queue, and what was found.

WAL and `synchronous=NORMAL`, `FULL` where a batch of findings is acknowledged, so that these survive a power cut; on a
network file system, whose shared memory WAL cannot use, a rollback journal and FULL. The manifest is written in one
transaction that ends with the mark `frozen`: after a kill during the listing it is listed again. One process at a time
works on a folder (a lock that the system takes back when the process ends, however it ends); its helpers share the
queue by leases.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from ..errors import BadRecord, BadSetting, RunFailed, UnwritableOutput
from ..types.audit import State
from .entries import Entry, Packing
from .migrating import migrate

DATABASE, LOCK = "audit.db", "audit.lock"
BATCH = 64  # distinct contents that are examined together
PATIENCE = 30.0  # seconds to wait for another process's transaction
OLDEST = (3, 37, 0)  # the first SQLite with STRICT tables
NETWORKS = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "gfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse")
CHUNK = 4096  # rows at a time
MOST = 2**63 - 1

_ENTRY = (
    'f.position, f.id, f.name, c.place, f.packing, f."offset", f.packed, f.size, f.sha256, f.state, f.reason, f.caption'
)
_FILES = "files f JOIN containers c ON c.container = f.container"


@contextmanager
def working_on(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: RunFailed while another process works on the same audit."""
    with told(folder / LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(handle, 100).decode("ascii", "replace").strip()
            raise RunFailed(
                f"{folder} is being audited by another process ({who or 'unknown'}); wait for it, or give another --out"
            ) from None
        except OSError:
            pass  # A file system without locks: the leases still keep two from the same batch.
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What SQLite and the system say, as one line with what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        said = str(error)
        if "locked" in said or "busy" in said:
            raise RunFailed(f"{path} is locked by another program; close it and give the command again") from error
        if "full" in said or "disk I/O" in said:
            raise RunFailed(f"{path}: {said}; make room and give the command again, nothing is lost") from error
        if "readonly" in said or "unable to open" in said:
            raise UnwritableOutput(f"cannot write {path}: {said}; make the folder writable") from error
        raise BadRecord(f"{path} is damaged or no audit's database ({said}); begin another audit") from error
    except OSError as error:
        raise UnwritableOutput(f"cannot write {path}: {error.strerror or error}; choose another --out") from error


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that a path lies on, by the text of /proc/self/mountinfo; "" when it says nothing."""
    found, longest = "", -1
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) < 5 or not tail:
            continue
        # Spaces and the like stand as octal escapes.
        point = fields[4].encode("latin-1", "replace").decode("unicode_escape").encode("latin-1", "replace")
        where = Path(os.fsdecode(point))
        # Of two mounts on one point the later one is seen.
        if (path == where or where in path.parents) and len(where.parts) >= longest:
            found, longest = tail.split(" ")[0], len(where.parts)
    return found


def is_network(kind: str) -> bool:
    """Whether a file system of this type is shared between machines."""
    return kind.startswith(NETWORKS)


class Store:
    """An audit's database, open; every process and thread opens its own. Used as a context manager."""

    def __init__(self, folder: Path, configuration: Mapping[str, Any] | None = None) -> None:
        """configuration: what is asked for, plain JSON: frozen in a new audit, compared in one that began.

        Raises BadSetting naming the first setting that differs, RunFailed for a later schema, BadRecord for no audit.
        """
        self.folder, self.path = folder, folder / DATABASE
        if sqlite3.sqlite_version_info < OLDEST:
            raise RunFailed(f"SQLite {sqlite3.sqlite_version} is too old; audits need 3.37, which Python 3.11 brings")
        if configuration is None and not self.path.is_file():
            raise BadRecord(f"{folder} holds no audit ({DATABASE} is missing); begin one with evalkit audit PATH --out")
        with told(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            with told(self.path):
                self._prepare()
                migrate(self.path, self.db)
            if configuration is not None:
                self._agree(configuration)
        except BaseException:
            self.db.close()
            raise

    def _prepare(self) -> None:
        mounts = Path("/proc/self/mountinfo")
        kind = file_system(self.folder.resolve(), mounts.read_text("utf-8", "replace") if mounts.exists() else "")
        self.journal = "DELETE" if is_network(kind) else "WAL"
        self.db.execute(f"PRAGMA journal_mode = {self.journal}")
        self.db.execute(f"PRAGMA synchronous = {'FULL' if self.journal == 'DELETE' else 'NORMAL'}")
        self.db.execute("PRAGMA cache_size = -32768")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.db.close()

    # ------------------------------------------------------------------------------------------ configuration

    def _agree(self, configuration: Mapping[str, Any]) -> None:
        asked = json.dumps(configuration, sort_keys=True, ensure_ascii=True, allow_nan=False)
        with self.changing():
            self.db.execute("INSERT OR IGNORE INTO meta VALUES ('configuration', ?)", (asked,))
        key, was, now = _difference(self.configuration, json.loads(asked))
        if key:
            raise BadSetting(
                f"{self.folder} holds an audit with {key} = {_short(was)}, now it is {_short(now)}; ask for the same,"
                " or begin another with --out"
            )

    @property
    def configuration(self) -> dict[str, Any]:
        """What the audit was asked, as it was frozen."""
        return cast(dict[str, Any], json.loads(self.note("configuration") or "{}"))

    def note(self, key: str, value: str | None = None) -> str | None:
        """The note under a key; with a value it is written first."""
        if value is not None:
            with self.changing():
                self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        with told(self.path):
            row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def changing(self, *, durable: bool = False) -> Iterator[None]:
        """One transaction; durable: on the disk when it ends, not only in the system's hands."""
        with told(self.path):
            if durable:
                self.db.execute("PRAGMA synchronous = FULL")
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:  # SQLite itself rolls back when the disk is full.
                    self.db.execute("ROLLBACK")
                raise
            finally:
                if durable and self.journal == "WAL":
                    self.db.execute("PRAGMA synchronous = NORMAL")

    # ------------------------------------------------------------------------------------------ manifest

    @property
    def frozen(self) -> bool:
        """Whether the manifest is whole."""
        return self.note("frozen") is not None

    def freeze(self, entries: Iterable[Entry], batch: int = BATCH) -> int:
        """Write the manifest and its batches, all or nothing; the number of inputs. What was frozen stays: RunFailed.

        entries: in the order of their positions, 0, 1, 2, ... batch: distinct contents examined together.
        """
        if self.frozen:
            raise RunFailed(f"the manifest of {self.folder} is frozen; begin another audit for other inputs")
        with self.changing(durable=True):
            for table in ("files", "containers", "batches"):
                self.db.execute(f"DELETE FROM {table}")
            source = iter(entries)
            containers: dict[bytes, int] = {}
            while rows := [self._row(e, containers) for e in islice(source, CHUNK)]:
                self.db.executemany(f"INSERT INTO files VALUES ({', '.join('?' * 13)})", rows)
            self.db.execute("CREATE INDEX files_content ON files (sha256) WHERE sha256 IS NOT NULL")
            self.db.execute(
                "UPDATE files SET first = (SELECT min(g.position) FROM files g WHERE g.sha256 = files.sha256)"
                " WHERE position IN (SELECT position FROM (SELECT position, row_number() OVER (PARTITION BY sha256"
                " ORDER BY position) AS turn FROM files WHERE sha256 IS NOT NULL) WHERE turn > 1)"
            )
            self._cut(batch)
            count = int(self.db.execute("SELECT count(*) FROM files").fetchone()[0])
            self.db.execute("INSERT INTO meta VALUES ('frozen', ?)", (str(count),))
        return count

    def _row(self, entry: Entry, containers: dict[bytes, int]) -> tuple[Any, ...]:
        if entry.container not in containers:
            containers[entry.container] = len(containers)
            self.db.execute("INSERT INTO containers VALUES (?, ?)", (containers[entry.container], entry.container))
        content = bytes.fromhex(entry.sha256) if entry.sha256 else None
        return (
            entry.position, entry.id, entry.name, containers[entry.container], entry.packing, entry.offset,
            # An archive may promise more than SQLite can count.
            min(entry.packed, MOST), min(entry.size, MOST), content, entry.state, entry.reason,
            None if entry.caption is None else entry.caption.encode("utf-8", "replace").decode(),
            None if content is None else entry.position,
        )  # fmt: skip

    def _cut(self, size: int) -> None:
        """The batches: stretches of positions that hold `size` first contents each."""
        found = self.db.execute("SELECT position FROM files WHERE first = position ORDER BY position")
        number = 0
        while part := [row[0] for row in found.fetchmany(size)]:
            values = (number, part[0], part[-1], len(part))
            self.db.execute("INSERT INTO batches VALUES (?, ?, ?, ?, 'pending', NULL, NULL, 0)", values)
            number += 1

    def units(self, low: int, high: int) -> list[Entry]:
        """The entries between two positions that are the first of their content, each with up to two copies."""
        with told(self.path):
            rows = self.db.execute(
                f"SELECT {_ENTRY} FROM {_FILES} WHERE f.position BETWEEN ? AND ? AND f.first = f.position"
                " ORDER BY f.position",
                (low, high),
            ).fetchall()
            return [_entry(row, self._copies(row[8], row[0])) for row in rows]

    def _copies(self, content: bytes, position: int) -> tuple[Entry, ...]:
        rows = self.db.execute(
            f"SELECT {_ENTRY} FROM {_FILES} WHERE f.sha256 = ? AND f.position > ? ORDER BY f.position LIMIT 2",
            (content, position),
        )
        return tuple(_entry(row) for row in rows.fetchall())

    def content(self, sha256: str) -> Entry | None:
        """The first input of a content, with up to two copies; None when there is none."""
        with told(self.path):
            row = self.db.execute(
                f"SELECT {_ENTRY} FROM {_FILES} WHERE f.sha256 = ? AND f.first = f.position", (bytes.fromhex(sha256),)
            ).fetchone()
            return None if row is None else _entry(row, self._copies(row[8], row[0]))

    def batch_of(self, position: int) -> list[Entry]:
        """The contents that were examined together with that of an input, in order, its own among them."""
        with told(self.path):
            row = self.db.execute(
                "SELECT b.low, b.high FROM batches b JOIN files f ON f.first BETWEEN b.low AND b.high"
                " WHERE f.position = ? ORDER BY b.units LIMIT 1",
                (position,),
            ).fetchone()
        return [] if row is None else self.units(*row)

    # ------------------------------------------------------------------------------------------ findings

    def findings(self) -> Iterator[tuple[Entry, dict[str, Any] | None]]:
        """Every input in manifest order with the document of its content; None where it could not be listed.

        Copies of one content share a document, which speaks of the first of them. Nothing else may change the store
        meanwhile; rows are read in pieces, so that memory stays flat.
        """
        last = -1
        while True:
            with told(self.path):
                rows = self.db.execute(
                    f"SELECT {_ENTRY}, d.document FROM {_FILES} LEFT JOIN findings d ON d.position = f.first"
                    " WHERE f.position > ? ORDER BY f.position LIMIT ?",
                    (last, CHUNK),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from ((_entry(row), None if row[12] is None else json.loads(row[12])) for row in rows)

    def counts(self) -> dict[str, int]:
        """inputs; distinct contents, how many of them are done, and how many are left."""
        with told(self.path):
            inputs = int(self.note("frozen") or 0)
            by_state = dict(self.db.execute("SELECT state, sum(units) FROM batches GROUP BY state"))
        done, left = (sum(by_state.get(s, 0) for s in states) for states in (("done",), ("pending", "leased")))
        return {"inputs": inputs, "contents": done + left, "done": done, "left": left}


def _entry(row: Sequence[Any], copies: tuple[Entry, ...] = ()) -> Entry:
    content = row[8].hex() if row[8] is not None else ""
    return Entry(
        row[0], row[1], row[2], row[3], cast(Packing, row[4]), row[5], row[6], row[7], content, cast(State, row[9]),
        row[10], row[11], copies,
    )  # fmt: skip


def _difference(was: Any, now: Any, key: str = "") -> tuple[str, Any, Any]:
    """The first key, in alphabetical order, under which two JSON values differ, and both values; "" when none does."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted({*was, *now}):
            found = _difference(was.get(name), now.get(name), f"{key}.{name}" if key else name)
            if found[0]:
                return found
        return "", None, None
    return ("", None, None) if was == now else (key or "configuration", was, now)


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:77]}..."
