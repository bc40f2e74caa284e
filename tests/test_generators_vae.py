"""The variational autoencoders: their loss, codes there and back, rows through the code space, classes or none."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, RunFailed
from evalkit.types import Given, Latent
from generators._training import LastGood
from generators.beta_vae import BetaVae
from generators.vae import Vae, elbo_loss, slerp

from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, pixels_of, text_set

FAMILIES = ("vae", "beta_vae")


@lru_cache
def trained(name: str, **controls: float | str):
    """Trained for a second: enough for codes that mean something."""
    generator = make(name, steps=250, **controls)
    generator.fit(data_for(name), seed=0)
    return generator


@lru_cache
def digits() -> tuple[np.ndarray, Tensor]:
    samples = list(data_for("vae"))[:200]
    return np.stack([s.load() for s in samples]), torch.tensor([int(s.group) for s in samples])


def codes_of(generator, n: int, seed: int) -> tuple[Tensor, list[str]]:
    """The codes that the decoder saw while n samples were drawn, and the groups of the samples."""
    seen: list[Tensor] = []
    hook = generator._net.decoder.register_forward_hook(lambda net, given, out: seen.append(given[0]))
    _, groups = drawn(generator, n, seed)
    hook.remove()
    return torch.cat(seen)[:, : generator.latent_size], groups


# ---------------------------------------------------------------------------------------------- the loss


def test_the_loss_is_reconstruction_and_beta_times_the_divergence() -> None:
    net = fitted("vae")._net
    x = torch.from_numpy(digits()[0][:30, ..., :1]).permute(0, 3, 1, 2) / 255
    y = F.one_hot(digits()[1][:30], 10).float()
    with torch.no_grad():
        epsilon = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
        mean, log_variance = net.encode(x, y)
        q = Normal(mean, (log_variance / 2).exp())
        kl = kl_divergence(q, Normal(0.0, 1.0)).sum() / 30
        p = net.decode(q.mean + q.stddev * epsilon, y).sigmoid()
        bce = -(x * p.log() + (1 - x) * (1 - p).log()).sum() / 30
        for beta in (0.0, 1.0, 4.0):
            assert float(elbo_loss(net, x, y, epsilon, beta)) == pytest.approx(float(bce + beta * kl), rel=1e-4)


def test_a_heavier_divergence_leaves_less_in_the_code_and_a_worse_image() -> None:
    images, _ = digits()
    nats, errors = [], []
    for beta in (4.0, 300.0):
        generator = trained(name="beta_vae", beta=beta)
        mean, log_variance = generator.encode(images)
        nats.append(float(0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()))
        errors.append(float((generator.reconstruct(images) - as_tensor(images)).square().mean()))
    assert nats[0] > 3 * nats[1]
    assert errors[0] < 0.8 * errors[1]


def as_tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


# ---------------------------------------------------------------------------------------------- codes there and back


@pytest.mark.parametrize("controls", [{"name": "vae"}, {"name": "beta_vae", "beta": 4.0}])
def test_reconstructions_are_nearer_than_other_images_and_than_the_mean(controls) -> None:
    images, labels = digits()
    real = as_tensor(images)
    made = trained(**controls).reconstruct(images, labels)
    assert made.shape == (200, 3, 8, 8) and float(made.min()) >= 0 and float(made.max()) <= 255
    own = float((made - real).square().mean())
    assert own < 0.75 * float((real - real.mean(0)).square().mean())
    assert own < 0.75 * float((made - real.roll(1, 0)).square().mean())


def test_both_forms_of_images_have_one_code_and_decode_undoes_encode() -> None:
    generator, (images, labels) = trained("vae"), digits()
    mean, log_variance = generator.encode(images, labels)
    assert mean.shape == log_variance.shape == (200, 12) and not mean.requires_grad
    torch.testing.assert_close(generator.encode(as_tensor(images), labels), (mean, log_variance))
    # Without classes given, the positions take them in turn, in `encode` as in `decode`.
    in_turn = torch.arange(200) % 10
    mean, _ = generator.encode(images)
    torch.testing.assert_close(mean, generator.encode(images, in_turn)[0])
    torch.testing.assert_close(generator.decode(mean), generator.reconstruct(images, in_turn))
    assert not torch.allclose(mean, generator.encode(images, labels)[0], atol=1e-3)


def test_given_images_are_reconstructed_in_order() -> None:
    generator, (images, labels) = trained("vae"), digits()
    assert isinstance(generator, Given) and generator.takes == "image" and isinstance(generator, Latent)
    inputs = image_set(images, [str(int(i)) for i in labels])
    batches = list(generator.sample_given(inputs, 0))
    assert [len(b.items) for b in batches] == [64, 64, 64, 8]
    made = np.concatenate([b.items for b in batches])
    expected = generator._look.render(generator.reconstruct(images, labels)[:, :1] / 255)
    # Batches of another size differ in the last bit, which rounding to a level may show.
    assert (made == expected).mean() > 0.999
    assert [g for b in batches for g in b.groups] == [s.group for s in inputs]


def test_an_image_of_unknown_class_is_given_the_likeliest_one() -> None:
    generator, (images, labels) = trained("vae"), digits()
    x = as_tensor(images)[:, :1] / 255
    with torch.inference_mode():
        found = generator._likeliest(x)
        assert float((found == labels).float().mean()) > 0.6
    bare = list(generator.sample_given(image_set(images), 0))
    told = list(generator.sample_given(image_set(images, [str(int(i)) for i in found]), 0))
    assert all(b.groups is None for b in bare)
    assert (np.concatenate([b.items for b in bare]) == np.concatenate([b.items for b in told])).all()


# ---------------------------------------------------------------------------------------------- the code space


def test_slerp_by_hand() -> None:
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    half = torch.tensor([0.5])
    torch.testing.assert_close(slerp(x, y, half), torch.full((1, 2), math.sqrt(0.5)))
    # A third of the way is 30 degrees.
    torch.testing.assert_close(slerp(x, y, half * 2 / 3), torch.tensor([[math.cos(math.pi / 6), 0.5]]))
    # Lengths 1 and 3 at a right angle: each is weighed by sin(45 degrees).
    torch.testing.assert_close(slerp(x, 3 * y, half), torch.tensor([[math.sqrt(0.5), 3 * math.sqrt(0.5)]]))
    torch.testing.assert_close(slerp(x, x, half), x)
    assert bool(slerp(x, -x, half).isfinite().all())


def test_slerp_keeps_the_length_where_a_line_does_not() -> None:
    a, b = F.normalize(torch.randn(2, 30, 12, generator=torch.Generator().manual_seed(0)), dim=2)
    for t in (0.0, 0.3, 0.5, 1.0):
        on_arc = slerp(a, b, torch.full((30,), t))
        torch.testing.assert_close(on_arc.norm(dim=1), torch.ones(30))
        torch.testing.assert_close(on_arc, slerp(b, a, torch.full((30,), 1 - t)))
    assert float(((a + b) / 2).norm(dim=1).mean()) < 0.9


@pytest.mark.parametrize("name", FAMILIES)
def test_interpolation_goes_from_one_code_to_another_in_rows_of_eight(name: str) -> None:
    generator = make_from(name, draw="interpolation")
    z, groups = codes_of(generator, 64, 5)
    ends = torch.randn(8, 2, 12, generator=torch.Generator().manual_seed(5))
    rows = z.view(8, 8, 12)
    torch.testing.assert_close(rows[:, 0], ends[:, 0])
    torch.testing.assert_close(rows[:, 7], ends[:, 1])
    steps = rows.diff(dim=1).norm(dim=2)
    assert float(steps.min()) > 0 and bool((steps.sum(1) < 1.6 * (ends[:, 0] - ends[:, 1]).norm(dim=1)).all())
    assert groups == ([str(i // 8) for i in range(64)] if name == "vae" else [])


@pytest.mark.parametrize("name", FAMILIES)
def test_traversal_moves_one_number_of_one_code_the_numbers_in_turn(name: str) -> None:
    generator = make_from(name, draw="traversal")
    z, groups = codes_of(generator, 13 * 8, 5)
    rows = z.view(13, 8, 12)
    for r, row in enumerate(rows):
        moved = row.std(0) > 0
        assert moved.nonzero().flatten().tolist() == [r % 12]
        torch.testing.assert_close(row[:, r % 12], torch.linspace(-3, 3, 8))
        # Everything else is one code in all rows, of all batches.
        others = torch.arange(12) != r % 12
        reference = rows[(r + 1) % 12]
        both = others & (torch.arange(12) != (r + 1) % 12)
        assert torch.equal(row[:, both], reference[:, both])
    assert groups == (["0"] * 96 + ["1"] * 8 if name == "vae" else [])
    assert not torch.equal(codes_of(generator, 8, 6)[0], rows[0])


@pytest.mark.parametrize("draw", ["interpolation", "traversal"])
def test_a_part_of_a_row_costs_its_images_and_draws_need_no_other_training(draw: str) -> None:
    generator = make_from("vae", draw=draw)
    assert generator.recipe == make("vae").recipe
    assert len(codes_of(generator, 1, 0)[0]) == 1
    assert len(codes_of(generator, 67, 0)[0]) == 67


# ---------------------------------------------------------------------------------------------- classes or none


@pytest.mark.parametrize("make_it", [lambda **c: make("vae", conditional="no", **c), lambda **c: make("beta_vae", **c)])
def test_the_unconditional_are_told_no_class_and_name_none(make_it, tmp_path, monkeypatch) -> None:
    data, generator = data_for("vae"), make_it()
    generator.fit(data, seed=0)
    assert drawn(generator, 5)[1] == []
    z = torch.randn(1, 12).expand(10, -1)
    images = generator.decode(z)
    torch.testing.assert_close(images, images[:1].expand(10, -1, -1, -1))
    generator.save(tmp_path)
    again = make_it()
    again.load(tmp_path)
    assert drawn(again, 20) == drawn(generator, 20)
    # Nor after a training that diverged.
    monkeypatch.setattr(LastGood, "EVERY", 10)
    calls, real = [], elbo_loss
    bad = lambda *given: real(*given) * (math.nan if calls.append(1) or len(calls) > 25 else 1.0)  # noqa: E731
    monkeypatch.setattr("generators.vae.elbo_loss", bad)
    salvaged = make_it()
    with pytest.raises(RunFailed):
        salvaged.fit(data, seed=0)
    assert len(drawn(salvaged, 5)[0]) == 5 and drawn(salvaged, 5)[1] == []


def test_the_beta_vae_is_the_unconditional_vae_of_sixteen_flips_a_pixel_at_beta_four() -> None:
    plain = Vae(steps=30, beta=4 / 16, conditional="no")
    plain.fit(data_for("vae"), seed=0)
    assert drawn(plain, 40) == drawn(fitted("beta_vae"), 40)
    assert BetaVae().settings["beta"] == 4 and Vae().settings["beta"] == 1
    assert {c.name for c in Vae.controls} - {c.name for c in BetaVae.controls} == {"conditional"}


def test_a_colour_image_has_a_code_in_colour() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 19, 20, 3), dtype=np.uint8)
    generator = make("beta_vae", steps=2, width=64)
    generator.fit(image_set(pixels, ["a", "b"] * 6), seed=0)
    assert pixels_of(generator, 3).shape == (3, 19, 20, 3)
    assert generator.encode(pixels)[0].shape == (12, 12)
    torch.testing.assert_close(generator.encode(as_tensor(pixels)), generator.encode(pixels))
    swapped = generator.encode(pixels[..., ::-1].copy())[0]
    assert not torch.allclose(swapped, generator.encode(pixels)[0], atol=1e-4)
    (batch,) = generator.sample_given(image_set(pixels), 0)
    assert batch.items.shape == pixels.shape


def test_what_has_no_code_is_refused() -> None:
    generator, wide = fitted("vae"), np.zeros((2, 8, 9, 3), np.uint8)
    for act, images in (
        (generator.encode, wide),
        (generator.encode, as_tensor(wide)),
        (generator.reconstruct, as_tensor(wide)),
    ):
        with pytest.raises(BadSource, match=r"learned images of height and width \(8, 8\), these are \(8, 9\)"):
            act(images)
    # Whole images come as they are, of any size, and are averaged to the size that was learned.
    assert generator.reconstruct(wide).shape == (2, 3, 8, 8)
    with pytest.raises(BadSetting, match="before encode") as error:
        make("vae").encode(wide)
    one_line(error)
    with pytest.raises(BadSetting, match="before sample_given"):
        make("vae").sample_given(image_set(wide), 0)
    with pytest.raises(BadSource, match=r"'0\.png' is 9x8"):
        list(generator.sample_given(image_set(wide), 0))
    with pytest.raises(ModalityMismatch):
        generator.sample_given(text_set(["a"]), 0)
    for control, value in (("draw", "walk"), ("conditional", "maybe"), ("beta", -1)):
        with pytest.raises(BadSetting, match=f"vae.{control}"):
            make("vae", **{control: value})
