"""Examining all that is left of an audit, on one machine: in this process, or in one process a device.

Each helper leases batches, examines them and acknowledges them by itself; which helper did what leaves no trace in the
findings. A helper that dies is noticed at once, its batch goes back to the queue as one more attempt, and another takes
its place. Ctrl-C and SIGTERM give the batches under way back and leave the store as it is: the same command goes on.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

from .. import errors
from ..errors import BadSetting, EvalkitError, RunFailed
from ..interrupts import Terminated, heed
from ..types import Progress
from .entries import Entry
from .queueing import Heartbeat, Lease, Queue, is_here, owner_name
from .store import Store

ENGINES = ("local", "ray")
PATIENCE = 30.0  # seconds for a helper to give its batch back
MOST_STILLBORN = 3  # helpers in a row that die before they have leased anything


class Worker(Protocol):
    """What examines: the documents of a batch depend on its contents and the configuration alone."""

    def examine(self, entries: Sequence[Entry]) -> Sequence[Mapping[str, Any]]:
        """One strict JSON document an entry, in order."""
        ...

    def crashed(self, entry: Entry) -> Mapping[str, Any]:
        """The document of a content that kills every process which examines it."""
        ...


@dataclass(frozen=True)
class Spec:
    """How a worker is made, in any process: `factory`, "package.module:function", called with `arguments` and a device.

    arguments: plain JSON. The function returns a context manager that gives the Worker.
    """

    factory: str
    arguments: Mapping[str, Any]

    def made(self, device: str) -> AbstractContextManager[Worker]:
        """The worker of one device, not yet entered. Raises BadSetting when there is no such function."""
        module, _, name = self.factory.partition(":")
        try:
            found: AbstractContextManager[Worker] = getattr(importlib.import_module(module), name)(
                dict(self.arguments), device
            )
        except (ImportError, AttributeError) as error:
            raise BadSetting(f"worker {self.factory!r} cannot be made: {error}; expected module:function") from error
        return found

    def plain(self) -> str:
        return json.dumps({"factory": self.factory, "arguments": dict(self.arguments)}, allow_nan=False)

    @staticmethod
    def read(text: str) -> Spec:
        return Spec(**json.loads(text))


def run(
    store: Store,
    spec: Spec,
    *,
    engine: str = "local",
    devices: Sequence[str] = ("cpu",),
    address: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Examine every batch of a frozen manifest that is not done; one device: in this process, else one process each.

    address: of a Ray cluster, for engine "ray". Call it inside `store.working_on`. Raises what a worker raised
    (RunFailed for what is not evalkit's own), and RunFailed when batches are held by another machine.
    """
    if engine not in ENGINES:
        raise BadSetting(f"engine {engine!r}; expected one of {', '.join(ENGINES)}")
    if not devices:
        raise BadSetting("no device to examine on; expected cpu, cuda:0 or the like")
    if not store.frozen:
        raise RunFailed(f"the manifest of {store.folder} is not whole; list the inputs first")
    counts, queue = store.counts(), Queue(store)
    if progress is not None:
        progress.start("examining", counts["contents"])
        progress.advance(counts["done"])
    patience = time.monotonic() + PATIENCE
    while store.counts()["left"]:
        queue.reclaim()
        _drain(store, spec, engine, devices, address, progress)
        held = queue.held()
        if held is None:
            continue
        if not is_here(held[0]) or time.monotonic() > patience:
            raise RunFailed(
                f"a batch is held by a process of {held[0].split('/')[0]!r} for another {held[1]:.0f} s; let it finish,"
                " or give the command again after that time"
            )
        # A helper that a killed command left behind is about to notice.
        time.sleep(0.1)
    if progress is not None:
        progress.finish()


def _drain(
    store: Store, spec: Spec, engine: str, devices: Sequence[str], address: str | None, progress: Progress | None
) -> None:
    """Examine every batch that is to be had."""
    if not Queue(store).is_open():
        return
    if engine == "ray":
        from .ray_engine import run_on_ray

        run_on_ray(store, spec, devices, address, progress)
    elif len(devices) > 1:
        _Crew(store, spec, devices, progress).work()
    else:
        with spec.made(devices[0]) as worker:
            for done in worked(store, worker, owner_name()):
                if progress is not None:
                    progress.advance(done)


def worked(store: Store, worker: Worker, owner: str) -> Iterator[int]:
    """Batch after batch until none is to be had: the contents of each; one that is interrupted is given back."""
    queue = Queue(store, owner)
    while (lease := queue.lease()) is not None:
        try:
            with Heartbeat(store.folder, lease):
                kept = queue.acknowledge(lease, documents(worker, lease))
        except BaseException:
            with suppress(EvalkitError):
                queue.release(lease)
            raise
        yield len(lease.entries) if kept else 0


