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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..types import MediaFile
from . import confining, faults, opening, wire, witnessing
from .limits import Limits

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
        confining.allow_seconds(limits)
        answer = worker.open(int(request["bytes"]), str(request["want"]))
        try:
            wire.send(line, answer, limits.most_reply)
        except ValueError as error:
            # Only evidence can be as long as that: without it the file is still read.
            warnings = [*answer["warnings"], f"evidence left out: {error}"]
            state = "ok_with_warning" if answer["state"] == "ok" else answer["state"]
            wire.send(line, {**answer, "state": state, "warnings": warnings, "evidence": [], "hashes": {}})


class Worker:
    """The shared memory, the witnesses, and one file at a time."""

    def __init__(self, limits: Limits, memory: int, witnesses: list[Witness], hashes: bool) -> None:
        import numpy as np

        self.limits, self.witnesses, self.hashes = limits, witnesses, hashes
        self.shared = mmap.mmap(memory, limits.shared)
        self.room = np.frombuffer(self.shared, np.uint8, limits.progress - limits.out, limits.out)

    def open(self, size: int, want: str) -> dict[str, Any]:
        """The answer for the file whose `size` bytes lie at the front of the shared memory."""
        start = time.perf_counter()
        stage = "read"

        def enter(name: str, witness: int = 0) -> None:
            nonlocal stage
            stage = name
            self.shared[self.limits.progress :] = bytes((opening.STAGES.index(name), witness))

        reading = opening.Reading()
        evidence: list[dict[str, Any]] = []
        found: dict[str, Any] = {}
        try:
            enter("read")
            data = self.shared[:size]
            reading = opening.open_media(data, want != "facts", self.limits, self.room, enter)
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
            "seconds": time.perf_counter() - start,
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
            self.shared[self.limits.out : self.limits.out + len(encoded)] = encoded
            return {"text": len(encoded)}
        return {}


PLAIN = ("state", "stage", "reason", "decoder", "format", "modality", "width", "height", "facts", "warnings")


def peak_bytes() -> int:
    """The most memory this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
