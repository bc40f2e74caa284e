"""Training views: CNNDetection's changes in their order and ranges, the same for a sample whatever stands beside it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from scipy import stats

from detectors._augment import Augmentation, applied, augmented, blurred, compressed, drawn, generator, places

BOTH = Augmentation(blur=1.0, jpeg=1.0)


def noise(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def photo(height, width):
    """Smooth waves with some noise: JPEG treats it as it treats photographs."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 80 * np.sin(x / 9 + c) * np.cos(y / (7 + c)) for c in range(3)], axis=-1)
    return np.clip(waves + np.random.RandomState(1).randn(height, width, 3) * 8, 0, 255).astype(np.uint8)


def whole_then_cropped(image, side, draw):
    """The order of the paper on the whole image: blur, JPEG, padding, crop, mirror."""
    image = applied(image, draw)
    short = [max(0, side - length) for length in image.shape[:2]]
    pads = [(s // 2, s - s // 2) for s in short]
    image = np.pad(image, [*pads, (0, 0)], mode="reflect")
    crop = image[draw.top : draw.top + side, draw.left : draw.left + side]
    return crop[:, ::-1] if draw.mirrored else crop


@pytest.mark.parametrize("size", [(256, 200), (100, 61), (48, 300), (33, 20)])
def test_a_view_is_the_whole_image_changed_and_then_cropped(size):
    image, subsamplings = photo(*size), set()
    for i in range(25):
        draw = drawn(generator(0, 0, i), *size, 48, BOTH)
        subsamplings.add(draw.subsampling)
        view = augmented(image, 48, BOTH, generator(0, 0, i))
        assert np.array_equal(view, whole_then_cropped(image, 48, draw)), draw
    assert subsamplings == {0, 2}


def test_a_view_depends_on_seed_epoch_and_sample_and_on_nothing_else():
    image = noise(40, 40)
    terms = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    there = {t: augmented(image, 16, BOTH, generator(*t)).tobytes() for t in terms}
    back = {t: augmented(image, 16, BOTH, generator(*t)).tobytes() for t in reversed(terms)}
    assert there == back and len(set(there.values())) == 4


def test_draws_have_the_ranges_and_shares_of_the_paper():
    draws = [drawn(generator(5, 0, i), 100, 80, 64, Augmentation(0.5, 0.25)) for i in range(4000)]
    sigmas = np.array([d.sigma for d in draws if d.sigma])
    qualities = np.array([d.quality for d in draws if d.quality])
    # A share of n draws is within 4 standard errors of its probability.
    for found, share in ((len(sigmas), 0.5), (len(qualities), 0.25), (sum(d.mirrored for d in draws), 0.5)):
        assert found / 4000 == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
    assert stats.kstest(sigmas, "uniform", (0, 3)).pvalue > 1e-3
    assert (qualities.min(), qualities.max()) == (30, 100)
    assert {d.top for d in draws} == set(range(37)) and {d.left for d in draws} == set(range(17))


def test_without_changes_the_crop_is_a_part_of_the_image():
    image = noise(20, 30)
    view = augmented(image, 8, Augmentation(mirror=0.0), generator(0, 0, 3))
    draw = drawn(generator(0, 0, 3), 20, 30, 8, Augmentation(mirror=0.0))
    assert np.array_equal(view, image[draw.top : draw.top + 8, draw.left : draw.left + 8])
    mirrored = augmented(image, 8, Augmentation(mirror=1.0), generator(0, 0, 3))
    assert np.array_equal(mirrored, view[:, ::-1])


def test_an_image_smaller_than_the_crop_is_reflected_around_its_middle():
    assert places(3, 9, 0).tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1]
    assert places(9, 3, 4).tolist() == [4, 5, 6]
    view = augmented(noise(10, 8), 16, Augmentation(mirror=0.0), generator(0, 0, 0))
    assert view.shape == (16, 16, 3) and np.array_equal(view[3:13, 4:12], noise(10, 8))
    assert np.array_equal(view[2], view[4]) and np.array_equal(view[:, 3], view[:, 5])


def test_blur_keeps_the_mean_and_takes_noise_by_the_known_factor():
    image = np.clip(np.random.RandomState(0).randn(200, 200, 3) * 20 + 128, 0, 255).astype(np.uint8)
    soft = blurred(image, 2.0)
    assert soft.mean() == pytest.approx(image.mean(), abs=0.2)
    # White noise under a Gaussian of sigma keeps 1 / (4 pi sigma^2) of its variance; rounding adds 1/12.
    assert soft[20:-20, 20:-20].var() == pytest.approx(image.var() / (4 * np.pi * 4) + 1 / 12, rel=0.1)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_is_written_at_the_quality_and_chroma_asked_for(subsampling, monkeypatch):
    written = {}
    save = Image.Image.save

    def spy(self, stream, *args, **settings):
        save(self, stream, *args, **settings)
        written["bytes"] = stream.getvalue()

    monkeypatch.setattr(Image.Image, "save", spy)
    found = compressed(photo(64, 48), 70, subsampling)
    back = Image.open(io.BytesIO(written["bytes"]))
    assert JpegImagePlugin.get_sampling(back) == subsampling
    # Annex K's first luminance entry, 16, at quality 70 is 16 * 60 / 100 rounded.
    assert back.quantization[0][0] == 10
    assert found.shape == (64, 48, 3) and found.dtype == np.uint8


def test_worse_quality_is_further_from_the_image():
    image = photo(96, 96).astype(float)
    off = [np.abs(compressed(image.astype(np.uint8), q, 0) - image).mean() for q in (30, 60, 95)]
    assert off[0] > off[1] > off[2] > 0
