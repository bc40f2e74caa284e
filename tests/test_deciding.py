"""`evalkit score --until-decided` as a user runs it: on a generator, on a folder, undecided, and with bad options."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import evalkit
from evalkit.cli import run
from evalkit.comparison import compare_records
from evalkit.errors import RunFailed
from evalkit.records import read_record
from evalkit.stepping import Source, shuffled
from evalkit.types import Rule
from tests.conftest import failed, picture
from tests.toys import images

pytestmark = pytest.mark.usefixtures("at_home")

UNTIL = ["--real", "embedded:digits", "--until-decided", "--n", "800", "--batch", "20", "-q"]


def test_a_generator_is_drawn_from_until_the_limits_are_settled(capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--max", "kid@pixels=0.01", "--max", "mind@pixels=1000"]
    assert run(["score", "noise", *UNTIL, *limits, "-o", "r.json"]) == 0, "a missed limit is an answer too"
    shown = capsys.readouterr().out
    assert "asked for at most 0.01: fail, settled at n = 240" in shown and "asked for at most 1000: pass" in shown
    assert "stopped at n = 240 of 800: 560 samples (70%) not needed" in shown
    record = read_record(Path("r.json"))
    first = record.results[0]
    assert first.interval.startswith("confidence sequence") and first.level == 0.95 and first.low > 0.01
    assert first.n["fake"] == record.subject.n == 240
    assert first.terms["until_decided"]["block"] == 20 and record.timing is not None
    assert record.environment["until_decided"]["limits"][0]["outcome"] == "fail"
    capsys.readouterr()
    assert run(["score", "noise", *UNTIL, *limits, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [r["value"] for r in again["results"]] == [r.value for r in record.results]


def test_a_folder_is_shuffled_and_left_undecided_with_4(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(40, 130):
        picture(folders / "good" / f"{i}.png", 1000 + i)
    start = ["score", "good", "--real", "real", "--until-decided", "--batch", "10", "-q"]
    assert run([*start, "--max", "kid@pixels=0", "-o", "r.json"]) == 4
    shown = capsys.readouterr()
    assert "undecided after all 130 samples" in shown.out and "1 of 1 limits undecided, n = 130" in shown.err
    record = read_record(Path("r.json"))
    assert record.results[0].low < 0 < record.results[0].high and record.subject.n == 130
    assert run([*start, "--max", "kid@pixels=5", "-o", "s.json"]) == 0
    assert read_record(Path("s.json")).subject.n == 120
    assert run([*start, "--max", "kid@pixels=5", "--n", "100"]) == 4
    assert "100 samples are 10 blocks of 10; 12 are needed" in capsys.readouterr().out
    # A number of another rule is never put into one column with it.
    assert run(["score", "good", "--real", "real", "-m", "kid@pixels", "-o", "plain.json", "-q"]) == 0
    plain = read_record(Path("plain.json"))
    board = compare_records([record, replace(plain, subject=replace(plain.subject, name="plain"))])
    assert len(board.refused) == 1 and "until_decided" in board.refused[0]


def test_limits_come_from_the_gate_where_none_are_given(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(40, 130):
        picture(folders / "bad" / f"{i}.png", 3000 + i, shift=50)
    Path("evalkit.toml").write_text('[gate."prdc.coverage@pixels"]\nmin = 0.95\n')
    assert run(["score", "bad", "--real", "real", "--until-decided", "--batch", "10", "-q"]) == 0
    assert "asked for at least 0.95: fail" in capsys.readouterr().out
    Path("evalkit.toml").write_text('[gate."fid@pixels"]\nmax = 3\n')
    code, line = failed(capsys, ["score", "bad", "--real", "real", "--until-decided", "-q"])
    assert code == 2 and "fid has no confidence sequence" in line


def test_a_fitted_detector_learns_from_the_first_step_only(folders: Path) -> None:
    for i in range(40, 500):
        picture(folders / "bad" / f"{i}.png", 3000 + i, shift=50)
    found = evalkit.decide("bad", real="real", limits=[Rule("auroc@spectrum", max=0.99)], block=10)
    assert found.outcome in ("pass", "fail") and found.limits[0].n == found.n
    [result] = found.board.records[0].results
    assert result.n["fake"] == found.n - 120 and result.n["real"] == 20
    assert result.terms["fitted"]["n_fake"] == 120 and "betting" in result.interval


def test_texts_are_decided_by_perplexity(capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--max", "perplexity=30", "--max", "bits_per_byte=9"]
    assert run(["score", "embedded:prose/ceiling", "--real", "embedded:prose", "--until-decided", *limits, "-q"]) == 0
    assert capsys.readouterr().out.count(": pass, settled at n = 144") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--until-decided"], "nothing to decide"),
        (["--max", "kid=1"], "belong to --until-decided"),
        (["--until-decided", "--max", "kid"], "expected NAME=VALUE"),
        (["--until-decided", "--max", "kid=wide"], "expected a number"),
        (["--until-decided", "--max", "kid@pixels=1", "-m", "fid"], "leave --metrics out"),
        (["--until-decided", "--max", "kid@pixel=1"], "did you mean 'pixels'"),
        (["--until-decided", "--max", "prdc@pixels.recall=1"], "prdc.recall has no confidence sequence"),
        (["--until-decided", "--max", "kid@pixels=1", "--batch", "500"], "a block needs 3 to 40"),
        (["--until-decided", "--max", "kid@pixels=1", "--batch", "2"], "2 is not in the range"),
    ],
)
def test_bad_options_are_one_line_and_2(
    folders: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, line = failed(capsys, ["score", "good", "--real", "real", "-q", *arguments])
    assert code == 2 and says in line


def test_steps_are_whole_blocks_that_grow_and_end_with_the_set() -> None:
    source = Source(images(500), "embedded:digits", None, "image", evalkit.Settings(), evalkit.Bench())
    steps = [step.samples for step in source.steps(10)]
    assert [len(s) for s in steps[:3]] == [120, 30, 40] and sum(map(len, steps)) == 500
    assert {s.digest for part in steps for s in part} == {s.digest for s in images(500)}
    assert shuffled(images(50), 1) != shuffled(images(50), 2) != list(range(50))


def test_a_generator_that_ignores_its_seed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from generators.noise import Noise

    own = Noise.sample
    monkeypatch.setattr(Noise, "sample", lambda self, n, seed: own(self, n, 7))
    source = Source("noise", "embedded:digits", images(10), "image", evalkit.Settings(), evalkit.Bench())
    steps = source.steps(20)
    next(steps)
    with pytest.raises(RunFailed, match="same samples for another seed"):
        next(steps)
