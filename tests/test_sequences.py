"""Confidence sequences: closed forms by hand, agreement with a second way of computing, and coverage at all times."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from evalkit.blocks import FOLLOWABLE, follow, kernel_teller, placements
from evalkit.errors import BadRows, TooFewSamples, UsageError
from evalkit.metrics.detection import area_under_roc
from evalkit.metrics.kernel import kernel_distance
from evalkit.metrics.likelihood import corpus_bits_per_byte, corpus_perplexity
from evalkit.metrics.mind import sliced_distance
from evalkit.planning import plan
from evalkit.sequences import BlockMean, BlockRatio, BoundedMean, reach


def bayes_factor(t: float, n: int, prior: float) -> float:
    """Of "an effect, normal with this variance" against "none", right Haar prior on the spread, by quadrature."""

    def density(effect: float) -> float:
        return float(stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) * stats.norm.pdf(effect, scale=math.sqrt(prior)))

    return float(integrate.quad(density, -6, 6, limit=200)[0]) / float(stats.t.pdf(t, n - 1))


@pytest.mark.parametrize("n", [8, 20])
def test_reach_is_where_the_bayes_factor_is_20(n: int) -> None:
    edge = optimize.brentq(lambda t: bayes_factor(t, n, 0.4) - 20, 1.0, 12.0)
    assert reach(n, 0.95, 0.4) == pytest.approx(edge / math.sqrt(n), rel=1e-4)


def test_reach_is_wider_than_student_and_nothing_is_said_of_one_block() -> None:
    assert reach(1) == math.inf
    for n in (12, 40, 400):
        student = stats.t.ppf(0.975, n - 1) / math.sqrt(n)
        assert student < reach(n) < 2.5 * student
    assert reach(4000) < reach(400) < reach(40)
    assert reach(40, level=0.99) > reach(40)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=80))
def test_a_bounded_mean_holds_what_no_value_contradicts_and_only_narrows(values: list[float]) -> None:
    sequence = BoundedMean(points=101)
    low, high = 0.0, 1.0
    for value in values:
        sequence.add([value])
        assert low <= sequence.low and sequence.high <= high
        low, high = sequence.low, sequence.high
    if not sequence.is_empty:
        whole = BoundedMean(points=101)
        whole.add(values)
        assert (whole.low, whole.high) == pytest.approx((low, high))
    assert sequence.value == pytest.approx(sum(values) / len(values))


def test_betting_by_hand() -> None:
    """Of ones only, m is excluded once the better gambler's half has become 20."""
    sequence = BoundedMean(points=5)
    sequence.add([1.0] * 40)
    m, capital, squares, total = 0.5, 1.0, 0.0, 0.0
    for i in range(1, 41):
        bet = math.sqrt(2 * math.log(40) / ((0.25 + squares) / i * i * math.log(i + 1)))
        capital *= 1 + min(bet, 0.75 / m) * (1 - m)
        total += 1
        squares += (1 - (0.5 + total) / (i + 1)) ** 2
    assert capital / 2 > 20 and sequence.low >= 0.5 and sequence.high == 1.0


def test_betting_is_not_wider_than_hoeffding_over_all_times() -> None:
    """A union bound over all t with Hoeffding's inequality holds at all times too; betting must beat it."""
    values = np.random.default_rng(3).beta(8, 4, 1500)
    sequence = BoundedMean()
    sequence.add(values)
    n = len(values)
    hoeffding = math.sqrt(math.log(2 * n * (n + 1) / 0.05) / (2 * n))
    assert values.mean() - hoeffding < sequence.low < 8 / 12 < sequence.high < values.mean() + hoeffding
    with pytest.raises(BadRows, match=r"outside \[0, 1\]"):
        sequence.add([1.2])
    with pytest.raises(BadRows):
        sequence.add([math.nan])


def held(make: object, draw: object, truth: float, runs: int = 100, values: int = 40) -> float:
    """The share of runs in which the sequence held the truth at every one of the looks."""
    kept = 0
    for seed in range(runs):
        sequence = make()  # type: ignore[operator]
        for x in draw(np.random.default_rng(seed), values):  # type: ignore[operator]
            sequence.add(*([v] for v in np.atleast_1d(x)))
        kept += sequence.low <= truth <= sequence.high and not sequence.is_empty
    return kept / runs


