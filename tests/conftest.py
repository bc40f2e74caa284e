"""What tests of the command line share: a home of their own, folders of pictures, and the one line of a failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.cli import run

# The suite fetches nothing: a test that wants the network switched on says so itself.
os.environ.setdefault("EVALKIT_OFFLINE", "1")


# Stand-ins with fixtures and assertions, which some files load as a plugin.
pytest.register_assert_rewrite("tests.externals")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that runs the main job first: begun last, it would be all that one of two processes still does."""
    items.sort(key=lambda item: item.path.name != "test_line.py")


def picture(path: Path, seed: int, shift: int = 0, size: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, (size, size, 3)) + shift
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, an empty cache, nobody's configuration."""
    for name in [k for k in os.environ if k.startswith("EVALKIT_") and k != "EVALKIT_TEST_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    # Whatever weights lie in this user's own folders, a test sees none of them and fetches none.
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    for name in ("HOME", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    yield home


@pytest.fixture
def folders(at_home: Path) -> Path:
    """real/, good/ (the same distribution) and bad/ (brighter), 40 images each."""
    for i in range(40):
        picture(at_home / "real" / f"{i}.png", i)
        picture(at_home / "good" / f"{i}.png", 1000 + i)
        picture(at_home / "bad" / f"{i}.png", 2000 + i, shift=50)
    return at_home


def failed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    """Exit code and the one line on stderr of a command that must not print anything else."""
    code = run(arguments)
    out = capsys.readouterr()
    assert out.out == ""
    lines = out.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("evalkit: "), out.err
    return code, lines[0]
