"""Judges on statistics and features: grids and lags by hand, co-occurrences counted, probes and reconstructions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d
from sklearn.neighbors import NearestNeighbors

from detectors.clip_probe import ClipProbe, knn_tensors, nearer_fake
from detectors.reconstruction import Reconstruction, error_statistics
from detectors.residual import CUT, Residual, agreement, cooccurrence, moments, square
from detectors.spectrum import LAGS, ROUNDING, Spectrum, autocorrelation, grid_peaks, high_pass
from evalkit.errors import BadRecord, BadSetting, RunFailed, TooFewSamples, UnknownName, UnreadableSample
from evalkit.types import Detector, Reconstructing
from tests.test_detectors import auroc, blurred, listed, p_fake

RNG = np.random.RandomState(0)


def noisy(n, seed, side=24):
    """Smooth colour images with noise of their own."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[:side, :side] / side
    images = []
    for _ in range(n):
        ramp = 128 + 60 * np.sin(2 * np.pi * (x * rng.rand() + y * rng.rand() + rng.rand()))
        images.append((ramp[..., None] + 8 * rng.randn(side, side, 3)).clip(0, 255).astype(np.uint8))
    return images


def doubled(image):
    """Halved and brought back by repeating pixels: what nearest-neighbour upsampling leaves."""
    return np.ascontiguousarray(image[::2, ::2].repeat(2, axis=0).repeat(2, axis=1))


REAL = noisy(160, 0)
SOFT = [blurred(image) for image in noisy(80, 1)]
# Cosine neighbours of untrained features go by content: for them the fakes have eight times the noise.
LOUD = [
    (im + 64 * np.random.RandomState(i).randn(*im.shape)).clip(0, 255).astype(np.uint8) for i, im in enumerate(SOFT)
]
UPSAMPLED = [doubled(image) for image in noisy(80, 2)]


class Smoother:
    """A reconstructor that draws a smoothed image again: smooth images lose little."""

    recipe, trained_on = "smoother", "nothing"

    def __init__(self, shift=0.0):
        self.shift = shift

    def save(self, folder):
        folder.mkdir()
        (folder / "kept").write_text(str(self.shift))

    def reconstruct(self, images):
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        if x.shape[-1] != 24:
            x = torch.nn.functional.interpolate(x, (24, 24))
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.avg_pool2d(padded, 3, 1) + self.shift


def with_smoother(variant=""):
    judge = Reconstruction(variant)
    judge.take_reconstructor(Smoother())
    return judge


MAKE = {
    "spectrum": Spectrum,
    "residual": Residual,
    "probe": lambda: ClipProbe("random_conv"),
    "neighbours": lambda: ClipProbe("knn:random_conv"),
    "reconstruction": with_smoother,
}


def fakes(name):
    return LOUD if name == "neighbours" else SOFT


@pytest.fixture(scope="module")
def fitted():
    judges = {}
    for name, make in MAKE.items():
        judges[name] = make()
        judges[name].fit(listed(REAL[:40]), listed(fakes(name)[:40]), seed=0)
    return judges


# ---------------------------------------------------------------------------------------------- every one of them


@pytest.mark.parametrize("name", MAKE)
def test_fakes_that_it_can_see_score_higher(name, fitted):
    assert isinstance(fitted[name], Detector)
    # Features of an untrained network need more than forty samples a side to do better.
    assert auroc(fitted[name], REAL[40:80], fakes(name)[40:]) > (0.85 if name == "probe" else 0.95)


@pytest.mark.parametrize("name", MAKE)
def test_real_against_real_stays_at_chance(name):
    judge = MAKE[name]()
    judge.fit(listed(REAL[:40]), listed(REAL[40:80]), seed=0)
    # 40 against 40 at chance has a standard error of sqrt(81 / (12 * 40 * 40)) = 0.065.
    assert auroc(judge, REAL[80:120], REAL[120:]) == pytest.approx(0.5, abs=3.3 * 0.065)


@pytest.mark.parametrize("name", MAKE)
def test_rows_do_not_depend_on_the_batch_and_the_same_seed_gives_the_same_judge(name, fitted):
    together = p_fake(fitted[name], REAL[40:60])
    alone = np.concatenate([p_fake(fitted[name], [image]) for image in REAL[40:60]])
    assert together.dtype == np.float32 and together.std() > 0
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    again = MAKE[name]()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again.fit(listed(REAL[:40]), listed(fakes(name)[:40]), seed=0)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    assert again.digest == fitted[name].digest and again.recipe == fitted[name].recipe != again.digest


