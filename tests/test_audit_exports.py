"""A sealed audit in other tools' formats: no formula in a spreadsheet, nothing left out unsaid, types stay types."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from evalkit.auditing import sarif as sarif_module
from evalkit.auditing.custody import records as sealed_records
from evalkit.auditing.deciding import decide
from evalkit.auditing.exports import export
from evalkit.auditing.sarif import uri
from evalkit.auditing.sealing import seal
from evalkit.errors import BadRecord, BadSetting
from evalkit.types import Ruling
from tests.audits import CLEAR, FLAGGED, HEADER, finding, record_of, sealed

HOSTILE = (
    b"=HYPERLINK(\"http://x\")", b"+1+1", b"-2", b"@SUM(1)", b"\tTAB", b"\rCR", "＝1".encode(), b"a,b\"c\nd",
    b"\xff\xfe", b"<script>alert(1)</script>", "\u202egpj.exe".encode(), b"\x1b[31m", b"//host/share", b"/etc/passwd",
    b"http://x/y", b"javascript:alert(1)", b"../../up", b"a b%20?q#f", b"{0} [a](http://x)",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sealed(tmp_path / "audit", 12)
    return tmp_path / "audit"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Hostile names, and the same text as the reason of each ruling."""
    made = []
    for i, name in enumerate(HOSTILE):
        text = name.decode("utf-8", "backslashreplace")
        ruling = Ruling("uncertain", "unsigned_claim", 0.5, 1e-9, -0.0, reasons={"unsigned_claim": text})
        made.append(record_of(finding(i, name), ruling))
    seal(tmp_path / "hostile", HEADER, made)
    return tmp_path / "hostile"


def rows(folder: Path) -> list[dict[str, str]]:
    export(folder, folder.parent / "out.csv")
    return list(csv.DictReader(io.StringIO((folder.parent / "out.csv").read_text("utf-8"), newline="")))


# ---------------------------------------------------------------------------------------------- CSV, JSONL


def test_csv_has_a_row_a_record_with_numbers_in_full_and_the_decision_that_stands(folder: Path) -> None:
    decide(folder, 0, "overturned", verdict="authentic", reviewer="ada", reason="r")
    found = rows(folder)
    assert [int(r["position"]) for r in found] == list(range(12))
    first, second, third = found[:3]
    assert float(first["p_value"]) == 0.0004 and first["p_value"] == "0.0004" and first["flagged"] == "true"
    assert (first["threshold_low"], first["threshold_high"], first["detectors"]) == ("0.2", "0.8", "cnn 0.97")
    assert (first["decision"], first["decided_verdict"], second["decision"]) == ("overturned", "authentic", "")
    assert bytes.fromhex(second["name_hex"]) == b"caf\xe9/1.jpg" and first["name_hex"] == ""
    assert (third["state"], third["reason"], third["p_value"]) == ("corrupt", "bad marker", "")
    assert "metadata (claim): PNG text names a1111" in first["evidence"]
    assert first["record"] == next(sealed_records(folder))["hash"]


def test_no_text_of_a_csv_is_a_formula_and_numbers_stay_numbers(hostile: Path) -> None:
    found = rows(hostile)
    assert len(found) == len(HOSTILE)
    for row in found:
        for name in ("id", "reasons", "evidence", "detectors", "rule"):
            assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝")), row[name]
            assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", row[name])
        assert float(row["p_value"]) == 1e-9 and row["q_value"] == "0"
    assert found[2]["id"] == "'-2" and found[0]["id"].startswith("'=HYPERLINK")


def test_jsonl_is_the_chain_byte_for_byte(folder: Path) -> None:
    export(folder, folder.parent / "copy.jsonl")
    assert (folder.parent / "copy.jsonl").read_bytes() == (folder / "audit.jsonl").read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "sarif", "parquet"])
def test_nothing_edited_leaves_the_folder_and_a_failed_export_leaves_the_old_file(folder: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    target = folder.parent / f"out.{suffix}"
    target.write_text("old")
    log = folder / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b"bad marker", b"bad market", 1))
    with pytest.raises(BadRecord, match="line 3 does not have its hash"):
        export(folder, target)
    assert target.read_text() == "old" and [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_unknown_suffixes_and_the_audits_own_files_are_refused(folder: Path) -> None:
    with pytest.raises(BadSetting, match=r"ending in \.csv, \.jsonl, \.sarif, \.parquet"):
        export(folder, folder / "x.xlsx")
    with pytest.raises(BadSetting, match="part of the sealed audit itself"):
        export(folder, folder / "audit.jsonl")


# ---------------------------------------------------------------------------------------------- SARIF


def checked(document: Any) -> dict[str, Any]:
    """The one run of a SARIF document; every constraint of the 2.1.0 schema on what we write holds."""
    assert document["version"] == "2.1.0" and document["$schema"].endswith("sarif-schema-2.1.0.json")
    assert set(document) == {"$schema", "version", "runs"}
    [run] = document["runs"]
    assert set(run) <= {"tool", "invocations", "columnKind", "properties", "results"}
    assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    driver = run["tool"]["driver"]
    assert set(driver) == {"name", "rules"} and isinstance(driver["name"], str)
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(set(ids)) == len(ids)
    for rule in driver["rules"]:
        assert set(rule) == {"id", "shortDescription", "fullDescription"} and rule["shortDescription"]["text"]
    [invocation] = run["invocations"]
    assert isinstance(invocation["executionSuccessful"], bool)
    for told in invocation["toolExecutionNotifications"]:
        assert set(told) == {"level", "message"} and told["message"]["text"]
    for result in run["results"]:
        keys = {"ruleId", "level", "kind", "message", "locations", "partialFingerprints", "properties"}
        assert set(result) == keys and result["ruleId"] in ids and result["kind"] == "fail"
        assert result["level"] in ("note", "warning", "error") and result["message"]["text"]
        [location] = result["locations"]
        reference = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"(file:///)?[A-Za-z0-9._~%/-]*", reference) and urlsplit(reference).netloc == ""
        assert all(isinstance(v, str) for v in result["partialFingerprints"].values())
    return dict(run)


