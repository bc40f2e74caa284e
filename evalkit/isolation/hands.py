"""The parent's side of one fork server and of one worker: start, ask, kill, and learn how it ended.

The memory of a worker is read and written with pread and pwrite and never mapped here: whatever a worker does to it,
the worst that comes back is a short read, where a mapping would end the parent with SIGBUS.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..errors import RunFailed
from . import nursery, wire, witnessing
from .limits import Limits

BEGIN = "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from evalkit.isolation.nursery import main; main()"
# One worker is one core: thread pools of numeric libraries would only take memory and hinder the others.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
SLOW_START = 120.0  # seconds for the fork server to load its modules
TOLD = 1 << 20  # bytes of its first message
HEAVY = 16 << 20  # bytes in a worker's memory above which they are given back to the system after a file


class Lost(Exception):
    """The fork server is gone, and its workers with it; no file is to blame."""


class Died(Exception):
    """The worker ended instead of answering; the wait status says how."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Nursery:
    """One fork server; `in_force` says what it could restrict. Used by several threads, one order at a time."""

    def __init__(self, limits: Limits, wanted: witnessing.Wanted, hashes: bool) -> None:
        plan = {"limits": limits.as_json(), "witnesses": [[n, dict(s)] for n, s in wanted], "hashes": hashes}
        path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]  # noqa: PTH109
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs, tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", BEGIN, str(theirs.fileno()), json.dumps(plan), json.dumps(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **ONE_THREAD, "PYTHONDONTWRITEBYTECODE": "1"},
                # Ctrl-C in a terminal reaches the parent alone, which then closes what it opened.
                start_new_session=True,
            )
            theirs.close()
            try:
                self.in_force: list[str] = wire.receive(self._control, TOLD, SLOW_START)["in_force"]
            except (wire.Gone, wire.BadMessage, TimeoutError) as error:
                self.close()
                said.seek(0)
                last = said.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise RunFailed(f"the process that opens untrusted files did not start: {last[0]}") from error
            except BaseException:
                self.close()
                raise

    def start(self, line: socket.socket, memory: int) -> int:
        """Fork a worker on this line and memory; its process id. Lost when the server is gone."""
        with self._lock, _lost():
            socket.send_fds(self._control, [nursery.START], [line.fileno(), memory])
            return int(struct.unpack(">i", self._four())[0])

    def end(self, child: int) -> int:
        """Wait for a worker that is dying; its wait status. Lost when the server is gone."""
        with self._lock, _lost():
            self._control.sendall(nursery.END + struct.pack(">i", child))
            return int(struct.unpack(">i", self._four())[0])

    def _four(self) -> bytes:
        told = b""
        while len(told) < 4:
            more = self._control.recv(4 - len(told))
            if not more:
                raise Lost
            told += more
        return told

    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the server; its workers die with it."""
        self._control.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _lost:  # noqa: N801
    """A broken line to the fork server, as one exception."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise Lost from error


class Hand:
    """One worker as the parent holds it: its line, its memory, how many files it has opened."""

    def __init__(self, nest: Nursery, limits: Limits) -> None:
        self.nest, self.limits, self.files = nest, limits, 0
        self._line, theirs = socket.socketpair()
        self._memory, self._touched = shared_memory(limits.shared), 0
        self._child, self.status = 0, 0
        try:
            with theirs:
                self._child = nest.start(theirs, self._memory)
            self.hello: dict[str, Any] = self._receive(limits.start_seconds)
        except BaseException:
            self.close()
            raise

    def ask(self, data: bytes, want: str) -> Any:
        """The worker's answer, not yet believed. Died, Lost, TimeoutError or BadMessage; then it is to be closed."""
        self.files += 1
        self._send([data], {"bytes": len(data), "want": want})
        return self._receive(self.limits.wall_seconds)

    def ask_many(self, files: Sequence[bytes], want: str) -> list[Any]:
        """The worker's answers to the first of the files, one at least, not yet believed; raises as `ask`."""
        self.files += len(files)
        self._send(files, {"sizes": [len(data) for data in files], "want": want})
        # No file is begun after together_seconds, so the one that the clock finds has had all of its own.
        seconds = self.limits.wall_seconds + self.limits.together_seconds
        try:
            return wire.receive_many(self._line, self.limits.most_reply, len(files), seconds)
        except wire.Gone as error:
            raise Died(self._reap()) from error

    def _send(self, files: Sequence[bytes], request: dict[str, Any]) -> None:
        at = 0
        for data in files:
            _write(self._memory, data, at)
            at += len(data)
        self._touched = max(self._touched, at)
        try:
            wire.send(self._line, request)
        except OSError as error:
            raise Died(self._reap()) from error

    def _receive(self, seconds: float) -> Any:
        try:
            return wire.receive(self._line, self.limits.most_reply, seconds)
        except wire.Gone as error:
            raise Died(self._reap()) from error

    def read(self, into: memoryview, begin: int = 0) -> None:
        """Fill `into` with what the worker gives back from `begin` on; BadMessage when it has taken that away."""
        at, done = self.limits.out + begin, 0
        while done < len(into):
            got = os.preadv(self._memory, [into[done:]], at + done)
            if got <= 0:
                raise wire.BadMessage("its memory is shorter than agreed")
            done += got
        self._touched = max(self._touched, begin + len(into))

    def noted(self) -> tuple[int, int, int]:
        """What the worker noted last: stage, witness and file of its request, as it numbers them, each 0 to 255."""
        told = os.pread(self._memory, 3, self.limits.progress)
        return (told[0], told[1], told[2]) if len(told) == 3 else (0, 0, 0)

    def tidy(self) -> None:
        """Give the pages of a large file back to the system; the next file finds zeros."""
        if self._touched > HEAVY:
            os.ftruncate(self._memory, 0)
            os.ftruncate(self._memory, self.limits.shared)
            self._touched = 0

    def _reap(self) -> int:
        """Kill it if it still lives; how it ended."""
        child, self._child = self._child, 0
        if child:
            # Its id is its own until the server has waited for it. Of a worker that was dying already the status says
            # what it died of: the first cause is kept.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            self.status = self.nest.end(child)
        return self.status

    def close(self) -> None:
        """Kill the worker and free its memory."""
        self._line.close()
        with suppress(Lost):
            self._reap()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


def shared_memory(size: int) -> int:
    """A descriptor of so many bytes that no name leads to; pages take memory when they are touched."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("evalkit")
    else:
        with tempfile.TemporaryFile() as unnamed:
            memory = os.dup(unnamed.fileno())
    os.ftruncate(memory, size)
    return memory


def _write(memory: int, data: bytes, at: int) -> None:
    done, whole = 0, memoryview(data)
    while done < len(data):
        done += os.pwrite(memory, whole[done:], at + done)
