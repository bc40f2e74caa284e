"""KID in the dialects of other libraries, its precision, its settings and what each sample adds to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadRows, BadSetting, TooFewSamples, UnknownName
from evalkit.metrics import kernel as module
from evalkit.metrics.kernel import kernel_distance, kernel_estimate, kid, subset_estimates
from evalkit.metrics.mmd import panels
from evalkit.types import Features


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).double() + shift


def pooled(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    """Rows as a network's last pooling makes them: float32, above 0, mostly one common mean."""
    g = torch.Generator().manual_seed(seed)
    common = torch.rand(d, generator=torch.Generator().manual_seed(99))
    return (common + 0.3 * torch.randn(n, d, generator=g) + shift).clamp_min(0)


# ------------------------------------------------------------------------------------------------ by hand


def test_linear_kernel_by_hand():
    """Degree 1, gamma 1, coef 0: pairs of {1, 3} give 3, of {0, 2, 4} give 8/3, across 4."""
    real, fake = torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([[0.0], [2.0], [4.0]])
    # Real pairs: 1*3, 1*2, 3*2 -> mean 11/3; fake pairs: 0, 0, 8 -> mean 8/3; across: mean 2 * mean 2 = 4.
    value = kernel_distance(real, fake, degree=1, gamma=1.0, coef=0.0)
    assert value == pytest.approx(11 / 3 + 8 / 3 - 2 * 4)


def test_gamma_is_one_over_the_width_and_coef_is_one_unless_given():
    real, fake = normal(20, 4, 0), normal(25, 4, 1, 1.5)
    assert kernel_distance(real, fake) == pytest.approx(kernel_distance(real, fake, degree=3, gamma=0.25, coef=1.0))
    assert kernel_distance(real, fake) != pytest.approx(kernel_distance(real, fake, gamma=0.5), rel=0.1)


# ------------------------------------------------------------------------------------------------ other libraries


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("way", ["_in_one_pass", "_one_by_one"])
def test_subsets_of_torch_fidelity(monkeypatch, way, dtype):
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    monkeypatch.setattr(module, "_in_one_pass", getattr(module, way))
    monkeypatch.setattr(module, "BLOCK", 17)
    real, fake = normal(60, 12, 0), normal(75, 12, 1, 1.3)
    theirs = fidelity.kid_features_to_metric(
        fake, real, kid_subsets=9, kid_subset_size=40, kid_kernel="poly", kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1, rng_seed=2020, verbose=False,
    )  # fmt: skip
    found = subset_estimates(real.to(dtype), fake.to(dtype), subsets=9, subset_size=40)
    assert found[""].value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert found["subset_std"].value == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)


def test_subsets_of_clean_fid():
    theirs = pytest.importorskip("cleanfid.fid")
    real, fake = normal(50, 8, 0), normal(70, 8, 1, 1.3)
    np.random.seed(7)
    expected = theirs.kernel_distance(real.numpy(), fake.numpy(), num_subsets=5, max_subset_size=1000)
    found = subset_estimates(real, fake, subsets=5, dialect="clean_fid", seed=7)
    assert list(found) == [""]
    assert found[""].value == pytest.approx(expected, rel=1e-6)


def test_subsets_of_torchmetrics():
    theirs = pytest.importorskip("torchmetrics.image.kid")

    class Same(torch.nn.Module):
        num_features = 8

        def forward(self, x):
            return x

    real, fake = normal(50, 8, 0), normal(70, 8, 1, 1.3)
    kid_of_theirs = theirs.KernelInceptionDistance(feature=Same(), subsets=6, subset_size=30)
    kid_of_theirs.update(real, real=True)
    kid_of_theirs.update(fake, real=False)
    torch.manual_seed(5)
    mean, std = kid_of_theirs.compute()
    found = subset_estimates(real, fake, subsets=6, subset_size=30, dialect="torchmetrics", seed=5)
    assert found[""].value == pytest.approx(float(mean), rel=1e-6)
    assert found["subset_std"].value == pytest.approx(float(std), rel=1e-6)


def test_one_subset_of_everything_is_the_distance_over_all_pairs():
    real, fake = normal(40, 5, 0), normal(40, 5, 1, 1.4)
    found, whole = subset_estimates(real, fake, subsets=1, subset_size=40), kernel_estimate(real, fake)
    assert (found[""].value, found[""].low, found[""].high) == pytest.approx((whole.value, whole.low, whole.high))
    assert found["subset_std"].value == 0


# ------------------------------------------------------------------------------------------------ precision and memory


def test_float32_products_keep_seven_digits_of_the_distance():
    real, fake = pooled(500, 600, 0), pooled(600, 600, 1, 0.01)
    assert panels(real, fake)[0].centre.dtype == torch.float32, "too small to be made with float32 products"
    exact = kernel_distance(real.double(), fake.double())
    assert kernel_distance(real, fake) == pytest.approx(exact, rel=1e-7)


