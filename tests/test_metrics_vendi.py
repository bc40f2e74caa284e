"""Vendi score: known matrices, other ways to its orders, its interval and what each sample adds."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics.vendi import vendi, vendi_estimate, vendi_of_kernel, vendi_score
from evalkit.resample import group_jackknife
from evalkit.types import Features

ORDERS = [0.0, 0.1, 0.5, 1.0, 2.0, 3.5, math.inf]


def normal(n: int, d: int, seed: int, shift: float = 0.0, decay: float = 0.0) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return x * torch.arange(1, d + 1) ** -decay + shift


def similarities(x: Tensor) -> Tensor:
    u = x.double() / x.double().norm(dim=1, keepdim=True)
    return u @ u.T


# ------------------------------------------------------------------------------------------------ known numbers


def test_known_matrices():
    K = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert vendi_of_kernel(K) == pytest.approx(2.1573, abs=5e-5)
    x = torch.tensor([0.0, 0.0, 10.0, 10.0, 20.0, 20.0])
    assert 2.9999 < vendi_of_kernel((-(x[:, None] - x).abs()).exp()) < 3


@pytest.mark.parametrize("q", ORDERS)
def test_unlike_samples_count_and_copies_do_not(q):
    axes = torch.eye(6)
    assert vendi_score(axes, q=q) == pytest.approx(6)
    assert vendi_score(axes[:1].repeat(9, 1), q=q) == pytest.approx(1)
    assert vendi_score(axes[:4].repeat(5, 1), q=q) == pytest.approx(4)
    assert vendi_score(axes[:4].repeat(5, 1), q=q, kernel="rbf", sigma=0.05) == pytest.approx(4)


def test_orders_two_inf_and_zero_by_other_ways():
    """Order 2 is n^2 / sum of squared similarities, inf 1 / the spectral norm, 0 the rank: none needs an eigenvalue."""
    x = normal(40, 7, 0, shift=0.5)
    K = similarities(x)
    assert vendi_score(x, q=2) == pytest.approx(40**2 / float(K.square().sum()))
    assert vendi_score(x, q=math.inf) == pytest.approx(40 / float(torch.linalg.matrix_norm(K, 2)))
    assert vendi_score(x, q=0) == pytest.approx(7)


@pytest.mark.parametrize(("n", "d"), [(60, 9), (15, 30)])
@pytest.mark.parametrize("q", [0.1, 1.0, 2.0])
def test_either_matrix_gives_the_entropy_numpy_gives(n, d, q):
    x = normal(n, d, 1)
    shares = np.linalg.eigvalsh(np.asarray(similarities(x)) / n)
    shares = shares[shares > 1e-12]
    entropy = -(shares * np.log(shares)).sum() if q == 1 else np.log((shares**q).sum()) / (1 - q)
    assert vendi_score(x, q=q) == pytest.approx(float(np.exp(entropy)), rel=1e-9)


def test_rbf_by_hand():
    """Two opposite points, distance 2: K = [[1, k], [k, 1]] over pairs, k = exp(-2 / sigma^2)."""
    x = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    k = math.exp(-2 / 0.8**2)
    K = torch.tensor([[1.0, k], [k, 1.0]])
    assert vendi_score(x, kernel="rbf", sigma=0.8) == pytest.approx(vendi_of_kernel(K), rel=1e-6)


def test_falls_with_collapse_and_with_lost_modes():
    spread = [vendi_score(normal(200, 16, 0, shift=s)) for s in (0.0, 0.5, 2.0)]
    assert spread == sorted(spread, reverse=True)
    modes = normal(10, 16, 1)
    found = [vendi_score(modes[torch.arange(200) % m] + 0.05 * normal(200, 16, 2)) for m in (10, 5, 1)]
    assert found == sorted(found, reverse=True)


# ------------------------------------------------------------------------------------------------ intervals, shares


@pytest.mark.parametrize(("n", "d", "kernel"), [(70, 25, "cosine"), (66, 90, "cosine"), (50, 8, "rbf")])
def test_interval_where_samples_are_few_is_the_group_jackknife(n, d, kernel):
    x = normal(n, d, 3)
    brute = group_jackknife(lambda k: {"": vendi_score(x[k[0]], kernel=kernel, sigma=0.4)}, [n])[""]
    found = vendi_estimate(x, kernel=kernel, sigma=0.4)
    assert found.method == "jackknife"
    assert (found.value, found.low, found.high) == pytest.approx(
        (brute.value, max(1, brute.low), min(n, brute.high)), rel=1e-6
    )


@pytest.mark.parametrize("kernel", ["cosine", "rbf"])
def test_interval_where_samples_are_many_agrees_with_leaving_each_out(kernel):
    x = normal(160, 3, 4, shift=0.8)
    found = vendi_estimate(x, kernel=kernel)
    brute = group_jackknife(lambda k: {"": vendi_score(x[k[0]], kernel=kernel)}, [160], groups=160)[""]
    assert found.method == "delta"
    assert found.high - found.low == pytest.approx(brute.high - brute.low, rel=0.15)


@pytest.mark.parametrize("q", [0.5, 1.0, 2.0, math.inf])
@pytest.mark.parametrize(("n", "d"), [(200, 5), (200, 400)])
def test_each_sample_adds_what_leaving_it_out_takes_away(n, d, q):
    x = normal(n, d, 5, shift=0.4, decay=1.5)
    found = vendi_estimate(x, q=q)
    some = range(0, n, 10)
    left = torch.tensor([vendi_score(torch.cat([x[:i], x[i + 1 :]]), q=q) for i in some], dtype=torch.float64)
    taken = (n - 1) * (found.value - left)
    assert torch.corrcoef(torch.stack([found.per_sample[::10], taken]))[0, 1] > 0.99


def test_the_sample_unlike_the_rest_adds_most():
    x = normal(100, 6, 6, shift=3.0)
    x[42] = torch.tensor([3.0, -3.0, 3.0, -3.0, 3.0, -3.0])
    assert int(vendi_estimate(x).per_sample.argmax()) == 42


# ------------------------------------------------------------------------------------------------ properties


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 30), st.integers(1, 12), st.floats(0.1, 20), st.integers(0, 999))
def test_range_order_length_turning_and_monotony_in_q(n, d, length, seed):
    x = normal(n, d, seed).double()
    found = [vendi_estimate(x, q=q) for q in ORDERS]
    assert all(1 <= e.low <= e.value <= e.high <= n for e in found)
    values = [e.value for e in found]
    assert all(a >= b - 1e-9 for a, b in pairwise(values))
    assert values[0] <= min(n, d) * (1 + 1e-9)
    Q = torch.linalg.qr(normal(d, d, seed + 1).double()).Q
    assert vendi_score(length * (x.flip(0) @ Q)) == pytest.approx(vendi_score(x), rel=1e-7)


class Rows(Features):
    """Features without a sample set."""

    def __init__(self, rows: Tensor) -> None:
        object.__setattr__(self, "rows", rows)


def test_metric_and_refusals():
    x = normal(20, 4, 0)
    assert vendi(Rows(x), q=2.0) == vendi_estimate(x, q=2.0)
    assert (vendi.better, vendi.asks, vendi.on) == ("higher", ("fake",), {"image": "inception", "text": "char_ngrams"})
    for wrong, word in (
        ({"q": -0.5}, "q is"),
        ({"q": math.nan}, "q is"),
        ({"kernel": "linear"}, "kernel"),
        ({"kernel": "rbf", "sigma": 0.0}, "sigma"),
    ):
        with pytest.raises(BadSetting, match=word):
            vendi_score(x, **wrong)
    with pytest.raises(TooFewSamples, match="2 fake"):
        vendi_score(x[:2])
    with pytest.raises(BadRows, match="diagonal"):
        vendi_of_kernel(2 * torch.eye(3))
    x[7] = 0
    with pytest.raises(BadRows, match="fake row 7 is all zeros"):
        vendi_score(x)
    x[7, 2] = math.nan
    with pytest.raises(BadRows, match="fake row 7 holds NaN"):
        vendi_score(x)
