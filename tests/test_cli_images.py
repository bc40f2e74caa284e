"""Published networks at the command line, on random weights of the published layout: dialects, prompts, statistics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import evalkit.extractors.inception as instrument
from evalkit.cli import run
from tests.conftest import failed
from tests.inceptions import photographs, random_port, record_of

N = 12


def write(folder: Path, seed: int, *, noise: int = 0, suffix: str = "png") -> None:
    rng = np.random.default_rng(seed)
    for i, pixels in enumerate(photographs(N, 40, 36, seed)):
        noisy = (pixels + rng.normal(0, noise, pixels.shape)).clip(0, 255).astype(np.uint8) if noise else pixels
        target = folder / ("cat", "ship")[i % 2] / f"{i}.{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(target)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(random_port(), path)
    return path


@pytest.fixture
def there(at_home: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inception's weights are on this machine, and there are real/, good/ and bad/ pictures in two classes."""
    record = replace(record_of(weights), url="https://example.org/inception.pth")
    monkeypatch.setattr(instrument, "HUB", {**instrument.HUB, "inception": record})
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(weights.parent))
    write(at_home / "real", 1)
    write(at_home / "good", 2)
    write(at_home / "bad", 3, noise=60)
    return at_home


def record(path: str) -> dict:
    return json.loads(Path(path).read_text())


def results(path: str) -> dict:
    return {r["name"]: r for r in record(path)["results"]}


def test_without_weights_a_named_metric_says_what_to_do_and_the_default_stands_in(folders, capsys) -> None:
    code, line = failed(capsys, ["score", "good", "--real", "real", "-m", "fid", "-q"])
    assert code == 3
    for word in ("pt_inception-2015-12-05-6726825d.pth", "6726825d0af5", "EVALKIT_WEIGHTS", "fid@random_conv"):
        assert word in line
    assert run(["score", "good", "--real", "real", "-o", "run.json", "-q"]) == 0
    assert {"fid@random_conv", "kid@random_conv"} <= set(results("run.json"))
    assert any("in place of inception" in w for w in record("run.json")["warnings"])


def test_one_pass_scores_every_metric_of_inception_and_the_worse_set_scores_worse(there, capsys) -> None:
    names = "fid,kid,prdc,mind,vendi,inception_score,realism,clipped"
    assert run(["compare", "good", "bad", "--real", "real", "-m", names, "--set", "prdc.k=3", "--out", "r", "-q"]) == 0
    good, bad = (results(f"r/records/image-{name}.json") for name in ("good", "bad"))
    assert good.keys() == bad.keys() and len(good) == 12
    for name in ("fid@inception", "mind@inception"):
        assert good[name]["value"] < bad[name]["value"]
    assert good["fid@inception"]["terms"]["about"]["dialect"] == "clean"
    assert good["prdc@inception.recall"]["terms"]["settings"]["k"] == 3
    assert any("biases it upward" in w for w in record("r/records/image-good.json")["warnings"])


def test_two_dialects_are_two_columns_and_their_difference_is_explained(there, capsys) -> None:
    for dialect in ("", ":tf1"):
        arguments = ["score", "good", "--real", "real", "-m", f"fid@inception{dialect}", "-q"]
        assert run([*arguments, "-o", f"run{dialect[1:]}.json"]) == 0
    assert results("run.json")["fid@inception"]["value"] != results("runtf1.json")["fid@inception:tf1"]["value"]
    capsys.readouterr()
    assert run(["compare", "run.json", "runtf1.json", "--explain"]) == 0
    said = capsys.readouterr().out
    assert "the same 12 samples" in said and "dialect: clean against tf1" in said


def test_mixed_protocols_under_one_name_are_refused_with_the_fact_that_differs(there, capsys) -> None:
    assert run(["score", "good", "--real", "real", "-m", "fid", "-o", "a.json", "-q"]) == 0
    found = record("a.json")
    found["subject"]["name"] = "theirs"
    found["results"][0]["terms"]["about"]["dialect"] = "legacy_pytorch"
    found["results"][0]["protocol"] = "sha256:other"
    Path("b.json").write_text(json.dumps(found))
    assert run(["compare", "a.json", "b.json", "--out", "r", "-q"]) == 4
    assert "not comparable: about is dialect legacy_pytorch, the others have dialect clean" in capsys.readouterr().out


def test_classes_and_what_each_sample_costs(there, capsys) -> None:
    arguments = ["compare", "good", "bad", "--real", "real", "-m", "fid,realism", "--per-group", "--attribution"]
    assert run([*arguments, "--out", "r", "-q"]) == 0
    bad = record("r/records/image-bad.json")
    assert {"fid@inception.group=cat", "fid@inception.group=ship"} <= set(results("r/records/image-bad.json"))
    shares = bad["attribution"]["fid@inception"]
    assert sorted(s["id"] for s in shares) == sorted(f"{('cat', 'ship')[i % 2]}/{i}.png" for i in range(N))
    assert {s["value"] for s in bad["attribution"]["realism@inception"]} != {0}
    page = Path("r/index.html").read_text()
    assert "Per class" not in page  # a thousand columns say nothing
    assert "What harms fid@inception" in page and "fid@inception by group" in page
    assert "samples that harm fid@inception most" in capsys.readouterr().out


def test_a_statistics_file_stands_in_for_the_real_samples_and_shards_merge_into_it(there, capsys) -> None:
    assert run(["stats", "real", "-o", "real.npz", "-q"]) == 0
    assert run(["stats", "real", "--layout", "pytorch-fid", "-o", "theirs.npz", "-q"]) == 0
    assert run(["score", "bad", "--real", "real", "-m", "fid", "-o", "a.json", "-q"]) == 0
    for file in ("real.npz", "theirs.npz"):
        assert run(["score", "bad", "--real", file, "-m", "fid", "-o", "b.json", "-q"]) == 0
        [(_, a)], [(_, b)] = results("a.json").items(), results("b.json").items()
        assert a["value"] == pytest.approx(b["value"], rel=1e-6)
        assert a["protocol"] != b["protocol"]
    assert "a statistics file" in failed(capsys_empty(capsys), ["score", "bad", "--real", "real.npz", "-m", "kid"])[1]
    code, line = failed(capsys, ["score", "bad", "--real", "real.npz", "-m", "fid@inception:tf1", "-q"])
    assert code == 2 and "made with inception" in line
    code, line = failed(capsys, ["stats", "real", "--shard", "3/2", "-o", "x.npz", "-q"])
    assert code == 2 and "NUMBER/COUNT" in line and not Path("x.npz").exists()


def capsys_empty(capsys):
    capsys.readouterr()
    return capsys


def test_what_is_odd_about_the_files_is_a_warning_and_with_strict_an_error(there, capsys) -> None:
    write(there / "jpeg", 4, suffix="jpg")
    assert run(["score", "jpeg", "--real", "real", "-m", "fid@pixels", "-o", "run.json", "-q"]) == 0
    assert any(w.startswith("lint codec") for w in record("run.json")["warnings"])
    capsys.readouterr()
    arguments = ["score", "jpeg", "--real", "real", "-m", "kid@pixels", "--strict", "-q"]
    code, line = failed(capsys, arguments)
    assert code == 2 and "lint " in line and "without --strict" in line
    code, line = failed(capsys, ["score", "good", "--real", "real", "-m", "fid", "--strict", "-q"])
    assert code == 2 and "12 fake samples on 2048 columns is mostly bias" in line
