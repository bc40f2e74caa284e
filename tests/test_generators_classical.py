"""Classical baselines of images: their covariances, conditionals and mixtures against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as Sklearn

from evalkit.errors import BadSetting, BadSource, ModalityMismatch
from evalkit.types import Given, Latent
from generators._images import Look
from generators.gaussian_mixture import em, expected, maximised, spread
from generators.gaussian_process import KERNELS, Field, axis
from generators.gaussian_process import fitted as maximised_theta
from generators.pca import closed_form
from tests.quick import data_for, fitted, image_set, make, make_from, pixels_of, text_set

CLASSICAL = ("gaussian_process", "gaussian_mixture", "pca")


def colour_set(n: int = 20, height: int = 18, width: int = 17):
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 200, width)[None, None, :, None] * rng.random((n, 1, 1, 3))
    return image_set((ramp + 50 * rng.random((n, height, width, 3))).astype(np.uint8), ["a", "b"] * (n // 2))


@pytest.mark.parametrize("name", CLASSICAL)
def test_larger_colour_images_are_learned_and_drawn(name: str) -> None:
    data = colour_set()
    generator = make(name)
    generator.fit(data, seed=0)
    made, real = pixels_of(generator, 64), np.stack([s.load() for s in data])
    assert made.shape == (64, 18, 17, 3)
    # A process as rough in the dark as in the light is clipped at black, which makes it brighter.
    assert abs(made.mean() - real.mean()) < (20 if name == "gaussian_process" else 6)
    assert made[:, :, -1].mean() > made[:, :, 0].mean() + 30


@pytest.mark.parametrize("name", CLASSICAL)
def test_samples_have_the_means_of_their_classes(name: str) -> None:
    made, data = pixels_of(fitted(name), 600)[..., 0].astype(float), data_for(name)
    for y in range(10):
        real = np.stack([s.load()[..., 0] for s in data if s.group == str(y)]).mean(0)
        assert np.corrcoef(made[y::10].mean(0).ravel(), real.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_class_of_one_image_and_one_of_identical_images_are_learned(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 4, 4, 3)).astype(np.uint8)
    pixels[6:11] = pixels[5]
    generator = make(name)
    generator.fit(image_set(pixels, ["many"] * 5 + ["same"] * 6 + ["one"]), seed=0)
    made = pixels_of(generator, 30).astype(float)
    assert np.abs(made[1::3] - pixels[11]).mean() < 10
    assert np.abs(made[2::3] - pixels[5]).mean() < 10


# ---------------------------------------------------------------------------------------------- probabilistic PCA


def test_ppca_is_the_closed_form_and_scikit_learns() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6)
    W, mu, sigma = closed_form(x, 2)
    C = (W @ W.T + sigma**2 * torch.eye(6)).numpy()
    # scikit-learn divides by N - 1 where the maximum likelihood divides by N.
    reference = PCA(2).fit(x.numpy()).get_covariance() * 39 / 40
    np.testing.assert_allclose(C, reference, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mu, x.mean(0), atol=1e-6)
    S = np.cov(x.numpy().T, bias=True)
    assert float(sigma) ** 2 == pytest.approx(np.linalg.eigvalsh(S)[:4].mean(), rel=1e-4)
    # All but one direction kept: the sample covariance itself.
    W, _, sigma = closed_form(x, 5)
    np.testing.assert_allclose((W @ W.T + sigma**2 * torch.eye(6)).numpy(), S, rtol=1e-3, atol=1e-4)


def test_ppca_decodes_a_code_to_its_mean_and_more_components_lie_nearer() -> None:
    generator = fitted("pca")
    assert isinstance(generator, Latent) and generator.latent_size == 16
    zero = generator.decode(torch.zeros(10, 16))
    real = np.stack([s.load()[..., 0] for s in data_for("pca") if s.group == "3"]).mean(0)
    np.testing.assert_allclose(zero[3, 0].numpy(), real, atol=0.01)
    few = make("pca", components=2)
    few.fit(data_for("pca"), seed=0)
    assert bool((few._net.sigma > generator._net.sigma).all())


# ---------------------------------------------------------------------------------------------- mixtures


def test_one_component_is_the_sample_mean_and_covariance() -> None:
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixture = em(x, 1, 0.0, torch.Generator())
    np.testing.assert_allclose(mixture.mu[0], x.mean(0), atol=1e-10)
    np.testing.assert_allclose(mixture.Sigma[0], np.cov(x.numpy().T, bias=True), atol=1e-5)
    shrunk = em(x, 1, 0.5, torch.Generator()).Sigma[0]
    np.testing.assert_allclose(shrunk.trace(), np.trace(np.cov(x.numpy().T, bias=True)), rtol=1e-5)
    assert shrunk[0, 1] == pytest.approx(0.5 * np.cov(x.numpy().T, bias=True)[0, 1], abs=1e-9)


def test_em_agrees_with_scikit_learn_from_the_same_start_and_never_falls() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=rng, dtype=torch.float64)
    x[:70] += torch.tensor([4.0, 1.0])
    mixture = maximised(x, spread(x, 2, rng), 0.0)
    reference = Sklearn(
        2,
        weights_init=mixture.pi.numpy(),
        means_init=mixture.mu.numpy(),
        precisions_init=np.linalg.inv(mixture.Sigma.numpy()),
        tol=1e-9,
        max_iter=400,
    ).fit(x.numpy())
    rising = []
    for _ in range(200):
        r, now = expected(x, mixture)
        rising.append(now)
        mixture = maximised(x, r, 0.0)
    assert np.diff(rising).min() > -1e-5 and rising[-1] > rising[0]
    assert rising[-1] == pytest.approx(reference.score(x.numpy()), abs=1e-4)
    np.testing.assert_allclose(mixture.mu, reference.means_, atol=1e-2)


def test_two_components_find_two_kinds_of_one_class() -> None:
    pixels = np.random.default_rng(0).integers(0, 40, (60, 3, 3, 3)).astype(np.uint8)
    pixels[::3, 0] = 220
    one, two = make("gaussian_mixture"), make("gaussian_mixture", components=2)
    for generator in (one, two):
        generator.fit(image_set(pixels), seed=0)
    np.testing.assert_allclose(sorted(two._net.pi[0].tolist()), [1 / 3, 2 / 3], atol=1e-5)

    def between(generator) -> float:
        row = pixels_of(generator, 300)[:, 0].mean((1, 2))
        return float(((row > 60) & (row < 180)).mean())

    assert between(two) < 0.01 < 0.05 < between(one)


# ---------------------------------------------------------------------------------------------- Gaussian processes


def dense(net: Field, y: int) -> np.ndarray:
    """The covariance of all pixels of a class, [C H W, C H W], built entry by entry."""
    c, h, w = net.mu.shape[1:]
    length, variance, noise, shape = net.theta[y].exp()
    at = [(k, i, j) for k in range(c) for i in range(h) for j in range(w)]
    kernel = KERNELS[net.kernel]
    out = np.zeros((len(at), len(at)))
    for m, (k, i, j) in enumerate(at):
        for n, (k2, i2, j2) in enumerate(at):
            near = [kernel(torch.tensor(float(abs(d))), length, shape) for d in (i - i2, j - j2)]
            out[m, n] = float(variance * net.B[y, k, k2] * near[0] * near[1] + noise * (m == n))
    return out


def small_field(kernel: str, channels: int = 2) -> Field:
    rng = np.random.default_rng(2)
    net = Field(Look(3, 2, channels, (), 0, ("a", "b")), kernel)
    for y in range(2):
        A = rng.normal(size=(channels, channels))
        net.mu[y] = torch.from_numpy(rng.random((channels, 3, 2)))
        net.B[y] = torch.from_numpy(A @ A.T + 0.1 * np.eye(channels))
        net.theta[y] = torch.log(torch.tensor([1.3 + y, 0.5, 0.02, 2.7], dtype=torch.float64))
    return net


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_likelihood_conditional_mean_and_prior_are_those_of_the_dense_gaussian(kernel: str) -> None:
    from scipy.stats import multivariate_normal

    net, rows, columns = small_field(kernel), slice(0, 2), slice(None)
    at = np.arange(12).reshape(2, 3, 2)
    o, u = at[:, :2].ravel(), at[:, 2:].ravel()
    seen = torch.from_numpy(np.random.default_rng(0).random((5, 2, 2, 2)))
    log_p = net.log_seen(seen, rows, columns)
    labels = torch.tensor([0, 1, 0, 1, 1])
    mean = net.corrected(net.mu[labels], seen, labels, rows, columns)
    assert torch.equal(mean[:, :, :2], seen)
    for b, y in enumerate(labels.tolist()):
        K, mu, x_o = dense(net, y), net.mu[y].numpy().ravel(), seen[b].numpy().ravel()
        expected_mean = mu[u] + K[np.ix_(u, o)] @ np.linalg.solve(K[np.ix_(o, o)], x_o - mu[o])
        np.testing.assert_allclose(mean[b, :, 2:].numpy().ravel(), expected_mean, atol=1e-8)
        exact = multivariate_normal.logpdf(x_o, mu[o], K[np.ix_(o, o)])
        assert float(log_p[b, y]) == pytest.approx(exact, abs=1e-6)
    many = net.prior(torch.zeros(20_000, dtype=torch.long), torch.Generator().manual_seed(0)).flatten(1).numpy()
    np.testing.assert_allclose(np.cov(many.T), dense(net, 0), atol=0.06 * dense(net, 0).max())


def test_three_points_by_hand() -> None:
    """Pixels 0, 1, 2 in a row of length one: the third given the first two, with numpy."""
    net = Field(Look(1, 3, 1, (), 0, ()), "rbf")
    net.B[0], net.theta[0] = 1.0, torch.log(torch.tensor([1.0, 1.0, 0.1, 1.0], dtype=torch.float64))
    k = np.exp(-0.5 * np.array([0, 1, 4.0]))
    weights = np.array([k[2], k[1]]) @ np.linalg.inv([[k[0] + 0.1, k[1]], [k[1], k[0] + 0.1]])
    seen = torch.tensor([[[[0.3, -0.8]]]], dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.long)
    found = net.corrected(net.mu[y], seen, y, slice(None), slice(0, 2))
    assert float(found[0, 0, 0, 2]) == pytest.approx(float(weights @ [0.3, -0.8]), abs=1e-10)
    drawn = net.corrected(
        net.prior(torch.zeros(20_000, dtype=torch.long), torch.Generator().manual_seed(0)),
        seen.expand(20_000, -1, -1, -1),
        torch.zeros(20_000, dtype=torch.long),
        slice(None),
        slice(0, 2),
    )[:, 0, 0, 2]
    variance = 1.1 - weights @ [k[2], k[1]]
    assert float(drawn.mean()) == pytest.approx(float(weights @ [0.3, -0.8]), abs=0.03)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.05)


def test_marginal_likelihood_finds_the_hyperparameters_it_was_drawn_with() -> None:
    net = Field(Look(8, 8, 1, (), 0, ()), "rbf")
    net.B[0], net.theta[0] = 1.0, torch.log(torch.tensor([1.8, 0.6, 0.05, 1.0], dtype=torch.float64))
    x = net.prior(torch.zeros(200, dtype=torch.long), torch.Generator().manual_seed(0))
    found = maximised_theta(x, net.B[0], "rbf").exp()
    np.testing.assert_allclose(found[:3], [1.8, 0.6, 0.05], rtol=0.1)


def test_kernels_are_one_at_distance_zero_and_periodic_repeats() -> None:
    theta = torch.log(torch.tensor([1.0, 1.0, 1.0, 4.0], dtype=torch.float64))
    for kernel in KERNELS:
        row = axis(kernel, 9, theta)[0]
        assert float(row[0]) == 1 and float(row[1]) < 1
        assert (abs(float(row[4]) - 1) < 1e-9) == (kernel == "periodic")


@pytest.mark.parametrize("mask", ["top", "bottom", "left", "right"])
def test_given_pixels_are_kept_and_the_rest_is_nearer_the_truth_than_a_stranger(mask: str) -> None:
    generator = make_from("gaussian_process", mask=mask)
    data = data_for("gaussian_process").samples[:70]
    inputs = image_set(np.stack([s.load() for s in data]))
    assert isinstance(generator, Given) and generator.takes == "image"
    batches = list(generator.sample_given(inputs, 3))
    assert [len(b.items) for b in batches] == [64, 6]
    made, real = np.concatenate([b.items for b in batches]), np.stack([s.load() for s in data])
    half = {"top": np.s_[:, :4], "bottom": np.s_[:, 4:], "left": np.s_[:, :, :4], "right": np.s_[:, :, 4:]}[mask]
    hidden = {"top": np.s_[:, 4:], "bottom": np.s_[:, :4], "left": np.s_[:, :, 4:], "right": np.s_[:, :, :4]}[mask]
    assert (made[half] == real[half]).all()
    assert (made[hidden] != real[hidden]).any()
    error = np.abs(made[hidden].astype(float) - real[hidden]).mean()
    assert error < 0.9 * np.abs(np.roll(made[hidden], 1, 0).astype(float) - real[hidden]).mean()
    again = np.concatenate([b.items for b in generator.sample_given(inputs, 3)])
    other = np.concatenate([b.items for b in generator.sample_given(inputs, 4)])
    assert (again == made).all() and (other != made).any()
    groups = [g for b in batches for g in b.groups]
    assert np.mean([g == s.group for g, s in zip(groups, data, strict=True)]) > 0.5


def test_what_cannot_be_completed_is_refused() -> None:
    generator = fitted("gaussian_process")
    with pytest.raises(BadSetting, match="learned nothing yet"):
        make("gaussian_process").sample_given(colour_set(), 0)
    with pytest.raises(ModalityMismatch, match="completes images"):
        generator.sample_given(text_set(["a b"]), 0)
    with pytest.raises(BadSource, match=r"learned 8x8 images, '0\.png' is 17x18"):
        list(generator.sample_given(colour_set(), 0))
    with pytest.raises(BadSetting, match="expected one of"):
        make("gaussian_process", kernel="linear")
