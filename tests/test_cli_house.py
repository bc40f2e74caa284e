"""The command line's housekeeping: what there is, what is kept, what is configured, and a pipe that closes early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.cli import run
from tests.conftest import failed

pytestmark = pytest.mark.usefixtures("at_home")


def test_list_shows_defaults_controls_and_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    shown = capsys.readouterr().out
    for word in ("METRICS", "EXTRACTORS", "DETECTORS", "GENERATORS", "REPORTS", "fid@inception", "temperature=1.0"):
        assert word in shown
    assert run(["list", "metrics", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["metrics"]
    assert {"fid", "kid", "prdc", "auroc", "self_bleu"} <= {m["name"] for m in listed}


def test_cache_and_doctor(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "good", "--real", "real", "-m", "fid@pixels"]) == 0
    capsys.readouterr()
    assert run(["cache", "info"]) == 0
    assert "features" in capsys.readouterr().out
    assert run(["cache", "clear"]) == 0
    assert run(["cache", "info"]) == 0
    assert "features" not in capsys.readouterr().out.split("removed")[-1].split("\n", 1)[1]
    assert run(["doctor"]) in (0, 3)
    assert "torch" in capsys.readouterr().out


def test_configuration_file_and_environment_are_read(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("evalkit.toml").write_text('metrics = ["fid@pixels"]\nn = 30\n[metric.prdc]\nk = 3\n')
    assert run(["score", "good", "--real", "real", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in record["results"]] == ["fid@pixels"] and record["subject"]["n"] == 30
    monkeypatch.setenv("EVALKIT_METRICS", "prdc@pixels.recall")
    assert run(["score", "good", "--real", "real", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    assert result["name"] == "prdc@pixels.recall" and result["terms"]["settings"]["k"] == 3
    Path("evalkit.toml").write_text("[metric.inception_score]\nsplitz = 2\n")
    code, line = failed(capsys, ["score", "good", "--real", "real"])
    assert code == 2 and "did you mean 'splits'" in line


def test_a_reader_that_leaves_a_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -m evalkit.cli list | head -1; echo ${{PIPESTATUS[0]}}"
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, env=here)
    assert done.stdout.split()[-1] == "0" and "Traceback" not in done.stderr
