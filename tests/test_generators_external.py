"""Models made elsewhere: their seat on the board, and what happens when a folder or a command misbehaves."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, RunFailed, TooFewSamples
from evalkit.generation import trained
from evalkit.measurement import Bench
from evalkit.samples.embedded import open_embedded
from evalkit.types import Generator

from .externals import (
    DIGITS,
    PROSE,
    SCRIPT,
    SECRET,
    fit,
    pictures,
    script,
)
from .quick import EXTERNAL, class_of, drawn, one_line

# ---------------------------------------------------------------------------------------------- the seat


@pytest.mark.parametrize("name", EXTERNAL)
def test_every_external_model_takes_the_same_seat(name: str, works: Callable[..., Any], tmp_path: Path) -> None:
    generator = fit(name, **works(name))
    assert isinstance(generator, Generator)
    assert (generator.name, generator.role, generator.parameters) == (name, "candidate", 0)
    assert set(generator.settings) == {c.name for c in generator.controls}
    assert generator.trained_on == open_embedded(DIGITS if generator.modality == "image" else PROSE).digest
    batches = list(generator.sample(70, 3))
    assert [len(b.items) for b in batches] == [64, 6]
    assert drawn(generator, 70, 5) == drawn(generator, 70, 5)
    assert drawn(generator, 70, 5) != drawn(generator, 70, 6)
    generator.save(tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["settings"] == generator.settings
    assert SECRET not in (tmp_path / "model" / "card.json").read_text()
    again = class_of(name)(**card["settings"])
    again.load(tmp_path / "model")
    assert (again.modality, again.recipe) == (generator.modality, generator.recipe)
    assert drawn(again, 70, 5) == drawn(generator, 70, 5)


@pytest.mark.parametrize("name", EXTERNAL)
def test_the_callers_chance_is_untouched_by_an_external_model(name: str, works: Callable[..., Any]) -> None:
    torch.manual_seed(7)
    generator = fit(name, **works(name))
    for _ in generator.sample(3, 0):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    mine = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(mine, torch.rand(3))


@pytest.mark.parametrize("name", EXTERNAL)
def test_without_settings_each_says_what_it_wants_in_one_line(name: str, works: Callable[..., Any]) -> None:
    generator = class_of(name)()
    assert generator.recipe != class_of(name)(**works(name)).recipe
    with pytest.raises(BadSetting) as error:
        fit(name)
    assert name in one_line(error)
    with pytest.raises(BadSetting, match="learned nothing"):
        class_of(name)(**works(name)).sample(1, 0)
    other = open_embedded(PROSE if generator.modality == "image" else DIGITS)
    with pytest.raises(ModalityMismatch):
        class_of(name)().fit(other, seed=0)


@pytest.mark.parametrize("name", ["diffusers", "transformers"])
def test_a_missing_library_is_named_with_its_extra(
    name: str, works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RunFailed) as error:
        list(fit(name, **works(name)).sample(1, 0))
    assert f"pip install 'evalkit[{name}]'" in one_line(error)


def test_what_a_setting_names_is_part_of_the_identity(works: Callable[..., Any], tmp_path: Path) -> None:
    before = {name: class_of(name)(**works(name)).recipe for name in EXTERNAL}
    assert before == {name: class_of(name)(**works(name)).recipe for name in EXTERNAL}
    for path in (tmp_path / "mine" / "000.png", tmp_path / "its place" / "my model.py", tmp_path / "prompts.txt"):
        path.write_bytes(path.read_bytes() + b"\n")
    (tmp_path / "hub" / "config.json").write_text("{}")
    after = {name: class_of(name)(**works(name)).recipe for name in EXTERNAL}
    assert all(before[name] != after[name] for name in EXTERNAL)


# ---------------------------------------------------------------------------------------------- folder


def test_a_folder_is_dealt_once_in_a_seeded_order_with_its_labels(tmp_path: Path) -> None:
    pictures(tmp_path, 5, group="cat")
    pictures(tmp_path, 4, group="dog")
    pictures(tmp_path / ".hidden", 3)
    (tmp_path / "set.json").write_text("{}")
    generator = fit("folder", path=str(tmp_path))
    items, groups = drawn(generator, 9)
    real = {
        (np.asarray(Image.open(p)).tobytes(), p.parent.name)
        for p in tmp_path.rglob("*.png")
        if ".hidden" not in p.parts
    }
    assert len(real) == 9 and set(zip(items, groups, strict=True)) == real
    assert drawn(generator, 4)[0] == items[:4]
    with pytest.raises(TooFewSamples, match=r"10 samples asked of folder, .* holds 9"):
        generator.sample(10, 0)


def test_a_folder_holds_texts_too_and_is_found_by_its_name(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / f"{i}.txt").write_text(f"\ufeff a text, number {i} \n", "utf-8")
    controls = {"path": str(tmp_path), "modality": "text"}
    generator = trained("folder", open_embedded(PROSE), seed=0, bench=Bench(), controls=controls)
    assert sorted(drawn(generator, 6)[0]) == [f"a text, number {i}" for i in range(6)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot identify"),
        (b"not an image", "cannot identify"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify"),
        ("cut", "truncated"),
        ("huge", "larger than 64,000,000 pixels|exceeds limit"),
        ("wide", "(9x9 pixels.*8x8|8x8 pixels.*9x9)"),
        ("deep", "mode I"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes | str, why: str) -> None:
    pictures(tmp_path, 2)
    bad = tmp_path / "bad.png"
    if content == "wide":
        Image.new("RGB", (9, 9)).save(bad)
    elif content == "deep":
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(bad)
    elif content == "huge":
        # A header that claims a gigapixel; its checksum is right.
        Image.new("L", (8, 8)).save(bad)
        whole = bytearray(bad.read_bytes())
        whole[16:24] = struct.pack(">II", 12_000, 12_000)
        whole[29:33] = struct.pack(">I", zlib.crc32(bytes(whole[12:29])))
        bad.write_bytes(whole)
    else:
        bad.write_bytes((tmp_path / "000.png").read_bytes()[:90] if content == "cut" else content)
    generator = fit("folder", path=str(tmp_path))
    with pytest.raises(BadSource, match=why) as error:
        list(generator.sample(3, 0))
    assert "bad.png" in one_line(error)


@pytest.mark.parametrize(("content", "why"), [(b"\xff\xfe", "UTF-8"), (b" \n", "empty"), (b"a" * 1_000_001, "larger")])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(BadSource, match=why) as error:
        list(fit("folder", path=str(tmp_path), modality="text").sample(1, 0))
    assert "bad.txt" in one_line(error)


def test_a_folder_that_is_not_there_or_empty_is_refused_and_one_that_waits_for_ever_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="not a folder"):
        fit("folder", path=str(tmp_path / "nowhere"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadSource, match="holds no image files"):
        fit("folder", path=str(tmp_path))


def test_a_folder_that_changed_is_another_generator(tmp_path: Path) -> None:
    path = str(pictures(tmp_path / "mine", 4))
    generator = fit("folder", path=path)
    generator.save(tmp_path / "model")
    pictures(tmp_path / "mine", 5)
    with pytest.raises(BadSource, match="its recipe differs"):
        class_of("folder")(path=path).load(tmp_path / "model")


# ---------------------------------------------------------------------------------------------- command


def asking(tmp_path: Path, body: str, **controls: Any) -> pytest.ExceptionInfo[RunFailed]:
    generator = fit("command", **{"modality": "text", "command": script(tmp_path / "s", body), **controls})
    with pytest.raises(RunFailed) as error:
        list(generator.sample(3, 0))
    one_line(error)
    return error


def test_the_command_is_run_once_for_all_samples_and_its_folder_goes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = SCRIPT + f"open({str(log)!r}, 'a').write(str(a.out) + ' ' + str(a.n) + '\\n')\n"
    generator = fit("command", command=script(tmp_path / "s", body), modality="text")
    made = list(generator.sample(130, 9))
    assert [len(b.items) for b in made] == [64, 64, 2]
    assert log.read_text().count("\n") == 1
    out, n = log.read_text().rsplit(" ", 1)
    assert n.strip() == "130" and not Path(out).exists() and not Path(out).parent.exists()
    # More than were asked for: the first ones count.
    many = script(tmp_path / "many", SCRIPT.replace("range(a.n)", "range(a.n + 5)"))
    assert drawn(fit("command", command=many, modality="text"), 7, 9)[0] == drawn(generator, 7, 9)[0]


def test_no_shell_reads_the_command_and_only_its_own_braces_are_filled(tmp_path: Path) -> None:
    body = "import sys, pathlib\npathlib.Path(sys.argv[-1], '0.txt').write_text(repr(sys.argv[1:-1]))"
    (tmp_path / "s.py").write_text(body)
    command = f"'{sys.executable}' {tmp_path / 's.py'} '$HOME; touch x' {{n!r}} {{0}} n={{n}} {{out}}"
    made = drawn(fit("command", command=command, modality="text"), 1)[0]
    assert made == ["['$HOME; touch x', '{n!r}', '{0}', 'n=1']"]


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    error = asking(tmp_path, "import sys\nprint('loading', file=sys.stderr)\nsys.exit('no \\x1b[31mweights')\n")
    assert "exit code 1" in str(error.value) and str(error.value).endswith("no  [31mweights")
    error = asking(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert "killed by signal 9" in str(error.value) and "said nothing" in str(error.value)


def test_a_command_that_writes_too_little_or_no_samples_is_told(tmp_path: Path) -> None:
    error = asking(tmp_path, SCRIPT.replace("range(a.n)", "range(a.n - 1)"))
    assert "wrote 2 text files" in str(error.value) and "expected 3" in str(error.value)
    broken = SCRIPT.replace(".txt", ".png")
    error = asking(tmp_path, broken, modality="image")
    assert "00000.png" in str(error.value) and "cannot be read as an image" in str(error.value)
    error = asking(tmp_path, SCRIPT.replace('f"text {chance.random()}"', '""'))
    assert "empty text" in str(error.value)


HANGS = """
import subprocess, sys, time

