"""How a worker ended instead of answering, as the state of the file it was opening: signals, clocks, broken protocol.

What the worker noted before each stage is not believed further than it can do harm: a number out of range is the first
file, or no witness.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Opened, State
from . import kinds
from .hands import Died
from .limits import Limits
from .opening import STAGES


def ended(
    error: Exception, noted: tuple[int, int, int], files: Sequence[bytes], limits: Limits, hello: Mapping[str, Any]
) -> tuple[int, Opened]:
    """Which of the files of a request its worker did not survive, and what can be said of it without decoding.

    error: Died, TimeoutError or BadMessage. noted: stage, witness (0: none) and file. hello: the worker's first words.
    """
    stage, witness, which = noted
    which = which if which < len(files) else 0
    state, reason = _end(error, limits)
    where = STAGES[stage] if stage < len(STAGES) else "decode"
    names = list(hello.get("witnesses", ()))
    if where == "witness" and 0 < witness <= len(names):
        reason = f"{reason}, in witness {names[witness - 1]}"
    kind = kinds.sniff(files[which][: kinds.HEAD])
    pillow = hello.get("decoders", {}).get("Pillow", "")
    decoder = f"Pillow {pillow} / {kind.format}" if kind.format not in ("", kinds.TEXT) else ""
    return which, Opened(state, where, reason, decoder, kind.format)


def why(error: Exception, limits: Limits) -> str:
    """Why a worker did not start."""
    return _death(error.status, limits)[1] if isinstance(error, Died) else str(error) or "it did not answer in time"


def _end(error: Exception, limits: Limits) -> tuple[State, str]:
    if isinstance(error, Died):
        return _death(error.status, limits)
    if isinstance(error, TimeoutError):
        return "timeout", f"more than {limits.wall_seconds:g} s"
    return "crash", f"the worker broke the protocol: {error}"


def _death(status: int, limits: Limits) -> tuple[State, str]:
    """State and words of a wait status."""
    if not os.WIFSIGNALED(status):
        return "crash", f"the worker ended by itself (exit status {os.WEXITSTATUS(status)})"
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGXCPU":
        return "timeout", f"more than {limits.cpu_seconds} s of processor time"
    return "crash", f"the worker was killed by {name}"
