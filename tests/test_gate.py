"""The gate's verdicts by hand: limits, regressions against a baseline, everything that must never read as a pass."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evalkit
from evalkit.errors import ModalityMismatch, NothingToEvaluate
from evalkit.evaluation import is_inconclusive
from evalkit.gating.changes import Limited, change_of, needed, steps
from evalkit.gating.verdicts import too_many_unreadable
from evalkit.types import Check, Excluded, Floor, Moves, Outcome, Reference, Rule, RunRecord
from tests.test_records import record, result

NAME = "fid@pixels"


def run(*results: Any, **changes: Any) -> RunRecord:
    return record("model", *results, **{"excluded": (), "warnings": (), **changes})


def number(value: float = 2.0, half: float = 0.5, name: str = NAME, n: int = 1000, **changes: Any) -> Any:
    sides = {"real": n, "fake": n}
    return result(name, value, **{"low": value - half, "high": value + half, "n": sides, **changes})


def judged(rule: dict[str, Any], now: RunRecord, base: RunRecord | None = None, **top: Any) -> Check:
    report = evalkit.gate(now, base, {NAME: rule, **top})
    (check,) = report.checks
    assert report.outcome == (check.outcome if check.counts else "inconclusive")
    return check


# ---------------------------------------------------------------------------------------------- absolute limits


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"max": 2.1}, "pass"),
        ({"max": 2.0}, "pass"),
        ({"max": 1.9}, "fail"),
        ({"min": 1.9}, "pass"),
        ({"min": 2.1}, "fail"),
        ({"min": 1.9, "max": 2.1}, "pass"),
        ({"min": 2.1, "max": 2.2}, "fail"),
        ({"max": 2.6, "confident": True}, "pass"),
        ({"max": 2.5, "confident": True}, "pass"),
        ({"max": 2.4, "confident": True}, "inconclusive"),
        ({"max": 1.6, "confident": True}, "inconclusive"),
        ({"max": 1.4, "confident": True}, "fail"),
        ({"min": 1.4, "confident": True}, "pass"),
        ({"min": 1.6, "confident": True}, "inconclusive"),
        ({"min": 2.6, "confident": True}, "fail"),
        ({"max": 3.0, "min_n": 1000}, "pass"),
        ({"max": 3.0, "min_n": 1001}, "inconclusive"),
        ({"max": 1.0, "min_n": 1001}, "inconclusive"),
        ({"min_n": 1000}, "pass"),
        ({"require": True}, "pass"),
    ],
)
def test_a_limit_holds_for_the_value_or_for_the_whole_interval(rule: dict[str, Any], outcome: Outcome) -> None:
    assert judged(rule, run(number())).outcome == outcome


def test_a_near_miss_says_how_many_samples_would_settle_it() -> None:
    # The end lies 0.5 away at n = 1000; to come within 0.25 it takes 4 times as many.
    assert "about 4000 samples a side" in judged({"max": 2.25, "confident": True}, run(number())).advice
    assert "about 4000 samples a side" in judged({"max": 2.25}, run(number())).advice
    assert judged({"max": 20.0}, run(number())).advice == ""


def test_a_value_hardly_over_the_limit_reads_differently_from_it() -> None:
    assert "20.000001" in judged({"max": 20.0}, run(number(20.000001))).says


def test_a_number_without_an_interval_cannot_be_confident() -> None:
    bare = number(half=0.0, interval="none")
    assert judged({"max": 3.0, "confident": True}, run(bare)).outcome == "inconclusive"
    assert judged({"max": 3.0}, run(bare)).outcome == "pass"


# ---------------------------------------------------------------------------------------------- regressions


def test_a_regression_is_beyond_the_floor_and_has_an_interval_that_excludes_zero() -> None:
    """Half-widths of 0.5 make one of 0.7071 for the difference."""
    base = run(number(2.0))
    for rise, floor, outcome in (
        (0.72, 0, "fail"),
        (0.70, 0, "pass"),
        (0.72, 0.71, "fail"),
        (0.72, 0.73, "pass"),
        (0.72, "35%", "fail"),
        (0.72, "37%", "pass"),
        (-5.0, 0, "pass"),
        (0.0, 0, "pass"),
    ):
        check = judged({"max_increase": floor}, run(number(2.0 + rise)), base)
        assert check.outcome == outcome, (rise, floor)
        assert check.difference is not None and check.p is not None
        assert check.difference.value == pytest.approx(rise)
        assert check.difference.high - check.difference.low == pytest.approx(2 * math.sqrt(0.5))
        assert (check.difference.low > 0) == (rise > 0.71) and (check.p < 0.05) == (rise > 0.71)


def test_max_decrease_looks_the_other_way_and_a_limit_on_an_improvement_says_so() -> None:
    base = run(number(2.0, better="higher"))
    low, high = run(number(1.0, better="higher")), run(number(3.0, better="higher"))
    assert judged({"max_decrease": 0.1}, low, base).outcome == "fail"
    assert judged({"max_decrease": 0.1}, high, base).outcome == "pass"
    assert judged({"max_increase": 0.1}, low, base).outcome == "pass"
    risen = judged({"max_increase": 0.1}, high, base)
    assert risen.outcome == "fail" and "limits an improvement" in risen.asked
    both = judged({"max_increase": 0.1, "max_decrease": 0.1}, low, base)
    assert both.outcome == "fail" and both.says.count("fell") == 1 and "rise" not in both.says
    assert "improvement" not in judged({"max_decrease": 0.1}, low, base).asked


def test_samples_in_common_make_a_small_regression_visible() -> None:
    shared = {"real": Moves("sha256:r:4", 0.9, (999, -999, 500, -500))}
    now, base = number(2.4, moves=shared), number(2.0, moves=shared)
    assert judged({"max_increase": 0}, run(now), run(base)).outcome == "fail"
    assert judged({"max_increase": 0}, run(number(2.4)), run(number(2.0))).outcome == "pass"


def test_p_is_that_of_the_normal_distribution_and_the_level_is_alpha() -> None:
    base, now = run(number(2.0)), run(number(2.5))
    error = 0.5 * math.sqrt(2) / NormalDist().inv_cdf(0.975)
    p = 2 * (1 - NormalDist().cdf(0.5 / error))
    for alpha in (0.05, 0.2, p + 0.001, p - 0.001):
        check = judged({"max_increase": 0}, now, base, alpha=alpha)
        assert check.p == pytest.approx(p) and check.difference is not None
        assert check.difference.level == pytest.approx(1 - alpha)
        assert check.outcome == ("fail" if p < alpha else "pass")


def test_another_level_of_a_record_is_put_at_the_same_error() -> None:
    z = NormalDist().inv_cdf(0.95) / NormalDist().inv_cdf(0.975)
    ninety = judged({"max_increase": 0}, run(number(2.6, 0.5 * z, level=0.9)), run(number(2.0)))
    ninety_five = judged({"max_increase": 0}, run(number(2.6, 0.5)), run(number(2.0)))
    assert ninety.p == pytest.approx(ninety_five.p)
    assert ninety.difference is not None and ninety_five.difference is not None
    assert astuple(ninety.difference) == pytest.approx(astuple(ninety_five.difference))


def test_several_regressions_share_one_alpha() -> None:
    """A p of 0.03 is proven alone, not beside another of 0.03; one of 0.001 beside it is, and leaves 0.05."""
    assert steps([0.03], 0.05, "holm") == [(0.03, 0.05)]
    assert steps([0.03, 0.03], 0.05, "holm") == [(0.06, 0.025), (0.06, 0.025)]
    assert steps([0.03, 0.001], 0.05, "holm") == [(0.03, 0.05), (0.002, 0.025)]
    assert steps([0.04, 0.5, 0.001], 0.05, "holm") == [(0.08, 0.025), (0.5, 0.025), (0.003, pytest.approx(0.05 / 3))]
    assert steps([0.03, 0.03], 0.05, "none") == [(0.03, 0.05), (0.03, 0.05)]
    names = ["a@x", "b@x"]
    now, base = (run(*(number(v, name=name) for name in names)) for v in (2.75, 2.0))
    rules = {name: {"max_increase": 0} for name in names}
    assert evalkit.gate(now, base, rules).outcome == "pass"
    assert evalkit.gate(now, base, {**rules, "adjust": "none"}).outcome == "fail"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_by_its_definition(ps: list[float], alpha: float) -> None:
    found = steps(ps, alpha, "holm")
    rejected, left = set(), len(ps)
    for i in sorted(range(len(ps)), key=lambda i: ps[i]):
        if left * ps[i] >= alpha:
            break
        rejected.add(i)
        left -= 1
    for i, (adjusted, level) in enumerate(found):
        assert (adjusted < alpha) == (i in rejected)
        # The level that is shown agrees: the interval at that level excludes zero where p is below it.
        assert (ps[i] * (1 - 1e-12) < level) == (i in rejected) or ps[i] == pytest.approx(level)


def test_what_a_pass_could_have_seen() -> None:
    change = Limited(change_of(number(2.0), number(2.0)), 1, 0.0)
    # The error bars of a worse run are taken to be wider by 1.3.
    error = 1.3 * 0.5 * math.sqrt(2) / NormalDist().inv_cdf(0.975)
    assert change.seen(0.05) == pytest.approx((1.959964 + 0.841621) * error, rel=1e-5)
    assert replace(change, floor=9.0).seen(0.05) == pytest.approx(9 + 0.841621 * error, rel=1e-5)
    blind = judged({"max_increase": "5%"}, run(number(2.0)), run(number(2.0)))
    # Noise of 0.7071 against a floor of 0.1: 50 times the samples, rounded up to two digits.
    assert blind.outcome == "pass" and "blind" in blind.advice and "about 51000 samples" in blind.advice
    sharp = judged({"max_increase": "50%"}, run(number(2.0)), run(number(2.0)))
    assert "blind" not in sharp.advice and "8 of 10" in sharp.advice


def test_needed_by_hand() -> None:
    assert needed(100, 2.0, 1.0) == 400
    assert needed(123, 2.0, 1.0) == 500  # 492, two digits, up
    assert needed(100, 1.0, 2.0) is None
    assert needed(0, 2.0, 1.0) is None and needed(10, 2.0, 0.0) is None and needed(10, 1e9, 1e-9) is None


# ---------------------------------------------------------------------------------------------- never a pass


@pytest.mark.parametrize(
    ("now", "base", "says"),
    [
        (number(), None, "no baseline"),
        (number(), number(name="kid@pixels"), "missing in the baseline"),
        (number(), number(protocol="sha256:q"), "measured otherwise"),
        (number(), number(better="higher"), "better is lower"),
        (number(terms={"n": {"fake": 5}}), number(protocol="sha256:q", terms={"n": {"fake": 9}}), "fake 5"),
        (number(terms={"n": 5}), number(terms={"n": 9}), "n is 5"),
        (number(), number(math.nan), "not a finite number"),
        (number(math.inf), number(), "not a finite number"),
        (number(level=1.0), number(), "level 1.0"),
        (number(high=math.inf), number(), "without an end"),
        (number(low=2.1), number(), "outside its own interval"),
        (number(better="bigger"), number(better="bigger"), "no direction"),
        (number(9.0, 0.0, interval="none"), number(), "without intervals"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_inconclusive_with_its_reason(now: Any, base: Any, says: str) -> None:
    check = judged({"max_increase": "5%"}, run(now), None if base is None else run(base))
    assert check.outcome == "inconclusive" and says in check.says


def test_a_broken_limit_stays_broken_where_the_comparison_cannot_be_made() -> None:
    other = run(number(protocol="sha256:q"))
    assert judged({"max": 1.0, "max_increase": "5%"}, run(number()), other).outcome == "fail"
    assert judged({"max": 3.0, "max_increase": "5%"}, run(number()), other).outcome == "inconclusive"


def test_a_number_twice_in_a_record_is_not_judged() -> None:
    assert judged({"max": 3}, run(number(), number(1.0))).outcome == "inconclusive"
    assert judged({"max_increase": 3}, run(number()), run(number(), number())).outcome == "inconclusive"


def test_a_missing_number_counts_only_where_it_is_required() -> None:
    here, lacking = number(), "kid@pixels"
    warned = run(here, warnings=(f"{lacking} is missing: it ran out of memory",))
    report = evalkit.gate(warned, rules={NAME: {"max": 3}, lacking: {"max": 3}})
    assert report.outcome == "inconclusive" and "ran out of memory" in report.checks[1].says
    report = evalkit.gate(warned, rules={NAME: {"max": 3}, lacking: {"max": 3, "require": False}})
    assert report.outcome == "pass" and not report.checks[1].counts and report.totals["skipped"] == 1
    report = evalkit.gate(warned, rules={NAME: {"max": 1}, lacking: {"max": 3, "require": False}})
    assert report.outcome == "fail"
    report = evalkit.gate(warned, rules={lacking: {"max": 3, "require": False}})
    assert report.outcome == "inconclusive" and "nothing that was asked for" in report.verdict
    # Not required speaks of a missing number only.
    assert judged({"max": 1, "require": False}, run(here)).outcome == "fail"
    assert judged({"max": 3, "min_n": 9999, "require": False}, run(here)).outcome == "inconclusive"


def test_too_many_unreadable_inputs_are_inconclusive_and_agree_with_the_run() -> None:
    def lost(count: int, prefix: str = "") -> tuple[Excluded, ...]:
        return tuple(Excluded(f"{prefix}{i}.png", "truncated") for i in range(count))

    for prefix, entries in (("", 1), ("reference:", 1), ("training:", 1)):
        for n in (98, 99, 100):
            made = run(number(), excluded=lost(entries, prefix), train=Reference("t", n, "sha256:t"))
            made = replace(made, subject=replace(made.subject, n=n), reference=Reference("r", n, "sha256:r"))
            assert bool(too_many_unreadable(made)) == is_inconclusive(made) == (n < 99)
            assert judged({"max": 3}, made).outcome == ("inconclusive" if n < 99 else "pass")
            assert judged({"max": 1}, made).outcome == ("inconclusive" if n < 99 else "fail")
            ok = run(number())
            assert judged({"max_increase": 1}, ok, made).outcome == ("inconclusive" if n < 99 else "pass")


def test_another_modality_is_a_usage_error_and_an_empty_record_nothing_to_evaluate() -> None:
    text = run(number())
    text = replace(text, subject=replace(text.subject, modality="text"))
    with pytest.raises(ModalityMismatch, match="the baseline text"):
        evalkit.gate(run(number()), text, {NAME: {"max": 3}})
    with pytest.raises(NothingToEvaluate, match="holds no number"):
        evalkit.gate(replace(run(number()), results=()), rules={NAME: {"max": 3}})
    assert judged({"max_increase": 1}, run(number()), replace(run(number()), results=())).outcome == "inconclusive"


def test_rules_may_be_objects() -> None:
    rule = Rule(NAME, max=3.0, max_increase=Floor(0.05, relative=True), min_n=10, confident=True)
    report = evalkit.gate(run(number()), run(number()), [rule])
    assert report.outcome == "pass" and report.checks[0].rule == rule
    assert evalkit.gate(run(number()), None, [Rule(NAME)]).outcome == "pass"
