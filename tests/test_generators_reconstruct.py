"""Generators that draw an image again: nothing drawn by chance, any size, better on what they know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from evalkit.errors import BadSetting
from evalkit.extractors.area import area_average
from evalkit.types import Reconstructor
from generators._area import area_resized
from generators.diffusion import plan, schedule, target, times

from .quick import data_for, fitted, image_set, make, make_from

FAMILIES = ("vae", "beta_vae", "diffusion", "latent_diffusion")
RNG = np.random.RandomState(0)


def digits(n: int) -> np.ndarray:
    return np.stack([s.load() for s in list(data_for("vae"))[:n]])


def as_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_image_gives_the_same_result_whatever_stands_beside_it(name: str) -> None:
    generator, images = fitted(name), digits(12)
    assert isinstance(generator, Reconstructor)
    before = torch.get_rng_state()
    made = generator.reconstruct(images)
    assert made.shape == (12, 3, 8, 8) and made.dtype == torch.float32 and not made.requires_grad
    assert float(made.min()) >= 0 and float(made.max()) <= 255 and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made, generator.reconstruct(images))
    # Turned round: no image is read by its position.
    torch.testing.assert_close(made, generator.reconstruct(images[::-1].copy()).flip(0), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(made[:1], generator.reconstruct(images[:1]), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", FAMILIES)
def test_images_of_another_size_are_averaged_to_the_one_it_learned(name: str) -> None:
    generator, images = fitted(name), digits(3)
    larger = images.repeat(3, axis=1).repeat(2, axis=2)
    torch.testing.assert_close(generator.reconstruct(larger), generator.reconstruct(images), rtol=1e-3, atol=1e-2)
    assert generator.reconstruct(RNG.randint(0, 256, (2, 5, 11, 3)).astype(np.uint8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("name", FAMILIES)
def test_colour_stays_colour_and_an_unfitted_generator_says_so(name: str) -> None:
    with pytest.raises(BadSetting, match="has learned nothing yet"):
        make(name).reconstruct(digits(1))
    generator = make(name)
    generator.fit(image_set(RNG.randint(0, 256, (12, 9, 11, 3)).astype(np.uint8)), seed=0)
    made = generator.reconstruct(RNG.randint(0, 256, (2, 9, 11, 3)).astype(np.uint8))
    assert made.shape == (2, 3, 9, 11) and not torch.allclose(made[:, 0], made[:, 2])


@pytest.mark.parametrize("shape", [(8, 8), (16, 24), (11, 5), (3, 9)])
def test_area_averaging_is_that_of_the_extractors_and_keeps_the_mean(shape: tuple[int, int]) -> None:
    images = RNG.randint(0, 256, (2, *shape, 3)).astype(np.uint8)
    found = area_resized(images, 8, 8)
    expected = np.stack([area_average(image, 8) for image in images]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)
    oblong = area_resized(images, 4, 6)
    np.testing.assert_allclose(oblong.mean((2, 3)).numpy(), images.mean((1, 2)), rtol=1e-5)
    assert torch.equal(area_resized(images, *shape), as_tensor(images))


def test_what_a_vae_learned_is_drawn_better_than_noise() -> None:
    generator = make("vae", steps=250)
    generator.fit(data_for("vae"), seed=0)
    known, noise = digits(100), RNG.permutation(digits(100).ravel()).reshape(100, 8, 8, 3)
    errors = [float((generator.reconstruct(x) - as_tensor(x)).abs().mean()) for x in (known, noise)]
    assert errors[0] < 0.6 * errors[1]
    # The class of least loss is at least as good as the one that the position would say.
    told = generator.reconstruct(known, torch.arange(100) % 10)
    assert errors[0] < float((told - as_tensor(known)).abs().mean())


# ---------------------------------------------------------------------------------------------- DDIM up and down


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x"])
def test_a_step_up_keeps_the_image_and_the_noise_and_only_mixes_them_anew(prediction: str, kind: str) -> None:
    abar = schedule(kind).tolist()
    path = [1, *reversed(times(6)[:-1])]
    x0, epsilon = torch.rand(2, 40, dtype=torch.float64) - 0.5
    for t, later, step in zip(path, path[1:], plan(path, abar, prediction, 0.0), strict=False):
        a, b = torch.tensor([abar[t], abar[later]], dtype=torch.float64)
        x = a.sqrt() * x0 + (1 - a).sqrt() * epsilon
        up = step.r * (step.p * x + step.q * target(prediction, x0, epsilon, a)) + step.s * x
        torch.testing.assert_close(up, b.sqrt() * x0 + (1 - b).sqrt() * epsilon, rtol=1e-6, atol=1e-6)
        assert step.sigma == 0


class Gaussian(nn.Module):
    """What a network would say whose data are N(0, 0.25): its way up and down is known."""

    def __init__(self) -> None:
        super().__init__()
        self.abar = schedule()

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert bool((labels == 10).all()), "no class may be told"
        a = self.abar[t].view(-1, 1, 1, 1)
        return ((1 - a).sqrt() / (0.25 * a + 1 - a) * x).float()


def test_where_the_network_is_right_an_image_comes_back_nearer_with_more_steps(monkeypatch) -> None:
    generator = make_from("diffusion")
    generator._net, generator._look, generator._trained_on = Gaussian(), fitted("diffusion")._look, "x"
    image = np.repeat(RNG.normal(128, 30, (4, 8, 8, 1)).clip(20, 235).astype(np.uint8), 3, axis=3)
    errors = []
    for steps in (5, 20, 200):
        monkeypatch.setattr("generators.diffusion.RETURN_STEPS", steps)
        errors.append(float((generator.reconstruct(image) - as_tensor(image)).abs().mean()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 2
    # Guidance and noise are those of drawing, not of this.
    for control, value in (("guidance", 5.0), ("eta", 1.0), ("steps", 3)):
        generator._settings[control] = value
    assert float((generator.reconstruct(image) - as_tensor(image)).abs().mean()) == pytest.approx(errors[2])
