"""The loop of one isolated worker: a request for the bytes in the shared memory, an answer in JSON, until it closes.

It is forked by `nursery` and knows one socket and one piece of memory, no path. Before each stage it notes in the
shared memory what it is about to do, so that the parent can say where it died.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..types import MediaFile
from . import confining, faults, opening, wire, witnessing
from .limits import TOGETHER_OUT, Limits

if TYPE_CHECKING:
    from ..types import Witness

REQUEST = 4096  # bytes of JSON a request may have


def serve(line: socket.socket, memory: int, limits: Limits, wanted: witnessing.Wanted, hashes: bool) -> None:
    """Answer requests until the line closes. The first message says what is ready and in force, or what failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    in_force = confining.confine_one(limits, os.getppid())
    try:
        worker = Worker(limits, memory, witnessing.make(wanted), hashes)
    except BaseException as error:
        wire.send(line, {"failed": f"{type(error).__name__}: {error}"[:2000]})
        return
    digests = {witness.name: witness.digest for witness in worker.witnesses}
    wire.send(line, {"in_force": in_force, "witnesses": digests, "decoders": opening.decoders()})
    while True:
        try:
            request = wire.receive(line, REQUEST)
        except wire.Gone:
            return
        if "bytes" in request:
            line.sendall(_framed(worker.open(int(request["bytes"]), str(request["want"])), limits))
        else:
            wire.send_many(line, [_framed(answer, limits) for answer in worker.open_many(request)])


def _framed(answer: dict[str, Any], limits: Limits) -> bytes:
    try:
        return wire.framed(answer, limits.most_reply)
    except ValueError as error:
        # Only evidence can be as long as that: without it the file is still read.
        warnings = [*answer["warnings"], f"evidence left out: {error}"]
        state = "ok_with_warning" if answer["state"] == "ok" else answer["state"]
        return wire.framed({**answer, "state": state, "warnings": warnings, "evidence": [], "hashes": {}})


class Worker:
    """The shared memory, the witnesses, and one file at a time.

    `_which` file of a request it is, where its bytes begin (`_at`) and where what it gives back does (`_out`).
    """

    def __init__(self, limits: Limits, memory: int, witnesses: list[Witness], hashes: bool) -> None:
        import numpy as np

        self.limits, self.witnesses, self.hashes = limits, witnesses, hashes
        self.shared = mmap.mmap(memory, limits.shared)
        self.room = np.frombuffer(self.shared, np.uint8, limits.progress - limits.out, limits.out)
        self._noted = limits.progress
        self._which, self._at, self._out, self._used = 0, 0, 0, -1

    def open_many(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers for files that lie one behind the other; fewer than asked for once that is enough at a time.

        What they give back lies one behind the other too.
        """
        until = time.perf_counter() + self.limits.together_seconds
        for i, size in enumerate(request["sizes"]):
            self._which = i
            answer = self.open(int(size), str(request["want"]))
            yield answer
            self._at += int(size)
            self._out += given_bytes(answer)
            # After `oom` this worker is replaced in any case.
            if answer["state"] == "oom" or self._out > TOGETHER_OUT or time.perf_counter() > until:
                break
        self._which = self._at = self._out = 0

    def open(self, size: int, want: str) -> dict[str, Any]:
        """The answer for a file of so many bytes."""
        self._used = confining.allow_seconds(self.limits, self._used)
        start = time.perf_counter()
        stage = "read"

        def enter(name: str, witness: int = 0) -> None:
            nonlocal stage
            stage = name
            self.shared[self._noted :] = bytes((opening.STAGES.index(name), witness, self._which))

        reading = opening.Reading()
        evidence: list[dict[str, Any]] = []
        found: dict[str, Any] = {}
        try:
            enter("read")
            data = self.shared[self._at : self._at + size]
            reading = opening.open_media(data, want != "facts", self.limits, self.room[self._out :], enter)
            if want != "facts" and reading.stage == "":
                evidence, found = self._beyond(data, reading, enter)
            media = self._given(reading, want)
        except BaseException as error:
            evidence, found, media = [], {}, {}
            reading.end(faults.classify(error, stage))
        return {
            **{name: getattr(reading, name) for name in PLAIN},
            **media,
            "hashes": found,
            "evidence": evidence,
            "seconds": round(time.perf_counter() - start, 6),
            "peak_bytes": peak_bytes(),
        }

    def _beyond(
        self, data: bytes, reading: opening.Reading, enter: Callable[..., None]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What witnesses say and perceptual hashes are, of a file that could be opened."""

        def warn(words: str) -> None:
            opening.warn(reading, words)

        evidence: list[dict[str, Any]] = []
        file = MediaFile(
            data, reading.format, reading.modality, reading.media_facts, pixels=reading.pixels, text=reading.text
        )
        for i, witness in enumerate(self.witnesses):
            enter("witness", i + 1)
            evidence += witnessing.ask(witness, file, warn)
        enter("witness")
        hashed = self.hashes and reading.pixels is not None
        return evidence, witnessing.hashes_of(reading.pixels, warn) if hashed and reading.pixels is not None else {}

    def _given(self, reading: opening.Reading, want: str) -> dict[str, Any]:
        """Which media lie in the shared memory: the shape of the pixels, or the bytes of the text."""
        if want in ("media", "pixels") and reading.pixels is not None:
            return {"shape": list(reading.pixels.shape)}
        if want in ("media", "text") and reading.text is not None:
            encoded = reading.text.encode("utf-8")
            at = self.limits.out + self._out
            self.shared[at : at + len(encoded)] = encoded
            return {"text": len(encoded)}
        return {}


def given_bytes(answer: dict[str, Any]) -> int:
    """Bytes that lie in the shared memory for an answer."""
    shape = answer.get("shape")
    return shape[0] * shape[1] * shape[2] if shape else int(answer.get("text", 0))


PLAIN = ("state", "stage", "reason", "decoder", "format", "modality", "width", "height", "facts", "warnings")


def peak_bytes() -> int:
    """The most memory this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
