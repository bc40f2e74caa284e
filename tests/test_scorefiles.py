"""Recorded scores: files and layouts, numbers by hand and against scikit-learn, thresholds, RAID's search and table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.replay import stepped_threshold
from evalkit.errors import BadRows, BadSetting, BadSource, EvalkitError, NothingToEvaluate, TooFewSamples, UsageError
from evalkit.scorefiles.conditions import ALL, conditions, pick
from evalkit.scorefiles.numbers import exact_threshold, replayed
from evalkit.scorefiles.reading import read_scores
from evalkit.scorefiles.recorded import MACHINE, Recorded, both_sides, checked, oriented, rank_area
from evalkit.scorefiles.replaying import replay

from .data import shared

scores = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 0.5000000001, 3.0, 1e9]), min_size=2, max_size=60)


def run_of(human: Any, machine: Any, **fields: list[str]) -> Recorded:
    both = np.concatenate([np.asarray(human, dtype=np.float64), np.asarray(machine, dtype=np.float64)])
    truth = np.repeat(np.array([0, 1], dtype=np.int8), [len(human), len(machine)])
    return Recorded("run", both, truth, [str(i) for i in range(len(both))], fields)


# Numbers --------------------------------------------------------------------------------------------------------------


@given(scores, scores)
@settings(max_examples=150, deadline=None)
def test_areas_are_those_of_scikit_learn(human: list[float], machine: list[float]) -> None:
    found = replayed(run_of(human, machine), resample=False)
    truth = [0] * len(human) + [1] * len(machine)
    assert found.auroc.value == pytest.approx(roc_auc_score(truth, human + machine), abs=1e-12)
    assert found.average_precision.value == pytest.approx(average_precision_score(truth, human + machine), abs=1e-12)
    assert found.auroc.low <= found.auroc.value <= found.auroc.high
    assert rank_area(np.array(machine), np.array(human)) == pytest.approx(1 - found.auroc.value, abs=1e-12)


@given(scores.map(np.array), st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=150, deadline=None)
def test_the_threshold_is_the_lowest_that_keeps_the_fpr(human: Any, fpr: float) -> None:
    found = exact_threshold(human, fpr)
    n = len(human)
    allowed = sum(k <= fpr * n + 1e-9 for k in range(1, n + 1))
    if not allowed:
        assert found.score is None and f"needs {math.ceil(1 / fpr - 1e-9)}" in found.why
        return
    assert found.score is not None and found.realised is not None
    # RAID's rule with t just above: the same texts are flagged, at most the allowed count, and no lower one would do.
    flagged = int((human >= math.nextafter(found.score, math.inf)).sum())
    assert flagged == found.realised.count <= allowed
    assert all((human > lower).sum() > allowed for lower in human if lower < found.score)
    ends = binomtest(flagged, n).proportion_ci(0.95, method="exact")
    assert (found.realised.low, found.realised.high) == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_numbers_by_hand_with_ties_at_the_threshold() -> None:
    human = [0.0] * 15 + [1.0, 1.0, 1.0, 2.0, 3.0]
    found = replayed(run_of(human, [1.0, 2.0, 2.5, 4.0]))
    five, one = found.thresholds
    # Of 20 humans one may lie above: the second largest is 2, and one human, at 3, is above it.
    assert (five.score, five.realised and five.realised.count) == (2.0, 1)
    assert found.caught[0] is not None and found.caught[0].value == 0.5
    assert one.score is None and found.caught[1] is None and "needs 100" in one.why
    # Pairs: 1 beats 15 and ties 3, 2 and 2.5 beat 18 (one tie at 2), 4 beats all.
    assert found.auroc.value == (16.5 + 18.5 + 19 + 20) / 80


def test_the_direction_is_never_turned_silently() -> None:
    run = run_of([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
    kept, nothing = oriented(run, "fake")
    assert (rank_area(kept.human, kept.machine), nothing) == (0.5 / 9, "")
    turned, _ = oriented(run, "real")
    assert rank_area(turned.human, turned.machine) == 8.5 / 9
    chosen, words = oriented(run, "auto")
    assert chosen.flipped and "higher scores for human texts" in words and "0.0556" in words
    other, words = oriented(run_of([1.0, 2.0], [3.0, 4.0]), "auto")
    assert not other.flipped and "for machine texts" in words


# RAID -----------------------------------------------------------------------------------------------------------------


def test_raids_search_agrees_on_probabilities_and_fails_on_ranks() -> None:
    rng = np.random.default_rng(0)
    human = rng.uniform(size=2000)
    exact = exact_threshold(human, 0.05)
    assert exact.score is not None
    searched = float((human >= stepped_threshold(human, 0.05)).mean())
    assert abs(searched - float((human > exact.score).mean())) <= 0.001
    # Mean ranks of a text's tokens run to thousands: fifty steps of a half do not reach their tail.
    ranks = -rng.lognormal(5.0, 1.0, size=150)
    stepped, exact = float((ranks >= stepped_threshold(ranks, 0.05)).mean()), exact_threshold(ranks, 0.05)
    assert stepped > 0.2
    assert exact.realised is not None and exact.realised.value == pytest.approx(7 / 150)


def test_one_threshold_a_domain_and_every_condition() -> None:
    humans = [("news", i) for i in range(100)] + [("books", 1000 + i) for i in range(100)]
    # News: above 94 (five humans are); books: above 1094.
    machines = [
        ("news", "a", "none", 94.0), ("news", "a", "none", 95.0), ("news", "b", "none", 99.0), ("news", "b", "zw", 1.0),
        ("books", "a", "none", 1095.0), ("books", "a", "zw", 500.0), ("books", "b", "none", 94.5),
    ]  # fmt: skip
    fields = {
        "domain": [d for d, _ in humans] + [d for d, *_ in machines],
        "model": ["human"] * 200 + [m for _, m, *_ in machines],
        "attack": ["none"] * 200 + [a for *_, a, _ in machines],
        "decoding": [""] * 200 + ["greedy"] * 7,
    }
    found = conditions(run_of([s for _, s in humans], [s for *_, s in machines], **fields))
    assert found.fields == ("domain", "model", "attack")
    assert {name: own[0].score for name, own in found.thresholds.items()} == {"news": 94.0, "books": 1094.0}

    def caught(**words: str) -> tuple[int, int]:
        ((row),) = pick(found, **words)
        assert row.caught[0] is not None
        return row.caught[0].count, row.n

    assert caught() == (3, 7) and caught(domain="news") == (2, 4) and caught(attack="zw") == (0, 2)
    assert caught(domain="news", model="a", attack="none") == (1, 2) and caught(model="b") == (1, 3)
    assert not pick(found, domain="books", model="b", attack="zw")
    (news,) = pick(found, domain="news", model="b", attack="zw")
    assert news.n_human == 100 and news.auroc is None
    (pooled,) = pick(found, attack="none")
    assert pooled.n_human == 200 and pooled.auroc is not None
    assert sum(row.n for row in found.rows if row.where[0] != ALL and row.where[1:] == (ALL, ALL)) == 7


def test_attacked_humans_set_no_threshold_and_few_humans_void_the_pool() -> None:
    fields = {"domain": ["a"] * 60 + ["b"] * 10 + ["a", "b"], "attack": ["none"] * 40 + ["zw"] * 20 + ["none"] * 12}
    found = conditions(run_of(list(range(40)) + [1e6] * 20 + [5.0] * 10, [100.0, 100.0], **fields))
    assert found.thresholds["a"][0].score == 37.0 and found.thresholds["b"][0].score is None
    (whole,), (a,), (b,) = (pick(found, domain=d) for d in (ALL, "a", "b"))
    assert whole.caught[0] is None and "too few humans" in whole.why and b.caught[0] is None
    assert a.caught[0] is not None and a.caught[0].value == 1.0
    attacked = next(alarm for alarm in found.alarms if alarm.attack == "zw")
    assert attacked.flagged[0] is not None and attacked.flagged[0].value == 1.0


def test_pooled_numbers_are_of_texts_that_nobody_attacked(tmp_path: Path) -> None:
    sides = ("human", "", 0), ("machine", "None", 10), ("human", "zw", 90), ("machine", "zw", -90)
    rows: list[dict[str, Any]] = [
        {"id": f"{side}{i}{attack}", "score": i + shift, "label": side, "attack": attack}
        for side, attack, shift in sides
        for i in range(20)
    ]
    clean = replay([written(tmp_path / "s.jsonl", rows[:40])]).data["runs"][0]
    study = replay([written(tmp_path / "s.jsonl", rows)])
    found = study.data["runs"][0]
    assert {name: found[name] for name in ("n", "auroc", "average_precision", "eer", "rates")} == {
        name: clean[name] for name in ("n", "auroc", "average_precision", "eer", "rates")
    }
    assert found["attacked_left_to_the_table"] == 40 and found["table"]["rows"][0]["n"]["machine"] == 40
    assert "on 20 human and 20 machine texts that nobody attacked (40 under attack" in study.findings[0]
    assert "over 20 machine texts that nobody attacked" in study.findings[1]
    # The direction is chosen on the same texts, and a file of attacked texts alone says what it pools.
    assert not replay([tmp_path / "s.jsonl"], higher="auto").data["runs"][0]["scores_negated"]
    alone = replay([written(tmp_path / "a.jsonl", rows[40:])])
    assert alone.data["runs"][0]["n"] == {"human": 20, "machine": 20}
    assert any("take attacked texts too" in words for words in alone.warnings)


# Files ----------------------------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"id": f"t{i}", "score": i / 10, "label": "human" if i < 4 else "machine", "domain": "x"} for i in range(8)
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_rows_read_alike_in_every_format(tmp_path: Path, suffix: str) -> None:
    (run,) = read_scores(written(tmp_path / f"a{suffix}", ROWS))
    assert run.scores.tolist() == [i / 10 for i in range(8)] and run.truth.tolist() == [0] * 4 + [1] * 4
    assert list(run.ids) == [f"t{i}" for i in range(8)] and run.fields["domain"] == ["x"] * 8
    assert replayed(both_sides(checked(run))).auroc.value == 1.0


def test_known_layouts_columns_detectors_and_models(tmp_path: Path) -> None:
    one = {"name": "rank", "predictions": {"real": [1, 2], "samples": [3, 4]}, "metrics": {"roc_auc": 1.0}}
    (tmp_path / "one.json").write_text(json.dumps(one))
    (run,) = read_scores(tmp_path / "one.json")
    assert (run.name, run.claims, replayed(run).claimed) == ("rank", {"roc_auc": 1.0}, 0.0)
    (tmp_path / "g.json").write_text(json.dumps({"us": {"d": [0.1], "e": [0.2]}, "toefl": {"d": [0.9, 0.8]}}))
    d, e = read_scores(tmp_path / "g.json")
    assert d.fields["group"] == ["us", "toefl", "toefl"] and len(e) == 1 and (d.truth == -1).all()
    rows = [{"detector": d, "model": m, "crit": s} for d in "xy" for m, s in (("human", 0), ("gpt", 1))]
    x, y = read_scores(written(tmp_path / "m.csv", rows), {"score": "crit"})
    assert (x.name, y.name) == ("x", "y") and x.truth.tolist() == [0, MACHINE]


BAD = [
    ("empty.csv", b"", NothingToEvaluate, "is empty"),
    ("head.csv", b"score,label\n", NothingToEvaluate, "no rows"),
    ("bytes.csv", b"score,label\n\xff,human\n", BadSource, "not valid UTF-8 at byte 12"),
    ("column.csv", b"points,label\n1,human\n", BadSource, "expected a column score"),
    ("word.csv", b"score,label\nhigh,human\n", BadSource, "'high' of row 1 is no number"),
    ("label.csv", b"score,label\n1,robot\n", BadSource, "label 'robot' of row 1"),
    ("uneven.csv", b"score,label\n1,human,3\n", BadSource, "row 2 has 3 fields"),
    ("none.csv", b"score\n1\n2\n", BadSource, "2 of 2 rows have no label"),
    ("nan.csv", b"score,label\n,human\nnan,fake\n1,fake\n2,human\n", BadRows, r"2 of 4 .*\(1 human, 1 machine"),
    ("inf.csv", b"score,label\ninf,human\n1,fake\n2,human\n", BadRows, "1 of 3 scores are infinite"),
    ("twice.csv", b"id,score,label\na,1,human\na,1,fake\n", BadSource, "id 'a' comes more than once"),
    ("one.csv", b"score,label\n1,human\n2,human\n", TooFewSamples, "2 human and 0 machine"),
    ("broken.json", b"{", BadSource, "is not JSON"),
    ("shape.json", b'{"a": 1}', BadSource, "list of rows"),
    ("side.json", b'{"predictions": {"real": [1]}}', BadSource, "without lists real and samples"),
    ("line.jsonl", b'{"score": 1}\n{', BadSource, "line 2 is not JSON"),
    ("deep.json", b"[" * 200_000, BadSource, "is not JSON"),
    ("what.txt", b"1\n2\n", BadSource, "one of .csv"),
]


@pytest.mark.parametrize(("name", "content", "error", "match"), BAD, ids=[case[0] for case in BAD])
def test_bad_files_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes, error: type[EvalkitError], match: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match) as raised:
        replay([tmp_path / name])
    assert "\n" not in str(raised.value)


def test_missing_scores_are_left_out_only_when_asked_and_said(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*ROWS, {"id": "n", "score": None, "label": "machine", "domain": "x"}]
    path = written(tmp_path / "a.jsonl", rows)
    study = replay([path], nan="exclude")
    assert study.data["runs"][0]["missing_left_out"] == 1 and study.data["runs"][0]["n"] == {"human": 4, "machine": 4}
    assert any("1 missing scores were left out" in words for words in study.warnings)
    with pytest.raises(BadSource, match="no column 'y'"):
        replay([path], columns={"score": "y"})
    with pytest.raises(BadSetting, match="--higher 'up'"):
        replay([path], nan="exclude", higher="up")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--truth 'maybe'"):
        replay([path], truth="maybe")


def test_constant_and_reversed_scores_are_said(tmp_path: Path) -> None:
    flat = replay([written(tmp_path / "flat.csv", [{**row, "score": 0.5} for row in ROWS])])
    assert flat.data["runs"][0]["auroc"]["value"] == 0.5 and flat.data["runs"][0]["constant_score"] == 0.5
    assert any("every score is 0.5" in words for words in flat.warnings)
    rows = [{"score": -i, "label": "human" if i < 60 else "machine"} for i in range(120)]
    path = written(tmp_path / "down.csv", rows)
    down = replay([path])
    assert any("--higher real" in words for words in down.warnings)
    up = replay([path], higher="auto")
    assert up.data["runs"][0]["scores_negated"] and up.data["runs"][0]["auroc"]["value"] == 1.0
    assert any("--higher auto takes higher scores for human texts" in words for words in up.warnings)
    assert any(row[2] == "score < -56" for row in up.exhibits[1].rows)  # type: ignore[union-attr]


def test_truths_join_by_id(tmp_path: Path) -> None:
    bare = written(tmp_path / "s.csv", [{"id": row["id"], "score": row["score"]} for row in ROWS])
    truth = written(tmp_path / "t.csv", [{"id": row["id"], "model": "human" if i < 4 else "gpt", "domain": "d"} for i, row in enumerate(ROWS)])  # fmt: skip  # noqa: E501
    assert replay([bare], truth=str(truth)).data["runs"][0]["n"] == {"human": 4, "machine": 4}
    with pytest.raises(BadSource, match="4 of 8 rows have no label"):
        replay([bare], truth=str(written(tmp_path / "h.csv", [{"id": f"t{i}", "label": "real"} for i in range(4)])))


def test_the_recorded_runs_replay_to_the_last_digit() -> None:
    study = replay([shared("data", "text", "fastdetectgpt", "gold_scores_gpt3to4.json")])
    runs = study.data["runs"]
    assert len(runs) == 90 and max(abs(run["recorded"]["recorded_less_found"]) for run in runs) <= 1e-12
    own = [r["auroc"]["value"] for r in runs if "analytic" in r["name"] and "davinci" not in r["name"]]
    assert len(own) == 6 and round(sum(own) / 6, 4) == 0.9338
    realised = {run["rates"][0]["realised_fpr"]["value"] for run in runs}
    assert realised == {7 / 150}
