"""An audit of everything at once: what each record says, against numbers worked out by hand and by scipy."""

from __future__ import annotations

import hashlib
import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from evalkit.auditing.verifying import verify
from evalkit.cli import run
from tests.audited import FROZEN, HOSTILE, Made, at, check_shape, fitted, known, records_of, snapshot, upload


class Links(HTMLParser):
    """What a page links to or shows."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    home = tmp_path_factory.mktemp("audit")
    with at(home):
        detectors = fitted(home)
        command = ["audit", *upload(home), "--out", "out", *detectors, *FROZEN]
        command += known(home, lambda path: hashlib.sha256(path.read_bytes()).hexdigest())
        assert run(["attribute", "reals", "--among", "waves=fake", "--real", "real", "--with", "source_probe", "--keep",
                    "models/sources", "-q"]) == 0  # fmt: skip
        command += ["--attributor", "models/sources"]
        code = run(command)
        yield Made(home, command, code, records_of(home / "out"), json.loads((home / "out" / "audit.json").read_text()))


def test_every_input_has_one_record_of_the_promised_shape(made: Made) -> None:
    files = sum(1 for p in (made.home / "upload").rglob("*") if p.is_file() or p.is_symlink())
    assert len(made.records) == files + 2 + 3 == made.seal["count"]
    for position, record in enumerate(made.records.values()):
        check_shape(record)
        assert record["position"] == position
    assert sum(made.seal["states"].values()) == sum(made.seal["verdicts"].values()) == len(made.records)
    report = verify(made.out)
    assert report.ok and report.records == len(made.records)
    assert made.code == 4  # six of them cannot be read


def test_each_input_ends_in_its_state(made: Made) -> None:
    states = {name: record["state"] for name, record in made.records.items() if record["verdict"] == "unreadable"}
    assert states == {
        "upload/empty.png": "truncated",
        "upload/linked.png": "unsupported",
        "upload/program.exe": "unsupported",
        "upload/short.png": "truncated",
        "second": "io_error",
        "third": "unsupported",
    }
    assert "symbolic link" in made.records["upload/linked.png"]["reason"]
    assert "outside of the table's folder" in made.records["third"]["reason"]


def test_hostile_names_come_back_to_the_byte_and_are_safe_to_show(made: Made) -> None:
    names = {bytes.fromhex(r["name_hex"]) if "name_hex" in r else r["id"].encode() for r in made.records.values()}
    assert set(HOSTILE) <= names
    assert all(name.isprintable() for name in made.records)
    for page in made.out.rglob("*.html"):
        assert "<img src=x" not in page.read_text()
    assert "\n=cmd" not in (made.out / "audit.csv").read_text()


def test_p_values_are_the_conformal_ones_and_flags_those_of_benjamini_and_hochberg(made: Made) -> None:
    kept = json.loads((made.out / "calibration.json").read_text())["detectors"]
    reals = {one["name"]: np.array(one["real"]["scores"]) for one in kept}
    p = {}
    for name, record in made.records.items():
        given = []
        for told in record["detectors"]:
            beyond = int((reals[told["name"]] >= told["p_fake"]).sum())
            if name == "upload/in-calibration.png":
                assert told["p_value"] is None and "in_calibration" in told["reasons"]
                continue
            assert told["p_value"] == (1 + beyond) / 41
            # A detector with a reason against its own score counts as one that found nothing.
            given.append(1.0 if told["reasons"] else told["p_value"])
        if given:
            both = 2 if record["modality"] == "image" else 1
            p[name] = min(1.0, both * min(given))
    assert {n: r["p_value"] for n, r in made.records.items() if r["p_value"] is not None} == pytest.approx(p)
    q = dict(zip(p, false_discovery_control(list(p.values()), method="bh"), strict=True))
    assert {n: r["q_value"] for n, r in made.records.items() if r["q_value"] is not None} == pytest.approx(q)
    flagged = {name for name, value in q.items() if value <= 0.2 + 1e-12}
    assert {n for n, r in made.records.items() if r["flagged"]} == flagged
    assert made.seal["statistics"]["tested"] == len(p) and made.seal["statistics"]["flagged"] == len(flagged)
    assert {f"upload/high/{i:05}.png" for i in range(12)} - flagged == set()
    assert "more.zip/a/1.png" in flagged and "first" in flagged


def test_verdicts_by_their_rules(made: Made) -> None:
    said = {name: (record["verdict"], record["rule"]) for name, record in made.records.items()}
    assert said["upload/high/00000.png"] == ("synthetic", "discovery")
    assert said["upload/low/00001.png"] == ("synthetic", "listed_synthetic")
    assert said["upload/high/00001.png"] == ("authentic", "listed_authentic")
    assert said["upload/claims.png"] == ("uncertain", "unsigned_claim")
    assert said["upload/short.png"] == ("unreadable", "unreadable")
    assert said["upload/text-0.txt"] == ("synthetic", "discovery")
    assert {said[f"upload/low/{i:05}.png"] for i in range(2, 16)} & {("authentic", "detectors_clear")}
    assert said["upload/copy.png"] == said["upload/low/00000.png"]
    claims = [e for e in made.records["upload/claims.png"]["evidence"] if e["kind"] == "metadata"]
    assert claims and claims[0]["says"] == "synthetic" and claims[0]["strength"] == "claim"


def test_a_file_too_small_for_a_detector_says_so(made: Made) -> None:
    record = made.records["upload/tiny.png"]
    assert record["state"] == "ok" and record["verdict"] == "uncertain"
    assert any("could not be scored" in e["detail"] for e in record["evidence"]) or record["detectors"]


def test_sources_are_hints_and_decide_nothing(made: Made) -> None:
    hints = [e for r in made.images() for e in r["evidence"] if "typicality" in e["facts"]]
    assert {(e["kind"], e["strength"]) for e in hints} == {("fingerprint", "hint")}
    assert {e["facts"]["source"] for e in hints} == {"waves", "real"}


def test_the_seal_says_what_was_frozen_and_what_was_not_done(made: Made) -> None:
    frozen = made.seal["frozen"]
    assert [d["name"] for d in frozen["detectors"]] == ["spectrum", "residual", "ngram_lr"]
    data = (made.out / "calibration.json").read_bytes()
    assert frozen["calibration"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert frozen["configuration"]["as_of"] == "2026-01-02T03:04:05+00:00"
    assert any("null" in words for words in made.seal["statistics"]["not_done"])
    assert made.seal["statistics"]["near_duplicate_groups"] >= 1
    assert made.seal["protections"] and made.seal["decoders"]


def test_every_link_of_the_dossier_leads_to_a_page(made: Made) -> None:
    index = (made.out / "index.html").read_text()
    found = Links()
    found.feed(index)
    links = {link.partition("#")[0] for link in found.links}
    files = {link for link in links if link and not link.startswith("data:")}
    assert len(files) > 40 and [link for link in files if not (made.out / link).is_file()] == []
    pages = {p.name for p in (made.out / "files").glob("*.html")}
    assert pages == {Path(link).name for link in files if link.endswith(".html")} and len(pages) == len(made.records)


def test_the_same_command_again_changes_nothing_and_opens_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit.auditing import engines, previews

    monkeypatch.setattr(engines, "_drain", lambda *_: pytest.fail("examined again"))
    monkeypatch.setattr(previews, "Pool", lambda *_, **__: pytest.fail("decoded again"))
    before = snapshot(made.out)
    with at(made.home):
        assert run(made.command) == 4
        assert run(["audit", "--out", "out", "--resume", "-q"]) == 4
    assert snapshot(made.out) == before


def test_another_question_in_the_same_folder_is_refused_by_its_key(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    with at(made.home):
        for extra, key in (
            (["--fdr", "0.1"], "fdr"),
            (["--with", "models/spectrum"], "detectors"),
            (["more"], "paths"),
        ):
            assert run([*made.command, *extra]) == 2
            said = capsys.readouterr().err.splitlines()
            assert len(said) == 1 and f"holds an audit with {key} = " in said[0]


def test_rerun_gives_the_same_and_names_what_differs(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    with at(made.home):
        for record in (made.records["upload/text-1.txt"]["sha256"], "second"):
            assert run(["audit", "rerun", "out", record, "-q", "--json"]) == 0
            told = json.loads(capsys.readouterr().out)
            assert (told["same"], told["notes"], told["differences"]) == (True, [], [])
        (made.home / "upload" / "going.png").unlink()
        assert run(["audit", "rerun", "out", "upload/high/00003.png", "-q"]) == 0
        out = capsys.readouterr().out
        assert "the same in every field" in out and "1 of the" in out
        assert run(["audit", "rerun", "out", "upload/going.png", "-q", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    assert not told["same"] and told["new"]["state"] == "io_error"
    assert "state" in {d["field"] for d in told["differences"]}


def test_exports_agree_with_the_records(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with at(made.home):
        names = ["all.csv", "all.jsonl", "all.sarif"] + (["all.parquet"] if "pyarrow" in sys.modules else [])
        files = [arg for name in names for arg in ("-o", str(tmp_path / name))]
        assert run(["audit", "export", "out", *files]) == 0
    assert (tmp_path / "all.jsonl").read_bytes() == (made.out / "audit.jsonl").read_bytes()
    assert (tmp_path / "all.csv").read_bytes() == (made.out / "audit.csv").read_bytes()
    assert json.loads((tmp_path / "all.sarif").read_text())["version"] == "2.1.0"


def test_a_decision_is_appended_drawn_and_exported_as_a_case(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    sealed = (made.out / "audit.jsonl").read_bytes()
    with at(made.home):
        told = ["--decision", "overturned", "--verdict", "authentic", "--reviewer", "R", "--reason", "the maker's own"]
        assert run(["audit", "decide", "out", "upload/high/00002.png", *told]) == 0
        assert run(["audit", "export", "out", "--cases", "-o", "cases.csv"]) == 0
        assert run(["audit", "verify", "out"]) == 0
    assert (made.out / "audit.jsonl").read_bytes() == sealed
    rows = (made.home / "cases.csv").read_text().splitlines()
    assert len(rows) == 2 and rows[1].startswith("upload/high/00002.png,")
    page = next(
        p for p in (made.out / "files").glob("*.html") if "high/00002.png" in p.read_text().partition("</h1>")[0]
    )
    assert "the maker&#39;s own" in page.read_text() or "the maker's own" in page.read_text()
    assert "overturned" in (made.out / "audit.csv").read_text()