def test_the_truth_is_held_at_every_look() -> None:
    assert held(BlockMean, lambda g, n: g.normal(3, 2, n), 3) > 0.95
    assert held(BlockMean, lambda g, n: g.chisquare(3, n), 3) > 0.9
    assert held(lambda: BoundedMean(points=201), lambda g, n: g.uniform(size=n), 0.5, runs=50) > 0.95

    def pairs(g: np.random.Generator, n: int) -> np.ndarray:
        tokens = g.uniform(50, 150, n)
        return np.stack([1.7 * tokens + g.normal(0, 9, n), tokens], axis=1)

    assert held(BlockRatio, pairs, 1.7) > 0.95


def test_ordinary_intervals_do_not_hold_at_every_look() -> None:
    missed, counts = 0, range(12, 41)
    critical = [stats.t.ppf(0.975, n - 1) / n**0.5 for n in counts]
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=40)
        missed += any(abs(x[:n].mean()) > c * x[:n].std(ddof=1) for n, c in zip(counts, critical, strict=True))
    assert missed / 200 > 0.1


def test_shares_that_are_all_one_are_not_taken_for_certain() -> None:
    sequence = BlockMean(within=(0.0, 1.0), share_of=50)
    sequence.add([1.0] * 12)
    assert 0.9 < sequence.low < 0.995 and sequence.high == 1.0
    few = BlockMean(within=(0.0, 1.0))
    few.add([0.5] * 11)
    assert (few.low, few.high) == (0.0, 1.0)


def test_a_series_that_drifts_contradicts_itself() -> None:
    sequence = BlockMean()
    sequence.add([0.0, 0.01] * 30)
    sequence.add([5.0, 5.01] * 400)
    assert sequence.is_empty
    with pytest.raises(BadRows, match="finite"):
        sequence.add([math.inf])
    with pytest.raises(BadRows, match="above 0"):
        BlockRatio().add([1.0], [0.0])


def task_of(name: str, modality: str = "image", **own: object):
    table = {name.partition("@")[0].partition(".")[0]: own}
    return plan([name], modality, with_train=False, with_timing=False, settings=table)[0]  # type: ignore[arg-type]


def normal(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return shift + torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def test_blocks_of_kid_are_the_metric_itself() -> None:
    real, block = normal(40, 0), normal(25, 1, 0.3)
    assert kernel_teller(real)(block, 0) == pytest.approx(kernel_distance(real, block), rel=1e-5)


def test_places_of_scores_have_the_auroc_as_their_mean() -> None:
    real, fake = torch.rand(30, 1), torch.rand(50, 1).round(decimals=1)
    assert np.mean(placements(real, fake)) == pytest.approx(area_under_roc(real, fake).value)


def test_followers_take_whole_blocks_and_keep_the_rest() -> None:
    real = normal(20, 0)
    one = follow("mind", task_of("mind@pixels", directions=20), real, 20, 0)
    rows = torch.cat([normal(20, s, 0.5) for s in range(1, 14)])
    # As many reals as a block has: every block meets all of them.
    expected = [sliced_distance(real, part, directions=20) for part in torch.split(rows, 20)]
    for part in torch.split(rows, 33):
        one.take(part)
    assert one.blocks == 13 and one.taken == 260
    value, low, high = one.interval
    assert value == pytest.approx(np.mean(expected), rel=1e-4) and low < value < high


def test_likelihoods_follow_the_corpus() -> None:
    nats = torch.rand(300, 1) * 40 + 20
    rows = torch.cat([nats, torch.full((300, 1), 20.0), torch.full((300, 1), 90.0)], dim=1)
    for name, whole in (("perplexity", corpus_perplexity(rows)), ("bits_per_byte", corpus_bits_per_byte(rows))):
        one = follow(name, task_of(name, "text"), None, 20, 0)
        one.take(rows)
        value, low, high = one.interval
        assert value == pytest.approx(whole.value, rel=1e-9)
        assert low < whole.low and whole.high < high, "at all times costs width"


def test_metrics_without_a_sequence_are_named_with_those_that_have_one() -> None:
    for name in ("fid@pixels", "prdc@pixels", "prdc.recall@pixels"):
        with pytest.raises(UsageError, match=r"has no confidence sequence.*; take one of kid, mind, prdc\.coverage"):
            follow(name, task_of(name), normal(50, 0), 20, 0)
    with pytest.raises(UsageError, match="leave subsets"):
        follow("kid", task_of("kid@pixels", subsets=5), normal(50, 0), 20, 0)
    with pytest.raises(TooFewSamples, match="needs 7 to 15"):
        follow("prdc.coverage", task_of("prdc.coverage@pixels"), normal(15, 0), 20, 0)
    assert "fid" not in FOLLOWABLE
