"""Audits that are killed, and files that kill: short forms of benchmarks/audit_kills.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.audit_kills import faults, images
from evalkit.cli import run

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("at_home")


KILLS = """
import json, sys
from pathlib import Path
from benchmarks.audit_kills import kills, mixed
here = Path(sys.argv[1])
told = kills(mixed(here / "in", 25), [], here, 3)
print(json.dumps([told.kills, told.equal, told.audits, told.orphans]))
"""


def test_a_killed_audit_ends_in_the_same_bytes_and_leaves_nothing_behind(at_home: Path) -> None:
    """In a process of its own: what outlives a kill is told from other children by there being no others."""
    done = subprocess.run([sys.executable, "-c", KILLS, str(at_home)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    number, equal, audits, orphans = json.loads(done.stdout.splitlines()[-1])
    assert number == 3 and equal == audits > 0 and orphans == 0


def test_files_with_faults_are_named_and_the_others_are_as_without_them(at_home: Path) -> None:
    for name, seed, noise in (("real", 1, 4.0), ("fake", 2, 20.0)):
        images(at_home / name, 20, seed, lambda i, noise=noise: noise)
    assert run(["train", "detector", "spectrum", "--real", "real", "--fake", "fake", "--out", "model", "-q"]) == 0
    told = faults(at_home / "model", at_home / "faults", 30, share=5 / 30, seconds=3.0)
    assert told["different"] == {}
    assert told["named"] == 5 and told["equal"] and told["others"] == 25 and told["sound"]