def test_rows_mapped_from_a_file(tmp_path):
    real, fake = pooled(300, 64, 0), pooled(300, 64, 1, 0.02)
    table = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=(300, 64))
    table[:] = fake.numpy()
    mapped = torch.from_numpy(table)
    assert kernel_estimate(real, mapped) == kernel_estimate(real, fake)
    drawn = subset_estimates(real, mapped, subsets=4, subset_size=50)
    assert drawn == subset_estimates(real, fake, subsets=4, subset_size=50)


# ------------------------------------------------------------------------------------------------ intervals, shares


def test_subset_interval_is_wider_than_that_of_all_pairs(monkeypatch):
    real, fake = normal(150, 6, 0), normal(180, 6, 1, 1.2, 1.0)
    whole = kernel_estimate(real, fake)
    one_pass = subset_estimates(real, fake, subsets=20, subset_size=60)[""]
    assert one_pass.high - one_pass.low > whole.high - whole.low
    monkeypatch.setattr(module, "_in_one_pass", module._one_by_one)
    apart = subset_estimates(real, fake, subsets=20, subset_size=60)[""]
    assert apart.value == pytest.approx(one_pass.value)
    assert apart.high - apart.low == pytest.approx(one_pass.high - one_pass.low, rel=0.3)


def test_each_sample_adds_what_leaving_it_out_takes_away():
    real, fake = normal(80, 3, 0), normal(90, 3, 1, 1.3, 0.4)
    whole = kernel_estimate(real, fake)
    left = [kernel_distance(real, torch.cat([fake[:i], fake[i + 1 :]])) for i in range(90)]
    taken = 89 * (whole.value - torch.tensor(left, dtype=torch.float64))
    assert torch.corrcoef(torch.stack([whole.per_sample, taken]))[0, 1] > 0.999
    assert torch.allclose(whole.per_sample, taken - taken.mean(), rtol=0.02, atol=0.02 * float(taken.std()))


def test_samples_where_no_real_one_is_add_most():
    real, fake = normal(60, 4, 0), normal(60, 4, 1)
    fake[20:30] += 6
    assert sorted(kernel_estimate(real, fake).per_sample.topk(10).indices.tolist()) == list(range(20, 30))


# ------------------------------------------------------------------------------------------------ properties


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(1, 9), st.integers(1, 50), st.integers(0, 999))
def test_tiles_of_any_size_and_turned_rows_give_the_same(n, m, d, block, seed):
    real, fake = normal(n, d, seed), normal(m, d, seed + 1, 1.3)
    whole = kernel_estimate(real, fake)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        cut = kernel_estimate(real, fake)
    assert (cut.value, cut.low, cut.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-9, abs=1e-11)
    Q = torch.linalg.qr(normal(d, d, seed + 2)).Q
    assert kernel_distance(real @ Q, fake @ Q) == pytest.approx(whole.value, rel=1e-9, abs=1e-11)


# ------------------------------------------------------------------------------------------------ the metric, refusals


class Rows(Features):
    """Features without a sample set."""

    def __init__(self, rows: Tensor) -> None:
        object.__setattr__(self, "rows", rows)


def test_kid_reads_features_and_its_dialects_report_what_their_libraries_report():
    real, fake = Rows(normal(40, 3, 0)), Rows(normal(50, 3, 1))
    assert kid(real, fake, degree=2) == kernel_estimate(real.rows, fake.rows, degree=2)
    assert list(kid(real, fake, subset_size=20, dialect="torchmetrics")) == ["", "subset_std"]
    assert list(kid(real, fake, dialect="clean_fid")) == [""]
    drawn = kid(real, fake, subsets=7, subset_size=20)
    assert drawn == subset_estimates(real.rows, fake.rows, subsets=7, subset_size=20, dialect="torch_fidelity")
    assert drawn["subset_std"].method == "no interval"
    assert kid.on == {"image": "inception", "text": "char_ngrams"}


def test_refusals():
    x = normal(20, 3, 0)
    with pytest.raises(UnknownName, match="torch_fidelity"):
        subset_estimates(x, x, dialect="torch-fidelity")
    with pytest.raises(TooFewSamples, match="subsets of 1000 cannot be drawn from 20 real"):
        subset_estimates(x, x)
    for wrong in ({"degree": 0}, {"gamma": -1.0}, {"gamma": math.inf}, {"coef": -0.5}):
        with pytest.raises(BadSetting):
            kernel_distance(x, x, **wrong)
    with pytest.raises(BadSetting, match="subset_size"):
        subset_estimates(x, x, subset_size=2)
    with pytest.raises(BadSetting, match="subsets"):
        subset_estimates(x, x, subsets=0, subset_size=9)
    with pytest.raises(BadRows, match="expected"):
        kernel_distance(x, x[:, 0])
