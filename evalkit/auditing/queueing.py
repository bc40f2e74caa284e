"""The queue of batches: leased, acknowledged in one transaction with what was found, returned when a holder is gone.

Which contents make a batch was fixed with the manifest, so a batch done again gives the same documents. A lease names
its owner (machine, boot, process and its start, helper). An owner of this machine that no longer lives loses its leases
at once; one of another machine when they run out. Times are the machine's clock: when it jumps forwards, a lease may
run out early and its batch be done twice; only the acknowledgement of the present owner is kept. When it jumps
backwards, a lease that lies further ahead than one could be given counts as run out. A batch whose holder died
MOST_ATTEMPTS times is split into single contents, and a content that then goes on killing its holder is doomed: it is
recorded as a crash instead of being examined again.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import RunFailed
from .entries import Entry
from .store import Store, told

LEASE = 600.0  # seconds
MOST_ATTEMPTS = 3  # of a batch before it is split
ALONE = 2  # attempts at a single content after that
# With the time now, and the time that no lease can reach from now.
_FREE = (
    "FROM batches WHERE state IN ('pending', 'leased') AND (state = 'pending' OR lease_until < ? OR lease_until > ?)"
)


@dataclass(frozen=True)
class Lease:
    """A batch in the hands of one owner; attempts: how often it has been leased, this time included."""

    batch: int
    owner: str
    attempts: int
    entries: tuple[Entry, ...]

    @property
    def doomed(self) -> bool:
        """Whether it is one content that killed every process which examined it."""
        return len(self.entries) == 1 and self.attempts > MOST_ATTEMPTS


def owner_name(helper: str = "0") -> str:
    """This process as the owner of leases: machine, boot, process, its start, and the name of a helper."""
    return "/".join((socket.gethostname(), _boot(), str(os.getpid()), _started(os.getpid()), helper))


def is_here(owner: str) -> bool:
    """Whether an owner is or was a process of this machine."""
    return owner.split("/")[0] == socket.gethostname()


def is_gone(owner: str) -> bool:
    """Whether an owner was a process of this machine and no longer lives; False for one of another machine."""
    _, boot, process, started, _ = owner.split("/", 4)
    if not is_here(owner):
        return False
    if boot != _boot():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # Its number may belong to another process by now, or to the remains of a dead one that nobody has collected.
    return _started(int(process)) != started


class Queue:
    """The open batches of a store, for one owner. clock: seconds, time.time unless a test says otherwise."""

    def __init__(self, store: Store, owner: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self.store, self.owner, self.clock = store, owner or owner_name(), clock

    def lease(self) -> Lease | None:
        """The first batch that is to be had, or None; a batch that failed too often is split on the way."""
        while True:
            with self.store.changing():
                now = self.clock()
                row = self.store.db.execute(
                    f"SELECT batch, low, high, units, attempts {_FREE} ORDER BY batch LIMIT 1",
                    (now, now + 2 * LEASE),
                ).fetchone()
                if row is None:
                    return None
                batch, low, high, units, attempts = row
                if units > 1 and attempts >= MOST_ATTEMPTS:
                    self._split(batch, low, high)
                    continue
                self.store.db.execute(
                    "UPDATE batches SET state = 'leased', owner = ?, lease_until = ?, attempts = ? WHERE batch = ?",
                    (self.owner, now + LEASE, attempts + 1, batch),
                )
            return Lease(batch, self.owner, attempts + 1, tuple(self.store.units(low, high)))

    def _split(self, batch: int, low: int, high: int) -> None:
        singles = [e.position for e in self.store.units(low, high)]
        self.store.db.executemany(
            "INSERT INTO batches (low, high, units, state, owner, lease_until, attempts)"
            " VALUES (?, ?, 1, 'pending', NULL, NULL, ?)",
            [(p, p, MOST_ATTEMPTS - ALONE) for p in singles],
        )
        self.store.db.execute("UPDATE batches SET state = 'split', owner = NULL WHERE batch = ?", (batch,))

    def renew(self, lease: Lease) -> bool:
        """Hold a lease for another term; False when it was lost."""
        with self.store.changing():
            return self._moved(lease, "lease_until = ?", (self.clock() + LEASE,))

    def acknowledge(self, lease: Lease, documents: Sequence[Mapping[str, Any]]) -> bool:
        """Keep what was found of a batch, all or nothing and on the disk; False, and nothing kept, when it was lost.

        documents: strict JSON, one an entry, in their order. Raises RunFailed when their number differs.
        """
        if len(documents) != len(lease.entries):
            raise RunFailed(f"batch {lease.batch} has {len(lease.entries)} contents, {len(documents)} documents came")
        rows = [
            (e.position, json.dumps(d, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False))
            for e, d in zip(lease.entries, documents, strict=True)
        ]
        with self.store.changing(durable=True):
            if not self._moved(lease, "state = 'done', owner = NULL, lease_until = NULL", ()):
                return False
            self.store.db.executemany("INSERT INTO findings VALUES (?, ?)", rows)
        return True

    def release(self, lease: Lease) -> bool:
        """Give a batch back that was interrupted and did no harm: it counts as no attempt."""
        with self.store.changing():
            returned = "state = 'pending', owner = NULL, lease_until = NULL, attempts = attempts - 1"
            return self._moved(lease, returned, ())

    def _moved(self, lease: Lease, change: str, values: tuple[Any, ...]) -> bool:
        mine = "batch = ? AND owner = ? AND attempts = ? AND state = 'leased'"
        key = (lease.batch, lease.owner, lease.attempts)
        return self.store.db.execute(f"UPDATE batches SET {change} WHERE {mine}", (*values, *key)).rowcount == 1

    def reclaim(self, owner: str | None = None, *, harmless: bool = False) -> int:
        """Return the leases of one owner, or of all that are gone; their number. harmless: they count as no attempt."""
        with self.store.changing():
            held = {str(row[0]) for row in self.store.db.execute("SELECT owner FROM batches WHERE state = 'leased'")}
            lost = [o for o in held if (o == owner if owner is not None else is_gone(o))]
            returned = 0
            for one in lost:
                returned += self.store.db.execute(
                    "UPDATE batches SET state = 'pending', owner = NULL, lease_until = NULL, attempts = attempts - ?"
                    " WHERE state = 'leased' AND owner = ?",
                    (int(harmless), one),
                ).rowcount
            return returned

    def is_open(self) -> bool:
        """Whether a batch is to be had."""
        now = self.clock()
        with told(self.store.path):
            return self.store.db.execute(f"SELECT 1 {_FREE} LIMIT 1", (now, now + 2 * LEASE)).fetchone() is not None

    def held(self) -> tuple[str, float] | None:
        """The owner of the lease that runs out first, and the seconds until then; None when there is none."""
        query = "SELECT owner, lease_until FROM batches WHERE state = 'leased' ORDER BY lease_until LIMIT 1"
        with told(self.store.path):
            row = self.store.db.execute(query).fetchone()
        return None if row is None else (str(row[0]), max(0.0, float(row[1]) - self.clock()))


class Heartbeat:
    """Renews one owner's lease from a thread of its own while the batch is examined; a context manager."""

    def __init__(self, folder: Path, lease: Lease, every: float = LEASE / 4) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(folder, lease, every), daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self, folder: Path, lease: Lease, every: float) -> None:
        while not self._stop.wait(every):
            try:
                with Store(folder) as store:
                    Queue(store, lease.owner).renew(lease)
            except Exception:  # The acknowledgement will say what is wrong with the store.
                continue


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
    except OSError:
        return "-"


def _started(process: int) -> str:
    """When a process began, in ticks since boot; "dead" of a zombie, "-" where the system does not say."""
    try:
        text = Path(f"/proc/{process}/stat").read_text("ascii", "replace")
    except OSError:
        return "-"
    fields = text.rpartition(")")[2].split()
    return "dead" if fields[0] in "ZX" else fields[19]