def sarif(folder: Path) -> dict[str, Any]:
    export(folder, folder.parent / "out.sarif")
    data = (folder.parent / "out.sarif").read_bytes()
    assert len(data) < 10_000_000
    return checked(json.loads(data))


def test_sarif_lists_what_is_not_authentic_the_most_severe_first(folder: Path) -> None:
    run = sarif(folder)
    levels = [result["level"] for result in run["results"]]
    assert levels == ["error"] * 3 + ["note"] * 6
    assert [r["properties"]["position"] for r in run["results"][:3]] == [0, 4, 8]
    assert run["results"][0]["message"]["text"] == "synthetic by rule discovery: PNG text names a1111"
    assert run["properties"]["results"] == {"found": 9, "included": 9, "leftOut": 0}
    assert run["properties"]["verdicts"]["authentic"] == 3 and run["invocations"][0]["toolExecutionNotifications"] == []


def test_sarif_names_are_addresses_of_nothing_else(hostile: Path) -> None:
    run = sarif(hostile)
    found = {r["properties"]["position"]: r for r in run["results"]}
    for i, name in enumerate(HOSTILE):
        reference = found[i]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        path = reference.removeprefix("file:///")
        assert unquote_to_bytes(path) == name.lstrip(b"/") and ":" not in path
    # A message's brackets are links and its braces are places to fill in.
    assert "{{0}} (a)(http://x)" in found[len(HOSTILE) - 1]["message"]["text"]
    assert uri({"id": "/etc/passwd"}) == "file:///etc/passwd" and uri({"id": "", "name_hex": ""}) == "."


def test_sarif_keeps_the_worst_and_says_how_many_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif_module, "MOST_RESULTS", 4)
    run = sarif(folder)
    assert [r["properties"]["position"] for r in run["results"]] == [0, 4, 8, 1]
    [told] = run["invocations"][0]["toolExecutionNotifications"]
    assert told["message"]["text"].startswith("5 of 9 results are left out, the least severe: 5 of 6 notes.")
    assert run["properties"]["results"] == {"found": 9, "included": 4, "leftOut": 5}


def test_sarif_stays_under_its_size_however_long_the_names_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif_module, "MOST_BYTES", 40_000)
    seal(tmp_path / "a", HEADER, (record_of(finding(i, b"\xff" * 4000 + b"%d" % i), FLAGGED) for i in range(9)))
    run = sarif(tmp_path / "a")
    assert run["properties"]["results"] == {"found": 9, "included": 3, "leftOut": 6}
    assert (tmp_path / "out.sarif").stat().st_size < 50_000


# ---------------------------------------------------------------------------------------------- Parquet


def test_parquet_keeps_types_lists_and_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("evalkit.auditing.parquet.ROW_GROUP", 5)
    export(folder, folder.parent / "out.parquet")
    file = tables.ParquetFile(folder.parent / "out.parquet")
    assert file.num_row_groups == 3
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert (types["p_value"], types["position"], types["flagged"]) == ("double", "int64", "bool")
    assert types["name"] == "binary" and types["detectors"].startswith("list<element: struct<name: string")
    for row, record in zip(file.read().to_pylist(), sealed_records(folder), strict=True):
        assert row["name"] == (bytes.fromhex(record["name_hex"]) if "name_hex" in record else record["id"].encode())
        same = ("position", "sha256", "verdict", "p_fake", "p_value", "q_value", "flagged", "bytes", "reason", "state")
        assert {key: row[key] for key in same} == {key: record[key] for key in same}
        assert row["record"] == record["hash"] and dict(row["reasons"]) == record["reasons"]
        assert row["detectors"][0]["score"] == record["detectors"][0]["score"]
        assert json.loads(row["evidence"][0]["facts"]) == {"steps": 20}


def test_parquet_bears_hostile_names(hostile: Path) -> None:
    tables = pytest.importorskip("pyarrow.parquet")
    export(hostile, hostile.parent / "out.parquet")
    assert tables.read_table(hostile.parent / "out.parquet").column("name").to_pylist() == list(HOSTILE)


# ---------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("suffix", ["csv", "sarif"])
def test_memory_does_not_grow_with_the_number_of_records(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sarif_module, "MOST_RESULTS", 50)
    peaks = []
    for n in (50, 400):
        seal(tmp_path / str(n), HEADER, (record_of(finding(i), FLAGGED if i % 2 else CLEAR) for i in range(n)))
        tracemalloc.start()
        export(tmp_path / str(n), tmp_path / f"{n}.{suffix}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Eight times the records, over half a megabyte more of them.
    assert peaks[1] < 1.5 * peaks[0] + 100_000