def documents(worker: Worker, lease: Lease) -> Sequence[Mapping[str, Any]]:
    """What a worker finds in a batch; what is not an error of evalkit's becomes RunFailed, one line."""
    if lease.doomed:
        return [worker.crashed(lease.entries[0])]
    try:
        return worker.examine(lease.entries)
    except EvalkitError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        first, last = lease.entries[0].id, lease.entries[-1].id
        raise RunFailed(f"examining {first} to {last} failed: {type(error).__name__}: {said}") from error


# ---------------------------------------------------------------------------------------------- several processes


@dataclass
class _Helper:
    device: str
    process: SpawnProcess
    pipe: connection.Connection
    owner: str = ""
    error: EvalkitError | None = None
    speaks: bool = True


class _Crew:
    """One process a device; what a helper says comes as JSON through its own pipe."""

    def __init__(self, store: Store, spec: Spec, devices: Sequence[str], progress: Progress | None) -> None:
        self.store, self.spec, self.progress = store, spec, progress
        self.queue = Queue(store)
        self.stillborn = 0
        self.helpers: list[_Helper] = []
        self.devices = list(devices)

    def work(self) -> None:
        try:
            for i, device in enumerate(self.devices):
                self.helpers.append(self._started(device, i))
            while self.helpers:
                pipes = [h.pipe for h in self.helpers if h.speaks]
                connection.wait([*(h.process.sentinel for h in self.helpers), *pipes])
                for i, helper in enumerate(list(self.helpers)):
                    ended = not helper.process.is_alive()
                    self._hear(helper)
                    if ended:
                        self._ended(helper, i)
        finally:
            self._stop()

    def _started(self, device: str, number: int) -> _Helper:
        context = get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        arguments = (os.fspath(self.store.folder), self.spec.plain(), device, str(number), theirs)
        process = context.Process(target=_help, args=arguments, name=f"evalkit-audit-{number}")
        process.start()
        theirs.close()
        return _Helper(device, process, ours)

    def _hear(self, helper: _Helper) -> None:
        try:
            while helper.pipe.poll():
                told = json.loads(helper.pipe.recv_bytes(1 << 20))
                helper.owner = told.get("owner", helper.owner)
                if "done" in told:
                    self.stillborn = 0
                    if self.progress is not None:
                        self.progress.advance(told["done"])
                if "error" in told:
                    helper.error = as_error(told["error"], told["message"])
        except (EOFError, OSError):
            helper.speaks = False

    def _ended(self, helper: _Helper, number: int) -> None:
        self.helpers.remove(helper)
        helper.process.join()
        helper.pipe.close()
        returned = self.queue.reclaim(helper.owner) if helper.owner else 0
        if helper.error is not None:
            raise helper.error
        if helper.process.exitcode == 0:
            return
        self.stillborn = 0 if returned else self.stillborn + 1
        if self.stillborn >= MOST_STILLBORN:
            raise RunFailed(
                f"{MOST_STILLBORN} processes on {helper.device} died (exit {helper.process.exitcode}) before they"
                " examined anything; try one device, or look for what killed them (memory?)"
            )
        self.helpers.append(self._started(helper.device, number))

    def _stop(self) -> None:
        for helper in self.helpers:
            helper.process.terminate()
        for helper in self.helpers:
            helper.process.join(PATIENCE)
            if helper.process.is_alive():
                helper.process.kill()
                helper.process.join()
            self._hear(helper)
            helper.pipe.close()
            if helper.owner:
                # Killed by us: no fault of its files.
                self.queue.reclaim(helper.owner, harmless=True)
        self.helpers.clear()


def _help(folder: str, spec: str, device: str, name: str, pipe: connection.Connection) -> None:
    """A helper's life: it ends with the queue, with an error told through the pipe, or with its parent."""
    # Ctrl-C reaches the whole group; the parent says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    heed()
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    owner = owner_name(name)

    def say(**told: Any) -> None:
        with suppress(OSError):
            pipe.send_bytes(json.dumps(told).encode())

    try:
        say(owner=owner)
        with Store(Path(folder)) as store, Spec.read(spec).made(device) as worker:
            for done in worked(store, worker, owner):
                say(done=done)
    except (Terminated, KeyboardInterrupt):
        sys.exit(143)
    except EvalkitError as error:
        say(error=type(error).__name__, message=str(error))
        sys.exit(int(error.exit_code))
    except Exception as error:
        say(error="RunFailed", message=f"{device}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        sys.exit(3)


def _outlive_nobody() -> None:
    """Without its parent a helper would go on unseen, next to the command that continues the audit."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def as_error(name: str, message: str) -> EvalkitError:
    """The error of a helper as this process raises it."""
    kind = getattr(errors, name, RunFailed)
    if not (isinstance(kind, type) and issubclass(kind, EvalkitError)):
        kind = RunFailed
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error
