"""Calibration maps, operating points and p-values: by hand, against other implementations, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error

from evalkit.calibration import (
    METHODS,
    at_prevalence,
    conformal_p_values,
    fitted_map,
    least_reals,
    log_odds,
    low_threshold,
    novelty_p_values,
    operating_point,
    predictive_interval,
    predictive_value,
    proportion,
    temperature,
    venn_abers,
)
from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics.calibration import (
    accuracy,
    brier,
    cllr,
    expected_calibration_error,
    min_cllr,
    oracle_accuracy,
    risk_coverage,
)

RNG = np.random.default_rng(0)


def gaussian(n, m, shift=2.0, seed=0):
    """Log-odds whose exact value is the score: N(-s^2/2, s^2) for reals, N(s^2/2, s^2) for fakes."""
    rng = np.random.default_rng(seed)
    half = shift**2 / 2
    return rng.normal(-half, shift, n), rng.normal(half, shift, m)


def p_of(scores):
    return torch.sigmoid(torch.as_tensor(scores, dtype=torch.float64))


# ---------------------------------------------------------------------------------------------- maps


def test_log_odds_are_finite_and_keep_the_order():
    p = np.array([0.0, 1e-20, 0.5, 0.75, 1 - 2.0**-24, 1.0])
    found = log_odds(p)
    assert found[2] == 0 and found[3] == pytest.approx(np.log(3)) and np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    for wrong in ([0.2, np.nan], [1.2], [-0.1]):
        with pytest.raises(BadRows, match="not a probability"):
            log_odds(wrong)


def test_prevalence_is_bayes_on_the_odds():
    assert at_prevalence(0.9, 0.5) == pytest.approx(0.9)
    # Odds 9 times 1 to 99.
    assert at_prevalence(0.9, 0.01) == pytest.approx((9 / 99) / (1 + 9 / 99))
    with pytest.raises(BadSetting, match="prevalence"):
        at_prevalence(0.9, 0)


def test_temperature_undoes_a_known_sharpening():
    real, fake = gaussian(20_000, 20_000)
    assert temperature(real * 3, fake * 3) == pytest.approx(3, rel=0.05)
    # It is the maximum of the likelihood: the derivative vanishes.
    t = temperature(real[:50], fake[:50])
    cost = [log_loss([0] * 50 + [1] * 50, p_of(np.r_[real[:50], fake[:50]] / x)) for x in (0.98 * t, t, 1.02 * t)]
    assert cost[1] < min(cost[0], cost[2])
    # The wrong way round: no temperature helps, and P ends near one half.
    assert fitted_map("temperature", fake, real)(np.array([-3.0, 3.0])).p_fake == pytest.approx(0.5, abs=0.01)


def test_isotonic_is_scikit_learns_with_one_more_of_each_label_at_both_ends():
    real, fake = np.array([-2.0, -1.0, 0.0]), np.array([-0.5, 1.0, 2.0, 3.0])
    found = fitted_map("isotonic", real, fake)
    # By hand, in balanced mass: the lowest block is one fake and three reals, the dummy of each label among them.
    x = np.r_[real, -3, 4, fake, -3, 4]
    y = np.r_[np.zeros(5), np.ones(6)]
    model = IsotonicRegression(out_of_bounds="clip").fit(
        x, y, sample_weight=np.r_[np.full(5, 1 / 5), np.full(6, 1 / 6)]
    )
    assert found(np.array([-9.0, -0.7, 9.0])).p_fake == pytest.approx(model.predict([-9.0, -0.7, 9.0]))
    lowest = (1 / 6) / (1 / 6 + 3 / 5)
    assert found(np.array([-9.0])).p_fake[0] == pytest.approx(lowest)
    assert 0 < lowest < found(np.array([9.0])).p_fake[0] < 1


def test_balanced_isotonic_is_the_plain_one_moved_to_even_odds():
    real, fake = gaussian(300, 60)
    scores = np.linspace(-6, 6, 50)
    plain = IsotonicRegression().fit(np.r_[real, fake], np.r_[np.zeros(300), np.ones(60)])
    weighed = IsotonicRegression().fit(
        np.r_[real, fake],
        np.r_[np.zeros(300), np.ones(60)],
        sample_weight=np.r_[np.full(300, 1 / 300), np.full(60, 1 / 60)],
    )
    at = np.r_[real, fake]
    assert at_prevalence(plain.predict(at), 300 / 360) == pytest.approx(weighed.predict(at), abs=1e-9)
    assert np.isfinite(fitted_map("isotonic", real, fake)(scores).p_fake).all()


@pytest.mark.parametrize(("n", "m", "decimals"), [(30, 30, 6), (80, 40, 6), (60, 90, 0)])
def test_venn_abers_is_that_of_the_package(n, m, decimals):
    package = pytest.importorskip("venn_abers.venn_abers")
    real, fake = (np.round(side, decimals) for side in gaussian(n, m))
    scores = np.r_[np.linspace(-7, 7, 41), real[:10], fake[:10]]
    ours = venn_abers(real, fake, scores)
    # Theirs is at the calibration set's own mix and asks for probabilities; any rising map of the scores will do.
    cal, test = (p_of(x).numpy() for x in (np.r_[real, fake], scores))
    p0, p1, c = package.calc_p0p1(np.c_[1 - cal, cal], np.r_[np.zeros(n), np.ones(m)])
    _, both = package.calc_probs(p0, p1, c, np.c_[1 - test, test])
    even = at_prevalence(np.clip(both, 0, 1), n / (n + m))
    # The package reads ties at a calibration score by its nearest knot: compare between the knots.
    free = ~np.isin(scores, np.r_[real, fake])
    assert ours.low[free] == pytest.approx(even[free, 0], abs=1e-9)
    assert ours.high[free] == pytest.approx(even[free, 1], abs=1e-9)


def test_venn_abers_by_its_definition():
    real, fake = (np.round(side, 1) for side in gaussian(25, 40))
    x, y = np.r_[real, fake], np.r_[np.zeros(25), np.ones(40)]
    for score in (-9.0, float(real[3]), 0.123, float(fake[5]), 9.0):
        found = venn_abers(real, fake, np.array([score]))
        ends = []
        for label in (0, 1):
            model = IsotonicRegression().fit(np.r_[x, score], np.r_[y, label])
            ends.append(float(at_prevalence(model.predict([score])[0], 25 / 65)))
        assert [found.low[0], found.high[0]] == pytest.approx(ends)
        assert found.p_fake[0] == pytest.approx(ends[1] / (1 - ends[0] + ends[1]))


@pytest.mark.parametrize("method", METHODS)
def test_maps_rise_stay_inside_and_mend_what_they_can(method):
    real, fake = gaussian(400, 300)
    bias = 0.0 if method == "temperature" else 2.5
    found = fitted_map(method, 3 * real + bias, 3 * fake + bias)
    assert (np.diff(found(np.linspace(-40, 40, 200)).p_fake) >= -1e-12).all()
    fresh = gaussian(4000, 4000, seed=1)
    before = [p_of(3 * side + bias) for side in fresh]
    after = [torch.as_tensor(found(3 * side + bias).p_fake) for side in fresh]
    assert expected_calibration_error(*after).ece < 0.4 * expected_calibration_error(*before).ece
    assert cllr(*after).value < cllr(*before).value and all(p.min() > 0 and p.max() < 1 for p in after)


def test_unknown_methods_and_empty_sides_are_refused():
    with pytest.raises(BadSetting, match="venn_abers"):
        fitted_map("platt", np.zeros(3), np.ones(3))
    with pytest.raises(TooFewSamples):
        fitted_map("isotonic", np.zeros(3), np.ones(0))


# ---------------------------------------------------------------------------------------------- thresholds


def test_clopper_pearson_is_scipys():
    for count, n in ((0, 59), (3, 40), (40, 40)):
        found = proportion(count, n)
        exact = stats.binomtest(count, n).proportion_ci(0.95, "exact")
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    with pytest.raises(TooFewSamples):
        proportion(0, 0)


def test_the_number_of_reals_an_fpr_needs():
    assert [least_reals(fpr) for fpr in (0.05, 0.01, 0.001)] == [59, 299, 2995]
    assert [least_reals(fpr, 0) for fpr in (0.05, 0.01, 0.001)] == [19, 99, 999]
    for fpr, n in ((0.05, 58), (0.01, 298), (0.001, 2994)):
        with pytest.raises(TooFewSamples, match=f"needs at least {n + 1:,}"):
            operating_point(np.arange(n), fpr)
        assert operating_point(np.arange(n + 1), fpr).threshold == n
    for wrong in ({"fpr": 0}, {"fpr": 1}, {"fpr": 0.1, "confidence": 1}):
        with pytest.raises(BadSetting):
            least_reals(**wrong)


@pytest.mark.parametrize("confidence", [0.0, 0.95])
@pytest.mark.parametrize("n", [100, 350, 1001])
def test_the_rank_is_the_largest_that_keeps_the_promise(n, confidence):
    point = operating_point(RNG.random(n), 0.05, confidence)
    beta = stats.beta(np.array([point.rank, point.rank + 1]), n + 1 - np.array([point.rank, point.rank + 1]))
    kept = beta.mean() <= 0.05 + 1e-12 if confidence == 0 else beta.cdf(0.05) >= confidence
    assert kept.tolist() == [True, False]
    assert point.above.count == point.rank - 1 and point.expected_fpr == pytest.approx(beta.mean()[0])
    assert point.attained == pytest.approx(beta.cdf(0.05)[0])


def test_the_threshold_in_expectation_flags_exactly_the_p_values_under_the_fpr():
    for fpr in (0.05, 0.1, 0.031):
        cal, fresh = RNG.integers(0, 40, 199).astype(float), RNG.integers(0, 50, 400).astype(float)
        point = operating_point(cal, fpr, 0)
        assert ((fresh > point.threshold) == (conformal_p_values(cal, fresh) <= fpr)).all()


def test_equal_scores_make_the_promise_safer():
    scores = np.r_[np.zeros(100), np.ones(20)]
    point = operating_point(scores, 0.1, 0)
    assert point.rank == 12 and point.threshold == 1 and point.above.count == 0


@pytest.mark.parametrize("confidence", [0.0, 0.95])
def test_the_fpr_on_fresh_reals_is_what_was_promised(confidence):
    rng = np.random.default_rng(1)
    points = [operating_point(rng.normal(size=400), 0.05, confidence) for _ in range(600)]
    true = stats.norm.sf([p.threshold for p in points])
    if confidence:
        # 95 % of 600, less three standard errors.
        assert (true <= 0.05).mean() >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 600)
        assert (true <= 0.05).mean() == pytest.approx(points[0].attained, abs=0.03)
    assert true.mean() == pytest.approx(points[0].expected_fpr, abs=4 * true.std() / np.sqrt(600))


def test_the_low_threshold_leaves_at_most_its_share_of_fakes_below():
    scores = RNG.random(39)
    assert (scores < low_threshold(scores)).sum() == 1
    assert low_threshold(scores[:19]) == scores[:19].min()


def test_predictive_value_at_one_percent():
    # The reference case: 1 % prevalence, TPR 0.9, FPR 0.05.
    assert predictive_value(0.9, 0.05, 0.01) == pytest.approx(0.009 / (0.009 + 0.0495))
    assert predictive_value(0, 0, 0.5) == 0 and predictive_value(0.1, 0, 0.5) == 1
    low, high = predictive_interval(proportion(90, 100), proportion(5, 100), 0.01)
    assert low < predictive_value(0.9, 0.05, 0.01) < high


# ---------------------------------------------------------------------------------------------- p-values


def test_conformal_p_values_by_hand():
    cal = np.array([1.0, 2.0, 2.0, 5.0])
    assert conformal_p_values(cal, np.array([0, 1, 2, 3, 5, 6])) * 5 == pytest.approx([5, 5, 4, 2, 2, 1])


def test_conformal_p_values_of_fresh_reals_are_uniform():
    rng = np.random.default_rng(2)
    p = np.concatenate([conformal_p_values(rng.normal(size=99), rng.normal(size=1)) for _ in range(2000)])
    assert stats.kstest(p - rng.random(2000) / 100, "uniform").pvalue > 0.01
    ties = np.concatenate([conformal_p_values(rng.integers(0, 4, 99), rng.integers(0, 4, 1)) for _ in range(500)])
    assert all((ties <= a).mean() <= a + 0.03 for a in (0.05, 0.2, 0.5))


def test_novelty_is_full_conformal_prediction_on_mahalanobis_distance():
    cal, rows = RNG.normal(size=(40, 3)), np.r_[RNG.normal(size=(5, 3)), [[9.0, 0, 0]]]
    for row, found in zip(rows, novelty_p_values(cal, rows, 1e-9), strict=True):
        both = np.r_[cal, row[None]]
        away = both - both.mean(0)
        far = np.einsum("nd,de,ne->n", away, np.linalg.inv(np.cov(both.T, bias=True)), away)
        assert found == pytest.approx((far >= far[-1] - 1e-9).mean())
    assert novelty_p_values(cal, rows)[-1] == pytest.approx(1 / 41)


def test_novelty_of_fresh_rows_is_uniform_and_a_column_that_never_varied_still_counts():
    rng = np.random.default_rng(3)
    p = np.concatenate([novelty_p_values(rng.standard_t(3, (60, 4)), rng.standard_t(3, (1, 4))) for _ in range(600)])
    assert (p <= 0.1).mean() <= 0.1 + 3 * np.sqrt(0.09 / 600)
    assert p.mean() == pytest.approx(0.5, abs=0.05)
    cal = np.c_[rng.normal(size=150), np.full(150, 5.0)]
    found = novelty_p_values(cal, np.array([[0.0, 5.0], [0.0, 6.0]]))
    assert found[0] > 0.5 and found[1] == pytest.approx(1 / 151)


# ---------------------------------------------------------------------------------------------- scores


def test_brier_and_cllr_are_scikit_learns_on_sides_of_one_size():
    real, fake = (p_of(side) for side in gaussian(200, 200))
    truth, p = [0] * 200 + [1] * 200, torch.cat([real, fake])
    assert brier(real, fake).value == pytest.approx(brier_score_loss(truth, p))
    assert cllr(real, fake).value * np.log(2) == pytest.approx(log_loss(truth, p))
    half = torch.full((9,), 0.5)
    assert brier(half, half[:3]).value == 0.25 and cllr(half, half[:3]).value == pytest.approx(1)
    assert brier(real, fake[:50], balanced=False).value == pytest.approx(
        brier_score_loss([0] * 200 + [1] * 50, p[:250])
    )
    assert cllr(torch.ones(4), torch.ones(4)).value == pytest.approx(12.5, abs=0.01)


def test_calibration_error_is_that_of_torchmetrics_where_both_bin_alike():
    real, fake = (p_of(side / 2) for side in gaussian(300, 200))
    p, truth = torch.cat([real, fake]), torch.tensor([0] * 300 + [1] * 200)
    # torchmetrics bins the confidence max(P, 1 - P): the same where all P are above one half.
    upper = 0.5 + p / 2
    theirs = float(binary_calibration_error(upper.float(), truth, n_bins=15, norm="l1"))
    ours = expected_calibration_error(upper[:300], upper[300:], balanced=False)
    assert ours.ece == pytest.approx(theirs, abs=1e-5)
    assert sum(b.n_real for b in ours.bins) == 300 and sum(b.n_fake for b in ours.bins) == 200


def test_calibration_error_by_hand_and_balanced():
    found = expected_calibration_error(torch.full((30,), 0.25), torch.full((10,), 0.25))
    assert found.ece == pytest.approx(0.25) and len(found.bins) == 1 and found.bins[0].share == pytest.approx(0.5)
    plain = expected_calibration_error(torch.full((30,), 0.25), torch.full((10,), 0.25), balanced=False)
    assert plain.ece == pytest.approx(0)
    assert expected_calibration_error(torch.zeros(3), torch.ones(3)).ece == 0
    assert expected_calibration_error(torch.ones(3), torch.zeros(3)).ece == 1


def test_min_cllr_is_the_least_any_rising_map_can_reach():
    real, fake = gaussian(150, 90)
    least = min_cllr(torch.as_tensor(real), torch.as_tensor(fake))
    assert least <= cllr(p_of(real), p_of(fake)).value
    assert min_cllr(torch.as_tensor(real) ** 3, torch.as_tensor(fake) ** 3) == pytest.approx(least)
    assert min_cllr(torch.zeros(5), torch.ones(5)) == 0
    assert min_cllr(torch.ones(5), torch.zeros(5)) == pytest.approx(1) == min_cllr(torch.zeros(5), torch.zeros(7))
    # One of two fakes among the reals: a block of P = (1/2) / (1/2 + 1) = 1/3, then a pure one.
    p = 1 / 3
    by_hand = -(0.5 * np.log2(p) + np.log2(1 - p)) / 2
    assert min_cllr(torch.zeros(2), torch.tensor([0.0, 1.0])) == pytest.approx(by_hand)


def test_risk_coverage_by_hand():
    # The confident ones first: right (0.9), wrong (0.2 of a fake), right (0.7), right (0.4): risks 0, 1/2, 1/3, 1/4.
    found = risk_coverage(torch.tensor([0.4]), torch.tensor([0.95, 0.2, 0.7]), balanced=False)
    assert found.area.value == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found.points[0] == pytest.approx((0.25, 0)) and found.points[-1] == pytest.approx((1, 0.25))
    # All equally confident: every prefix is as wrong as the whole.
    assert risk_coverage(torch.full((6,), 0.7), torch.full((6,), 0.7)).area.value == pytest.approx(0.5)
    real, fake = (p_of(side) for side in gaussian(300, 300))
    sure = risk_coverage(real, fake).area
    shuffled = risk_coverage(torch.where(real > 0.5, 0.99, 0.3), torch.where(fake > 0.5, 0.7, 0.01)).area.value
    assert sure.low <= sure.value <= sure.high and sure.value < 0.5 * (1 - accuracy(real, fake).value) < shuffled


def test_accuracy_and_its_oracle():
    real, fake = torch.tensor([0.1, 0.2, 0.6, 0.3]), torch.tensor([0.25, 0.9])
    assert accuracy(real, fake).value == pytest.approx((3 / 4 + 1 / 2) / 2)
    best, at = oracle_accuracy(real, fake)
    tried = [accuracy(real, fake, threshold=float(t)).value for t in torch.cat([real, fake, torch.tensor([-1.0])])]
    assert best == pytest.approx(max(tried)) == accuracy(real, fake, threshold=at).value
    assert oracle_accuracy(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]))[0] == 0.5


def test_scores_refuse_what_is_no_probability():
    with pytest.raises(BadRows, match="expected P"):
        brier(torch.tensor([-0.1]), torch.tensor([0.5]))
    with pytest.raises(BadRows, match="NaN"):
        cllr(torch.tensor([0.1]), torch.tensor([float("nan")]))
