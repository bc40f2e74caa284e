"""Clipped density and coverage: shares of good samples, whatever the bad ones are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from evalkit.errors import BadSetting, TooFewSamples
from evalkit.metrics.clipped import clipped, clipped_density_coverage, clipped_estimates, expected_coverage
from evalkit.types import Features


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def test_density_by_hand():
    """k = 1. Real 0, 1, 3, 7: radii 1, 1, 2, 4, clipped at their median 1.5 to 1, 1, 1.5, 1.5.

    Among themselves 0 and 1 lie in each other's ball, 3 and 7 in none: 1/2. Fake 0.5 lies in two balls and counts 1,
    3.2 in one, 5.2 in none (the ball of 7 was clipped), 100 in none: 1/2. Their ratio is 1.
    """
    real, fake = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [3.2], [5.2], [100.0]])
    found = clipped_estimates(real, fake, k=1)["density"]
    assert found.value == pytest.approx(1.0)
    assert found.per_sample.tolist() == pytest.approx([2.0, 2.0, 0.0, 0.0])


def test_expected_coverage_is_the_beta_binomial_mean():
    curve = expected_coverage(50, 30, 4)
    assert curve[0] == pytest.approx(0)
    for m in (1, 3, 4, 17, 30):
        chances = stats.betabinom(m, 4, 46).pmf(np.arange(m + 1))
        assert curve[m] == pytest.approx(float(np.minimum(np.arange(m + 1), 4) @ chances) / 4)


def test_agrees_with_the_definition_written_out():
    real, fake = normal(120, 5, 0).double(), normal(90, 5, 1, 1.1, 0.4).double()
    within, across = torch.cdist(real, real), torch.cdist(real, fake)
    radii = within.fill_diagonal_(torch.inf).sort(dim=1).values[:, 4]
    small = radii.clamp_max(float(np.median(radii.numpy())))
    scale = ((within <= small[:, None]).sum(dim=0) / 5).clamp_max(1).mean()
    density = ((across <= small[:, None]).sum(dim=0) / 5).clamp_max(1).mean() / scale
    covered = ((across <= radii[:, None]).sum(dim=1) / 5).clamp_max(1).mean()
    found = clipped_density_coverage(real, fake)
    assert found["density"] == pytest.approx(min(1.0, float(density)))
    # Calibrated: the share of good samples whose expected coverage is the one that was found.
    good = np.searchsorted(expected_coverage(120, 90, 5), float(covered))
    assert found["coverage"] == pytest.approx(good / 90, abs=1 / 90)


@pytest.mark.parametrize("bad", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_both_fall_in_proportion_to_the_bad_samples(bad):
    """The paper's own property: samples far from all real ones lower both by their share."""
    found = []
    for seed in range(4):
        fake = normal(500, 12, 2 * seed)
        fake[: int(500 * bad)] += 100
        found.append(clipped_density_coverage(normal(500, 12, 2 * seed + 1), fake))
    for part in ("density", "coverage"):
        assert np.mean([f[part] for f in found]) == pytest.approx(1 - bad, abs=0.06), part


def test_real_outliers_do_not_raise_density():
    """A few real samples far out have balls that hold everything; plain density takes the bait."""
    real, bad = normal(400, 4, 0), normal(400, 4, 1, 1.0, 12.0)
    baited = torch.cat([real, normal(8, 4, 2, 1.0, 25.0)])
    assert clipped_density_coverage(real, bad)["density"] == 0
    assert clipped_density_coverage(baited, bad)["density"] < 0.01


def test_repeating_one_good_sample_does_not_cover():
    real = normal(300, 4, 0)
    stuck = real[:1].repeat(300, 1) + normal(300, 4, 1, 0.01)
    assert clipped_density_coverage(real, stuck)["coverage"] < 0.1


@pytest.mark.parametrize("scale", [0.9, 1.2])
def test_intervals_cover_the_expected_value(scale):
    found = [clipped_estimates(normal(150, 8, 2 * i), normal(150, 8, 2 * i + 1, scale, 0.4)) for i in range(60)]
    for part in ("density", "coverage"):
        values = np.array([f[part].value for f in found])
        # 60 draws of a chance of 0.95 fall below 0.86 once in a hundred times.
        assert np.mean([f[part].low <= values.mean() <= f[part].high for f in found]) >= 0.86, part
        assert all(0 <= f[part].low <= f[part].value <= f[part].high <= 1 for f in found)


def test_per_sample_is_the_density_before_the_last_clip():
    found = clipped_estimates(normal(90, 4, 0), normal(80, 4, 1, 1.5))["density"]
    assert float(found.per_sample.mean()) == pytest.approx(found.value)


def test_refusals_and_settings():
    x = normal(30, 3, 0)
    with pytest.raises(TooFewSamples, match="k=5"):
        clipped_estimates(x, x[:6])
    with pytest.raises(BadSetting):
        clipped_estimates(x, x, k=0)
    real, fake = (Features(normal(40, 3, i), "normal", samples=None) for i in range(2))
    assert clipped(real, fake, k=3) == clipped_estimates(real.rows, fake.rows, k=3)
    for estimate in clipped_estimates(torch.zeros(20, 4), torch.zeros(20, 4)).values():
        assert estimate.value == 1.0
