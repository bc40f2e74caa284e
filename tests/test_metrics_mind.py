"""MIND: sliced Wasserstein distance against closed forms and torch-fidelity, and its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics import mind as module
from evalkit.metrics.mind import mind, sliced_distance, sliced_estimate
from evalkit.types import Features


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def waves(n: int, d: int, step: float) -> Tensor:
    return torch.sin(torch.arange(n * d, dtype=torch.float32) * step).reshape(n, d)


def test_a_line_by_hand():
    """One column: 3 times the mean squared gap of the sorted values, 0 1 5 against 1 1 9."""
    real, fake = torch.tensor([[5.0], [0.0], [1.0]]), torch.tensor([[1.0], [9.0], [1.0]])
    assert sliced_distance(real, fake) == pytest.approx(3 * (1 + 0 + 16) / 3)


def test_a_shift_of_every_column_costs_three_d_squares():
    x = normal(200, 32, 0)
    assert sliced_distance(x, x) == 0
    assert sliced_distance(x, x + 0.5) == pytest.approx(3 * 32 * 0.25, rel=0.1)


def test_gaussians_on_a_line():
    """W2^2 of N(0, 1) and N(m, s^2) is m^2 + (s - 1)^2."""
    real, fake = ((x - x.mean()) / x.std() for x in (normal(20_000, 1, 0), normal(20_000, 1, 1)))
    assert sliced_distance(real, 1.5 * fake + 0.7, directions=3) == pytest.approx(3 * (0.49 + 0.25), rel=0.005)


@pytest.mark.parametrize(
    ("n", "m", "printed"),
    [(40, 40, 4.633913576602936), (40, 55, 4.406219512224197), (55, 40, 4.1135430335998535)],
)
def test_numbers_torch_fidelity_prints(n, m, printed):
    """Default seed and directions; of unequal sides the larger is cut as there."""
    assert sliced_distance(waves(n, 6, 0.7), 1.5 * waves(m, 6, 0.9)) == pytest.approx(printed, rel=1e-6)


def test_agrees_with_torch_fidelity():
    fidelity = pytest.importorskip("torch_fidelity.metric_mind")
    real, fake = normal(120, 10, 0), normal(90, 10, 1, 1.3)
    theirs = fidelity.mind_features_to_metric(
        fake, real, mind_num_projections=300, rng_seed=7, cuda=False, verbose=False
    )
    found = sliced_distance(real, fake, directions=300, seed=7)
    assert found == pytest.approx(theirs["monge_inception_distance"], rel=1e-6)


def test_worsens_with_shift_spread_and_collapse():
    real = normal(300, 8, 0)
    by_shift = [sliced_distance(real, normal(300, 8, 1, shift=s)) for s in (0, 0.3, 1.0)]
    assert by_shift == sorted(by_shift)
    assert sliced_distance(real, normal(300, 8, 1, scale=0.3)) > by_shift[0]
    assert sliced_distance(real, normal(300, 8, 1, scale=2.0)) > by_shift[0]


def test_sees_what_two_moments_do_not():
    """A skewed and a symmetric set with one mean and one variance."""
    real, skewed = normal(2000, 1, 0), normal(2000, 1, 1).exp()
    skewed = (skewed - skewed.mean()) / skewed.std() * real.std() + real.mean()
    assert sliced_distance(real, skewed) > 20 * sliced_distance(real, normal(2000, 1, 2))


def test_bias_falls_with_n():
    few, many = (np.mean([sliced_distance(normal(n, 4, i), normal(n, 4, 50 + i)) for i in range(5)]) for n in (50, 800))
    assert few / many == pytest.approx(16, rel=0.4)


def test_interval_tells_how_much_the_number_varies():
    found = [sliced_estimate(normal(150, 6, i), normal(150, 6, 500 + i, 1.2, 0.4), directions=40) for i in range(60)]
    said = np.mean([(e.high - e.low) / 3.92 for e in found])
    assert said == pytest.approx(np.std([e.value for e in found]), rel=0.3)
    truth = np.mean([e.value for e in found])
    assert sum(e.low <= truth <= e.high for e in found) >= 52


def test_estimate_and_distance_agree_however_the_work_is_cut(monkeypatch):
    real, fake = normal(60, 5, 0), normal(60, 5, 1, 1.4)
    whole = sliced_estimate(real, fake)
    assert sliced_distance(real, fake) == pytest.approx(whole.value, rel=1e-9)
    monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr(module, "HELD", 600)
    cut = sliced_estimate(real, fake)
    assert (cut.value, cut.low, cut.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-6)


def test_influence_of_each_sample_is_the_slope_of_the_distance_in_its_weight():
    """One column, so that a weight can be moved exactly: every sample stands k times, one of them k + 1 and k - 1."""
    real, fake, k = normal(8, 1, 0), normal(8, 1, 1, 1.5, 1.0), 60
    found = sliced_estimate(real, fake, directions=1).per_sample

    def weighted(i: int, extra: int) -> float:
        # Quantile functions on a grid of both weights: W2^2 in one column.
        times = torch.full((8,), k)
        times[i] += extra
        total = int(times.sum())
        y = fake.flatten().repeat_interleave(times).sort().values.repeat_interleave(8 * k)
        x = real.flatten().sort().values.repeat_interleave(k).repeat_interleave(total)
        return 3 * float((x - y).double().square().mean())

    # The weight of sample i rises by about 1 / 8k of the whole for each copy; the others give way.
    slopes = torch.tensor([(weighted(i, 1) - weighted(i, -1)) / 2 * 8 * k for i in range(8)])
    assert torch.allclose(found.float(), slopes - slopes.mean(), rtol=0.15, atol=0.15 * float(slopes.std()))


def test_the_sample_far_out_adds_most_and_is_named_only_where_all_take_part():
    real, fake = normal(60, 4, 0), normal(60, 4, 1)
    fake[17] += 8
    assert int(sliced_estimate(real, fake, directions=50).per_sample.argmax()) == 17
    assert sliced_estimate(real[:40], fake, directions=50).per_sample is None
    assert len(sliced_estimate(real, fake[:40], directions=50).per_sample) == 40


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(1, 8), st.floats(0.1, 10), st.integers(0, 999))
def test_order_and_sides_do_not_matter_and_units_are_squared(n, d, unit, seed):
    real, fake = normal(n, d, seed), normal(n, d, seed + 1, 1.5)
    found = sliced_estimate(real, fake, directions=20)
    assert 0 <= found.low <= found.value <= found.high
    assert sliced_distance(fake.flip(0), real, directions=20) == pytest.approx(found.value, rel=1e-5)
    assert sliced_distance(unit * real, unit * fake, directions=20) == pytest.approx(unit**2 * found.value, rel=1e-4)


class Rows(Features):
    """Features without a sample set."""

    def __init__(self, rows: Tensor) -> None:
        object.__setattr__(self, "rows", rows)


def test_metric_and_refusals():
    real, fake = normal(20, 3, 0), normal(20, 3, 1)
    assert mind(Rows(real), Rows(fake), directions=9, seed=1) == sliced_estimate(real, fake, directions=9, seed=1)
    assert mind.on == {"image": "inception", "text": "char_ngrams"}
    assert mind.params == {"directions": 1000, "seed": 2020}
    with pytest.raises(BadSetting, match="directions"):
        sliced_distance(real, fake, directions=0)
    with pytest.raises(TooFewSamples, match="2 real"):
        sliced_distance(real[:2], fake)
    with pytest.raises(BadRows, match="columns"):
        sliced_distance(real, fake[:, :2])
    fake[5, 1] = math.inf
    with pytest.raises(BadRows, match="fake row 5"):
        sliced_distance(real, fake)
