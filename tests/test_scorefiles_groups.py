"""False positives by group, texts scored on the spot, and the three commands as a user runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact

from evalkit.calibration import proportion
from evalkit.cli import run
from evalkit.errors import BadSetting, BadSource, TooFewSamples, UnknownName
from evalkit.scorefiles import texts as judging
from evalkit.scorefiles.groups import flags_of, newcombe
from evalkit.scorefiles.replaying import raid
from evalkit.scorefiles.subgrouping import subgroups
from tests.conftest import failed
from tests.data import shared

ESSAYS = {"us": {"a": [0.1, 0.2, 0.5, 0.3], "b": [0.0, 0.9, 0.1, 0.1]}, "toefl": {"a": [0.9, 0.6], "b": [0.8, 0.4]}}


def essays(tmp_path: Path) -> Path:
    path = tmp_path / "essays.json"
    path.write_text(json.dumps(ESSAYS))
    return path


def test_newcombes_interval_is_that_of_his_table() -> None:
    # Newcombe 1998, table II, method 10: 56/70 less 48/80, and the two corners without an event.
    found = newcombe(proportion(56, 70), proportion(48, 80))
    assert (round(found.value, 4), round(found.low, 4), round(found.high, 4)) == (0.2, 0.0524, 0.3339)
    none = newcombe(proportion(0, 10), proportion(0, 10))
    assert (round(none.low, 4), none.value, round(none.high, 4)) == (-0.2775, 0.0, 0.2775)


def test_groups_by_hand_and_the_operator_is_part_of_the_metric(tmp_path: Path) -> None:
    study = subgroups([essays(tmp_path)], threshold=0.5, against="us", truth="real")
    a, b = study.data["detectors"]
    assert [(g["flagged"]["count"], g["flagged"]["n"]) for g in a["groups"]] == [(0, 4), (2, 2)]
    assert a["groups"][1]["p"] == pytest.approx(fisher_exact(np.array([[2, 0], [0, 4]])).pvalue)
    assert "p" not in a["groups"][0] and a["flagged_when"] == "score > 0.5"
    assert [(g["flagged"]["count"]) for g in b["groups"]] == [1, 1]
    both = {one["group"]: one for one in study.data["together"]}
    assert both["toefl"]["mean"]["value"] == 0.75
    assert (both["toefl"]["by_all"]["count"], both["toefl"]["by_at_least_one"]["count"]) == (1, 2)
    assert study.title.startswith("False positives")
    assert any("1 of 6 scores equal the threshold: 2 are flagged by >, 3 would be by >=" in w for w in study.warnings)
    loose = subgroups([essays(tmp_path)], threshold=0.5, operator=">=", against="us")
    assert loose.data["detectors"][0]["groups"][0]["flagged"]["count"] == 1
    assert any("no label says who wrote" in words for words in loose.warnings)
    with pytest.raises(BadSetting, match="--operator"):
        flags_of(np.array([1.0]), 0.5, "=>")  # type: ignore[arg-type]


def test_machine_texts_are_left_out_and_the_exact_threshold_is_over_all_humans(tmp_path: Path) -> None:
    rows = [{"score": i, "label": "human", "native": "yes" if i < 30 else "no"} for i in range(40)]
    rows += [{"score": 99, "label": "machine", "native": "no"} for _ in range(10)]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = subgroups([path], by="native").data["detectors"]
    assert found["threshold"] == 37.0
    assert [(g["group"], g["flagged"]["count"], g["flagged"]["n"]) for g in found["groups"]] == [
        ("yes", 0, 30), ("no", 2, 10),
    ]  # fmt: skip
    (turned,) = subgroups([path], by="native", threshold=5, higher="real").data["detectors"]
    assert turned["flagged_when"] == "score < 5" and turned["groups"][0]["flagged"]["count"] == 5
    for error, match, given in (
        (BadSource, "no column 'country'", {"by": "country"}),
        (UnknownName, "unknown group 'us'", {"by": "native", "against": "us"}),
        (TooFewSamples, "needs 100", {"by": "native", "fpr": 0.01}),
        (BadSetting, "two sides", {"by": "native", "higher": "auto"}),
        (BadSetting, "goes with --threshold", {"by": "native", "operator": ">="}),
    ):
        with pytest.raises(error, match=match):
            subgroups([path], **given)
    with pytest.raises(BadSetting, match="who wrote it"):
        subgroups([essays(tmp_path)])


def test_the_published_rates_of_native_and_non_native_writers() -> None:
    path = shared("data", "text", "liang_nonnative_bias", "detector_scores.json")
    found = {one["group"]: one for one in subgroups([path], threshold=0.5).data["together"]}
    published = {
        "TOEFL_real_91": 61.22, "TOEFL_gpt4polished_91": 11.77, "HewlettStudentEssay_real_88": 5.19,
        "HewlettStudentEssay_GPTsimplify_88": 56.66, "CollegeEssay_gpt3_31": 70.05,
        "CollegeEssay_gpt3PromptEng_31": 3.23, "CS224N_gpt3_145": 43.74, "CS224N_gpt3PromptEng_145": 12.91,
    }  # fmt: skip
    assert {name: round(100 * found[name]["mean"]["value"], 2) for name in published} == published
    toefl = found["TOEFL_real_91"]
    assert (toefl["by_all"]["count"], toefl["by_at_least_one"]["count"], toefl["by_all"]["n"]) == (18, 89, 91)
    loose = subgroups([path], threshold=0.5, operator=">=").data["together"]
    (toefl,) = (one for one in loose if one["group"] == "TOEFL_real_91")
    assert (round(100 * toefl["mean"]["value"], 2), toefl["by_all"]["count"]) == (61.85, 19)


# Commands -------------------------------------------------------------------------------------------------------------


def test_replay_prints_writes_every_format_and_one_strict_document(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["score,label,domain,model,attack", *(f"{i},human,news,human,none" for i in range(40))]
    lines += [f"{20 + i},machine,news,{'=gpt' if i % 2 else 'llama'},{'none' if i < 20 else 'zw'}" for i in range(40)]
    Path("s.csv").write_text("\n".join(lines))
    assert run(["replay", "s.csv", "--out", "r", "-o", "again.csv"]) == 0
    shown = capsys.readouterr()
    assert "s: AUROC" in shown.out and "least caught by attack: none" in shown.out and shown.err == ""
    assert {p.name for p in Path("r").iterdir()} == {"index.html", "study.json", "study.csv", "study.md"}
    assert Path("again.csv").read_bytes() == Path("r/study.csv").read_bytes()
    cells = [cell for row in csv.reader(Path("again.csv").read_text().splitlines()) for cell in row]
    assert not any(cell.startswith("=") for cell in cells) and any("=gpt" in cell for cell in cells)
    assert run(["replay", "s.csv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(c))
    assert document["schema"] == "evalkit.replay/1" and document["runs"][0]["table"]["fields"] == ["model", "attack"]


def test_raid_scores_texts_behind_every_attack_and_subgroups_judges_them(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    human = [f"I met the old man {i} by the river, and he told me a story." for i in range(40)]
    machine = [f"Certainly! Here are {i} important considerations regarding the topic." for i in range(40)]
    for name, texts in (("h", human), ("m", machine)):
        Path(f"{name}.txt").write_text("\n".join(texts))
    rows = [{"text": t, "label": "human", "group": "ab"[i % 2]} for i, t in enumerate(human)]
    rows += [{"text": t, "label": "machine", "group": "a"} for t in [*machine, " "]]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(["train", "detector", "ngram_lr", "--real", "h.txt", "--fake", "m.txt", "--out", "judge", "-q"]) == 0
    capsys.readouterr()
    asked = ["raid", "t.jsonl", "--with", "judge", "--attacks", "number,homoglyph", "-q", "--json"]
    assert run(asked) == 0
    found = json.loads(capsys.readouterr().out)
    (judged,) = found["runs"]
    assert judged["n"] == {"human": 40, "machine": 40} and judged["attacked_left_to_the_table"] == 160
    assert judged["missing_left_out"] == 3
    assert len(found["excluded"]) == 3 and {e["reason"] for e in found["excluded"]} == {"empty text"}
    cells = {row["attack"]: row for row in judged["table"]["rows"]}
    assert set(cells) == {"all", "none", "number", "homoglyph"} and cells["none"]["n"] == {"machine": 40, "human": 40}
    assert cells["none"]["tpr_at_0.05"]["value"] == 1.0 and "too few humans" in cells["none"]["why"]
    assert run(["subgroups", "t.jsonl", "--with", "judge", "-q", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["detectors"][0]["groups"]
    assert [(g["group"], g["flagged"]["n"]) for g in groups] == [("a", 20), ("b", 20)]
    code, line = failed(capsys, ["raid", "t.jsonl", "--with", "judge", "--attacks", "homoglif", "-q"])
    assert code == 2 and "did you mean 'homoglyph'" in line


def test_raid_asks_for_labels_before_anything_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "measure", lambda *_: pytest.fail("judged"))
    monkeypatch.setattr(judging, "load_detector", lambda *_, **__: pytest.fail("loaded"))
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"id": str(i), "text": f"text {i}"}) + "\n" for i in range(40)))
    with pytest.raises(BadSource, match="t: 40 of 40 rows have no label"):
        raid(path, ["judge"], attacks=["all"])
    with pytest.raises(TooFewSamples, match="40 human and 0 machine"):
        raid(path, ["judge"], attacks=["all"], truth="real")
    truth = tmp_path / "truth.jsonl"
    truth.write_text("".join(json.dumps({"id": str(i), "label": i % 2}) + "\n" for i in range(39)))
    with pytest.raises(BadSource, match="1 of 40 rows have no label"):
        raid(path, ["judge"], attacks=["all"], truth=str(truth))


def test_mistakes_are_one_line_and_an_exit_code(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.csv").write_text("")
    Path("nan.csv").write_text("score,label\nnan,human\n1,machine\n")
    Path("cut.jsonl").write_text('{"score": 1, "label": "human"}\n{"score":\n')
    for arguments, code, match in (
        (["replay", "no.csv"], 2, "cannot read score file"),
        (["replay", "empty.csv"], 5, "is empty"),
        (
            ["replay", "nan.csv"],
            2,
            "expected a number for each (1 human, 0 machine, 0 of unknown truth; first: 'row-1')",
        ),
        (["replay", "nan.csv", "--higher", "auto"], 2, "--nan exclude"),
        (["replay", "cut.jsonl"], 2, "line 2 is not JSON (Expecting value"),
        (["replay", "cut.jsonl"], 2, 'expected one object a line, such as {"id"'),
        (["detect", "nan.csv", "--scores"], 2, "--nan exclude"),
        (["detect", "nan.csv", "--raid"], 2, "--raid needs a detector"),
        (["detect", "nan.csv", "--raid", "--with", "x", "--fpr", "0.1"], 2, "--fpr does not go with --raid"),
        (["detect", "nan.csv", "--scores", "--attacks", "all"], 2, "--attacks does not go with --scores"),
        (["detect", "nan.csv", "--scores", "--raid"], 2, "not of both"),
        (["detect", "nan.csv", "--with", "x", "--higher", "auto"], 2, "--higher needs --raid or --scores"),
        (["detect", "nan.csv"], 2, "give --with DETECTOR"),
        (["replay", "nan.csv", "--nan", "exclude"], 2, "0 human and 1 machine"),
        (["replay", "nan.csv", "--column", "points=x"], 2, "expected ROLE=NAME"),
        (["replay", "nan.csv", "-o", "x.xml"], 2, "suffix"),
        (["subgroups", "nan.csv", "-q"], 2, "--nan exclude"),
    ):
        found, line = failed(capsys, arguments)
        assert found == code and match in line


def test_detect_makes_the_tables_of_replay_and_raid(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{i},{(i * 7) % 40},{'human' if i % 2 else 'machine'},{'ab'[i % 4 // 2]}\n" for i in range(40)]
    Path("s.csv").write_text("id,score,label,model\n" + "".join(rows))
    tables = []
    for arguments in (["replay", "s.csv"], ["detect", "s.csv", "--scores", "-o", "d.csv"]):
        assert run([*arguments, "--higher", "auto", "--json"]) == 0
        tables.append(json.loads(capsys.readouterr().out))
        tables[-1].pop("provenance", None)
    assert tables[0] == tables[1] and tables[0]["schema"] == "evalkit.replay/1" and Path("d.csv").is_file()
    told = [
        failed(capsys, [*words, "--with", "nobody"]) for words in (["raid", "s.csv"], ["detect", "s.csv", "--raid"])
    ]
    assert told[0] == told[1] and told[0][0] == 2 and "expected a column text" in told[0][1]
