"""Differences of a board: p-values that agree with intervals, adjustments, what would settle them; the front."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.comparison import compare_records, difference, p_of_no_difference
from evalkit.differences import adjusted, lineup, settles_at
from evalkit.errors import BadSetting
from evalkit.tables import board_table
from evalkit.types import Column, MetricResult, Moves, RunRecord, Scatter
from tests.test_comparison import subject
from tests.test_records import result

finite = st.floats(-1e3, 1e3)
reach = st.floats(1e-3, 1e3)


@settings(deadline=None)
@given(finite, reach, reach)
def test_p_is_below_a_twentieth_exactly_where_the_interval_excludes_zero(value: float, down: float, up: float) -> None:
    low, high = value - down, value + up
    p = p_of_no_difference(value, low, high)
    assert 0 <= p <= 1
    assert (p < 0.05) == (not low <= 0 <= high)


def test_p_of_a_symmetric_interval_is_the_normal_two_sided_one() -> None:
    error = 0.7
    half = error * stats.norm.ppf(0.975)
    assert p_of_no_difference(1.0, 1 - half, 1 + half) == pytest.approx(2 * stats.norm.sf(1 / error))
    assert p_of_no_difference(0.0, -1.0, 1.0) == 1.0
    assert p_of_no_difference(1.0, math.nan, math.nan) == 1.0


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p_values)
def test_benjamini_hochberg_is_scipys(p: list[float]) -> None:
    assert adjusted(p, "bh") == pytest.approx(stats.false_discovery_control(p).tolist())


@given(p_values)
def test_holm_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    """A hypothesis is rejected at level a where every set that holds it is: the largest of |S| min p over the sets."""
    found = adjusted(p, "holm")
    for i in range(len(p)):
        # Of the sets of one size that hold i, the one with the largest other p-values rejects last.
        rest = sorted((q for j, q in enumerate(p) if j != i), reverse=True)
        closed = max((k + 1) * min([p[i], *rest[:k]]) for k in range(len(p)))
        assert found[i] == pytest.approx(min(1.0, closed))
    assert adjusted(p, "none") == p


def test_an_unknown_adjustment_is_refused() -> None:
    with pytest.raises(BadSetting, match="adjust = 'sidak'; expected holm, bh, none"):
        compare_records([subject("a", 1)], adjust="sidak")


def with_moves(values: list[float], seed: int) -> list[MetricResult]:
    rng = np.random.default_rng(seed)
    made = []
    for value in values:
        parts = tuple(int(x) for x in rng.integers(-999, 1000, 32))
        moves = {"real": Moves("r:32", 0.6, parts), "fake": Moves("f:32", 0.3, parts[::-1])}
        down, up = rng.uniform(0.2, 1, 2)
        made.append(result(value=value, low=value - float(down), high=value + float(up), moves=moves))
    return made


def test_a_column_at_once_says_what_difference_says_of_each_pair() -> None:
    results = with_moves([1.0, 1.4, 2.5, -3.0], 0)
    records = [replace(subject(f"s{i}", 0), results=(r,)) for i, r in enumerate(results)]
    own = lineup(Column("fid@pixels", "lower", "", "sha256:p", {}, "delta"), records)
    for j, other in enumerate(results):
        for i, one in enumerate(results):
            expected = difference(one, other) if i != j else (0.0, own.over(j)[i][1], own.over(j)[i][2])
            assert own.over(j)[i] == pytest.approx(expected)
            score = float(own.scores(slice(i, i + 1))[0, j])
            p = 2 * stats.norm.sf(abs(score))
            assert i == j or p == pytest.approx(p_of_no_difference(*difference(one, other)), rel=1e-6)


def test_every_pair_is_looked_at_once_and_frames_against_the_best_only() -> None:
    records = [subject(n, v) for n, v in (("a", 1), ("b", 1.5), ("base", 2))]
    records += [subject("real", 0.1, role="ceiling"), subject("noise", 50, role="floor")]
    found = compare_records(records, baseline="base").differences["fid@pixels"]
    pairs = {(d.one, d.other): d.verdict for d in found}
    assert pairs == {
        ("a", "base"): "better",
        ("b", "base"): "inconclusive",
        ("b", "a"): "inconclusive",
        ("real", "a"): "better",
        ("noise", "a"): "worse",
    }
    holm = adjusted([d.p for d in found], "holm")
    assert [d.adjusted for d in found] == holm


def test_the_family_is_the_whole_board() -> None:
    """One difference with p = 0.03 on two columns: better alone, open when both are adjusted together."""
    half = 1.0 / NormalDist().inv_cdf(1 - 0.015) * NormalDist().inv_cdf(0.975) / math.sqrt(2)
    one = [subject("a", 1, half), subject("b", 2, half)]
    two = [replace(r, results=(r.results[0], replace(r.results[0], name="kid@pixels"))) for r in one]
    assert compare_records(one).differences["fid@pixels"][0].verdict == "worse"
    assert compare_records(one).differences["fid@pixels"][0].p == pytest.approx(0.03)
    both = compare_records(two)
    assert {d.verdict for found in both.differences.values() for d in found} == {"inconclusive"}
    assert "The p-values of all 2 differences in 2 columns are adjusted together (Holm)." in both.verdict
    assert {d.verdict for f in compare_records(two, adjust="bh").differences.values() for d in f} == {"worse"}
    assert compare_records(two, adjust="none").differences["kid@pixels"][0].verdict == "worse"


def test_as_many_samples_as_would_settle_it_do_with_eighty_per_cent() -> None:
    """Standard error s/sqrt(n): at the answer the difference is z(0.975) + z(0.8) of them."""
    n = settles_at((1.0, 1 - 1.96 * 0.8, 1 + 1.96 * 0.8), 100)
    assert n == pytest.approx(100 * (0.8 * (1.959964 + 0.841621)) ** 2, abs=2)
    rng = np.random.default_rng(0)
    error = 0.8 * math.sqrt(100 / (n or 1))
    told = np.abs(rng.normal(1.0, error, 20_000)) > 1.959964 * error
    assert told.mean() == pytest.approx(0.8, abs=0.012)
    assert settles_at((0.001, -1, 1), 100) is None
    assert settles_at((0.0, -1, 1), 100) is None
    assert settles_at((1.0, -1, 3), None) is None
    assert settles_at((1.0, math.nan, math.nan), 100) is None


def test_thirty_one_subjects_are_set_against_the_best_and_the_baseline_only() -> None:
    records = [subject(f"s{i:02}", float(i), 0.1) for i in range(31)]
    found = compare_records(records, baseline="s30")
    assert len(found.differences["fid@pixels"]) == 30 + 29
    assert any("only the differences from the best and the baseline" in line for line in found.verdict)
    assert any(line.startswith("s00 against s30: better on fid@pixels") for line in found.verdict)
    assert len(compare_records(records[:30]).differences["fid@pixels"]) == 435


def timed(name: str, value: float, speed: float, joules: float | None = None) -> RunRecord:
    timing = {"samples_per_second": speed, "device": "cpu", **({} if joules is None else {"joules_per_sample": joules})}
    return replace(subject(name, value), timing=timing)


def test_the_front_holds_whom_no_other_beats_and_says_who_is_there_by_doubt() -> None:
    records = [timed("best", 1, 10, 5), timed("near", 1.5, 5, 6), timed("fast", 9, 100, 1), timed("bad", 9.5, 2, 9)]
    board = compare_records(
        [*records, replace(subject("noise", 99, role="floor"), timing=timed("x", 1, 1e4, 0).timing)]
    )
    speed, energy = (e for e in board.exhibits if isinstance(e, Scatter))
    # near is behind best in both, and not told apart in quality; bad is surely worse than best and slower.
    assert speed.front == ("near", "best", "fast") and energy.front == ("fast", "best", "near")
    assert speed.note.endswith("not told apart from a cheaper one's: near.")
    [said] = [line for line in board.verdict if line.startswith("On the front")]
    assert "best, near, fast; surely beaten in all of them: bad" in said
    assert [p.name for p in speed.points] == ["best", "near", "fast", "bad", "noise"]


def test_times_of_two_devices_make_no_front() -> None:
    other = timed("b", 9, 100)
    board = compare_records([timed("a", 1, 10), replace(other, timing={**(other.timing or {}), "device": "cuda"})])
    [plane] = [e for e in board.exhibits if isinstance(e, Scatter)]
    assert plane.front == () and "several devices" in plane.note
    assert not any(line.startswith("On the front") for line in board.verdict)


def test_the_terminal_shows_rank_letters_and_differences_within_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    records = [subject("a" * 90, 1), subject("b", 1.4), subject("baseline: c", 9)]
    text = board_table(compare_records(records, baseline="baseline: c"))
    table = text.partition("rank: with 95 %")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "inconclusive +0.4 [-0.307, +1.11], n 64 to settle" in table
    assert "better -8 [-8.71, -7.29]" in table and "worse +8 [+7.29, +8.71]" in table
    [row] = [line for line in table.splitlines() if line.startswith("b ") and "1–2" in line]
    assert row.split()[:3] == ["b", "1–2", "a"]
