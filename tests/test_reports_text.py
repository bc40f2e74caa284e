"""The reports in plain text: numbers and words as readers see them, JSON, CSV, Markdown and JUnit."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.types import Cell, Leaderboard
from reports import as_csv, as_json, html, junit, markdown
from reports._numbers import decimals, interval, number, tick
from reports._words import shorten, visible

from .boards import board
from .pages import PAYLOADS, Page, everywhere, numbers_in, small


@pytest.fixture(scope="module")
def leaderboard() -> Leaderboard:
    return board()


# ------------------------------------------------------------------------------------------- numbers and words


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        *((4.317, 2, "4.32"), (412.345, 2, "412.3"), (-0.00012, 5, "−0.00012"), (-1e-9, 3, "0.000")),
        *((18402.4, 1, "18\u202f402"), (9999.0, 0, "9999"), (1.0, 3, "1.000"), (0.0, 2, "0.00")),
        *((2.5e9, 0, "2.50e9"), (3.2e-8, 6, "3.20e−8")),
    ],
)
def test_numbers_by_hand(value: float, places: int, text: str) -> None:
    assert number(value, places) == text


def test_decimals_by_hand() -> None:
    assert decimals([Cell(4.317), Cell(7.204), Cell(18.91)]) == 2
    assert decimals([Cell(0.921), Cell(0.934), Cell(0.812)]) == 3
    assert decimals([Cell(311.6), Cell(18402.0)]) == 0
    assert decimals([Cell(0.9987, 0.9981, 0.9984)]) == 4  # three would print [0.998, 0.998]
    assert decimals([]) == decimals([Cell(0.0)]) == 2


@given(st.floats(-1e15, 1e15), st.integers(0, 6))
def test_a_number_reads_back_as_itself(value: float, places: int) -> None:
    ((shown, half),) = numbers_in(number(value, places))
    assert abs(shown - value) <= half * (1 + 1e-9)


def test_interval_and_sign_by_hand() -> None:
    assert interval(Cell(1.0, -0.5, 1.5), 1) == "[−0.5, 1.5]"
    assert interval(Cell(1.0, 0.5, 1.5), 1, sign=True) == "[+0.5, +1.5]"
    assert interval(Cell(1.0), 1) == ""
    assert [tick(v) for v in (0.0, 0.2, 1000.0, 2.5e6, -3.0)] == ["0", "0.2", "1k", "2.5M", "−3"]


@given(st.text(), st.integers(1, 50))
def test_texts_become_visible_and_short(text: str, limit: int) -> None:
    seen = visible(text)
    assert seen.encode("utf-8") is not None and visible(seen) == seen
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", seen)
    assert len(shorten(text, limit)) <= limit


# ------------------------------------------------------------------------------------------- JSON, CSV, Markdown, JUnit


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_holds_every_value(leaderboard: Leaderboard) -> None:
    text = as_json.render(leaderboard)
    document = strict(text)
    assert text.endswith("}\n") and text.isascii() and "data:image" not in text
    assert list(document) == ["schema", "title", "comparisons", "records", "provenance"]
    assert document["schema"] == "evalkit.leaderboard/1" and document["provenance"] == leaderboard.provenance
    for given_one, comparison in zip(document["comparisons"], leaderboard.comparisons, strict=True):
        assert given_one["best"] == comparison.best and given_one["verdict"] == list(comparison.verdict)
        assert given_one["ties"] == {key: list(names) for key, names in comparison.ties.items()}
        assert [c["protocol"] for c in given_one["columns"]] == [c.protocol for c in comparison.columns]
        assert given_one["refused"] == list(comparison.refused) and given_one["warnings"] == list(comparison.warnings)
        assert [out["reason"] for out in given_one["excluded"]] == [out.reason for _, out in comparison.excluded]
        for line, row in zip(given_one["rows"], comparison.rows, strict=True):
            for found, cell in zip(line["cells"], row.cells, strict=True):
                kept = (found.get("value"), found.get("low"), found.get("high"), found.get("why", ""))
                assert kept == (cell.value, cell.low, cell.high, cell.why)
        for name, subjects in comparison.deltas.items():
            found = {subject: cell["value"] for subject, cell in given_one["deltas"][name].items()}
            assert found == {subject: cell.value for subject, cell in subjects.items()}
    kinds = [exhibit["kind"] for exhibit in document["comparisons"][0]["exhibits"]]
    assert kinds == ["scatter", "curves", "matrix", "table"]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_json_keeps_hostile_texts_as_they_are(payload: str, leaderboard: Leaderboard) -> None:
    document = strict(as_json.render(everywhere(leaderboard, lambda _: payload)))
    assert document["comparisons"][0]["rows"][0]["name"] == payload


def test_csv_round_trip(leaderboard: Leaderboard) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv.render(leaderboard))))
    cells = [
        (comparison, row, column, cell)
        for comparison in leaderboard.comparisons
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
    ]
    assert len(lines) == len(cells)
    for line, (comparison, row, column, cell) in zip(lines, cells, strict=True):
        assert tuple(line) == as_csv.HEADER
        named = (line["modality"], line["subject"], line["role"], line["metric"], line["protocol"])
        assert named == (comparison.modality, row.name, row.role, column.name, column.protocol)
        for key in ("value", "low", "high"):
            assert (float(line[key]) if line[key] else None) == getattr(cell, key)
        assert (line["best"] == "true", line["tied"] == "true") == (cell.best, cell.tied)
        assert (line["n_real"], line["n_fake"], line["why"]) == ("898", "600", cell.why)
        assert line["level"] == ("" if cell.value is None else "0.95")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_texts_are_no_formulas_and_numbers_stay_numbers(start: str) -> None:
    text = as_csv.render(small(Cell(-0.5, -1.0, 0.0), name=start + "cmd|' /C calc'!A0", metric=start + "m"))
    line = next(csv.DictReader(io.StringIO(text)))
    assert line["subject"].startswith("'") and line["metric"].startswith("'")
    assert line["value"] == "-0.5"


def test_markdown_says_what_the_page_says(leaderboard: Leaderboard) -> None:
    text = markdown.render(leaderboard)
    assert text.startswith("<!-- evalkit:leaderboard -->\n") and text.endswith("\n")
    assert "fid@random_conv ↓" in text and "throughput ↑" in text
    assert "| diffusion | 600 | **4.32** [4.00, 4.64] |" in text
    assert "0.00251 [0.00181, 0.00321] tied" in text
    for comparison in leaderboard.comparisons:
        for words in (*comparison.refused, *comparison.warnings):
            assert markdown.escape(words) in text
    assert "evalkit compare --seed 0" in text and "no detector was trained" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_escapes() -> None:
    assert markdown.escape("a|b`c<d>&e\nf") == r"a\|b\`c&lt;d&gt;&amp;e f"
    assert markdown.escape("fid@random_conv") == "fid@random_conv"
    assert markdown.escape("_x_ @team #12") == r"\_x\_ &#64;team &#35;12"


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_texts_break_no_markdown_table(payload: str, leaderboard: Leaderboard) -> None:
    text = markdown.render(everywhere(leaderboard, lambda _: payload)).removeprefix(markdown.MARKER)
    assert set(re.findall(r"<[^>]*>", text)) <= {"<sup>", "</sup>", "<br>"}
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_junit_has_one_case_a_cell_and_skips_with_the_reason(leaderboard: Leaderboard) -> None:
    root = ET.fromstring(junit.render(leaderboard))
    cells = [cell for comparison in leaderboard.comparisons for row in comparison.rows for cell in row.cells]
    cases = root.findall(".//testcase")
    assert len(cases) == len(cells) == int(root.get("tests", "0"))
    assert [skip.get("message") for skip in root.findall(".//skipped")] == [c.why for c in cells if c.value is None]
    assert int(root.get("skipped", "0")) == sum(cell.value is None for cell in cells)
    assert (cases[0].get("classname"), cases[0].get("name")) == ("image.resample", "fid@random_conv")


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_name_survives_xml_and_the_page(name: str) -> None:
    leaderboard = small(Cell(1.0, 0.9, 1.1), name=name)
    case = ET.fromstring(junit.render(leaderboard)).find(".//testcase")
    assert case is not None and case.get("classname") == f"image.{visible(name)}"
    assert len(Page(html.render(leaderboard)).root.all("td", class_="box")) == 1
