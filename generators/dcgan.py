"""Images from a convolutional GAN: transposed convolutions and batch norm, the recipe that made GANs train.

- Radford et al. 2015, sec. 3: strided convolutions instead of pooling, batch norm in both networks but at G's output
  and D's input, ReLU and tanh in G, leaky ReLU in D, weights from N(0, 0.02), Adam with beta_1 = 0.5.
- Real and fake pass D's batch norm in batches of their own, as in the paper's code: in one batch each would see the
  other's statistics.
- Unconditional, as in the paper: a sample has no label. Non-saturating loss (Goodfellow et al. 2014, sec. 3).
- Below 16 pixels there is nothing to convolve: the networks then work on a copy enlarged 4 times (nearest), and a
  sample is the mean of each 4x4 block, so that it has the size of the data.
- An average of G's weights for sampling (Yazici et al. 2018), and twice the paper's learning rate for a short training,
  are our departures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Batch, Control, Progress

from ._images import CodeFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

LATENT = 64
BATCH = 64
EMA_DECAY = 0.99
ENLARGED = 4
SMALLEST = 16


def enlarged(look: Look) -> int:
    """How many times larger the networks work than the data: 4 below 16 pixels, else 1."""
    return ENLARGED if max(look.height, look.width) < SMALLEST else 1


def doublings(look: Look) -> int:
    """How often the networks double or halve a side: down to 8 pixels or fewer."""
    return 2 if max(look.height, look.width) <= 32 else 3


class Generator(nn.Module):
    """G(z): latent [B, 64] -> image in -1..1 [B, C, H, W]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        c, self.height, self.width = look.shape
        times = doublings(look)
        low = -(-look.height // 2**times), -(-look.width // 2**times)
        # "Project and reshape" (fig. 1): the only dense layer.
        layers: list[nn.Module] = [
            nn.Linear(LATENT, width * low[0] * low[1], bias=False),
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
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(width, c, 4, 2, 1), nn.Tanh())
        self.apply(initialise)

    def forward(self, z: Tensor) -> Tensor:
        # The convolutions make the next multiple of the stride; the rest is cut off.
        x: Tensor = self.body(z)
        return x[:, :, : self.height, : self.width]


class Discriminator(nn.Module):
    """D(x): image in -1..1 [B, C, H, W] -> logit of "real" [B]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        times = doublings(look)
        # Odd sides are filled up with their last row or column, so that no halving loses one.
        self.fill = 0, -look.width % 2**times, 0, -look.height % 2**times
        wide = width // 2 ** (times - 1)
        layers: list[nn.Module] = [nn.Conv2d(look.channels, wide, 4, 2, 1), nn.LeakyReLU(0.2)]
        for _ in range(times - 1):
            layers += [nn.Conv2d(wide, 2 * wide, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * wide), nn.LeakyReLU(0.2)]
            wide *= 2
        low = -(-look.height // 2**times) * -(-look.width // 2**times)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(wide * low, 1), nn.Flatten(0))
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.body(F.pad(x, self.fill, mode="replicate"))
        return logit


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), batch norm's scales from N(1, 0.02) (sec. 4)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


class Dcgan(CodeFamily):
    """Unconditional deep convolutional GAN for images up to 64x64."""

    name = "dcgan"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 1200, "training steps", 1, 1_000_000),
        Control("learning_rate", 4e-4, "step size of Adam for both networks", 1e-7, 1000),
        Control("width", 48, "channels where the image is smallest, in multiples of 8", 16, 512),
    )

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        times = enlarged(look)
        x = (x * 2 - 1).to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            G = self._build(look).to(device)
            D = Discriminator(self._worked(look), self._channels).to(device)
            G_ema = Ema(G, EMA_DECAY)
            G_adam = torch.optim.Adam(G.parameters(), rate, betas=(0.5, 0.999), fused=True)
            D_adam = torch.optim.Adam(D.parameters(), rate, betas=(0.5, 0.999), fused=True)
            good = LastGood(G_ema.net)
            for step in range(steps):
                rows = torch.randint(len(x), (BATCH,), generator=rng)
                real = F.interpolate(x[rows], scale_factor=float(times), mode="nearest")
                fake = G(torch.randn(BATCH, LATENT, generator=rng).to(device))
                D_loss = F.softplus(-D(real)).mean() + F.softplus(D(fake.detach())).mean()
                descend(D_loss, D_adam, self.name, step, good)
                # G's step needs no gradients of D's weights, which are a third of the work.
                D.requires_grad_(False)
                G_loss = F.softplus(-D(fake)).mean()
                descend(G_loss, G_adam, self.name, step, good)
                D.requires_grad_(True)
                G_ema.update(G)
                advance(1)
        return G_ema.net

    @property
    def _channels(self) -> int:
        return int(self._settings["width"]) // 8 * 8

    def _worked(self, look: Look) -> Look:
        """The look of the images the networks see."""
        times = enlarged(look)
        return replace(look, height=look.height * times, width=look.width * times)

    def _build(self, look: Look) -> nn.Module:
        return Generator(self._worked(look), self._channels)

    @property
    def latent_size(self) -> int:
        return LATENT

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        # No class was asked for, so no label is given.
        return Batch(super()._draw(start, count, rng).items)

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        x: Tensor = self._net(z)
        return (F.avg_pool2d(x, enlarged(self._look)) + 1) / 2
