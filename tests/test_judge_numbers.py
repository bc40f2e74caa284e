"""The statistics of human judging against hand-worked numbers and independent implementations."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from evalkit.human.agreement import alpha, alpha_interval, bradley_terry
from evalkit.human.sensitivity import Sheet, area, dprime, dprime_forced, loglinear, measure, right, share, wilson


def test_dprime_by_hand() -> None:
    # 8 of 10 hits, 3 of 10 false alarms: rates 8.5/11 and 3.5/11, z 0.7479 and -0.4728.
    fake, real = [1.0] * 8 + [-1.0] * 2, [1.0] * 3 + [-1.0] * 7
    assert dprime(fake, real) == pytest.approx(1.2207, abs=2e-4)
    assert dprime(fake, real) == pytest.approx(stats.norm.ppf(8.5 / 11) - stats.norm.ppf(3.5 / 11))
    assert dprime(fake, fake) == 0 and dprime(real, fake) == -dprime(fake, real)
    assert math.isfinite(dprime([1.0] * 5, [-1.0] * 5)) and loglinear(5, 5) == 5.5 / 6


def test_forced_choice_dprime_by_hand() -> None:
    # 15.5/21 = 0.7381, z = 0.6375, times sqrt(2): 0.9015.
    assert dprime_forced([1.0] * 15 + [0.0] * 5, []) == pytest.approx(0.9015, abs=2e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=12), st.lists(st.integers(-4, 4), min_size=1, max_size=12))
def test_area_is_the_auroc_of_the_ratings(fake: list[int], real: list[int]) -> None:
    expected = roc_auc_score([1] * len(fake) + [0] * len(real), fake + real)
    assert area([float(x) for x in fake], [float(x) for x in real]) == pytest.approx(expected)


def test_area_of_yes_and_no_is_the_mean_of_both_rates_of_right_answers() -> None:
    fake, real = [1.0, 1.0, 1.0, -1.0], [1.0, -1.0]
    assert area(fake, real) == right(fake, real) == (0.75 + 0.5) / 2


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Krippendorff 2011: two observers and binary data (section A), four observers with missing data (section C).
        (("0100000010", "1110010000"), 0.095),
        (("123321412...", "1233224125.3", ".3332342251.", "12332441251."), 0.743),
    ],
)
def test_alpha_of_the_worked_examples(rows: tuple[str, ...], expected: float) -> None:
    units = [[c for c in column if c != "."] for column in zip(*rows, strict=True)]
    assert alpha(units) == pytest.approx(expected, abs=5e-4)
    assert alpha([list(reversed(unit)) for unit in reversed(units)]) == pytest.approx(alpha(units))


def test_alpha_is_one_for_one_opinion_zero_by_chance_and_not_defined_without_variety() -> None:
    assert alpha([["a", "a"], ["b", "b"]]) == 1
    assert alpha([["a", "a"], ["a", "a"]]) is None and alpha([["a"], []]) is None and alpha_interval([["a"]]) is None
    rng = random.Random(0)
    units: list[list[Hashable]] = [[rng.choice("ab") for _ in range(6)] for _ in range(150)]
    found = alpha_interval(units)
    assert found is not None and found[1] < 0 < found[2] and abs(found[0]) < 0.1


def test_bradley_terry_of_two_is_the_log_odds_and_of_three_is_what_made_the_wins() -> None:
    two = bradley_terry({("a", "b"): 29.5, ("b", "a"): 9.5})
    assert two["a"] - two["b"] == pytest.approx(math.log(30 / 10))
    truth = {"a": 1.0, "b": 0.0, "c": -1.0}
    wins = {(x, y): 100_000 / (1 + math.exp(truth[y] - truth[x])) for x in truth for y in truth if x != y}
    assert bradley_terry(wins) == pytest.approx(truth, abs=1e-3)
    assert all(math.isfinite(v) for v in bradley_terry({("a", "b"): 5, ("b", "c"): 5, ("a", "c"): 5}).values())


def test_one_rater_with_yes_and_no_has_the_variance_of_two_binomials() -> None:
    fake = {str(i): 1.0 if i < 14 else -1.0 for i in range(20)}
    real = {str(i): 1.0 if i < 6 else -1.0 for i in range(30)}
    found = measure(right, {"a": Sheet(fake, real)}, unit=True)
    p, q = 14 / 20, 6 / 30
    error = math.sqrt(p * (1 - p) / 19 + q * (1 - q) / 29) / 2
    value = (p + 1 - q) / 2
    reach = stats.t.ppf(0.975, 19) * error / (value * (1 - value))
    assert found.value == pytest.approx(value)
    assert math.log(found.high / (1 - found.high)) == pytest.approx(math.log(value / (1 - value)) + reach, rel=1e-6)


def test_raters_alike_and_independent_answers_have_the_binomial_variance() -> None:
    # Every answer an independent coin: rater and item variances both hold the coins' noise, and it is counted once.
    widths, rates = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sheets = {str(r): Sheet({str(i): float(x) for i, x in enumerate(rng.random(60) < 0.7)}, {}) for r in range(6)}
        found = measure(share, sheets, unit=True)
        widths.append(found.high - found.low)
        rates.append(found.value)
    expected = 2 * 1.96 * math.sqrt(0.7 * 0.3 / 360)
    assert 0.85 < np.mean(widths) / expected < 1.5
    assert np.std(rates) == pytest.approx(expected / 3.92, rel=0.3)


def test_answers_that_all_agree_still_have_an_interval() -> None:
    sheets = {r: Sheet({str(i): 1.0 for i in range(12)}, {str(i): -1.0 for i in range(12)}) for r in "ab"}
    assert (found := measure(area, sheets, unit=True)).value == 1
    assert (found.low, found.high) == pytest.approx(wilson(1, 12)) and found.low == pytest.approx(0.7575, abs=1e-3)
    told = measure(dprime, sheets, unit=False)
    assert told.low > 1 and told.high - told.low > 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(2, 8), st.integers(2, 8), st.randoms(use_true_random=False))
def test_intervals_hold_their_value_and_stay_in_range(raters: int, fakes: int, reals: int, rng: random.Random) -> None:
    sheets = {
        str(r): Sheet(
            {f"f{i}": float(rng.choice((-4, -1, 1, 4))) for i in range(fakes)},
            {f"r{i}": float(rng.choice((-4, -1, 1, 4))) for i in range(reals)},
        )
        for r in range(raters)
    }
    for statistic, unit in ((area, True), (right, True), (dprime, False)):
        found = measure(statistic, sheets, unit=unit)
        assert found.low <= found.value <= found.high and math.isfinite(found.high - found.low)
        assert not unit or (found.low >= 0 and found.high <= 1)
