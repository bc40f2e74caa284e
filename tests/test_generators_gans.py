"""GANs: penalties and styles by hand, truncation, sizes and labels, translations scored against the truth."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, RunFailed, TooFewSamples, UnreadableSample
from evalkit.samples._set import ListedSet
from evalkit.types import Given, Latent, Sample
from generators._images import Look
from generators._training import LastGood
from generators.cyclegan import CycleGan, Translator, bold, two_domains
from generators.dcgan import Dcgan, enlarged
from generators.stylegan import LATENT, ModulatedConv, StyleGan, channels, deviation, doublings, r1
from generators.wgan_gp import gradient_penalty

from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, pixels_of, text_set

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


# ---------------------------------------------------------------------------------------------- cyclegan


@lru_cache
def translator() -> CycleGan:
    """A hundred steps on digits: the map is bold strokes, which nobody told it."""
    generator = make("cyclegan", steps=100, width=12, learning_rate=2e-3)
    generator.fit(data_for("cyclegan"), seed=0)
    return generator


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return 10 * math.log10(255**2 / float(np.square(image.astype(float) - truth.astype(float)).mean()))


def translated(generator: CycleGan, pixels: np.ndarray, direction: str = "a_to_b") -> np.ndarray:
    """Translations of uint8 images [N, H, W, 3]."""
    before = generator._settings["direction"]
    generator._settings["direction"] = direction
    try:
        return np.concatenate([b.items for b in generator.sample_given(image_set(pixels), 0)])
    finally:
        generator._settings["direction"] = before


def emboldened(pixels: np.ndarray) -> np.ndarray:
    return bold(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_bold_is_grey_dilation() -> None:
    from scipy.ndimage import maximum_filter

    x = np.random.default_rng(0).random((3, 9, 12)).astype(np.float32)
    for image in x:
        expected = maximum_filter(image, size=2, mode="constant")
        assert np.array_equal(bold(torch.from_numpy(image)[None])[0].numpy(), expected)
    large = np.random.default_rng(0).random((17, 20)).astype(np.float32)
    assert np.array_equal(bold(torch.from_numpy(large)[None])[0].numpy(), maximum_filter(large, size=3))


def test_translations_are_near_the_known_map_both_ways_and_back() -> None:
    """Untouched images are at 8.8 dB of the truth. Inputs are images that training never saw."""
    generator = translator()
    a, b = ((d.images * 255).to(torch.uint8).permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy() for d in generator._kept)
    truth, untouched = emboldened(a), psnr(a, emboldened(a))
    thick = translated(generator, a)
    assert untouched < 10 < untouched + 5 < psnr(thick, truth)
    assert psnr(translated(generator, thick, "b_to_a"), a) > untouched + 4
    # The other way round: of the bold images of other digits the thin ones are known too.
    thin = translated(generator, emboldened(a), "b_to_a")
    assert psnr(thin, a) > psnr(emboldened(a), a) + 4
    assert psnr(translated(generator, thin), emboldened(a)) > untouched + 4
    assert translated(generator, b, "b_to_a").mean() < b.mean() < 1.2 * thick.mean()


def test_plain_samples_are_the_kept_images_translated_each_once_a_round() -> None:
    generator = translator()
    a, b = generator._kept
    assert (len(a), len(b)) == (128, 128)
    pixels, groups = pixels_of(generator, 256, 3), drawn(generator, 256, 3)[1]
    expected = translated(generator, (a.images * 255).to(torch.uint8).permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy())
    for round_of in (slice(0, 128), slice(128, 256)):
        assert sorted(p.tobytes() for p in pixels[round_of]) == sorted(p.tobytes() for p in expected)
        assert sorted(groups[round_of]) == sorted(str(k) for k in a.labels.tolist())
    assert (pixels[:128] != pixels[128:]).any()
    assert (pixels_of(generator, 10, 3) == pixels[:10]).all()


def test_the_kept_images_were_never_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[bytes] = set()
    real = Translator.forward

    def noting(self: Translator, x: torch.Tensor) -> torch.Tensor:
        if not x.requires_grad:
            seen.update(((i + 1) / 2 * 255).round().to(torch.uint8).numpy().tobytes() for i in x)
        return real(self, x)

    monkeypatch.setattr(Translator, "forward", noting)
    generator = make("cyclegan", steps=40, width=4)
    generator.fit(photographs(16, 4, 4), seed=0)
    kept = {(i * 255).round().to(torch.uint8).numpy().tobytes() for d in generator._kept for i in d.images}
    assert len(kept) == 4 and len(seen) == 12 and not kept & seen


def test_two_groups_are_the_domains_and_else_every_second_image_of_a_class_is_made_bold() -> None:
    x, labels = torch.rand(10, 1, 4, 4), torch.arange(10) % 2
    A, B = two_domains(look_of(4, 4, classes=("horse", "zebra")), x, labels, "toy", "cyclegan")
    assert torch.equal(A.images, x[0::2]) and torch.equal(B.images, x[1::2])
    A, B = two_domains(look_of(4, 4), x, torch.zeros(10, dtype=torch.long), "toy", "cyclegan")
    assert torch.equal(A.images, x[0::2]) and torch.equal(B.images, bold(x[1::2]))
    # Four classes in turn: plain parity would make A of two classes and B of the other two.
    A, B = two_domains(look_of(4, 4, classes=tuple("abcd")), torch.rand(16, 1, 4, 4), torch.arange(16) % 4, "toy", "c")
    assert sorted(A.labels.tolist()) == sorted(B.labels.tolist()) == sorted([*range(4), *range(4)])


def test_between_two_groups_a_translation_is_named_by_where_it_goes() -> None:
    rng = np.random.default_rng(0)
    base = np.repeat([40, 200], 20)[:, None, None, None] + rng.integers(-40, 41, (40, 6, 6, 3))
    data = image_set(base.astype(np.uint8), ["night"] * 20 + ["day"] * 20)
    generator = make("cyclegan", steps=2, width=4)
    generator.fit(data, seed=0)
    for direction, source, target in (("a_to_b", "day", "night"), ("b_to_a", "night", "day")):
        generator._settings["direction"] = direction
        assert drawn(generator, 12)[1] == [target] * 12
        inputs = ListedSet("in", "image", tuple(s for s in data if s.group == source))
        assert [g for b in generator.sample_given(inputs, 0) for g in b.groups] == [target] * 20
    few = ListedSet("few", "image", data.samples[:23])
    with pytest.raises(TooFewSamples, match="at least 4 training images of each domain, 'few' has 3 and 20"):
        make("cyclegan").fit(few, seed=0)


def test_given_images_are_translated_in_order_in_batches_whatever_stands_beside_them() -> None:
    generator = fitted("cyclegan")
    assert isinstance(generator, Given) and generator.takes == "image"
    samples = data_for("cyclegan").samples[:70]
    batches = list(generator.sample_given(ListedSet("in", "image", samples), 0))
    assert [len(b.items) for b in batches] == [64, 6]
    assert [g for b in batches for g in b.groups] == [s.group for s in samples]
    alone = next(iter(generator.sample_given(ListedSet("one", "image", samples[66:67]), 1)))
    # A value between two grey levels may be rounded either way.
    assert float((alone.items[0] != batches[1].items[2]).mean()) < 0.05
    for _ in generator.sample_given(ListedSet("in", "image", samples), 0):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_what_cannot_be_translated_is_refused_in_one_line() -> None:
    generator = fitted("cyclegan")
    with pytest.raises(BadSource) as error:
        list(generator.sample_given(photographs(2, 8, 9), 0))
    assert "learned 8x8 images" in one_line(error) and "'0.png' is 9x8" in str(error.value)

    def broken() -> np.ndarray:
        raise UnreadableSample("truncated")

    with pytest.raises(BadSource) as error:
        list(generator.sample_given(ListedSet("bad", "image", (Sample("x.png", "d", broken),)), 0))
    assert "'x.png'" in one_line(error) and "truncated" in str(error.value)
    with pytest.raises(ModalityMismatch, match="translates images, 'toy' holds texts"):
        generator.sample_given(text_set(["a b"]), 0)
    with pytest.raises(BadSetting, match="before sample_given"):
        make("cyclegan").sample_given(photographs(2, 8, 8), 0)
    with pytest.raises(BadSetting, match="expected one of a_to_b, b_to_a"):
        make("cyclegan", direction="up")


def test_direction_is_no_matter_of_training_and_identity_is() -> None:
    assert CycleGan(direction="b_to_a").recipe == CycleGan().recipe != CycleGan(identity=0.5).recipe
    there, back = (drawn(make_from("cyclegan", direction=d), 8)[0] for d in ("a_to_b", "b_to_a"))
    assert there != back
    generator, plain = make("cyclegan", identity=0.5), fitted("cyclegan")
    generator.fit(data_for("cyclegan"), seed=0)
    assert drawn(generator, 8) != drawn(plain, 8)
