"""Ranks and letters: decisions by hand, ranges and letters that never contradict, shared samples that help."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.ranks import COLUMN, TRUTHS, records_of, simulated
from benchmarks.ranks_agreement import board, rings
from evalkit.comparison import compare_records
from evalkit.differences import QUANTILE, lineup
from evalkit.standings import Ranking, letter, ranking, share_a_letter
from evalkit.types import Matrix, RunRecord
from tests.test_comparison import subject

values_ = st.lists(st.floats(-20, 20).map(lambda v: round(v, 3)), min_size=2, max_size=9)


def ranked(values: list[float], shared: float = 0.0, names: list[str] | None = None) -> Ranking:
    records = records_of(values, shared)
    if names:
        records = [replace(r, subject=replace(r.subject, name=n)) for r, n in zip(records, names, strict=True)]
    found = ranking(lineup(COLUMN, records))
    assert found is not None
    return found


def test_two_candidates_are_apart_where_the_interval_of_their_difference_excludes_zero() -> None:
    """Standard error of the difference sqrt(2): 1.96 of them are 2.772."""
    tied, apart = ranked([0.0, 2.77]), ranked([0.0, 2.775])
    assert tied.critical == pytest.approx(1.959964, abs=1e-5)
    assert [(s.best, s.worst, s.letters) for s in tied.standings.values()] == [(1, 2, "a"), (1, 2, "a")]
    assert [(s.best, s.worst, s.letters) for s in apart.standings.values()] == [(1, 1, "a"), (2, 2, "b")]
    assert tied.tied == ("m01",) and apart.tied == ()


def test_the_critical_value_is_that_of_the_studentised_range() -> None:
    """For independent numbers of one standard error the first step is Tukey's: q(0.95; k, infinite) / sqrt(2)."""
    # 4.5 apart in numbers is 3.18 standard errors of a difference: it lies between Tukey's 2.73 and no decision.
    found = ranked([0.0, 0.1, 0.2, 0.3, 3.85])
    assert found.critical == pytest.approx(stats.studentized_range.ppf(0.95, 5, np.inf) / math.sqrt(2), abs=0.06)


def test_by_hand_three_of_which_the_middle_one_is_told_from_nobody() -> None:
    found = ranked([0.0, 3.0, 6.0])
    assert {n: (s.best, s.worst, s.letters) for n, s in found.standings.items()} == {
        "m00": (1, 2, "a"),
        "m01": (1, 3, "ab"),
        "m02": (2, 3, "b"),
    }
    assert found.tied == ("m01",)


def test_shared_luck_is_no_doubt() -> None:
    """The same values are told apart once nine tenths of their variance is the draw of the same real samples."""
    assert ranked([0.0, 1.2, 2.4]).tied == ("m01", "m02")
    assert ranked([0.0, 1.2, 2.4], shared=0.9).tied == ()


@settings(max_examples=60, deadline=None)
@given(values_, st.sampled_from([0.0, 0.5, 0.9]))
def test_letters_ranges_and_ties_are_one_set_of_decisions(values: list[float], shared: float) -> None:
    found = ranked(values, shared)
    names = list(found.standings)
    for one in names:
        own = found.standings[one]
        beaten = [n for n in names if found.surely_better(one, n)]
        beating = [n for n in names if found.surely_better(n, one)]
        assert (own.best, own.worst) == (1 + len(beating), len(names) - len(beaten))
        apart = {n for n in names if n != one and not share_a_letter(own, found.standings[n])}
        assert apart == {*beaten, *beating}
    assert set(found.tied) == {
        n for n in names if n != found.best and share_a_letter(found.standings[n], found.standings[found.best])
    }
    # Nobody carries a letter that could be left out: every letter is some pair's only one, or its owner's only one.
    for sign in {c for s in found.standings.values() for c in s.letters}:
        less = {n: replace(s, letters=s.letters.replace(sign, "")) for n, s in found.standings.items()}
        kept = all(
            share_a_letter(less[a], less[b]) == share_a_letter(found.standings[a], found.standings[b])
            for a in names
            for b in names
        )
        assert not kept


@settings(max_examples=20, deadline=None)
@given(values_, st.randoms())
def test_standings_do_not_follow_the_order_of_the_records(values: list[float], order: object) -> None:
    records = records_of(values, 0.5)
    shuffled = list(records)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compare_records(records).standings == compare_records(shuffled).standings


def test_direction_is_the_columns() -> None:
    high = [subject(n, v, 0.1, better="higher") for n, v in (("a", 1), ("b", 2), ("c", 3))]
    found = compare_records(high).standings["fid@pixels"]
    assert {n: (s.best, s.letters) for n, s in found.items()} == {"a": (3, "c"), "b": (2, "b"), "c": (1, "a")}


