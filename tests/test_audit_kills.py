"""Audits that are killed, and files that kill: short forms of benchmarks/audit_kills.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.audit_kills import faults, images, kills, mixed
from evalkit.cli import run

pytestmark = pytest.mark.usefixtures("at_home")


def test_a_killed_audit_ends_in_the_same_bytes_and_leaves_nothing_behind(at_home: Path) -> None:
    told = kills(mixed(at_home / "in", 25), [], at_home, 3)
    assert told.kills == 3 and told.equal == told.audits and told.orphans == 0


def test_files_with_faults_are_named_and_the_others_are_as_without_them(at_home: Path) -> None:
    for name, seed, noise in (("real", 1, 4.0), ("fake", 2, 20.0)):
        images(at_home / name, 20, seed, lambda i, noise=noise: noise)
    assert run(["train", "detector", "spectrum", "--real", "real", "--fake", "fake", "--out", "model", "-q"]) == 0
    told = faults(at_home / "model", at_home / "faults", 30, share=5 / 30, seconds=3.0)
    assert told["different"] == {}
    assert told["named"] == 5 and told["equal"] and told["others"] == 25 and told["sound"]
