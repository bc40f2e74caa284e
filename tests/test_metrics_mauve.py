"""MAUVE and the frontier integral: recorded numbers, histograms by hand, orientation, the interval of seeds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from evalkit.errors import BadRows, BadSetting
from evalkit.metrics.mauve import (
    area_of_frontier,
    divergence_curve,
    frontier_integral,
    integral_of_frontier,
    mauve,
    quantised,
    smoothed,
)
from evalkit.types import Features

from .data import shared


def cases() -> list[dict]:
    return json.loads((shared("data", "text", "mauve_golden") / "golden.json").read_text("utf-8"))["cases"]


def side(rows) -> Features:
    return Features(torch.as_tensor(rows), "toy", None)


def clouds(n: int, d: int, seed: int, shift: float, columns: int) -> tuple[Features, Features]:
    rng = np.random.RandomState(seed)
    real, fake = rng.randn(n, d), rng.randn(n, d)
    fake[:, :columns] += shift
    return side(real), side(fake)


def test_recorded_histograms_give_the_recorded_numbers():
    for case in cases():
        p, q = (torch.tensor(case[key], dtype=torch.float64) for key in ("p_hist", "q_hist"))
        raised = smoothed(p * case["n"]), smoothed(q * case["n"])
        found = [
            area_of_frontier(p, q),
            area_of_frontier(*raised),
            integral_of_frontier(p, q),
            integral_of_frontier(*raised),
            area_of_frontier(p, q, scaling=1.0),
        ]
        expected = [case[key] for key in ("mauve", "mauve_star", "fi", "fi_star", "c1")]
        assert [float(x) for x in found] == pytest.approx(expected, abs=1e-9)


def test_recorded_rows_give_the_recorded_numbers_up_to_the_seed_of_k_means():
    """With the metric's defaults. The record does not say which columns are moved: that it is the first eight was found
    by trying, so only the case that moves nothing is evidence by itself.
    """
    for case in cases()[:3]:
        real, fake = clouds(case["n"], case["d"], case["seed"], case["shift"], 8)
        found = mauve(real, fake)
        assert found[""].value == pytest.approx(case["mauve"], abs=0.05)
        assert found["star"].value == pytest.approx(case["mauve_star"], abs=0.05)
        assert len(torch.cat(quantised(real.rows, fake.rows, seeds=1, redos=1)[0]).unique()) == case["num_buckets"]


def test_by_hand():
    """Equal histograms: 1 and 0. No bucket in common: KL(q || r) = -ln(1 - w), so x = (1 - w)^5 and y = w^5."""
    same, half = torch.tensor([0.25, 0.75]), torch.tensor([1.0, 0.0])
    assert float(area_of_frontier(same, same)) == pytest.approx(1.0)
    assert float(integral_of_frontier(same, same)) == 0.0
    assert float(integral_of_frontier(half, half.flip(0))) == pytest.approx(1.0)
    w = np.linspace(1e-6, 1 - 1e-6, 25)
    x, y = np.r_[1, (1 - w) ** 5, 0], np.r_[0, w**5, 1]
    assert float(area_of_frontier(half, half.flip(0))) == pytest.approx(-np.trapezoid(y, x))
    assert divergence_curve(half, half.flip(0)).shape == (27, 2)
    assert smoothed(torch.tensor([3, 0])).tolist() == [3.5 / 4, 0.5 / 4]


histograms = st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(lambda counts: sum(counts) > 0)


@settings(max_examples=30, deadline=None)
@given(histograms, histograms)
def test_the_integral_agrees_with_its_definition(real, fake):
    """2 int_0^1 of w KL(p || r) + (1 - w) KL(q || r), by quadrature; both numbers are symmetric."""
    p, q = np.array(real) / sum(real), np.array(fake) / sum(fake)

    def kl(a, r):
        return sum(x * math.log(x / y) for x, y in zip(a, r, strict=True) if x > 0)

    def at(w):
        r = w * p + (1 - w) * q
        return w * kl(p, r) + (1 - w) * kl(q, r)

    expected = 2 * integrate.quad(at, 0, 1)[0]
    a, b = torch.from_numpy(p), torch.from_numpy(q)
    assert float(integral_of_frontier(a, b)) == pytest.approx(expected, abs=1e-6)
    assert float(integral_of_frontier(b, a)) == pytest.approx(expected, abs=1e-6)
    assert float(area_of_frontier(a, b)) == pytest.approx(float(area_of_frontier(b, a)), abs=1e-9)


def test_further_apart_is_worse_and_lost_modes_are_seen():
    base = [clouds(200, 8, 0, shift, 8) for shift in (0.0, 0.5, 1.5)]
    areas = [mauve(*sides, seeds=2, redos=1)[""].value for sides in base]
    integrals = [frontier_integral(*sides, seeds=2, redos=1)[""].value for sides in base]
    assert areas == sorted(areas, reverse=True)
    assert integrals == sorted(integrals)
    noise = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
    modes = torch.eye(6).repeat_interleave(40, 0) + 0.05 * noise
    whole, lost = mauve(side(modes), side(modes.flip(0)), seeds=2), mauve(side(modes), side(modes[:120]), seeds=2)
    assert lost[""].value < whole[""].value - 0.1


def test_the_interval_holds_the_seeds_too_and_is_the_jackknife_for_one():
    real, fake = clouds(60, 6, 1, 0.8, 6)
    one = mauve(real, fake, seeds=1, redos=1)[""]
    many = mauve(real, fake, seeds=4, redos=1)[""]
    assert (one.method, many.method) == ("jackknife", "jackknife and seeds")
    (a, b), p = quantised(real.rows, fake.rows, seeds=1, redos=1)[0], 6

    def without(side_of, i):
        keep = [a, b]
        keep[side_of] = torch.cat([keep[side_of][:i], keep[side_of][i + 1 :]])
        return float(area_of_frontier(*(torch.bincount(x, minlength=p).double() / len(x) for x in keep)))

    brute = sum(np.var([without(k, i) for i in range(60)]) * 59 for k in (0, 1))
    moves = one.moves or {}
    assert sum(float(m.square().sum()) for m in moves.values()) == pytest.approx(brute)
    assert mauve(real, fake, seeds=4, redos=1)[""] == many
    assert 0 <= many.low < many.value < many.high <= 1


def test_what_cannot_be_is_refused_and_constant_rows_are_one_bucket():
    real, fake = clouds(30, 4, 0, 0.0, 4)
    same = side(torch.ones(30, 4))
    assert mauve(same, same)[""].value == pytest.approx(1.0)
    for wrong in ({"buckets": 1}, {"explained": 0.0}, {"seeds": 0}, {"scaling": -1.0}):
        with pytest.raises(BadSetting):
            mauve(real, fake, **wrong)
    with pytest.raises(BadRows):
        area_of_frontier(torch.tensor([0.5, 0.4]), torch.tensor([0.5, 0.5]))
    with pytest.raises(BadRows):
        mauve(side(torch.full((30, 4), math.nan)), fake)
