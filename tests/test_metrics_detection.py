"""Metrics of detector scores: AUROC, average precision, equal error rate, TPR at FPR, and the ROC curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics.curves import roc_points
from evalkit.metrics.detection import (
    area_under_roc,
    average_precision_estimate,
    equal_error_rate,
    true_positive_rate,
    wilson,
)

METRICS = (area_under_roc, average_precision_estimate, equal_error_rate, true_positive_rate)

# Few distinct values, so that ties are the rule.
scores = st.lists(st.integers(0, 8).map(lambda i: i / 8), min_size=20, max_size=40).map(torch.tensor)


def labelled(real, fake):
    return np.repeat([0, 1], [len(real), len(fake)]), torch.cat([real, fake]).numpy()


def drawn(shift: float, n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, generator=g), torch.randn(n + 30, generator=g) + shift


def test_auroc_by_hand():
    """Of the four pairs of (1, 3) and (2, 3): above, above, below, tied."""
    assert area_under_roc(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0])).value == (1 + 1 + 0 + 0.5) / 4


def test_auroc_interval_has_delongs_variance():
    """DeLong's covariance written out over all pairs, on the logit scale."""
    real, fake = drawn(1.0)
    wins = (fake[:, None] > real).double()
    error = math.sqrt(float(wins.mean(dim=1).var() / len(fake) + wins.mean(dim=0).var() / len(real)))
    found = area_under_roc(real, fake)
    a = found.value
    logits = [math.log(x / (1 - x)) for x in (found.low, a, found.high)]
    assert (
        logits[2] - logits[1] == pytest.approx(logits[1] - logits[0]) == pytest.approx(1.959964 * error / a / (1 - a))
    )


def test_complete_separation_is_not_certainty():
    found = area_under_roc(torch.zeros(50), torch.ones(80))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 / (1 + 1.959964**2 / 50))
    assert area_under_roc(torch.ones(50), torch.zeros(80)).low == 0.0
    tied = area_under_roc(torch.zeros(50), torch.zeros(80))
    assert (tied.low, tied.value, tied.high) == (0.5, 0.5, 0.5)


@settings(max_examples=40, deadline=None)
@given(scores, scores)
def test_areas_agree_with_scikit_learn(real, fake):
    truth, values = labelled(real, fake)
    assert area_under_roc(real, fake).value == pytest.approx(roc_auc_score(truth, values))
    assert average_precision_estimate(real, fake).value == pytest.approx(average_precision_score(truth, values))


@settings(max_examples=40, deadline=None)
@given(scores, scores)
def test_auroc_turns_round_when_the_sides_do(real, fake):
    there, back = area_under_roc(real, fake), area_under_roc(fake, real)
    assert there.value == pytest.approx(1 - back.value)
    assert there.low == pytest.approx(1 - back.high, abs=1e-9)
    assert area_under_roc(-fake, -real).value == pytest.approx(there.value)


def test_average_precision_by_hand():
    """Ranked fake, real, fake: precision 1 at recall 1/2, then 2/3 at recall 1."""
    found = average_precision_estimate(torch.tensor([2.0, 0.0]), torch.tensor([3.0, 1.0]))
    assert found.value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_eer_by_hand():
    # One of four real ones lies above one of four fake ones: 1/4 false alarms, 1/4 misses.
    assert equal_error_rate(torch.tensor([1.0, 2, 3, 6]), torch.tensor([5.0, 7, 8, 9])).value == pytest.approx(0.25)
    # All tied: the curve is the diagonal, crossed in its middle.
    assert equal_error_rate(torch.zeros(5), torch.zeros(9)).value == pytest.approx(0.5)
    assert equal_error_rate(torch.zeros(5), torch.ones(9)).value == 0.0


@settings(max_examples=40, deadline=None)
@given(scores, scores)
def test_eer_is_where_the_interpolated_curve_crosses(real, fake):
    fpr, tpr, _ = roc_curve(*labelled(real, fake), drop_intermediate=False)
    # Along the curve's length both rates are piecewise linear, and the difference of the errors never falls.
    length = fpr + tpr
    crossing = np.interp(1.0, length, fpr)
    assert equal_error_rate(real, fake).value == pytest.approx(crossing, abs=1e-9)


