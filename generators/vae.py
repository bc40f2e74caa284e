"""Images from a class-conditional variational autoencoder: every class found, edges blurred.

- Loss = summed binary cross-entropy + KL, both in nats an image (Kingma & Welling 2014, eq. 10). The *sum* over pixels
  matters: with their mean the KL term wins and the decoder ignores z.
- The class enters encoder and decoder as a one-hot vector y (Sohn et al. 2015), so z carries style only.
- A sample is the decoder's mean for z ~ N(0, I), as usual. Blur is this family's signature.
- Up to 16x16 pixels a plain MLP; above, two or three strided convolutions each way.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Control, Progress

from ._images import CodeFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

EMA_DECAY = 0.99
BATCH = 64


class Autoencoder(nn.Module):
    """q(z|x, y) and p(x|z, y) for images in 0..1 [B, C, H, W] and one-hot classes [B, K]."""

    def __init__(self, look: Look, width: int, latent: int) -> None:
        super().__init__()
        self.shape, self.latent = look.shape, latent
        if look.is_small:
            self._mlp(look, width)
        else:
            self._conv(look, width // 4)

    def _mlp(self, look: Look, width: int) -> None:
        c, h, w = look.shape
        self.encoder = nn.Sequential(nn.Flatten())
        self.to_moments = nn.Sequential(
            nn.Linear(c * h * w + look.kinds, width), nn.ReLU(), nn.Linear(width, 2 * self.latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(self.latent + look.kinds, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, c * h * w),
            nn.Unflatten(1, (c, h, w)),
        )

    def _conv(self, look: Look, width: int) -> None:
        c, h, w = look.shape
        halvings = 2 if max(h, w) <= 32 else 3
        low = (-(-h // 2**halvings), -(-w // 2**halvings))
        down: list[nn.Module] = [nn.Conv2d(c, width, 3, 2, 1), nn.ReLU()]
        up: list[nn.Module] = [nn.ConvTranspose2d(width, c, 4, 2, 1)]
        for _ in range(halvings - 1):
            down += [nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()]
            up = [nn.ConvTranspose2d(width, width, 4, 2, 1), nn.ReLU(), *up]
        flat = width * low[0] * low[1]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.to_moments = nn.Sequential(nn.Linear(flat + look.kinds, 2 * self.latent))
        start = [nn.Linear(self.latent + look.kinds, flat), nn.ReLU(), nn.Unflatten(1, (width, *low))]
        self.decoder = nn.Sequential(*start, *up)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x, y), each [B, latent]."""
        moments: Tensor = self.to_moments(torch.cat([self.encoder(x), y], 1))
        mean, log_variance = moments.chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Logits of the mean of p(x|z, y), [B, C, H, W]."""
        x: Tensor = self.decoder(torch.cat([z, y], 1))
        return x[:, :, : self.shape[1], : self.shape[2]]


class Vae(CodeFamily):
    """Class-conditional variational autoencoder for images up to 64x64."""

    name = "vae"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 3000, "training steps", 1, 1_000_000),
        Control("learning_rate", 2e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 256, "hidden units of encoder and decoder", 16, 1024),
        Control("latent", 12, "numbers in the code z", 1, 256),
    )

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        x, onehot = x.to(device), F.one_hot(labels, look.kinds).float().to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            net = self._build(look).to(device)
            ema = Ema(net, EMA_DECAY)
            adam = torch.optim.Adam(net.parameters(), rate, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 20)
            good = LastGood(ema.net)
            for step in range(steps):
                rows = torch.randint(len(x), (BATCH,), generator=rng)
                real, y = x[rows], onehot[rows]
                mean, log_variance = net.encode(real, y)
                epsilon = torch.randn(mean.shape, generator=rng).to(device)
                z = mean + (0.5 * log_variance).exp() * epsilon
                bce = F.binary_cross_entropy_with_logits(net.decode(z, y), real, reduction="sum") / BATCH
                kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / BATCH
                loss = bce + kl
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _build(self, look: Look) -> Autoencoder:
        return Autoencoder(look, int(self._settings["width"]), int(self._settings["latent"]))

    @property
    def latent_size(self) -> int:
        return int(self._settings["latent"])

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(self._net, Autoencoder)
        return self._net.decode(z, F.one_hot(labels, self._look.kinds).float()).sigmoid()