# The fixtures that stand in for what others made.
pytest_plugins = ("tests.externals",)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({0!r}, "w").write(str(child.pid))
time.sleep({1})
"""


def is_alive(pid: int) -> bool:
    try:
        # A killed process that nobody has waited for yet is still listed.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads process states from /proc")
@pytest.mark.parametrize("how", ["timeout", "interruption", "success"])
def test_no_worker_outlives_its_command(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    lasts = 600 if how != "success" else 0
    generator = fit("command", command=script(tmp_path / "s", HANGS.format(str(pid), lasts)), timeout=3.0)
    if how == "interruption":

        def interrupted(process: Any, timeout: float | None = None) -> int:
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.02)
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    expected = KeyboardInterrupt if how == "interruption" else RunFailed
    with pytest.raises(expected, match={"timeout": "3 seconds", "success": "wrote 0"}.get(how)):
        list(generator.sample(1, 0))
    child, patience = int(pid.read_text()), time.monotonic() + 5
    while is_alive(child) and time.monotonic() < patience:
        time.sleep(0.02)
    assert not is_alive(child)


@pytest.mark.parametrize(
    ("command", "why"),
    [("python x.py --n {n}", "lacks {out}"), ("no-such-program {out}", "not a program"), ("a 'b {out}", "words")],
)
def test_a_command_that_cannot_work_is_refused_before_it_runs(command: str, why: str) -> None:
    with pytest.raises(BadSetting, match=why) as error:
        fit("command", command=command)
    one_line(error)
