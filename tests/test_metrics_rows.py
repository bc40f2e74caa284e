"""Metrics of class scores and likelihoods, of timings, and the table of all metrics."""

from __future__ import annotations

import ast
import importlib
import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.errors import BadRows, BadSetting, DoesNotApply, TooFewSamples
from evalkit.metrics import BUILTIN
from evalkit.metrics.inception_score import class_estimates, inception_estimate
from evalkit.metrics.likelihood import corpus_bits_per_byte, corpus_perplexity
from evalkit.metrics.speed import latency, percentile, throughput
from evalkit.resample import group_jackknife
from evalkit.types import Metric, Timing


def one_hot(labels: list[int], classes: int = 4) -> torch.Tensor:
    return 1000 * torch.nn.functional.one_hot(torch.tensor(labels), classes).float()


def logits(n: int = 60, sure: float = 2.0) -> torch.Tensor:
    return sure * torch.randn(n, 5, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------------------ inception score


def test_inception_score_of_sure_and_even_is_the_number_of_classes():
    assert inception_estimate(one_hot([0, 1, 2, 3] * 5)).value == pytest.approx(4.0)
    assert inception_estimate(one_hot([2] * 20)).value == pytest.approx(1.0)
    assert inception_estimate(torch.zeros(20, 4)).value == pytest.approx(1.0)


def test_inception_score_agrees_with_the_divergences_written_out():
    p = logits().double().softmax(dim=1).numpy()
    divergences = [stats.entropy(row, p.mean(axis=0)) for row in p]
    assert inception_estimate(logits()).value == pytest.approx(math.exp(sum(divergences) / len(p)))


def test_inception_score_agrees_with_torch_fidelity_on_splits():
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    rows = logits(100)
    theirs = isc.isc_features_to_metric(rows, splits=1, shuffle=False)
    assert inception_estimate(rows).value == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    theirs = isc.isc_features_to_metric(rows[order], splits=4, shuffle=False)
    assert inception_estimate(rows, splits=4, seed=3).value == pytest.approx(theirs["inception_score_mean"], rel=1e-5)


def test_inception_interval_is_the_leave_one_out_jackknife():
    rows = logits(30)
    brute = group_jackknife(lambda k: {"": inception_estimate(rows[k[0]]).value}, [30])[""]
    found = inception_estimate(rows)
    assert (found.low, found.high) == pytest.approx((max(1, brute.low), min(5, brute.high)))


def test_inception_score_falls_with_doubt_and_with_lost_classes():
    even = [0, 1, 2, 3] * 10
    assert inception_estimate(one_hot(even) / 500).value < inception_estimate(one_hot(even)).value
    assert inception_estimate(one_hot([0, 1] * 20)).value < inception_estimate(one_hot(even)).value


def test_inception_score_refuses():
    with pytest.raises(BadSetting):
        inception_estimate(logits(), splits=0)
    with pytest.raises(TooFewSamples, match="at least 30"):
        inception_estimate(logits(29), splits=10)
    with pytest.raises(BadRows, match="fake row 0"):
        inception_estimate(torch.full((9, 3), math.nan))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(1, 8), st.floats(0, 30), st.integers(0, 999))
def test_class_scores_stay_in_range(n, classes, sure, seed):
    rows = sure * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    score, parts = inception_estimate(rows), class_estimates(rows)
    assert 1 <= score.low <= score.high <= classes * (1 + 1e-9)
    assert all(0 < e.low <= e.value <= e.high <= 1 + 1e-9 for e in parts.values())
    assert inception_estimate(rows.flip(0)).value == pytest.approx(score.value)


# ------------------------------------------------------------------------------------------------ classes


def test_classes_by_hand():
    found = class_estimates(torch.tensor([[3.0, 0.5], [0.0, 1.0], [0.0, 3.0], [0.0, 1.0]]).clamp_min(1e-30).log())
    # Top probabilities 3/3.5, 1, 1, 1; one of four in class 0: entropy ln 4 - 3/4 ln 3.
    assert found["confidence"].value == pytest.approx((6 / 7 + 3) / 4, abs=1e-6)
    assert found["balance"].value == pytest.approx(math.exp(math.log(4) - 0.75 * math.log(3)) / 2)


def test_classes_extremes_and_orientation():
    even, two, one = (class_estimates(one_hot(labels)) for labels in ([0, 1, 2, 3] * 6, [0, 1] * 12, [0] * 24))
    assert [e["balance"].value for e in (even, two, one)] == pytest.approx([1.0, 0.5, 0.25])
    assert class_estimates(logits(sure=0.5))["confidence"].value < class_estimates(logits())["confidence"].value


def test_classes_intervals():
    rows = logits(30)
    found = class_estimates(rows)
    brute = group_jackknife(lambda k: {"": class_estimates(rows[k[0]])["balance"].value}, [30])[""]
    assert found["balance"].low == pytest.approx(brute.low)
    top = rows.double().softmax(dim=1).amax(dim=1).numpy()
    low, high = stats.t.interval(0.95, 29, loc=top.mean(), scale=stats.sem(top))
    assert (found["confidence"].low, found["confidence"].high) == pytest.approx((low, high))


# ------------------------------------------------------------------------------------------------ likelihood

ROWS = torch.tensor([[2.0, 2.0, 4.0], [6.0, 2.0, 8.0]])


