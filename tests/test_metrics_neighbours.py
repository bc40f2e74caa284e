"""Precision, recall, density and coverage at any size: exact in every tie, honest intervals, no copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics._distances import clouds
from evalkit.metrics._halves import DRAWS, Halves, split_share
from evalkit.metrics._nearest import neighbours_within, own_radii
from evalkit.metrics.neighbours import neighbour_estimates, prdc
from evalkit.metrics.neighbours import precision_recall_density_coverage as four
from evalkit.types import Features


def normal(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def grid(n: int, d: int, seed: int, steps: int = 3) -> Tensor:
    """Rows of small whole numbers: copies and equal distances everywhere, and no rounding anywhere."""
    return torch.randint(0, steps, (n, d), generator=torch.Generator().manual_seed(seed)).float()


def written_out(real: Tensor, fake: Tensor, k: int, strict: bool = False) -> dict[str, float]:
    """The four from the whole matrix of differences in float64."""
    real, fake = real.double(), fake.double()

    def squares(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([(row - b).square().sum(dim=1) for row in a])

    def radii(x: Tensor) -> Tensor:
        return squares(x, x).fill_diagonal_(torch.inf).sort(dim=1).values[:, k - 1]

    cross, r, f = squares(real, fake), radii(real), radii(fake)
    in_real = cross < r[:, None] if strict else cross <= r[:, None]
    in_fake = cross < f if strict else cross <= f
    return {
        "precision": float(in_real.any(dim=0).double().mean()),
        "recall": float(in_fake.any(dim=1).double().mean()),
        "density": float(in_real.sum(dim=0).double().mean() / k),
        "coverage": float(in_real.any(dim=1).double().mean()),
    }


# ------------------------------------------------------------------------------------------------ by hand


def test_a_point_on_the_surface_is_inside_unless_strict():
    """k = 1 on a line: real 0 and 1 with radius 1, 9 with 8; fake 2 lies on the ball of 1, -1 on that of 0."""
    real, fake = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[2.0], [-1.0], [50.0]])
    assert four(real, fake, k=1)["precision"] == pytest.approx(2 / 3)
    # Strictly, only 2 in the ball of 9 is left: 7 < 8.
    assert four(real, fake, k=1, strict=True)["precision"] == pytest.approx(1 / 3)
    assert four(real, fake, k=1, strict=True)["coverage"] == pytest.approx(1 / 3)


def test_repeated_samples_score_one_and_zero_when_strict():
    x = normal(40, 5, 0).repeat(6, 1)
    assert [four(x, x.flip(0))[part] for part in ("precision", "recall", "coverage")] == [1.0, 1.0, 1.0]
    assert set(four(x, x.flip(0), strict=True).values()) == {0.0}


# ------------------------------------------------------------------------------------------------ other implementations


@pytest.mark.parametrize(("n", "m", "d", "k"), [(150, 140, 3, 5), (90, 160, 12, 3), (200, 120, 2, 1)])
def test_strict_agrees_with_the_prdc_package_on_ties_and_copies(n, m, d, k):
    package = pytest.importorskip("prdc")
    real, fake = grid(n, d, 0), grid(m, d, 1, steps=4)
    theirs = package.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=k)
    assert four(real, fake, k=k, strict=True) == pytest.approx({part: float(v) for part, v in theirs.items()})


def test_agrees_with_torch_fidelity_whose_sides_are_the_other_way_round():
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = normal(300, 8, 0), normal(260, 8, 1, 0.8, 0.2)
    precision, recall = theirs.calculate_precision_recall_full(fake, real)
    ours = four(real, fake, k=3)
    assert (ours["precision"], ours["recall"]) == pytest.approx((float(precision), float(recall)))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(8, 60), st.integers(8, 60), st.integers(1, 9), st.integers(1, 4), st.booleans(), st.integers(0, 9999)
)
def test_agrees_with_the_matrix_written_out(n, m, d, k, strict, seed):
    real, fake = grid(n, d, seed), torch.cat([grid(m - 3, d, seed + 1), grid(n, d, seed)[:3]])
    assert four(real, fake, k=k, strict=strict) == pytest.approx(written_out(real, fake, k, strict))
    assert {p: e.value for p, e in neighbour_estimates(real, fake, k=k, strict=strict).items()} == pytest.approx(
        four(real, fake, k=k, strict=strict)
    )


@pytest.mark.parametrize("shift", [0.0, 100.0, 1e4])
def test_blocks_and_far_away_knots_change_nothing(monkeypatch, shift):
    """A fake knot so far off and so tight that products in float32 cannot tell its distances apart."""
    monkeypatch.setattr("evalkit.metrics._distances.BLOCK", 32)
    real = torch.cat([normal(70, 6, 0), normal(50, 6, 1, 1e-3, shift)])
    fake = torch.cat([normal(60, 6, 2), normal(75, 6, 3, 1e-3, shift), real[100:110]])
    for strict in (False, True):
        assert four(real, fake, strict=strict) == pytest.approx(written_out(real, fake, 5, strict))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_rows_of_any_float_dtype(dtype):
    real, fake = grid(60, 4, 0).to(dtype), grid(70, 4, 1).to(dtype)
    assert four(real, fake) == four(real.float(), fake.float())


def test_radii_are_exact_and_lists_ascend(monkeypatch):
    monkeypatch.setattr("evalkit.metrics._distances.BLOCK", 16)
    rows = normal(90, 7, 0, shift=50.0)
    (side,) = clouds(2, real=rows)
    every = torch.stack([(row - rows.double()).square().sum(dim=1) for row in rows.double()]).fill_diagonal_(torch.inf)
    radii, near = own_radii(side, 4, 11)
    assert torch.equal(radii, every.sort(dim=1).values[:, 3])
    assert near.places.shape == (90, 11)
    assert bool((near.squares.diff(dim=1) >= 0).all())
    assert torch.equal(neighbours_within(side, 500).places.sort(dim=1).values[0], torch.arange(1, 90))


def test_memory_mapped_rows(tmp_path):
    real, fake = normal(120, 16, 0), normal(110, 16, 1)
    for name, rows in (("real", real), ("fake", fake)):
        np.save(tmp_path / f"{name}.npy", rows.numpy())
    mapped = [
        torch.from_numpy(np.load(tmp_path / f"{name}.npy", mmap_mode="c", allow_pickle=False))
        for name in ("real", "fake")
    ]
    assert four(*mapped) == four(real, fake)


# ------------------------------------------------------------------------------------------------ orientation


@pytest.fixture
def collapsed() -> tuple[Tensor, Tensor]:
    """A tight generated cluster in the midst of widely spread real samples."""
    generator = torch.Generator().manual_seed(42)
    fake = 0.1 * torch.randn(200, 16, generator=generator)
    return 3.0 * torch.randn(200, 16, generator=generator), fake


def test_a_collapsed_generator_is_precise_and_recalls_nothing(collapsed):
    found = four(*collapsed, k=3)
    assert found["precision"] > 0.8
    assert found["recall"] < 0.3
    swapped = four(*reversed(collapsed), k=3)
    assert (swapped["precision"], swapped["recall"]) == (found["recall"], found["precision"])


def test_the_size_of_the_blocks_is_not_in_the_numbers(collapsed, monkeypatch):
    whole = neighbour_estimates(*collapsed, k=3)
    monkeypatch.setattr("evalkit.metrics._distances.BLOCK", 50)
    again = neighbour_estimates(*collapsed, k=3)
    assert {p: e.value for p, e in again.items()} == {p: e.value for p, e in whole.items()}
    for part, estimate in again.items():
        assert (estimate.low, estimate.high) == pytest.approx((whole[part].low, whole[part].high), abs=1e-3)


# ------------------------------------------------------------------------------------------------ intervals


def test_halves_are_scored_as_if_they_were_alone():
    """The differences behind the interval of precision are those of the metric itself on the dealt halves."""
    real, fake = normal(150, 4, 0), normal(140, 4, 1, 0.8, 0.3)
    halves = Halves(*clouds(2, real=real, fake=fake))
    apart = torch.zeros(140, DRAWS, dtype=torch.float64)
    for draw in range(DRAWS):
        for mine in (True, False):
            own_real, own_fake = halves.real[:, draw] == mine, halves.fake[:, draw] == mine
            scored = neighbour_estimates(real[own_real], fake[own_fake], k=3)["precision"].per_sample
            apart[own_fake, draw] = scored
    whole = neighbour_estimates(real, fake, k=3)["precision"]
    expected = split_share(whole.per_sample, apart, halves.fake, "fake")
    assert (whole.low, whole.high) == pytest.approx((expected.low, expected.high), abs=2e-3)
    assert whole.method == "split halves"


@pytest.mark.parametrize("d", [2, 32])
def test_intervals_cover_the_expected_value(d):
    found = [neighbour_estimates(normal(150, d, 2 * i), normal(150, d, 2 * i + 1, 1.1, 0.2)) for i in range(60)]
    for part in ("precision", "recall", "density", "coverage"):
        values = np.array([f[part].value for f in found])
        held = np.mean([f[part].low <= values.mean() <= f[part].high for f in found])
        width = np.mean([f[part].high - f[part].low for f in found])
        # 60 draws of a chance of 0.95 fall below 0.86 once in a hundred times.
        assert held >= 0.86, part
        assert 0.7 < width / (3.92 * values.std()) < 2.2, part


def test_an_interval_at_the_edge_is_as_wide_as_for_independent_draws():
    """All of 100 shares are 1: Wilson's lower end is 1 - t^2 / (n + t^2)."""
    dealt = torch.arange(100)[:, None].expand(-1, DRAWS) % 2 == 0
    found = split_share(torch.ones(100), torch.ones(100, DRAWS), dealt, "fake")
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 2.086**2 / (100 + 2.086**2), abs=1e-4)


