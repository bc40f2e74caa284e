"""A grid of seeds: variance components by hand and by simulation, and models that one seed cannot rank."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalkit.seeds import Run, Spread, apart, said, seeds_table, spread, spreads, wrong_order
from evalkit.types import Column, MetricResult, RunRecord, Subject


def test_components_of_a_grid_by_hand() -> None:
    """Means 1, 3, 5 (variance 4); within each a variance of 2; two samplings: training = 4 - 2/2 = 3, one run = 5."""
    s = spread([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]])
    assert (s.mean, s.trainings, s.samplings) == (3.0, 3, 2)
    assert s.by_training == pytest.approx(math.sqrt(3))
    assert s.by_sampling == pytest.approx(math.sqrt(2))
    assert s.total == pytest.approx(math.sqrt(5))
    half = stats.t.ppf(0.975, 2) * math.sqrt(4 / 3)
    assert (s.low, s.high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_a_grid_of_one_row_or_one_column_says_what_it_can() -> None:
    draws = spread([[1.0, 2.0, 3.0]])
    assert draws.by_training is None and draws.by_sampling == 1.0 == draws.total
    trainings = spread([[1.0], [2.0], [3.0]])
    assert trainings.by_training is None and trainings.by_sampling is None and trainings.total == 1.0


def test_a_component_is_never_negative() -> None:
    s = spread([[0.0, 10.0], [10.0, 0.0]])
    assert s.by_training == 0.0 and s.by_sampling is not None and s.total == s.by_sampling


def grid_of(rng: np.random.Generator, mean: float, training: float, sampling: float) -> Spread:
    models = mean + training * rng.standard_normal((3, 1))
    return spread((models + sampling * rng.standard_normal((3, 3))).tolist())


def test_components_are_unbiased_and_the_interval_of_the_mean_covers() -> None:
    """Retraining three times as far as resampling, 3 x 3 seeds, two thousand grids."""
    rng = np.random.default_rng(0)
    found = [grid_of(rng, 10, 3, 1) for _ in range(2000)]
    assert np.mean([s.total**2 for s in found]) == pytest.approx(10, rel=0.06)
    assert np.mean([s.by_sampling**2 for s in found if s.by_sampling is not None]) == pytest.approx(1, rel=0.05)
    assert np.mean([s.low <= 10 <= s.high for s in found]) == pytest.approx(0.95, abs=0.015)


def test_equal_models_are_rarely_told_apart_and_far_ones_nearly_always() -> None:
    rng = np.random.default_rng(1)
    equal = [apart(grid_of(rng, 0, 1, 0.3), grid_of(rng, 0, 1, 0.3)) for _ in range(1500)]
    far = [apart(grid_of(rng, 0, 1, 0.3), grid_of(rng, 8, 1, 0.3)) for _ in range(200)]
    assert np.mean(equal) < 0.06
    assert np.mean(far) > 0.95


def test_the_difference_of_means_is_welchs_test() -> None:
    a, b = [[1.0], [2.0], [4.0]], [[3.0], [8.0], [9.0], [9.5]]
    for shift in np.linspace(-6, 6, 25):
        moved = [[v[0] + shift] for v in b]
        p = stats.ttest_ind(np.ravel(a), np.ravel(moved), equal_var=False).pvalue
        assert apart(spread(a), spread(moved)) == (p < 0.05)


def test_how_often_single_runs_stand_in_the_wrong_order() -> None:
    one = spread([[0.0], [1.0], [2.0]])
    assert wrong_order(one, one) == 0.5
    other = spread([[2.0], [3.0], [4.0]])  # two apart, each run moves by 1: P(z < -2 / sqrt 2)
    assert wrong_order(one, other) == pytest.approx(stats.norm.cdf(-2 / math.sqrt(2)))


@given(st.lists(st.lists(st.floats(-100, 100), min_size=2, max_size=2), min_size=2, max_size=5), st.floats(-50, 50))
def test_a_shift_moves_the_mean_and_nothing_else(values: list[list[float]], shift: float) -> None:
    before, after = spread(values), spread([[v + shift for v in row] for row in values])
    assert after.mean == pytest.approx(before.mean + shift, abs=1e-9)
    assert after.total == pytest.approx(before.total, abs=1e-6)


def record(name: str, value: float) -> RunRecord:
    result = MetricResult(
        "fid@pixels", value, value - 0.1, value + 0.1, 0.95, "delta", "lower", "u", {"fake": 9}, 1, "sha256:x", {}, 0.0
    )
    return RunRecord(Subject(name, "image", name, 9, "sha256:y"), None, None, 0, (result,), None, {})


COLUMN = Column("fid@pixels", "lower", "u", "sha256:x", {"fake": 9}, "delta")


def runs_of(name: str, values: list[list[float]]) -> list[Run]:
    return [Run(name, t, s, record(f"{name}{t}{s}", v)) for t, row in enumerate(values) for s, v in enumerate(row)]


def test_the_board_says_when_one_seed_is_not_enough() -> None:
    runs = [
        *runs_of("a", [[1.0, 1.1], [2.0, 2.1], [3.0, 3.1]]),
        *runs_of("b", [[3.6, 3.7], [4.6, 4.7], [5.6, 5.7]]),
        *runs_of("c", [[50.0, 50.1], [50.2, 50.3], [50.4, 50.5]]),
        *runs_of("d", [[4.1, 4.2], [4.6, 4.7], [5.1, 5.2]]),
    ]
    found = spreads([COLUMN], runs)
    lines = said([COLUMN], found, dict.fromkeys("abcd", "candidate"))
    assert lines[0].startswith("Retraining moves fid@pixels ") and "times as much as resampling" in lines[0]
    assert "One seed is not enough on fid@pixels to rank a and b (wrong order in about" in lines[1]
    assert " c" not in lines[1].replace("rank ", "")
    assert "Not even 3 x 2 seeds rank on fid@pixels: b and d" in lines[2]
    table = seeds_table([COLUMN], found)
    assert table is not None and [row[1] for row in table.rows] == ["a", "b", "c", "d"]
    assert said([COLUMN], found, dict.fromkeys("abcd", "floor"))[1:] == []


def test_a_subject_whose_number_is_missing_in_one_run_is_left_out() -> None:
    runs = runs_of("a", [[1.0, 2.0], [3.0, 4.0]])
    runs[1] = Run("a", 0, 1, RunRecord(runs[1].record.subject, None, None, 0, (), None, {}))
    assert spreads([COLUMN], runs) == {}
    assert seeds_table([COLUMN], {}) is None
