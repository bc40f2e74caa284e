"""Images from the first GAN: two plain MLPs against each other, no classes, and it shows.

- The game of Goodfellow et al. 2014 (eq. 1) with its non-saturating loss (sec. 3): G maximises log D(G(z)), written
  through softplus of D's logit.
- No class enters either network, so a sample has no label and which classes come, and how often, is left to G: an
  uneven mix and lost classes are this family's signature.
- An MLP at every size, as in the paper; `dcgan` is the same game with convolutions.
- Gaussian noise on what D sees, annealed to zero (Sonderby et al. 2016), and an average of G's weights for sampling
  (Yazici et al. 2018): without the two, quality swings by a factor of two between checkpoints. Batch norm in G and
  Adam instead of maxout, dropout and momentum are our other departures from the paper.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Batch, Control, Progress

from ._images import CodeFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

LATENT = 32
BATCH = 64
EMA_DECAY = 0.99
NOISE = 0.3


class Generator(nn.Module):
    """G(z): latent [B, 32] -> image in -1..1 [B, C, H, W]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(LATENT, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, math.prod(look.shape)),
            nn.Tanh(),
            nn.Unflatten(1, look.shape),
        )

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.body(z)
        return x


class Discriminator(nn.Module):
    """D(x): image in -1..1 [B, C, H, W] -> logit of "real" [B]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        # No batch norm here: one layer of it would let D compare the samples of a batch, and real and fake share one.
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(look.shape), width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
            nn.Flatten(0),
        )

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.body(x)
        return logit


class VanillaGan(CodeFamily):
    """Unconditional GAN of two MLPs for images up to 64x64."""

    name = "vanilla_gan"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 6000, "training steps", 1, 1_000_000),
        Control("learning_rate", 4e-4, "step size of Adam for both networks", 1e-7, 1000),
        Control("width", 128, "hidden units of both networks", 16, 1024),
    )

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate, width = (
            int(self._settings["steps"]),
            float(self._settings["learning_rate"]),
            int(self._settings["width"]),
        )
        x = (x * 2 - 1).to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            G, D = Generator(look, width).to(device), Discriminator(look, width).to(device)
            G_ema = Ema(G, EMA_DECAY)
            G_adam = torch.optim.Adam(G.parameters(), rate, betas=(0.5, 0.999), fused=True)
            D_adam = torch.optim.Adam(D.parameters(), rate, betas=(0.5, 0.999), fused=True)
            good = LastGood(G_ema.net)
            for step in range(steps):
                real = x[torch.randint(len(x), (BATCH,), generator=rng)]
                fake = G(torch.randn(BATCH, LATENT, generator=rng).to(device))
                sigma = NOISE * (1 - step / steps)

                def blurred(images: Tensor, sigma: float = sigma) -> Tensor:
                    return images + sigma * torch.randn(images.shape, generator=rng).to(device)

                logits = D(torch.cat([blurred(real), blurred(fake.detach())]))
                D_loss = F.softplus(-logits[:BATCH]).mean() + F.softplus(logits[BATCH:]).mean()
                descend(D_loss, D_adam, self.name, step, good)
                G_loss = F.softplus(-D(blurred(fake))).mean()
                descend(G_loss, G_adam, self.name, step, good)
                G_ema.update(G)
                advance(1)
        return G_ema.net

    def _build(self, look: Look) -> nn.Module:
        return Generator(look, int(self._settings["width"]))

    @property
    def latent_size(self) -> int:
        return LATENT

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        # No class was asked for, so no label is given.
        return Batch(super()._draw(start, count, rng).items)

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        x: Tensor = self._net(z)
        return (x + 1) / 2
