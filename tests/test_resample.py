"""Error bars: the jackknife and the bootstrap against known variances, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalkit.errors import BadRows, TooFewSamples
from evalkit.resample import around, bootstrap, group_jackknife, jackknife, partition


def test_leave_one_out_of_a_mean_is_students_interval():
    x = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    found = jackknife(4.0, [(x.sum() - x) / 3])
    low, high = stats.t.interval(0.95, 3, loc=4.0, scale=float(x.std()) / 2)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.value, found.method, found.level) == (4.0, "jackknife", 0.95)


def test_group_jackknife_of_a_difference_of_means_has_the_known_error():
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(4000, generator=g).double(), 3 * torch.randn(1000, generator=g).double()
    found = group_jackknife(lambda keep: {"gap": float(a[keep[0]].mean() - b[keep[1]].mean())}, [4000, 1000])["gap"]
    exact = 2 * stats.t.ppf(0.975, 19) * math.sqrt(1 / 4000 + 9 / 1000)
    assert found.value == pytest.approx(float(a.mean() - b.mean()))
    # A variance from 20 groups has a relative error of about a third.
    assert found.high - found.low == pytest.approx(exact, rel=0.35)


def test_group_jackknife_of_single_samples_equals_leave_one_out():
    x = torch.rand(30, generator=torch.Generator().manual_seed(0)).double()
    grouped = group_jackknife(lambda keep: {"": float(x[keep[0]].exp().mean().log())}, [30])[""]
    without = torch.stack([x[torch.arange(30) != i].exp().mean().log() for i in range(30)])
    closed = jackknife(float(x.exp().mean().log()), [without])
    assert (grouped.low, grouped.high) == pytest.approx((closed.low, closed.high))


def test_a_bias_of_order_one_over_n_leaves_unequal_groups_without_error():
    """Groups of 2 and of 3 samples: a statistic that depends on n alone has no spread to report."""
    found = group_jackknife(lambda keep: {"": 5 + 100 / len(keep[0])}, [45])[""]
    assert found.high - found.low == pytest.approx(0, abs=1e-9)
    assert found.value == pytest.approx(5 + 100 / 45)


def test_only_one_side_is_cut_at_a_time_and_every_row_is_deleted_once():
    seen: list[tuple[int, int]] = []
    gone = [torch.zeros(40), torch.zeros(25)]

    def statistic(keep):
        seen.append((len(keep[0]), len(keep[1])))
        for count, kept, n in zip(gone, keep, (40, 25), strict=True):
            count += ~torch.isin(torch.arange(n), kept)
            assert kept.tolist() == sorted(kept.tolist())
        return {"": 0.0}

    group_jackknife(statistic, [40, 25], groups=20)
    assert len(seen) == 1 + 20 + 25  # 25 < 2 * 20: single samples
    assert all(a == 40 or b == 25 for a, b in seen)
    assert torch.equal(gone[0], torch.ones(40))
    assert torch.equal(gone[1], torch.ones(25))


def test_groups_mix_labels_that_cycle_with_the_position():
    labels = torch.arange(400) % 10
    assert all(len(labels[part].unique()) > 3 for part in partition(400))


def test_same_seed_same_interval_and_another_seed_another():
    x = torch.rand(100, generator=torch.Generator().manual_seed(0))

    def run(seed):
        return group_jackknife(lambda keep: {"": float(x[keep[0]].median())}, [100], seed=seed)

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_refusals():
    with pytest.raises(TooFewSamples, match=r"\[1, 5\]"):
        group_jackknife(lambda keep: {"": 0.0}, [1, 5])
    with pytest.raises(BadRows, match="not finite"):
        group_jackknife(lambda keep: {"": 1.0 if len(keep[0]) == 4 else math.nan}, [4])
    with pytest.raises(TooFewSamples):
        bootstrap(lambda draws: {"": torch.zeros(len(draws[0]))}, [0])


def test_bootstrap_of_a_mean_is_the_normal_interval_and_ignores_blocks(monkeypatch):
    x = torch.randn(400, generator=torch.Generator().manual_seed(2)).double()

    def run():
        return bootstrap(lambda draws: {"mean": x[draws[0]].mean(dim=1)}, [400], draws=4000)["mean"]

    found = run()
    low, high = stats.norm.interval(0.95, loc=float(x.mean()), scale=float(x.std()) / 20)
    assert found.value == pytest.approx(float(x.mean()))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.012)
    monkeypatch.setattr("evalkit.resample.BOOTSTRAP_BLOCK", 400 * 1000)
    assert run() == found


def test_bootstrap_redraws_each_side_within_itself():
    def statistic(draws):
        assert int(draws[0].max()) < 7
        assert int(draws[1].max()) < 50
        assert draws[0].shape[1:] == (7,)
        return {"": draws[0].float().mean(dim=1)}

    bootstrap(statistic, [7, 50], draws=20)


@given(st.floats(-5, 5), st.floats(0, 10), st.integers(1, 50))
def test_an_interval_holds_its_value_and_stays_in_range(value, error, df):
    found = around(value, error, "m", df=df, low=-1.0, high=1.0)
    assert found.low <= found.value <= found.high
    if -1 <= value <= 1:
        assert found.low >= -1
        assert found.high <= 1
