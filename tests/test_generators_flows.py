"""Rectified flow and latent diffusion: exact on fields known by hand, right on a Gaussian, codes normalised."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evalkit.errors import RunFailed
from evalkit.types import Latent
from generators._denoisers import Mlp, guided
from generators._training import LastGood
from generators.diffusion import target
from generators.flow_matching import integrate, line_loss

from .quick import data_for, drawn, fitted, make, make_from, one_line, pixels_of
from .test_generators_diffusion import noise

# ---------------------------------------------------------------------------------------------- flow matching


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 7])
def test_a_constant_velocity_is_followed_exactly(solver: str, steps: int) -> None:
    x, v = noise(6, 2).double(), torch.tensor([3.0, -1.0]).double()
    torch.testing.assert_close(integrate(lambda x, i: v.expand_as(x), x, steps, solver), x + v)


def test_solvers_on_a_curved_field_are_as_exact_as_their_order() -> None:
    """dx/dt = x takes 1 to e: Euler to (1 + h)^n, Heun to (1 + h + h^2 / 2)^n; dx/dt = 2t takes 0 to 1."""
    one = torch.ones(1).double()
    euler, heun = (float(integrate(lambda x, i: x, one, 10, solver)) for solver in ("euler", "heun"))
    assert euler == pytest.approx(1.1**10)
    assert heun == pytest.approx(1.105**10)
    assert abs(heun - math.e) < abs(euler - math.e) / 20
    asked: list[int] = []

    def twice_t(x: Tensor, i: int) -> Tensor:
        asked.append(i)
        return torch.full_like(x, 2 * i / 4)

    assert float(integrate(twice_t, 0 * one, 4, "heun")) == pytest.approx(1)
    assert asked == [0, 1, 1, 2, 2, 3, 3, 4]
    assert float(integrate(twice_t, 0 * one, 4, "euler")) == pytest.approx(0.75)


def test_the_true_field_of_a_gaussian_carries_noise_onto_it() -> None:
    """N(0, 1) to N(m, s^2): the mean velocity is m + (t s^2 - (1 - t)) (x - t m) / ((1 - t)^2 + t^2 s^2)."""
    m, s, n = 2.0, 0.5, 200

    def velocity(x: Tensor, i: int) -> Tensor:
        t = i / n
        return m + (t * s**2 - (1 - t)) / ((1 - t) ** 2 + (t * s) ** 2) * (x - t * m)

    x0 = noise(50).double()
    torch.testing.assert_close(integrate(velocity, x0, n, "heun"), m + s * x0, rtol=0, atol=1e-3)


def test_a_learnt_flow_has_the_mean_and_covariance_of_what_it_learnt() -> None:
    mean, factor = torch.tensor([0.5, -1.0]), torch.tensor([[0.6, 0.0], [0.3, 0.4]])
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net, none = Mlp((2,), 0, 64), torch.zeros(128).long()
    adam = torch.optim.Adam(net.parameters(), 2e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 300)
    for _ in range(300):
        x1 = mean + torch.randn(128, 2, generator=rng) @ factor.T
        adam.zero_grad()
        line_loss(net, x1, none, rng).backward()
        adam.step()
        falling.step()
    with torch.inference_mode():
        answer = guided(net, 1000 * torch.arange(21) / 20, torch.zeros(4000).long(), 0, 1.0)
        x = integrate(answer, torch.randn(4000, 2, generator=rng), 20, "heun")
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.07)
    torch.testing.assert_close(x.T.cov(), factor @ factor.T, rtol=0, atol=0.06)


def test_heun_asks_the_network_twice_and_ends_elsewhere_but_near() -> None:
    calls: list[int] = []
    generator = make_from("flow_matching", solver="heun", steps=20)
    generator._net.register_forward_hook(lambda *_: calls.append(1))
    z = noise(8, 64)
    heun = generator.decode(z)
    assert len(calls) == 40
    euler, fine = (make_from("flow_matching", steps=steps).decode(z) for steps in (20, 160))
    assert 0 < float((heun - fine).abs().mean()) < float((euler - fine).abs().mean())


# ---------------------------------------------------------------------------------------------- latent


@pytest.mark.parametrize("name", ["flow_matching", "latent_diffusion"])
def test_a_decoded_code_is_the_sample_before_rounding(name: str) -> None:
    generator = fitted(name)
    assert isinstance(generator, Latent)
    z = noise(24, generator.latent_size, seed=7)
    decoded = generator.decode(z)
    assert decoded.shape == (24, 3, 8, 8) and not decoded.requires_grad
    assert (generator._look.render(decoded[:, :1] / 255) == pixels_of(generator, 24, seed=7)).all()
    moved = generator.decode(z + 0.5)
    assert float((moved - decoded).abs().mean()) > 0.1


def test_codes_are_normalised_over_the_training_set() -> None:
    generator = fitted("latent_diffusion")
    x = torch.from_numpy(np.stack([s.load() for s in data_for("latent_diffusion")])[..., :1]).permute(0, 3, 1, 2) / 255
    net = generator._net
    with torch.no_grad():
        mean, log_variance = net.autoencoder.encode(x, torch.ones(len(x), 1))
        code = mean + (log_variance / 2).exp() * noise(*mean.shape)
        code = (code - net.mean) / net.std
    assert float(code.mean(0).abs().max()) < 0.15
    assert float(code.std(0).min()) > 0.9 and float(code.std(0).max()) < 1.1


def test_a_diverged_latent_diffusion_is_its_last_sound_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage one leaves nothing that draws; stage two leaves the weights of fewer steps."""
    generator = make("latent_diffusion", learning_rate=1000)
    with pytest.raises(RunFailed, match=r"latent_diffusion's autoencoder diverged.*at step") as error:
        generator.fit(data_for("latent_diffusion"), seed=0)
    assert one_line(error) and generator.trained_on == ""
    monkeypatch.setattr(LastGood, "EVERY", 10)
    calls, real = [], target

    def turning_bad(*given):
        calls.append(1)
        return real(*given) * (math.nan if len(calls) > 25 else 1.0)

    monkeypatch.setattr("generators.latent_diffusion.target", turning_bad)
    generator = make("latent_diffusion")
    with pytest.raises(RunFailed, match="at step 26"):
        generator.fit(data_for("latent_diffusion"), seed=0)
    assert generator.trained_on == data_for("latent_diffusion").digest
    assert len(drawn(generator, 3)[0]) == 3
