"""More than a hundred hostile texts in every field, through every format, and the report folder beyond one page."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from evalkit import publishing
from evalkit.errors import UnwritableOutput
from evalkit.publishing import ReportFolder
from evalkit.types import Cell
from reports import as_csv, as_json, html, junit, markdown
from reports._words import visible

from .pages import PAYLOADS, Page, everywhere, small
from .payloads import HOSTILE
from .shown import full, tiny

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\x00", "＝", "＋", "－", "＠")


def with_payload(payload: str) -> Any:
    return everywhere(tiny(), lambda text: payload + text)


def shape(page: str) -> Counter[tuple[str, tuple[str, ...]]]:
    # A dotted name may break where it has dots, and a payload has other dots.
    return Counter((n.tag, tuple(sorted(n.attrs))) for n in Page(page).root.walk() if n.tag != "wbr")


def test_no_payload_adds_an_element_to_the_page() -> None:
    for payload in (payload for payload in HOSTILE if payload not in PAYLOADS):  # those: on a larger page, test_reports
        # An @ stays: what follows it is a metric's instrument and has its own element; so do `.group=` and digits.
        plain = re.sub("[^ \n\t@.=0-9]", "x", visible(payload))
        assert shape(html.render(with_payload(payload))) == shape(html.render(with_payload(plain))), payload


def test_csv_texts_are_no_formulas_and_numbers_stay_numbers() -> None:
    for payload in HOSTILE:
        lines = list(csv.DictReader(io.StringIO(as_csv.render(with_payload(payload)))))
        assert len(lines) == 6
        for line in lines:
            texts = [line[key] for key in ("subject", "metric", "interval", "protocol", "why", "letters")]
            assert not any(text.startswith(FORMULAS) for text in texts), payload
            assert line["value"] == "" or float(line["value"]) > 0
    negative = csv.DictReader(io.StringIO(as_csv.render(small(Cell(-0.5, -1.0, 0.0), name="-x"))))
    (line,) = negative
    assert (line["value"], line["low"], line["subject"]) == ("-0.5", "-1.0", "'-x")


def test_markdown_keeps_its_tables_and_no_markup_of_strangers() -> None:
    for payload in HOSTILE:
        text = markdown.render(with_payload(payload)).removeprefix(markdown.MARKER)
        assert set(re.findall(r"<[^>]*>", text)) <= {"<sup>", "</sup>", "<br>"}, payload
        assert not re.search(r"(?<!\\)!?\[[^\]\\]*\]\(", text), payload
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, payload


def test_junit_is_well_formed_and_has_no_case_more() -> None:
    for payload in HOSTILE:
        text = junit.render(with_payload(payload))
        root = ET.fromstring(text)
        assert len(root.findall(".//testcase")) == 6 and not re.search("[\x00-\x08\x0b-\x1f]", text), payload
        assert root.find(".//testcase").get("classname") == visible(f"image.{payload}gan").replace("\n", "\n")  # type: ignore[union-attr]


def test_json_is_ascii_and_gives_back_every_name() -> None:
    for payload in HOSTILE:
        text = as_json.render(with_payload(payload))
        assert text.isascii()
        assert json.loads(text)["comparisons"][0]["rows"][0]["name"] == payload + "gan"


# ------------------------------------------------------------------------------------------- beyond one page


def policy_of(page: str) -> str:
    metas = Page(page).root.all("meta")
    return next(m.attrs["content"] or "" for m in metas if m.attrs.get("http-equiv") == "Content-Security-Policy")


def test_a_small_report_is_one_file(tmp_path: Path) -> None:
    ReportFolder(tmp_path / "out").finish(full())
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md"]
    assert (tmp_path / "out" / "index.html").read_text("utf-8") == html.render(full())


def test_a_large_report_has_its_pictures_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(publishing, "LARGEST_PAGE", 1000)
    ReportFolder(out).finish(full())
    page = (out / "index.html").read_text("utf-8")
    shown = [node.attrs["src"] or "" for node in Page(page).root.all("img")]
    assert shown and set(shown) == {f"pictures/{p.name}" for p in (out / "pictures").iterdir()}
    assert all((out / src).read_bytes().startswith(b"\x89PNG") for src in shown)
    assert "img-src 'self' data:" in policy_of(page) and "base64" not in page.split("<body>")[1]
    before = {p.name: p.stat().st_mtime_ns for p in (out / "pictures").iterdir()}
    ReportFolder(out).finish(full())
    assert {p.name: p.stat().st_mtime_ns for p in (out / "pictures").iterdir()} == before
    assert (out / "index.html").read_text("utf-8") == page
    # Small again: the pictures of the larger one go, what is not ours stays.
    (out / "pictures" / "mine.txt").write_text("x")
    monkeypatch.setattr(publishing, "LARGEST_PAGE", 10_000_000)
    ReportFolder(out).finish(full())
    assert [p.name for p in (out / "pictures").iterdir()] == ["mine.txt"]
    assert "base64" in (out / "index.html").read_text("utf-8")


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(publishing, "LARGEST_PAGE", 1000)
    folder = ReportFolder(out)
    out.mkdir()
    (out / "pictures").write_text("in the way")
    with pytest.raises(UnwritableOutput, match="pictures"):
        folder.finish(full())
    assert not (out / "index.html").exists()


def test_a_single_page_never_asks_for_a_file_beside_it() -> None:
    page = html.render(full())
    assert "img-src data:" in policy_of(page) and "'self'" not in policy_of(page)
