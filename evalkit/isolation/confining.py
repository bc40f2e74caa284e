"""What a worker may not do: reach the network, write or delete files, start programs, signal others, take memory.

Each measure is tried, and whether it is in force is said in plain words, because kernels and containers differ. None is
needed for the parent to survive a broken decoder; together they bound what a *taken over* decoder could do. Linux only,
save the resource limits and Python's own audit hook. No seccomp filter: a list of system calls that is right for
Pillow, numpy, onnxruntime and every witness of a third party is a promise nobody can keep.

Sources: unshare(2), landlock(7), prctl(2), capabilities(7), getrlimit(2), PEP 578.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .limits import Limits

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446  # the same numbers on every architecture
LANDLOCK_VERSION_FLAG = 1
# landlock(7): execute, write, remove, make; not read_file (1 << 2) and read_dir (1 << 3), which imports need.
FILES = 0b1_1111_1111_0011  # execute, write_file, remove_dir ... make_sym
FILES_SINCE = {2: 1 << 13, 3: 1 << 14}  # refer, truncate
TCP = 0b11  # bind, connect; since version 4
SCOPES = 0b11  # abstract sockets, signals; since version 6

REFUSED_EVENTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.")


def confine_all() -> list[str]:
    """Restrict this process and all that it forks; a sentence a measure, "not in force: ..." where it failed."""
    measures = (_no_new_privileges, _no_network, _no_capabilities, _no_writing)
    return [_tried(measure) for measure in measures]


def confine_one(limits: Limits, parent: int) -> list[str]:
    """Limits of one worker, and that it dies with its parent; the same sentences."""
    return [_tried(partial(_dies_with, parent)), _tried(partial(_little, limits)), _no_sockets_in_python()]


def allow_seconds(limits: Limits, since: int = -1) -> int:
    """Give the next file its processor time: SIGXCPU (and so death) comes when that is spent.

    since: what the last call returned, whole seconds used: the limit counts whole seconds, so it stands until they do.
    """
    used = int(time.process_time())
    if used == since:
        return used
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = used + 1 + int(limits.cpu_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    return used


def _tried(measure: Callable[[], str]) -> str:
    try:
        return measure()
    except (OSError, ValueError, AttributeError) as error:
        what = getattr(measure, "func", measure).__doc__
        return f"not in force: {what} ({getattr(error, 'strerror', None) or error})"


def _call(name: str, *arguments: Any) -> int:
    if sys.platform != "linux":
        raise OSError(0, f"not on {sys.platform}")
    done = int(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


def _no_new_privileges() -> str:
    """no new privileges"""
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return "no new privileges (NO_NEW_PRIVS)"


def _no_network() -> str:
    """a network namespace of its own"""
    try:
        _call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
    except OSError:
        _call("unshare", CLONE_NEWNET)  # root of a container that forbids user namespaces
    return "no network: a network namespace of its own, with no interface up"


def _no_capabilities() -> str:
    """no capabilities"""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    return "no capabilities, not as root either"


def _no_writing() -> str:
    """no writing of files, no starting of programs (Landlock)"""
    version = _call("syscall", LANDLOCK_CREATE, None, 0, LANDLOCK_VERSION_FLAG)
    files = FILES | sum(bit for since, bit in FILES_SINCE.items() if version >= since)
    asked = [files, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0]
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _call("syscall", LANDLOCK_CREATE, (ctypes.c_uint64 * 3)(*asked), size, 0)
    try:
        # Not one rule: what is handled is denied everywhere.
        _call("syscall", LANDLOCK_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
    more = ", no TCP" * (version >= 4) + ", no signals to others" * (version >= 6)
    return f"no file written, made, moved or deleted, no program started{more} (Landlock {version})"


def _no_sockets_in_python() -> str:
    def refuse(event: str, _: tuple[Any, ...]) -> None:
        if event.startswith(REFUSED_EVENTS):
            raise PermissionError(f"{event} is refused in an isolated worker")

    sys.addaudithook(refuse)
    return "no sockets and no processes from Python (audit hook)"


def _dies_with(parent: int) -> str:
    """killed when its parent dies"""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before the line above
    return "killed when its parent dies"


def _little(limits: Limits) -> str:
    """resource limits"""
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_AS, _mapped() + limits.address_space),
        (resource.RLIMIT_CPU, int(limits.cpu_seconds) * (limits.recycle_after + 2) + int(limits.start_seconds)),
    ):
        _, hard = resource.getrlimit(name)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))
    return (
        f"{limits.address_space // 2**20:,} MiB of address space beyond its code, {limits.cpu_seconds} s of processor "
        f"time and {limits.wall_seconds:g} s a file, {limits.open_files} open files, none written, no core dump"
    )


def _mapped() -> int:
    """Bytes of address space this process has mapped already: its code and libraries."""
    try:
        with open("/proc/self/statm", "rb") as told:  # noqa: PTH123
            return int(told.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0
