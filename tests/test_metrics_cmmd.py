"""CMMD: the paper's width and the median one, and what the paper's width cannot see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics.cmmd import cmmd, cmmd_distance, cmmd_estimates
from evalkit.resample import group_jackknife
from evalkit.types import Features


def directions(n: int, d: int, seed: int, towards: float = 0.0, live: int | None = None) -> Tensor:
    """Unit rows, spread over the sphere of the first `live` columns and pulled towards the first axis."""
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    x[:, live or d :] = 0
    x = x / x.norm(dim=1, keepdim=True)
    x[:, 0] += towards
    return x / x.norm(dim=1, keepdim=True)


def test_opposite_points_by_hand():
    """Within a side k = 1, across exp(-2^2 / 2 sigma^2)."""
    real, fake = torch.tensor([[1.0, 0.0]]).repeat(4, 1), torch.tensor([[-3.0, 0.0]]).repeat(5, 1)
    for sigma in (1.0, 10.0):
        assert cmmd_distance(real, fake, sigma=sigma) == pytest.approx(2000 * (1 - math.exp(-2 / sigma**2)))


def test_sigma_10_is_ten_times_the_squared_distance_of_the_means():
    real, fake = directions(400, 32, 0), directions(400, 32, 1, towards=0.8)
    gap = float((real.mean(dim=0) - fake.mean(dim=0)).square().sum())
    assert cmmd_distance(real, fake) == pytest.approx(10 * gap, rel=0.015)


@pytest.mark.parametrize(("n", "d", "rel"), [(70, 12, 1e-9), (600, 300, 1e-6)])
def test_agrees_with_squared_distances_written_out(n, d, rel):
    """The second size is made with float32 products."""
    real, fake = directions(n, d, 0), directions(n + 50, d, 1, towards=0.4)
    unit = [x.double() / x.double().norm(dim=1, keepdim=True) for x in (real, fake)]

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        return float(
            np.exp(-torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square().numpy() / 200).mean()
        )

    x, y = unit
    expected = 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))
    assert cmmd_distance(real, fake) == pytest.approx(expected, rel=rel)


def test_the_median_width_is_the_median_distance_of_the_real_rows():
    real, fake = directions(90, 6, 0), directions(80, 6, 1, towards=0.5)
    sigma = float(torch.pdist(real.double()).median())
    found = cmmd_estimates(real, fake)
    assert found["median"].value == pytest.approx(cmmd_distance(real, fake, sigma=sigma), rel=1e-6)
    by_median = cmmd_estimates(real, fake, bandwidth="median")
    assert by_median[""] == by_median["median"] == found["median"]


def test_sigma_10_is_blind_to_a_collapse_that_narrow_widths_see():
    """The whole sphere of 768 columns against the sphere of 68 of them: one mean, unlike spreads."""
    real, fake = directions(1500, 768, 0), directions(1500, 768, 1, live=68)
    same = directions(1500, 768, 2)
    assert cmmd_distance(real, fake, sigma=1.0) == pytest.approx(3.16, abs=0.4)
    assert cmmd_distance(real, fake, sigma=1.0) > 2 * cmmd_distance(real, same, sigma=1.0)
    parts, null = cmmd_estimates(real, fake), cmmd_estimates(real, same)
    assert parts[""].value < 0.02
    assert parts["median"].low > null["median"].high
    assert "blind" in cmmd.caution


def test_worsens_with_shift():
    real = directions(200, 16, 0)
    found = [cmmd_estimates(real, directions(200, 16, 1, towards=t)) for t in (0.0, 0.2, 0.6)]
    for part in ("", "median"):
        values = [f[part].value for f in found]
        assert values == sorted(values)


def test_interval_is_the_leave_one_out_jackknife():
    real, fake = directions(21, 4, 0), directions(26, 4, 1, towards=0.5)
    brute = group_jackknife(lambda k: {"": cmmd_distance(real[k[0]], fake[k[1]])}, [21, 26], groups=1000)[""]
    found = cmmd_estimates(real, fake)[""]
    assert (found.value, found.low, found.high) == pytest.approx((brute.value, brute.low, brute.high), rel=1e-7)


def test_samples_that_point_elsewhere_add_most():
    real, fake = directions(60, 5, 0, towards=3.0), directions(60, 5, 1, towards=3.0)
    fake[20:30] = -real[:10]
    for part in cmmd_estimates(real, fake).values():
        assert sorted(part.per_sample.topk(10).indices.tolist()) == list(range(20, 30))


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 30), st.integers(3, 30), st.integers(2, 8), st.floats(0.1, 50), st.integers(0, 999))
def test_order_length_and_sides_do_not_matter(n, m, d, length, seed):
    real, fake = directions(n, d, seed).double(), directions(m, d, seed + 1, towards=0.3).double()
    value = cmmd_distance(real, fake)
    assert value >= 0
    assert cmmd_distance(fake.flip(0) * length, real) == pytest.approx(value, rel=1e-7, abs=1e-9)
    assert cmmd_distance(real, real.flip(0)) == pytest.approx(0, abs=1e-9)


def test_copies_of_one_image_have_a_width_too():
    one = torch.ones(5, 3)
    found = cmmd_estimates(one, -one)
    assert found["median"].value == pytest.approx(2000 * (1 - math.exp(-2)), rel=1e-6)


class Rows(Features):
    """Features without a sample set."""

    def __init__(self, rows: Tensor) -> None:
        object.__setattr__(self, "rows", rows)


def test_metric_and_refusals():
    real, fake = directions(20, 4, 0), directions(20, 4, 1)
    assert cmmd(Rows(real), Rows(fake), sigma=2.0) == cmmd_estimates(real, fake, sigma=2.0)
    assert cmmd.on == {"image": "clip:ViT-L-14-336:openai", "text": None}
    with pytest.raises(BadSetting, match="sigma"):
        cmmd_distance(real, fake, sigma=0.0)
    with pytest.raises(BadSetting, match="bandwidth"):
        cmmd_estimates(real, fake, bandwidth="mean")  # type: ignore[arg-type]
    with pytest.raises(TooFewSamples, match="2 fake"):
        cmmd_distance(real, fake[:2])
    fake[3] = 0
    with pytest.raises(BadRows, match="fake row 3 is all zeros"):
        cmmd_distance(real, fake)
    fake[3] = math.nan
    with pytest.raises(BadRows, match="fake row 3 holds NaN"):
        cmmd_distance(real, fake)
