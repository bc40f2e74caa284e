"""Signs of handed-out training data: nearest samples, p-value, authenticity, C_T and the FID that punishes copies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics.copying import (
    EPS,
    authentic_share,
    authenticity,
    cosine_distances,
    ct,
    data_copying,
    memorization_informed_distance,
    mifid,
)
from evalkit.metrics.frechet import frechet_distance, frechet_estimate
from evalkit.metrics.memorization import memorization_estimate, memorization_p, memorization_p_value, nearest
from evalkit.types import Features


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def squares(rows: Tensor, train: Tensor) -> Tensor:
    return torch.stack([(row - train.double()).square().sum(dim=1) for row in rows.double()])


# ------------------------------------------------------------------------------------------------ nearest


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 8), st.sampled_from([0.0, 1e3, 1e5]), st.integers(0, 999))
def test_nearest_is_the_least_of_all_differences(n, m, d, shift, seed):
    rows, train = normal(n, d, seed, shift=shift), normal(m, d, seed + 1, shift=shift)
    rows[0] = train[-1]
    distance, index = nearest(rows, train)
    every = squares(rows, train)
    assert torch.equal(distance, every.min(dim=1).values.sqrt())
    assert torch.equal(every.gather(1, index[:, None])[:, 0], every.min(dim=1).values)
    assert distance[0] == 0


def test_nearest_finds_copies_among_many_copies_across_blocks(monkeypatch):
    monkeypatch.setattr("evalkit.metrics._distances.BLOCK", 16)
    train = torch.cat([normal(9, 5, 0, shift=300.0).repeat(20, 1), normal(50, 5, 1)])
    distance, index = nearest(train[[3, 100, 200]], train)
    assert distance.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(train[index], train[[3, 100, 200]])


def test_nearest_refuses():
    with pytest.raises(TooFewSamples, match="0 train"):
        nearest(normal(3, 2, 0), normal(0, 2, 0))
    with pytest.raises(BadRows, match="query row 1"):
        nearest(torch.tensor([[0.0], [math.nan]]), torch.zeros(2, 1))


# ------------------------------------------------------------------------------------------------ p-value


def test_p_value_by_hand():
    """Training at 0, generated at 1 and 2, held out at 3 and 4: one of 6 orders is as extreme."""
    found = memorization_p_value(torch.tensor([[3.0], [4.0]]), torch.tensor([[1.0], [2.0]]), torch.zeros(1, 1))
    assert (found.value, found.low, found.high, found.method) == (
        pytest.approx(1 / 6),
        found.value,
        found.value,
        "exact",
    )


@pytest.mark.parametrize("m", [30, 70])
def test_p_value_agrees_with_mann_whitney(m):
    train, real, fake = normal(80, 5, 0), normal(50, 5, 1), normal(m, 5, 2, 0.95)
    held_out, made = (squares(x, train).amin(dim=1).numpy() for x in (real, fake))
    expected = stats.mannwhitneyu(made, held_out, alternative="less", method="exact").pvalue
    found = memorization_p_value(real, fake, train)
    assert found.method == "permutation"
    assert found.low <= expected <= found.high
    assert found.high - found.low < 0.02


def test_p_value_with_equal_distances_counts_them_as_extreme():
    zeros = torch.zeros(30, 2)
    assert memorization_p_value(zeros, zeros, zeros).value == 1.0


def test_p_value_is_small_for_copies_and_large_for_strangers():
    train, real = normal(300, 6, 0), normal(100, 6, 1)
    assert memorization_p_value(real, train[:100], train).value == pytest.approx(1 / 10_000)
    assert memorization_p_value(real, normal(100, 6, 2, shift=3.0), train).value > 0.99
    p = [
        memorization_p_value(normal(40, 6, 10 + i), normal(40, 6, 90 + i), train, permutations=199).value
        for i in range(40)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_p_value_refuses():
    x = normal(30, 2, 0)
    with pytest.raises(BadSetting):
        memorization_p_value(x, x, x, permutations=0)


# ------------------------------------------------------------------------------------------------ authenticity


def test_authenticity_by_hand():
    """Training 0, 1, 10 with nearest others at 1, 1, 9. Fake 0.5, 2.5, 3, 12: the second and third are authentic."""
    found = authentic_share(torch.tensor([[0.5], [2.5], [3.0], [12.0]]), torch.tensor([[0.0], [1.0], [10.0]]))
    assert found.per_sample.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert found.value == 0.5
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("m", [20, 200])
def test_authenticity_agrees_with_the_whole_matrix(m):
    train, fake = normal(120, 4, 0), normal(m, 4, 1)
    among = squares(train, train).fill_diagonal_(torch.inf).amin(dim=1)
    expected = (squares(fake, train).amin(dim=1) > among[squares(fake, train).argmin(dim=1)]).double()
    assert torch.equal(authentic_share(fake, train).per_sample, expected)


def test_copies_are_not_authentic_even_of_samples_that_are_there_twice():
    train = normal(60, 4, 0).repeat(2, 1)
    assert authentic_share(train[:30], train).value == 0.0
    fresh, near = authentic_share(normal(100, 4, 1), normal(100, 4, 0)), normal(100, 4, 0) + normal(100, 4, 2, 0.1)
    assert authentic_share(near, normal(100, 4, 0)).value < fresh.value


# ------------------------------------------------------------------------------------------------ C_T


def test_c_t_of_one_cell_is_the_mann_whitney_z():
    train, real, fake = normal(90, 3, 0), normal(60, 3, 1), normal(70, 3, 2, 0.8)
    held_out, made = (squares(x, train).amin(dim=1).numpy() for x in (real, fake))
    u = stats.mannwhitneyu(made, held_out).statistic
    expected = (u - 60 * 70 / 2) / math.sqrt(60 * 70 * 131 / 12)
    assert data_copying(real, fake, train, cells=1).value == pytest.approx(expected)


def test_c_t_of_far_apart_cells_is_their_mean_weighted_by_real_samples():
    def clusters(sizes: tuple[int, int], scale: float, seed: int) -> list[Tensor]:
        return [normal(n, 4, seed + i, scale, 100.0 * i) for i, n in enumerate(sizes)]

    train, real, fake = clusters((80, 60), 1.0, 0), clusters((30, 50), 1.0, 10), clusters((40, 40), 0.7, 20)
    alone = [data_copying(p, q, t, cells=1).value for p, q, t in zip(real, fake, train, strict=True)]
    whole = data_copying(torch.cat(real), torch.cat(fake), torch.cat(train), cells=2).value
    assert whole == pytest.approx((30 * alone[0] + 50 * alone[1]) / 80)
    # With 19 generated samples a cell is left out.
    few = torch.cat([fake[0][:19], fake[1]])
    assert data_copying(torch.cat(real), few, torch.cat(train), cells=2).value == pytest.approx(alone[1])


def test_c_t_does_not_mind_a_rotation_into_more_columns():
    train, real, fake = normal(200, 8, 0), normal(100, 8, 1), normal(100, 8, 2)
    wide = torch.linalg.qr(normal(90, 8, 3)).Q.T
    narrow = data_copying(real, fake, train).value
    assert data_copying(real @ wide, fake @ wide, train @ wide).value == pytest.approx(narrow, abs=1e-6)


def test_c_t_is_below_zero_for_copies_and_above_for_strangers():
    train, real = normal(400, 6, 0), normal(200, 6, 1)
    copies, fresh, far = (
        data_copying(real, fake, train)
        for fake in (train[:200] + normal(200, 6, 2, 0.05), normal(200, 6, 3), normal(200, 6, 4, 2.0))
    )
    assert copies.high < -2
    assert -3 < fresh.value < 3
    assert far.low > 2


def test_c_t_interval_has_the_spread_of_c_t():
    train = normal(200, 4, 0)
    found = [data_copying(normal(80, 4, 2 * i + 1), normal(80, 4, 2 * i + 2, 0.9), train, cells=2) for i in range(60)]
    values = np.array([f.value for f in found])
    assert np.mean([f.low <= values.mean() <= f.high for f in found]) >= 0.86
    assert np.mean([f.high - f.low for f in found]) == pytest.approx(3.92 * values.std(), rel=0.35)


def test_c_t_refuses():
    x = normal(30, 2, 0)
    with pytest.raises(TooFewSamples, match="no cell of 1 holds 20"):
        data_copying(x, x[:19], x, cells=1)
    with pytest.raises(TooFewSamples, match="2 train"):
        data_copying(x, x, x[:2])
    with pytest.raises(BadSetting):
        data_copying(x, x, x, cells=0)


# ------------------------------------------------------------------------------------------------ MiFID


def test_cosine_distances_by_hand():
    train = torch.tensor([[2.0, 0.0], [0.0, 0.0], [3.0, 3.0]])
    rows = torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])
    assert cosine_distances(rows, train)[:3].tolist() == pytest.approx([0.0, 1 - math.sqrt(0.5), 0.0])
    assert cosine_distances(rows, train)[3].isnan()
    assert cosine_distances(rows, train[1:2])[0] == 1.0


def test_cosine_distances_agree_with_scikit_learn(monkeypatch):
    from sklearn.metrics.pairwise import cosine_similarity

    monkeypatch.setattr("evalkit.metrics.copying.BLOCK", 16)
    rows, train = normal(50, 7, 0), normal(70, 7, 1)
    expected = 1 - np.abs(cosine_similarity(rows.double(), train.double())).max(axis=1)
    assert torch.allclose(cosine_distances(rows, train), torch.from_numpy(expected))


def test_mifid_far_from_the_training_data_is_fid():
    real, fake, train = normal(60, 12, 0), normal(70, 12, 1), normal(50, 12, 2)
    assert memorization_informed_distance(real, fake, train).value == pytest.approx(frechet_distance(real, fake))


def test_mifid_close_to_the_training_data_is_fid_over_the_distance():
    real, train = normal(80, 12, 0), normal(90, 12, 1)
    fake = train[:60] + normal(60, 12, 2, 0.05)
    found = memorization_informed_distance(real, fake, train)
    distance = float(cosine_distances(fake, train).mean())
    assert 0 < distance < 0.1
    assert found.value == pytest.approx(frechet_distance(real, fake) / (distance + EPS))
    assert found.low < found.value < found.high


def test_a_generator_of_copies_of_a_few_is_punished_where_torchmetrics_sees_nothing():
    """1000 samples, all exact copies of 50 of 1000 training images."""
    image = pytest.importorskip("torchmetrics.image.mifid")
    train, real = normal(1000, 64, 0).abs(), normal(1000, 64, 1).abs()
    fake = train[:50].repeat(20, 1)
    fid = frechet_distance(real, fake)
    assert memorization_informed_distance(real, fake, train).value == pytest.approx(fid / EPS, rel=1e-6)
    theirs = image._compute_cosine_distance(train.double(), fake.double(), cosine_distance_eps=0.1)
    assert float(theirs) == 1.0
    assert memorization_estimate(real, fake, train).value == 1.0


def test_mifid_refuses():
    x = normal(30, 4, 0)
    with pytest.raises(BadSetting):
        memorization_informed_distance(x, x, x, threshold=0.0)
    with pytest.raises(TooFewSamples, match="not all zeros"):
        memorization_informed_distance(x, torch.zeros(5, 4), x)


# ------------------------------------------------------------------------------------------------ the metrics


def test_metrics_read_features():
    real, fake, train = (Features(normal(60, 5, i), "normal", samples=None) for i in range(3))
    sides = real.rows, fake.rows, train.rows
    assert memorization_p(real, fake, train, seed=3) == memorization_p_value(*sides, seed=3)
    assert authenticity(fake, train) == authentic_share(fake.rows, train.rows)
    assert ct(real, fake, train, cells=2) == data_copying(*sides, cells=2)
    assert mifid(real, fake, train) == memorization_informed_distance(*sides)
    assert frechet_estimate(*sides[:2]).value == mifid(real, fake, train).value
