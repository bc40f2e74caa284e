"""Frechet distances: closed forms, agreement with scipy and torch-fidelity, exactness, intervals, influence, scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadRows, TooFewSamples, UsageError
from evalkit.metrics import _moments
from evalkit.metrics._moments import covariance_of, mean_of
from evalkit.metrics.frechet import fid, frechet_distance, frechet_estimate, frechet_unbiased, sfid
from evalkit.types import Estimate, Features, Moments

from .toys import images


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def decaying(n: int, d: int, seed: int, power: float = 0.7, shift: float = 0.0) -> Tensor:
    return normal(n, d, seed).double() * torch.arange(1, d + 1) ** -power + shift


def moments(rows: Tensor) -> Moments:
    x = rows.double()
    return Moments(x.mean(dim=0), torch.cov(x.T).reshape(x.shape[1], x.shape[1]), len(x))


def by_numpy(real: Tensor, fake: Tensor) -> float:
    """The textbook formula, its root from the eigenvalues of the product as torch-fidelity takes it."""
    a, b = moments(real), moments(fake)
    gap, S1, S2 = (a.mean - b.mean).numpy(), a.covariance.numpy(), b.covariance.numpy()
    root = np.sqrt(np.linalg.eigvals(S1 @ S2).astype(complex)).real.sum()
    return float(gap @ gap + np.trace(S1) + np.trace(S2) - 2 * root)


# ------------------------------------------------------------------------------------- known by hand


def test_unit_gaussians_one_apart_in_2048_dimensions():
    """pytorch-fid's own check: N(0, I) and N(1, I) are 2048 apart, exactly."""
    eye = torch.eye(2048, dtype=torch.float64)
    zero, one = torch.zeros(2048).double(), torch.ones(2048).double()
    assert frechet_distance(Moments(zero, eye, None), Moments(one, eye, None)) == pytest.approx(2048.0, rel=1e-12)


def test_commuting_covariances():
    """|dmu|^2 + sum (sqrt a - sqrt b)^2 = 9 + 1 + 0 + 4."""
    a, b = (torch.diag(torch.tensor(d, dtype=torch.float64)) for d in ([1.0, 4.0, 9.0], [4.0, 4.0, 1.0]))
    shift = torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)
    assert frechet_distance(Moments(shift * 0, a, None), Moments(shift, b, None)) == pytest.approx(14.0, rel=1e-12)


def test_one_dimension_by_hand():
    """Means 1 and 2; variances 2 and 8 (n - 1): 1 + (sqrt 8 - sqrt 2)^2 = 3."""
    real, fake = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    assert frechet_distance(real, fake) == pytest.approx(3.0, rel=1e-12)


def test_two_samples_a_side_in_64_dimensions():
    """Rank one each: |dmu|^2 + |u|^2 + |v|^2 - 2 |u.v|; a root of the 64 x 64 product is off in its 6th decimal."""
    real, fake = normal(2, 64, 0).double(), normal(2, 64, 1).double()
    u, v = ((x[0] - x[1]) / math.sqrt(2) for x in (real, fake))
    gap = real.mean(dim=0) - fake.mean(dim=0)
    expected = float(gap @ gap + u @ u + v @ v - 2 * (u @ v).abs())
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-14)
    assert frechet_distance(moments(real), moments(fake)) == pytest.approx(expected, rel=1e-12)


def test_one_distribution_twice_is_zero_up_to_the_known_bias():
    """One side exact: d^2 / 4N + d / N = 1.088 at d = 64, N = 1000."""
    exact = Moments(torch.zeros(64).double(), torch.eye(64).double(), None)
    found = [frechet_distance(exact, normal(1000, 64, i)) for i in range(20)]
    assert np.mean(found) == pytest.approx(1.088, rel=0.03)


def test_the_unbiased_part_takes_that_bias_away():
    pairs = [(normal(400, 16, i), normal(400, 16, 100 + i)) for i in range(20)]
    assert np.mean([frechet_unbiased(a, b).value for a, b in pairs]) == pytest.approx(0, abs=0.04)
    assert np.mean([frechet_unbiased(a, b + 0.3).value for a, b in pairs]) == pytest.approx(16 * 0.09, rel=0.05)


