"""Toy witnesses that do in an isolated worker what a decoder taken over, or a careless plug-in, would do."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.types import Evidence, MediaFile

MARK = b"EVALKIT-FAULT:"


def marked(data: bytes, fault: str) -> bytes:
    """The same file with a fault ordered behind its end, where decoders do not look."""
    return data + MARK + fault.encode()


def said(detail: str, **facts: Any) -> Evidence:
    return Evidence("metadata", "unknown", "hint", "toy", detail, facts)


class Toy:
    name, digest = "toy", "sha256:toy"

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        return [said(f"{len(file.data)} bytes")]


class Fault(Toy):
    """Does what the end of the file orders."""

    name = "fault"

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        _, found, fault = file.data.partition(MARK)
        if found:
            getattr(self, fault.decode().split(" ")[0])(*fault.decode().split(" ")[1:])
        return super().testify(file)

    def segfault(self) -> None:
        ctypes.string_at(0)

    def abort(self) -> None:
        os.abort()

    def hang(self) -> None:
        time.sleep(600)

    def spin(self) -> None:
        while True:
            pass

    def memory(self) -> None:
        bytearray(8 * 2**30)

    def leave(self) -> None:
        os._exit(7)

    def fail(self) -> None:
        raise ValueError("no such tag")

    def quit(self) -> None:
        sys.exit("enough")

    def send(self, body: str) -> None:
        """Answer in the worker's place, with these bytes (hex) as they are."""
        os.write(descriptor(stat.S_ISSOCK), bytes.fromhex(body))
        time.sleep(600)

    def shrink(self, body: str) -> None:
        """Take the shared memory away, then answer as if all were well."""
        memory = next(fd for fd in range(3, 64) if "memfd" in link(fd))
        os.ftruncate(memory, 0)
        self.send(body)


def descriptor(is_it: Any) -> int:
    for number in range(3, 64):
        try:
            if is_it(os.fstat(number).st_mode):
                return number
        except OSError:
            continue
    raise LookupError


def link(number: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return ""


class Outward(Toy):
    """Tries to reach a server, by Python and past it, to write and delete a file, to start a program, to kill."""

    name = "outward"

    def __init__(self, port: int, path: str, victim: int) -> None:
        self.port, self.path, self.victim = port, path, victim

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        libc = ctypes.CDLL(None)
        address = (2).to_bytes(2, "little") + self.port.to_bytes(2, "big") + bytes((127, 0, 0, 1)) + bytes(8)
        tries = {
            "python": lambda: socket.create_connection(("127.0.0.1", self.port), 1),
            "libc": lambda: libc.connect(libc.socket(2, 1, 0), address, 16),
            "open": lambda: Path(self.path).write_text("changed"),
            "unlink": lambda: Path(self.path).unlink(),
            "run": lambda: libc.execv(b"/bin/true", (ctypes.c_char_p * 2)(b"/bin/true", None)),
            "kill": lambda: libc.kill(self.victim, 0),
        }
        return [said(name, done=attempted(act)) for name, act in tries.items()]


def attempted(act: Any) -> str:
    try:
        return str(act())
    except Exception as error:
        return type(error).__name__


class Modules(Toy):
    """Which modules the worker has loaded, and whether the pixels can be changed."""

    name = "modules"

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        loaded = sorted({name.partition(".")[0] for name in sys.modules})
        changeable = file.pixels is not None and bool(file.pixels.flags.writeable)
        return [said("modules", loaded=loaded, main=sys.modules["__main__"].__name__, changeable=changeable)]


class Odd(Toy):
    """Says what no JSON can hold."""

    name = "odd"

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        facts: dict[str, Any] = {"nan": float("nan"), "half": "\ud800", "bytes": b"\x00\xff", "big": 2**70, "set": {1}}
        facts["deep"] = deep = {}
        for _ in range(100):
            deep["in"] = deep = {}
        return [said("x" * 50_000, **facts)]


class Broken(Toy):
    name = "broken"

    def __init__(self) -> None:
        raise RuntimeError("its library is not installed")
