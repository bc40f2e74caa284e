"""Metrics of feature rows: FID, KID, precision and recall; and what all metrics of features refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics.detection import (
    area_under_roc,
    auroc,
    average_precision,
    average_precision_estimate,
    eer,
    equal_error_rate,
    tpr_at_fpr,
    true_positive_rate,
)
from evalkit.metrics.frechet import fid, frechet_distance, frechet_estimate
from evalkit.metrics.kernel import kernel_distance, kernel_estimate, kid
from evalkit.metrics.memorization import memorization, memorization_estimate
from evalkit.metrics.neighbours import neighbour_estimates, prdc
from evalkit.metrics.neighbours import precision_recall_density_coverage as four
from evalkit.metrics.two_sample import c2st, two_sample_test
from evalkit.resample import group_jackknife
from evalkit.types import Features


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def exact_moments(n: int, d: int, seed: int) -> Tensor:
    """Rows whose sample mean is 0 and whose sample covariance is the identity."""
    x = normal(n, d, seed).double()
    x = x - x.mean(dim=0)
    return torch.linalg.qr(x).Q * math.sqrt(n - 1)


pairs = st.tuples(st.integers(8, 30), st.integers(8, 30), st.integers(1, 12), st.integers(0, 10_000))

# ------------------------------------------------------------------------------------------------ fid


@pytest.mark.parametrize("n", [40, 400])
def test_fid_of_identity_covariances_is_the_squared_shift(n):
    real = exact_moments(n, 32, 0)
    assert frechet_distance(real, exact_moments(n, 32, 1) + 1) == pytest.approx(32.0, rel=1e-9)


def test_fid_of_commuting_covariances():
    base, roots = exact_moments(300, 4, 0), torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    assert frechet_distance(base, exact_moments(300, 4, 1) * roots) == pytest.approx(0 + 1 + 0.25 + 4, rel=1e-9)


@pytest.mark.parametrize("n", [30, 200])
def test_fid_agrees_with_the_eigenvalues_of_the_product(n):
    real, fake = normal(n, 24, 0).double(), normal(n, 24, 1, 1.5, 0.2).double()
    a, b = np.cov(real.numpy(), rowvar=False), np.cov(fake.numpy(), rowvar=False)
    gap = real.mean(dim=0) - fake.mean(dim=0)
    root = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    assert frechet_distance(real, fake) == pytest.approx(float(gap @ gap) + np.trace(a + b) - 2 * root, rel=1e-6)


def test_fid_agrees_with_torchmetrics():
    theirs = pytest.importorskip("torchmetrics.image.fid")

    class Pixels(torch.nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1).double()

    g = torch.Generator().manual_seed(0)
    real = torch.randint(0, 255, (200, 3, 2, 2), dtype=torch.uint8, generator=g)
    fake = torch.randint(40, 200, (150, 3, 2, 2), dtype=torch.uint8, generator=g)
    theirs = theirs.FrechetInceptionDistance(feature=Pixels(), input_img_size=(3, 2, 2))
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert frechet_distance(real.flatten(1).float(), fake.flatten(1).float()) == pytest.approx(
        float(theirs.compute()), rel=1e-5
    )


def test_fid_bias_of_equal_distributions():
    """Two samples of N(0, I): E = 2 (d^2 / 4N + d / N), here 2.176."""
    found = [frechet_distance(normal(1000, 64, i), normal(1000, 64, 100 + i)) for i in range(6)]
    assert np.mean(found) == pytest.approx(2.176, rel=0.05)


def test_fid_worsens_with_shift_and_with_collapse():
    real = normal(300, 16, 0)
    by_shift = [frechet_distance(real, normal(300, 16, 1, shift=s)) for s in (0, 0.3, 1.0)]
    assert by_shift == sorted(by_shift)
    assert frechet_distance(real, normal(300, 16, 1, scale=0.1)) > by_shift[0]


@pytest.mark.parametrize(("n", "d"), [(400, 8), (60, 100)])
def test_fid_interval_agrees_with_deleting_samples(n, d):
    spread = torch.arange(1, d + 1) ** -0.7
    real, fake = normal(n, d, 0) * spread, normal(n, d, 1, 1.5, 0.3) * spread
    found = frechet_estimate(real, fake)
    deleted = group_jackknife(lambda k: {"": frechet_distance(real[k[0]], fake[k[1]])}, [n, n], groups=n)[""]
    assert found.method == "jackknife"
    # Narrower by what the jackknife counts twice: at most half of its variance.
    assert 0.7 < (found.high - found.low) / (deleted.high - deleted.low) < 1


@settings(max_examples=25, deadline=None)
@given(pairs)
def test_fid_is_symmetric_blind_to_order_and_zero_on_itself(sizes):
    n, m, d, seed = sizes
    real, fake = normal(n, d, seed), normal(m, d, seed + 1, 2.0)
    value = frechet_distance(real, fake)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert value == pytest.approx(frechet_distance(fake, real), rel=1e-6, abs=1e-6)
    assert value == pytest.approx(frechet_distance(real[order], fake), rel=1e-6, abs=1e-6)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-5)
    found = frechet_estimate(real, fake)
    assert 0 <= found.low <= found.value <= found.high


# ------------------------------------------------------------------------------------------------ kid


def test_kid_by_hand():
    """D = 1, rows 0, 1, 2 against 0, 0, 0: k(x, y) = (xy + 1)^3."""
    real, fake = torch.tensor([[0.0], [1.0], [2.0]]), torch.zeros(3, 1)
    assert kernel_distance(real, fake) == pytest.approx((1 + 1 + 27) / 3 + 1 - 2)


def test_kid_of_a_set_with_itself():
    x = normal(50, 6, 0).double()
    K = (x @ x.T / 6 + 1) ** 3
    assert kernel_distance(x, x) == pytest.approx(float(-2 / 49 * (K.diagonal().mean() - K.mean())), rel=1e-9)


def test_kid_agrees_with_torch_fidelity_on_one_whole_subset():
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    real, fake = normal(60, 10, 0), normal(60, 10, 1, 1.3)
    theirs = fidelity.kid_features_to_metric(
        real, fake, kid_subsets=1, kid_subset_size=60, kid_degree=3, kid_gamma=None, kid_coef0=1,
        rng_seed=0, verbose=False,
    )  # fmt: skip
    assert kernel_distance(real, fake) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


def test_kid_interval_is_the_leave_one_out_jackknife(monkeypatch):
    real, fake = normal(24, 3, 0), normal(31, 3, 1, 1.5)
    brute = group_jackknife(lambda k: {"": kernel_distance(real[k[0]], fake[k[1]])}, [24, 31], groups=1000)[""]
    monkeypatch.setattr("evalkit.metrics.kernel.BLOCK", 7)
    found = kernel_estimate(real, fake)
    assert (found.value, found.low, found.high) == pytest.approx((brute.value, brute.low, brute.high), rel=1e-9)


def test_kid_worsens_with_shift_and_sees_what_two_moments_do_not():
    real = normal(400, 1, 0)
    assert kernel_distance(real, normal(400, 1, 1, shift=1.0)) > kernel_distance(real, normal(400, 1, 1))
    skewed = normal(400, 1, 2).exp()
    skewed = (skewed - skewed.mean()) / skewed.std() * real.std() + real.mean()
    assert frechet_distance(real, skewed) == pytest.approx(0, abs=1e-6)
    assert kernel_distance(real, skewed) > kernel_distance(real, normal(400, 1, 1))


@settings(max_examples=25, deadline=None)
@given(pairs)
def test_kid_is_symmetric_and_blind_to_order(sizes):
    n, m, d, seed = sizes
    real, fake = normal(n, d, seed), normal(m, d, seed + 1, 1.4)
    found, mirrored = kernel_estimate(real, fake), kernel_estimate(fake.flip(0), real.flip(0))
    assert (found.value, found.low, found.high) == pytest.approx((mirrored.value, mirrored.low, mirrored.high))


# ------------------------------------------------------------------------------------------------ prdc


def test_prdc_by_hand():
    """k = 1 on a line. Real 0, 1, 10: radii 1, 1, 9. Fake 0.5, 3, 30: radii 2.5, 2.5, 27."""
    found = four(torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [3.0], [30.0]]), k=1)
    # 0.5 lies in the balls of 0 and 1 and 3 in the one of 10 (7 <= 9); 30 in none (20 > 9).
    assert found["precision"] == pytest.approx(2 / 3)
    # 0 and 1 lie in the ball of 0.5; 10 in the one of 30 (20 <= 27).
    assert found["recall"] == 1.0
    # The ball of 10 holds only 3: 0.5 is 9.5 away.
    assert found["density"] == pytest.approx(3 / 3)
    assert found["coverage"] == 1.0
    assert list(found) == ["precision", "recall", "density", "coverage"]


def test_prdc_agrees_with_its_authors_code():
    package = pytest.importorskip("prdc")
    real, fake = normal(130, 6, 0), normal(170, 6, 1, 0.7, 0.2)
    theirs = package.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=4)
    assert four(real, fake, k=4) == pytest.approx({k: float(v) for k, v in theirs.items()})


def test_prdc_of_repeated_samples_is_not_zero():
    """Every sample six times, so that the radii are 0: under the `<` of the authors a set scores 0 against itself."""
    x = normal(40, 5, 0).repeat(6, 1)
    found = four(x, x.flip(0), k=5)
    assert (found["precision"], found["recall"], found["coverage"]) == (1.0, 1.0, 1.0)


def test_prdc_of_a_set_with_itself():
    found = four(normal(60, 8, 0), normal(60, 8, 0), k=5)
    assert found == pytest.approx({"precision": 1.0, "recall": 1.0, "density": 6 / 5, "coverage": 1.0})


def test_prdc_of_equal_distributions_has_the_known_expectations():
    found = [four(normal(600, 2, i), normal(600, 2, 50 + i)) for i in range(8)]
    expected = 1 - math.prod((600 - i) / (1200 - i) for i in range(1, 6))
    assert np.mean([f["coverage"] for f in found]) == pytest.approx(expected, abs=0.01)
    assert np.mean([f["density"] for f in found]) == pytest.approx(1.0, abs=0.05)


def test_prdc_roles_are_not_swapped():
    """A generator stuck in one mode of ten keeps precision and loses recall and coverage; noise is the reverse."""
    centres = 20 * torch.eye(10)
    real = centres.repeat(30, 1) + normal(300, 10, 0)
    stuck, noise = centres[:1].repeat(300, 1) + normal(300, 10, 1), normal(300, 10, 2, 30.0)
    found = four(real, stuck)
    assert found["precision"] > 0.8
    assert found["recall"] < 0.2
    assert found["coverage"] < 0.2
    assert four(real, noise)["precision"] < 0.2


@settings(max_examples=20, deadline=None)
@given(pairs)
def test_prdc_ranges_and_order(sizes):
    n, m, d, seed = sizes
    real, fake = normal(n, d, seed), normal(m, d, seed + 1)
    found = neighbour_estimates(real, fake)
    for part, e in found.items():
        assert 0 <= e.low <= e.value <= e.high
        assert part == "density" or e.high <= 1
    assert four(real.flip(0), fake.flip(0)) == pytest.approx({k: e.value for k, e in found.items()})
    # Precision and recall are one question asked from either side.
    assert four(fake, real)["recall"] == pytest.approx(found["precision"].value)


# ------------------------------------------------------------------------------------------------ refusals

METRICS = {
    "fid": frechet_distance,
    "kid": kernel_distance,
    "prdc": four,
    "c2st": two_sample_test,
    "memorization": lambda real, fake: memorization_estimate(real, fake, real),
}


@pytest.mark.parametrize("name", METRICS)
def test_refusals_name_the_side(name):
    good, bad = normal(30, 3, 0), normal(30, 3, 1)
    bad[4, 1] = float("nan")
    with pytest.raises(BadRows, match="fake row 4"):
        METRICS[name](good, bad)
    with pytest.raises(BadRows, match="real row 4"):
        METRICS[name](bad, good)
    with pytest.raises(TooFewSamples, match="1 fake"):
        METRICS[name](good, good[:1])
    with pytest.raises(BadRows, match="columns"):
        METRICS[name](good, good[:, :2])


def test_settings_out_of_range():
    x = normal(30, 3, 0)
    with pytest.raises(BadSetting):
        four(x, x, k=0)
    with pytest.raises(BadSetting):
        two_sample_test(x, x, folds=1)
    with pytest.raises(TooFewSamples, match="k=5 needs at least 7"):
        four(x[:6], x)


@pytest.mark.parametrize("name", METRICS)
def test_constant_sets_give_numbers(name):
    found = METRICS[name](torch.zeros(20, 4), torch.zeros(20, 4))
    values = list(found.values()) if isinstance(found, dict) else [found]
    assert all(math.isfinite(getattr(v, "value", v)) for v in values)


class Rows(Features):
    """Features without a sample set, for metrics that read rows only."""

    def __init__(self, rows: Tensor) -> None:
        object.__setattr__(self, "rows", rows)


def test_metrics_read_features():
    real, fake, train = (Rows(normal(40, 3, i)) for i in range(3))
    assert fid(real, fake)[""] == frechet_estimate(real.rows, fake.rows)
    assert kid(real, fake) == kernel_estimate(real.rows, fake.rows)
    assert prdc(real, fake, k=3) == neighbour_estimates(real.rows, fake.rows, k=3)
    assert c2st(real, fake, seed=1) == two_sample_test(real.rows, fake.rows, seed=1)
    assert memorization(real, fake, train) == memorization_estimate(real.rows, fake.rows, train.rows)
    real, fake = Rows(normal(40, 1, 0)), Rows(normal(40, 1, 1))
    assert auroc(real, fake) == area_under_roc(real.rows, fake.rows)
    assert eer(real, fake).value == equal_error_rate(real.rows, fake.rows).value
    assert average_precision(real, fake).value == average_precision_estimate(real.rows, fake.rows).value
    assert tpr_at_fpr(real, fake, fpr=0.1) == true_positive_rate(real.rows, fake.rows, fpr=0.1)
