"""Images from a Wasserstein GAN with gradient penalty: a critic that scores instead of judging, held to slope one.

- The critic f estimates the earth mover's distance E f(real) - E f(fake) over 1-Lipschitz f (Arjovsky et al. 2017,
  eq. 2). The slope is held at one by lambda (|grad f(x_hat)| - 1)^2 on straight lines between real and fake, lambda =
  10 (Gulrajani et al. 2017, eq. 3), instead of clipping weights.
- No batch norm in the critic (sec. 4): the penalty is on the gradient of each input by itself, which batch norm mixes.
- Adam with beta = (0, 0.9) (Algorithm 1). The critic takes 3 steps for one of G; the paper takes 5.
- The class enters both networks as a one-hot vector y. A line joins a real and a fake image of one class, so that x_hat
  has a class too.
- Up to 16x16 pixels a plain MLP; above, transposed convolutions and a critic with a projection of y
  (Miyato & Koyama 2018). An average of G's weights for sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Control, Progress

from ._images import CodeFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

LATENT = 32
BATCH = 64
EMA_DECAY = 0.99


def gradient_penalty(f: Callable[[Tensor, Tensor], Tensor], x_hat: Tensor, y: Tensor) -> Tensor:
    """Mean of (|grad f(x_hat, y)| - 1)^2 over a batch [B, C, H, W], differentiable; Gulrajani et al. 2017, eq. 3."""
    x_hat = x_hat.detach().requires_grad_()
    (grad,) = torch.autograd.grad(f(x_hat, y).sum(), x_hat, create_graph=True)
    # + 1e-12: the slope of a root is infinite at a gradient of exactly zero.
    norm = (grad.flatten(1).square().sum(1) + 1e-12).sqrt()
    return (norm - 1).square().mean()


def halvings(look: Look) -> int:
    """How often a side is halved between image and dense layer: down to 8 pixels or fewer."""
    return 2 if max(look.height, look.width) <= 32 else 3


class Generator(nn.Module):
    """G(z, y): latent [B, 32] and one-hot class [B, K] -> image in -1..1 [B, C, H, W]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        _, self.height, self.width = look.shape
        inputs = LATENT + look.kinds
        self.body = self._mlp(look, inputs, width) if look.is_small else self._conv(look, inputs, width // 2)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        # The convolutions make the next multiple of the stride; the rest is cut off.
        x: Tensor = self.body(torch.cat([z, y], 1))
        return x[:, :, : self.height, : self.width]

    def _mlp(self, look: Look, inputs: int, width: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, math.prod(look.shape)),
            nn.Tanh(),
            nn.Unflatten(1, look.shape),
        )

    def _conv(self, look: Look, inputs: int, width: int) -> nn.Module:
        times = halvings(look)
        low = -(-look.height // 2**times), -(-look.width // 2**times)
        layers: list[nn.Module] = [
            nn.Linear(inputs, width * low[0] * low[1], bias=False),
            nn.Unflatten(1, (width, *low)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for _ in range(times - 1):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width // 2),
                nn.ReLU(),
            ]
            width //= 2
        return nn.Sequential(*layers, nn.ConvTranspose2d(width, look.channels, 4, 2, 1), nn.Tanh())


class Critic(nn.Module):
    """f(x, y): image in -1..1 [B, C, H, W] and one-hot class [B, K] -> score [B], higher is more real."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        self.is_small = look.is_small
        if look.is_small:
            self.body = nn.Sequential(
                nn.Linear(math.prod(look.shape) + look.kinds, width),
                nn.LeakyReLU(0.2),
                nn.Linear(width, width),
                nn.LeakyReLU(0.2),
                nn.Linear(width, 1),
            )
            return
        times, wide = halvings(look), width // 4
        # Odd sides are filled up with their last row or column, so that no halving loses one.
        self.fill = 0, -look.width % 2**times, 0, -look.height % 2**times
        layers: list[nn.Module] = [nn.Conv2d(look.channels, wide, 4, 2, 1), nn.LeakyReLU(0.2)]
        for _ in range(times - 1):
            layers += [nn.Conv2d(wide, 2 * wide, 4, 2, 1), nn.LeakyReLU(0.2)]
            wide *= 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        inner = wide * -(-look.height // 2**times) * -(-look.width // 2**times)
        self.score = nn.Linear(inner, 1)
        self.embed = nn.Linear(look.kinds, inner, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.is_small:
            score: Tensor = self.body(torch.cat([x.flatten(1), y], 1))
            return score.squeeze(1)
        phi: Tensor = self.body(F.pad(x, self.fill, mode="replicate"))
        # Divided by the root of its length: a sum over thousands of features would drown the rest.
        out: Tensor = self.score(phi).squeeze(1) + (self.embed(y) * phi).sum(1) / math.sqrt(phi.shape[1])
        return out


class WganGp(CodeFamily):
    """Class-conditional Wasserstein GAN with gradient penalty for images up to 64x64."""

    name = "wgan_gp"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 2000, "training steps of the generator", 1, 1_000_000),
        Control("learning_rate", 5e-4, "step size of Adam for both networks", 1e-7, 1000),
        Control("width", 128, "hidden units of both networks, in multiples of 8", 16, 1024),
        Control("n_critic", 3, "critic steps for one of the generator", 1, 20),
        Control("penalty", 10.0, "lambda, weight of the gradient penalty", 0, 1000),
    )

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        n_critic, penalty = int(self._settings["n_critic"]), float(self._settings["penalty"])
        x, onehot = (x * 2 - 1).to(device), F.one_hot(labels, look.kinds).float().to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            G, f = self._build(look).to(device), Critic(look, self._units).to(device)
            G_ema = Ema(G, EMA_DECAY)
            G_adam = torch.optim.Adam(G.parameters(), rate, betas=(0.0, 0.9), fused=True)
            f_adam = torch.optim.Adam(f.parameters(), rate, betas=(0.0, 0.9), fused=True)
            good = LastGood(G_ema.net)
            for step in range(steps):
                for _ in range(n_critic):
                    rows = torch.randint(len(x), (BATCH,), generator=rng)
                    real, y = x[rows], onehot[rows]
                    with torch.no_grad():
                        fake = G(torch.randn(BATCH, LATENT, generator=rng).to(device), y)
                    epsilon = torch.rand(BATCH, 1, 1, 1, generator=rng).to(device)
                    x_hat = epsilon * real + (1 - epsilon) * fake
                    f_loss = f(fake, y).mean() - f(real, y).mean() + penalty * gradient_penalty(f, x_hat, y)
                    descend(f_loss, f_adam, self.name, step, good)
                y = onehot[torch.randint(len(x), (BATCH,), generator=rng)]
                G_loss = -f(G(torch.randn(BATCH, LATENT, generator=rng).to(device), y), y).mean()
                descend(G_loss, G_adam, self.name, step, good)
                G_ema.update(G)
                advance(1)
        return G_ema.net

    @property
    def _units(self) -> int:
        return int(self._settings["width"]) // 8 * 8

    def _build(self, look: Look) -> nn.Module:
        return Generator(look, self._units)

    @property
    def latent_size(self) -> int:
        return LATENT

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        x: Tensor = self._net(z, F.one_hot(labels, self._look.kinds).float())
        return (x + 1) / 2
