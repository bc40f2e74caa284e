"""The dossier of an audit: what is chosen, said and linked, that memory is bounded and that no text becomes markup."""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from evalkit import registry
from evalkit.auditing.discovering import discoveries
from evalkit.auditing.dossier import build
from evalkit.auditing.dossier_words import harmonic
from evalkit.types import Dossier, DossierLimits, Preview
from reports import dossier as report
from reports._dossier_style import pruned

from .dossiers import C2PA, CONFLICT, decisions, evidence, many, pictures, record, records, scored, seal, sha
from .dossiers import hostile as hostile_audit
from .pages import Page
from .payloads import HOSTILE


@pytest.fixture(scope="module")
def made() -> Dossier:
    return build(records(), seal(), decisions(), pictures())


@pytest.fixture(scope="module")
def folder(made: Dossier) -> Mapping[str, bytes]:
    return registry.reports.get("dossier")(made)  # type: ignore[no-any-return]


def page_of(folder: Mapping[str, bytes], name: str) -> Page:
    return Page(folder[name].decode())


# ---------------------------------------------------------------------------------------------- what is chosen


def test_the_worklist_is_sorted_by_p_then_by_what_was_called_and_on_what_evidence(made: Dossier) -> None:
    assert [row.position for row in made.rows] == [0, 1, 3, 6, 7, 2, 5, 4, 8, 9, 10, 11]
    assert made.rows[0].chips == ("detector",) and made.rows[1].chips == ("claim", "detector")
    chips = {row.position: row.chips for row in made.rows}
    assert chips[2] == ("signed",) and chips[3] == ("detector", "conflict")
    assert chips[4] == ("known",) and chips[5] == ("watermark",) and chips[8] == ()
    assert {row.position: row.decided for row in made.rows if row.decided} == {3: "authentic"}


def test_equal_p_values_are_sorted_by_p_fake_then_by_place() -> None:
    found = build([scored(0, "a", 0.5, 0.1), scored(1, "b", 0.9, 0.1), scored(2, "c", 0.5, 0.1)], {})
    assert [row.id for row in found.rows] == ["b", "a", "c"]


def test_where_rows_are_few_those_that_need_a_person_come_first() -> None:
    found = build(records(), seal(), decisions(), limits=DossierLimits(rows=7, pages=1, listed=5))
    assert [row.position for row in found.rows] == [0, 1, 3, 6, 2, 5, 4]
    assert "7 of 12 files" in found.order and "5 are left out here and stand in audit.csv" in found.order
    # One by rank, and every other that stands out; the street picture (6) has a row and no page.
    assert [page.row.position for page in found.pages] == [0, 1, 3, 2, 5, 4]


def test_the_verdict_in_words_agrees_with_a_count_by_hand(made: Dossier) -> None:
    assert made.findings[0] == (
        "Of 12 files, 5 are synthetic (2 of them discovered at a false-discovery rate of 5 %), 1 authentic,"
        " 3 uncertain, 3 unreadable."
    )
    assert "1 is so by a trusted signature" in made.findings[1]
    assert "2 are discovered by the detectors (Benjamini-Hochberg)" in made.findings[1]
    assert dict(made.verdicts) == {
        "ok": {"synthetic": 5, "uncertain": 3, "authentic": 1},
        "truncated": {"unreadable": 1}, "too_large": {"unreadable": 1}, "crash": {"unreadable": 1},
    }  # fmt: skip
    assert [(one.state, one.count, one.first[0].says) for one in made.ended] == [
        ("truncated", 1, "image file is truncated"), ("too_large", 1, "169 Mpx, the limit is 64"),
        ("crash", 1, "signal 11"),
    ]  # fmt: skip
    assert made.conflict_count == 1 and made.conflicts[0].says == f"{CONFLICT}."
    assert [(g.size, [m.id for m in g.members]) for g in made.groups] == [
        (2, ["upload/portrait-01.png", "upload/portrait-02.png"])
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"detectors": []}, "No detector was given"),
        ({"calibration": None}, "No calibration set was given"),
        ({"witnesses": []}, "Provenance was not read"),
        ({}, "against the trust list C2PA-TRUST-LIST.pem, as of 2026-11-22"),
        ({"witnesses": [["provenance", {}]]}, "without a trust list, so no signer counts as trusted"),
    ],
)
def test_what_was_not_done_is_said(change: dict[str, Any], said: str) -> None:
    head = seal()
    head["frozen"]["configuration"] |= change
    assert any(said in words for words in build(records(), head).undone)


def test_an_absent_c2pa_library_is_said() -> None:
    head = seal()
    del head["frozen"]["code"]["packages"]["c2pa-python"]
    assert any("c2pa-python is not installed" in words for words in build(records(), head).undone)


