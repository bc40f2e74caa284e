"""Laundering chains: uint8 in and out, the same twice, what each does to an image known by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import BadSetting, UnknownName, UnreadableSample
from evalkit.laundering import AIGENBENCH_SEED, CHAINS, MILD, chain_of, shrunk
from evalkit.samples._transformed import transformed

from .toys import images


def photo(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A smooth scene with some texture: what codecs are made for."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def error(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_pure_seeded_and_keeps_the_kind(name: str) -> None:
    image = photo()
    before = image.copy()
    state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    first, again = CHAINS[name](image, 7), CHAINS[name](image, 7)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3 and first.flags.writeable
    assert np.array_equal(first, again)
    assert np.array_equal(image, before)
    assert not np.shares_memory(first, image)
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index, arg-type]


SEEDED = {
    *("crop0.8", "screenshot", "noise", "social1080", "social1200", "social2048", "recapture", "aigenbench"),
    *("rine_blur", "rine_crop", "rine_jpeg", "rine_noise", "rine_combined"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_only_the_chains_that_draw_depend_on_the_seed(name: str) -> None:
    results = {CHAINS[name](photo(), seed).tobytes() for seed in range(12)}
    assert (len(results) > 1) == (name in SEEDED)


@pytest.mark.parametrize("quality", [95, 85, 75, 50])
def test_jpeg_is_what_pillow_writes_at_420(quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "JPEG", quality=quality)
    header = Image.open(buffer)
    assert header.layer[0][1:3] == (2, 2)  # type: ignore[attr-defined]
    assert np.array_equal(CHAINS[f"jpeg{quality}"](photo(), 0), np.asarray(header))


def test_lower_quality_is_further_from_the_image() -> None:
    for family in (("jpeg95", "jpeg85", "jpeg75", "jpeg50"), ("webp90", "webp80"), ("resize0.9", "resize0.5")):
        errors = [error(CHAINS[name](photo(), 0), photo()) for name in family]
        assert errors == sorted(errors) and errors[0] > 0, family


def test_sizes_by_hand() -> None:
    image = photo(100, 60)
    shapes = {name: CHAINS[name](image, 3).shape[:2] for name in CHAINS}
    assert shapes["upscale2"] == (200, 120)
    assert shapes["crop0.8"] == (80, 48)
    assert shapes["double_jpeg"] == (97, 57)
    for name in ("jpeg50", "webp80", "resize0.5", "sharpen", "blur", "noise", "social1080", "recapture", "rine_crop"):
        assert shapes[name] == (100, 60), name
    assert shrunk(4)(image, 0).shape == (25, 15, 3)
    wide = photo(20, 1500)
    assert CHAINS["social1200"](wide, 0).shape == (16, 1200, 3)
    assert CHAINS["social1080"](wide, 0).shape == (14, 1080, 3)
    assert CHAINS["social2048"](wide, 0).shape == (20, 1500, 3)


def test_a_crop_is_a_part_of_the_image() -> None:
    image = photo(20, 20)
    part = CHAINS["crop0.8"](image, 5)
    places = [(i, j) for i in range(5) for j in range(5) if np.array_equal(image[i : i + 16, j : j + 16], part)]
    assert len(places) == 1


def test_a_screenshot_has_margins_of_one_tone_and_loses_nothing_to_a_codec() -> None:
    for seed in range(8):
        shot = CHAINS["screenshot"](np.full((40, 40, 3), 100, np.uint8), seed)
        values = {tuple(v) for v in shot.reshape(-1, 3).tolist()}
        assert (100, 100, 100) in values and len(values) == 2
        [tone] = values - {(100, 100, 100)}
        assert tone[0] in (255, 240, 32)
        assert np.ptp(shot[0].astype(int)) == 0


def test_noise_has_the_standard_deviation_it_says() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert (CHAINS["noise"](grey, 0).astype(float) - 128).std() == pytest.approx(5, rel=0.03)
    spread = [(CHAINS["rine_noise"](grey, s).astype(float) - 128).var() for s in range(40)]
    assert 5 * 0.95 < min(spread) < 8 and 17 < max(spread) < 20 * 1.05


def test_blur_lowers_and_sharpening_raises_contrast_between_neighbours() -> None:
    def edges(image: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.abs(np.diff(image.astype(float), axis=1)).mean())

    image = photo()
    grain = np.random.default_rng(0).integers(60, 200, (64, 64, 3)).astype(np.uint8)
    assert edges(CHAINS["blur"](grain, 0)) < 0.4 * edges(grain)
    assert edges(CHAINS["sharpen"](image, 0)) > 1.3 * edges(image)


def test_rine_blur_is_one_of_four_kernels() -> None:
    spike = np.zeros((21, 21, 3), np.uint8)
    spike[10, 10] = 255
    widths = {int((CHAINS["rine_blur"](spike, s)[10, :, 0] > 0).sum()) for s in range(40)}
    assert widths <= {3, 5, 7, 9} and len(widths) >= 3


def test_double_jpeg_has_its_second_grid_elsewhere() -> None:
    image = photo(67, 67)
    once = CHAINS["jpeg75"](CHAINS["jpeg85"](image, 0), 0)[3:, 3:]
    assert not np.array_equal(CHAINS["double_jpeg"](image, 0), once)
    assert error(CHAINS["double_jpeg"](image, 0), image[3:, 3:]) > error(CHAINS["jpeg85"](image, 0), image)


def test_aigenbench_shares() -> None:
    """Grey one time in ten, untouched 0.9 * 0.5 * 0.7 * 0.8 * 0.75 * 0.9 = 17 %, resized to 256..512 one in four."""
    image = photo(24, 32)
    found = [CHAINS["aigenbench"](image, seed) for seed in range(600)]
    untouched = sum(np.array_equal(one, image) for one in found) / 600
    large = [one.shape for one in found if one.shape[:2] != (24, 32)]
    assert abs(untouched - 0.17) < 4 * (0.17 * 0.83 / 600) ** 0.5
    assert abs(len(large) / 600 - 0.25) < 4 * (0.25 * 0.75 / 600) ** 0.5
    assert all(256 <= h == w <= 512 for h, w, _ in large)
    assert CHAINS["aigenbench"](photo(1200, 1100), 12).shape[0] <= 1080
    assert AIGENBENCH_SEED == 4321


def test_images_too_small_are_refused_in_words() -> None:
    with pytest.raises(UnreadableSample, match="12 x 7; the chain jpeg50 needs 8"):
        CHAINS["jpeg50"](photo(7, 12), 0)
    with pytest.raises(UnreadableSample, match="double_jpeg needs 11"):
        CHAINS["double_jpeg"](photo(8, 8), 0)
    for name in set(CHAINS) - {"double_jpeg"}:
        assert CHAINS[name](photo(8, 8), 1).size


def test_names() -> None:
    assert set(MILD) <= set(CHAINS)
    assert len({chain.recipe for chain in CHAINS.values()}) == len(CHAINS)
    assert all(chain.name == name and chain.says for name, chain in CHAINS.items())
    with pytest.raises(UnknownName, match="did you mean 'jpeg95'"):
        chain_of("jpg95")
    with pytest.raises(BadSetting, match="1/1"):
        shrunk(1)


def test_a_laundered_set_has_another_digest_and_the_same_one_again() -> None:
    samples, chain = images(3, size=12), CHAINS["rine_jpeg"]
    a, b = (transformed(samples, chain, chain.recipe, seed=s) for s in (0, 1))
    again = transformed(samples, chain, chain.recipe, seed=0)
    assert a.digest == again.digest != b.digest and a.digest != samples.digest
    assert all(np.array_equal(x.load(), y.load()) for x, y in zip(a, again, strict=True))
