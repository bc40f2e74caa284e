"""The chain of custody: whatever is changed in a sealed folder is found, and what a crash leaves is no change."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.auditing.custody import canonical, chained, genesis, hashed, linked
from evalkit.auditing.custody import records as sealed_records
from evalkit.auditing.deciding import decide
from evalkit.auditing.sealing import read_seal, seal
from evalkit.auditing.verifying import verify
from evalkit.errors import BadRecord
from tests.audits import CLEAR, HEADER, finding, record_of, records, sealed

ROOT = Path(__file__).resolve().parent.parent
FILES = ("audit.jsonl", "audit.json", "decisions.jsonl", "decisions.json")
# RFC 8785, appendix B.
NUMBERS = {
    "0000000000000000": "0", "8000000000000000": "0", "0000000000000001": "5e-324", "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308", "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23", "444b1ae4d6e2ef4e": "999999999999999700000", "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7", "3eb0c6f7a0b5ed8d": "0.000001", "41b3de4355555553": "333333333.3333332",
    "becbf647612f3696": "-0.0000033333333333333333",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed folder of six records with three decisions; tests copy it."""
    folder = tmp_path_factory.mktemp("whole")
    sealed(folder, 6)
    decide(folder, 0, "overturned", verdict="authentic", reviewer="ada", reason="a scan of our own")
    decide(folder, 4, "upheld", reviewer="ada", reason="hands")
    decide(folder, 0, "noted", reviewer="grace", reason="asked the uploader")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "audit"))


# ---------------------------------------------------------------------------------------------- canonical JSON


@pytest.mark.parametrize("bits", NUMBERS)
def test_numbers_are_written_as_rfc_8785_writes_them(bits: str) -> None:
    [number] = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number).decode() == NUMBERS[bits]


def test_members_are_ordered_by_utf_16_units() -> None:
    # RFC 8785, 3.2.3: the astral emoji sorts before U+FB33, which no order by code points does.
    given = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(canonical(given)).values()) == [2, 4, 6, 7, 1, 5, 3]


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(0, 1e-3) | st.integers(-99, 99).map(float) | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([",1.0", "[1e5", '":2', "\U0001f600"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("a\ufb33\U0001f600\n\"", max_size=3), inner),
    max_leaves=8,
)  # fmt: skip