@pytest.mark.parametrize("method", ["bh", "by"])
@pytest.mark.parametrize(("tested", "reals"), [(50, 19), (400, 99), (1000, 2400)])
def test_the_least_number_of_discoveries_is_what_the_procedure_needs(method: str, tested: int, reals: int) -> None:
    head = seal(statistics={"calibration": {"reals": reals}})
    head["frozen"]["configuration"] |= {"method": method}
    facts = {what: value for what, value, _ in build((scored(i, str(i), 0.5, 0.9) for i in range(tested)), head).facts}
    said = int(facts["least number of discoveries"].replace(",", ""))
    flags = (discoveries([1 / (reals + 1)] * k + [1.0] * (tested - k), 0.05, method) for k in range(1, tested + 1))
    least = next((k for k, found in enumerate(flags, 1) if found.any()), None)
    assert said == least if least is not None else said > tested


def test_the_sum_of_reciprocals_is_one() -> None:
    assert harmonic(1) == 1 and harmonic(3) == pytest.approx(11 / 6)
    assert harmonic(20_000) == pytest.approx(math.fsum(1 / k for k in range(1, 20_001)), rel=1e-9)


def test_the_drawings_count_every_file_once(made: Dossier) -> None:
    p_values, scores = made.histograms
    assert sum(p_values.counts) == sum(scores.counts) == 5 and sum(p_values.marked) == 2
    assert p_values.counts[0] == 3 and p_values.level == 5 / 20 and p_values.mark == 0.0008
    assert made.discovery is not None
    ordered, line = made.discovery.lines
    assert [y for _, y in ordered.points] == [0.0004, 0.0008, 0.0012, 0.31, 0.74]
    assert line.points[2][0] == 3 and line.points[2][1] == pytest.approx(3 * 0.05 / 5)


def test_a_record_of_odd_parts_reads_as_absent_and_never_stops_the_rest() -> None:
    odd: list[dict[str, Any]] = [
        {}, {"id": None, "position": "7", "p_value": math.nan, "evidence": "x", "detectors": {"a": 1}},
        {"p_fake": True, "p_value": 3, "evidence": [1, {"kind": 5}], "conflicts": {"a": "b"}, "reasons": 4},
        {"verdict": 9, "rule": ["x"], "state": {"a": 1}, "hashes": [[1, [2]]], "warnings": [None, {"a": 1}]},
    ]  # fmt: skip
    found = build(odd, {"statistics": 3, "frozen": [], "count": None}, [{"position": "x"}])
    assert found.total == 4 and all(row.p_value is None for row in found.rows)
    assert len([name for name in report.render(found) if name.endswith(".html")]) == 5
    assert build([], {}).findings == ("No file was audited.",)


