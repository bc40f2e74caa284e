"""Numbers of groups, of parts made on request, of prompts and of statistics files; what each sample adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from evalkit.attribution import attribution_lines, has_worst
from evalkit.errors import UnknownName, UsageError
from evalkit.evaluation import Sides, as_features, evaluate
from evalkit.measurement import Bench, measure
from evalkit.planning import Task
from evalkit.records import dumps, read_record, to_json, write_record
from evalkit.samples import ListedSet, select
from evalkit.samples.statistics import StatisticsSet
from evalkit.types import Estimate, Features, Metric, Part, RunRecord, Share, Subject, metric
from tests.toys import Mean, images

BENCH = Bench()


@metric(on="pixels", better="lower", unit="grey levels", min_n=3)
def gap(real: Features, fake: Features) -> Mapping[str, Part]:
    """Difference of the means, with what each sample adds; `squared` only when it is asked for."""
    value = float(fake.rows.mean() - real.rows.mean())
    own = Estimate(value, value, value, "none", per_sample=fake.rows.mean(dim=1).double() - value)
    return {"": own, "squared": lambda: Estimate(value**2, 0.0, 1.0, "none")}


@metric(on="pixels", better="higher", unit="share", min_n=1)
def agreement(fake: Features, prompts: Features) -> float:
    """Mean product of a sample's first column and its prompt's length."""
    return float((fake.rows[:, 0] * prompts.rows[:, 0]).mean())


def task(made: Metric, part: str | None = None) -> Task:
    return Task(made, "mean", part, dict(made.params))


def grouped(n: int, seed: int, groups: str, shift: int = 0) -> ListedSet:
    made = images(n, seed, shift=shift)
    samples = tuple(replace(s, group=groups[i % len(groups)]) for i, s in enumerate(made))
    return replace(made, samples=samples)


def sides(fake: ListedSet, real: ListedSet) -> Sides:
    return Sides(measure(fake, [Mean()], BENCH), measure(real, [Mean()], BENCH))


def scored(given: Sides, *tasks: Task, **wishes: bool) -> RunRecord:
    samples = given.fake.samples
    about = Subject("s", samples.modality, "by hand", len(samples), samples.digest)
    return evaluate(about, given, tasks, seed=0, bench=BENCH, **wishes)


def test_a_group_is_scored_as_if_it_were_the_whole_set() -> None:
    fake, real = grouped(30, 1, "ab", shift=20), grouped(33, 2, "abc")
    record = scored(sides(fake, real), task(gap), per_group=True)
    found = {r.name: r for r in record.results}
    assert list(found) == ["gap@mean", "gap@mean.group=a", "gap@mean.group=b"]
    own = [select(side, [i for i, s in enumerate(side) if s.group == "a"]) for side in (fake, real)]
    [alone] = scored(sides(*own), task(gap)).results
    assert found["gap@mean.group=a"].value == alone.value
    assert found["gap@mean.group=a"].n == {"real": 11, "fake": 15}
    assert found["gap@mean.group=a"].protocol != alone.protocol


def test_a_group_too_small_is_missing_with_its_reason_and_ungrouped_reals_have_no_groups() -> None:
    record = scored(sides(grouped(30, 1, "a" * 14 + "b"), grouped(30, 2, "ab")), task(gap), per_group=True)
    assert "gap@mean.group=b is missing: 2 fake samples of this group; at least 3 are needed" in record.warnings
    record = scored(sides(grouped(30, 1, "xy"), grouped(30, 2, "a")), task(gap), per_group=True)
    assert "gap@mean.group=x is missing: no real sample of group 'x'" in record.warnings
    record = scored(sides(grouped(30, 1, "ab"), images(30, 2)), task(gap), per_group=True)
    assert [r.name for r in record.results] == ["gap@mean"]


def test_what_each_sample_adds_is_kept_when_asked_and_survives_the_file(tmp_path) -> None:
    given = sides(grouped(12, 1, "ab", shift=20), images(12, 2))
    assert scored(given, task(gap)).attribution is None
    assert "attribution" not in to_json(scored(given, task(gap)))
    record = scored(given, task(gap), attribution=True)
    shares = record.attribution["gap@mean"]
    own = given.fake.features["mean"].rows.mean(dim=1).double() - record.results[0].value
    assert [s.id for s in shares] == [s.id for s in given.fake.samples]
    assert [s.group for s in shares] == ["a", "b"] * 6
    assert [s.value for s in shares] == pytest.approx(own.tolist())
    write_record(record, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json").attribution == record.attribution
    assert dumps(to_json(read_record(tmp_path / "r.json"))) == dumps(to_json(record))


def test_samples_that_are_worst_alike_are_counted_and_none_is_picked() -> None:
    shares = tuple(Share(str(i), float(i >= 9), None) for i in range(12))
    assert not has_worst(shares, "higher") and has_worst(shares[8:], "higher")
    made = scored(sides(images(12, 1), images(12, 2)), task(gap))
    name = made.results[0].name
    assert list(attribution_lines(replace(made, attribution={name: shares}))) == [
        f"s: samples that harm {name} most (all are in the record)",
        *(f"  {1:+10.4g}  {i}" for i in (10, 11, 9)),
        *(f"  {0:+10.4g}  {i}" for i in (0, 1)),
    ]
    tied = tuple(replace(s, value=-s.value) for s in shares)
    assert list(attribution_lines(replace(made, attribution={name: tied}))) == [
        f"s: 9 of 12 samples are worst alike for {name} (see the record)"
    ]


def test_a_part_given_as_a_call_is_made_only_when_asked_for() -> None:
    given = sides(images(12, 1, shift=20), images(12, 2))
    assert [r.name for r in scored(given, task(gap)).results] == ["gap@mean"]
    [squared] = scored(given, task(gap, "squared")).results
    [plain] = scored(given, task(gap)).results
    assert (squared.name, squared.value) == ("gap@mean.squared", pytest.approx(plain.value**2))
    with pytest.raises(UnknownName, match="part of gap@mean 'cubed'"):
        scored(given, task(gap, "cubed"))


def test_prompts_go_with_their_samples_and_their_content_is_in_the_protocol() -> None:
    given = sides(images(12, 1), images(12, 2))
    lengths = torch.arange(12.0)[:, None]
    prompts = Features(lengths, "toy:length", given.fake.samples)
    [found] = scored(replace(given, prompts={"mean": prompts}), task(agreement)).results
    expected = (given.fake.features["mean"].rows[:, 0] * lengths[:, 0]).mean()
    assert found.value == pytest.approx(float(expected))
    assert found.low < found.value < found.high
    assert found.terms["prompts_read_by"] == "toy:length"
    assert scored(given, task(agreement)).warnings == (
        "agreement@mean is missing: it needs the prompt of every sample",
    )


def test_statistics_of_another_instrument_are_refused() -> None:
    file = SimpleNamespace(instrument={"name": "other", "digest": "toy:other"})
    samples = StatisticsSet.__new__(StatisticsSet)
    object.__setattr__(samples, "statistics", file)
    object.__setattr__(samples, "name", "reference")
    with pytest.raises(UsageError, match=r"made with other .* not with mean"):
        as_features(samples, Mean())


def test_a_metric_without_a_reference_needs_groups_on_its_own_side_only() -> None:
    @metric(on="pixels", better="higher", unit="grey levels")
    def brightness(fake: Features) -> float:
        """Mean of all rows."""
        return float(fake.rows.mean())

    record = scored(sides(grouped(20, 1, "ab"), images(20, 2)), task(brightness), task(gap), per_group=True)
    names = [r.name for r in record.results]
    assert names == ["brightness@mean", "brightness@mean.group=a", "brightness@mean.group=b", "gap@mean"]
    assert record.warnings == ("no number by group against the real samples: they carry no groups",)
