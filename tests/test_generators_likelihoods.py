"""Generators that know how probable an image is: chances sum to one, see only the past, and prefer real images."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from evalkit.errors import BadSetting, BadSource
from evalkit.types import Likely
from generators._images import Look
from generators.pixelcnn import PixelNet
from generators.pixelrnn import RowNet
from generators.realnvp import Coupling, Flow, checkerboard, from_logit, to_logit
from tests.quick import class_of, data_for, fitted, image_set, make, make_from, pixels_of

AUTOREGRESSIVE = ("pixelcnn", "pixelrnn", "markov_field")
LIKELY = (*AUTOREGRESSIVE, "realnvp")
TOY = Look(2, 2, 1, (0, 100, 255), 0, ("a", "b"))
COLOUR = Look(5, 4, 3, (0, 50, 120, 255), 0, ("a", "b"))


def net_of(name: str, look: Look) -> torch.nn.Module:
    torch.manual_seed(3)
    net = PixelNet(look, 16, 3) if name == "pixelcnn" else RowNet(look, 16, 2)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    return net.eval()


def toy_set(channels: int = 1, size: int = 2, n: int = 40, levels: tuple[int, ...] = (0, 100, 255)):
    rng = np.random.default_rng(0)
    pixels = rng.choice(np.array(levels, np.uint8), (n, size, size, channels), p=[0.5, 0.2, 0.3])
    return image_set(np.broadcast_to(pixels, (n, size, size, 3)).copy(), ["a", "b"] * (n // 2))


def prepared(name: str, n: int = 48) -> torch.Tensor:
    return torch.stack([fitted(name).prepare(s.load()) for s in data_for(name).samples[:n]])


# ---------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", LIKELY)
def test_rows_are_nats_pixels_and_bytes_and_no_row_depends_on_its_batch(name: str) -> None:
    generator, batch = fitted(name), prepared(name, 20)
    assert isinstance(generator, Likely)
    rows = generator.likelihood(batch)
    assert rows.dtype == torch.float32 and rows.shape == (20, 3) and not rows.requires_grad
    assert (rows[:, 1:] == 64).all() and bool((rows[:, 0] > 0).all())
    for part in (batch[:1], batch[5:6], batch[:7].flip(0)):
        at = [int((batch == p).flatten(1).all(1).nonzero()[0]) for p in part]
        torch.testing.assert_close(generator.likelihood(part), rows[at], rtol=1e-5, atol=1e-3)
    assert torch.equal(generator.likelihood(batch), rows)


@pytest.mark.parametrize("name", LIKELY)
def test_real_images_are_likelier_than_shuffled_pixels_and_these_than_noise(name: str) -> None:
    generator, batch = fitted(name), prepared(name)
    if name == "pixelcnn":
        # Ten steps do not tell one arrangement of the same pixels from another.
        generator = make(name, steps=60)
        generator.fit(data_for(name), seed=0)
    rng = torch.Generator().manual_seed(0)
    shuffled = batch.flatten(1)[:, torch.randperm(64, generator=rng)].view_as(batch)
    noise = torch.randint(17, batch.shape, generator=rng, dtype=torch.uint8)
    real, mixed, random = (float(generator.likelihood(b)[:, 0].mean()) for b in (batch, shuffled, noise))
    assert real < mixed < random
    # Better than knowing nothing: log2 17 bits for every pixel.
    assert real < 64 * math.log(17)


@pytest.mark.parametrize("name", LIKELY)
def test_another_size_and_an_unfitted_model_are_refused(name: str) -> None:
    with pytest.raises(BadSource, match="8x8 images, this is 5x4"):
        fitted(name).prepare(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(BadSetting, match="learned nothing yet"):
        make(name).prepare(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_the_chances_of_all_images_sum_to_one(name: str) -> None:
    generator = make(name)
    generator.fit(toy_set(), seed=0)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)), dtype=torch.uint8).view(81, 1, 2, 2)
    p = (-generator.likelihood(every)[:, 0].double()).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-4)
    assert float(p.max()) > 2 * float(p.min())


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_samples_come_as_often_as_their_likelihood_says(name: str) -> None:
    generator = make(name)
    generator.fit(toy_set(), seed=0)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)), dtype=torch.uint8).view(81, 1, 2, 2)
    p = (-generator.likelihood(every)[:, 0].double()).exp().numpy()
    drawn = [generator.prepare(x).flatten().tolist() for x in pixels_of(generator, 3000)]
    counts = np.bincount([int("".join(map(str, d)), 3) for d in drawn], minlength=81)
    # Each count within five standard deviations of what its probability says.
    assert (np.abs(counts - 3000 * p) < 5 * np.sqrt(3000 * p) + 3).all()


@pytest.mark.parametrize("name", LIKELY)
def test_larger_colour_images_without_labels_train_sample_and_have_a_likelihood(name: str) -> None:
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 255, 18)[None, :, None, None] * rng.random((12, 1, 1, 3))
    pixels = np.broadcast_to(ramp + rng.random((12, 18, 17, 3)) * 9, (12, 18, 17, 3)).clip(0, 255).astype(np.uint8)
    generator = make(name, **({} if name == "markov_field" else {"steps": 2}))
    generator.fit(image_set(pixels), seed=0)
    made = pixels_of(generator, 2)
    assert made.shape == (2, 18, 17, 3) and len(np.unique(made)) > 64
    rows = generator.likelihood(torch.stack([generator.prepare(p) for p in pixels[:2]]))
    assert (rows[:, 1:] == 18 * 17 * 3).all() and bool(rows.isfinite().all())


# ---------------------------------------------------------------------------------------------- pixel by pixel


@pytest.mark.parametrize("name", ["pixelcnn", "pixelrnn"])
@pytest.mark.parametrize("look", [COLOUR, Look(5, 4, 1, (0, 90, 255), 0, ())], ids=["colour", "grey"])
def test_a_pixel_sees_what_is_before_it_and_nothing_else(name: str, look: Look) -> None:
    net, (c, h, w) = net_of(name, look), look.shape
    labels = torch.zeros(1, dtype=torch.long)
    J = torch.autograd.functional.jacobian(lambda x: net(x, labels).sum(1), torch.randn(1, *look.shape))
    # Reading order: row, column, colour.
    J = J[0, :, :, :, 0].permute(1, 2, 0, 4, 5, 3).reshape(c * h * w, c * h * w)
    assert (J.triu() == 0).all()
    assert (J.tril(-1) != 0).any(1)[1:].all()
    # No blind spot: within reach (two rows), the pixel above to the right counts as the one above to the left does.
    at = ((2 * w) + 1) * c
    assert (J[at, (w + 2) * c : (w + 3) * c] != 0).all() and (J[at, w * c : (w + 1) * c] != 0).all()


@pytest.mark.parametrize("name", ["pixelcnn", "pixelrnn"])
@pytest.mark.parametrize("look", [COLOUR, TOY], ids=["colour", "grey"])
def test_drawing_pixel_by_pixel_reads_the_logits_of_the_full_pass(name: str, look: Look) -> None:
    net, (c, h, w), V = net_of(name, look), look.shape, len(look.values)
    indices = torch.randint(V, (6, c, h, w), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1] * 3)
    forced = iter(indices.permute(2, 3, 1, 0).reshape(-1, 6))
    seen: list[torch.Tensor] = []

    def choose(logits: torch.Tensor) -> torch.Tensor:
        seen.append(logits)
        return next(forced)

    with torch.no_grad():
        assert torch.equal(net.draw(labels, choose), indices)
        full = net(net.values[indices], labels)
    stepped = torch.stack(seen, 2).view(6, V, h, w, c).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(stepped, full, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["pixelcnn", "pixelrnn"])
def test_a_low_temperature_draws_likelier_images(name: str) -> None:
    def mean_nats(temperature: float) -> float:
        generator = make_from(name, temperature=temperature)
        return float(
            generator.likelihood(torch.stack([generator.prepare(x) for x in pixels_of(generator, 40)]))[:, 0].mean()
        )

    assert class_of(name)(temperature=0.5).recipe == class_of(name)().recipe
    assert mean_nats(0.2) < mean_nats(1.0) - 2


def test_the_markov_table_of_a_checkerboard_by_hand() -> None:
    """Eight images of black left and white right column: counts are eight of eight everywhere."""
    pixels = np.zeros((8, 2, 2, 3), np.uint8)
    pixels[:, :, 1] = 255
    generator = make("markov_field", levels=2, smoothing=0.5)
    generator.fit(image_set(pixels), seed=0)
    # p = (c + a V b) / (n + a V), b = (8 + .5) / (8 + 1), a V = 1.
    p = (8 + 8.5 / 9) / 9
    nats = generator.likelihood(generator.prepare(pixels[0])[None])[0, 0]
    assert float(nats) == pytest.approx(-4 * math.log(p), rel=1e-5)


def test_the_markov_table_of_large_images_is_bounded() -> None:
    from generators.markov_field import MOST_ENTRIES, Table

    table = Table(Look(64, 64, 3, (), 0, tuple("abcdefghij")), 5)
    places = {int(table.place(torch.tensor(i), torch.tensor(j))) for i in range(64) for j in range(64)}
    assert places == set(range(table.log_p.shape[2]))
    assert table.log_p.numel() <= MOST_ENTRIES or len(places) == 1
    assert Table(Look(8, 8, 1, tuple(range(17)), 0, tuple("abcdefghij")), 5).log_p.numel() == 272_000


# ---------------------------------------------------------------------------------------------- the flow


def flow(look: Look) -> Flow:
    torch.manual_seed(0)
    net = Flow(look, 16, 6).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.15 * torch.randn(p.shape))
    return net


@pytest.mark.parametrize(
    "look", [Look(3, 2, 1, (0, 255), 0, ("a", "b")), Look(17, 3, 3, (), 0, ())], ids=["mlp", "conv"]
)
def test_the_flow_inverts_and_its_log_det_is_autograds(look: Look) -> None:
    net, labels = flow(look), torch.zeros(1, dtype=torch.long)
    y = torch.randn(1, *look.shape, dtype=torch.float64)
    z, log_det = net(y, labels)
    torch.testing.assert_close(net.inverse(z, labels), y, rtol=0, atol=1e-5)
    assert float((z - y).detach().abs().max()) > 0.1
    d = math.prod(look.shape)
    J = torch.autograd.functional.jacobian(lambda v: net(v, labels)[0], y).view(d, d)
    assert float(log_det.detach()) == pytest.approx(float(torch.linalg.slogdet(J)[1]), abs=1e-5)


def test_the_flows_density_integrates_to_one() -> None:
    net = flow(Look(1, 2, 1, (0, 255), 0, ()))
    side = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side).view(-1, 1, 1, 2)
    p = net.log_density(grid, torch.zeros(len(grid), dtype=torch.long)).exp()
    assert float(p.detach().sum() * (side[1] - side[0]) ** 2) == pytest.approx(1, abs=0.01)


def test_the_logit_inverts_and_its_log_det_is_autograds() -> None:
    u = torch.tensor([[0.0, 0.3, 0.5, 1.0]], dtype=torch.float64)
    y, log_det = to_logit(u)
    torch.testing.assert_close(from_logit(y), u)
    J = torch.autograd.functional.jacobian(lambda v: to_logit(v)[0], u).view(4, 4)
    assert float(log_det) == pytest.approx(float(J.diagonal().log().sum()))


def test_a_coupling_leaves_what_its_mask_shows_and_masks_alternate() -> None:
    look = Look(4, 4, 3, (0, 255), 0, ())
    coupling = Coupling(look, 16, 2)
    torch.nn.init.normal_(coupling.body[-1].weight)
    x = torch.randn(5, 3, 4, 4)
    y, _ = coupling(x, torch.zeros(5, dtype=torch.long))
    shown = checkerboard(look, 2).bool().expand_as(x)
    assert torch.equal(y[shown], x[shown]) and bool((y[~shown] != x[~shown]).all())
    for at in (0, 2, 4):
        assert torch.equal(checkerboard(look, at) + checkerboard(look, at + 1), torch.ones(3, 4, 4))


def test_the_flows_estimate_is_near_the_mass_of_a_fine_grid_of_its_cells() -> None:
    """On images of two pixels and three levels the nine cells can be integrated, and all chances sum to nearly one."""
    rng = np.random.default_rng(0)
    column = rng.choice(np.array([0, 100, 255], np.uint8), (60, 1))
    pixels = np.repeat(np.stack([column, 255 - column // 2 * 2], 2), 3, 2).reshape(60, 1, 2, 3)
    generator = make("realnvp", steps=200)
    generator.fit(image_set(pixels), seed=0)
    look, net = generator._look, generator._net
    V = len(look.values)
    every = torch.tensor(list(itertools.product(range(V), repeat=2)), dtype=torch.uint8).view(-1, 1, 1, 2)
    estimated = (-generator.likelihood(every)[:, 0]).exp()
    at = (torch.arange(30) + 0.5) / 30
    noise = torch.cartesian_prod(at, at).view(-1, 1, 1, 2)
    exact = []
    for cell in every:
        y, log_det = to_logit((cell + noise) / V)
        labels = torch.zeros(len(y), dtype=torch.long)
        exact.append(float((net.log_density(y, labels) + log_det - 2 * math.log(V)).exp().mean().detach()))
    assert sum(exact) <= 1.001
    assert float(estimated.sum()) == pytest.approx(sum(exact), abs=0.4)
    assert np.corrcoef(estimated.numpy(), exact)[0, 1] > 0.8


def test_a_decoded_code_is_the_flows_sample_before_rounding() -> None:
    generator = fitted("realnvp")
    z = torch.randn(24, generator.latent_size, generator=torch.Generator().manual_seed(7))
    decoded = generator.decode(z)
    assert (generator._look.render(decoded[:, :1] / 255) == pixels_of(generator, 24, seed=7)).all()
    inside = decoded[(decoded > 0) & (decoded < 255)]
    assert float((inside == inside.round()).float().mean()) < 0.01
