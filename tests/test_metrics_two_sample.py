"""Metrics that compare samples one by one: the two-sample test and memorization."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from evalkit.metrics.memorization import memorization_estimate, nearest
from evalkit.metrics.two_sample import two_sample_test


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


# ------------------------------------------------------------------------------------------------ c2st


def test_c2st_cannot_tell_equal_and_always_tells_disjoint():
    same = two_sample_test(normal(150, 8, 0), normal(150, 8, 1))
    for part in ("accuracy", "auroc"):
        assert same[part].low < 0.5 < same[part].high
        assert abs(same[part].value - 0.5) < 0.1
    apart = two_sample_test(normal(60, 3, 0), normal(60, 3, 1, shift=20.0))
    assert apart["accuracy"].value == apart["auroc"].value == 1.0
    assert apart["auroc"].low > 0.85


def test_c2st_sees_shift_spread_and_dependence():
    real = normal(250, 4, 0)
    tied = normal(250, 4, 1)
    tied[:, 1] = tied[:, 0] + 0.2 * tied[:, 1]
    for fake in (normal(250, 4, 2, shift=0.7), normal(250, 4, 3, scale=1.6), tied):
        found = two_sample_test(real, fake)
        assert found["auroc"].low > 0.5
        assert found["accuracy"].low > 0.5


def test_c2st_is_not_fooled_by_rows_in_order():
    """Rows in order of class: folds cut from them unshuffled test on classes never trained on."""
    classes = torch.arange(200.0).div(20, rounding_mode="floor")[:, None]
    found = two_sample_test(classes + 0.1 * normal(200, 1, 0), classes + 0.1 * normal(200, 1, 1))
    assert abs(found["accuracy"].value - 0.5) < 0.1


def test_c2st_balances_unequal_sides_and_repeats_itself():
    real, fake = normal(60, 3, 0), normal(300, 3, 1)
    found = two_sample_test(real, fake, seed=4)
    assert found["accuracy"].value < 0.7  # always answering "fake" would be right 83 times in 100
    assert found == two_sample_test(real, fake, seed=4)


def test_c2st_of_constant_rows_is_chance():
    found = two_sample_test(torch.ones(20, 3), torch.ones(20, 3))
    assert found["accuracy"].value == found["auroc"].value == 0.5


# ------------------------------------------------------------------------------------------------ memorization


def test_memorization_by_hand():
    """Training at 0; held-out at 1 and 3, generated at 0 and 3: nearer, nearer, further, tied."""
    found = memorization_estimate(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [3.0]]), torch.zeros(1, 1))
    assert found.value == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_memorization_agrees_with_mann_whitney():
    from scipy.spatial.distance import cdist
    from scipy.stats import mannwhitneyu

    train, real, fake = normal(80, 5, 0), normal(50, 5, 1), normal(60, 5, 2, 0.7)
    held_out, made = (cdist(x, train).min(axis=1) for x in (real, fake))
    expected = mannwhitneyu(held_out, made).statistic / (50 * 60)
    assert memorization_estimate(real, fake, train).value == pytest.approx(expected)


def test_memorization_orders_copies_above_fresh_above_far():
    train, real = normal(400, 6, 0), normal(150, 6, 1)
    copies = memorization_estimate(real, train[:150], train)
    fresh = memorization_estimate(real, normal(150, 6, 2), train)
    far = memorization_estimate(real, normal(150, 6, 3, shift=9.0), train)
    assert copies.value == 1.0
    assert copies.low > 0.95
    assert fresh.low < 0.5 < fresh.high
    assert far.value < 0.05


def test_nearest_is_exact(monkeypatch):
    monkeypatch.setattr("evalkit.metrics._distances.BLOCK", 16)
    train, rows = normal(90, 7, 0, shift=1000.0), normal(40, 7, 1, shift=1000.0)
    rows[5] = train[33]
    distance, index = nearest(rows, train)
    every = (rows.double()[:, None] - train.double()).square().sum(dim=2).sqrt()
    assert distance[5] == 0
    assert index[5] == 33
    assert torch.allclose(distance, every.min(dim=1).values, rtol=1e-12)
    assert torch.equal(index, every.argmin(dim=1))