@pytest.mark.parametrize("name", MAKE)
def test_a_saved_judge_comes_back_the_same_and_a_cut_one_is_refused(name, fitted, tmp_path):
    fitted[name].save(tmp_path)
    back = MAKE[name]()
    back.load(tmp_path)
    assert (back.digest, back.trained_on) == (fitted[name].digest, fitted[name].trained_on)
    assert np.array_equal(p_fake(back, REAL[40:50]), p_fake(fitted[name], REAL[40:50]))
    key = min(back._tensors)
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        back._learn({**back._tensors, key: back._tensors[key][..., :1]}, back._facts, "")
    assert back.digest == fitted[name].digest


@pytest.mark.parametrize("name", MAKE)
def test_too_few_samples_and_an_unfitted_judge_say_so(name):
    with pytest.raises(TooFewSamples, match=r"10 fake samples.* has 9"):
        MAKE[name]().fit(listed(REAL[:20]), listed(SOFT[:9]), seed=0)
    with pytest.raises(RunFailed, match="not been fitted"):
        MAKE[name]()(torch.zeros(2, 3, 24, 24))


# ---------------------------------------------------------------------------------------------- spectrum


def test_the_autocorrelation_is_that_of_scipy():
    residual = RNG.randn(20, 23) * 4
    size = residual.shape
    full = correlate2d(residual, residual, mode="full")
    power = (residual**2).mean() + ROUNDING
    for found, (down, across) in zip(autocorrelation(residual), LAGS, strict=True):
        pairs = (size[0] - down) * (size[1] - across)
        assert found == pytest.approx(full[size[0] - 1 + down, size[1] - 1 + across] / pairs / power)


def test_lags_and_periods_that_do_not_fit_read_zero():
    found = dict(zip(LAGS, autocorrelation(RNG.randn(4, 9)), strict=True))
    assert [lag for lag, value in found.items() if value == 0] == [(4, 0), (8, 0)]
    assert (grid_peaks(RNG.randn(4, 5) * 9) != 0).tolist() == [True, False, False]
    assert (grid_peaks(RNG.randn(9, 30) * 9) != 0).tolist() == [True, True, False]
    assert not autocorrelation(np.zeros((16, 16))).any() and not grid_peaks(np.zeros((16, 16))).any()


@pytest.mark.parametrize(("period", "column"), [(2, 0), (4, 1), (8, 2)])
def test_a_grid_peaks_at_its_own_period_and_only_there(period, column):
    noise = RNG.randn(64, 64)
    combed = noise.copy()
    # One wave of this period across: no harmonics, so nothing at the other periods.
    combed += 5 * np.cos(2 * np.pi * np.arange(64) / period)
    rise = grid_peaks(combed) - grid_peaks(noise)
    assert rise[column] > 2 and np.abs(np.delete(rise, column)).max() < 0.5


def test_high_pass_is_a_convolution_and_upsampling_shows_in_both_readings():
    grey = RNG.randn(12, 9) * 20
    kernel = -np.ones((3, 3)) / 9
    kernel[1, 1] += 1
    np.testing.assert_allclose(high_pass(grey)[1:-1, 1:-1], convolve2d(grey, kernel, mode="valid"), atol=1e-12)
    sharp, double = (high_pass(im[..., 0].astype(float)) for im in (REAL[0], doubled(REAL[0])))
    assert autocorrelation(double)[0] > autocorrelation(sharp)[0] + 0.2
    judge = Spectrum()
    judge.fit(listed(REAL[:40]), listed(UPSAMPLED[:40]), seed=0)
    assert auroc(judge, REAL[40:80], UPSAMPLED[40:]) > 0.95


# ---------------------------------------------------------------------------------------------- residual


