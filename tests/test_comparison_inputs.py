"""What people give to compare that cannot be compared, or hardly: one clear line each, and never a wrong board."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.cli import run
from evalkit.comparison import compare_records
from evalkit.errors import BadRecord, ModalityMismatch, UsageError
from evalkit.records import dumps, read_record, to_json, write_record
from evalkit.settings import resolve
from evalkit.staging import with_records
from evalkit.tables import board_table
from tests.test_comparison import subject
from tests.test_records import record, result

EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "low above high": (lambda b: b["results"][0].update(low=3.0, high=1.0), "outside its interval \\[3, 1\\]"),
    "value outside": (lambda b: b["results"][0].update(value=9.0), "is 9, outside its interval \\[1.5, 2.5\\]"),
    "value as text": (lambda b: b["results"][0].update(value="2.0"), "value is '2.0', expected a finite number"),
    "NaN as text": (lambda b: b["results"][0].update(value="NaN"), "value is 'NaN', expected a finite number"),
    "true for a number": (lambda b: b["results"][0].update(low=True), "low of 'fid@pixels' is 'True'"),
    "one end": (lambda b: b["results"][0].pop("low"), "'low' is missing"),
    "level": (lambda b: b["results"][0].update(level=95), "level of 'fid@pixels' is 95"),
    "direction": (lambda b: b["results"][0].update(better="up"), "'up', expected lower or higher"),
    "n": (lambda b: b["results"][0].update(n={"real": -1}), "'-1', expected a whole number"),
    "n as a list": (lambda b: b["results"][0].update(n=[1]), "expected an object"),
    "name": (lambda b: b["results"][0].update(name=7), "name of '7' is '7', expected text"),
    "no protocol": (lambda b: b["results"][0].pop("protocol"), "'protocol' is missing"),
    "a result twice": (lambda b: b["results"].append(b["results"][0]), "holds 'fid@pixels' twice"),
    "results as text": (lambda b: b.update(results="none"), "damaged"),
    "modality": (lambda b: b["subject"].update(modality="smell"), "modality is 'smell', expected one of"),
    "role": (lambda b: b["subject"].update(role="king"), "role is 'king', expected one of"),
    "subject without a name": (lambda b: b["subject"].update(name=""), "needs name, source and digest"),
    "subject as text": (lambda b: b.update(subject="a"), "damaged"),
    "timing": (lambda b: b.update(timing=3), "timing is '3', expected an object"),
    "no environment": (lambda b: b.pop("environment"), "'environment' is missing"),
    "another version": (lambda b: b.update(schema="evalkit.run/9"), "schema 'evalkit.run/9'; this version reads"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_record_is_refused_in_one_line(edit: str, tmp_path: Path) -> None:
    body = to_json(record("a"))
    EDITS[edit][0](body)
    (tmp_path / "r.json").write_text(dumps(body))
    with pytest.raises(BadRecord, match=EDITS[edit][1]) as caught:
        read_record(tmp_path / "r.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_record_cut_anywhere_is_refused(tmp_path: Path) -> None:
    text = dumps(to_json(record("a")))
    for end in range(0, len(text) - 2, 37):
        (tmp_path / "r.json").write_text(text[:end])
        with pytest.raises(BadRecord, match="not strict JSON"):
            read_record(tmp_path / "r.json")


def test_a_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    text = dumps(to_json(record("a"))).replace('"value": 2.0', '"value": 1e999')
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadRecord, match="value is 'inf', expected a finite number"):
        read_record(tmp_path / "r.json")


def test_a_number_stored_without_ends_reads_back_as_one_without_an_interval(tmp_path: Path) -> None:
    """Read as an interval of no width it would be told apart from everything."""
    open_ = replace(record("a"), results=(result(low=float("nan"), high=float("nan"), interval="jackknife"),))
    write_record(open_, tmp_path / "r.json")
    back = read_record(tmp_path / "r.json")
    assert back.results[0].interval == "none"
    board = compare_records([back, subject("b", 9, 0.1)])
    assert board.ties == {"fid@pixels": ("b",)} and board.differences == {}


def test_two_subjects_of_one_name_are_refused_by_the_library() -> None:
    with pytest.raises(UsageError, match="two subjects are called a; give each record"):
        compare_records([subject("a", 1), subject("a", 2)])
    with pytest.raises(UsageError, match="the baseline z is none of the 1 subjects"):
        compare_records([subject("a", 1)], baseline="z")


def test_a_column_only_one_subject_has_stands_without_ranks() -> None:
    extra = replace(subject("a", 1), results=(*subject("a", 1).results, result("kid@pixels")))
    board = compare_records([extra, subject("b", 5)])
    assert [c.name for c in board.columns] == ["fid@pixels", "kid@pixels"]
    assert set(board.standings) == set(board.best) == set(board.differences) == {"fid@pixels"}
    assert "not measured for this subject" in [row.cells[1].why for row in board.rows]
    assert "kid@pixels" in board_table(board)


def test_long_and_broken_names_stay_whole_in_rows_and_short_in_sentences() -> None:
    long, half = "n" * 10_240, "half \ud800 pair\x1b[31m"
    board = compare_records([subject(long, 1), subject(half, 5), subject("c", 5.1)], baseline=long)
    assert {row.name for row in board.rows} == {long, half, "c"}
    assert max(map(len, board.verdict)) < 1000
    text = board_table(board)
    text.encode("utf-8")
    assert "\x1b" not in text and max(map(len, text.splitlines())) < 1000


# ---------------------------------------------------------------------------------------------- as a user runs it


@pytest.fixture
def kept(tmp_path: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder records/ of three runs, which is also where the command runs."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 1.0), ("b", 5.0), ("c", 9.0)):
        write_record(subject(name, value), tmp_path / "records" / f"{name}.json")
    return tmp_path


def test_a_folder_of_records_is_its_records(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "records", "--json", "--adjust", "bh"]) == 0
    [board] = json.loads(capsys.readouterr().out)["comparisons"]
    assert [row["name"] for row in board["rows"]] == ["a", "b", "c"]
    assert board["adjustment"] == "bh"
    assert board["standings"]["fid@pixels"]["c"] == {"best": 3, "worst": 3, "letters": "c"}
    assert with_records(["evalkit-report"]) == sorted(Path("evalkit-report/records").iterdir())


def test_a_folder_of_other_things_is_no_folder_of_records(kept: Path) -> None:
    (kept / "records" / "notes.txt").write_text("mine")
    assert with_records(["records"]) == ["records"]


def test_the_same_record_twice_is_told_apart(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "records/a.json", "records/a.json", "--json"]) == 0
    [board] = json.loads(capsys.readouterr().out)["comparisons"]
    assert [row["name"] for row in board["rows"]] == ["a (records/a.json)", "a (records/a.json) #2"]


def test_a_baseline_is_told_from_in_words(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "records/a.json", "records/c.json", "--baseline", "records/b.json"]) == 0
    out = capsys.readouterr().out
    assert "a against baseline: b: better on fid@pixels." in out
    assert "c against baseline: b: worse on fid@pixels." in out


def test_a_baseline_of_another_modality_is_refused(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = subject("t", 1)
    write_record(replace(text, subject=replace(text.subject, modality="text")), kept / "t.json")
    assert run(["compare", "records/a.json", "--baseline", "t.json"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "one table holds one modality" in line and "baseline: t (text)" in line


def test_adjust_comes_from_call_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evalkit.toml").write_text('adjust = "bh"\n')
    assert resolve({}, folder=tmp_path).adjust == "bh"
    monkeypatch.setenv("EVALKIT_ADJUST", "none")
    assert resolve({}, folder=tmp_path).adjust == "none"
    assert resolve({"adjust": "holm"}, folder=tmp_path).adjust == "holm"
    with pytest.raises(UsageError, match="adjust = 'fdr'; expected holm, bh, none"):
        resolve({"adjust": "fdr"}, folder=tmp_path)


def test_modalities_that_differ_are_refused() -> None:
    text = subject("t", 1)
    with pytest.raises(ModalityMismatch, match=r"a \(image\), t \(text\)"):
        compare_records([subject("a", 1), replace(text, subject=replace(text.subject, modality="text"))])
