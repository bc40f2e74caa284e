"""`evalkit audit` as a user meets it: codes, one-line errors, JSON, what goes on and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.audit_kills import image
from evalkit.auditing.requesting import Request, planned
from evalkit.auditing.running import audit
from evalkit.auditing.store import Store
from evalkit.cli import run
from evalkit.errors import BadSetting, BadSource
from evalkit.measurement import Bench
from tests.audited import FROZEN, check_shape, records_of, small, snapshot, zipped
from tests.conftest import failed

pytestmark = pytest.mark.usefixtures("at_home")


def test_a_folder_that_holds_its_own_audit_and_json_is_one_document(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(at_home / "in")
    (at_home / "in" / "claims.png").write_bytes(image(1, 4.0, prompt="a castle"))
    (at_home / "in" / "more.zip").write_bytes(zipped({"1.png": image(2, 4.0)}))
    command = ["audit", "in", "--out", "in/out", *FROZEN, "--believe-claims"]
    # An archive inside of a folder is a file of another kind: listed, and no fault of the input.
    assert run([*command, "--json", "--fail-on", "synthetic"]) == 1
    shown = capsys.readouterr()
    seal = json.loads(shown.out, parse_constant=pytest.fail)
    assert seal["schema"] == "evalkit.audit-seal/1" and seal["count"] == 5
    assert "findings at --fail-on: 1 synthetic" in shown.err
    records = records_of(Path("in/out"))
    for record in records.values():
        check_shape(record)
    assert (records["in/claims.png"]["verdict"], records["in/claims.png"]["rule"]) == ("synthetic", "believed_claim")
    assert {r["verdict"] for name, r in records.items() if name[3:8] == "00000"} == {"uncertain"}
    before = snapshot(Path("in/out"))
    assert run(command) == 0
    assert snapshot(Path("in/out")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["audit"], 2, "nothing to audit"),
        (["audit", "in"], 2, "--out"),
        (["audit", "--out", "new"], 2, "nothing to audit: give folders"),
        (["audit", "in", "--out", "new", "--resume"], 2, "holds no audit to resume"),
        (["audit", "in", "--out", "taken"], 2, "holds other things ('mine.txt')"),
        (["audit", "in", "--out", "in/00000.png"], 2, "is a file"),
        (["audit", "absent", "--out", "new"], 2, "'absent' does not exist"),
        (["audit", "in", "--out", "new", "--include", "*.gif"], 5, "no file under"),
        (["audit", "in", "--out", "new", "--with", "absent"], 2, "absent"),
        (["audit", "in", "--out", "new", "--calibrate", "in"], 2, "give one or more as --with"),
        (["audit", "in", "--out", "new", "--fpr", "0.1"], 2, "belong to a calibration"),
        (["audit", "in", "--out", "new", "--fdr", "0"], 2, "--fdr 0.0; expected"),
        (["audit", "in", "--out", "new", "--watermark-alpha", "2"], 2, "--watermark-alpha 2.0; expected"),
        (["audit", "in", "--out", "new", "--most-unreadable", "2"], 2, "--most-unreadable 2.0; expected"),
        (["audit", "in", "--out", "new", "--payload", "ours"], 2, "--payload 'ours'; expected NAME=HEX"),
        (["audit", "in", "--out", "new", "--known", "taken/mine.txt"], 2, "mine.txt"),
        (["audit", "in", "--out", "new", "--trust", "taken/mine.txt"], 2, "holds no certificate"),
        (["audit", "in", "--out", "new", "-o", "x.docx"], 2, "the suffix picks the format"),
        (["audit", "in", "--out", "new", "-o", "absent/x.csv"], 2, "does not exist; make it first"),
        (["audit", "in", "--out", "new", "-o", "new/audit.jsonl"], 2, "part of the audit itself"),
        (["audit", "in", "--out", "new", "--devices", "cpu,cuda:0"], 2, "of that kind alone"),
        (["audit", "verify", "taken"], 2, "audit"),
        (["audit", "rerun", "taken", "1"], 2, "expected the folder of an audit"),
    ],
)
def test_mistakes_are_one_line(
    at_home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    small(at_home / "in", 1)
    (at_home / "taken").mkdir()
    (at_home / "taken" / "mine.txt").write_text("mine")
    given = [*arguments, "-q"] if arguments[1:2] not in ([], ["verify"]) else arguments
    found, line = failed(capsys, given)
    assert (found, says in line) == (code, True), line


def test_what_never_began_binds_nobody(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small(at_home / "in", 1)
    assert run(["audit", "inn", "--out", "out", *FROZEN]) == 2
    assert run(["audit", "in", "--include", "*.gif", "--out", "out", *FROZEN]) == 5
    assert run(["audit", "in", "--include", "*.gif", "--out", "out", *FROZEN]) == 5
    assert run(["audit", "in", "--out", "out", *FROZEN, "--fail-on", "synthetic", "-o", "out/all.sarif"]) == 0
    assert run(["audit", "in", "--out", "out", *FROZEN]) == 0, "an export inside is no stranger"


def begun(out: Path, **asked: Any) -> Any:
    """An audit whose plan is written and nothing else."""
    plan = planned(Request(paths=("in",), as_of="2026-01-02T03:04:05+00:00", **asked), out, Bench(workers=1), [])
    Store(out, plan.plain()).db.close()
    return plan


def test_an_audit_goes_on_by_its_folder_alone_and_leaves_no_draft(at_home: Path) -> None:
    small(at_home / "in", 2)
    out = at_home / "out"
    begun(out)
    for draft in (out / ".audit.jsonl.abc", out / "files" / ".000000.html.abc"):
        draft.mkdir(parents=True)
    done = audit(Request(), out, bench=Bench(workers=1), resume=True)
    assert done.seal.count == 2 and done.verdicts() == {"uncertain": 2}
    assert not list(out.rglob(".*"))


def test_a_list_or_code_changed_behind_its_back_is_refused(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(at_home / "in", 1)
    (at_home / "known.txt").write_text("sha256:" + "ab" * 32)
    out = at_home / "out"
    begun(out, hashes="known.txt")
    kept = out / "hashes.txt"
    kept.write_text("sha256:" + "cd" * 32)
    with pytest.raises(BadSource, match=r"hashes\.txt was changed since the audit began"):
        audit(Request(), out, bench=Bench(workers=1))
    kept.write_text("sha256:" + "ab" * 32)
    from evalkit.auditing import running

    monkeypatch.setattr(running, "code", lambda: {"evalkit": "0.0.1", "packages": {}})
    with pytest.raises(BadSetting, match="was begun by other code"):
        audit(Request(), out, bench=Bench(workers=1))
    monkeypatch.undo()


def test_a_detector_changed_behind_its_back_and_a_file_changed_after_the_listing(at_home: Path) -> None:
    small(at_home / "real", 20, 1)
    small(at_home / "fake", 20, 2)
    small(at_home / "in", 2)
    assert run(["train", "detector", "spectrum", "--real", "real", "--fake", "fake", "--out", "model", "-q"]) == 0
    out = at_home / "out"
    plan = begun(out, detectors=("model",))
    listed = audit_listed(out)
    assert listed == 2
    (at_home / "in" / "00000.png").write_bytes(image(99, 4.0))
    wrong = replace(plan, detectors=({**plan.detectors[0], "digest": "sha256:" + "0" * 64},))
    with Store(out) as store:
        store.note("configuration", json.dumps(wrong.plain()))
    with pytest.raises(BadSource, match="the audit began with sha256:000000000000"):
        audit(Request(), out, bench=Bench(workers=1))
    with Store(out) as store:
        store.note("configuration", json.dumps(plan.plain()))
    audit(Request(), out, bench=Bench(workers=1))
    records = records_of(out)
    assert records["in/00000.png"]["state"] == "io_error"
    assert "changed since it was listed" in records["in/00000.png"]["reason"]
    assert records["in/00001.png"]["p_fake"] is not None and records["in/00001.png"]["p_value"] is None


def audit_listed(out: Path) -> int:
    """The manifest of a begun audit frozen, nothing examined."""
    from evalkit.auditing.manifest import listed

    with Store(out) as store:
        return store.freeze(listed(["in"], own=out))


@pytest.mark.slow  # each of two processes imports torch
def test_two_devices_give_the_bytes_of_one(at_home: Path) -> None:
    small(at_home / "in", 70)
    for name, devices in (("one", []), ("two", ["--devices", "cpu,cpu"])):
        assert run(["audit", "in", "--out", name, *FROZEN, *devices]) == 0
    assert Path("one/audit.jsonl").read_bytes() == Path("two/audit.jsonl").read_bytes()


@pytest.mark.slow  # Ray alone takes 15 s to start
def test_ray_gives_the_bytes_of_the_local_engine(at_home: Path) -> None:
    pytest.importorskip("ray")
    small(at_home / "in", 70)
    for name, engine in (("one", []), ("ray", ["--engine", "ray", "--devices", "cpu,cpu"])):
        assert run(["audit", "in", "--out", name, *FROZEN, *engine]) == 0
    assert Path("one/audit.jsonl").read_bytes() == Path("ray/audit.jsonl").read_bytes()
