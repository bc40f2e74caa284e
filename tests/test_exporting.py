"""What other tools read of a record: the Hub's own parsers, YAML, DVC's flat numbers, MLflow's store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub._eval_results import parse_eval_result_entries
from huggingface_hub.repocard import RepoCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from evalkit import exporting
from evalkit.cli import run
from evalkit.errors import BadRecord, BadSetting, NothingToEvaluate, UnknownName
from evalkit.records import write_record
from evalkit.types import MetricResult, Reference, RunRecord, Subject

from .pages import PAYLOADS

FID = MetricResult(
    "fid@inception", 12.3, 11.9, 12.8, 0.95, "jackknife", "lower", "squared feature distance",
    {"real": 10000, "fake": 5000}, 1, "sha256:abc", {}, 1.2,
)  # fmt: skip
RECALL = replace(FID, name="prdc.recall@inception", value=0.61, low=0.59, high=0.63, better="higher", unit="share")


def record(name: str = "ddpm", *results: MetricResult) -> RunRecord:
    subject = Subject(name, "image", "samples/ddpm", 5000, "sha256:def")
    reference = Reference("cifar10 test", 10000, "sha256:123")
    environment = {"evalkit": "0.1.0", "commit": "abc123", "python": "3.11"}
    return RunRecord(subject, reference, None, 0, results or (FID, RECALL), None, environment)


def stored(path: Path, found: RunRecord) -> str:
    write_record(found, path)
    return str(path)


def test_the_hub_reads_our_eval_results(tmp_path: Path) -> None:
    file = stored(tmp_path / "r.json", record())
    asked = ["--dataset", "uoft-cs/cifar10", "--task", "fid@inception=fid_50k", "--url", "https://example.org/r"]
    assert run(["export", "hf", file, "--out", str(tmp_path / "repo"), *asked, "--revision", "5503434"]) == 0
    body = yaml.safe_load((tmp_path / "repo" / ".eval_results" / "ddpm.yaml").read_text())
    first, second = parse_eval_result_entries(body)
    assert (first.dataset_id, first.task_id, first.value) == ("uoft-cs/cifar10", "fid_50k", 12.3)
    assert (first.dataset_revision, first.source_url, first.date) == ("5503434", "https://example.org/r", None)
    assert first.source_name == "evalkit 0.1.0"
    assert "[11.9, 12.8]" in str(first.notes) and "n = 10000 real, 5000 fake" in str(first.notes)
    assert (second.task_id, second.value) == ("prdc.recall@inception", 0.61)


def test_the_hub_reads_our_model_index(tmp_path: Path) -> None:
    exporting.write_hub(record(), tmp_path)
    body = yaml.safe_load((tmp_path / "model-index.yaml").read_text())
    name, found = model_index_to_eval_results(body["model-index"])
    assert name == "ddpm"
    assert [(r.metric_type, r.metric_name, r.metric_value) for r in found] == [
        ("fid", "fid@inception", 12.3),
        ("prdc", "prdc.recall@inception", 0.61),
    ]
    assert found[0].dataset_name == "cifar10 test" and found[0].task_type == "unconditional-image-generation"
    assert found[0].metric_args["low"] == 11.9
    assert not (tmp_path / ".eval_results").exists()


def test_the_date_is_the_builds_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert exporting.eval_results(record(), (FID,), "a/b", {})[0]["date"] == "1970-01-02T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(BadSetting, match="SOURCE_DATE_EPOCH = 'soon'; expected whole seconds"):
        exporting.eval_results(record(), (FID,), "a/b", {})


CARD = """---
license: mit
tags: [image]
model-index:
- name: ddpm
  results:
  - task: {type: unconditional-image-generation}
    dataset: {name: cifar10 test, type: cifar10-test}
    metrics: [{type: fid, value: 99}]
  - task: {type: unconditional-image-generation}
    dataset: {name: other, type: other}
    metrics: [{type: fid, value: 7}]
- name: another
  results: []
---
# A model