def test_cooccurrences_are_counted_by_hand():
    # Steps of 2: levels 0 1 -1 2 (5 is cut off at 2), pairs (0, 1) (1, -1) (-1, 2).
    found = cooccurrence(np.array([[0.4, 2.0, -2.2, 9.0]]), 2.0)
    assert found.sum() == 3 and (found > 0).sum() == 3 and len(found) == 9
    # (0, 1), (1, 0), (0, -1) and (-1, 0) are one cell; so are (1, -1) and (-1, 1).
    same = [cooccurrence(np.array([pair], float), 1.0) for pair in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    assert all(np.array_equal(same[0], other) for other in same[1:])
    assert not np.array_equal(same[0], cooccurrence(np.array([[1.0, -1.0]]), 1.0))


def test_cooccurrences_do_not_change_when_an_image_is_turned_round_or_inverted():
    residual = RNG.randn(30, 40) * 3
    counts = cooccurrence(residual, 1.5)
    assert counts.sum() == 30 * 39 and (2 * CUT + 1) ** 2 == 25
    for other in (residual[:, ::-1], -residual, residual[::-1]):
        assert np.array_equal(counts, cooccurrence(other, 1.5))


def test_moments_and_filters_of_known_noise():
    log_deviation, log_kurtosis, skewness, spread = moments(RNG.randn(600, 600) * 5)
    assert log_deviation == pytest.approx(np.log(5), abs=0.01) and log_kurtosis == pytest.approx(np.log(3), abs=0.03)
    assert skewness == pytest.approx(0, abs=0.02) and spread == pytest.approx(np.log(2 / np.pi) / 2, abs=0.01)
    assert moments(RNG.laplace(size=(300, 300)) * 9)[1] > np.log(5)
    y, x = np.mgrid[:9, :9].astype(float)
    # The square filter foretells planes exactly.
    assert not square(3 * x - 2 * y + 7)[0].any()
    shared = RNG.randn(1, 50, 50) * 20
    assert agreement(np.concatenate([shared] * 3)) == pytest.approx(1, abs=0.01)
    assert np.abs(agreement(RNG.randn(3, 90, 90) * 20)).max() < 0.05


@pytest.mark.parametrize("shape", [(8, 8), (9, 30), (1100, 8)])
def test_residual_reads_any_size_from_eight_and_constant_images(shape, fitted):
    for image in (RNG.randint(0, 256, (*shape, 3)).astype(np.uint8), np.full((*shape, 3), 7, np.uint8)):
        row = fitted["residual"].prepare(image)
        assert row.shape == (Residual.columns,) and torch.isfinite(row).all()
    with pytest.raises(UnreadableSample, match="30 x 7"):
        fitted["residual"].prepare(np.zeros((7, 30, 3), np.uint8))


def test_colour_noise_that_is_one_in_all_channels_gives_itself_away():
    def grey_noise(seed):
        return [np.repeat(im[..., :1], 3, axis=2) for im in noisy(60, seed)]

    judge = Residual()
    judge.fit(listed(REAL[:30]), listed(grey_noise(5)[:30]), seed=0)
    assert auroc(judge, REAL[30:60], grey_noise(5)[30:]) > 0.95


# ---------------------------------------------------------------------------------------------- probe


def test_neighbours_are_those_of_scikit_learn():
    rows = [torch.nn.functional.normalize(torch.from_numpy(RNG.randn(n, 6)), dim=1) for n in (30, 40, 3)]
    asked = rows[0][:5]
    expected = np.zeros(5)
    for bank, sign in ((rows[1], -1), (rows[2], 1)):
        near = NearestNeighbors(n_neighbors=min(5, len(bank)), metric="cosine").fit(bank.numpy())
        expected += sign * (1 - near.kneighbors(asked.numpy())[0].mean(1))
    np.testing.assert_allclose(nearer_fake(asked, rows[1], rows[2]).numpy(), expected, atol=1e-9)


def test_the_bank_is_capped_by_the_seed_and_its_calibration_is_not_fooled_by_itself(monkeypatch):
    rows = torch.nn.functional.normalize(torch.randn(400, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    is_fake = np.repeat([0, 1], [300, 100])
    # Asked of a bank with itself in it every sample would be known, and these rows know nothing.
    assert abs(float(knn_tensors(rows, is_fake, 0)["calibration"][0])) < 5
    monkeypatch.setattr("detectors.clip_probe.MOST", 50)
    banks = [knn_tensors(rows, is_fake, seed) for seed in (0, 0, 1)]
    assert banks[0]["real_bank"].shape == banks[0]["fake_bank"].shape == (50, 8)
    assert torch.equal(banks[0]["real_bank"], banks[1]["real_bank"])
    assert not torch.equal(banks[0]["real_bank"], banks[2]["real_bank"])


def test_the_name_says_probe_and_network_and_unknown_ones_are_refused():
    names = {"": "clip_probe", "knn": "clip_probe:knn", "knn:random_conv": "clip_probe:knn:random_conv"}
    made = {variant: ClipProbe(variant) for variant in (*names, "random_conv", "pixels")}
    assert all(made[variant].name == name for variant, name in names.items())
    assert len({judge.recipe for judge in made.values()}) == len(made)
    with pytest.raises(UnknownName, match="random_con"):
        ClipProbe("random_con")
    with pytest.raises(BadSetting, match="reads texts"):
        ClipProbe("knn:char_ngrams")
    with pytest.raises(BadSetting, match="no variants"):
        ClipProbe("random_conv:big")


def test_without_its_weights_the_default_says_where_to_get_them(monkeypatch, tmp_path):
    for name in ("EVALKIT_CACHE", "HOME", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    monkeypatch.delenv("EVALKIT_WEIGHTS", raising=False)
    with pytest.raises(RunFailed, match=r"ViT-L-14\.pt") as caught:
        ClipProbe().fit(listed(REAL[:20]), listed(SOFT[:20]), seed=0)
    assert "\n" not in str(caught.value)


def test_a_probe_on_other_weights_is_refused(fitted, tmp_path):
    judge = ClipProbe("random_conv")
    judge._learn(dict(fitted["probe"]._tensors), {"seed": 0, "backbone": "sha256:other"}, "")
    with pytest.raises(BadRecord, match="other weights"):
        judge.prepare(REAL[0])


# ---------------------------------------------------------------------------------------------- reconstruction


def test_error_statistics_of_a_known_error():
    images = torch.zeros(2, 3, 8, 8)
    images[1, :, :, ::2] = 20
    again = images + 10
    rows = error_statistics(images, again)
    rounding = 1 / 12**0.5
    # A constant error of 10: every size of it is 10, at every scale, and its gradient is nothing.
    assert rows[0, :8].exp().sub(rounding).tolist() == pytest.approx([10] * 8, abs=1e-4)
    assert float(rows[0, 8].exp() - rounding) == pytest.approx(0, abs=1e-5)
    assert rows[:, 15].tolist() == pytest.approx([-10, -10])
    # Stripes of 20 and 0: all differences across are 20, none down; the ratio is against their mean of 10.
    assert float(rows[1, 9].exp() - rounding) == pytest.approx(10, abs=1e-4)
    assert float(rows[1, 11]) == pytest.approx(0, abs=1e-5) and float(rows[0, 11]) > 3


def test_a_reconstructor_is_asked_for_by_name_and_must_be_the_same_one(fitted, tmp_path):
    names = [Reconstruction(variant).reconstructor_name for variant in ("", "diffusion", "latent_diffusion")]
    assert names == ["vae", "diffusion", "latent_diffusion"] and isinstance(Reconstruction(), Reconstructing)
    assert (
        Reconstruction("vae").name == "reconstruction" and Reconstruction("diffusion").recipe != Reconstruction().recipe
    )
    with pytest.raises(BadSetting, match="expected one of vae"):
        Reconstruction("gan")
    with pytest.raises(RunFailed, match="take_reconstructor"):
        Reconstruction().fit(listed(REAL[:20]), listed(SOFT[:20]), seed=0)
    judge = fitted["reconstruction"]
    judge.save(tmp_path)
    assert (tmp_path / "reconstructor" / "kept").read_text() == "0.0" and judge.recipe != Reconstruction().recipe
    back = Reconstruction()
    with pytest.raises(RunFailed, match="take_reconstructor"):
        back.load(tmp_path)
    back.take_reconstructor(Smoother(3.0))
    with pytest.raises(RunFailed, match="another 'vae'"):
        back.load(tmp_path)
    with pytest.raises(RunFailed, match="another 'vae'"):
        judge.take_reconstructor(Smoother(3.0))
    back.take_reconstructor(Smoother())
    back.load(tmp_path)
    assert np.array_equal(p_fake(back, REAL[:5]), p_fake(judge, REAL[:5])) and "trained on nothing" in back.trained_on


def test_images_of_other_sizes_are_averaged_to_the_generators(fitted):
    judge, image = fitted["reconstruction"], REAL[0]
    assert np.array_equal(judge.prepare(image).permute(1, 2, 0).numpy(), image)
    assert torch.equal(judge.prepare(image.repeat(2, axis=0).repeat(3, axis=1)), judge.prepare(image))
    with pytest.raises(UnreadableSample, match="24 x 7"):
        judge.prepare(image[:7])
