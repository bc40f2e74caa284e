"""plan -> measure -> score: names, settings, protocols, intervals by resampling, judges and what goes missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from evalkit import registry
from evalkit.detection import Judge, Lesson, cross_rows, judge, pooled
from evalkit.errors import BadSetting, ModalityMismatch, TooFewSamples, UnknownName, UsageError
from evalkit.evaluation import Sides, evaluate, is_inconclusive, measure_side
from evalkit.measurement import Bench, measure
from evalkit.planning import Task, check_sizes, instruments, plan
from evalkit.samples import halves
from evalkit.types import Estimate, Excluded, Features, Metric, RunRecord, SampleSet, Subject, Timing, Value, metric
from tests.toys import Mean, images, texts

BENCH = Bench()


@metric(on="pixels", better="lower", unit="grey levels")
def gap(real: Features, fake: Features, *, power: int = 1) -> float:
    """Difference of the means of all rows, raised to a power."""
    return float((fake.rows.mean() - real.rows.mean()) ** power)


@metric(on="pixels", better="lower", unit="none")
def pair(real: Features, fake: Features) -> Mapping[str, Value]:
    """One value with an interval of its own, one without, one that is not a number."""
    return {"own": Estimate(1.0, 0.5, 2.0, "by hand"), "bare": float(fake.rows.mean()), "nan": float("nan")}


def task(made: Metric, instrument: str | None = "mean", **settings: object) -> Task:
    return Task(made, instrument, None, {**made.params, **settings})


def sides(n: int = 40, shift: int = 20) -> Sides:
    return Sides(measure(images(n, 1, shift=shift), [Mean()], BENCH), measure(images(n, 2), [Mean()], BENCH))


def scored(tasks: list[Task], given: Sides) -> RunRecord:
    samples = given.fake.samples
    about = Subject("s", samples.modality, "by hand", len(samples), samples.digest)
    return evaluate(about, given, tasks, seed=0, bench=BENCH)


def test_plan_reads_every_way_to_write_a_name() -> None:
    names = ["fid", "fid@pixels", "prdc@pixels.recall", "prdc.recall@random_conv", "throughput", "fid"]
    tasks = plan(names, "image", with_train=False, with_timing=True)
    assert [(t.label, t.part) for t in tasks] == [
        ("fid@inception", None), ("fid@pixels", None), ("prdc@pixels", "recall"), ("prdc@random_conv", "recall"),
        ("throughput", None),
    ]  # fmt: skip
    assert plan(["fid"], "text", with_train=False, with_timing=False)[0].instrument == "char_ngrams"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("fdi", UnknownName, "did you mean 'fid'"),
        ("fid@pixles", UnknownName, "did you mean 'pixels'"),
        ("perplexity", ModalityMismatch, "no instrument for image"),
        ("throughput@pixels", BadSetting, "reads samples or timing"),
        ("memorization", UsageError, "--train"),
        ("latency", UsageError, "name of a generator"),
    ],
)
def test_plan_refuses_before_anything_runs(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        plan([name], "image", with_train=False, with_timing=False)


def test_defaults_leave_out_what_cannot_be_measured() -> None:
    with_all = {t.metric.name for t in plan(None, "image", with_train=True, with_timing=True)}
    without = {t.metric.name for t in plan(None, "image", with_train=False, with_timing=False)}
    assert with_all - without == {"memorization", "throughput", "latency"}


def test_unknown_settings_are_refused_whether_planned_or_not() -> None:
    with pytest.raises(UnknownName, match="did you mean 'k'"):
        plan(["fid"], "image", with_train=False, with_timing=False, settings={"prdc": {"kk": 3}})
    [chosen] = plan(["prdc"], "image", with_train=False, with_timing=False, settings={"prdc": {"k": 3}})
    assert chosen.settings["k"] == 3


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"prdc": {"k": "abc"}}, "prdc.k = 'abc'; expected a whole number"),
        ({"prdc": {"strict": 1}}, "expected true or false"),
        ({"prdc": {"k": True}}, "expected a whole number"),
        ({"clip_score": {"scale": 2}}, "expected a word"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_with_the_right_one(setting: dict, says: str) -> None:
    with pytest.raises(BadSetting, match=says):
        plan(["prdc"], "image", with_train=False, with_timing=False, settings=setting)


def test_instruments_must_have_the_head_a_metric_reads() -> None:
    with pytest.raises(UsageError, match="reads 'logits', pixels gives features"):
        instruments(plan(["inception_score@pixels"], "image", with_train=False, with_timing=False), "image")
    with pytest.raises(ModalityMismatch, match="measures text"):
        instruments(plan(["fid@char_ngrams"], "image", with_train=False, with_timing=False), "image")


def test_sizes_are_checked_for_the_sides_a_metric_asks_for() -> None:
    tasks = plan(["prdc@pixels"], "image", with_train=False, with_timing=False)
    check_sizes(tasks, fake=images(7), real=images(7), train=images(1))
    with pytest.raises(TooFewSamples, match="needs at least 7 real samples; 'images' has 6"):
        check_sizes(tasks, fake=images(7), real=images(6))


def test_a_bare_number_gets_a_jackknife_that_a_mean_knows_by_hand() -> None:
    given = sides(n=20)
    [found] = scored([task(gap)], given).results
    real, fake = (given.real.features["mean"].rows, given.fake.features["mean"].rows)  # type: ignore[union-attr]
    assert found.value == pytest.approx(float(fake.mean() - real.mean()), rel=1e-5)
    # Leave-one-out of a mean is its standard error, and the two sides add.
    error = (real.double().mean(1).var() / 20 + fake.double().mean(1).var() / 20).sqrt()
    assert found.interval == "jackknife"
    assert (found.high - found.low) / 2 == pytest.approx(float(error) * 2.093, rel=1e-3)


def test_settings_and_content_are_in_the_protocol_and_names_are_not() -> None:
    given = sides()
    [first] = scored([task(gap)], given).results
    [again] = scored([task(gap)], sides()).results
    assert first.protocol == again.protocol and first.terms["settings"] == {"power": 1}
    [cubed] = scored([task(gap, power=3)], given).results
    [smaller] = scored([task(gap)], replace(given, fake=sides(30).fake)).results
    [elsewhere] = scored([task(gap)], replace(given, real=measure(images(40, 9), [Mean()], BENCH))).results
    assert len({r.protocol for r in (first, cubed, smaller, elsewhere)}) == 4


def test_own_intervals_stay_and_a_value_that_is_no_number_is_missing_with_its_reason() -> None:
    record = scored([task(pair)], sides())
    assert [r.name for r in record.results] == []
    assert "pair@mean is missing: nan is not finite" in record.warnings[0]

    def only_finite(real: Features, fake: Features) -> Mapping[str, Value]:
        return {k: v for k, v in pair.fn(real, fake).items() if k != "nan"}  # type: ignore[union-attr]

    found = {r.name: r for r in scored([task(replace(pair, fn=only_finite))], sides()).results}
    assert (found["pair@mean.own"].low, found["pair@mean.own"].high, found["pair@mean.own"].interval) == (
        0.5,
        2.0,
        "by hand",
    )
    assert found["pair@mean.bare"].interval == "jackknife"
    part = Task(replace(pair, fn=only_finite), "mean", "bare", {})
    assert [r.name for r in scored([part], sides()).results] == ["pair@mean.bare"]


def test_a_metric_that_refuses_is_missing_and_the_record_is_inconclusive() -> None:
    def refuses(real: Features, fake: Features, *, power: int) -> float:
        raise TooFewSamples("too few for this")

    record = scored([task(replace(gap, fn=refuses)), task(gap)], sides())
    assert record.warnings == ("gap@mean is missing: too few for this",)
    assert len(record.results) == 1 and is_inconclusive(record)
    assert not is_inconclusive(scored([task(gap)], sides()))


def test_more_than_one_percent_unreadable_is_inconclusive() -> None:
    record = scored([task(gap)], sides(n=99))
    one = replace(record, excluded=(Excluded("x", "corrupt"),))
    two = replace(record, excluded=(Excluded("x", "corrupt"), Excluded("y", "corrupt")))
    assert not is_inconclusive(one) and is_inconclusive(two)


def test_a_delta_interval_below_four_times_the_columns_warns() -> None:
    tasks = plan(["fid@pixels"], "image", with_train=False, with_timing=False)
    made = instruments(tasks, "image")
    fake, real = (measure_side(w, images(50, i), tasks, made, BENCH) for i, w in enumerate(("fake", "real")))
    assert "n = 50 is below the 192 columns" in scored(list(tasks), Sides(fake, real)).warnings[0]


def test_text_metrics_read_the_samples_themselves() -> None:
    samples: SampleSet = texts("a b a b", "c d e", "a b c")
    tasks = plan(["distinct"], "text", with_train=False, with_timing=False)
    [found] = scored(list(tasks), Sides(measure(samples, [], BENCH))).results
    assert found.name == "distinct" and found.value == pytest.approx(5 / 7)
    assert found.n == {"fake": 3} and "reference" not in found.terms


def test_timing_goes_into_the_protocol_with_its_device() -> None:
    timing = Timing((0.5,) * 4 + (0.01,) * 5, (64,) * 4 + (1,) * 5, "a device", 0)
    tasks = plan(["throughput", "latency.p50"], "image", with_train=False, with_timing=True)
    record = scored(list(tasks), replace(sides(), timing=timing))
    assert [r.value for r in record.results] == pytest.approx([128.0, 10.0])
    assert all(r.terms["device"] == "a device" for r in record.results)
    assert record.timing is not None and record.timing["latency_ms"]["p50"] == pytest.approx(10.0)


def test_a_judge_tests_only_what_it_never_saw() -> None:
    real, fake = images(60, 1), images(60, 2, shift=60)
    found = judge("spectrum", real, fake, seed=0, bench=BENCH)
    _, test = halves(real)
    assert {s.digest for s in found.real.samples} == {s.digest for s in test}
    assert len(found.real) == len(found.fake) == 30
    lesson = Lesson(images(30, 3), images(30, 4, shift=60), "by hand")
    taught = judge("spectrum", real, fake, seed=0, bench=BENCH, lesson=lesson)
    assert len(taught.real) == len(taught.fake) == 60 and taught.fitted_on["rule"] == "by hand"


def test_cross_rows_fit_the_row_and_test_the_column() -> None:
    real = images(40, 1)
    judges: dict[str, Judge] = {
        name: judge("spectrum", real, images(40, seed, shift=shift), seed=0, bench=BENCH)
        for name, seed, shift in (("near", 5, 0), ("far", 6, 80))
    }
    table = cross_rows(judges, BENCH)
    assert set(table) == {(a, b) for a in judges for b in judges}
    assert torch.equal(table["near", "near"][1].rows, judges["near"].fake.rows)
    assert [s.digest for s in table["near", "far"][1].samples] == [s.digest for s in judges["far"].fake.samples]


def test_pooled_samples_keep_where_they_came_from() -> None:
    both = pooled([images(2, 1, name="a"), images(3, 2, name="b")])
    assert [s.group for s in both] == ["a", "a", "b", "b", "b"] and both.name == "a+b"


def test_every_metric_on_its_default_instrument_runs_on_small_real_sets() -> None:
    names = [f"{metric}@random_conv" for metric in ("fid", "kid", "prdc", "c2st")]
    tasks = plan(names, "image", with_train=False, with_timing=False)
    made = instruments(tasks, "image")
    fake, real = (measure_side(w, images(40, i), tasks, made, BENCH) for i, w in enumerate(("fake", "real")))
    found = {r.name.split("@")[0] for r in scored(list(tasks), Sides(fake, real)).results}
    assert found == {"fid", "kid", "prdc", "c2st"} <= set(registry.metrics.names())
