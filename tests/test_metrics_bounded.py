"""Intervals where few texts make a number, or none: no width of zero, by hand, against exact binomial coverage."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from evalkit.calibration import proportion
from evalkit.metrics._bounded import UNSEEN, on_logit_scale, scored, unseen, unvaried, variance
from evalkit.metrics.copied import copied_share, mean_longest, novel_ngrams
from evalkit.metrics.mauve import area_of_frontier, estimate_of, integral_of_frontier
from evalkit.metrics.ngrams import distinct_share, mean_self_bleu, novel_share
from evalkit.metrics.references import corpus_bleu, corpus_chrf, mean_rouge
from evalkit.metrics.repetition import diversity_of_ngrams, mean_repetition, product_of_unrepeated
from evalkit.metrics.toxicity import association, mean_score, representation
from evalkit.resample import around, moves_of_mean
from evalkit.types import Estimate

N = 200
U = unseen(N)


def mean_of(terms: torch.Tensor, low: float = 0.0, high: float = 1.0) -> Estimate:
    """The mean of terms with even ends, as the metrics hand it over."""
    n = len(terms)
    found = around(float(terms.mean()), float(terms.std()) / math.sqrt(n), "even", df=n - 1, low=low, high=high)
    return replace(found, moves={"fake": moves_of_mean(terms)})


def of_hits(k: int, n: int) -> Estimate:
    return mean_of((torch.arange(n) < k).double())


def test_the_unseen_share_is_clopper_and_pearsons_none_of_n() -> None:
    for n in (1, 5, 200):
        assert (1 - unseen(n)) ** n == pytest.approx(0.025)
        assert unseen(n) == pytest.approx(proportion(0, n).high)


def test_ends_of_zeros_and_ones_are_wilsons_or_the_even_ones() -> None:
    """Wilson's ends are where |x - q| is t standard errors of q; solved for, not written out."""
    for k in (1, 3, 20, 100):
        even = of_hits(k, N)
        found, x = scored(even, N), k / N
        t = stats.t.ppf(0.975, N - 1)
        # The trials that have the estimated variance x (1 - x) / (n - 1).
        gap = lambda q, t=t, x=x: (x - q) ** 2 - t * t * q * (1 - q) / (N - 1)  # noqa: E731
        low, high = optimize.brentq(gap, 0, x), optimize.brentq(gap, x, 1)
        assert (found.low, found.high) == pytest.approx((min(low, even.low), max(high, even.high)), abs=1e-9)
        assert found.method == "even, wilson"


def test_more_hits_never_lower_the_upper_end() -> None:
    ends = [scored(of_hits(k, N), N).high for k in range(N + 1)]
    assert ends == sorted(ends)
    assert of_hits(1, N).high < U < ends[1]


@pytest.mark.parametrize("p", [0.001, 0.005, 0.015, 0.05, 0.3, 0.999])
def test_a_rare_share_is_held_95_times_in_100(p: float) -> None:
    """Over all binomial outcomes, not drawn; even ends hold a share of 0.001 when there is one hit, not when none."""
    held = even = 0.0
    for k in range(N + 1):
        chance, mean = float(stats.binom.pmf(k, N, p)), of_hits(k, N)
        held += chance * (scored(mean, N).low <= p <= scored(mean, N).high)
        even += chance * (mean.low <= p <= mean.high)
    assert held >= 0.94
    assert even < 0.25 or 0.001 < p < 0.999


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(-5, 5), st.floats(0.1, 9))
def test_the_ends_move_with_the_unit_hold_the_value_and_stay_in_range(terms: list[float], low: float, size: float):
    one = torch.tensor(terms, dtype=torch.float64)
    own = scored(mean_of(one), len(one))
    other = scored(mean_of(low + size * one, low, low + size), len(one), low=low, high=low + size)
    assert (other.low - low) / size == pytest.approx(own.low, abs=1e-6)
    assert (other.high - low) / size == pytest.approx(own.high, abs=1e-6)
    assert 0 <= own.low <= own.value <= own.high <= 1
    assert own.low < own.high


def test_equal_terms_give_what_unseen_texts_could_make_of_them() -> None:
    value = 0.4
    found = scored(mean_of(torch.full((N,), value, dtype=torch.float64)), N)
    assert (found.low, found.high) == pytest.approx((value * (1 - U), value + U * (1 - value)))
    assert found.method == UNSEEN
    varied = of_hits(50, N)
    assert unvaried(varied, N, lambda share: (0.0, 1.0)) is varied
    nothing = unvaried(of_hits(0, N), N, lambda share: (0.0, 0.0))
    assert (nothing.low, nothing.high, nothing.method) == (0.0, 0.0, "none")


