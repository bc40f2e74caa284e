"""Records, the cache's atomic writes, settings and the doors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import registry
from evalkit.cache import Cache, beside, digest_of
from evalkit.errors import BadRecord, BadSetting, EvalkitError, ExitCode, RunFailed, UnknownName, UnwritableOutput
from evalkit.records import read_record, to_json, write_record
from evalkit.settings import Settings, resolve
from evalkit.types import Excluded, MetricResult, Reference, RunRecord, Subject, metric


def result(name: str = "fid@pixels", value: float = 2.0, **changes: object) -> MetricResult:
    made = MetricResult(
        name=name, value=value, low=value - 0.5, high=value + 0.5, level=0.95, interval="delta", better="lower",
        unit="squared feature distance", n={"real": 10, "fake": 10}, version=1, protocol="sha256:p",
        terms={"metric": "fid"}, seconds=0.1,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def record(name: str = "a", *results: MetricResult, **changes: object) -> RunRecord:
    made = RunRecord(
        subject=Subject(name, "image", f"samples/{name}", 10, "sha256:s"),
        reference=Reference("real", 10, "sha256:r"),
        train=None,
        seed=0,
        results=results or (result(),),
        timing=None,
        environment={"evalkit": "0", "device": "cpu"},
        excluded=(Excluded("x.png", "truncated"),),
        warnings=("careful",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(record(), tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == record()


def test_the_json_is_the_contract(tmp_path: Path) -> None:
    body = to_json(record())
    assert list(body) == [
        "schema", "subject", "reference", "train", "seed", "results", "timing", "environment", "excluded", "warnings",
    ]  # fmt: skip
    assert body["schema"] == "evalkit.run/1"
    assert {
        "name",
        "value",
        "low",
        "high",
        "level",
        "interval",
        "better",
        "unit",
        "n",
        "version",
        "protocol",
        "terms",
    } <= set(body["results"][0])
    write_record(record(), tmp_path / "r.json")
    strict = json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert strict["results"][0]["n"] == {"real": 10, "fake": 10}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not strict JSON"),
        ('{"schema": "evalkit.run/2"}', "schema 'evalkit.run/2'; this version reads 'evalkit.run/1'"),
        ("[]", "schema None"),
        ('{"schema": "evalkit.run/1"}', "damaged"),
        ('{"schema": "evalkit.run/1", "x": NaN}', "it holds NaN"),
    ],
)
def test_what_is_not_a_record_is_refused_in_words(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadRecord, match=says):
        read_record(tmp_path / "r.json")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    with pytest.raises(RuntimeError), beside(tmp_path / "f") as draft:
        draft.write_text("half")
        raise RuntimeError
    assert (tmp_path / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    with pytest.raises(UnwritableOutput, match="choose a writable place"), beside(tmp_path / "f" / "g"):
        pass


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_digest_of_does_not_depend_on_the_order_of_keys(terms: dict[str, object]) -> None:
    assert digest_of(terms) == digest_of(dict(reversed(terms.items())))
    assert digest_of(terms) != digest_of({**terms, "one more": 1})


def test_cache_counts_and_clears_only_its_own(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_json("samples", "k", {"a": 1})
    (tmp_path / "mine.txt").write_text("not yours")
    assert cache.get_json("samples", "k") == {"a": 1}
    assert cache.info()["samples"][0] == 1
    cache.clear()
    assert cache.get_json("samples", "k") is None
    assert (tmp_path / "mine.txt").exists()
    nothing = Cache(None)
    nothing.put_json("samples", "k", 1)
    assert nothing.get_json("samples", "k") is None


def test_exit_codes_outrank_each_other_as_promised() -> None:
    order = [ExitCode.USAGE, ExitCode.RUN_FAILED, ExitCode.NOTHING, ExitCode.FAILED_GATE, ExitCode.INCONCLUSIVE]
    for i, code in enumerate(order):
        assert ExitCode.worst([*order[i:], ExitCode.DONE]) == code
    assert ExitCode.worst([]) == ExitCode.DONE
    assert [int(c) for c in ExitCode] == [0, 1, 2, 3, 4, 5, 130, 143]


def test_settings_take_the_call_over_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evalkit.toml").write_text(
        'seed = 1\nn = 10\nmetrics = ["fid"]\n[metric.kid]\ndegree = 2\n[gate.fid]\nmax = 1\n'
    )
    assert resolve({}, tmp_path) == Settings(seed=1, n=10, metrics=("fid",), metric={"kid": {"degree": 2}})
    monkeypatch.setenv("EVALKIT_SEED", "2")
    assert resolve({}, tmp_path).seed == 2
    assert resolve({"seed": 3}, tmp_path).seed == 3
    (tmp_path / "evalkit.toml").unlink()
    (tmp_path / "pyproject.toml").write_text("[tool.evalkit]\nn = 77\n")
    assert resolve({}, tmp_path).n == 77


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("sed = 1", UnknownName, "did you mean 'seed'"),
        ("n = 0", BadSetting, "at least 1"),
        ('n = "many"', BadSetting, "whole number"),
        ('metrics = "fid"', BadSetting, "list of names"),
        ("seed = ", BadSetting, "cannot read configuration"),
    ],
)
def test_bad_configuration_is_refused_in_words(text: str, error: type[Exception], says: str, tmp_path: Path) -> None:
    (tmp_path / "evalkit.toml").write_text(text)
    with pytest.raises(error, match=says):
        resolve({}, tmp_path)


def test_unknown_environment_variable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_SEDE", "1")
    with pytest.raises(UnknownName, match="EVALKIT_SEED"):
        resolve({}, tmp_path)


def test_doors_know_the_nearest_name_and_take_additions() -> None:
    with pytest.raises(UnknownName, match="unknown metric 'fidd'; did you mean 'fid'"):
        registry.metrics.get("fidd")
    door = registry.Door("metric", "evalkit.metrics")

    @metric(on="pixels", better="lower", unit="none")
    def mine(real: object, fake: object) -> float:
        """Nothing, in [0, 0]."""
        return 0.0

    door.add("mine", mine)
    assert door.get("mine") is mine and "mine" in door and "mine" not in registry.metrics
    with pytest.raises(EvalkitError, match="exists already"):
        door.add("fid", mine)


def test_every_built_in_part_loads_and_is_described() -> None:
    for kind, door in registry.DOORS.items():
        for listing in door.listings():
            part = door.get(listing.name)
            assert part is not None and listing.origin == "built in"
            assert len(listing.summary) > 10, f"{kind} {listing.name} has no first sentence"
            if kind != "reports":
                assert part.name == listing.name


def test_a_part_that_cannot_be_imported_is_one_line() -> None:
    door = registry.Door("metric", "evalkit.metrics")
    door._targets["ghost"] = "evalkit.metrics.ghost:ghost"
    with pytest.raises(RunFailed, match=r"the metric 'ghost' .* cannot be loaded"):
        door.get("ghost")


def test_a_metric_may_only_ask_for_what_there_is() -> None:
    with pytest.raises(TypeError, match="asks for 'input1'"):

        @metric(on="pixels", better="lower", unit="none")
        def swapped(input1: object, input2: object) -> float:
            return 0.0