@pytest.mark.parametrize("n", [6_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_records_cost_the_memory_of_the_rows_alone(n: int) -> None:
    assert peak(n) < min(1.5 * peak(2_000), 8_000_000)


def peak(n: int) -> int:
    """Most bytes that building a dossier of n records held at once."""
    tracemalloc.start()
    found = build(many(n), seal(), limits=DossierLimits(rows=200))
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.total == n and len(found.rows) == 200
    return top


# ---------------------------------------------------------------------------------------------- the folder


def test_every_address_leads_to_a_part_of_the_folder(folder: Mapping[str, bytes]) -> None:
    assert {"index.html", "files/000000.html", "files/000008.html"} <= set(folder)
    for name in (n for n in folder if n.endswith(".html")):
        page = page_of(folder, name)
        ids = [node.attrs["id"] for node in page.root.walk() if "id" in node.attrs]
        assert len(ids) == len(set(ids))
        for node in page.root.walk():
            for key in ("href", "src"):
                if key in node.attrs:
                    target = node.attrs[key] or ""
                    assert re.fullmatch(r"#[\w-]+|(\.\./)?(files/)?[\w.-]+(#f\d+)?", target), target
                    check_target(folder, name, ids, target)


def check_target(folder: Mapping[str, bytes], name: str, ids: list[str | None], target: str) -> None:
    path, _, mark = target.partition("#")
    if not path:
        assert mark in ids
    else:
        inside = name.startswith("files/") and not path.startswith("../")
        assert (f"files/{path}" if inside else path.removeprefix("../")) in folder


def test_pages_follow_each_other_in_the_order_of_the_worklist(made: Dossier, folder: Mapping[str, bytes]) -> None:
    at, seen = "000000.html", []
    while at:
        seen.append(int(at[:6]))
        turns = {n.attrs.get("rel"): n.attrs["href"] or "" for n in page_of(folder, f"files/{at}").root.all("a")}
        assert turns.get("prev", "") == (f"{seen[-2]:06d}.html" if len(seen) > 1 else "")
        at = turns.get("next", "")
    assert seen == [row.position for row in made.rows]


def test_a_page_keeps_evidence_apart_and_shows_the_record(folder: Mapping[str, bytes]) -> None:
    text = page_of(folder, "files/000002.html").root.text
    for words in (
        "Signed provenance (C2PA)",
        C2PA["detail"],
        "signer_trust",
        "trusted",
        "integrity",
        "valid at signing",
    ):
        assert words in text
    one = next(r for r in records() if r["position"] == 2)
    shown = page_of(folder, "files/000002.html").root.all("pre")[-1].text
    assert json.loads(shown) == one and one["hash"] in text
    assert "authentic" in page_of(folder, "files/000003.html").root.text
    assert "It was a bright cold day" in page_of(folder, "files/000008.html").root.text
    assert "upload/portrait-02.png" in page_of(folder, "files/000000.html").root.text


def test_nothing_but_pictures_becomes_a_picture() -> None:
    one = records()[0]
    evil = Preview(b"<svg onload=alert(1)>", b"<html>", b"GIF89a" + bytes(20))
    found = report.render(build([one], seal(), pictures={one["sha256"]: evil}))
    assert sorted(found) == ["files/000000.html", "index.html"] and not page_of(found, "index.html").root.all("img")


def test_same_records_same_bytes(folder: Mapping[str, bytes]) -> None:
    again = json.loads(json.dumps(records())), json.loads(json.dumps(seal())), json.loads(json.dumps(decisions()))
    assert report.render(build(iter(again[0]), again[1], iter(again[2]), pictures())) == folder


def test_two_thousand_rows_stay_under_three_megabytes() -> None:
    found = report.render(build(many(2_500), seal(), limits=DossierLimits(pages=20)))
    assert len(page_of(found, "index.html").root.all("tr", data_s="ok")) == 2_000
    assert len(found["index.html"]) < 3_000_000
    said = re.search(rb"Beside this page ([\d,]+) files lie in <code>files/</code>, ([\d.]+) MB", found["index.html"])
    assert said is not None and int(said[1].replace(b",", b"")) == len(found) - 1
    size = sum(len(content) for name, content in found.items() if name != "index.html")
    assert float(said[2]) == pytest.approx(size / 1e6, abs=0.05)


def test_a_sheet_is_cut_to_the_classes_in_use() -> None:
    sheet = "a, .x, .y b { c: d } /* .x { } */ .y:is(.x, p) { e: f } @media print { .x { g: h } .y { i: j } }"
    assert pruned(sheet, frozenset({"x"})) == "a,.x{c: d}\n@media print{.x{g: h}}"
    assert pruned("@page { size: A4 } .y { a: b }", frozenset()) == "@page{size: A4}"


# ---------------------------------------------------------------------------------------------- hostile texts


def shape(page: bytes) -> Counter[tuple[str, tuple[str, ...]]]:
    return Counter((n.tag, tuple(sorted(n.attrs))) for n in Page(page.decode()).root.walk() if n.tag != "wbr")


def without_markup(payloads: tuple[str, ...]) -> Iterator[str]:
    from reports._words import visible

    for text in payloads:
        yield re.sub("[^ \n\t0-9]", "x", visible(text))


def test_no_text_of_a_record_becomes_markup() -> None:
    kept = tuple(f"{payload} {place}" for place, payload in enumerate(HOSTILE))
    hit, plain = (report.render(build(*hostile_audit(tuple(texts)))) for texts in (kept, without_markup(kept)))
    assert len(hit) == len(plain) > len(kept)
    assert shape(hit["index.html"]) == shape(plain["index.html"])
    for name in sorted(hit)[::9]:  # each page in a browser: test_dossier_browser
        assert shape(hit[name]) == shape(plain[name]), name


def test_hostile_names_are_seen_as_what_they_are() -> None:
    found = report.render(build([record(0, "\u202egnp.exe\x1b[31m\ud800")], {}))["index.html"].decode()
    assert r"\u202egnp.exe\x1b[31m\ud800" in found and "\u202e" not in found and "\x1b" not in found


def test_what_says_nothing_has_no_chip_but_a_trusted_signature_has() -> None:
    looked = evidence("watermark", "unknown", "hint", "dwtdct", "none found")
    signed = evidence("c2pa", "unknown", "strong", "provenance", "signed, no claim of generation")
    rows = build([record(0, "a", evidence=[looked]), record(1, "b", evidence=[signed])], {}).rows
    assert [row.chips for row in rows] == [("signed",), ()] and sha("b") == rows[0].sha256
