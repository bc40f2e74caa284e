"""False-discovery rates: by hand, against SciPy and exact fractions, properties, and that the rate holds."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import false_discovery_control

from evalkit.auditing.discovering import (
    METHODS,
    combined,
    discover,
    discoveries,
    least_calibration,
    least_flagged,
    q_values,
)
from evalkit.calibration import conformal_p_values
from evalkit.errors import BadRows, BadSetting

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=40)
# Conformal p-values: few distinct ones, many ties.
CONFORMAL = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n + 1), min_size=1, max_size=25))
)
RATES = st.sampled_from(["0.01", "0.05", "0.1", "0.2", "0.5"])


def stepped_up(p, q, method):
    """The step-up rule in exact fractions, from its definition: the largest k with p_(k) <= k q / (m c)."""
    m = len(p)
    c = sum(Fraction(1, j) for j in range(1, m + 1)) if method == "by" else Fraction(1)
    ordered = sorted(p)
    found = [k for k in range(1, m + 1) if ordered[k - 1] <= Fraction(k) * q / (m * c)]
    return [x <= ordered[found[-1] - 1] for x in p] if found else [False] * m


# ---------------------------------------------------------------------------------------------- the procedures


def test_by_hand():
    p = [0.01, 0.04, 0.03, 0.5]
    # 4 * 0.01 / 1; 4 * 0.04 / 3 for both of ranks 2 and 3, since 4 * 0.03 / 2 is more; 4 * 0.5 / 4.
    assert q_values(p) == pytest.approx([0.04, 4 * 0.04 / 3, 4 * 0.04 / 3, 0.5])
    assert discoveries(p, 0.05).tolist() == [True, False, False, False]
    # A p-value that is too large for its own rank is flagged with those after it.
    assert discoveries(p, 0.0534).tolist() == [True, True, True, False]
    c = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert q_values(p, "by") == pytest.approx([0.04 * c, 0.16 * c / 3, 0.16 * c / 3, 1.0])


@given(P_VALUES, st.sampled_from(METHODS))
def test_agrees_with_scipy(p, method):
    assert q_values(p, method) == pytest.approx(false_discovery_control(p, method=method), rel=1e-12, abs=1e-300)


@settings(max_examples=150)
@given(CONFORMAL, RATES, st.sampled_from(METHODS))
def test_is_the_definition_to_the_last_tie(drawn, q, method):
    n, ranks = drawn
    exact = stepped_up([Fraction(r, n + 1) for r in ranks], Fraction(q), method)
    assert discoveries([r / (n + 1) for r in ranks], float(q), method).tolist() == exact


@given(P_VALUES, st.lists(st.integers(0, 40), max_size=10), st.sampled_from(METHODS))
def test_absent_p_values_are_no_part_of_the_family(p, places, method):
    holed = list(p)
    for place in places:
        holed.insert(min(place, len(holed)), math.nan)
    found = q_values(holed, method)
    assert np.array_equal(np.isnan(found), np.isnan(holed))
    assert np.array_equal(found[~np.isnan(found)], q_values(p, method))
    assert not discoveries(holed, 0.5, method)[np.isnan(holed)].any()


@given(P_VALUES, st.integers(0, 99), st.sampled_from(METHODS))
def test_the_order_of_files_does_not_matter(p, seed, method):
    order = np.random.default_rng(seed).permutation(len(p))
    assert np.array_equal(q_values(np.array(p)[order], method), q_values(p, method)[order])


@given(P_VALUES, st.data())
def test_a_smaller_p_value_takes_no_flag_away(p, data):
    at = data.draw(st.integers(0, len(p) - 1))
    less = [x / 2 if i == at else x for i, x in enumerate(p)]
    assert (q_values(less) <= q_values(p)).all()
    assert (q_values(p, "by") >= q_values(p)).all()


def test_nobody_there():
    assert q_values([]).shape == (0,) and discoveries([math.nan], 0.05).tolist() == [False]


@pytest.mark.parametrize("p", [[0.1, 1.2], [-0.01], [math.inf], [[0.1]], 0.1])
def test_what_is_no_list_of_p_values_is_refused(p):
    with pytest.raises(BadRows):
        q_values(p)


def test_settings_out_of_range_are_refused():
    for q in (0, 1, math.nan, -0.1):
        with pytest.raises(BadSetting, match="--fdr"):
            discoveries([0.1], q)
    with pytest.raises(BadSetting, match="bh, by"):
        q_values([0.1], "storey")
    with pytest.raises(BadSetting, match="bonferroni, unanimous"):
        combined([[0.1]], "mean")
    with pytest.raises(BadRows, match="one row for each"):
        combined(np.empty((0, 3)))


# ---------------------------------------------------------------------------------------------- several detectors


def test_several_detectors_by_hand():
    nan = math.nan
    p = [[0.01, 0.5, nan, nan], [0.2, 0.4, 0.03, nan]]
    assert combined(p)[:3] == pytest.approx([0.02, 0.8, 0.06]) and math.isnan(combined(p)[3])
    # A detector that could not score a file has not agreed.
    assert combined(p, "unanimous")[:3].tolist() == [0.2, 0.5, 1.0]
    assert combined([[0.3, 0.9]]).tolist() == combined([[0.3, 0.9]], "unanimous").tolist() == [0.3, 0.9]
    assert combined([[0.7], [0.8]]).tolist() == [1.0]


@pytest.mark.parametrize("how", ["bonferroni", "unanimous"])
def test_the_combined_p_value_holds_whatever_the_dependence(how):
    """Also where a detector scores only what it finds suspicious, so that a p-value given that it is there is small."""
    rng = np.random.default_rng(0)
    u = rng.random(20_000)
    opposed = np.stack([u, 1 - u, (u + 0.5) % 1])
    choosy = np.stack([np.where(u < 0.3, u, np.nan), np.where(u > 0.9, 1 - u, np.nan), u])
    for p in (np.stack([u, u, u]), opposed, choosy):
        found = combined(p, how)
        for a in (0.01, 0.05, 0.2):
            assert (found <= a).mean() <= a + 3 * math.sqrt(a * (1 - a) / len(u))


def test_a_batch_is_decided_in_one_call():
    p = [[0.001, 0.2, math.nan], [0.5, 0.004, math.nan]]
    found = discover(p, 0.01)
    assert found.p_values[:2].tolist() == pytest.approx([0.002, 0.008])
    assert found.q_values[:2].tolist() == pytest.approx([0.004, 0.008])
    assert found.flagged.tolist() == [True, True, False]
    assert discover(p, 0.01, method="by").flagged.tolist() == [True, False, False]
    assert not discover(p, 0.01, how="unanimous").flagged.any()


# ---------------------------------------------------------------------------------------------- resolution


def test_resolution_by_hand():
    # p >= 1/201, and k files at it are flagged once 1/201 <= 0.05 k / 1000: k >= 99.5.
    assert least_flagged(200, 1000, 0.05) == 100
    assert least_flagged(19, 1, 0.05) == 1 and least_flagged(18, 1, 0.05) is None
    assert least_flagged(1, 10, 0.05, detectors=3) is None
    assert least_calibration(1000, 100, 0.05) == 199 and least_flagged(199, 1000, 0.05) == 100
    assert least_calibration(1, 1, 0.05) == 19


@settings(max_examples=60)
@given(st.integers(1, 500), st.integers(1, 30), RATES, st.sampled_from(METHODS), st.integers(1, 4))
def test_resolution_is_what_the_procedure_does(n, files, q, method, detectors):
    rate = float(q)
    least = least_flagged(n, files, rate, method=method, detectors=detectors)
    found = []
    for k in range(1, files + 1):
        p = np.ones((detectors, files))
        p[0, :k] = 1 / (n + 1)
        if discover(p, rate, method=method).flagged.any():
            found.append(k)
    assert least == (found[0] if found else None)
    if least is not None:
        enough = least_calibration(files, least, rate, method=method, detectors=detectors)
        assert enough <= n and (least_flagged(enough, files, rate, method=method, detectors=detectors) or 0) <= least
        if enough > 1:
            fewer = least_flagged(enough - 1, files, rate, method=method, detectors=detectors)
            assert fewer is None or fewer > least


def test_counts_out_of_range_are_refused():
    for counts in ((0, 10), (10, 0)):
        with pytest.raises(BadSetting, match="at least one of each"):
            least_flagged(*counts, 0.05)
    with pytest.raises(BadSetting, match="expected 1 to 10"):
        least_calibration(10, 11, 0.05)


# ---------------------------------------------------------------------------------------------- the promise


def test_the_rate_holds_with_one_calibration_set_for_all():
    """400 batches of 200 with a fifth of fakes: the rate is at 4/5 of nominal for BH, and most fakes are found."""
    rng = np.random.default_rng(0)
    shares, power = [], []
    for _ in range(400):
        calibration = rng.standard_normal(1000)
        scores = np.concatenate([rng.standard_normal(40) + 4, rng.standard_normal(160)])
        flagged = discoveries(conformal_p_values(calibration, scores), 0.1)
        shares.append(flagged[40:].sum() / max(1, flagged.sum()))
        power.append(flagged[:40].mean())
    error = np.std(shares) / 20
    assert abs(np.mean(shares) - 0.08) < 4 * error and np.mean(shares) < 0.1 and np.mean(power) > 0.9