def test_per_sample_adds_up_to_the_value():
    found = neighbour_estimates(normal(80, 4, 0), normal(70, 4, 1))
    for part in ("precision", "density"):
        assert found[part].per_sample.shape == (70,)
        assert float(found[part].per_sample.mean()) == pytest.approx(found[part].value)
    assert found["recall"].per_sample is None


# ------------------------------------------------------------------------------------------------ refusals


def test_refusals():
    x = normal(30, 3, 0)
    with pytest.raises(TooFewSamples, match=r"6 fake samples.*k=5 needs at least 7"):
        four(x, x[:6])
    with pytest.raises(BadSetting):
        neighbour_estimates(x, x, k=0)
    bad = x.clone()
    bad[4, 1] = torch.nan
    with pytest.raises(BadRows, match="fake row 4"):
        neighbour_estimates(x, bad)
    with pytest.raises(BadRows, match="fake row 2 holds numbers beyond"):
        four(x, torch.where(torch.arange(30)[:, None] == 2, 1e20, x))
    with pytest.raises(BadRows, match=r"real rows have shape \(30,\)"):
        four(x[:, 0], x)


def test_the_smallest_sets_get_intervals():
    for n in (7, 8, 11):
        for estimate in neighbour_estimates(normal(n, 3, 0), normal(n + 1, 3, 1)).values():
            assert 0 <= estimate.low <= estimate.value <= estimate.high


def test_metric_passes_its_settings_on():
    real, fake = (Features(grid(40, 3, i), "grid", samples=None) for i in range(2))
    assert prdc(real, fake, k=3, strict=True) == neighbour_estimates(real.rows, fake.rows, k=3, strict=True)
    assert prdc(real, fake, k=3, strict=True) != prdc(real, fake, k=3)