# ------------------------------------------------------------------------------------- agreement


@pytest.mark.parametrize("d", [2, 16, 64])
@pytest.mark.parametrize("n", [2, 4, 8, 64, 1024])
def test_agrees_with_the_eigenvalues_of_the_product(n, d):
    """The grid of torch-fidelity's own test of its statistics function, to its five decimals, and never NaN."""
    real, fake = normal(n, d, 2023).double(), normal(n, d, 2024).double()
    assert frechet_distance(real, fake) == pytest.approx(by_numpy(real, fake), abs=1e-5, rel=1e-6)


def test_agrees_with_the_matrix_root_of_scipy():
    real, fake = decaying(500, 32, 0), decaying(400, 32, 1, 0.4, 0.1)
    a, b = moments(real), moments(fake)
    root = np.trace(scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real)
    expected = float((a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()) - 2 * root
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_agrees_with_torch_fidelity():
    theirs = pytest.importorskip("torch_fidelity.metric_fid")
    real, fake = decaying(300, 24, 0), decaying(200, 24, 1, 0.5, 0.2)
    stats = [theirs.fid_features_to_statistics(x) for x in (real, fake)]
    expected = theirs.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)


def test_covariance_agrees_with_numpy_far_from_the_origin(monkeypatch):
    """In several blocks and panels, at a mean of 1000: without centring, half the digits would be gone."""
    monkeypatch.setattr(_moments, "BLOCK", 300 * 50)
    monkeypatch.setattr(_moments, "PANEL", 64)
    rows = normal(1100, 300, 0, 0.01, 1000.0).double()
    mean = mean_of("real", rows)
    assert torch.allclose(mean, torch.from_numpy(rows.numpy().mean(axis=0)), rtol=1e-14)
    expected = torch.from_numpy(np.cov(rows.numpy(), rowvar=False))
    assert torch.allclose(covariance_of(rows, mean), expected, rtol=1e-9, atol=1e-15)


# ------------------------------------------------------------------------------------- exact whatever the rank


@pytest.mark.parametrize(("n", "m"), [(90, 80), (90, 12), (12, 80), (12, 10)])
def test_rows_and_moments_give_one_distance(n, m):
    """Few rows go by the rows, many by covariances, moments always by covariances; singular columns included."""
    real, fake = normal(n, 20, 0).double(), normal(m, 20, 1, 2.0).double()
    real[:, :5] = 0
    fake[:, 3:9] = 7
    value = frechet_distance(real, fake)
    for a, b in ((moments(real), fake), (real, moments(fake)), (moments(real), moments(fake))):
        assert frechet_distance(a, b) == pytest.approx(value, rel=1e-6)
        assert frechet_distance(b, a) == pytest.approx(value, rel=1e-6)


def test_of_few_rows_it_is_exact():
    """64 rows of 512 columns: singular values of QR factors in float64 as the reference; eigenvalues lose 5 digits."""
    real, fake = decaying(64, 512, 0, 0.3), decaying(64, 512, 1, 0.4)
    X, Y = ((x - x.mean(dim=0)) / math.sqrt(63) for x in (real, fake))
    joint = torch.linalg.qr(torch.cat([X, Y]).T).Q
    root = float(torch.linalg.svdvals((X @ joint) @ (Y @ joint).T).sum())
    gap = real.mean(dim=0) - fake.mean(dim=0)
    expected = float(gap @ gap + X.square().sum() + Y.square().sum()) - 2 * root
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 12), st.integers(0, 10_000))
def test_symmetric_at_least_zero_and_blind_to_order_and_rotation(n, m, d, seed):
    real, fake = normal(n, d, seed).double(), normal(m, d, seed + 1, 2.0).double()
    value = frechet_distance(real, fake)
    turn = torch.linalg.qr(normal(d, d, seed + 2).double()).Q
    assert value >= 0
    assert value == pytest.approx(frechet_distance(fake, real), rel=1e-6, abs=1e-6)
    assert value == pytest.approx(frechet_distance((real + 5) @ turn, (fake.flip(0) + 5) @ turn), rel=1e-6, abs=1e-6)
    found = frechet_estimate(real, fake)
    assert 0 <= found.low <= found.value <= found.high
    assert found.value == pytest.approx(value, rel=1e-6, abs=1e-6)


