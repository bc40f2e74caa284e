"""Signals: an exception where the program is, but never in the middle of an import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = """
import os, signal, time
os.kill(os.getpid(), signal.{number})
deadline = time.monotonic() + {seconds}
while time.monotonic() < deadline:
    pass
print("imported", flush=True)
"""

MAIN = """
import sys, time
sys.path.insert(0, {folder!r})
from evalkit.interrupts import Terminated, heed
heed()
try:
    import slow
    print("still running", flush=True)
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted")
except Terminated:
    print("terminated")
"""


@pytest.mark.parametrize(("number", "said"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated")])
def test_a_signal_during_an_import_waits_for_its_end(tmp_path: Path, number: str, said: str) -> None:
    (tmp_path / "slow.py").write_text(SLOW.format(number=number, seconds=0.3))
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    found = subprocess.run(
        [sys.executable, "-c", start + MAIN.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent.parent,
    )
    lines = found.stdout.split("\n")
    assert lines[0] == "imported" and lines[-2] == said, found


def test_a_signal_elsewhere_is_raised_at_once() -> None:
    source = """
import os, signal
from evalkit.interrupts import heed
signal.signal(signal.SIGINT, signal.default_int_handler)
heed()
try:
    os.kill(os.getpid(), signal.SIGINT)
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
"""
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert found.stdout == "interrupted\n", found


def test_a_signal_that_was_switched_off_stays_so() -> None:
    source = """
import os, signal
from evalkit.interrupts import heed
signal.signal(signal.SIGINT, signal.SIG_IGN)
heed()
os.kill(os.getpid(), signal.SIGINT)
print("went on")
"""
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert found.stdout == "went on\n", found
