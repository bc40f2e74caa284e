"""Ctrl-C and SIGTERM that arrive while a module is being imported wait until it is.

An exception in the middle of an import can be swallowed by the interpreter's import locks, so that the run goes on, or
end in C++ code that registers types, so that the process aborts.
"""

from __future__ import annotations

import signal
from types import FrameType

PATIENCE = 0.05  # seconds until a signal that came during an import is looked at again


class Terminated(BaseException):
    """SIGTERM arrived."""


def heed() -> None:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM raise Terminated, never inside an import.

    A SIGINT that the parent process switched off stays switched off. Only for the main thread.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        _Heeded(signal.SIGINT, KeyboardInterrupt)
    _Heeded(signal.SIGTERM, Terminated)


class _Heeded:
    def __init__(self, number: signal.Signals, raised: type[BaseException]) -> None:
        self.raised = raised
        signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _importing(frame) and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            return
        raise self.raised


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
