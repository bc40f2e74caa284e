"""Toy examiners and small audits, importable by helper processes: what tests of the queue and the engines share."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalkit.auditing.engines import Spec
from evalkit.auditing.entries import Entry
from evalkit.auditing.manifest import Reader, listed
from evalkit.auditing.queueing import Queue
from evalkit.auditing.store import Store
from evalkit.errors import BadRows

CONFIGURATION = {"fdr": 0.05, "limits": {"seconds": 10}, "detectors": ["toy"]}


class Toy:
    """Sums the bytes of each file; kills its process over KILL, waits over SLOW, and refuses BAD contents."""

    def __init__(self, arguments: Mapping[str, Any], reader: Reader) -> None:
        self.arguments, self.reader = arguments, reader

    def examine(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        return [self._one(e) for e in entries]

    def crashed(self, entry: Entry) -> dict[str, Any]:
        return {"sha256": entry.sha256, "state": "crash"}

    def _one(self, entry: Entry) -> dict[str, Any]:
        data = self.reader.read(entry)
        if data.startswith(b"KILL"):
            self._note("killed")
            os.kill(os.getpid(), signal.SIGKILL)
        if data.startswith(b"SLOW"):
            self._note("waiting")
            time.sleep(0 if "quick" in self.arguments else 30)
        if data.startswith(b"BAD"):
            raise BadRows("these rows are bad")
        if data.startswith(b"BUG"):
            raise KeyError("unforeseen")
        time.sleep(self.arguments.get("seconds", 0))
        return {"sha256": entry.sha256, "state": "ok", "sum": sum(data), "share": len(data) / 7}

    def _note(self, name: str) -> None:
        if "notes" in self.arguments:
            with (Path(self.arguments["notes"]) / name).open("a") as file:
                file.write(".")


@contextmanager
def toy(arguments: Mapping[str, Any], device: str) -> Iterator[Toy]:
    with Reader() as reader:
        yield Toy(arguments, reader)


@contextmanager
def stillborn(arguments: Mapping[str, Any], device: str) -> Iterator[Toy]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield Toy(arguments, Reader())


def spec(**arguments: Any) -> Spec:
    return Spec("tests.queued:toy", arguments)


def folder_of(root: Path, contents: Sequence[bytes]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(contents):
        (root / f"{i:04}.bin").write_bytes(content)
    return root


def audit_of(source: Path, out: Path, batch: int = 8) -> Store:
    """A new audit of a folder, its manifest frozen."""
    store = Store(out, CONFIGURATION)
    store.freeze(listed([str(source)], own=out), batch)
    return store


def found(store: Store) -> list[tuple[str, dict[str, Any] | None]]:
    return [(entry.id, document) for entry, document in store.findings()]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listing_of(path: Path, **settings: Any) -> list[Entry]:
    return list(listed([str(path)], **settings))


def zip_of(files: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED, before: bytes = b"") -> bytes:
    out = io.BytesIO(before)
    out.seek(len(before))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "a" if before else "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def entries_of(n: int) -> Iterator[Entry]:
    """n inputs: every third a copy of the one before, every seventh unreadable."""
    for i in range(n):
        if i % 7 == 6:
            yield Entry(i, f"in/{i}", b"%d" % i, b"/in", state="io_error", reason="gone")
        else:
            yield Entry(i, f"in/{i}", b"\xff%d" % i, b"/in", size=i, sha256=sha(b"%d" % (i - (i % 3 == 2))))


def drained(store: Store, owner: str | None = None) -> list[int]:
    """Acknowledge all that is to be had; the sizes of the batches."""
    queue, sizes = Queue(store, owner), []
    while (lease := queue.lease()) is not None:
        assert queue.acknowledge(lease, [{"at": e.position} for e in lease.entries])
        sizes.append(len(lease.entries))
    return sizes
