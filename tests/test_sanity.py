"""Fifteen simple situations whose answer is known: what each metric sees in them, and what it cannot see."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.sanity.__main__ import differences, table, verdicts_of
from benchmarks.sanity.curves import Curve, bell, falls, flat, low_or_high, rises, settles, value, wide, worst
from benchmarks.sanity.draws import Size
from benchmarks.sanity.published import METRICS, published
from benchmarks.sanity.running import ONCE, Curves, checked, follow, judge
from benchmarks.sanity.scenarios import SCENARIOS, Scenario
from benchmarks.sanity.scores import CALLS, KINDS

SMALL = Size(n=150, points=5, dims=(8,), spheres=(16,), sizes=(50, 100, 200, 400), extra=(1, 10, 100))
# Everything but what trains or takes the rows twice.
METRICS_HERE = tuple(
    metric for metric in KINDS if metric not in ("c2st", "fid.unbiased", "precision k=3", "recall k=3")
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def scenario(name: str) -> Scenario:
    return BY_NAME[name]


@cache
def curves(name: str) -> Curves:
    return follow(scenario(name), SMALL, METRICS_HERE, repeats=ONCE)


def ends(name: str, metric: str, sweep: str = "") -> tuple[float, float, float]:
    """The first, the middle and the last score of a metric."""
    curve = curves(name)[sweep, metric]
    return float(curve.y[0]), float(curve.y[len(curve.y) // 2]), float(curve.y[-1])


def verdict(name: str, desideratum: str, metric: str) -> str | None:
    return judge(scenario(name), curves(name)).get((desideratum, metric))


# The shapes ----------------------------------------------------------------------------------------------


def line(*y: float) -> Curve:
    return Curve(np.arange(float(len(y))), np.array(y))


def test_each_shape_is_told_from_the_others():
    up, down, hill, level = line(0, 0.5, 1), line(1, 0.5, 0), line(0, 1, 0), line(0.7, 0.72, 0.7)
    assert [test(up) for test in (rises(), falls(), bell(1), flat())] == ["pass", "fail", "fail", "fail"]
    assert [test(down) for test in (rises(), falls(), bell(1), flat())] == ["fail", "pass", "fail", "fail"]
    assert [test(hill) for test in (rises(), falls(), bell(1), flat())] == ["fail", "fail", "pass", "fail"]
    assert [test(level) for test in (rises(), falls(), bell(1), flat())] == ["fail", "fail", "fail", "pass"]


def test_a_fall_that_comes_too_late_is_no_fall():
    late = line(1, 1, 1, 0)
    assert falls()(late) == "pass"
    assert falls(by=2)(late) == "fail"


def test_a_curve_settles_from_the_middle_on():
    assert settles()(line(0, 0.5, 0.7, 0.71, 0.72)) == "pass"
    assert settles()(line(0, 0, 0.7, 0.8, 0.9)) == "fail"


def test_a_value_is_met_within_a_twentieth():
    assert value(2, 1)(line(0, 0, 0.951)) == "pass"
    assert value(2, 1)(line(0, 0, 0.949)) == "fail"


def test_wide_samples_are_all_diverse_or_not_at_all():
    assert [wide(np.inf)(line(0, y)) for y in (1.0, 0.0, 0.5)] == ["high", "low", "fail"]
    assert low_or_high(falls(), flat())(line(1, 0)) == "low"
    assert low_or_high(falls(), flat())(line(1, 1)) == "high"


def test_a_distance_becomes_a_score_on_each_side_of_the_centre():
    y = Curve(np.array([0.1, 1.0, 10.0]), np.array([4.0, 1.0, 400.0])).closeness(centre=1.0).y
    assert y.tolist() == pytest.approx([0.0, 1 - 1 / 400, 0.0])
    # A fifth of a distance is what a twentieth is of a score from 0 to 1.
    assert [flat()(line(4.0, y, 5.0).relative()) for y in (4.0, 5.01)] == ["pass", "fail"]


def test_one_failure_fails_all_and_two_senses_of_diversity_contradict():
    assert worst(["pass", "fail", None]) == "fail"
    assert worst(["low", "high"]) == "fail"
    assert worst(["pass", "high"]) == "high"
    assert worst(["pass", None]) == "pass"
    assert worst([None]) is None


# The fifteen situations ----------------------------------------------------------------------------------


def test_1_a_moved_mean_is_seen_by_all():
    first, middle, last = ends("Gaussian mean difference", "fid", "d=8")
    assert first == pytest.approx(8 * 3**2, rel=0.15)
    assert last == pytest.approx(8 * 3**2, rel=0.15)
    assert middle < 1
    for metric in ("fid", "kid", "cmmd", "cmmd.median", "mind", "precision", "recall", "density", "coverage"):
        assert verdict("Gaussian mean difference", "D1b", metric) == "pass", metric


def test_2_one_real_outlier_deceives_precision_and_one_generated_outlier_deceives_recall():
    name = "Gaussian mean difference, one outlier"
    assert ends(name, "precision", "real outlier, d=8")[2] > 0.9
    assert ends(name, "recall", "fake outlier, d=8")[0] > 0.9
    assert ends(name, "clipped coverage", "real outlier, d=8")[2] < 0.05
    assert ends(name, "coverage", "real outlier, d=8")[2] < 0.05
    assert verdict(name, "D1b", "precision") == verdict(name, "D1b", "recall") == "fail"


def test_3_a_heavy_tail_does_not_hide_the_moved_mean():
    for metric in ("coverage", "clipped coverage", "density", "clipped density"):
        assert verdict("Gaussian mean difference beside a Pareto column", "D1b", metric) == "pass", metric


def test_4_cmmd_of_directions_does_not_see_a_spread_that_fid_sees():
    name = "Gaussian standard deviation difference"
    assert verdict(name, "D1b", "fid") == verdict(name, "D1b", "mind") == "pass"
    assert verdict(name, "D1b", "cmmd") == verdict(name, "D1b", "cmmd.median") == "fail"
    assert ends(name, "cmmd", "d=8")[2] < 0.05 * ends("Gaussian mean difference", "cmmd", "d=8")[2]
    assert ends(name, "recall", "d=8") == pytest.approx((0, 0.9, 1), abs=0.06)


def test_5_coverage_falls_with_fading_modes_and_density_does_not():
    name = "modes dropped together"
    assert ends(name, "coverage", "d=8")[2] < 0.15
    assert ends(name, "density", "d=8")[2] == pytest.approx(1, abs=0.15)
    assert verdict(name, "D1b", "coverage") == "pass"
    # One sample of a mode in twenty still stretches a ball over it.
    assert verdict(name, "D1b", "recall") == "fail"
    assert curves(name)["d=8", "recall"].at(0.96) > 0.9


def test_6_modes_dropped_in_turn_lower_recall_and_leave_precision():
    name = "modes dropped in turn"
    recall = curves(name)["d=8", "recall"].y
    assert (np.diff(recall) < 0).all()
    assert recall[-1] == pytest.approx(0.1, abs=0.05)
    assert curves(name)["d=8", "precision"].y.min() > 0.9
    assert verdict(name, "D1b", "fid") == "pass"


def test_7_invented_modes_halve_precision_and_are_diverse_to_recall():
    name = "modes dropped, then invented"
    assert ends(name, "precision")[0] > 0.9
    assert ends(name, "precision")[2] == pytest.approx(0.5, abs=0.1)
    assert ends(name, "recall")[0] == pytest.approx(0.2, abs=0.1)
    assert ends(name, "recall")[2] > 0.9


def test_8_one_wide_mode_for_two_is_unreal_but_diverse():
    name = "one mode for two"
    for metric in ("precision", "density", "clipped density"):
        assert verdict(name, "D1b", metric) == "pass", metric
    assert ends(name, "recall", "d=8")[2] > 0.95
    assert ends(name, "coverage", "d=8")[2] < 0.05


def test_9_points_in_the_middle_of_a_sphere_pass_as_real():
    name = "surface of a hypersphere"
    assert ends(name, "precision", "d=16")[0] > 0.95
    assert ends(name, "density", "d=16")[0] > 10
    assert ends(name, "clipped density", "d=16")[0] == 1
    assert ends(name, "recall", "d=16")[0] == 0
    assert verdict(name, "D1b", "fid") == verdict(name, "D1b", "mind") == "pass"


def test_10_the_overlap_of_two_cubes_is_overrated_in_eight_dimensions():
    name = "hypercube, both sides growing"
    for metric in ("precision", "recall", "density", "coverage"):
        assert ends(name, metric, "d=8")[2] > 2 * 0.2, metric
        assert verdict(name, "D1b", metric) == "fail", metric


def test_11_more_generated_samples_alone_raise_coverage():
    first, _, last = ends("hypercube, generated side growing", "coverage", "d=8")
    assert last > first + 0.3
    first, _, last = ends("hypercube, generated side growing", "density", "d=8")
    assert last == pytest.approx(first, abs=0.1)


def test_12_a_ring_around_a_ball_is_covered_the_more_it_is_filled():
    name = "sphere and torus"
    first, _, last = ends(name, "coverage", "real torus")
    assert last > first + 0.3
    assert ends(name, "realism", "real sphere")[2] < 0.05
    assert ends(name, "fid", "real sphere")[2] > 2


def test_13_units_do_not_matter_once_columns_are_standardised():
    name = "one column in other units"
    assert ends(name, "fid")[0] == pytest.approx(ends(name, "fid")[2], rel=0.1)
    assert ends(name, "density")[0] == pytest.approx(ends(name, "density")[2], abs=0.05)
    raw = follow(scenario(name), SMALL, ["density", "fid"], repeats=ONCE, standardise=False)
    assert raw["", "density"].y[0] == pytest.approx(0, abs=0.05)
    # Metrics take features as they come: in large units the second column is all they see.
    assert raw["", "density"].y[-1] > 0.8
    assert judge(scenario(name), raw)["D5", "fid"] == "fail"


def test_14_many_columns_alike_hide_one_that_is_not():
    name = "one disjoint column among many alike"
    for metric in ("precision", "recall", "coverage"):
        assert ends(name, metric)[0] < 0.05, metric
        assert ends(name, metric)[2] > 0.15, metric
    assert ends(name, "fid")[2] > 36


def test_15_whole_numbers_pass_as_continuous_on_a_fine_grid():
    name = "whole numbers and continuous ones"
    for sweep in ("discrete real", "discrete fake"):
        assert ends(name, "precision", sweep)[2] > 0.95, sweep
        assert ends(name, "coverage", sweep)[2] > 0.85, sweep
    assert ends(name, "precision", "discrete real")[0] < 0.3
    assert ends(name, "coverage", "discrete fake")[0] < 0.3


# The table -----------------------------------------------------------------------------------------------


def test_every_metric_meets_every_situation():
    assert len(SCENARIOS) == len(BY_NAME) == 15
    assert sorted(name for names in CALLS for name in names) == sorted(KINDS)
    for each in SCENARIOS:
        asked = {kind for check in each.checks for kind in check.kinds}
        assert asked == set(KINDS.values()), each.name
        assert {(each.name, check.desideratum) for check in each.checks} >= {
            key for key in [(each.name, d) for d in ("D1b", "D2", "D3", "D4", "D5")] if published(*key)
        }


def test_a_distance_is_not_asked_for_bounds():
    curve = curves("Gaussian mean difference")["d=8", "fid"]
    said = checked(scenario("Gaussian mean difference"), "d=8", "distance", curve)
    assert [verdict for desideratum, verdict in said if desideratum == "D4"] == [None, None, None]


def test_the_two_sample_test_is_made_at_four_points_and_is_one_for_equal_sets():
    size = Size(n=60, points=5, dims=(1,))
    found = follow(scenario("Gaussian mean difference"), size, ["c2st"], repeats=ONCE)["d=1", "c2st"]
    assert found.x.tolist() == [-6, 0, 3, 6]
    assert found.y[0] < 0.1
    assert found.y[1] == pytest.approx(1, abs=0.3)


def test_the_table_counts_what_was_passed_and_names_what_differs_from_the_published_run():
    name = "modes dropped together"
    verdicts = verdicts_of(scenario(name), curves(name))
    rows = list(table(verdicts, ["density", "coverage", "fid"]))
    assert f"| {name} | D1b | " in rows[2]
    assert rows[-1].startswith("| **passed** | | ")
    assert rows[-1].endswith("| 1 of 1 |")
    key = (name, "D1b")
    row = {metric: published(*key)[metric] for metric in METRICS}
    assert list(differences({key: row}))[2:] == []
    assert list(differences({key: row | {"coverage": "fail"}}))[2:] == [f"| {name} | D1b | coverage | pass | fail |"]
