"""The workflow files under examples/ci, run step by step as a runner would: its shell and variables, stand-in tools."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "ci"

GH = """#!{python}
import json, pathlib, shutil, sys
store, arguments = pathlib.Path({store!r}), sys.argv[1:]
store.joinpath("gh.log").open("a").write(json.dumps(arguments) + "\\n")
if arguments[:2] == ["run", "list"]:
    print("17" if store.joinpath("record.json").exists() else "", end="")
elif arguments[:2] == ["run", "download"]:
    folder = pathlib.Path(arguments[arguments.index("--dir") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(store / "record.json", folder)
elif arguments[0] == "api" and "--method" not in arguments:
    print("4711" if store.joinpath("comment").exists() else "", end="")
else:
    body = next(a for a in arguments if a.startswith("body=@"))
    shutil.copy(body.removeprefix("body=@"), store / "comment")
"""
CURL = """#!{python}
import pathlib, shutil, sys
target = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
source = pathlib.Path({store!r}, "record.json")
if not source.exists():
    sys.exit(22)
shutil.copy(source, target)
"""
TOML = """
metrics = ["fid@pixels"]
[gate."fid@pixels"]
{limits}
"""


def images(folder: Path, contrast: float, seed: int) -> None:
    """Sixty small pictures of a gradient in noise; with less contrast they are further from those with more."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    ramp = np.linspace(-1, 1, 8)[None, :, None]
    for i in range(60):
        values = 128 + contrast * 80 * ramp + rng.normal(0, 20, (8, 8, 3))
        Image.fromarray(values.clip(0, 255).astype("uint8")).save(folder / f"{i:02}.png")


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository to be gated, with the tools a runner has: python, pip, evalkit, gh, curl."""
    work, tools, store = tmp_path / "work", tmp_path / "bin", tmp_path / "store"
    for folder in (work, tools, store):
        folder.mkdir()
    images(work / "real", 1.0, seed=1)
    images(work / "samples", 0.9, seed=2)
    python = sys.executable
    executable(tools / "python", f'#!/bin/sh\n[ "$1 $2" = "-m pip" ] && exit 0\nexec {shlex.quote(python)} "$@"\n')
    executable(tools / "evalkit", f'#!/bin/sh\nexec {shlex.quote(python)} -m evalkit "$@"\n')
    executable(tools / "gh", GH.format(python=python, store=str(store)))
    executable(tools / "curl", CURL.format(python=python, store=str(store)))
    return work


def shell(script: str, work: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """One step, with the shell options that GitHub gives a `run` step."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("EVALKIT_", "GITHUB_", "CI"))}
    path = f"{work.parent / 'bin'}{os.pathsep}{own['PATH']}"
    root = str(Path(__file__).resolve().parent.parent)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    env = {**own, "PATH": path, "PYTHONPATH": root, **variables}
    return subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False)


def wanted(step: Mapping[str, Any], event: str, failed: bool) -> bool:
    condition = str(step.get("if", ""))
    if "pull_request" in condition and event != "pull_request":
        return False
    return not failed or "cancelled()" in condition


def github(work: Path, event: str) -> tuple[int, str]:
    """Run the GitHub example's steps; the first exit code that is not 0, and everything the steps said."""
    workflow = yaml.safe_load((EXAMPLES / "github.yml").read_text())
    summary = work.parent / "summary.md"
    variables = {
        **workflow["env"], "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary),
    }  # fmt: skip
    code, said = 0, ""
    for step in workflow["jobs"]["gate"]["steps"]:
        if "run" not in step or not wanted(step, event, failed=code != 0):
            continue
        own = {"GH_TOKEN": "t", "PULL": "5", "REPOSITORY": "o/r"}
        done = shell(step["run"], work, {**variables, **{k: own[k] for k in step.get("env", {})}})
        said += done.stdout + done.stderr
        code = code or done.returncode
    return code, said


def test_github_blocks_what_got_worse_and_says_it_in_one_comment(checkout: Path) -> None:
    store = checkout.parent / "store"
    (checkout / "evalkit.toml").write_text(TOML.format(limits='max = 1e5\nmax_increase = "10%"\nrequire = true'))
    # The first pull request of all: no baseline, so the rule against one cannot be answered, and that is no pass.
    code, said = github(checkout, "pull_request")
    assert code == 4, said
    assert "::warning" in said and "::error" not in said
    assert (store / "comment").read_text().startswith("<!-- evalkit:gate:")

    # The main branch gates with absolute limits only; its record is the baseline of the next pull request.
    (checkout / "record.json").rename(store / "record.json")
    for old in (checkout / "samples").iterdir():
        old.unlink()
    (checkout / "samples").rmdir()
    images(checkout / "samples", 0.2, seed=3)
    code, said = github(checkout, "pull_request")
    assert code == 1, said
    assert "::error" in said and "fid@pixels" in said
    calls = [json.loads(line) for line in (store / "gh.log").read_text().splitlines()]
    posted = [call for call in calls if call[0] == "api" and "--method" in call]
    assert [call[call.index("--method") + 1] for call in posted] == ["POST", "PATCH"]
    assert posted[1][posted[1].index("PATCH") + 1].endswith("issues/comments/4711")
    comment = (store / "comment").read_text()
    assert "fid@pixels" in comment and "fail" in comment.lower()
    assert "fid@pixels" in (checkout.parent / "summary.md").read_text()
    cases = ET.parse(checkout / "evalkit-junit.xml").getroot().findall(".//testcase")
    assert [len(case.findall("failure")) for case in cases] == [1]
    assert (checkout / "gate.html").read_text().startswith("<!DOCTYPE html>")


def test_gitlab_passes_what_did_not_get_worse(checkout: Path) -> None:
    (checkout / "evalkit.toml").write_text(TOML.format(limits="max = 1e5"))
    job = yaml.safe_load((EXAMPLES / "gitlab.yml").read_text())["evalkit"]
    variables = {"CI": "true", "GITLAB_CI": "true", "CI_PROJECT_DIR": str(checkout), "CI_JOB_TOKEN": "t"}
    variables |= {"CI_API_V4_URL": "https://gitlab.example/api/v4", "CI_PROJECT_ID": "1", "CI_DEFAULT_BRANCH": "main"}
    variables |= {key: value.replace("$CI_PROJECT_DIR", str(checkout)) for key, value in job["variables"].items()}
    done = shell("\n".join(job["script"]), checkout, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (checkout / "baseline" / "record.json").exists()
    for name in (*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]):
        assert (checkout / name).stat().st_size > 0
    assert "::" not in done.stdout