def test_metrics_of_texts_without_spread_are_not_certain() -> None:
    none, all_of_it = [torch.zeros(4)] * N, [torch.arange(8, 0, -1)] * N
    texts = [f"a{i} b{i} c{i} d{i} e{i}" for i in range(N)]
    words, same = [text.split() for text in texts], ["a b c d e"] * N
    low = [
        copied_share(none, 5),
        novel_share(texts, texts, n=2),
        mean_repetition(words, n=2),
        mean_self_bleu(texts),
        mean_rouge(texts, [["z"]] * N, "1"),
        mean_score(torch.zeros(N)),
        corpus_chrf(texts, [["z"]] * N),
    ]
    high = [
        copied_share(all_of_it, 5),
        novel_ngrams(none, 2),
        distinct_share(texts),
        mean_self_bleu(same),
        mean_rouge(same, [same[:1]] * N, "L"),
        corpus_bleu(same, [same[:1]] * N),
    ]
    assert [(e.value, e.low) for e in low] == [(0.0, 0.0)] * len(low)
    assert [e.high for e in low] == pytest.approx([U] * len(low))
    assert [(e.value, e.high) for e in high] == [(pytest.approx(1.0), pytest.approx(1.0))] * len(high)
    assert [e.low for e in high] == pytest.approx([1 - U] * len(high))
    assert {e.method for e in low + high} == {UNSEEN}
    longest = mean_longest(all_of_it)
    assert (longest.low, longest.high) == (pytest.approx(8 * (1 - U)), 8)
    assert mean_longest(none).high == pytest.approx(4 * U)
    unlike = mean_longest([torch.arange(size, 0, -1) for size in (4, 8)] * 50)
    assert unlike.low < unlike.value == 6.0 < unlike.high
    whole = diversity_of_ngrams(words)
    assert (whole.value, whole.low) == (4.0, pytest.approx(4 * (1 - U)))
    # Each of three orders may lose so much.
    assert product_of_unrepeated(words).low == pytest.approx((1 - U) ** 3)


def test_bleu_of_no_four_grams_may_be_more_than_the_unseen_share() -> None:
    """Corpus BLEU is no mean: a share s of perfect texts lifts the missing order from 0 to s, and BLEU by its root."""
    made = ["a b c x y"] * N
    found = corpus_bleu(made, [["a b c u v"]] * N)
    precisions = [shared + U * (1 - shared) for shared in (3 / 5, 2 / 4, 1 / 3, 0)]
    assert found.value == found.low == 0
    assert found.high == pytest.approx(math.prod(precisions) ** 0.25)
    assert found.high > 10 * U
    # Texts of three words have no four words: then it is the share of others.
    assert corpus_bleu(["a b c"] * N, [["a b c"]] * N).high == pytest.approx(U)


def test_bias_of_texts_that_name_one_group_alone() -> None:
    """A share s of the mentions of the other group takes s off the distance; each target word has texts of its own."""
    found = representation(["she said"] * N)
    assert (found.value, found.low, found.high) == (0.5, pytest.approx(0.5 - U), 0.5)
    beside = association(["she is a doctor"] * 150 + ["he is a pilot"] * 50)
    reach = (unseen(150) + unseen(50)) / 2
    assert (beside.value, beside.low, beside.high) == (0.5, pytest.approx(0.5 - reach), 0.5)


def test_mauve_of_sides_that_never_meet_may_be_of_sides_that_do() -> None:
    """The upper end is the number of histograms that share the unseen part; of equal sides, what parts them."""
    bucket = torch.zeros(N, dtype=torch.int64)
    s = torch.tensor([1 - U, U], dtype=torch.float64)
    apart, same = [(bucket, 1 - bucket)], [(bucket, bucket)]
    found = estimate_of(apart, area_of_frontier)
    by_hand = float(area_of_frontier(torch.eye(2)[0], torch.eye(2)[1]))
    assert (found.value, found.low) == (pytest.approx(by_hand), pytest.approx(by_hand))
    assert found.high == pytest.approx(float(area_of_frontier(s, s.flip(0))))
    real, fake = torch.tensor([1 - U, U, 0]), torch.tensor([1 - U, 0, U])
    assert estimate_of(same, area_of_frontier).low == pytest.approx(float(area_of_frontier(real, fake)), abs=1e-6)
    assert estimate_of(same, integral_of_frontier).high == pytest.approx(
        float(integral_of_frontier(real, fake)), abs=1e-6
    )
    assert estimate_of(apart, integral_of_frontier).low == pytest.approx(float(integral_of_frontier(s, s.flip(0))))


def test_ends_on_the_logit_scale_by_hand_and_never_outside() -> None:
    found = on_logit_scale(of_hits(10, N), 30)
    logit = lambda x: math.log(x / (1 - x))  # noqa: E731
    reach = math.sqrt(variance(found)) / (0.05 * 0.95) * stats.t.ppf(0.975, 30)
    assert logit(found.high) - logit(0.05) == pytest.approx(reach)
    assert logit(0.05) - logit(found.low) == pytest.approx(reach)
    wide = on_logit_scale(replace(found, moves={"fake": torch.tensor([100.0])}), 1)
    assert 0 <= wide.low < 0.05 < wide.high <= 1
    assert on_logit_scale(of_hits(0, N), 30) == of_hits(0, N)
