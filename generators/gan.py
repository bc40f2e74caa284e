"""Images from a class-conditional GAN: two networks against each other, sharp samples in one pass.

- Non-saturating loss through softplus (Goodfellow et al. 2014, sec. 3): G maximises log D(G(z)).
- The class enters both networks as a one-hot vector y (Mirza & Osindero 2014); without it in D, G may ignore it.
- Gaussian noise on what D sees, annealed to zero (Sonderby et al. 2016), and an average of G's weights for sampling
  (Yazici et al. 2018): without the two, quality swings by a factor of two between checkpoints.
- A detector may be an extra critic (`critic`): from half of the training on it is shown samples six times and learns to
  tell them, and G also lowers its log-odds of fake. It sees samples snapped to the training levels; the gradient passes
  straight through (Bengio et al. 2013).
- Up to 16x16 pixels a plain MLP; above, transposed convolutions as in DCGAN (Radford et al. 2015) and a projection
  discriminator (Miyato & Koyama 2018).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting
from evalkit.types import Control, Critic, Progress

from ._images import CodeFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

LATENT = 32
EMA_DECAY = 0.995
NOISE = 0.3
# How often a critic learns again, and from how many samples.
ROUNDS, SHOWN = 6, 384


class Generator(nn.Module):
    """G(z, y): latent [B, 32] and one-hot class [B, K] -> image in -1..1 [B, C, H, W]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        self.shape = look.shape
        inputs = LATENT + look.kinds
        self.body = self._mlp(inputs, width) if look.is_small else self._conv(inputs, width // 2)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        c, h, w = self.shape
        x: Tensor = self.body(torch.cat([z, y], 1))
        # The convolutions make the next multiple of the stride; the rest is cut off.
        return x.view(-1, c, h, w) if x.dim() == 2 else x[:, :, :h, :w]

    def _mlp(self, inputs: int, width: int) -> nn.Module:
        c, h, w = self.shape
        return nn.Sequential(
            nn.Linear(inputs, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, c * h * w),
            nn.Tanh(),
        )

    def _conv(self, inputs: int, width: int) -> nn.Module:
        c, h, w = self.shape
        doublings = 2 if max(h, w) <= 32 else 3
        low, wide = (-(-h // 2**doublings), -(-w // 2**doublings)), width
        layers: list[nn.Module] = [
            nn.Linear(inputs, wide * low[0] * low[1], bias=False),
            nn.Unflatten(1, (wide, *low)),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        ]
        for _ in range(doublings - 1):
            layers += [nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(wide // 2), nn.ReLU()]
            wide //= 2
        return nn.Sequential(*layers, nn.ConvTranspose2d(wide, c, 4, 2, 1), nn.Tanh())


class Discriminator(nn.Module):
    """D(x, y): image in -1..1 [B, C, H, W] and one-hot class [B, K] -> logit of "real" [B]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        self.is_small = look.is_small
        c, h, w = look.shape
        if self.is_small:
            self.body = nn.Sequential(
                nn.Linear(c * h * w + look.kinds, width),
                nn.LeakyReLU(0.2),
                nn.Linear(width, width),
                nn.LeakyReLU(0.2),
                nn.Linear(width, 1),
            )
        else:
            base = width // 4
            self.body = nn.Sequential(
                nn.Conv2d(c, base, 4, 2, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(base, 2 * base, 4, 2, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(2 * base, 4 * base, 4, 2, 1),
                nn.LeakyReLU(0.2),
            )
            self.score = nn.Linear(4 * base, 1)
            self.embed = nn.Linear(look.kinds, 4 * base, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.is_small:
            logit: Tensor = self.body(torch.cat([x.flatten(1), y], 1))
            return logit.squeeze(1)
        phi: Tensor = self.body(x).mean((2, 3))
        out: Tensor = self.score(phi).squeeze(1) + (self.embed(y) * phi).sum(1)
        return out


class Gan(CodeFamily):
    """Class-conditional GAN for images up to 64x64."""

    name = "gan"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 3600, "training steps", 1, 1_000_000),
        Control("learning_rate", 4e-4, "step size of Adam for both networks", 1e-7, 1000),
        Control("width", 128, "hidden units of both networks", 16, 1024),
        Control("critic", "", "a detector as an extra critic, such as cnn; empty is none"),
        Control("critic_weight", 0.05, "share of the critic in G's loss", 0, 100),
    )
    _critic: Critic | None = None

    def take_critic(self, critic: Critic) -> None:
        """Train against this detector too, the one that the control `critic` names."""
        self._critic = critic

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate, width = (
            int(self._settings["steps"]),
            float(self._settings["learning_rate"]),
            int(self._settings["width"]),
        )
        x, onehot = (x * 2 - 1).to(device), F.one_hot(labels, look.kinds).float().to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            G, D = Generator(look, width).to(device), Discriminator(look, width).to(device)
            G_ema = Ema(G, EMA_DECAY)
            G_adam = torch.optim.Adam(G.parameters(), rate, betas=(0.5, 0.999), fused=True)
            D_adam = torch.optim.Adam(D.parameters(), rate, betas=(0.5, 0.999), fused=True)
            good = LastGood(G_ema.net)
            rounds = self._rounds(steps)
            for step in range(steps):
                if step in rounds and self._critic is not None:
                    self._critic.watch(self._shown(look, G_ema.net, rng, device))
                rows = torch.randint(len(x), (64,), generator=rng)
                real, y = x[rows], onehot[rows]
                fake = G(torch.randn(64, LATENT, generator=rng).to(device), y)
                sigma = NOISE * (1 - step / steps)

                def blurred(images: Tensor, sigma: float = sigma) -> Tensor:
                    return images + sigma * torch.randn(images.shape, generator=rng).to(device)

                logits = D(torch.cat([blurred(real), blurred(fake.detach())]), torch.cat([y, y]))
                D_loss = F.softplus(-logits[:64]).mean() + F.softplus(logits[64:]).mean()
                descend(D_loss, D_adam, self.name, step, good)
                G_loss = F.softplus(-D(blurred(fake), y)).mean()
                if self._critic is not None and step >= steps // 2:
                    G_loss = G_loss + float(self._settings["critic_weight"]) * self._criticised(look, fake)
                descend(G_loss, G_adam, self.name, step, good)
                G_ema.update(G)
                advance(1)
        return G_ema.net

    def _rounds(self, steps: int) -> set[int]:
        """The steps at which the critic learns again; BadSetting for a critic that is named but not there."""
        if self._settings["critic"] and self._critic is None:
            raise BadSetting(f"gan.critic = {self._settings['critic']!r}: give the detector itself with take_critic")
        return {steps // 2 + i * (steps - steps // 2) // ROUNDS for i in range(ROUNDS)}

    def _shown(self, look: Look, G: nn.Module, rng: torch.Generator, device: str) -> npt.NDArray[np.uint8]:
        """Samples of the generator as it is now, as anybody would see them."""
        labels = look.cycle(0, SHOWN)
        with torch.no_grad():
            z = torch.randn(SHOWN, LATENT, generator=rng).to(device)
            return look.render((G(z, F.one_hot(labels, look.kinds).float().to(device)) + 1) / 2)

    def _criticised(self, look: Look, fake: Tensor) -> Tensor:
        """-log P(real) of samples in -1..1 by the critic; it sees them snapped, the gradient does not."""
        assert self._critic is not None
        x = (fake + 1) * 127.5
        seen = torch.from_numpy(look.render((fake + 1) / 2)).permute(0, 3, 1, 2).to(x)
        return F.softplus(self._critic(x + (seen - x).detach())).mean()

    def _build(self, look: Look) -> nn.Module:
        return Generator(look, int(self._settings["width"]))

    @property
    def latent_size(self) -> int:
        return LATENT

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        x: Tensor = self._net(z, F.one_hot(labels, self._look.kinds).float())
        return (x + 1) / 2
