"""Several processes on one set: the same rows to the bit, every sample exactly once, whatever their number."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import evalkit.rows
from evalkit.cache import Cache
from evalkit.errors import RunFailed
from evalkit.measurement import Bench, measure
from evalkit.rows import Rows
from evalkit.sharing import Alone, HelperDone, Processes, alone

from .toys import Mean, images


@given(st.integers(0, 3000), st.integers(1, 300), st.integers(1, 7))
def test_every_sample_belongs_to_exactly_one_share_of_whole_stretches(n, stretch, world):
    shares = []
    for rank in range(world):
        team = object.__new__(Processes)
        team.rank, team.world = rank, world
        shares.append(team.share(n, stretch))
    assert [i for start, stop in shares for i in range(start, stop)] == list(range(n))
    assert all(start % stretch == 0 or start == n for start, _ in shares)


def test_rows_do_not_depend_on_where_a_share_begins():
    """What makes the bits equal: batches are cut by position, also where samples of other shapes lie between."""

    class Part(Alone):
        def __init__(self, start: int, stop: int) -> None:
            self.bounds = start, stop

        def share(self, n: int, stretch: int) -> tuple[int, int]:
            return self.bounds

    samples, instrument = images(70, seed=3), Mean()
    whole = measure(samples, [instrument], Bench(batch_size=4)).features["mean"].rows
    batches, instrument.batches = instrument.batches, []
    parts = []
    for bounds in ((0, 32), (32, 70)):
        bench = Bench(batch_size=4, team=Part(*bounds))
        stretched = measure_share(samples, instrument, bench)
        parts.append(stretched)
    assert torch.equal(torch.cat(parts), whole)
    assert instrument.batches == batches


def measure_share(samples, instrument, bench):
    from evalkit.measurement import _pass

    return _pass(samples, [instrument], bench)[0][0]


def test_a_large_table_lies_in_a_file_and_holds_the_same_rows(tmp_path, monkeypatch):
    samples = images(50, seed=1)
    small = measure(samples, [Mean()], Bench()).features["mean"].rows
    monkeypatch.setattr(evalkit.rows, "IN_MEMORY", 0)
    bench = Bench(cache=Cache(tmp_path))
    large = measure(samples, [Mean()], bench).features["mean"].rows
    assert torch.equal(small, large)
    assert not list(tmp_path.glob(".rows.*"))  # the file has no name any more
    assert torch.equal(measure(samples, [Mean()], bench).features["mean"].rows, small)  # read back from the cache


def test_rows_of_two_widths_are_refused():
    with Rows(4, None) as table:
        table.put([0, 1], torch.ones(2, 3))
        with pytest.raises(RunFailed, match="rows of 4 columns after rows of 3"):
            table.put([2], torch.ones(1, 4))


def folder_of(path: Path, n: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    path.mkdir()
    for i in range(n):
        pixels = rng.integers(0, 255, (12 + i % 2, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{i:04}.png")
    (path / "0007.png").write_bytes(b"no image")
    return path


def test_a_helping_process_neither_remembers_nor_returns_rows_that_are_only_its_own(tmp_path):
    """Its rows are a part: kept under the key of the whole they would be read back as the whole."""

    class Second(Alone):
        rank = 1

        def share(self, n: int, stretch: int) -> tuple[int, int]:
            return n // 2, n

        def together(self, found):
            return ["toy:mean"] if not (own := list(found)) else own  # what the first process says

    samples, cache = images(20, seed=5), Cache(tmp_path)
    side = measure(samples, [Mean()], Bench(batch_size=2, cache=cache, team=Second()))
    assert side.features == {} and not list(tmp_path.rglob("*.safetensors"))
    assert len(measure(samples, [Mean()], Bench(cache=cache)).features["mean"].rows) == 20


def test_a_process_whose_share_is_empty_collects_what_the_others_have(tmp_path):
    """A small set is one stretch, and of several processes it is the last one's."""
    rows = torch.arange(6.0)
    torch.from_file(str(tmp_path / "1"), shared=True, size=6, dtype=torch.float32).copy_(rows)
    whole = Processes._collected(None, torch.empty(0, 0), [(0, 0), (3, 2)], 2, tmp_path, None)
    assert torch.equal(whole, rows.view(3, 2))


def test_a_command_that_is_not_shared_is_left_to_the_first_process(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(HelperDone):
        alone()
    monkeypatch.setenv("RANK", "0")
    assert alone().share(5, 2) == (0, 5)


COMMAND = ["-m", "fid@random_conv,kid@random_conv", "--batch-size", "8", "--device", "cpu"]


def launched(world: int, *command: str, **environment: str) -> str:
    """What `evalkit COMMAND` prints when torchrun starts so many processes of it; one is plain Python."""
    start = [] if world == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    done = subprocess.run(
        [sys.executable, *start, "-m", "evalkit", *command],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def numbers_of(record: dict) -> tuple:
    results = [(r["name"], r["value"], r["low"], r["high"], r["protocol"], r["n"]) for r in record["results"]]
    return results, record["excluded"]


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_torchrun_gives_the_bits_of_one_process(tmp_path, world):
    real, fake = folder_of(tmp_path / "real", 181, 0), folder_of(tmp_path / "fake", 173, 1)
    command = ["score", str(fake), "--real", str(real), *COMMAND, "--no-cache", "--json", "-q"]
    # One document on stdout: only the first process speaks.
    one, several = (numbers_of(json.loads(launched(n, *command))) for n in (1, world))
    assert several == one
    assert [e["id"] for e in one[1]] == ["0007.png", "reference:0007.png"]
    assert one[0][0][-1] == {"real": 180, "fake": 172}


@pytest.mark.slow
def test_torchrun_with_a_shared_cache_gives_the_bits_of_one_process(tmp_path):
    """First empty, then full; then one process reads what two have left.

    The generated set is there twice, so that the second of them is looked up while the first is just remembered.
    """
    real, fake = folder_of(tmp_path / "real", 181, 0), folder_of(tmp_path / "fake", 173, 1)
    alone_found = json.loads(
        launched(1, "score", str(fake), "--real", str(real), *COMMAND, "--no-cache", "--json", "-q")
    )
    copy = shutil.copytree(fake, tmp_path / "copy")
    out = tmp_path / "report"
    command = ["compare", str(fake), str(copy), "--real", str(real), *COMMAND, "--out", str(out), "-q"]
    for world in (2, 2, 1):
        launched(world, *command, EVALKIT_CACHE=str(tmp_path / "cache"))
        for record in (out / "records").iterdir():
            found = [r[:4] for r in numbers_of(json.loads(record.read_text()))[0]]
            assert found == [r[:4] for r in numbers_of(alone_found)[0]]
