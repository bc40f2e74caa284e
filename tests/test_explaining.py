"""Why two numbers differ, said in words that name the term that differs and what it does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalkit.cli import run
from evalkit.errors import UsageError
from evalkit.explaining import explain
from evalkit.records import write_record
from tests.conftest import failed
from tests.test_records import record, result

CLEAN = {"dialect": "clean", "resize": "bicubic, antialiased, not rounded", "weights sha256": "aa"}
TF1 = {"dialect": "tf1", "resize": "bilinear without antialias", "weights sha256": "aa"}


def scored(name: str, digest: str, value: float = 2.0, **terms: object):
    given = {"metric": "fid", "n": {"real": 100, "fake": 100}, "instrument": "sha256:1", "about": CLEAN, **terms}
    made = result(
        name=terms.pop("called", "fid@inception"),
        value=value, low=value - 0.5, high=value + 0.5, n=given["n"], terms=given, protocol=f"sha256:{given}",
    )  # fmt: skip
    plain = record(name, made)
    return replace(plain, subject=replace(plain.subject, digest=digest), warnings=())


def test_the_dialect_is_named_with_what_it_does() -> None:
    lines = "\n".join(explain(scored("a", "sha256:s"), scored("b", "sha256:s", 9.0, about=TF1, instrument="sha256:2")))
    assert "same" in lines and "any difference comes from the measuring" in lines
    assert "dialect: clean against tf1: the same images give other features" in lines
    assert "instrument:" not in lines  # the digest says nothing that the facts do not say better


def test_metrics_of_two_variants_are_paired() -> None:
    other = scored("b", "sha256:t", 9.0, about=TF1, called="fid@inception:tf1")
    lines = explain(scored("a", "sha256:s"), other)
    assert any(line.startswith("fid@inception and fid@inception:tf1: 2 [1.5, 2.5] for a, 9 ") for line in lines)


def test_unequal_n_of_a_biased_distance_says_which_number_is_too_large() -> None:
    lines = "\n".join(explain(scored("a", "1"), scored("b", "2", n={"real": 100, "fake": 5000})))
    assert "biased upward" in lines and "the first number is too large" in lines


def test_equal_protocols_are_told_apart_or_not_by_the_interval_of_the_difference() -> None:
    near = explain(scored("a", "1"), scored("b", "2", 2.3))
    far = explain(scored("a", "1"), scored("b", "2", 4.0))
    assert any("includes zero" in line for line in near)
    assert any("excludes zero" in line for line in far)
    assert not any("Not comparable" in line for line in (*near, *far))


def test_formats_found_on_one_side_only_are_said() -> None:
    odd = replace(scored("b", "2"), warnings=("lint codec: 40 of 40 generated images are PNG, the real ones JPEG",))
    assert any("Only b: lint codec" in line for line in explain(scored("a", "1"), odd))


def test_records_without_a_common_metric_are_refused() -> None:
    other = scored("b", "2", metric="kid", called="kid@inception")
    with pytest.raises(UsageError, match="share no metric"):
        explain(scored("a", "1"), other)


def test_the_command_prints_the_words_and_writes_no_report(at_home, capsys) -> None:
    write_record(scored("a", "1"), at_home / "a.json")
    write_record(scored("b", "2", about=TF1), at_home / "b.json")
    assert run(["compare", "a.json", "b.json", "--explain"]) == 0
    assert "dialect: clean against tf1" in capsys.readouterr().out
    assert sorted(p.name for p in at_home.iterdir()) == ["a.json", "b.json"]
    assert failed(capsys, ["compare", "a.json", "--explain"])[0] == 2
