"""GANs: penalties and styles by hand, truncation, sizes and labels, translations scored against the truth."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalkit.errors import RunFailed
from evalkit.samples._set import ListedSet
from evalkit.types import Latent
from generators._images import Look
from generators._training import LastGood
from generators.dcgan import Dcgan, enlarged
from generators.stylegan import LATENT, ModulatedConv, StyleGan, channels, deviation, doublings, r1
from generators.wgan_gp import gradient_penalty

from .quick import data_for, drawn, fitted, image_set, make, make_from, pixels_of

GANS = ("vanilla_gan", "dcgan", "wgan_gp", "stylegan")
UNCONDITIONAL = ("vanilla_gan", "dcgan")
CONDITIONAL = ("wgan_gp", "stylegan")


def look_of(height: int, width: int, channels: int = 1, classes: tuple[str, ...] = ()) -> Look:
    return Look(height, width, channels, (), 0, classes)


def photographs(n: int, height: int, width: int, groups: list[str] | None = None) -> ListedSet:
    return image_set(np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8), groups)


# ---------------------------------------------------------------------------------------------- what all share


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_a_sample_of_an_unconditional_gan_has_no_label(name: str) -> None:
    assert all(batch.groups is None for batch in fitted(name).sample(70, 0))
    assert {s.group for s in data_for(name)} == {str(i) for i in range(10)}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_sample_of_a_conditional_gan_has_the_classes_in_turn(name: str) -> None:
    assert drawn(fitted(name), 130)[1] == [str(i % 10) for i in range(130)]


@pytest.mark.parametrize("name", GANS)
def test_a_decoded_code_is_the_sample_before_rounding(name: str) -> None:
    generator = fitted(name)
    assert isinstance(generator, Latent)
    z = torch.randn(12, generator.latent_size, generator=torch.Generator().manual_seed(7))
    decoded = generator.decode(z)
    assert decoded.shape == (12, 3, 8, 8) and decoded.dtype == torch.float32
    assert (generator._look.render(decoded[:, :1] / 255) == pixels_of(generator, 12, seed=7)).all()


@pytest.mark.parametrize("name", [*GANS, "cyclegan"])
@pytest.mark.parametrize(("height", "width"), [(5, 7), (18, 21), (33, 20)])
def test_colour_images_of_any_small_shape_are_learnt_and_drawn_in_colour(name: str, height: int, width: int) -> None:
    generator = make(name, steps=2, width=16)
    generator.fit(photographs(12, height, width), seed=0)
    batch = next(iter(generator.sample(3, 0)))
    assert batch.items.shape == (3, height, width, 3) and batch.groups is None
    assert (batch.items != batch.items[..., :1]).any()


@pytest.mark.parametrize("name", [*GANS, "cyclegan"])
def test_one_sample_costs_one_sample(name: str) -> None:
    seen: list[int] = []
    generator = make_from(name)
    for module in generator._net.modules():
        module.register_forward_hook(lambda net, given, out: seen.append(len(out)))
    list(generator.sample(1, 0))
    assert set(seen) == {1}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_training_learns_which_class_is_which(name: str) -> None:
    """Class "dark" is near black, class "light" near white."""
    base = np.repeat([20, 230], 40)[:, None, None, None] + np.random.default_rng(0).integers(-15, 16, (80, 4, 4, 1))
    data = image_set(np.repeat(base, 3, 3).astype(np.uint8), ["dark"] * 40 + ["light"] * 40)
    generator = make(name, steps=120, width=16, learning_rate=4e-3)
    generator.fit(data, seed=0)
    pixels = pixels_of(generator, 40).astype(float)
    assert pixels[0::2].mean() < 80 < 170 < pixels[1::2].mean()


@pytest.mark.parametrize("name", [*GANS, "cyclegan"])
def test_a_diverged_training_leaves_its_last_sound_state(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LastGood, "EVERY", 2)
    generator, updates = make(name, steps=9, width=16), []
    real = torch.optim.Adam.step

    def spoiled(self: torch.optim.Adam, closure: None = None) -> None:
        updates.append(1)
        if len(updates) == 12:
            for group in self.param_groups:
                for p in group["params"]:
                    p.detach().fill_(math.nan)
        real(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", spoiled)
    with pytest.raises(RunFailed, match="at step"):
        generator.fit(data_for(name), seed=0)
    assert generator.trained_on == data_for(name).digest
    assert all(bool(p.isfinite().all()) for p in generator._net.parameters())
    assert len(drawn(generator, 5)[0]) == 5


# ---------------------------------------------------------------------------------------------- penalties by hand


def linear(gradient: torch.Tensor):
    """f(x, y) = <gradient, x>, whose slope is |gradient| everywhere."""
    return lambda x, y: (x * gradient).flatten(1).sum(1)


@pytest.mark.parametrize(("side", "slope"), [(0.6, 1.2), (0.5, 1.0), (0.0, 0.0), (2.0, 4.0)])
def test_penalties_of_a_linear_critic_are_known_by_hand(side: float, slope: float) -> None:
    """Four pixels of weight `side` make a slope of 2 side: (slope - 1)^2 for WGAN-GP, slope^2 / 2 for R1."""
    x, y = torch.randn(5, 1, 2, 2), torch.zeros(5, 1)
    f = linear(torch.full((1, 2, 2), side))
    assert gradient_penalty(f, x, y).item() == pytest.approx((slope - 1) ** 2, abs=1e-5)
    assert r1(f, x, y).item() == pytest.approx(slope**2 / 2, abs=1e-5)


def test_penalties_are_means_over_samples_of_each_samples_own_gradient() -> None:
    """f(x) = |x|^2 / 2 has the gradient x: norms 3, 4 and 0."""
    x = torch.zeros(3, 1, 2, 2)
    x[0, 0, 0, 0], x[1, 0, 1, 1] = 3.0, -4.0

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.square().flatten(1).sum(1) / 2

    assert gradient_penalty(f, x, torch.zeros(3, 1)).item() == pytest.approx((4 + 9 + 1) / 3, rel=1e-4)
    assert r1(f, x, torch.zeros(3, 1)).item() == pytest.approx((9 + 16) / 6, rel=1e-5)


def test_a_penalty_pulls_the_weights_of_the_critic() -> None:
    """d/dw of (|w| - 1)^2 is 2 (|w| - 1) w / |w|, of |w|^2 / 2 it is w."""
    w = torch.tensor([[[3.0, 4.0]]], requires_grad=True)
    (pull,) = torch.autograd.grad(gradient_penalty(linear(w), torch.randn(2, 1, 1, 2), torch.zeros(2, 1)), w)
    assert pull.flatten().tolist() == pytest.approx([8 * 3 / 5, 8 * 4 / 5], rel=1e-4)
    (pull,) = torch.autograd.grad(r1(linear(w), torch.randn(2, 1, 1, 2), torch.zeros(2, 1)), w)
    assert pull.flatten().tolist() == pytest.approx([3, 4], rel=1e-5)


# ---------------------------------------------------------------------------------------------- dcgan


@pytest.mark.parametrize(("side", "times"), [(8, 4), (15, 4), (16, 1), (28, 1)])
def test_dcgan_works_on_an_enlarged_copy_below_16_pixels_and_renders_the_datas_size(side: int, times: int) -> None:
    assert enlarged(look_of(side, side)) == times
    generator = make("dcgan", steps=1, width=16)
    generator.fit(photographs(9, side, side), seed=0)
    painted: list[tuple[int, ...]] = []
    generator._net.register_forward_hook(lambda net, given, out: painted.append(tuple(out.shape)))
    assert pixels_of(generator, 2).shape == (2, side, side, 3)
    assert painted == [(2, 3, side * times, side * times)]


def test_dcgans_sample_is_the_mean_of_each_block_it_painted() -> None:
    generator = make_from("dcgan")
    assert isinstance(generator, Dcgan)
    z = torch.randn(3, generator.latent_size)
    with torch.no_grad():
        painted = generator._net(z)
    expected = (painted.view(3, 8, 4, 8, 4).mean((2, 4)) + 1) / 2 * 255
    torch.testing.assert_close(generator.decode(z)[:, 0], expected.clamp(0, 255), rtol=1e-4, atol=1e-3)


# ---------------------------------------------------------------------------------------------- stylegan


def test_scaling_activations_is_the_grouped_convolution_of_the_paper() -> None:
    """StyleGAN2, eq. 1 and 3, written as there: a kernel of its own for each sample."""
    torch.manual_seed(0)
    conv, h, w = ModulatedConv(6, 5), torch.randn(4, 6, 7, 7), torch.randn(4, LATENT)
    s = conv.style(w)
    kernels = conv.weight[None] * s[:, None, :, None, None]
    kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    expected = F.conv2d(h.reshape(1, 24, 7, 7), kernels.reshape(20, 6, 3, 3), padding=1, groups=4).view(4, 5, 7, 7)
    torch.testing.assert_close(conv(h, w), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 1.0, 30.0])
def test_demodulation_keeps_unit_variance_whatever_the_style(strength: float) -> None:
    torch.manual_seed(0)
    h, w = torch.randn(8, 32, 24, 24), strength * torch.randn(8, LATENT)
    conv, plain = ModulatedConv(32, 16), ModulatedConv(32, 16, demodulate=False)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    with torch.no_grad():
        variances = conv(h, w)[inner].var((2, 3))
        assert float(variances.mean()) == pytest.approx(1, abs=0.03)
        assert float((variances - 1).abs().max()) < 0.35
        if strength == 30:
            assert float(plain(h, w)[inner].var()) > 100


def test_deviation_is_within_the_class() -> None:
    """Class 0 holds 1 and 3 (deviation 1), class 1 holds 10 twice (none), class 2 holds nothing."""
    h, y = torch.tensor([1.0, 10.0, 3.0, 10.0]).view(4, 1, 1, 1).expand(4, 2, 3, 3), torch.eye(3)[[0, 1, 0, 1]]
    assert deviation(h, y).tolist() == pytest.approx([1, 0, 1, 0], abs=2e-4)


def test_stylegan_starts_at_four_pixels_or_fewer() -> None:
    assert [doublings(look_of(s, s)) for s in (2, 4, 5, 8, 9, 16, 28, 32, 33, 64)] == [1, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [channels(32, level) for level in range(5)] == [32, 32, 16, 8, 8]


def test_truncation_to_zero_gives_one_image_a_class_and_another_for_each() -> None:
    pixels = make_from("stylegan", truncation=0.0).decode(torch.randn(30, LATENT))[:, 0]
    torch.testing.assert_close(pixels[:10], pixels[10:20], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(pixels[:10], pixels[20:], rtol=1e-4, atol=1e-2)
    apart = torch.cdist(pixels[:10].flatten(1), pixels[:10].flatten(1)) + 1e3 * torch.eye(10)
    assert float(apart.min()) > 0.05


def test_variety_grows_with_psi() -> None:
    z = torch.randn(200, LATENT, generator=torch.Generator().manual_seed(0))
    spread = []
    for psi in (0.0, 0.25, 0.5, 0.75, 1.0):
        images = make_from("stylegan", truncation=psi).decode(z)[:, 0].view(20, 10, -1)
        spread.append(float(images.var(0).sum()))
    assert spread[0] == pytest.approx(0, abs=1e-3)
    assert all(b > 1.2 * a for a, b in pairwise(spread[1:]))
    assert spread[1] > 0.1


def test_psi_is_no_matter_of_training_and_one_is_off() -> None:
    assert StyleGan(truncation=0.3).recipe == StyleGan().recipe != StyleGan(gamma=3).recipe
    generator, z = make_from("stylegan"), torch.randn(10, LATENT)
    before = generator.decode(z)
    generator._net.centre.fill_(math.nan)
    assert torch.equal(generator.decode(z), before)


def test_the_centre_is_the_mean_style_of_each_class() -> None:
    net = fitted("stylegan")._net
    with torch.no_grad():
        for k in (0, 7):
            w = net.styles(torch.randn(20_000, LATENT), torch.eye(10)[k].expand(20_000, -1))
            # 2048 codes: the mean is known to a 45th of the deviation, and 64 numbers are looked at.
            assert float(((w.mean(0) - net.centre[k]) / w.std(0)).abs().max()) < 5 / math.sqrt(2048)