# ------------------------------------------------------------------------------------- intervals and influence


def by_leaving_out(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The jackknife variance of each side, one distance a sample left out."""
    found = []
    for side in (0, 1):
        n = len((real, fake)[side])
        again = []
        for i in range(n):
            keep = torch.arange(n) != i
            again.append(frechet_distance(real[keep] if side == 0 else real, fake[keep] if side == 1 else fake))
        found.append((n - 1) ** 2 / n * float(np.var(again, ddof=1)))
    return found[0], found[1]


@pytest.mark.parametrize(("n", "m", "d"), [(60, 45, 16), (20, 30, 40), (18, 80, 30), (80, 20, 30)])
def test_the_interval_leaves_out_every_sample_exactly(n, m, d):
    """Of the unbiased part the variance is the jackknife's itself; of the distance less, by what pairs add to it."""
    real, fake = decaying(n, d, 0), decaying(m, d, 1, 0.5, 0.3)
    expected = math.sqrt(sum(by_leaving_out(real, fake)))
    unbiased, biased = frechet_unbiased(real, fake), frechet_estimate(real, fake)
    reach = scipy.stats.t.ppf(0.975, min(n, m) - 1)
    assert (unbiased.high - unbiased.low) / 2 == pytest.approx(reach * expected, rel=1e-5)
    assert math.sqrt(0.75) - 1e-9 <= (biased.high - biased.low) / (unbiased.high - unbiased.low) < 1
    assert biased.method == "jackknife"


@pytest.mark.parametrize(("n", "shift"), [(20, 0.0), (60, 0.3)])
def test_the_interval_covers_the_expected_value(n, shift):
    """Its width against the scatter of the distance over 60 draws, known to 9 %."""
    found = [frechet_estimate(normal(n, 16, i), normal(n, 16, 1000 + i, 1, shift)) for i in range(60)]
    scatter = np.std([f.value for f in found], ddof=1)
    width = math.sqrt(np.mean([((f.high - f.value) / 1.96) ** 2 for f in found]))
    # Half of the pairs are counted twice on purpose: up to 1.22 wide where the sides are equal.
    assert 0.85 < width / scatter < 1.45


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 8), (30, 40, 60)])
def test_influence_is_the_change_per_unit_of_weight(n, m, d):
    """Leaving a sample out takes weight 1/m off it: the distance falls by about influence / m."""
    real, fake = decaying(n, d, 0), decaying(m, d, 1, 0.5, 0.3)
    psi = frechet_estimate(real, fake).per_sample
    assert psi is not None and psi.shape == (m,) and psi.dtype == torch.float64
    assert float(psi.mean()) == pytest.approx(0, abs=1e-9 * float(psi.abs().max()))
    if d < m:
        value = frechet_distance(real, fake)
        falls = [value - frechet_distance(real, fake[torch.arange(m) != i]) for i in range(0, m, 10)]
        assert np.corrcoef(falls, psi[::10].numpy())[0, 1] > 0.999
        assert np.mean(np.abs(np.array(falls) * m - psi[::10].numpy())) < 0.05 * float(psi.std())


def test_an_outlier_costs_most():
    fake = decaying(200, 16, 1)
    fake[17] += 5
    psi = frechet_estimate(decaying(500, 16, 0), fake).per_sample
    assert psi is not None and int(psi.argmax()) == 17 and float(psi[17]) > 0


def test_a_side_of_moments_is_fixed():
    real, fake = decaying(300, 12, 0), decaying(200, 12, 1, 0.5, 0.3)
    both = frechet_estimate(real, fake)
    found, mirrored = frechet_estimate(moments(real), fake), frechet_estimate(fake, moments(real))
    assert (found.method, mirrored.method) == ("jackknife, real side fixed", "jackknife, fake side fixed")
    assert found.value == pytest.approx(both.value, rel=1e-9) == pytest.approx(mirrored.value, rel=1e-9)
    assert found.high - found.low < both.high - both.low
    assert found.high - found.low == pytest.approx(mirrored.high - mirrored.low, rel=0.02)
    assert torch.allclose(found.per_sample, both.per_sample, rtol=1e-6)
    assert mirrored.per_sample is None
    assert frechet_unbiased(moments(real), fake).value < found.value
    with pytest.raises(UsageError, match="give no error bar"):
        frechet_estimate(moments(real), moments(fake))


