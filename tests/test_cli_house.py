"""The command line's housekeeping: what there is, what is kept, what is configured, and a pipe that closes early."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.cli import run
from evalkit.errors import UnknownName
from evalkit.progress import SAYS_AFTER, TerminalProgress
from tests.conftest import failed

pytestmark = pytest.mark.usefixtures("at_home")


def test_list_shows_defaults_controls_and_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    shown = capsys.readouterr().out
    for word in ("METRICS", "EXTRACTORS", "DETECTORS", "GENERATORS", "REPORTS", "fid@inception", "temperature=1.0"):
        assert word in shown
    assert run(["list", "metrics", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["metrics"]
    assert {"fid", "kid", "prdc", "auroc", "self_bleu"} <= {m["name"] for m in listed}


def test_cache_and_doctor(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "good", "--real", "real", "-m", "fid@pixels"]) == 0
    capsys.readouterr()
    assert run(["cache", "info"]) == 0
    assert "features" in capsys.readouterr().out
    assert run(["cache", "clear"]) == 0
    assert run(["cache", "info"]) == 0
    assert "features" not in capsys.readouterr().out.split("removed")[-1].split("\n", 1)[1]
    assert run(["doctor"]) in (0, 3)
    assert "torch" in capsys.readouterr().out


def test_configuration_file_and_environment_are_read(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("evalkit.toml").write_text('metrics = ["fid@pixels"]\nn = 30\n[metric.prdc]\nk = 3\n')
    assert run(["score", "good", "--real", "real", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in record["results"]] == ["fid@pixels"] and record["subject"]["n"] == 30
    monkeypatch.setenv("EVALKIT_METRICS", "prdc@pixels.recall")
    assert run(["score", "good", "--real", "real", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    assert result["name"] == "prdc@pixels.recall" and result["terms"]["settings"]["k"] == 3
    Path("evalkit.toml").write_text("[metric.inception_score]\nsplitz = 2\n")
    code, line = failed(capsys, ["score", "good", "--real", "real"])
    assert code == 2 and "did you mean 'splits'" in line


def test_a_reader_that_leaves_a_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -m evalkit.cli list | head -1; echo ${{PIPESTATUS[0]}}"
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, env=here)
    assert done.stdout.split()[-1] == "0" and "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------------- what newcomers run into


@pytest.fixture
def sets(folders: Path) -> Path:
    words = "the old cat sat on a mat by every green hill and saw two dogs"
    for name, step in (("a.txt", 1), ("b.txt", 3)):
        lines = [" ".join((words.split() * 3)[i * step % 12 :][:20]) for i in range(12)]
        (folders / name).write_text("".join(f"{line} {i}\n" for i, line in enumerate(lines)))
    rows = [f"{i},text {i},{'human' if i % 2 else 'machine'}\n" for i in range(8)]
    (folders / "t.csv").write_text("id,text,label\n" + "".join(rows))
    return folders


def test_a_name_that_is_unknown_comes_with_those_that_are() -> None:
    assert str(UnknownName("part", "x", [])) == "unknown part 'x'; there are none"
    assert str(UnknownName("part", "x", ["b", "a"])).endswith("; known: a, b")
    assert str(UnknownName("key", "foo", ["stride", "pool"])).endswith("; did you mean 'pool'? known: pool, stride")
    many = [f"lm.control{i}" for i in range(20)]
    assert str(UnknownName("control", "lm.control", many)).endswith("; did you mean 'lm.control9'?")
    # The owner that all of them share makes no name more like another.
    assert "did you mean" not in str(UnknownName("control", "lm.foo", ["lm.dropout", "lm.layers"]))


@pytest.mark.parametrize(
    ("source", "has", "has_not"),
    [
        ("a.txt", ("kgw:KEY.json", "synthid:KEY.json", "train detector NAME: ", "ngram_lr", "zero_shot"), ("univfd",)),
        ("good", ("univfd", "tiny_ladeda", "cnn"), ("kgw", "ngram_lr", "provenance", "fingerprint")),
    ],
)
def test_an_unknown_detector_is_met_with_those_of_the_samples_kind(
    source: str, has: tuple[str, ...], has_not: tuple[str, ...], sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = failed(capsys, ["detect", source, "--with", "nothing"])
    named = set(re.split(r"[ ,;]+", line))
    assert code == 2 and all(word in line for word in has) and not named & set(has_not)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["score", "a.txt", "--real", "real", "-m", "mauve"], "'a.txt' holds text samples, expected image"),
        (["score", "a.txt", "--real", "real"], "score images against images"),
        (["score", "good", "--real", "a.txt", "-m", "mauve"], "score texts against texts"),
        (["compare", "lm", "--real", "real", "--train", "real", "-m", "fid"], "'lm' makes text samples"),
        (["detect", "a.txt", "--with", "univfd"], "'a.txt' holds text samples, expected image"),
        (["detect", "good", "--with", "kgw:no.json"], "'good' holds image samples, expected text"),
        (["raid", "t.csv", "--with", "univfd"], "univfd judges images; the samples are texts"),
    ],
    ids=lambda v: " ".join(v)[:48] if isinstance(v, list) else None,
)
def test_samples_of_the_other_kind_are_refused_before_weights_are_had(
    arguments: list[str], says: str, sets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalkit import weights

    monkeypatch.setattr(weights, "find", lambda *_, **__: pytest.fail("weights were asked for"))
    code, line = failed(capsys, arguments)
    assert code == 2 and says in line


def test_a_number_that_does_not_apply_is_said_and_alone_it_is_inconclusive(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["score", "a.txt", "--real", "b.txt", "--train", "b.txt", "-q"]
    for name, why in (("extraction", "no sample has a prompt"), ("group_bias", "fewer than two texts hold a word")):
        assert run([*asked, "-m", name]) == 4
        shown = capsys.readouterr()
        assert "no number; the reasons are below" in shown.out and "95 %" not in shown.out
        assert f"warning: {name} does not apply: {why}" in shown.out
        assert shown.err.startswith(f"evalkit: no number at all: {name} does not apply: {why}")
    assert run([*asked, "-m", "extraction,distinct"]) == 0
    shown = capsys.readouterr()
    assert "extraction does not apply: " in shown.out and "distinct ↑" in shown.out and shown.err == ""


def test_a_long_task_leaves_two_lines_in_a_log_and_a_short_one_none(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    loud, quiet = TerminalProgress(clock=lambda: now), TerminalProgress(quiet=True, clock=lambda: now)
    for seconds, task in ((SAYS_AFTER / 20, "short"), (2.0, "long\x1b")):
        for progress in (loud, quiet):
            progress.start(task, 10)
        for _ in range(10):
            now += seconds
            for progress in (loud, quiet):
                progress.advance()
        for progress in (loud, quiet):
            progress.finish()
            progress.close()
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["long?: 10 steps, about 20 s in all; 5 done", "long?: done after 20 s"]
    assert shown.out == ""


def test_what_is_made_ready_once_is_not_counted_for_every_step_and_a_task_cut_off_is_not_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    progress = TerminalProgress(clock=lambda: now)
    progress.start("train", 100)
    for seconds in (9.0, 0.5, 0.5, 1.0):
        now += seconds
        progress.advance()
    progress.finish()
    # 9 s for the first step, then half a second for each of 99.
    said = ["train: 100 steps, about 58 s in all; 3 done", "train: stopped at 4 of 100 steps after 11 s"]
    assert capsys.readouterr().err.splitlines() == said
