"""Generators of images: levels and colour kept, classes learnt, diffusion by its equations, the floor uniform."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from evalkit.errors import BadSource
from evalkit.samples._set import ListedSet
from generators._images import study
from generators.diffusion import Diffusion, schedule, times

from .data import shared
from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, pixels_of


def test_samples_keep_grey_levels_and_colour() -> None:
    levels = np.unique(np.stack([s.load() for s in data_for("gan")]))
    for name in ("gan", "vae", "diffusion", "noise"):
        pixels = pixels_of(fitted(name), 64)
        assert set(np.unique(pixels)) <= set(levels), name
        assert (pixels == pixels[..., :1]).all(), name


def test_colour_images_of_any_small_shape_are_learnt_and_drawn_in_colour() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((5, 7), (18, 21), (40, 33)):
        data = image_set(rng.integers(0, 256, (12, height, width, 3), dtype=np.uint8))
        for name in ("gan", "vae", "diffusion", "noise"):
            generator = make(name, **({} if name == "noise" else {"width": 64}))
            generator._settings.update({k: 2 for k in ("steps", "training_steps") if k in generator._settings})
            generator.fit(data, seed=0)
            pixels = pixels_of(generator, 3)
            assert pixels.shape == (3, height, width, 3)
            assert (pixels != pixels[..., :1]).any(), name
            assert next(iter(generator.sample(3, 0))).groups is None


def test_render_snaps_to_the_nearest_level_and_clears_haze() -> None:
    look, _ = study(np.repeat(np.array([0, 0, 100, 200], np.uint8).reshape(4, 1, 1, 1), 3, 3), image_set_of_four(), "x")
    values = torch.tensor([-1.0, 0.01, 49 / 255, 51 / 255, 149 / 255, 151 / 255, 2.0]).view(7, 1, 1, 1)
    assert look.render(values)[:, 0, 0, 0].tolist() == [0, 0, 0, 100, 100, 200, 200]
    many = np.repeat(np.r_[np.zeros(40), np.arange(100)].astype(np.uint8).reshape(-1, 1, 1, 1), 3, 3)
    look, _ = study(many, image_set(many), "x")
    assert look.levels == ()
    assert look.render(torch.tensor([15 / 255, 17 / 255]).view(2, 1, 1, 1))[:, 0, 0, 2].tolist() == [0, 17]


def image_set_of_four() -> ListedSet:
    return image_set(np.zeros((4, 1, 1, 3), np.uint8))


@pytest.mark.parametrize("name", ["gan", "vae", "diffusion"])
def test_groups_cycle_through_the_classes(name: str) -> None:
    _, groups = drawn(fitted(name), 130)
    assert groups == [str(i % 10) for i in range(130)]


def test_without_labels_or_with_too_many_training_is_unconditional() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 4, 4, 3), dtype=np.uint8)
    for groups, expected in ((None, None), ([str(i) for i in range(70)], None), (["b", "a"] * 35, ["a", "b", "a"])):
        generator = make("vae")
        generator.fit(image_set(pixels, groups), seed=0)
        assert next(iter(generator.sample(3, 0))).groups == expected


@pytest.mark.parametrize("name", ["gan", "vae", "diffusion"])
def test_conditional_training_learns_which_class_is_which(name: str) -> None:
    """Class "dark" is near black, class "light" near white: a hundred steps must tell them apart."""
    rng = np.random.default_rng(0)
    base = np.repeat([20, 230], 40)[:, None, None, None] + rng.integers(-15, 16, (80, 4, 4, 1))
    data = image_set(np.repeat(base, 3, 3).astype(np.uint8), ["dark"] * 40 + ["light"] * 40)
    generator = make(name, **{"training_steps" if name == "diffusion" else "steps": 300, "width": 64})
    generator.fit(data, seed=0)
    pixels = pixels_of(generator, 40).astype(float)
    assert pixels[0::2].mean() < 70 < 180 < pixels[1::2].mean()


def test_ddim_at_eta_zero_depends_on_the_start_alone_and_ddpm_does_not() -> None:
    for eta, same in ((0.0, True), (1.0, False)):
        generator = make_from("diffusion", eta=eta)
        start = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            runs = [sampled_from(generator, start, seed) for seed in (1, 2)]
        assert torch.equal(*runs) is same


def sampled_from(generator: Diffusion, start: torch.Tensor, seed: int) -> torch.Tensor:
    """DDIM's path from a fixed x_T with all later noise from `seed`."""
    real, first, rng = torch.randn, [start], torch.Generator().manual_seed(seed)

    def randn(*size, generator=None):
        return first.pop() if first else real(*size, generator=rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", randn)
        return generator._generate(torch.zeros(4, dtype=torch.long), rng)


def test_diffusion_schedule_is_ddpms() -> None:
    abar = schedule()
    assert abar[0] == 1
    assert abar[1] == pytest.approx(1 - 1e-4)
    assert abar[1000] == pytest.approx(4.0e-5, rel=0.02)
    assert times(4) == [1000, 750, 500, 250, 0]
    assert times(1000) == list(range(1000, -1, -1))


def test_a_perfect_noise_predictor_is_inverted_exactly() -> None:
    """When epsilon(x_t) is exact for one known image, DDIM must return that image whatever the number of steps."""
    truth = torch.linspace(-0.9, 0.9, 64).view(1, 1, 8, 8)
    abar = schedule()

    class Exact(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            a = abar[t].view(-1, 1, 1, 1)
            return ((x - a.sqrt() * truth) / (1 - a).sqrt()).float()

    for steps, eta in ((1, 0.0), (7, 0.0), (50, 1.0)):
        generator = make_from("diffusion", steps=steps, eta=eta)
        generator._net = Exact()
        x = generator._generate(torch.zeros(2, dtype=torch.long), torch.Generator().manual_seed(0))
        assert torch.allclose(x * 2 - 1, truth.expand(2, -1, -1, -1), atol=1e-3)


def test_twice_the_diffusion_steps_are_twice_the_network_calls() -> None:
    calls: Counter[int] = Counter()
    for steps in (10, 20):
        generator = make_from("diffusion", steps=steps)
        generator._net.register_forward_hook(lambda *_, steps=steps: calls.update([steps]))
        list(generator.sample(64, 0))
    assert calls == {10: 10, 20: 20}


@pytest.mark.parametrize("name", ["gan", "vae", "diffusion"])
def test_handwritten_digits_of_28_pixels_train(name: str) -> None:
    import gzip

    raw = gzip.decompress(shared("data", "image", "mnist_t10k", "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)[:200].repeat(3, 3)
    generator = make(name, **{"training_steps" if name == "diffusion" else "steps": 5})
    generator.fit(image_set(images), seed=0)
    pixels = pixels_of(generator, 5)
    assert pixels.shape == (5, 28, 28, 3)
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("name", ["gan", "vae", "diffusion"])
def test_colour_photographs_of_32_pixels_train(name: str) -> None:
    from PIL import Image

    files = sorted(shared("data", "image", "cifar10_subset").rglob("*.jpg"))[::10][:60]
    pixels = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])
    generator = make(name, **{"training_steps" if name == "diffusion" else "steps": 5})
    generator.fit(image_set(pixels, [f.parent.name for f in files]), seed=0)
    assert pixels_of(generator, 5).shape == (5, *pixels.shape[1:])


def test_noise_is_uniform_over_the_levels() -> None:
    pixels = pixels_of(fitted("noise"), 512)[..., 0]
    values, counts = np.unique(pixels, return_counts=True)
    assert len(values) == 17
    # Chi-square over 16 degrees of freedom: above 39 once in a thousand.
    expected = pixels.size / 17
    assert ((counts - expected) ** 2 / expected).sum() < 39


def test_images_of_two_sizes_or_too_large_are_refused() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(8)] + [np.zeros((8, 9, 3), np.uint8)]
    for name in ("gan", "vae", "diffusion", "noise", "resample"):
        with pytest.raises(BadSource) as error:
            make(name).fit(image_set(images), seed=0)
        assert "9x8" in one_line(error) and "8.png" in str(error.value)
    large = image_set(rng.integers(0, 256, (8, 65, 8, 3), dtype=np.uint8))
    for name in ("gan", "vae", "diffusion"):
        with pytest.raises(BadSource, match="up to 64x64"):
            make(name).fit(large, seed=0)
    make("noise").fit(large, seed=0)