@given(plain_values)
@settings(max_examples=200, deadline=None)
def test_canonical_json_is_what_rfc8785_writes(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_a_line_is_the_canonical_record_and_its_hash_is_over_all_but_itself() -> None:
    for line, _, own in chained(records(4), "sha256:start"):
        record = json.loads(line)
        assert rfc8785.dumps(record) + b"\n" == line and record["hash"] == own
        del record["hash"]
        assert "sha256:" + hashlib.sha256(rfc8785.dumps(record)).hexdigest() == own


@pytest.mark.parametrize("record", [{"a": 1}, {"hash": "x", "zz": 1}, {}, {"h": 1, "hash0": 2, "\U0001f600": 3}])
def test_the_hash_has_its_place_wherever_the_other_members_sort(record: dict[str, Any]) -> None:
    line, own = linked(record, "sha256:00")
    assert rfc8785.dumps(json.loads(line)) == line and json.loads(line)["hash"] == own


def test_what_canonical_json_cannot_say_is_refused_in_one_sentence() -> None:
    for value in (2**53, float("nan"), "\ud800"):
        with pytest.raises(BadRecord, match="not sayable as canonical JSON"):
            canonical({"x": value})


# ---------------------------------------------------------------------------------------------- sealing


def test_a_seal_counts_and_hashes_what_it_stands_over(tmp_path: Path) -> None:
    made = sealed(tmp_path, 8)
    lines = (tmp_path / "audit.jsonl").read_bytes()
    said = json.loads((tmp_path / "audit.json").read_text())
    assert said["schema"] == "evalkit.audit-seal/1" and said["count"] == 8 == lines.count(b"\n")
    assert said["verdicts"] == {"authentic": 2, "synthetic": 2, "uncertain": 2, "unreadable": 2}
    assert said["states"] == {"corrupt": 2, "ok": 6} and said["started"] == "2026-01-02T03:04:05Z"
    assert said["file"] == {"name": "audit.jsonl", "bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()}
    parsed = [json.loads(line) for line in lines.splitlines()]
    assert said["head"] == parsed[-1]["hash"] == made.head
    assert parsed[0]["previous"] == said["genesis"] == hashed(HEADER["frozen"])
    assert [p["previous"] for p in parsed[1:]] == [p["hash"] for p in parsed[:-1]]
    assert made.line == f"evalkit.audit-seal/1 records=8 head={made.head} seal={said['hash']}"
    assert list(sealed_records(tmp_path)) == parsed


def test_an_empty_audit_is_sealed_with_its_genesis(tmp_path: Path) -> None:
    assert sealed(tmp_path, 0).head == genesis(HEADER["frozen"])
    assert verify(tmp_path).ok


@pytest.mark.parametrize("part", ["configuration", "manifest", "detectors", "calibration", "code"])
def test_another_frozen_part_is_another_chain(tmp_path: Path, part: str) -> None:
    frozen = {**HEADER["frozen"], part: "another"}
    other = seal(tmp_path / "other", {**HEADER, "frozen": frozen}, records(2))
    assert other.head != sealed(tmp_path / "one", 2).head


def test_sealing_again_gives_the_same_bytes_and_never_another_seal(tmp_path: Path) -> None:
    sealed(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in FILES[:2]}
    (tmp_path / "audit.jsonl").write_bytes(b"damaged")
    later = seal(tmp_path, {**HEADER, "finished": "2027-01-01T00:00:00Z"}, records(8))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert later.document["finished"] == HEADER["finished"]
    with pytest.raises(BadRecord, match="audit into another folder"):
        sealed(tmp_path, 7)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_decisions_keep_their_ground_when_the_seal_is_lost(folder: Path) -> None:
    seal_bytes = (folder / "audit.json").read_bytes()
    (folder / "audit.json").unlink()
    with pytest.raises(BadRecord, match=r"decisions .* stand on head"):
        sealed(folder, 5)
    sealed(folder, 6)
    assert (folder / "audit.json").read_bytes() == seal_bytes and verify(folder).ok


KILLED = """
import os, signal, sys
from pathlib import Path
from evalkit.auditing import sealing
from tests.audits import sealed
sealing.{where} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sealed(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(("where", "left"), [("_settle", ["audit.jsonl"]), ("_same_as_before", [])])
def test_a_kill_while_sealing_is_made_good_by_sealing_again(tmp_path: Path, where: str, left: list[str]) -> None:
    sealed(tmp_path / "whole")
    killed = tmp_path / "killed"
    code = KILLED.format(where=where)
    done = subprocess.run([sys.executable, "-c", code, str(killed)], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == -9
    assert sorted(p.name for p in killed.iterdir() if p.is_file()) == left
    if left:
        assert "was not sealed to its end" in verify(killed).problems[0]
    sealed(killed)
    for name in FILES[:2]:
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("positions", [[0, 0], [1, 0], [None], ["0"]])
def test_records_out_of_order_or_twice_are_never_sealed(tmp_path: Path, positions: list[Any]) -> None:
    with pytest.raises(BadRecord, match="expected manifest order"):
        seal(tmp_path, HEADER, ({"position": p} for p in positions))
    assert list(tmp_path.iterdir()) == []


def test_a_header_must_freeze_everything_and_claim_nothing_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="lacks 'frozen'"):
        seal(tmp_path, {}, [])
    with pytest.raises(BadRecord, match="lacks manifest, detectors, calibration, code"):
        seal(tmp_path, {"frozen": {"configuration": 1}}, [])
    with pytest.raises(BadRecord, match="cannot set head"):
        seal(tmp_path, {**HEADER, "head": "sha256:00"}, [])


# ---------------------------------------------------------------------------------------------- verifying


def test_a_folder_nobody_touched_is_whole(folder: Path) -> None:
    report = verify(folder)
    assert report.ok and report.problems == () == report.notes
    assert (report.records, report.decisions, report.head) == (6, 3, read_seal(folder).head)


@given(st.sampled_from(FILES), st.sampled_from(["replace", "insert", "delete"]), st.data())
@settings(max_examples=150, deadline=None)
def test_any_change_of_one_byte_is_found(whole: Path, name: str, how: str, data: st.DataObject) -> None:
    original = (whole / name).read_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1).filter(lambda b: b != original[at : at + 1]))
    changed = original[:at] + {"replace": byte, "insert": byte, "delete": b""}[how] + original[at + (how != "insert") :]
    assert not _report_with(whole, name, changed).ok


@given(st.sampled_from(FILES), st.sampled_from(["delete", "repeat", "swap"]), st.data())
@settings(max_examples=80, deadline=None)
def test_any_line_removed_repeated_or_moved_is_found(whole: Path, name: str, how: str, data: st.DataObject) -> None:
    lines = (whole / name).read_bytes().splitlines(keepends=True)
    at, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in "ab")
    changed = list(lines)
    if how == "swap":
        changed[at], changed[other] = lines[other], lines[at]
    else:
        changed[at : at + 1] = [] if how == "delete" else [lines[at]] * 2
    if changed != lines:
        assert not _report_with(whole, name, b"".join(changed)).ok


def _report_with(whole: Path, name: str, data: bytes) -> Any:
    """The report on the folder with one file replaced; put right again."""
    original = (whole / name).read_bytes()
    try:
        (whole / name).write_bytes(data)
        return verify(whole)
    finally:
        (whole / name).write_bytes(original)


def _lines(change: Callable[[list[str]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        lines = (folder / "audit.jsonl").read_text().splitlines(keepends=True)
        change(lines)
        (folder / "audit.jsonl").write_text("".join(lines))

    return apply


def _forge(lines: list[str]) -> None:
    """A record edited together with its hash, as someone does who knows the format."""
    record = {**json.loads(lines[2]), "verdict": "authentic"}
    lines[2] = linked(record, record["previous"])[0].decode() + "\n"


def _cut_hash(lines: list[str]) -> None:
    lines[2] = lines[2].replace('"hash":', '"hush":')


DAMAGES: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "edited": (
        lambda x: x.__setitem__(2, x[2].replace("bad marker", "bad market")),
        "line 3 ('upload/2.jpg') was edited",
    ),
    "not json": (lambda x: x.__setitem__(2, x[2].replace('"', "", 1)), "line 3 was edited: it is no strict JSON"),
    "no hash": (_cut_hash, "line 3 was edited: it is no record"),
    "removed": (lambda x: x.pop(2), "line 3 ('upload/3.jpg') does not follow line 2: lines before it were removed"),
    "repeated": (lambda x: x.insert(2, x[1]), "line 3 ('caf\\\\xe9/1.jpg') does not follow line 2: it was inserted"),
    "swapped": (lambda x: x.insert(2, x.pop(3)), "line 3 ('upload/3.jpg') does not follow line 2"),
    "forged": (
        _forge,
        "line 4 ('upload/3.jpg') does not follow line 3: one of the two was edited and given a new hash",
    ),
    "cut off": (lambda x: x.pop(), "5 of 6 sealed records: the end was removed"),
    "cut short": (lambda x: x.__setitem__(5, x[5][:-9]), "line 6 is cut short"),
    "blank line": (lambda x: x.append("\n"), "line 7 was edited"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_first_bad_line_is_named_in_one_sentence(folder: Path, damage: str) -> None:
    change, said = DAMAGES[damage]
    _lines(change)(folder)
    report = verify(folder)
    assert said in report.problems[0] and "\n" not in report.problems[0]


def test_a_million_bad_lines_are_counted_and_fifty_told(tmp_path: Path) -> None:
    sealed(tmp_path, 100)
    _lines(lambda x: x.__setitem__(slice(None), [line.replace("640", "641") for line in x]))(tmp_path)
    report = verify(tmp_path)
    assert len(report.problems) == 50 and report.count == 100


def test_a_hash_kept_elsewhere_finds_a_folder_rewritten_as_a_whole(folder: Path, tmp_path: Path) -> None:
    made = read_seal(folder)
    last = json.loads((folder / "decisions.jsonl").read_text().splitlines()[-1])["hash"]
    assert [verify(folder, h).anchored for h in (made.head, made.hash, last)] == ["records", "seal", "decisions"]
    assert verify(folder, made.head.removeprefix("sha256:")).ok
    rewritten = tmp_path / "rewritten"
    seal(rewritten, HEADER, [{**r, "verdict": "authentic"} for r in records(6)])
    assert verify(rewritten).ok
    report = verify(rewritten, made.head)
    assert not report.ok and "the audit was rewritten" in report.problems[-1]


def test_an_edited_seal_is_found_even_with_its_own_hash_made_anew(folder: Path) -> None:
    body = {k: v for k, v in json.loads((folder / "audit.json").read_text()).items() if k != "hash"}
    for key, value in (("frozen", {**HEADER["frozen"], "manifest": "x"}), ("verdicts", {"authentic": 6})):
        edited = {**body, key: value}
        text = json.dumps({**edited, "hash": hashed(edited)}, indent=1, sort_keys=True) + "\n"
        assert "audit.json was edited" in _report_with(folder, "audit.json", text.encode()).problems[0]


def test_inputs_that_changed_or_are_gone_are_listed_and_nothing_outside_is_read(tmp_path: Path) -> None:
    root = tmp_path / "in"
    contents = {b"same": b"1", b"caf\xe9": b"2", b"changed": b"3", b"gone": b"4", b"../secret": b"5", b"a.zip": b"6"}
    made = [finding(i, name, content) for i, (name, content) in enumerate(contents.items())]
    seal(tmp_path / "out", HEADER, (record_of(f, CLEAR) for f in made))
    root.mkdir()
    for name in (b"same", b"caf\xe9"):
        Path(str(root), name.decode("utf-8", "surrogateescape")).write_bytes(contents[name])
    (root / "changed").write_bytes(b"other")
    (tmp_path / "secret").write_bytes(b"5")
    (root / "a.zip").mkdir()
    report = verify(tmp_path / "out", inputs=root)
    assert report.inputs is not None and not report.ok
    assert (report.inputs.same, report.inputs.changed, report.inputs.missing) == (2, ("changed",), ("gone",))
    assert report.inputs.unchecked == 2
    with pytest.raises(BadRecord, match="is no folder"):
        verify(tmp_path / "out", inputs=root / "nowhere")


def test_a_folder_without_a_chain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="expected the folder of an audit"):
        verify(tmp_path)


def test_the_check_by_hand_in_the_documentation_works(folder: Path) -> None:
    text = (ROOT / "docs" / "custody.md").read_text("utf-8")
    [block] = re.findall(r"<!-- by hand -->\n```bash\n(.*?)```", text, re.S)
    done = subprocess.run(["bash", "-ec", block], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    stated, found, whole, said = done.stdout.split()
    third = json.loads((folder / "audit.jsonl").read_text().splitlines()[2])
    assert stated == found == third["hash"].removeprefix("sha256:")
    assert whole == said == hashlib.sha256((folder / "audit.jsonl").read_bytes()).hexdigest()
