"""The fork server: a small process that has the decoders loaded, is restricted once, and forks a worker when asked.

Not `multiprocessing`'s forkserver, which works the same way but imports the caller's main module again in every worker
(a script without `if __name__ == "__main__"` then starts itself, a notebook or torch is loaded beside untrusted bytes),
passes pickles, and keeps one server with one list of preloaded modules for the whole program. This one gets its
configuration as JSON, and each worker's two descriptors over a Unix socket.

Orders are one byte: `S` and two descriptors -> process id of the worker; `E` and a process id -> its wait status, once
it has ended. When the parent is gone, the server ends, and each worker with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import traceback

from . import confining, opening, wire, witnessing, worker
from .limits import Limits

ORPHAN_CHECK = 2.0  # seconds between two looks at whether the parent is still there
START, END = b"S", b"E"


def main() -> None:
    """Serve on the descriptor of argv[1] with the configuration of argv[2] until its other end closes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    plan = json.loads(sys.argv[2])
    limits, wanted = Limits(**plan["limits"]), [(name, settings) for name, settings in plan["witnesses"]]
    parent = os.getppid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    opening.prepare(limits)
    in_force = confining.confine_all()
    witnessing.preload(wanted)
    # From here on a decoder may write to the standard streams as much as it likes.
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    wire.send(control, {"in_force": in_force})
    children: set[int] = set()
    try:
        while order := _next(control, parent):
            name, descriptors = order
            if name == START:
                line, memory = descriptors
                children.add(child := _fork(control, line, memory, limits, wanted, plan["hashes"]))
                control.sendall(struct.pack(">i", child))
            else:
                [child] = struct.unpack(">i", control.recv(4, socket.MSG_WAITALL))
                control.sendall(struct.pack(">i", os.waitpid(child, 0)[1]))
                children.discard(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def _next(control: socket.socket, parent: int) -> tuple[bytes, list[int]] | None:
    """The next order; None when the parent has closed its end, or is gone while a fork of it still holds that end."""
    control.settimeout(ORPHAN_CHECK)
    while os.getppid() == parent:
        try:
            name, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        except TimeoutError:
            continue
        except ConnectionError:
            return None
        control.settimeout(None)
        return (name, descriptors) if name else None
    return None


def _fork(
    control: socket.socket, line: int, memory: int, limits: Limits, wanted: witnessing.Wanted, hashes: bool
) -> int:
    child = os.fork() if sys.platform != "win32" else -1
    if child:
        os.close(line)
        os.close(memory)
        return child
    status = 1
    try:
        # A worker that could give orders would be no longer isolated.
        control.close()
        with socket.socket(fileno=line) as own:
            worker.serve(own, memory, limits, wanted, hashes)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