# ------------------------------------------------------------------------------------- orientation, scale, refusals


def test_worse_samples_are_farther():
    real = decaying(600, 16, 0)
    by_shift = [frechet_distance(real, decaying(300, 16, 1, shift=s)) for s in (0, 0.1, 0.5)]
    by_collapse = [frechet_distance(real, decaying(300, 16, 1) * s) for s in (1, 0.5, 0.1)]
    assert by_shift == sorted(by_shift)
    assert by_collapse == sorted(by_collapse)


def test_rows_in_a_file_are_read_block_by_block(tmp_path, monkeypatch):
    """float32 rows mapped from a file, cut into 40 blocks: the same distance, influence and interval."""
    rows = [decaying(2000, 24, 0).float(), decaying(2000, 24, 1, 0.5, 0.1).float()]
    mapped = []
    for i, table in enumerate(rows):
        path = tmp_path / f"{i}.f32"
        table.numpy().tofile(path)
        mapped.append(torch.from_file(str(path), shared=False, size=table.numel()).view(table.shape))
    whole = frechet_estimate(*rows)
    monkeypatch.setattr(_moments, "BLOCK", 24 * 50)
    parts = frechet_estimate(*mapped)
    assert parts.value == pytest.approx(whole.value, rel=1e-10)
    assert parts.low == pytest.approx(whole.low, rel=1e-5)
    assert torch.allclose(parts.per_sample, whole.per_sample, rtol=1e-3, atol=1e-4)


class Rows(Features):
    def __init__(self, rows: Tensor, known: Moments | None = None) -> None:
        super().__init__(rows, "toy", images(2), moments=known)


def test_metrics_read_rows_or_moments():
    real, fake = decaying(60, 5, 0), decaying(50, 5, 1, 0.5, 0.3)
    parts = fid(Rows(real), Rows(fake), seed=3)
    assert parts[""] == frechet_estimate(real, fake) == sfid(Rows(real), Rows(fake))
    assert parts["unbiased"]() == frechet_unbiased(real, fake, seed=3) != frechet_unbiased(real, fake, seed=4)
    file = Rows(torch.empty(0, 5), moments(real))
    assert isinstance(found := fid(file, Rows(fake))[""], Estimate)
    assert found == frechet_estimate(moments(real), fake)
    assert fid.moments and sfid.moments


@pytest.mark.parametrize(
    ("real", "fake", "error", "says"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), TooFewSamples, "1 real samples"),
        (torch.zeros(5, 3), torch.zeros(0, 3), TooFewSamples, "0 fake samples"),
        (torch.zeros(5, 3), torch.zeros(5, 4), BadRows, "3 columns, fake rows 4"),
        (torch.zeros(5), torch.zeros(5, 4), BadRows, "expected"),
        (torch.zeros(5, 3), torch.tensor([[0.0] * 3] * 3 + [[math.inf] * 3]), BadRows, "fake row 3 holds NaN"),
    ],
)
def test_refuses_in_one_line(real, fake, error, says):
    with pytest.raises(error, match=says) as caught:
        frechet_estimate(real, fake)
    assert "\n" not in str(caught.value)


def test_halves_need_four_samples():
    with pytest.raises(TooFewSamples, match="at least 4"):
        frechet_unbiased(normal(3, 2, 0), normal(9, 2, 1))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_sets_of_one_image_and_of_hardly_any(n):
    """A constant side has no spread: its distance is |dmu|^2 + tr S; nothing is NaN."""
    real, flat = normal(n, 3, 0).double(), torch.full((n, 3), 2.0)
    found = frechet_estimate(real, flat)
    a = moments(real)
    assert found.value == pytest.approx(float((2 - a.mean).square().sum() + a.covariance.trace()), rel=1e-9)
    assert math.isfinite(found.low) and math.isfinite(found.high)
    assert frechet_distance(flat, flat) == 0
