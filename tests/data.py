"""The one door to optional real data: tests that need it say which part, and skip with the reason if it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared(*parts: str) -> Path:
    """Path of optional test data: EVALKIT_TEST_DATA, else `shared` beside the checkout; skips when it is absent."""
    root = Path(os.environ.get("EVALKIT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"optional test data {'/'.join(parts)} is not on this machine (set EVALKIT_TEST_DATA)")
    return path