def test_tpr_at_fpr_by_hand():
    """Twenty real scores 1..20; at 5 % one false alarm is allowed, so everything above 19 is called fake."""
    real = torch.arange(1.0, 21.0)
    assert true_positive_rate(real, torch.tensor([18.5, 19.0, 19.5, 25.0])).value == 0.5
    assert true_positive_rate(real, torch.tensor([17.5, 18.0, 18.5, 25.0]), fpr=0.1).value == 0.5


@settings(max_examples=40, deadline=None)
@given(scores, scores, st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_tpr_at_fpr_is_the_best_point_that_keeps_the_promise(real, fake, fpr):
    alarms, catches, _ = roc_curve(*labelled(real, fake), drop_intermediate=False)
    assert true_positive_rate(real, fake, fpr=fpr).value == pytest.approx(catches[alarms <= fpr + 1e-9].max())


@pytest.mark.parametrize("metric", METRICS)
def test_a_better_detector_is_worse_news_for_the_generator(metric):
    values = [metric(*drawn(shift)).value for shift in (0.0, 1.0, 3.0)]
    assert values == sorted(values, reverse=metric is equal_error_rate)


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_hold_their_value_repeat_and_shrink(metric):
    found = metric(*drawn(1.0))
    assert 0 <= found.low < found.value < found.high <= 1
    assert found == metric(*drawn(1.0))
    larger = metric(*drawn(1.0, 3200))
    assert larger.high - larger.low == pytest.approx((found.high - found.low) / 4, rel=0.4)


@pytest.mark.parametrize("metric", METRICS)
def test_order_of_samples_and_shape_of_the_column_do_not_matter(metric):
    real, fake = drawn(0.5)
    assert metric(real[:, None], fake[:, None]) == metric(real, fake)
    assert metric(real.flip(0), fake).value == pytest.approx(metric(real, fake).value)


@pytest.mark.parametrize("metric", METRICS)
def test_refusals(metric):
    good = torch.rand(30, generator=torch.Generator().manual_seed(0))
    with pytest.raises(BadRows, match="fake row 0"):
        metric(good, torch.full((30,), math.inf))
    with pytest.raises(BadRows, match="one score a sample"):
        metric(good, torch.rand(30, 2))
    with pytest.raises(TooFewSamples, match="1 fake"):
        metric(good, good[:1])


def test_tpr_refuses_a_rate_it_cannot_measure():
    with pytest.raises(TooFewSamples, match="at least 100"):
        true_positive_rate(torch.rand(99), torch.rand(99), fpr=0.01)
    with pytest.raises(BadSetting):
        true_positive_rate(torch.rand(99), torch.rand(99), fpr=1.0)


def test_wilson_by_hand():
    """5 of 10: centre 0.5, half width z sqrt(0.025 + z^2 / 400) / (1 + z^2 / 10)."""
    z = 1.959964
    reach = z * math.sqrt(0.025 + z * z / 400) / (1 + z * z / 10)
    assert wilson(0.5, 10) == pytest.approx((0.5 - reach, 0.5 + reach), rel=1e-6)


def test_roc_points_by_hand():
    assert roc_points(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0])) == [
        (0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0),
    ]  # fmt: skip
    assert roc_points(torch.zeros(3), torch.zeros(4)) == [(0.0, 0.0), (1.0, 1.0)]


@settings(max_examples=40, deadline=None)
@given(scores, scores)
def test_roc_points_keep_the_area(real, fake):
    points = np.array(roc_points(real, fake))
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(area_under_roc(real, fake).value)


def test_thinned_roc_keeps_its_ends_and_its_shape():
    real, fake = drawn(1.0, 5000)
    points = np.array(roc_points(real, fake, limit=100))
    assert len(points) <= 100
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(area_under_roc(real, fake).value, abs=0.002)
