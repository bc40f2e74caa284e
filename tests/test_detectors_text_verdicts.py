"""Verdicts on texts: too short is uncertain, with and without a calibration; too few human texts are refused."""

from __future__ import annotations

import json

import pytest

from detectors.ngram_lr import NgramLR
from evalkit.cli import run
from evalkit.errors import BadSetting
from evalkit.judging.detecting import detect
from evalkit.samples import open_samples

LEAST = NgramLR.least_characters
HUMAN = [f"We saw {i} boats, and {i % 7} of them had no sail; nobody on shore knew why that was." for i in range(90)]
MACHINE = [
    f"Overall, it is important to note that {i} factors contribute, including number {i % 9}." for i in range(40)
]


def longer(text: str, n: int) -> str:
    return (text + " ") * (n // len(text) + 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fitted ngram_lr, human texts to calibrate on, and texts of three lengths to judge."""
    root = tmp_path_factory.mktemp("texts")
    sides = {
        "real.txt": [longer(t, LEAST) for t in HUMAN[:20]],
        "fake.txt": [longer(t, LEAST) for t in MACHINE[:20]],
        "mine.txt": [longer(t, LEAST) for t in HUMAN[20:85]],
        "judged.txt": [longer(MACHINE[30], LEAST), MACHINE[31], longer(HUMAN[86], LEAST), HUMAN[87]],
    }
    for name, lines in sides.items():
        (root / name).write_text("\n".join(lines) + "\n")
    judge = NgramLR()
    judge.fit(open_samples(root / "real.txt"), open_samples(root / "fake.txt"), seed=0)
    judge.save(root / "judge")
    return root


def verdicts(found):
    return [(s["verdict"], [r["kind"] for r in s.get("reasons", [])]) for s in found["detectors"][0]["samples"]]


def test_a_short_text_has_no_verdict_and_a_long_one_has_all_three(folder):
    found = detect(folder / "judged.txt", [folder / "judge"])
    said = verdicts(found)
    assert said[0] == ("synthetic", []) and said[2] == ("authentic", [])
    assert [said[i][0] for i in (1, 3)] == ["uncertain"] * 2 and all("too_short" in said[i][1] for i in (1, 3))
    assert found["detectors"][0]["reasons"]["too_short"] == 2
    [why] = [r["detail"] for r in found["detectors"][0]["samples"][1]["reasons"] if r["kind"] == "too_short"]
    assert why == f"{len(MACHINE[31])} characters; the detector decides from {LEAST}"


def test_the_least_length_is_a_setting(folder):
    everything = detect(folder / "judged.txt", [folder / "judge"], least_characters=0)
    assert "too_short" not in everything["detectors"][0]["reasons"]
    nothing = detect(folder / "judged.txt", [folder / "judge"], least_characters=100_000)
    assert nothing["detectors"][0]["reasons"]["too_short"] == 4
    with pytest.raises(BadSetting, match="from 0 on"):
        detect(folder / "judged.txt", [folder / "judge"], least_characters=-1)


def test_calibrated_on_longer_texts_the_longer_limit_holds(folder):
    found = detect(folder / "judged.txt", [folder / "judge"], calibrate=folder / "mine.txt", fpr=0.05)
    sample = found["detectors"][0]["samples"][1]
    [why] = [r["detail"] for r in sample["reasons"] if r["kind"] == "too_short"]
    shortest = min(len(t.strip()) for t in (folder / "mine.txt").read_text().splitlines())
    assert shortest >= LEAST and why.endswith(f"the calibration reals have at least {shortest}")
    assert found["detectors"][0]["operating_point"]["real"]["n"] == 65


def test_the_command_abstains_and_refuses_too_few_human_texts(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert run(["detect", "judged.txt", "--with", "judge", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["detectors"][0]["verdicts"] == {
        "authentic": 1,
        "synthetic": 1,
        "uncertain": 2,
    }
    # One in a hundred with 95 % confidence takes 299 human texts; on average 99 do.
    for extra, least in (([], "299"), (["--fpr-in-expectation"], "99")):
        code = run(
            ["detect", "judged.txt", "--with", "judge", "--calibrate", "mine.txt", "--fpr", "0.01", "-q", *extra]
        )
        said = capsys.readouterr().err
        assert code == 4 and f"needs at least {least}" in said and "65 calibration reals" in said
