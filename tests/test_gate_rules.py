"""What a gate is told: tables of a configuration, options, names in short, and every mistake as one clear line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evalkit
from evalkit.cli import run
from evalkit.commands.gate import rules_of
from evalkit.errors import BadSetting, EvalkitError, UnknownName, UsageError
from evalkit.gating.names import full_name
from evalkit.gating.rules import KEYS, gate_of, rule_of
from evalkit.records import write_record
from evalkit.settings import resolve
from evalkit.types import Floor, Rule
from tests.test_gate import NAME, number
from tests.test_gate import run as run_record

pytestmark = pytest.mark.usefixtures("at_home")


@pytest.fixture
def written(at_home: Path) -> Path:
    write_record(run_record(number()), Path("run.json"))
    write_record(run_record(number(2.6)), Path("worse.json"))
    return at_home


def same(name: str) -> str:
    return name


# ---------------------------------------------------------------------------------------------- tables


def test_a_rule_of_every_key() -> None:
    own = {"min": 1, "max": 20.5, "max_increase": "5%", "max_decrease": 0.5, "min_n": 2048, "require": False}
    rule = rule_of(NAME, {**own, "confident": True})
    assert rule == Rule(NAME, 1.0, 20.5, Floor(0.05, True), Floor(0.5), 2048, False, True)
    assert set(KEYS) == {*own, "confident"}
    assert rule_of(NAME, {"max_increase": " 2.5 % "}).max_increase == Floor(0.025, True)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({NAME: {"maximum": 20}}, "did you mean 'max'"),
        ({NAME: {"max_incraese": "5%"}}, "did you mean 'max_increase'"),
        ({NAME: {"max": "20"}}, "expected a number"),
        ({NAME: {"max": True}}, "expected a number"),
        ({NAME: {"max": math.nan}}, "expected a number"),
        ({NAME: {"max": math.inf}}, "expected a number"),
        ({NAME: {"max": 10**400}}, "expected a number"),
        ({NAME: {"max": [1]}}, "expected a number"),
        ({NAME: {"max_increase": "5"}}, 'such as "5%"'),
        ({NAME: {"max_increase": "-5%"}}, 'such as "5%"'),
        ({NAME: {"max_increase": "1e9%"}}, 'such as "5%"'),
        ({NAME: {"max_increase": -1}}, "expected 0 or more"),
        ({NAME: {"max_increase": False}}, "expected a number"),
        ({NAME: {"min_n": 0}}, "at least 1"),
        ({NAME: {"min_n": 2048.0}}, "whole number"),
        ({NAME: {"min_n": 2**70}}, "whole number"),
        ({NAME: {"require": "yes", "max": 1}}, "true or false"),
        ({NAME: {"confident": 1, "max": 1}}, "true or false"),
        ({NAME: {"confident": True, "max_increase": 1}}, "speaks of min and max"),
        ({NAME: {"min": 3, "max": 2}}, "no value passes"),
        ({NAME: {}}, "asks nothing"),
        ({NAME: {"require": False}}, "asks nothing"),
        ({NAME: 20}, "expected a table"),
        ({"maks": 20}, "did you mean 'max'"),
        ({"alfa": 0.1, NAME: {"max": 1}}, "did you mean 'alpha'"),
        ({"prdc": {"recall": {"min": 0.5}}}, 'in quotes: [gate."prdc.recall"]'),
        ({"alpha": 0, NAME: {"max": 1}}, "between 0 and 0.5"),
        ({"alpha": "5%", NAME: {"max": 1}}, "expected a number"),
        ({"adjust": "holmes", NAME: {"max": 1}}, "did you mean 'holm'"),
        ({"require": "fid", NAME: {"max": 1}}, "list of metric names"),
        ({"require": [NAME], NAME: {"max": 1, "require": False}}, "keep one"),
        ({}, "no rules to judge by"),
        ({"alpha": 0.1}, "no rules to judge by"),
    ],
)
def test_a_mistake_in_a_table_is_one_line(table: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as error:
        gate_of(table, {}, same)
    assert says in str(error.value) and "\n" not in str(error.value)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([NAME, "alpha", "adjust", "require", "max"]) | st.text(max_size=8), HOSTILE))
def test_any_table_is_a_gate_or_an_error_in_words(table: dict[str, Any]) -> None:
    try:
        made = gate_of(table, {}, same)
    except EvalkitError as error:
        assert str(error)
    else:
        assert made.rules and json.dumps(made.plain(), allow_nan=False)


@given(st.dictionaries(st.sampled_from(KEYS), HOSTILE, min_size=1))
def test_any_rule_is_a_rule_or_an_error_in_words(own: dict[str, Any]) -> None:
    try:
        rule = rule_of(NAME, own)
    except EvalkitError as error:
        assert str(error)
    else:
        limits = [x for x in (rule.min, rule.max) if x is not None]
        assert all(math.isfinite(x) for x in limits)


def test_options_lie_over_the_file_key_by_key() -> None:
    table = {"fid": {"max": 20, "min_n": 5}, "require": ["kid@pixels"], "alpha": 0.01}
    full = {"fid": NAME}
    made = gate_of(table, {NAME: {"max": 3.0}}, lambda name: full.get(name, name))
    assert made.rules == (Rule(NAME, max=3.0, min_n=5), Rule("kid@pixels"))
    assert made.alpha == 0.01
    with pytest.raises(BadSetting, match="are both fid@pixels"):
        gate_of({"fid": {"max": 1}, NAME: {"max": 2}}, {}, lambda name: full.get(name, name))


def test_options_are_read() -> None:
    given = {"max": ["a@b=3", "c.group=x=1e-3"], "max_increase": ["a@b=5%"], "min_n": ["a@b=10"]}
    assert rules_of(given) == {"a@b": {"max": 3.0, "max_increase": "5%", "min_n": 10}, "c.group=x": {"max": 0.001}}
    for bad in ("a@b", "=3", "a@b=", "a@b=many"):
        with pytest.raises(BadSetting):
            rules_of({"max": [bad]})
    for bad in ("a=5%", "a=2.5"):
        with pytest.raises(BadSetting, match="whole number"):
            rules_of({"min_n": [bad]})
    with pytest.raises(BadSetting, match="twice"):
        rules_of({"max": ["a=1", "a=2"]})


# ---------------------------------------------------------------------------------------------- names


def test_names_in_short_and_in_full() -> None:
    for name, full in (
        ("fid", "fid@inception"),
        ("kid@digits_net", "kid@digits_net"),
        ("prdc@inception.recall", "prdc@inception.recall"),
        ("prdc.recall@inception", "prdc@inception.recall"),
        ("prdc.recall", "prdc@inception.recall"),
        ("fid@inception:clean", "fid@inception"),
        ("fid.group=cat", "fid@inception.group=cat"),
        ("throughput", "throughput"),
    ):
        assert full_name(name, "image", ()) == full
    # What a record holds needs no registry: a plug-in's number, another team's instrument.
    assert full_name("human@page", "image", ("human@page",)) == "human@page"
    with pytest.raises(UnknownName, match="did you mean 'fid@pixels'"):
        full_name("fid@pixel", "image", (NAME,))
    with pytest.raises(UnknownName, match="unknown metric 'fidd'"):
        full_name("fidd", "image", ())
    with pytest.raises(UsageError, match="no instrument for text"):
        full_name("clip_score", "text", ())


def test_a_known_metric_that_is_not_in_the_record_is_missing_with_a_hint() -> None:
    report = evalkit.gate(run_record(number()), rules={"fid": {"max": 3}})
    assert report.outcome == "inconclusive" and report.checks[0].metric == "fid@inception"
    assert "the record holds fid@pixels" in report.checks[0].advice


# ---------------------------------------------------------------------------------------------- the command line


def test_where_rules_come_from(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate", "run.json"]) == 2
    assert "write [gate." in capsys.readouterr().err
    assert run(["gate", "run.json", "--max", f"{NAME}=3"]) == 0
    Path("pyproject.toml").write_text(f'[tool.evalkit.gate."{NAME}"]\nmax = 1\n')
    assert run(["gate", "run.json"]) == 1
    Path("evalkit.toml").write_text(f'seed = 1\n[gate."{NAME}"]\nmax = 3\nmin_n = 9999\n')
    assert run(["gate", "run.json"]) == 4
    assert run(["gate", "run.json", "--config", "pyproject.toml"]) == 1
    Path("other.toml").write_text(f'[gate]\nrequire = ["{NAME}"]\n')
    assert run(["gate", "run.json", "--config", "other.toml"]) == 0
    assert run(["gate", "run.json", "--config", "other.toml", "--max", f"{NAME}=1"]) == 1
    assert resolve({}).seed == 1  # The table is no setting of a run, and no error in one.


@pytest.mark.parametrize(
    "text",
    [
        "[gate.fid@pixels]\nmax = 1\n",
        "gate = 3\n",
        "[[gate]]\nmax = 1\n",
        '[gate."fid@pixels"]\nmaks = 1\n',
        '[gate."nonsense@nowhere"]\nmax = 1\n',
        '[gate."fid@pixels"]\nmax = nan\n',
        "sead = 1\n",
        '[gate."fid@pixels"]\nmax = 1\n[gate."fid@pixels"]\nmax = 2\n',
        "\udcff",
    ],
)
def test_a_hostile_configuration_is_exit_2_and_one_line(
    text: str, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("evalkit.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run(["gate", "run.json"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("evalkit: ") and err.count("\n") == 1
    Path("evalkit.toml").unlink()
    Path("pyproject.toml").write_text("tool = 3\n")
    assert run(["gate", "run.json"]) == 2


def test_a_report_folder_stands_for_its_record(written: Path) -> None:
    records = Path("report/records")
    write_record(run_record(number()), records / "image-model.json")
    rule = {NAME: {"max_increase": 0}}
    assert evalkit.gate("worse.json", "report", rule).outcome == "pass"
    other = run_record(number(1.0))
    write_record(evalkit.read_record(Path("run.json")).__class__(**{
        **vars(other), "subject": other.subject.__class__(**{**vars(other.subject), "name": "other"})
    }), records / "image-other.json")  # fmt: skip
    # Of several, the one of the same subject: 2.6 against 2.0, not against 1.0.
    found = evalkit.gate("worse.json", "report", rule).checks[0]
    assert found.difference is not None and found.difference.value == pytest.approx(0.6)
    with pytest.raises(UsageError, match="2 run records"):
        evalkit.gate("report", rules=rule)
    Path("empty").mkdir()
    with pytest.raises(UsageError, match="no run record"):
        evalkit.gate("run.json", "empty", rule)
