"""The same batches on a Ray cluster: actors hold the examiners, this process alone holds the store.

An actor gets a batch's entries as JSON and gives its documents as JSON; it reads the files by itself, so they must be
readable from every node under the same names: a shared file system, or URLs. The environment of a node must hold the
same evalkit. Without an address a Ray of this process's own is started: on 127.0.0.1 alone, without dashboard and usage
statistics, with a token that only this run knows (an unprotected Ray runs anyone's code, CVE-2023-48022). With an
address Ray's own setting decides (RAY_AUTH_MODE, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH); it is `token` unless set.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

from ..errors import BadSetting, EvalkitError, RunFailed
from ..types import Progress
from .engines import MOST_STILLBORN, Spec, Worker, as_error, documents
from .entries import Entry
from .queueing import LEASE, Lease, Queue, owner_name
from .store import Store

STORE_BYTES = 80 * 2**20  # of Ray's object store: batches of names and documents are small
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


class Seat:
    """An actor: one examiner, made when the first batch comes. Errors travel as JSON, like documents."""

    def __init__(self, spec: str, device: str) -> None:
        self.spec, self.device = Spec.read(spec), device
        self.stack = ExitStack()
        self.worker: Worker | None = None

    def examine(self, lease: str) -> str:
        """The documents of a batch, or the error that ended it."""
        told = json.loads(lease)
        entries = tuple(Entry.read(e) for e in told["entries"])
        try:
            if self.worker is None:
                self.worker = self.stack.enter_context(self.spec.made(self.device))
            found = documents(self.worker, Lease(told["batch"], "", told["attempts"], entries))
            return json.dumps({"documents": [dict(d) for d in found]}, allow_nan=False)
        except EvalkitError as error:
            return json.dumps({"error": type(error).__name__, "message": str(error)})
        except Exception as error:
            return json.dumps({"error": "RunFailed", "message": f"{type(error).__name__}: {str(error)[:300]}"})

    def close(self) -> None:
        self.worker = None
        self.stack.close()


def run_on_ray(
    store: Store, spec: Spec, devices: Sequence[str], address: str | None, progress: Progress | None
) -> None:
    """Examine what is left with one actor a device (cuda: one GPU each, else one core); `engines.run` calls it.

    Raises BadSetting when ray is not installed, RunFailed when the cluster cannot be reached, and what a worker raised.
    """
    with _connected(address, len(devices)) as ray:
        _Hall(ray, store, spec, devices, progress).work()


@contextmanager
def _connected(address: str | None, actors: int) -> Iterator[Any]:
    """Ray, connected for as long as the block lasts; the environment is afterwards as it was."""
    wanted = {"RAY_USAGE_STATS_ENABLED": "0"}
    if MODE not in os.environ and "ray" not in sys.modules:
        # Read when Ray is imported; in a process that imported it before, Ray's own default holds.
        wanted[MODE] = "token"
    if address is None and TOKEN not in os.environ and TOKEN_PATH not in os.environ:
        # Else Ray would leave one in the user's home.
        wanted[TOKEN] = _own_token()
    # Ray sets variables of its own, among them one that moves `breakpoint()`.
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        try:
            ray = importlib.import_module("ray")
        except ImportError:
            raise BadSetting("--engine ray needs Ray; pip install 'evalkit[ray]', or use --engine local") from None
        if ray.is_initialized():
            raise RunFailed("this process is already connected to a Ray; call ray.shutdown() first")
        try:
            ray.init(**_settings(address, actors))
        except Exception as error:
            said = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise RunFailed(f"cannot reach Ray at {address or 'this machine'}: {said}; see docs/scale.md") from error
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        for key in {*os.environ, *before}:
            if key not in before:
                del os.environ[key]
            elif os.environ.get(key) != before[key]:
                os.environ[key] = before[key]


@cache
def _own_token() -> str:
    """One token a process: Ray goes on using the first that it saw."""
    return secrets.token_hex(32)


def _settings(address: str | None, actors: int) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        return {"address": address, **quiet}
    return {
        **quiet, "address": "local", "num_cpus": actors, "include_dashboard": False,
        "object_store_memory": STORE_BYTES, "_node_ip_address": "127.0.0.1",
    }  # fmt: skip


class _Hall:
    """The driver's side: an actor a device, a batch in each, the store in the driver's hands."""

    def __init__(self, ray: Any, store: Store, spec: Spec, devices: Sequence[str], progress: Progress | None) -> None:
        self.ray, self.store, self.spec, self.devices, self.progress = ray, store, spec, list(devices), progress
        self.seats: dict[int, Any] = {}
        self.under_way: dict[Any, tuple[int, Lease]] = {}
        self.deaths: dict[int, int] = {}

    def work(self) -> None:
        try:
            self._fill()
            renewed = time.monotonic()
            while self.under_way:
                ready, _ = self.ray.wait(list(self.under_way), timeout=LEASE / 4)
                for done in ready:
                    self._received(done)
                if time.monotonic() - renewed > LEASE / 4:
                    renewed = time.monotonic()
                    for _, lease in self.under_way.values():
                        Queue(self.store, lease.owner).renew(lease)
                self._fill()
        finally:
            self._stop()

    def _fill(self) -> None:
        """Give every actor that has none a batch, as long as there are any."""
        busy = {number for number, _ in self.under_way.values()}
        for number in range(len(self.devices)):
            if number not in busy:
                lease = Queue(self.store, owner_name(f"ray-{number}")).lease()
                if lease is None:
                    return
                self._give(number, lease)

    def _give(self, number: int, lease: Lease) -> None:
        if number not in self.seats:
            cuda = self.devices[number].startswith("cuda")
            seat = self.ray.remote(num_cpus=1, num_gpus=1 if cuda else 0, max_restarts=0)(Seat)
            # Ray shows each actor its own GPU as the only one.
            self.seats[number] = seat.remote(self.spec.plain(), "cuda" if cuda else self.devices[number])
        told = {"batch": lease.batch, "attempts": lease.attempts, "entries": [e.plain() for e in lease.entries]}
        self.under_way[self.seats[number].examine.remote(json.dumps(told))] = (number, lease)

    def _received(self, done: Any) -> None:
        number, lease = self.under_way.pop(done)
        queue = Queue(self.store, lease.owner)
        try:
            told = json.loads(self.ray.get(done))
        except self.ray.exceptions.RayActorError as error:
            # The actor died, as a process of this machine would: one more attempt.
            queue.reclaim(lease.owner)
            self.seats.pop(number, None)
            self.deaths[number] = self.deaths.get(number, 0) + 1
            if self.deaths[number] > MOST_STILLBORN * (2 + len(lease.entries)):
                raise RunFailed(
                    f"the actors of {self.devices[number]} die again and again: {str(error)[:200]}"
                ) from error
            return
        except BaseException:
            queue.release(lease)
            raise
        if "error" in told:
            queue.release(lease)
            raise as_error(told["error"], told["message"])
        self.deaths[number] = 0
        if queue.acknowledge(lease, told["documents"]) and self.progress is not None:
            self.progress.advance(len(lease.entries))

    def _stop(self) -> None:
        """Give back what is under way, and let examiners end their own processes."""
        for _, lease in self.under_way.values():
            with suppress(EvalkitError):
                Queue(self.store, lease.owner).release(lease)
        with suppress(Exception):
            if not self.under_way:
                self.ray.get([seat.close.remote() for seat in self.seats.values()], timeout=10)
        for seat in self.seats.values():
            with suppress(Exception):
                self.ray.kill(seat)
