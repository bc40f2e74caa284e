"""Rank ranges, tie letters, differences, refusals, slices, marked texts: every number arrives on page and in files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.types import Cell, Difference, Marked, Standing
from reports import as_csv, as_json, html
from reports._axes import RATES, axis, ticks
from reports._board import lay_out, rank_words
from reports._differences import BUDGET, MOST, SQUARE, difference_tables
from reports._numbers import p_words
from reports._texts import marked
from reports._words import anchors, slug

from .boards import images
from .pages import Node, Page
from .shown import REFUSAL, TEXT, full, many, tiny


@pytest.fixture(scope="module")
def page() -> Node:
    return Page(html.render(full())).root


def test_rank_ranges_and_letters_stand_in_the_lead_and_on_the_board(page: Node) -> None:
    lead = page.all("table", class_="lead")[1]  # texts: lm and ngram are tied
    lines = {line.all("th", scope="row")[0].text.split("n =")[0]: line for line in lead.all("tbody")[0].all("tr")}
    assert lines["lm"].all("td", class_="rank")[0].text == "1–2 a"
    assert lines["lm"].all("span", class_="letters")[0].text == "a"
    assert lines["unigram"].all("td", class_="rank")[0].text == "–"
    board = page.all("table", class_="board")[0]
    gan = next(line for line in board.all("tbody")[0].all("tr") if "gan" in line.all("th")[0].text)
    assert gan.all("span", class_="rank")[0].text == "rank 2, b"
    assert rank_words(Standing(1, 3, "ab")) == "1–3" and rank_words(None) == ""


def test_first_difference_table_by_hand(page: Node) -> None:
    table = page.all("table", class_="apart-table")[0]
    names = [node.text for node in table.all("th", scope="col")][1:]
    assert names == ["diffusion", "gan", "vae"]
    lines = [line.all("td") for line in table.all("tbody")[0].all("tr")]
    # diffusion less gan: 4.317 - 7.204, half an interval sqrt(0.32^2 + 0.51^2)
    assert "▲ −2.89" in lines[0][1].text and "[−3.49, −2.28]" in lines[0][1].text
    assert lines[0][1].attrs["class"] == "better" and lines[1][0].attrs["class"] == "worse"
    assert "▼ +2.89" in lines[1][0].text and "worse, p < 0.001" in lines[1][0].text
    assert [lines[k][k].text for k in range(3)] == ["", "", ""]


def test_an_open_difference_says_how_many_samples_would_settle_it() -> None:
    found = tiny()
    table = difference_tables(found.comparisons[0], lay_out(found.comparisons[0]).headings)[0]
    step = table.lines[0][1]
    assert step is not None and (step.verdict, step.sign) == ("inconclusive", "≈")
    assert step.settles.startswith("n = ") and table.counts == "0 of 1 pairs told apart"


def test_differences_are_capped_with_a_note() -> None:
    found = many(45, 1, metrics=1)
    comparison = found.comparisons[0]
    names = [row.name for row in comparison.rows]
    every = tuple(
        Difference(a, b, 1.0, 0.5, 1.5, 0.01, 0.02, "worse") for i, a in enumerate(names) for b in names[i + 1 :]
    )
    comparison = dataclasses.replace(comparison, differences={comparison.columns[0].name: every})
    (table,) = difference_tables(comparison, lay_out(comparison).headings)
    assert len(table.names) == MOST > SQUARE and table.left_out == 15
    filled = [(a, b) for a, line in enumerate(table.lines) for b, step in enumerate(line) if step]
    assert filled == [(a, b) for a in range(MOST) for b in range(a)]  # the lower half, row less column
    assert all(step is None or step.text == "−1.00" for line in table.lines for step in line)
    root = Page(html.render(dataclasses.replace(found, comparisons=(comparison,)))).root
    assert "15 more are in leaderboard.json" in root.text


def test_many_columns_of_differences_stay_within_the_page() -> None:
    comparison = many(30, 1, metrics=12).comparisons[0]
    tables = difference_tables(comparison, lay_out(comparison).headings)
    assert sum(len(t.names) ** 2 // 2 for t in tables) <= BUDGET and 1 <= len(tables) < 12


def test_json_and_csv_carry_ranks_and_differences() -> None:
    found = full()
    document = json.loads(as_json.render(found))["comparisons"][1]
    text = found.comparisons[1]
    name = text.columns[0].name
    assert document["adjustment"] == "holm"
    assert document["standings"][name]["lm"] == {"best": 1, "worst": 2, "letters": "a"}
    (given_one,), (expected,) = document["differences"][name], text.differences[name]
    assert {k: given_one[k] for k in ("one", "other", "value", "adjusted", "verdict")} == {
        k: getattr(expected, k) for k in ("one", "other", "value", "adjusted", "verdict")
    }
    lines = [line for line in csv.DictReader(io.StringIO(as_csv.render(found))) if line["metric"] == name]
    assert {line["subject"]: (line["rank_best"], line["rank_worst"], line["letters"]) for line in lines} == {
        "resample": ("", "", ""), "lm": ("1", "2", "a"), "ngram": ("1", "2", "a"), "unigram": ("", "", "")
    }  # fmt: skip


def test_a_difference_without_finite_bounds_is_still_strict_json() -> None:
    base = tiny()
    (column, steps), *_ = base.comparisons[0].differences.items()
    broken = dataclasses.replace(steps[0], low=float("-inf"), high=float("inf"), p=float("nan"), adjusted=float("nan"))
    comparison = dataclasses.replace(base.comparisons[0], differences={column: (broken,)})
    board = dataclasses.replace(base, comparisons=(comparison,))
    (step,) = json.loads(as_json.render(board))["comparisons"][0]["differences"][column]
    assert "low" not in step and "adjusted" not in step and step["value"] == broken.value
    assert "p unknown" in html.render(board)


def test_a_refused_cell_gives_the_refusal_in_its_own_words(page: Node) -> None:
    board = page.all("table", class_="board")[0]
    (why,) = board.all("details", class_="why")
    assert REFUSAL in why.text
    assert any(REFUSAL in item.text for item in page.all("ul", class_="notes")[0].all("li"))
    assert REFUSAL in next(node for node in page.all("section", class_="refused")).text


def test_slices_stand_apart_with_their_samples(page: Node) -> None:
    board = page.all("table", class_="board")[0]
    assert "group=" not in board.text
    table = page.all("section", class_="slices")[0].all("table")[0]
    lines = table.all("tbody")[0].all("tr")
    assert [line.all("th")[0].text for line in lines] == ["0", "1", "2"]
    assert "61 fake" in lines[1].all("td")[0].text
    assert (
        len(lines[0].all("td")) == 1 + 5 and lines[2].all("td")[4].attrs["title"] == "no generated sample of group '2'"
    )


def test_every_column_has_an_id_and_its_protocol_in_words(page: Node) -> None:
    board = page.all("table", class_="board")[0]
    heads = [node for node in board.all("th") if "data-better" in node.attrs]
    assert all(node.attrs["id"] and len(node.all("a", class_="badge")) == 1 for node in heads)
    badge = Page(html.render(tiny())).root.all("a", class_="badge")[0]
    assert "metric: fid; n: real 9" in (badge.attrs["title"] or "")


@given(st.lists(st.text(max_size=12), max_size=8))
def test_anchors_differ_and_hold_nothing_but_letters_digits_and_dashes(names: list[str]) -> None:
    found = anchors("image", names)
    assert len(set(found)) == len(names)
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for one in found)


def test_slugs_and_p_values_by_hand() -> None:
    assert slug("FID@random_conv.group=Großkatze") == "fid-random-conv-group-gro-katze" and slug("日本") == "x"
    assert [p_words(p) for p in (0.0004, 0.012, 0.5, 1.2)] == ["p < 0.001", "p = 0.012", "p = 0.50", "p = 1.00"]


def test_marked_pieces_are_marked_and_the_rest_stays_text() -> None:
    assert marked(Marked("a <b> c", ((2, 5),))) == "a <mark>&lt;b&gt;</mark> c"
    assert marked(Marked("abc", ((2, 9), (-1, 2), (1, 1)))) == "abc"  # spans that are none
    assert marked(Marked("abcdef", ((0, 3), (2, 5)))) == "<mark>abc</mark>def"  # the second reaches into the first
    long = marked(Marked("x" * 5000 + TEXT, ((5000, 5000 + len(TEXT)),)))
    assert f"<mark>{TEXT}</mark>" in long and len(long) < 1000 and long.startswith("…")


def test_probit_axes_have_the_marks_of_a_det_plot() -> None:
    scale = axis([0.004, 0.03, 0.4], 0.0, 100.0, "probit")
    assert (scale.low, scale.high) == (0.001, 0.5) and set(ticks(scale)) <= set(RATES)
    # Probits: 0.01 and 0.2 lie as far from the middle as their normal quantiles, -2.326 and -0.842.
    assert scale(0.01) == pytest.approx(100 * (3.0902 - 2.3263) / 3.0902, abs=0.01)
    assert scale.back(scale(0.05)) == pytest.approx(0.05)


def test_log_axes_of_rates_end_at_one_and_hold_no_false_alarm_at_their_left_edge() -> None:
    scale = axis([0.0, 0.0026, 0.3, 1.0], 0.0, 90.0, "log")
    assert (scale.low, scale.high) == (0.001, 1.0)
    assert scale(0.0) == 0 and scale(0.01) == pytest.approx(30) and scale(1.0) == 90


def test_reliability_marks_say_their_counts_and_a_front_is_drawn(page: Node) -> None:
    circles = page.all("circle", class_="counted")
    assert [node.all("title")[0].text for node in circles] == ["n = 120", "n = 30", "n = 45", "n = 9"]
    assert len(page.all("path", class_="front")) == 2  # drawn, and in the legend
    assert sorted(node.all("text")[0].text for node in page.all("g", class_="on-front")) == ["diffusion", "gan"]


def test_a_board_of_five_thousand_subjects_is_cut_with_a_note_and_whole_in_the_csv() -> None:
    base = images()
    one = base.rows[1]
    rows = tuple(dataclasses.replace(one, name=f"s{k}", cells=(Cell(1.0, 0.9, 1.1),)) for k in range(5000))
    few = dataclasses.replace(
        base, columns=base.columns[:1], rows=rows, exhibits=(), standings={}, differences={}, deltas={}
    )
    board = dataclasses.replace(full(), comparisons=(few,), records=())
    text = html.render(board)
    assert "The first 1000 of 5000 subjects." in text and len(text) < 2_000_000
    assert as_csv.render(board).count("\n") == 5001