def test_likelihood_by_hand():
    """8 nats over 4 tokens and 12 bytes; the mean of the texts' perplexities would be (e + e^3) / 2."""
    assert corpus_perplexity(ROWS).value == pytest.approx(math.exp(2))
    assert corpus_bits_per_byte(ROWS).value == pytest.approx(8 / 12 / math.log(2))


def test_perplexity_agrees_with_torchmetrics():
    text = pytest.importorskip("torchmetrics.text")
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(6, 11, 7, generator=g), torch.randint(7, (6, 11), generator=g)
    theirs = text.Perplexity()
    theirs.update(scores, targets)
    nats = -scores.log_softmax(dim=2).gather(2, targets[:, :, None])[:, :, 0].sum(dim=1)
    rows = torch.stack([nats, torch.full((6,), 11.0), torch.full((6,), 30.0)], dim=1)
    assert corpus_perplexity(rows).value == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_one_token_a_byte_makes_the_two_one_number():
    g = torch.Generator().manual_seed(0)
    size = torch.randint(5, 90, (40,), generator=g).float()
    rows = torch.stack([size * torch.rand(40, generator=g), size, size], dim=1)
    bits, perplexity = corpus_bits_per_byte(rows), corpus_perplexity(rows)
    assert 2**bits.value == pytest.approx(perplexity.value)
    assert bits.low < bits.value < bits.high


@pytest.mark.parametrize("metric", [corpus_perplexity, corpus_bits_per_byte])
def test_likelihood_interval_orientation_and_order(metric):
    g = torch.Generator().manual_seed(0)
    rows = torch.rand(25, 3, generator=g) + 0.5
    brute = group_jackknife(lambda k: {"": metric(rows[k[0]]).value}, [25])[""]
    found = metric(rows)
    assert found.high == pytest.approx(brute.high)
    assert metric(rows.flip(0)).value == pytest.approx(found.value)
    assert metric(rows * torch.tensor([1.3, 1, 1])).value > found.value


def test_likelihood_refuses():
    with pytest.raises(BadRows, match="no tokens"):
        corpus_perplexity(torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]))
    with pytest.raises(BadRows, match="2 columns"):
        corpus_bits_per_byte(ROWS[:, :2])
    with pytest.raises(TooFewSamples):
        corpus_perplexity(ROWS[:1])


# ------------------------------------------------------------------------------------------------ speed


def timing(*calls: tuple[int, float]) -> Timing:
    return Timing(tuple(s for _, s in calls), tuple(n for n, _ in calls), "cpu", 0)


def test_throughput_by_hand():
    """Only the two calls of 64 count: 128 samples in 0.5 s."""
    found = throughput(timing((1, 0.9), (64, 0.2), (64, 0.3), (8, 7.0)))
    assert found.value == pytest.approx(256)
    assert 0 <= found.low < found.value < found.high


def test_one_call_has_no_interval_and_says_so():
    found = throughput(timing((64, 0.5)))
    assert (found.low, found.high, found.method) == (128.0, 128.0, "one call")


def test_latency_by_hand():
    found = latency(timing(*((1, i / 1000) for i in range(1, 101)), (64, 9.0)))
    assert {k: e.value for k, e in found.items()} == pytest.approx({"p50": 50.5, "p95": 95.05, "p99": 99.01})


@pytest.mark.parametrize(("n", "percent"), [(20, 50), (100, 50), (100, 95), (400, 99)])
def test_percentile_interval_has_its_chance(n, percent):
    """The chance that order statistics enclose the percentile is a sum of binomial terms; it must reach 95 %."""
    found = percentile(torch.arange(1.0, n + 1).double(), percent)
    low, high = int(found.low), int(found.high)
    inside = stats.binom.cdf(high - 1, n, percent / 100) - stats.binom.cdf(low - 1, n, percent / 100)
    assert inside >= 0.95
    narrower = stats.binom.cdf(high - 2, n, percent / 100) - stats.binom.cdf(low, n, percent / 100)
    assert narrower < 0.95


def test_a_slower_generator_is_worse():
    fast, slow = (timing(*((n, k * t) for n, t in ((1, 0.1), (1, 0.12), (8, 0.3), (8, 0.31)))) for k in (1, 3))
    assert throughput(slow).value == pytest.approx(throughput(fast).value / 3)
    assert latency(slow)["p50"].value == pytest.approx(3 * latency(fast)["p50"].value)


def test_speed_refuses_what_was_not_timed():
    with pytest.raises(DoesNotApply, match="single sample"):
        latency(timing((64, 0.5)))
    with pytest.raises(TooFewSamples, match="throughput"):
        throughput(timing())


# ------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("name", BUILTIN)
def test_every_metric_can_be_listed_without_running_it(name):
    module, _, attribute = BUILTIN[name].partition(":")
    made = getattr(importlib.import_module(module), attribute)
    assert isinstance(made, Metric)
    assert made.name == name == attribute
    source = ast.parse(inspect.getsource(importlib.import_module(module)))
    node = next(n for n in source.body if isinstance(n, ast.FunctionDef) and n.name == name)
    facts = {k.arg: ast.literal_eval(k.value) for k in node.decorator_list[0].keywords}
    assert {"on", "better", "unit", "min_n"} <= facts.keys()
    assert (ast.get_docstring(node) or "").split("\n")[0].endswith(".")
