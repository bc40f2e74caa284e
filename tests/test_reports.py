"""The reports: every number and reason arrives, hostile names stay text, one page fetches nothing."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import json
import math
import re
from collections import Counter
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.types import Cell, Column, Comparison, Grid, Leaderboard, Matrix, Picture, Scatter
from reports import BUILTIN, as_csv, as_json, html, junit, markdown, svg
from reports._axes import Scale, bounds, overlap, place_labels, ticks
from reports._board import lay_out, question
from reports._words import visible

from .boards import board, digits, images, png
from .pages import PAYLOADS, Node, Page, everywhere, numbers_in, small

RENDERERS = {"html": html.render, "json": as_json.render, "csv": as_csv.render, "markdown": markdown.render}
RENDERERS["junit"] = junit.render


@pytest.fixture(scope="module")
def leaderboard() -> Leaderboard:
    return board()


@pytest.fixture(scope="module")
def page(leaderboard: Leaderboard) -> Node:
    return Page(html.render(leaderboard)).root


# ------------------------------------------------------------------------------------------- every report


def test_doors_lead_to_renderers() -> None:
    studies = {"study_html", "study_json", "study_csv", "study_markdown"}
    assert {"html", "html_folder", "json", "csv", "markdown", "junit"} | studies <= set(BUILTIN)
    for door in BUILTIN.values():
        module, _, name = door.partition(":")
        assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_same_board_same_bytes(name: str) -> None:
    assert RENDERERS[name](board()) == RENDERERS[name](board())


@pytest.mark.parametrize("name", sorted(RENDERERS))
@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_texts_can_be_written(name: str, payload: str, leaderboard: Leaderboard) -> None:
    text = RENDERERS[name](everywhere(leaderboard, lambda _: payload))
    assert text.encode("utf-8").endswith(b"\n") or name == "html"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\u2066\ud800-\udfff]", text)


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_an_empty_board_is_still_a_report(name: str) -> None:
    empty = Leaderboard("nothing", (), (), {})
    hollow = Leaderboard("nothing", (Comparison("text", "t", None, (), (), {}, {}, {}, ()),), (), {})
    assert RENDERERS[name](empty) and RENDERERS[name](hollow)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_reads_as_a_reason(value: float) -> None:
    broken = small(Cell(value, 0.0, 1.0, best=True))
    assert "not a finite number" in html.render(broken)
    assert "not a finite number" in markdown.render(broken)
    assert json.loads(as_json.render(broken))["comparisons"][0]["rows"][0]["cells"][0].keys() == {"metric", "why"}
    line = next(csv.DictReader(io.StringIO(as_csv.render(broken))))
    assert (line["value"], line["low"], line["best"], line["why"]) == ("", "", "false", "not a finite number")
    assert ET.fromstring(junit.render(broken)).find(".//skipped") is not None


# ------------------------------------------------------------------------------------------- the page


def test_page_is_a_document(page: Node, leaderboard: Leaderboard) -> None:
    assert page.all("html")[0].attrs["lang"] == "en"
    assert page.all("title")[0].text == leaderboard.title
    assert [node.text for node in page.all("h1")] == [leaderboard.title]
    ids = [node.attrs["id"] for node in page.walk() if "id" in node.attrs]
    assert len(ids) == len(set(ids))
    named = [word for node in page.walk() for word in (node.attrs.get("aria-labelledby") or "").split()]
    targets = [node.attrs["href"] or "" for node in page.all("a")]
    assert {target.removeprefix("#") for target in targets} | set(named) <= set(ids)
    levels = [int(node.tag[1]) for node in page.walk() if re.fullmatch("h[1-6]", node.tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_page_fetches_nothing(page: Node) -> None:
    for node in page.walk():
        for key, value in node.attrs.items():
            if key in ("src", "href", "action", "srcset", "data", "poster", "xlink:href"):
                assert (value or "").startswith(("#", "data:image/")), (node.tag, key, value)
            assert not key.startswith("on") and key != "style"
        assert node.tag not in ("link", "iframe", "object", "embed", "base", "form")
    style = page.all("style")[0].text
    assert "url(" not in style and "@import" not in style
    assert not re.search(r"https?:|//\w+\.|fetch\(|XMLHttp", page.all("script")[0].text + style)


def test_policy_names_exactly_the_script_and_the_style(page: Node) -> None:
    meta = next(node for node in page.all("meta") if node.attrs.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in (meta.attrs["content"] or "").split(";"))
    (script,), (style,) = page.all("script"), page.all("style")
    for key, node in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(node.text.encode()).digest()).decode()
        assert rules[key] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert len(script.text.encode()) < 10_000


def test_every_name_and_reason_is_on_the_page(page: Node, leaderboard: Leaderboard) -> None:
    text = " ".join(page.text.split())
    for comparison in leaderboard.comparisons:
        expected = [*comparison.verdict, *comparison.refused, *comparison.warnings]
        expected += [row.name for row in comparison.rows] + [exhibit.title for exhibit in comparison.exhibits]
        expected += [word for column in comparison.columns for word in (column.name, column.unit, column.interval)]
        expected += [cell.why for row in comparison.rows for cell in row.cells if cell.value is None]
        expected += [word for name, out in comparison.excluded for word in (name, out.id, out.reason)]
        for word in expected:
            assert word in text, word
    for key, value in leaderboard.provenance.items():
        assert key in text and value in text


def test_board_cells_agree_with_the_comparison(page: Node, leaderboard: Leaderboard) -> None:
    tables = page.all("table", class_="board")
    assert len(tables) == len(leaderboard.comparisons)
    for table, comparison in zip(tables, leaderboard.comparisons, strict=True):
        order = [head.index for head in lay_out(comparison).headings]
        assert sorted(order) == list(range(len(comparison.columns)))
        lines = table.all("tbody")[0].all("tr")
        assert len(lines) == len(comparison.rows)
        for line, row in zip(lines, comparison.rows, strict=True):
            assert row.name in line.all("th", scope="row")[0].text
            assert str(row.n) in line.all("th", scope="row")[0].text
            assert (row.role in line.all("th")[0].text) == (row.role != "candidate")
            boxes = line.all("td")
            assert len(boxes) == len(comparison.columns)
            for box, index in zip(boxes, order, strict=True):
                check_box(box, row.cells[index], comparison.columns[index], row.name, comparison)


def check_box(box: Node, cell: Cell, column: Column, name: str, comparison: Comparison) -> None:
    words = (box.attrs["class"] or "").split()
    assert ("best" in words) == (comparison.best[column.name] == name)
    assert ("tied" in words) == (name in comparison.ties[column.name])
    if cell.value is None:
        assert box.attrs["data-value"] == "" and cell.why in (box.all("span")[0].attrs["title"] or "")
        return
    assert float(box.attrs["data-value"] or "nan") == cell.value
    shown = numbers_in(box.all("span", class_="value")[0].text) + numbers_in(box.all("span", class_="interval")[0].text)
    for (number_shown, half), exact in zip(shown, (cell.value, cell.low, cell.high), strict=True):
        assert exact is not None and abs(number_shown - exact) <= half


def test_columns_stand_under_their_question(page: Node) -> None:
    table = page.all("table", class_="board")[0]
    groups = [(node.text, int(node.attrs["colspan"] or 0)) for node in table.all("th", scope="colgroup")]
    assert groups == [("Quality", 6), ("Diversity", 2), ("Originality", 1), ("Detectability", 2), ("Cost", 1)]
    assert question("prdc@inception.recall") == question("prdc.recall@inception") == "Diversity"
    assert question("prdc@inception.precision") == "Quality"
    assert question("a_plugin@thing") == "Other"


def test_first_screen_tells_who_by_how_much_and_how_sure(page: Node) -> None:
    lead = page.all("table", class_="lead")[0]
    best = next(line for line in lead.all("tr") if "best" in (line.attrs.get("class") or ""))
    assert "diffusion" in best.text and "4.32 [4.00, 4.64]" in best.text
    other = next(line for line in lead.all("tr") if "gan" in line.text)
    assert "+2.89 [+2.28, +3.49]" in other.text


def test_tables_have_captions_and_scopes_and_pictures_have_words(page: Node) -> None:
    for table in page.all("table"):
        assert len(table.all("caption")) == 1
        assert all("scope" in node.attrs for node in table.all("th"))
    assert page.all("img") and all(node.attrs["alt"] for node in page.all("img"))


def test_charts_title_every_mark(page: Node, leaderboard: Leaderboard) -> None:
    charts = page.all("svg", class_="chart")
    assert len(charts) == 3
    assert all(chart.children[0].tag == "title" for chart in charts)
    assert len(page.all("path", class_="curve")) == 2 * (4 + 2)  # once drawn, once in the legend
    drawn = [node for chart in charts for node in chart.all("path", class_="curve")]
    assert all(node.all("title") for node in drawn)
    points = charts[0].all("g", class_="point")
    assert [node.all("text")[0].text for node in points] == ["diffusion", "gan", "vae", "noise"]


HARMLESS_TAGS = {"wbr"}  # a dotted name may break where it has dots; a payload has other dots


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_injected_markup_stays_text(payload: str, leaderboard: Leaderboard) -> None:
    def shape(text: str) -> Counter[tuple[str, tuple[str, ...]]]:
        root = Page(html.render(everywhere(leaderboard, lambda _: text))).root
        found = [(n.tag, tuple(sorted(n.attrs))) for n in root.walk() if n.tag not in HARMLESS_TAGS]
        return Counter(found)

    # An @ stays: what follows it is a metric's instrument and has its own element.
    plain = re.sub("[^ \n\t@]", "x", visible(payload))
    assert shape(payload) == shape(plain)


def test_no_field_is_forgotten(leaderboard: Leaderboard) -> None:
    marked = html.render(everywhere(leaderboard, lambda text: f"<b-{len(text)}>{text}"))
    assert "&lt;b-" in marked and "<b-" not in marked


@pytest.mark.parametrize(
    "uri",
    [
        *("https://evil.example/x.png", "javascript:alert(1)", "data:text/html;base64,AA==", "", "x.png"),
        *("data:image/svg+xml;base64,AA==", 'data:image/png;base64,AA==" onerror="x'),
    ],
)
def test_only_embedded_pictures_are_shown(uri: str) -> None:
    grid = Grid("g", "r", (("gan", (Picture(uri, "a seven"),)),))
    comparison = dataclasses.replace(images(), exhibits=(grid,))
    root = Page(html.render(Leaderboard("t", (comparison,), (), {}))).root
    assert not root.all("img") and "a seven" in root.text


def test_tiny_pictures_are_enlarged_with_hard_pixels_and_photographs_are_not() -> None:
    small_one, large_one = png([[0] * 8] * 8), png([[0] * 96] * 64)
    assert 'class="pixels"' in html.picture(Picture(small_one, "x"))
    assert 'class="photo"' in html.picture(Picture(large_one, "x"))
    assert 'class="photo"' in html.picture(Picture("data:image/jpeg;base64,/9j/4AAQ", "x"))


def test_page_of_twenty_subjects_stays_under_one_megabyte() -> None:
    pictures = digits("gan", 64)
    lines = tuple((f"generator {k}", pictures) for k in range(20))
    base = images()
    rows = tuple(dataclasses.replace(base.rows[k % 5], name=f"generator {k}") for k in range(20))
    comparison = dataclasses.replace(base, rows=rows, exhibits=(*base.exhibits, Grid("many", "rule", lines)))
    text = html.render(Leaderboard("t", (comparison,), (), {}))
    assert text.count("<img") >= 1280
    assert len(text.encode()) < 1_000_000


def test_long_names_are_cut_visibly_and_kept_whole_in_the_title() -> None:
    name = "n" * 10_000
    root = Page(html.render(small(Cell(1.0, 0.9, 1.1), name=name))).root
    cut = root.all("table", class_="board")[0].all("th", scope="row")[0].all("span")[1]
    assert cut.text.endswith("…") and len(cut.text) < 40 and cut.attrs["title"] == name


# ------------------------------------------------------------------------------------------- charts


@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=1, max_size=20), st.booleans())
def test_ticks_rise_inside_the_axis(values: list[float], log: bool) -> None:
    low, high = bounds(values, log=log)
    marks = ticks(Scale(low, high, 0, 100, log))
    assert low < high and 1 <= len(marks) <= 20
    air = (high - low) * 1e-9
    assert all(low - air <= mark <= high + air for mark in marks)
    assert marks == sorted(set(marks))


def test_crowded_labels_do_not_collide() -> None:
    anchors = [(200.0 + k, 150.0 + k % 3) for k in range(8)]
    texts = [f"generator {k}" for k in range(8)]
    boxes = place_labels(anchors, texts, [], (50, 30, 460, 300), 12.5)
    assert all(overlap(a, b) == 0 for k, a in enumerate(boxes) for b in boxes[:k])
    assert all(a[0] >= 50 and a[2] <= 460 and a[1] >= 30 and a[3] <= 300 for a in boxes)


def test_scatter_draws_what_has_a_place_and_names_the_rest() -> None:
    chart = next(exhibit for exhibit in images().exhibits if isinstance(exhibit, Scatter))
    stuck = dataclasses.replace(chart.points[0], name="stuck", x=0.0)
    lost = dataclasses.replace(chart.points[0], name="lost", y=math.nan)
    chart = dataclasses.replace(chart, points=(*chart.points, stuck, lost))
    comparison = dataclasses.replace(images(), exhibits=(chart,))
    root = Page(html.render(Leaderboard("t", (comparison,), (), {}))).root
    drawn = [node.text for node in root.all("text", class_="name")]
    assert drawn == ["diffusion", "gan", "vae", "noise"]
    assert "not drawn: stuck" in root.text and "not drawn: lost" in root.text


def test_strips_point_right_for_better() -> None:
    def dot(value: float, better: Any) -> float:
        scale = svg.span([Cell(1.0, 0.9, 1.1), Cell(3.0, 2.9, 3.1)], better)
        found = re.search(r'class="dot" d="M([\d.]+)', svg.strip(Cell(value, value, value), scale, None, ""))
        assert found is not None
        return float(found[1])

    assert dot(1.0, "lower") > dot(3.0, "lower")
    assert dot(1.0, "higher") < dot(3.0, "higher")


def test_heat_grows_from_neutral_to_extreme_and_turns_below() -> None:
    steps = [svg.heat(Cell(v), 0.5, 1.0) for v in (0.5, 0.55, 0.75, 1.0, 1.4, 0.4, 0.0)]
    assert steps == ["h0", "h1", "h5", "h10", "h10", "c2", "c10"]
    assert svg.heat(Cell(None), 0.5, 1.0) == "h0"


def test_matrix_shows_values_intervals_and_reasons(page: Node) -> None:
    table = page.all("table", class_="matrix")[0]
    matrix = next(exhibit for exhibit in images().exhibits if isinstance(exhibit, Matrix))
    lines = table.all("tbody")[0].all("tr")
    assert [len(line.all("td")) for line in lines] == [len(matrix.columns)] * len(matrix.rows)
    assert "0.800" in lines[0].text and "[0.770, 0.830]" in lines[0].text and "–" in lines[2].text


def test_reports_know_only_the_nouns() -> None:
    folder = Path(html.__file__).parent
    allowed = {"evalkit.types", "evalkit.errors", "jinja2", "markupsafe"}
    foreign = {"torch", "numpy", "PIL", "pandas", "scipy", "sklearn", "evalkit"}
    for path in folder.glob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert module in allowed or module.split(".")[0] not in foreign, (path.name, module)
