"""The command line as a user runs it: what it prints where, its exit codes, and one line for every mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.cli import run
from tests.conftest import failed, picture
from tests.data import shared

pytestmark = pytest.mark.usefixtures("at_home")

SCORE = ["-m", "fid@pixels,kid@pixels,prdc@pixels"]


def test_score_prints_its_table_and_writes_every_format(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [f for suffix in ("json", "csv", "md", "html", "xml") for f in ("-o", f"out.{suffix}")]
    assert run(["score", "good", "--real", "real", *SCORE, *outputs]) == 0
    out = capsys.readouterr()
    assert "fid@pixels ↓" in out.out and "prdc@pixels.recall ↑" in out.out
    record = json.loads(Path("out.json").read_text())
    assert record["schema"] == "evalkit.run/1"
    names = [r["name"] for r in record["results"]]
    names_of = [f"prdc@pixels.{p}" for p in ("precision", "recall", "density", "coverage")]
    assert names == ["fid@pixels", "kid@pixels", *names_of]
    assert all(r["low"] <= r["value"] <= r["high"] and r["n"] == {"real": 40, "fake": 40} for r in record["results"])
    assert {row["metric"] for row in csv.DictReader(io.StringIO(Path("out.csv").read_text()))} == set(names)
    assert "fid@pixels" in Path("out.md").read_text()
    assert Path("out.html").read_text().lower().startswith("<!doctype html")
    assert len(list(ElementTree.parse("out.xml").getroot().iter("testcase"))) == len(names)


def test_json_is_one_strict_document_and_nothing_else(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "good", "--real", "real", *SCORE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(c))
    assert document["subject"]["n"] == 40
    assert document["environment"]["settings"] == {"seed": 0, "metrics": ["fid@pixels", "kid@pixels", "prdc@pixels"]}


def without_timing(text: str) -> str:
    record = json.loads(text)
    for result in record["results"]:
        result["seconds"] = 0
    return json.dumps(record)


def test_same_seed_same_record_to_the_byte_but_for_timings(folders: Path) -> None:
    metrics = ["-m", "fid@pixels,prdc@random_conv,c2st@pixels,auroc@spectrum"]
    for name, extra in (("a", []), ("b", []), ("c", ["--no-cache"]), ("d", ["--workers", "1"])):
        assert run(["score", "good", "--real", "real", *metrics, "-o", f"{name}.json", *extra]) == 0
    texts = {without_timing(Path(f"{name}.json").read_text()) for name in "abcd"}
    assert len(texts) == 1


def test_rows_do_not_depend_on_batch_size(folders: Path) -> None:
    for size in ("1", "7", "64"):
        arguments = ["score", "bad", "--real", "real", "-m", "fid@random_conv", "--no-cache", "--batch-size", size]
        assert run([*arguments, "-o", f"{size}.json"]) == 0
    values = [json.loads(Path(f"{s}.json").read_text())["results"][0]["value"] for s in ("1", "7", "64")]
    assert values == pytest.approx([values[0]] * 3, rel=1e-4)


def test_compare_folders_writes_a_report_that_ranks_them(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "good", "bad", "--real", "real", *SCORE, "--out", "report"]) == 0
    assert "good leads on fid@pixels" in capsys.readouterr().out
    names = {p.relative_to("report").as_posix() for p in Path("report").rglob("*") if p.is_file()}
    assert names == {
        "index.html", "leaderboard.json", "leaderboard.csv", "leaderboard.md",
        "records/image-good.json", "records/image-bad.json",
    }  # fmt: skip
    page = Path("report/index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page
    board = json.loads(Path("report/leaderboard.json").read_text())
    assert board["comparisons"][0]["best"]["fid@pixels"] == "good"


def test_compare_reads_records_and_refuses_unlike_protocols(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, real in (("good", "real"), ("bad", "real")):
        assert run(["score", name, "--real", real, "-m", "fid@pixels", "-o", f"{name}.json"]) == 0
    assert run(["score", "good", "--real", "bad", "-m", "fid@pixels", "-o", "other.json"]) == 0
    capsys.readouterr()
    assert run(["compare", "good.json", "bad.json"]) == 0
    capsys.readouterr()
    assert run(["compare", "good.json", "bad.json", "other.json"]) == 4
    shown = capsys.readouterr()
    assert "not comparable: fid@pixels of good (other.json)" in shown.out and "reference is sha256:" in shown.out
    assert "1 refused" in shown.err


def test_subjects_of_unequal_size_are_scored_with_the_same_n(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        (folders / "bad" / f"{i}.png").unlink()
    assert run(["compare", "good", "bad", "--real", "real", "-m", "fid@pixels", "--out", "r"]) == 0
    records = [json.loads(p.read_text()) for p in sorted(Path("r/records").iterdir())]
    assert {r["subject"]["n"] for r in records} == {35}
    assert len({r["results"][0]["protocol"] for r in records}) == 1
    assert "35 of 40 samples were scored" in capsys.readouterr().out


def test_an_unreadable_image_is_excluded_by_name_and_too_many_are_inconclusive(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "good" / "x.png").write_bytes(b"not an image")
    assert run(["score", "good", "--real", "real", "-m", "fid@pixels", "-o", "r.json"]) == 4
    assert "1 unreadable, listed under excluded" in capsys.readouterr().err
    record = json.loads(Path("r.json").read_text())
    [excluded] = record["excluded"]
    assert excluded["id"] == "x.png" and "not an image" in excluded["reason"]
    assert record["subject"]["n"] == 40
    assert run(["score", "bad", "--real", "good", "-m", "fid@pixels", "-o", "r.json"]) == 4
    [excluded] = json.loads(Path("r.json").read_text())["excluded"]
    assert excluded["id"] == "reference:x.png"


def test_the_second_run_reads_rows_back(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["score", "good", "--real", "real", "-m", "fid@random_conv", "-o", "a.json"]) == 0
    from evalkit.extractors.random_conv import RandomConv

    def forbidden(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(RandomConv, "__call__", forbidden)
    assert run(["score", "good", "--real", "real", "-m", "fid@random_conv", "-o", "b.json"]) == 0
    assert without_timing(Path("a.json").read_text()) == without_timing(Path("b.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["score", "good", "--real", "real", "-m", "fidd@pixels"], 2, "unknown metric 'fidd'; did you mean 'fid'"),
        (
            ["score", "good", "--real", "real", "-m", "fid@pixel"],
            2,
            "unknown instrument 'pixel'; did you mean 'pixels'",
        ),
        (["score", "good", "--real", "real", "-m", "prdc@pixels.recal"], 2, "did you mean 'recall'"),
        (["score", "good", "--real", "real", "-m", "perplexity"], 2, "no instrument for image samples"),
        (["score", "good", "--real", "real", "-m", "perplexity@prose_lm"], 2, "prose_lm measures text samples"),
        (["score", "good", "--real", "real", "-m", "inception_score@pixels"], 2, "the metric reads 'logits'"),
        (["score", "good", "--real", "real", "-m", "memorization"], 2, "give --train SOURCE"),
        (["score", "good", "--real", "real", "-m", "throughput"], 2, "give the name of a generator"),
        (["score", "good", "-m", "fid"], 2, "--real SOURCE"),
        (["score", "nowhere", "--real", "real"], 2, "no such source 'nowhere'"),
        (["score", "gna", "--real", "real"], 2, "no such source 'gna'"),
        (["score", "empty", "--real", "real"], 5, "holds no image or text"),
        (["score", "broken", "--real", "real"], 5, "no readable sample among the 30"),
        (["score", "good", "--real", "single", "-m", "fid@pixels"], 2, "'single' has 1"),
        (["score", "few", "--real", "real", "-m", "prdc@pixels"], 2, "needs at least 7 fake samples; 'few' has 3"),
        (["score", "texts", "--real", "real"], 2, "holds text samples, expected image"),
        (["compare", "good", "texts", "--real", "real"], 2, "holds text samples, expected image"),
        (["compare", "lm", "--real", "real"], 2, "'lm' makes text samples"),
        (["compare", "gan", "--real", "real"], 2, "give --train SOURCE"),
        (["compare", "good", "--real", "real", "--out", "real"], 2, "holds other things"),
        (["compare", "good", "--real", "real", "--out", "file"], 2, "is a file"),
        (["compare", "record2.json"], 2, "schema 'evalkit.run/2'"),
        (["score", "good", "--real", "real", "-o", "x.docx"], 2, "the suffix picks the format"),
        (["score", "good", "--real", "real", "-o", "no/where/x.json"], 2, "does not exist"),
        (["score", "good", "--real", "real", "--seed", "x"], 2, "not a valid integer"),
        (["score", "good", "--real", "real", "--n", "0"], 2, "at least 1"),
        (["score", "good", "--real", "real", "--device", "cuda:7x"], 2, "not on this machine"),
        (["generate", "gna", "--n", "5", "--out", "s"], 2, "unknown generator 'gna'; did you mean 'gan'"),
        (["generate", "noise", "--n", "0", "--out", "s"], 2, "at least 1"),
        (["generate", "noise", "--n", "5", "--out", "real"], 2, "not an empty folder"),
        (["generate", "gan", "--n", "5", "--out", "s", "--set", "stesp=5"], 2, "did you mean 'gan.steps'"),
        (["generate", "gan", "--n", "5", "--out", "s", "--set", "steps"], 2, "expected KEY=VALUE"),
        (["train", "detector", "cn", "--real", "real", "--fake", "bad", "--out", "m"], 2, "did you mean 'cnn'"),
        (["train", "detector", "cnn", "--real", "real", "--out", "m"], 2, "--fake SOURCE"),
        (["detect", "good", "--with", "real"], 2, "not a detector folder"),
        (["list", "metric"], 2, "did you mean 'metrics'"),
        (["frobnicate"], 2, "No such command"),
        (["compare", "--real", "real"], 2, "need subjects"),
    ],
    ids=lambda v: " ".join(v)[:48] if isinstance(v, list) else None,
)
def test_mistakes_get_one_line_their_code_and_leave_nothing(
    arguments: list[str], code: int, says: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "empty").mkdir()
    (folders / "broken").mkdir()
    for i in range(30):
        (folders / "broken" / f"{i}.png").write_bytes(b"no image")
    picture(folders / "single" / "1.png", 1)
    for i in range(3):
        picture(folders / "few" / f"{i}.png", i)
    (folders / "texts").mkdir()
    (folders / "texts" / "a.txt").write_text("some text")
    (folders / "file").write_text("a file")
    (folders / "record2.json").write_text('{"schema": "evalkit.run/2"}')
    before = {p for p in folders.rglob("*") if p.is_file()}
    found, line = failed(capsys, arguments)
    assert says in line
    assert found == code
    assert {p for p in folders.rglob("*") if p.is_file()} == before


def test_unwritable_output_is_told_before_any_work(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        blocked = "/proc/evalkit-report"
    else:
        (folders / "locked").mkdir(mode=0o500)
        blocked = "locked/report"
    code, line = failed(capsys, ["compare", "good", "--real", "real", "--out", blocked])
    assert code == 2 and "cannot write" in line


def test_a_bug_is_one_line_and_a_traceback_only_on_request(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import evalkit.verbs

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(evalkit.verbs, "scored", broken)
    code, line = failed(capsys, ["score", "good", "--real", "real"])
    assert code == 3 and "ZeroDivisionError: by hand" in line
    monkeypatch.setenv("EVALKIT_TRACEBACK", "1")
    assert run(["score", "good", "--real", "real"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_generate_train_and_detect(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "noise", "--n", "40", "--data", "real", "--out", "noise", "--seed", "3"]) == 0
    about = json.loads(Path("noise/set.json").read_text())
    assert about["n"] == 40 and about["seed"] == 3 and about["generator"] == "noise"
    assert len(list(Path("noise").rglob("*.png"))) == 40
    assert run(["train", "generator", "noise", "--data", "real", "--out", "model"]) == 0
    assert run(["generate", "model", "--n", "40", "--out", "again", "--seed", "3"]) == 0
    assert json.loads(Path("again/set.json").read_text())["digest"] == about["digest"]

    assert run(["train", "detector", "spectrum", "--real", "real", "--fake", "bad", "--out", "judge"]) == 0
    assert {p.name for p in Path("judge").iterdir()} == {"model.safetensors", "card.json"}
    Path("mixed").mkdir()
    rows = ["id,label"]
    for i in range(20):
        picture(folders / "mixed" / f"r{i}.png", 5000 + i)
        picture(folders / "mixed" / f"f{i}.png", 6000 + i, shift=50)
        rows += [f"r{i}.png,real", f"f{i}.png,fake"]
    Path("truth.csv").write_text("\n".join(rows))
    capsys.readouterr()
    code = run(["detect", "mixed", "--with", "judge", "--truth", "truth.csv", "--json", "-o", "d.csv", "-o", "d.json"])
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    results = {r["name"]: r["value"] for r in found["detectors"][0]["results"]}
    assert set(results) >= {f"{m}@spectrum" for m in ("auroc", "average_precision", "eer", "tpr_at_fpr", "ece")}
    assert len(found["detectors"][0]["samples"]) == 40
    assert found == json.loads(Path("d.json").read_text())
    assert len(Path("d.csv").read_text().splitlines()) == 41


def test_real_photographs_say_why_their_fid_is_not_a_published_one(capsys: pytest.CaptureFixture[str]) -> None:
    root = shared("data", "image", "cifar10_subset")
    for name, part in (("real", slice(0, 60)), ("held", slice(60, 120))):
        for kind in ("cat", "ship"):
            for i, file in enumerate(sorted((root / kind).iterdir())[part]):
                target = Path(name, kind, f"{i}.png")
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.open(file).save(target)
    for i, file in enumerate(sorted(Path("held").rglob("*.png"))):
        pixels = np.asarray(Image.open(file)).astype(int)
        noisy = pixels + np.random.default_rng(i).normal(0, 40, pixels.shape)
        Path("noisy").mkdir(exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(f"noisy/{i}.png")
    assert run(["compare", "held", "noisy", "--real", "real", "--out", "report"]) == 0
    shown = capsys.readouterr().out
    assert "held leads on fid@random_conv" in shown
    assert "random_conv" in shown and "published" in shown
    assert "published" in Path("report/index.html").read_text()
    assert any("published" in w for w in json.loads(Path("report/records/image-held.json").read_text())["warnings"])
