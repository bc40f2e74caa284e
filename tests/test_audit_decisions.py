"""Reviewers' decisions are appended and chained on, also by two at once and after a crash; reruns say what differs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalkit.auditing.custody import linked
from evalkit.auditing.deciding import cases, current, decide, find
from evalkit.auditing.rerunning import difference
from evalkit.auditing.sealing import read_seal, seal
from evalkit.auditing.verifying import verify
from evalkit.errors import BadRecord, BadSetting
from tests.audits import CLEAR, FLAGGED, HEADER, finding, record_of, records, sealed

AT = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sealed(tmp_path, 8)
    return tmp_path


def test_a_decision_says_who_what_when_and_why_and_follows_the_head(folder: Path) -> None:
    made = decide(folder, "upload/0.jpg", "overturned", verdict="authentic", reviewer=" ada ", reason="ours", at=AT)
    [line] = (folder / "decisions.jsonl").read_text().splitlines()
    assert json.loads(line) == made
    record = find(folder, 0)
    expected = {
        "number": 1, "time": "2026-05-06T07:08:09Z", "reviewer": "ada", "decision": "overturned", "before": "synthetic",
        "verdict": "authentic", "reason": "ours", "sealed": "synthetic", "id": "upload/0.jpg", "position": 0,
        "record": record["hash"], "sha256": record["sha256"], "previous": read_seal(folder).head,
    }  # fmt: skip
    assert {key: made[key] for key in expected} == expected
    assert linked(made, made["previous"]) == (line.encode(), made["hash"])


def test_decisions_are_added_and_none_is_overwritten(folder: Path) -> None:
    one = decide(folder, 0, "overturned", verdict="authentic", reviewer="ada", reason="ours")
    first = (folder / "decisions.jsonl").read_bytes()
    two = decide(folder, 3, "upheld", reviewer="bob", reason="a camera's")
    three = decide(folder, 0, "overturned", verdict="synthetic", reviewer="bob", reason="seen again")
    assert (folder / "decisions.jsonl").read_bytes().startswith(first)
    assert (three["before"], three["verdict"], two["verdict"]) == ("authentic", "synthetic", "authentic")
    assert current(folder) == {one["record"]: (one, three), two["record"]: (two,)}
    assert verify(folder).decisions == 3 and verify(folder).ok


def test_a_record_is_found_by_each_of_its_names(folder: Path) -> None:
    record = find(folder, 1)
    assert record["id"] == "caf\\xe9/1.jpg" and record["position"] == 1
    for name in (record["id"], "1", record["hash"], record["hash"].removeprefix("sha256:"), record["sha256"]):
        assert find(folder, name) == record
    with pytest.raises(BadSetting, match=r"no file of this audit is 'upload/99\.jpg'"):
        find(folder, "upload/99.jpg")
    assert decide(folder, 1, "noted", reviewer="ada", reason="x")["name_hex"] == b"caf\xe9/1.jpg".hex()


def test_an_id_goes_before_a_position_and_several_files_are_not_guessed_between(tmp_path: Path) -> None:
    names = [b"3", b"twin", b"other", b"z"]
    twins = [record_of(finding(i, name, b"same"), CLEAR) for i, name in enumerate(names)]
    seal(tmp_path, HEADER, twins)
    assert find(tmp_path, "3")["position"] == 0 and find(tmp_path, 3)["id"] == "z"
    with pytest.raises(BadSetting, match=r"is 4 files \(positions 0, 1, 2, 3\)"):
        find(tmp_path, hashlib.sha256(b"same").hexdigest())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"decision": "maybe"}, "expected upheld, overturned, noted"),
        ({"decision": "overturned"}, "a verdict is given to overturn one"),
        ({"decision": "upheld", "verdict": "synthetic"}, "a verdict is given to overturn one"),
        ({"decision": "overturned", "verdict": "unreadable"}, "expected synthetic, authentic, uncertain"),
        ({"decision": "overturned", "verdict": "synthetic"}, "is synthetic already"),
        ({"decision": "noted", "reviewer": " "}, "needs a reviewer of 1 to 200"),
        ({"decision": "noted", "reason": "x" * 4001}, "needs a reason of 1 to 4000"),
    ],
)
def test_what_cannot_be_decided_is_refused_and_leaves_nothing(folder: Path, words: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"reviewer": "ada", "reason": "r", **words}
    with pytest.raises(BadSetting, match=said):
        decide(folder, 0, **given)
    assert current(folder) == {} and verify(folder).ok


def test_reviewers_at_once_lose_no_decision(folder: Path) -> None:
    def one(i: int) -> str:
        return str(decide(folder, i % 8, "noted", reviewer=f"r{i}", reason=f"reason {i}")["hash"])

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(one, range(24)))
    report = verify(folder)
    assert report.ok and report.decisions == 24 and len(set(made)) == 24
    assert sorted(d["number"] for each in current(folder).values() for d in each) == list(range(1, 25))


# ---------------------------------------------------------------------------------------------- crashes and edits


@pytest.mark.parametrize("before", [0, 2])
def test_a_torn_line_is_noted_skipped_by_the_next_decision_and_no_excuse_for_an_edit(folder: Path, before: int) -> None:
    for i in range(before + 1):
        decide(folder, i, "noted", reviewer="ada", reason="r")
    log, count = folder / "decisions.jsonl", folder / "decisions.json"
    lines = log.read_bytes().splitlines(keepends=True)
    # As a crash leaves them: half of the last line, and the count from before it.
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:100])
    last = json.loads(lines[-2])["hash"] if before else read_seal(folder).head
    count.write_bytes(b'{"count":%d,"head":"%s","schema":"evalkit.audit-decisions/1"}\n' % (before, last.encode()))
    report = verify(folder)
    assert report.ok and report.decisions == before and "100 bytes of a decision that was never" in report.notes[0]

    made = decide(folder, 5, "noted", reviewer="bob", reason="after the crash")
    skipped = lines[-1][:100] + b"\n"
    assert made["after_torn"] == {"bytes": 101, "sha256": hashlib.sha256(skipped).hexdigest()}
    assert log.read_bytes().startswith(b"".join(lines[:-1]) + skipped)
    assert verify(folder).ok and verify(folder).decisions == before + 1
    decide(folder, 6, "noted", reviewer="bob", reason="and so on")
    assert verify(folder).ok

    log.write_bytes(log.read_bytes().replace(skipped, skipped[:50] + b"X" + skipped[51:]))
    assert "not what it says it skipped" in verify(folder).problems[0]


def test_the_same_torn_line_is_tampering_where_the_count_says_it_was_whole(folder: Path) -> None:
    for i in range(2):
        decide(folder, i, "noted", reviewer="ada", reason="r")
    log = folder / "decisions.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    assert verify(folder).problems == ("decisions.jsonl has 1 of 2 decisions: the last 1 were removed or edited",)
    with pytest.raises(BadRecord, match="before anything is decided"):
        decide(folder, 3, "noted", reviewer="ada", reason="r")
    with pytest.raises(BadRecord, match="1 of 2 decisions"):
        current(folder)


def test_a_decision_written_but_not_counted_stays_and_is_counted_by_the_next(folder: Path) -> None:
    decide(folder, 0, "noted", reviewer="ada", reason="r")
    count = (folder / "decisions.json").read_bytes()
    decide(folder, 1, "noted", reviewer="ada", reason="r")
    (folder / "decisions.json").write_bytes(count)
    report = verify(folder)
    assert report.ok and report.decisions == 2 and "not counted yet" in report.notes[0]
    decide(folder, 2, "noted", reviewer="ada", reason="r")
    assert verify(folder).ok and verify(folder).notes == ()


@pytest.mark.parametrize("name", ["decisions.jsonl", "decisions.json"])
def test_a_removed_log_or_count_is_found(folder: Path, name: str) -> None:
    decide(folder, 0, "noted", reviewer="ada", reason="r")
    (folder / name).unlink()
    assert "removed" in verify(folder).problems[0]


def test_nothing_is_decided_on_a_record_that_was_edited(folder: Path) -> None:
    log = folder / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"verdict":"synthetic"', b'"verdict":"authentic"', 1))
    with pytest.raises(BadRecord, match="line 1 was edited"):
        decide(folder, 0, "upheld", reviewer="ada", reason="r")


def test_cases_are_the_verdicts_that_no_longer_stand_and_hold_no_formula(folder: Path) -> None:
    decide(folder, 0, "overturned", verdict="authentic", reviewer="ada", reason="=HYPERLINK(1)", at=AT)
    decide(folder, 0, "noted", reviewer="bob", reason="filed")
    decide(folder, 4, "overturned", verdict="authentic", reviewer="ada", reason="r")
    decide(folder, 4, "overturned", verdict="synthetic", reviewer="ada", reason="back")
    decide(folder, 3, "upheld", reviewer="ada", reason="r")
    [case] = csv.DictReader(io.StringIO(cases(folder)))
    assert case == {
        "path": "upload/0.jpg", "name_hex": "", "sha256": find(folder, 0)["sha256"], "verdict_before": "synthetic",
        "decision": "overturned", "verdict": "authentic", "reviewer": "ada", "reason": "'=HYPERLINK(1)",
        "time": "2026-05-06T07:08:09Z",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------- reruns


def test_the_same_record_has_no_difference_wherever_it_stood(folder: Path) -> None:
    old = find(folder, 0)
    assert difference(old, {**record_of(finding(0), FLAGGED), "position": 7, "id": "again"}, HEADER, HEADER) == []


def test_the_smallest_difference_of_a_score_is_told_and_the_verdict_comes_first() -> None:
    old = record_of(finding(0), FLAGGED)
    score = old["detectors"][0]["score"]
    moved = {**old["detectors"][0], "score": math.nextafter(score, 9.0), "digest": "sha256:ee"}
    new = {**old, "verdict": "uncertain", "detectors": [moved], "q_value": None}
    found = {d.field: d for d in difference(old, new)}
    assert list(found) == ["verdict", "detectors.cnn.digest", "detectors.cnn.score", "q_value"]
    assert found["verdict"].words == "verdict was 'synthetic', is now 'uncertain'"
    assert "other weights" in found["detectors.cnn.digest"].words
    assert (found["detectors.cnn.score"].old, found["detectors.cnn.score"].new) == (score, moved["score"])
    assert found["detectors.cnn.score"].words.endswith("by 4.44e-16")
    assert "one file alone has none" in found["q_value"].words


def test_added_and_lost_evidence_and_other_content_are_named() -> None:
    [old] = records(1)
    new = {**old, "evidence": [*old["evidence"][1:], {**old["evidence"][0], "source": "other"}], "sha256": "00" * 32}
    words = [d.words for d in difference(old, new)]
    assert words[0].startswith("the file's content is another one")
    assert sorted(w.rpartition(" is ")[2] for w in words[1:]) == ["gone", "new"]


def test_headers_tell_of_versions_trust_list_and_calibration_but_not_of_the_day() -> None:
    record = record_of(finding(0), FLAGGED)
    packages = {"pillow": "12.0.0"}
    frozen = {**HEADER["frozen"], "manifest": "sha256:one-file", "calibration": "sha256:cc",
              "code": {**HEADER["frozen"]["code"], "packages": packages}}  # fmt: skip
    before = {**HEADER, "trust_lists": {"c2pa_trust_list": "2026-01"}}
    after = {**HEADER, "trust_lists": {"c2pa_trust_list": "2026-06"}, "frozen": frozen, "finished": "later"}
    found = {d.field: d.words for d in difference(record, record, before, after)}
    assert found == {
        "frozen.calibration": "the calibration set is another one: frozen.calibration was absent, is now 'sha256:cc'",
        "frozen.code.packages.pillow": "version or machine: pillow was '11.0.0', is now '12.0.0'",
        "trust_lists.c2pa_trust_list": "the trust list is another one: trust_lists.c2pa_trust_list was '2026-01',"
        " is now '2026-06'",
    }
    assert difference(record, {**record, "flagged": 1})[0].field == "flagged"
