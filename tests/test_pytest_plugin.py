"""The fixture as a user's test meets it, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.errors import UnknownName
from evalkit.pytest_plugin import merged, metric_name
from evalkit.records import write_record

from .test_exporting import FID, record

ROOT = Path(__file__).resolve().parent.parent


def pytest_run(folder: Path, test: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_model.py").write_text(test)
    options = ["-p", "evalkit.pytest_plugin", "-p", "no:cacheprovider", "-q", *more]
    command = [sys.executable, "-c", LOADER.format(options=options)]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


# Where evalkit is installed its entry point has loaded the plugin already; naming it twice would be an error.
LOADER = """
import sys, pytest
from importlib.metadata import entry_points
options = {options!r}
if any(e.value == "evalkit.pytest_plugin" for e in entry_points(group="pytest11")):
    options = options[2:]
sys.exit(pytest.main(options))
"""


def environment() -> dict[str, str]:
    import os

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "EVALKIT_"))}
    return {**kept, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("fid", "fid"),
        ("fid_inception", "fid@inception"),
        ("fid_random_conv", "fid@random_conv"),
        ("prdc_recall_inception", "prdc.recall@inception"),
        ("prdc_inception_recall", "prdc.recall@inception"),
        ("prdc_recall", "prdc.recall"),
        ("inception_score", "inception_score"),
        ("tpr_at_fpr_spectrum", "tpr_at_fpr@spectrum"),
        ("memorization_p_digits_net", "memorization_p@digits_net"),
        ("latency_p95", "latency.p95"),
        ("auroc_ngram_lr", "auroc@ngram_lr"),
    ],
)
def test_words_mean_a_metric(words: str, name: str) -> None:
    assert metric_name(words) == name


def test_keywords_join_rules() -> None:
    found = merged({"kid": {"max": 1}}, {"fid_inception_max": 20, "kid_min_n": 50, "fid_inception_max_increase": "5%"})
    assert found == {"kid": {"max": 1, "min_n": 50}, "fid@inception": {"max": 20, "max_increase": "5%"}}
    with pytest.raises(UnknownName, match="limit 'fid_inception_most'"):
        merged({}, {"fid_inception_most": 20})
    with pytest.raises(UnknownName, match="metric 'fdi'"):
        merged({}, {"fdi_max": 20})


def test_a_record_passes_fails_or_is_inconclusive(tmp_path: Path) -> None:
    write_record(record(), tmp_path / "now.json")
    write_record(record("before", replace(FID, value=6.0, low=5.8, high=6.2)), tmp_path / "before.json")
    done = pytest_run(
        tmp_path,
        "def test_good(evalkit_gate):\n"
        "    report = evalkit_gate('now.json', fid_inception_max=20, prdc_recall_inception_min=0.5)\n"
        "    assert report.outcome == 'pass' and len(report.checks) == 2\n"
        "def test_bad(evalkit_gate):\n"
        "    evalkit_gate('now.json', fid_inception_max=10)\n"
        "def test_worse(evalkit_gate):\n"
        "    evalkit_gate('now.json', baseline='before.json', fid_inception_max_increase='5%')\n"
        "def test_missing(evalkit_gate):\n"
        "    evalkit_gate('now.json', rules={'kid@inception': {'max': 1}})\n"
        "def test_nothing_to_score_against(evalkit_gate):\n"
        "    evalkit_gate('samples/', fid_max=1)\n",
        "--junit-xml=junit.xml",
        "-rf",
    )
    assert "4 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "FAIL fid@inception: " in done.stdout and "INCONCLUSIVE kid@inception: " in done.stdout
    assert "nothing to score 'samples/' against" in done.stdout
    assert '<property name="fid@inception" value="12.3"' in (tmp_path / "junit.xml").read_text()


def test_samples_are_scored_for_what_is_asked(tmp_path: Path) -> None:
    done = pytest_run(
        tmp_path,
        "def test_model(evalkit_gate):\n"
        "    report = evalkit_gate('resample', real='embedded:digits', fid_pixels_max=1e9, settings={'n': 50})\n"
        "    assert [c.metric for c in report.checks] == ['fid@pixels']\n"
        "    assert report.checks[0].n['fake'] == 50\n",
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_pytest_that_gates_nothing_loads_no_torch(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, "import sys\ndef test_light():\n    assert 'torch' not in sys.modules\n")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