--- a line of the text
"""


def test_a_card_is_copied_with_its_index_brought_up_to_date(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(CARD)
    exporting.write_hub(record(), tmp_path / "out", card=card)
    assert card.read_text() == CARD
    made = (tmp_path / "out" / "README.md").read_text()
    assert made.endswith("---\n# A model\n\n--- a line of the text\n")
    front = yaml.safe_load(made.split("---\n")[1])
    assert front["license"] == "mit" and front["tags"] == ["image"]
    ours, another = front["model-index"]
    assert another == {"name": "another", "results": []}
    assert [(r["dataset"]["name"], r["metrics"][0]["value"]) for r in ours["results"]] == [
        ("other", 7),
        ("cifar10 test", 12.3),
    ]
    assert RepoCard.load(tmp_path / "out" / "README.md").data.to_dict()["license"] == "mit"


def test_a_card_without_front_matter_gets_one() -> None:
    made = exporting.with_index("# A model\n", exporting.model_index(record(), (FID,)))
    assert made.startswith("---\nmodel-index:\n") and made.endswith("---\n# A model\n")


@pytest.mark.parametrize(
    ("front", "said"),
    [("[1, 2]", "is a list"), ("a: [", "is not YAML"), ("model-index: 3", "not a list of models"), ("!!x/y 1", "YAML")],
)
def test_a_broken_card_is_refused_in_one_line(front: str, said: str) -> None:
    with pytest.raises(BadRecord, match=said) as caught:
        exporting.with_index(f"---\n{front}\n---\ntext", exporting.model_index(record(), (FID,)), "card.md")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("card.md")


@pytest.mark.parametrize("name", PAYLOADS)
def test_hostile_names_stay_words_in_yaml(name: str, tmp_path: Path) -> None:
    hostile = replace(record(name), reference=Reference(name, 3, "sha256:1"))
    files = exporting.write_hub(hostile, tmp_path / "out", dataset="a/b")
    index = yaml.safe_load(files[0].read_text("utf-8"))["model-index"]
    assert index[0]["name"] == name and index[0]["results"][0]["dataset"]["name"] == name
    assert all(f.resolve().is_relative_to(tmp_path / "out") for f in files)
    parse_eval_result_entries(yaml.safe_load(files[1].read_text("utf-8")))


def test_flat_numbers_for_dvc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = stored(tmp_path / "r.json", record())
    assert run(["export", "dvc", file, "-o", str(tmp_path / "metrics.json"), "-m", "fid@inception"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "fid@inception": 12.3,
        "fid@inception.low": 11.9,
        "fid@inception.high": 12.8,
    }


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = stored(tmp_path / "r.json", record()), str(tmp_path / "repo")
    empty = stored(tmp_path / "e.json", replace(record(), results=()))
    for arguments, code, said in (
        (["hf", file, "--out", out, "-m", "fid@incepton"], 2, "did you mean 'fid@inception'?"),
        (["hf", file, "--out", out, "--dataset", "no good"], 2, "expected the id of a dataset"),
        (["hf", file, "--out", out, "--task", "fid@inception=x"], 2, "name it with --dataset"),
        (["hf", file, "--out", out, "--dataset", "a", "--task", "fid"], 2, "expected METRIC=TASK"),
        (["hf", file, "--out", out, "--card", str(tmp_path / "no.md")], 2, "cannot read card"),
        (["hf", file, "--out", str(tmp_path), "--card", str(tmp_path / "r.json")], 2, "would overwrite"),
        (["dvc", file, "-o", str(tmp_path)], 2, "is a folder"),
        (["dvc", empty], 5, "holds no result"),
        (["dvc", str(tmp_path / "none.json")], 2, "cannot read record"),
    ):
        assert run(["export", *arguments]) == code, arguments
        found = capsys.readouterr().err.strip()
        assert said in found and "\n" not in found, found
    assert not (tmp_path / "repo").exists() or not list((tmp_path / "repo").iterdir())


def test_names_are_looked_up() -> None:
    with pytest.raises(UnknownName):
        exporting.chosen(record(), ["kid"])
    with pytest.raises(NothingToEvaluate):
        exporting.chosen(replace(record(), results=()))


def test_mlflow_keeps_numbers_and_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    run = exporting.log_to_mlflow(record(), uri=(tmp_path / "runs").as_uri(), experiment="gates")
    data = mlflow.get_run(run).data
    assert data.metrics["fid/inception"] == 12.3 and data.metrics["prdc.recall/inception.high"] == 0.63
    assert data.params["n"] == "5000" and data.tags["evalkit.commit"] == "abc123"
    assert list((tmp_path / "runs").rglob("artifacts/record.json"))
