"""Realism: how real each single sample looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from evalkit.errors import BadSetting, TooFewSamples
from evalkit.metrics.realism import MOST, realism, realism_estimate, realism_scores
from evalkit.types import Features


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def test_realism_by_hand():
    """k = 1 on a line. Real 0, 1, 3, 10: radii 1, 1, 2, 7; the half not above the median are those of 0 and 1."""
    scores = realism_scores(
        torch.tensor([[0.0], [1.0], [3.0], [10.0]]), torch.tensor([[1.5], [2.0], [5.0], [0.0]]), k=1
    )
    assert scores.tolist() == pytest.approx([2.0, 1.0, 0.25, MOST])


def test_realism_agrees_with_the_formula_written_out(monkeypatch):
    monkeypatch.setattr("evalkit.metrics._distances.BLOCK", 32)
    real, fake = normal(130, 6, 0).double(), normal(90, 6, 1, 1.2, 0.3).double()
    radii = torch.cdist(real, real).fill_diagonal_(torch.inf).sort(dim=1).values[:, 2]
    kept = radii <= radii.median()
    expected = (radii[kept] / torch.cdist(fake, real[kept])).amax(dim=1)
    assert torch.allclose(realism_scores(real, fake), expected, rtol=1e-9)
    found = realism_estimate(real, fake)
    assert found.value == pytest.approx(float((expected >= 1).double().mean()))
    assert torch.equal(found.per_sample, realism_scores(real, fake))


def test_stranger_samples_are_less_real():
    real = normal(300, 8, 0)
    shares = [realism_estimate(real, normal(300, 8, 1, shift=s)).value for s in (0.0, 0.5, 1.5)]
    assert shares == sorted(shares, reverse=True)
    scores = realism_scores(real, torch.stack([torch.full((8,), x) for x in (0.0, 1.0, 5.0, 20.0)]))
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_an_outlier_among_the_real_ones_makes_nothing_real():
    real = torch.cat([normal(200, 4, 0), torch.full((1, 4), 40.0)])
    assert float(realism_scores(real, torch.full((2, 4), 30.0)).max()) < 1


def test_interval_covers_the_expected_value():
    found = [realism_estimate(normal(150, 6, 2 * i), normal(150, 6, 2 * i + 1, 1.1)) for i in range(60)]
    values = np.array([f.value for f in found])
    # 60 draws of a chance of 0.95 fall below 0.86 once in a hundred times.
    assert np.mean([f.low <= values.mean() <= f.high for f in found]) >= 0.86
    assert np.mean([f.high - f.low for f in found]) < 2 * 3.92 * values.std()


def test_refusals_and_settings():
    x = normal(30, 3, 0)
    with pytest.raises(TooFewSamples, match=r"4 real samples.*k=3 needs at least 5"):
        realism_estimate(x[:4], x)
    with pytest.raises(TooFewSamples, match="1 fake"):
        realism_estimate(x, x[:1])
    with pytest.raises(BadSetting):
        realism_scores(x, x, k=0)
    same = realism_scores(torch.zeros(9, 2), torch.zeros(9, 2))
    assert same.tolist() == [MOST] * 9
    real, fake = (Features(normal(40, 3, i), "normal", samples=None) for i in range(2))
    assert realism(real, fake, k=4) == realism_estimate(real.rows, fake.rows, k=4)
