"""A study on paper: the page that opens offline, Markdown, CSV and JSON, with names that mean harm."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.errors import BadSetting, UnwritableOutput
from evalkit.publishing import check_study_outputs, write_study
from evalkit.types import Cell, Curves, Excluded, Grid, Line, Matrix, Picture, Point, Scatter, Study, Table

EVIL = "=cmd|' /C calc'!A0 <script>alert(1)</script> | `x` @team"


@pytest.fixture
def study() -> Study:
    matrix = Matrix(
        "Across generators",
        "AUROC",
        "fitted to",
        "tested on",
        ("gan", EVIL),
        ("gan", "vae"),
        (
            (Cell(0.913, 0.88, 0.94), Cell(0.5, 0.4, 0.6)),
            (Cell(None, why="one class only"), Cell(float("nan"))),
        ),
    )
    return Study(
        schema="evalkit.matrix/1",
        title=f"Matrix of {EVIL}",
        findings=("gan is caught by its own judge.", EVIL),
        exhibits=(
            matrix,
            Table("Facts", "by side", ("fact", "real", "fake"), (("codec", "JPEG", "PNG"), (EVIL, "1", "2"))),
            Curves("ROC", "", "fpr", "tpr", (Line("gan", ((0.0, 0.0), (0.25, 0.75), (1.0, 1.0)), "AUROC 0.9"),), True),
            Scatter("Speed", "", "images a second", "AUROC", (Point("cnn", 10.0, 0.9, 0.8, 1.0),)),
            Grid("Samples", "drawn by seed", (("gan", (Picture("https://evil.example/x.png", "a sample"),)),)),
        ),
        data={"cells": [[0.913, 0.5], [None, None]]},
        provenance={"command": f"evalkit matrix {EVIL}", "seed": "0"},
        warnings=(EVIL,),
        excluded=(("real", Excluded("bad.png", "truncated")),),
    )


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.scripts = 0
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.outside += [v for k, v in attributes if k in ("src", "href") and v and not v.startswith(("#", "data:"))]
        if tag not in ("meta", "img", "br", "wbr", "path", "circle", "line", "rect", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("path", "circle", "line", "rect"):
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_whole_and_fetches_nothing(study: Study) -> None:
    page = registry.reports.get("study_html")(study)
    tags = _Tags()
    tags.feed(page)
    assert not tags.wrong and not tags.open
    assert tags.scripts == 1 and not tags.outside
    assert "evil.example" not in page
    for said in (
        "Across generators",
        "0.913",
        "[0.880, 0.940]",
        "one class only",
        "truncated",
        "AUROC 0.9",
        "tested on",
    ):
        assert said in page, said
    assert page == registry.reports.get("study_html")(study)


def test_markdown_has_every_number_and_no_markup_of_strangers(study: Study) -> None:
    text = registry.reports.get("study_markdown")(study)
    assert "<script>" not in text and "`x`" not in text
    rows = [line for line in text.splitlines() if line.startswith("| gan |")]
    assert (
        rows == ["| gan | 0.913 \\[0.880, 0.940\\] | 0.500 \\[0.400, 0.600\\] |"] or "0.913 [0.880, 0.940]" in rows[0]
    )
    # A table's lines have as many columns as its header, whatever the names hold.
    for block in re.split(r"\n\n", text):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, block


def test_csv_is_one_line_a_number_and_no_formula(study: Study) -> None:
    rows = list(csv.DictReader(io.StringIO(registry.reports.get("study_csv")(study))))
    first = rows[0]
    assert (first["exhibit"], first["row"], first["column"]) == ("Across generators", "gan", "gan")
    assert (float(first["value"]), float(first["low"]), float(first["high"])) == (0.913, 0.88, 0.94)
    assert rows[2]["value"] == "" and rows[2]["text"] == "one class only"
    assert not any(cell.startswith("=") for row in rows for cell in row.values())
    assert sum(row["exhibit"] == "ROC" for row in rows) == 3


def test_json_is_strict_and_carries_the_data(study: Study) -> None:
    document = json.loads(registry.reports.get("study_json")(study))
    assert document["schema"] == "evalkit.matrix/1" and document["cells"][0] == [0.913, 0.5]
    assert document["excluded"] == [{"set": "real", "id": "bad.png", "reason": "truncated"}]


def test_a_folder_of_a_study_is_ours_or_new(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "study"
    check_study_outputs((), out)
    write_study(study, (tmp_path / "x.md",), out)
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "study.csv", "study.json", "study.md"]
    assert (tmp_path / "x.md").read_text("utf-8") == (out / "study.md").read_text("utf-8")
    check_study_outputs((), out)
    (out / "mine.txt").write_text("x")
    with pytest.raises(UnwritableOutput, match=r"mine\.txt"):
        check_study_outputs((), out)
    with pytest.raises(BadSetting, match="suffix"):
        check_study_outputs((tmp_path / "a.pdf",))
