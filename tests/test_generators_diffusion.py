"""Diffusion, flow matching and latent diffusion: their equations, guidance, solvers, and parts of images made new."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, TooFewSamples
from evalkit.types import Given
from generators._denoisers import Mlp, UNet, dropped, guided
from generators.diffusion import Diffusion, back_to_x0, hidden, plan, schedule, target, times

from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, pixels_of, text_set

GUIDED = ("diffusion", "flow_matching", "latent_diffusion")
PREDICTIONS = ("epsilon", "v", "x")


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def denoiser_of(generator) -> nn.Module:
    return generator._denoiser


# ---------------------------------------------------------------------------------------------- schedules and targets


def test_the_cosine_schedule_is_nichol_and_dhariwals() -> None:
    abar = schedule("cosine")
    assert abar[0] == 1
    # cos^2(0.508 / 1.008 pi / 2) / cos^2(0.008 / 1.008 pi / 2)
    assert float(abar[500]) == pytest.approx(0.49384, abs=1e-5)
    assert float(abar[250]) == pytest.approx(0.84701, abs=1e-5)
    # The last beta is cut to 0.999, without which nothing of the image were left.
    assert float(abar[1000] / abar[999]) == pytest.approx(1e-3)
    assert bool((abar.diff() < 0).all()) and float(abar[1000]) > 0


def test_a_v_by_hand() -> None:
    """x_0 = 1, epsilon = 2, abar = 0.36: x_t = 0.6 + 1.6 = 2.2 and v = 0.6 * 2 - 0.8 * 1 = 0.4."""
    v = target("v", torch.ones(1), torch.full((1,), 2.0), torch.tensor(0.36))
    assert float(v) == pytest.approx(0.4)
    p, q = back_to_x0("v", 0.36)
    assert p * 2.2 + q * 0.4 == pytest.approx(1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_every_prediction_is_turned_back_into_x0(prediction: str, kind: str) -> None:
    x0, epsilon = noise(2, 50).double()
    for a in schedule(kind)[[1, 10, 300, 700, 990]]:
        x_t = a.sqrt() * x0 + (1 - a).sqrt() * epsilon
        p, q = back_to_x0(prediction, float(a))
        torch.testing.assert_close(p * x_t + q * target(prediction, x0, epsilon, a), x0, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_planned_step_is_ddims_equation_12(prediction: str, eta: float) -> None:
    abar = schedule().tolist()
    x0, epsilon, fresh = noise(3, 20).double() * 0.3
    for t, earlier, step in zip(times(7), times(7)[1:], plan(times(7), abar, prediction, eta), strict=False):
        a, b = torch.tensor(abar[t]).double(), torch.tensor(abar[earlier]).double()
        x_t = a.sqrt() * x0 + (1 - a).sqrt() * epsilon
        sigma = eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()
        expected = b.sqrt() * x0 + (1 - b - sigma**2).clamp_min(0).sqrt() * epsilon + sigma * fresh
        answered = step.p * x_t + step.q * target(prediction, x0, epsilon, a)
        got = step.r * answered + step.s * x_t + step.sigma * fresh
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_eta_one_over_all_times_is_ddpms_posterior() -> None:
    """Ho et al. 2020, eq. 7: mean and variance of q(x_{t-1} | x_t, x_0)."""
    abar = schedule().tolist()
    for t, step in zip(range(1000, 0, -1), plan(times(1000), abar, "x", 1.0), strict=True):
        a, b = abar[t], abar[t - 1]
        beta = 1 - a / b
        assert step.r == pytest.approx(math.sqrt(b) * beta / (1 - a), abs=1e-9)
        assert step.s == pytest.approx(math.sqrt(a / b) * (1 - b) / (1 - a), abs=1e-7)
        assert step.sigma**2 == pytest.approx(beta * (1 - b) / (1 - a), abs=1e-12)


class PointMass(nn.Module):
    """What a network would say that knows the only image there is, in -1..1."""

    def __init__(self, image: Tensor, prediction: str, kind: str) -> None:
        super().__init__()
        self.image, self.prediction, self.abar = image, prediction, schedule(kind)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        a = self.abar[t].view(-1, 1, 1, 1)
        epsilon = (x - a.sqrt() * self.image) / (1 - a).sqrt()
        return target(self.prediction, self.image, epsilon, a).float()


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_step_with_the_true_answer_gives_the_image(prediction: str, kind: str) -> None:
    truth = torch.linspace(-0.9, 0.9, 64).view(1, 1, 8, 8)
    for steps in (1, 6):
        generator = make_from("diffusion", steps=steps)
        generator._settings.update(prediction=prediction, schedule=kind)
        generator._net = PointMass(truth, prediction, kind)
        x = generator._denoised(noise(3, 1, 8, 8), torch.zeros(3, dtype=torch.long), torch.Generator())
        # Under the cosine schedule 1 / sqrt(abar_T) is 2e4: float32 leaves two digits of a single step from there.
        loose = prediction == "epsilon" and kind == "cosine" and steps == 1
        torch.testing.assert_close(x * 2 - 1, truth.expand(3, -1, -1, -1), rtol=0, atol=0.02 if loose else 1e-4)


@pytest.mark.parametrize("controls", [{"prediction": "v", "schedule": "cosine"}, {"prediction": "x"}, {}])
def test_without_eta_the_path_asks_nothing_of_chance(controls: dict[str, str]) -> None:
    generator = make_from("diffusion")
    generator._settings.update(controls)
    start, labels = noise(4, 1, 8, 8), torch.arange(4)
    with torch.inference_mode():
        used = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        runs = [generator._denoised(start, labels, rng) for rng in used]
        assert torch.equal(*runs)
        assert torch.equal(used[0].get_state(), torch.Generator().manual_seed(1).get_state())
        generator._settings["eta"] = 1.0
        assert not torch.equal(*(generator._denoised(start, labels, rng) for rng in used))


@pytest.mark.parametrize("controls", [{"prediction": "v", "schedule": "cosine"}, {"prediction": "x"}])
def test_every_prediction_learns_which_class_is_which(controls: dict[str, str]) -> None:
    assert_dark_and_light(make("diffusion", training_steps=150, width=64, **controls))


@pytest.mark.parametrize("name", ["flow_matching", "latent_diffusion"])
def test_classes_are_learnt(name: str) -> None:
    settings = {"training_steps": 150, "width": 64}
    assert_dark_and_light(make(name, **settings, **({"autoencoder_steps": 150} if "latent" in name else {})))


def assert_dark_and_light(generator) -> None:
    """Class "dark" is near black, class "light" near white."""
    rng = np.random.default_rng(0)
    base = np.repeat([20, 230], 40)[:, None, None, None] + rng.integers(-15, 16, (80, 4, 4, 1))
    generator.fit(image_set(np.repeat(base, 3, 3).astype(np.uint8), ["dark"] * 40 + ["light"] * 40), seed=0)
    pixels = pixels_of(generator, 40).astype(float)
    assert pixels[0::2].mean() < 70 < 180 < pixels[1::2].mean()


# ---------------------------------------------------------------------------------------------- guidance


class Told(nn.Module):
    """Answers with the class it is told."""

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return labels.float()[:, None].expand_as(x)


def test_guidance_goes_from_the_unconditional_answer_through_the_conditional_one() -> None:
    """Class 2, null class 10: 10 + w (2 - 10)."""
    for w, expected in ((0.0, 10.0), (0.5, 6.0), (1.0, 2.0), (3.0, -14.0)):
        answer = guided(Told(), torch.arange(3), torch.full((4,), 2), 10, w)
        assert torch.equal(answer(torch.zeros(4, 5), 1), torch.full((4, 5), expected))
    without_classes = guided(Told(), torch.arange(3), torch.zeros(4).long(), 0, 5.0)
    assert torch.equal(without_classes(torch.ones(4, 5), 0), torch.zeros(4, 5))


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_zero_and_one_are_the_two_networks_to_the_bit(name: str) -> None:
    """The samples of w = 0 are those whose every label is the null class; of w = 1 those of a network never doubled."""
    z, labels, null = noise(20, fitted(name).latent_size), torch.arange(20) % 10, torch.full((20,), 10)
    with torch.inference_mode():
        plain, none, strict = (
            make_from(name, guidance=w)._decoded(z, labels) if w is not None else make_from(name)._decoded(z, null)
            for w in (1, None, 3)
        )
        assert torch.equal(make_from(name, guidance=0)._decoded(z, labels), none)
        assert torch.equal(make_from(name, guidance="1")._decoded(z, labels), plain)
        # As the limit of the doubled call, which is the same mathematics in another order.
        torch.testing.assert_close(make_from(name, guidance=1 + 1e-9)._decoded(z, labels), plain, rtol=0, atol=1e-3)
        torch.testing.assert_close(make_from(name, guidance=1e-9)._decoded(z, labels), none, rtol=0, atol=1e-3)
    assert not torch.equal(plain, none) and not torch.equal(plain, strict)


@pytest.mark.parametrize("name", GUIDED)
def test_one_call_of_the_network_a_step_doubled_only_where_both_answers_are_needed(name: str) -> None:
    for w, rows in ((0, 1), (1, 1), (2, 2)):
        seen: list[int] = []
        generator = make_from(name, guidance=w)
        denoiser_of(generator).register_forward_hook(lambda net, given, out, seen=seen: seen.append(len(given[0])))
        list(generator.sample(1, 0))
        assert seen == [rows] * 5


@pytest.mark.parametrize("name", GUIDED)
def test_samples_of_no_class_name_none(name: str) -> None:
    assert drawn(make_from(name, guidance=0), 12)[1] == []
    assert drawn(make_from(name, guidance=2), 12)[1] == [str(i % 10) for i in range(12)]
    assert make(name, guidance=4).recipe == make(name).recipe


def test_a_tenth_of_the_classes_is_dropped_and_none_where_there_are_none() -> None:
    labels = torch.arange(50_000) % 10
    kept = dropped(labels, 10, torch.Generator().manual_seed(0))
    gone = kept == 10
    assert float(gone.float().mean()) == pytest.approx(0.1, abs=0.006)
    assert torch.equal(kept[~gone], labels[~gone])
    alone = torch.zeros(100).long()
    assert torch.equal(dropped(alone, 0, torch.Generator()), alone)


@pytest.mark.parametrize("net", [partial(Mlp, (3, 6, 5)), partial(UNet, (3, 6, 5))])
def test_times_embedded_beforehand_are_the_times(net) -> None:
    torch.manual_seed(0)
    network = net(classes=4, width=64)
    x, t, labels = noise(5, 3, 6, 5), torch.tensor([3.0, 500.0]), torch.tensor([0, 1, 4, 2, 2])
    embedded = network.embed.of_times(t)
    for i in (0, 1):
        expected = network(x, t[i].expand(5), labels)
        torch.testing.assert_close(network(x, embedded[i : i + 1], labels), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(network(x, t[:1], labels), network(x, t[1:], labels))


# ---------------------------------------------------------------------------------------------- colour, larger images


@pytest.mark.parametrize("name", GUIDED)
@pytest.mark.parametrize("labelled", [True, False])
def test_colour_images_of_twenty_pixels_are_learnt_and_drawn(name: str, labelled: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 19, 20, 3), dtype=np.uint8)
    settings = {"training_steps": 2, "width": 64, "steps": 2, "guidance": 2}
    if name == "latent_diffusion":
        settings["autoencoder_steps"] = 2
    generator = make(name, **settings)
    generator.fit(image_set(pixels, ["a", "b"] * 6 if labelled else None), seed=0)
    made = pixels_of(generator, 3)
    assert made.shape == (3, 19, 20, 3) and (made != made[..., :1]).any()
    assert drawn(generator, 3)[1] == (["a", "b", "a"] if labelled else [])
    assert generator.decode(noise(2, generator.latent_size)).shape == (2, 3, 19, 20)


# ---------------------------------------------------------------------------------------------- parts made new


def test_masks_hide_the_part_they_name() -> None:
    for mask, hides in (
        ("right", "0011 0011 0011 0011"),
        ("left", "1100 1100 1100 1100"),
        ("top", "1111 1111 0000 0000"),
        ("bottom", "0000 0000 1111 1111"),
        ("center", "0000 0110 0110 0000"),
    ):
        rows = [[c == "1" for c in row] for row in hides.split()]
        assert hidden(mask, 4, 4).tolist() == rows, mask
    declared = next(c for c in Diffusion.controls if c.name == "mask").choices
    for mask in declared:
        for height, width in ((1, 2), (5, 7)):
            share = float(hidden(mask, max(height, 2), width).float().mean())
            assert 0 < share < 1 or mask == "center"


@pytest.mark.parametrize("mask", ["right", "left", "top", "bottom", "center"])
def test_the_known_part_is_kept_to_the_byte(mask: str) -> None:
    generator, new = make_from("diffusion", mask=mask, resampling=2), hidden(mask, 8, 8).numpy()
    assert isinstance(generator, Given) and generator.takes == "image"
    # Values that training never saw, in colour: what is kept is what was given, not what a grey model makes of it.
    pixels = np.random.default_rng(1).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    inputs = image_set(pixels, [str(i % 10) for i in range(70)])
    batches = list(generator.sample_given(inputs, 3))
    assert [len(b.items) for b in batches] == [64, 6]
    made = np.concatenate([b.items for b in batches])
    assert made.dtype == np.uint8 and (made[:, ~new] == pixels[:, ~new]).all()
    assert (made[:, new] != pixels[:, new]).mean() > 0.5
    assert [g for b in batches for g in b.groups] == [s.group for s in inputs]
    again, other = (np.concatenate([b.items for b in generator.sample_given(inputs, seed)]) for seed in (3, 4))
    assert (again == made).all() and (other != made).any()


class TwoImages(nn.Module):
    """The exact mean of x_0 where images are all -0.8 or all 0.8, as often."""

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        a = schedule()[t].view(-1, 1, 1, 1).float()
        evidence = (x * a.sqrt() * 0.8 / (1 - a)).flatten(1).sum(1).view(-1, 1, 1, 1)
        return (0.8 * evidence.tanh()).expand_as(x)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_new_part_agrees_with_the_known_one(eta: float) -> None:
    generator = make_from("diffusion", steps=40, eta=eta, mask="bottom")
    generator._settings["prediction"] = "x"
    generator._net = TwoImages()
    image = torch.tensor([0.1, 0.9]).repeat(20).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    with torch.inference_mode():
        rng = torch.Generator().manual_seed(0)
        x = generator._inpainted(image, hidden("bottom", 8, 8), torch.zeros(40).long(), rng)
        torch.testing.assert_close(x[:, :, :4], image[:, :, :4])
        assert float((x - image).abs().max()) < 0.05
        # Of itself the model would have drawn either for each.
        free = generator._denoised(noise(40, 1, 8, 8), torch.zeros(40).long(), rng)
        assert 0.1 < float(((free - image).abs().amax((1, 2, 3)) > 0.5).float().mean()) < 0.9


def test_filling_in_costs_each_step_as_often_as_it_is_taken() -> None:
    inputs = image_set(np.stack([s.load() for s in data_for("diffusion")][:3]))
    for again, expected in ((1, 5), (4, 4 * 4 + 1)):
        calls: list[int] = []
        generator = make_from("diffusion", resampling=again)
        generator._net.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        list(generator.sample_given(inputs, 0))
        assert len(calls) == expected


def test_an_image_of_no_known_class_is_filled_in_without_one() -> None:
    pixels, seen = np.stack([s.load() for s in data_for("diffusion")][:3]), []
    generator = make_from("diffusion")
    generator._net.register_forward_hook(lambda net, given, out: seen.append(given[2].tolist()))
    (mixed,) = generator.sample_given(image_set(pixels, ["3", "cat", "0"]), 0)
    assert seen[0] == [3, 10, 0] and mixed.groups == ["3", "cat", "0"]
    (bare,) = generator.sample_given(image_set(pixels), 0)
    assert seen[-1] == [10, 10, 10] and bare.groups is None


def test_what_cannot_be_filled_in_is_refused() -> None:
    generator, images = fitted("diffusion"), np.zeros((2, 8, 9, 3), np.uint8)
    with pytest.raises(BadSource, match=r"learned 8x8 images, '0\.png' is 9x8") as error:
        list(generator.sample_given(image_set(images), 0))
    one_line(error)
    with pytest.raises(ModalityMismatch, match="given images, 'toy' holds texts"):
        generator.sample_given(text_set(["a"]), 0)
    with pytest.raises(TooFewSamples, match="at least 1 image"):
        generator.sample_given(image_set(images[:0]), 0)
    with pytest.raises(BadSetting, match="before sample_given"):
        make("diffusion").sample_given(image_set(images), 0)
    for control, value in (("mask", "upper"), ("prediction", "noise"), ("schedule", "quadratic"), ("guidance", -1)):
        with pytest.raises(BadSetting, match=f"diffusion.{control}"):
            make("diffusion", **{control: value})
    with pytest.raises(BadSetting, match="one of euler, heun"):
        make("flow_matching", solver="rk4")
