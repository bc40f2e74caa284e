"""What the judges are made of: calibration, folds and seeds, the spectrum by hand, the cnn's places and grey levels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detectors._calibrate import LEAST_SLOPE, calibrated_logistic, platt
from detectors._fit import balanced_weights, folds, seeded
from detectors.cnn import CNN, grey_levels
from detectors.spectrum import BINS, Spectrum, radial_log_power
from evalkit.errors import UnreadableSample
from tests.test_detectors import auroc, blurred, listed

RNG = np.random.RandomState(0)


# ---------------------------------------------------------------------------------------------- calibration


def test_platt_finds_the_slope_and_offset_that_made_the_labels():
    scores = RNG.randn(20_000)
    is_fake = (RNG.random_sample(20_000) < 1 / (1 + np.exp(-2.0 * scores))).astype(int)
    found = platt(scores, is_fake)
    assert (found.slope, found.offset) == (pytest.approx(2.0, rel=0.05), pytest.approx(0.0, abs=0.05))


@pytest.mark.parametrize("scores", [np.zeros(40), -np.repeat([0.0, 1.0], 20), np.repeat([3.0, 3.0], 20)])
def test_platt_of_useless_or_reversed_scores_says_about_one_half(scores):
    found = platt(scores, np.repeat([0, 1], 20))
    assert found.slope == LEAST_SLOPE
    assert 1 / (1 + np.exp(-(found.slope * scores + found.offset))) == pytest.approx(0.5, abs=0.01)


def test_platt_of_separated_scores_stays_finite_and_humble():
    found = platt(np.repeat([-1.0, 1.0], 20) * 1e3, np.repeat([0, 1], 20))
    p = 1 / (1 + np.exp(-(found.slope * 1e3 + found.offset)))
    # Platt's target for 20 of 20: (20 + 1) / (20 + 2).
    assert p == pytest.approx(21 / 22, abs=0.01)


def test_p_is_at_even_odds_however_many_samples_a_side_has():
    shift = np.array([1.5, 0.0, 0.0])
    X = np.concatenate([RNG.randn(400, 3), RNG.randn(40, 3) + shift])
    coefficients, intercept = calibrated_logistic(X, np.repeat([0, 1], [400, 40]), 1.0, 0)
    p = [1 / (1 + np.exp(-(x @ coefficients + intercept))) for x in (RNG.randn(4000, 3), RNG.randn(4000, 3) + shift)]
    assert np.concatenate(p).mean() == pytest.approx(0.5, abs=0.05)


def test_cross_fitting_is_not_fooled_by_more_columns_than_samples():
    X, is_fake = RNG.randn(60, 500), np.repeat([0, 1], 30)
    coefficients, intercept = calibrated_logistic(X, is_fake, 10.0, 0)
    p = 1 / (1 + np.exp(-(RNG.randn(500, 500) @ coefficients + intercept)))
    # The regression fits its noise perfectly; the probabilities must not believe it.
    assert np.abs(p - 0.5).mean() < 0.2


def test_folds_are_even_shuffled_and_the_weights_balance_the_sides():
    is_fake = np.repeat([0, 1], [30, 12])
    fold = folds(is_fake, 3, seed=1)
    assert [np.bincount(fold[is_fake == side]).tolist() for side in (0, 1)] == [[10] * 3, [4] * 3]
    assert not np.array_equal(fold, folds(is_fake, 3, seed=2))
    weights = balanced_weights(is_fake)
    assert weights[is_fake == 0].sum() == pytest.approx(21) and weights[is_fake == 1].sum() == pytest.approx(21)


def test_seeded_repeats_inside_and_restores_outside():
    torch.manual_seed(7)
    expected = torch.rand(2)[1]
    torch.manual_seed(7)
    torch.rand(1)
    inside = []
    for _ in range(2):
        with seeded(3, "cpu"):
            inside.append(torch.rand(4))
    assert torch.equal(*inside) and torch.rand(1)[0] == expected


# ---------------------------------------------------------------------------------------------- spectrum


def test_white_noise_has_a_flat_spectrum_at_its_variance():
    profile = radial_log_power(RNG.randn(256, 256) * 10)
    # Each ring averages many frequencies of exponential power, except the first few and the corner.
    assert profile[3:-2] == pytest.approx(np.log(100), abs=0.25)


def test_a_checkerboard_peaks_at_the_highest_frequency_and_stripes_where_their_period_says():
    y, x = np.mgrid[:32, :32]
    assert radial_log_power(((x + y) % 2) * 255.0).argmax() == BINS - 1
    stripes = radial_log_power(128 + 100 * np.cos(2 * np.pi * x / 8))
    assert stripes.argmax() == int(1 / 8 / np.sqrt(0.5) * BINS)


def test_a_blurred_image_falls_at_high_frequencies():
    image = RNG.randint(0, 256, (64, 64, 3)).astype(np.uint8)
    sharp, soft = (radial_log_power(i[:, :, 0].astype(float)) for i in (image, blurred(blurred(image))))
    assert (soft[-8:] < sharp[-8:] - 2).all()
    assert abs(sharp[1:4].mean() - sharp[-8:].mean()) < 1 and soft[1:4].mean() > soft[-8:].mean() + 2


@pytest.mark.parametrize("shape", [(4, 4), (5, 17), (8, 8), (64, 48), (1100, 6)])
def test_images_of_any_size_have_rows_of_one_width(shape):
    image = RNG.randint(0, 256, (*shape, 3)).astype(np.uint8)
    row = Spectrum().prepare(image)
    assert row.shape == (Spectrum.columns,) and torch.isfinite(row).all()
    assert torch.isfinite(Spectrum().prepare(np.zeros_like(image))).all()


def test_an_image_under_four_pixels_has_no_spectrum():
    with pytest.raises(UnreadableSample, match="9 x 3"):
        Spectrum().prepare(np.zeros((3, 9, 3), np.uint8))


# ---------------------------------------------------------------------------------------------- the others


def test_the_cnn_takes_its_side_from_the_training_images(tmp_path):
    for size, side in ((6, 8), (16, 16), (17, 17), (32, 32)):
        images = [RNG.randint(0, 256, (size, size + 3, 3)).astype(np.uint8) for _ in range(20)]
        judge = CNN()
        judge.fit(listed(images[:10]), listed(images[10:]), seed=0)
        judge.save(tmp_path)
        assert json.loads((tmp_path / "card.json").read_text())["facts"]["side"] == side
        assert judge.prepare(images[0]).shape == (3, side, side)


def one_bright_pixel(columns):
    """Dark 8 x 8 images, each with one bright pixel in one of these columns, in any row but the first and last."""
    images = np.zeros((150, 8, 8, 3), np.uint8)
    images[np.arange(150), RNG.randint(1, 7, 150), RNG.choice(columns, 150)] = 255
    return list(images)


def grey_noise(levels):
    """8 x 8 images whose pixels are drawn from these of the seventeen grey levels."""
    grey = np.rint(RNG.choice(levels, (150, 8, 8, 1)) * 255 / 16).astype(np.uint8)
    return list(np.repeat(grey, 3, axis=3))


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        # A network that shifts, mirrors and pools reaches 0.90, 0.93 and 0.86 on these three.
        # The same mark in other columns, never at a border.
        (one_bright_pixel([1, 3, 5]), one_bright_pixel([2, 4, 6])),
        # The same mean and nearly the same spread: only which levels occur tells.
        (grey_noise(range(0, 17, 2)), grey_noise(range(1, 17, 2))),
        # The same pixels mirrored.
        (one_bright_pixel([1, 2, 3]), one_bright_pixel([4, 5, 6])),
    ],
    ids=["place", "levels", "mirrored"],
)
def test_the_cnn_sees_places_and_grey_levels_of_small_images(real, fake):
    judge = CNN()
    judge.fit(listed(real[:100]), listed(fake[:100]), seed=0)
    assert auroc(judge, real[100:], fake[100:]) > 0.95


def test_grey_levels_of_known_pixels():
    pixels = torch.tensor([-1.0, 0.25, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    expected = [[1, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]]
    assert grey_levels(pixels, 5)[0, :, 0].T.tolist() == expected
    # The mean of the three colours is what counts.
    colours = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert grey_levels(colours, 5).flatten().tolist() == [0, 0, 1, 0, 0]
    every = torch.from_numpy(RNG.uniform(-1, 1, (4, 3, 5, 6)))
    torch.testing.assert_close(grey_levels(every, 17).sum(dim=1), torch.ones(4, 5, 6, dtype=torch.float64))