def test_a_number_without_an_interval_is_told_from_nobody() -> None:
    records = [subject("a", 1, 0.1), subject("b", 5, 0.1), subject("c", 9, 0.0, interval="one call")]
    found = compare_records(records)
    assert found.standings["fid@pixels"]["c"].best == 1 and found.standings["fid@pixels"]["c"].worst == 3
    assert {(d.one, d.other) for d in found.differences["fid@pixels"]} == {("b", "a")}


def test_many_candidates_have_ranges_and_no_letters() -> None:
    found = ranked([10.0 * i for i in range(60)], names=[f"s{i:02}" for i in range(60)])
    assert all((s.best, s.worst, s.letters) == (i + 1, i + 1, "") for i, s in enumerate(found.standings.values()))
    # Bonferroni over 1,770 pairs, two-sided.
    assert found.critical == pytest.approx(stats.norm.isf(0.05 / 1770 / 2))


def test_letters_go_on_after_z_and_stay_apart() -> None:
    found = [letter(i) for i in range(120)]
    assert found[:3] == ["a", "b", "c"] and found[26] == "A" and found[52] == "a2" and len(set(found)) == 120


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_ranges_hold_all_true_ranks_and_equals_are_rarely_apart(shared: float) -> None:
    """Five equal candidates, the hardest case: 95 % of 300 columns less four standard errors of 1.26 %."""
    rng = np.random.default_rng(1)
    found = [simulated(TRUTHS["all equal"](5), shared, rng)["board"] for _ in range(300)]
    assert np.mean([covered for covered, _, _ in found]) > 0.90
    assert np.mean([apart for _, _, apart in found]) < 0.10


def test_the_alarm_names_the_gamed_instrument_and_is_silent_where_all_agree() -> None:
    rng = np.random.default_rng(2)
    gamed = [rings(board(4.0, 6.0, rng)) for _ in range(40)]
    assert np.mean([any(x.startswith("fid@inception contradicts") for x in f) for f in gamed]) > 0.6
    assert not any(rings(board(apart, 0.0, rng)) for apart in (0.0, 1.5) for _ in range(40))


def named(value: dict[str, tuple[float, ...]], instruments: tuple[str, ...]) -> list[RunRecord]:
    """Records with one result an instrument, half-width 0.1."""
    made = []
    for name, numbers in value.items():
        results = tuple(
            replace(subject(name, v, 0.1).results[0], name=column)
            for v, column in zip(numbers, instruments, strict=True)
        )
        made.append(replace(subject(name, 0.0), results=results))
    return made


def test_columns_of_one_network_are_one_instrument() -> None:
    """fid and kid on inception agree with each other against two other networks: one instrument against two."""
    columns = ("fid@inception", "kid@inception:tf1", "fid@dinov2", "cmmd@clip")
    rows = {"tuned": (1.0, 1.0, 9.0, 9.0), "b": (5.0, 5.0, 5.0, 5.0), "c": (7.0, 7.0, 7.0, 7.0)}
    [said] = [x for x in compare_records(named(rows, columns)).verdict if "contradicts" in x]
    assert said.startswith("fid@inception contradicts all other instruments: it puts tuned surely first")
    assert "fid@dinov2, cmmd@clip" in said


def test_two_instruments_that_contradict_each_other_accuse_neither() -> None:
    rows = {"a": (1.0, 9.0), "b": (5.0, 5.0), "c": (9.0, 1.0)}
    said = " ".join(compare_records(named(rows, ("fid@inception", "fid@dinov2"))).verdict)
    assert "fid@inception and fid@dinov2 contradict each other" in said and "tuned to one network" not in said


def test_diversity_may_disagree_without_an_alarm() -> None:
    rows = {"a": (1.0, 9.0, 9.0), "b": (5.0, 5.0, 5.0), "c": (9.0, 1.0, 1.0)}
    found = compare_records(named(rows, ("fid@inception", "vendi@dinov2", "memorization@pixels")))
    assert not any("contradict" in line for line in found.verdict)


def test_agreement_is_kendalls_and_turned_so_that_one_is_the_same_order() -> None:
    """Costs (1, 2, 3, 4) against (1, 3, 2, 4): five of six pairs agree, tau = 4/6; the third column is the second's."""
    rows = {n: (float(i), v, -v) for i, (n, v) in enumerate(zip("abcd", (1.0, 3.0, 2.0, 4.0), strict=True))}
    records = named(rows, ("fid@inception", "fid@dinov2", "vendi@clip"))
    turned = [replace(r, results=(*r.results[:2], replace(r.results[2], better="higher"))) for r in records]
    [matrix] = [e for e in compare_records(turned).exhibits if isinstance(e, Matrix)]
    part = pytest.approx(2 / 3)
    assert [[c.value for c in line] for line in matrix.cells] == [[1, part, part], [part, 1, 1], [part, 1, 1]]


def test_the_critical_value_lies_between_one_pairs_and_bonferronis() -> None:
    found = ranked([0.0, 1.0, 2.0, 5.0, 5.5, 9.0], shared=0.5)
    assert QUANTILE <= found.critical <= stats.norm.isf(0.05 / 30)
