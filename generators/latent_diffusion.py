"""Images from a latent diffusion model: an autoencoder finds a small code, a diffusion model learns to draw codes.

- First stage: the autoencoder of `vae` without classes, its KL term weighed down to `beta`, so that the code keeps what
  the image needs and only roughly has the shape of a Gaussian (Rombach et al. 2022, sec. 3.1).
- Codes are drawn from q(z|x) and normalised, number by number, by mean and standard deviation over the training set:
  diffusion's noise has variance 1, and a code of another scale is drowned in it or never is (sec. 4.1 and app. G).
- Second stage: class-conditional diffusion of codes by a residual MLP, which predicts v under the cosine schedule (see
  `diffusion`); DDIM with eta = 0 over `steps` times. A code has no range, so nothing is clipped.
- `guidance` w: answer = unconditional + w (conditional - unconditional) (Ho & Salimans 2022).
- Sampling costs what the code costs, not what the image costs: one decoder call for `steps` calls of a small network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting
from evalkit.types import Control, Progress

from ._area import area_resized
from ._denoisers import GuidedFamily, Mlp, dropped
from ._images import Look
from ._training import Ema, LastGood, announced, descend, isolated
from .diffusion import T, plan, schedule, target, times
from .vae import Autoencoder, elbo_loss

EMA_DECAY = 0.995
BATCH = 64
PREDICTION, SCHEDULE = "v", "cosine"


class LatentDenoiser(nn.Module):
    """Autoencoder, scale of its codes, and the denoiser of normalised codes."""

    mean: Tensor
    std: Tensor

    def __init__(self, look: Look, width: int, latent: int) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(replace(look, classes=()), width, latent)
        self.null = len(look.classes)
        self.denoiser = Mlp((latent,), self.null, width)
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("std", torch.ones(latent))

    def decode(self, code: Tensor) -> Tensor:
        """Images in 0..1 [B, C, H, W] of normalised codes [B, latent]."""
        return self.autoencoder.decode(code * self.std + self.mean, code.new_ones(len(code), 1)).sigmoid()


class LatentDiffusion(GuidedFamily):
    """Class-conditional diffusion of an autoencoder's codes, for images up to 64x64."""

    name = "latent_diffusion"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 50, "sampling steps; cost is proportional", 1, 1000),
        Control("guidance", 1.0, "weight of the class while sampling: 0 none, 1 as learned, more is stricter", 0, 100),
        Control("autoencoder_steps", 2000, "training steps of the autoencoder", 1, 1_000_000),
        Control("training_steps", 2000, "training steps of the diffusion", 1, 1_000_000),
        Control("learning_rate", 1e-3, "highest step size of Adam in both stages", 1e-7, 1000),
        Control("width", 256, "hidden units of both networks", 64, 1024),
        Control("latent", 16, "numbers in the code", 1, 256),
        Control("beta", 0.1, "weight of the autoencoder's KL term", 0, 1000),
    )
    at_sampling = frozenset({"steps", "guidance"})

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        first, second = int(self._settings["autoencoder_steps"]), int(self._settings["training_steps"])
        x, labels = x.to(device), labels.to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", first + second) as advance:
            net = self._build(look).to(device)
            net.autoencoder = self._autoencoded(net.autoencoder, x, rng, advance)
            with torch.no_grad():
                mean, log_variance = net.autoencoder.encode(x, x.new_ones(len(x), 1))
            # The variance of z over the set: of its means, and around each of them.
            net.mean.copy_(mean.mean(0))
            net.std.copy_((mean.var(0) + log_variance.exp().mean(0)).sqrt())
            mean, spread = (mean - net.mean) / net.std, (0.5 * log_variance).exp() / net.std
            self._diffused(net, mean, spread, labels, rng, advance)
        return net.requires_grad_(False)

    def _autoencoded(
        self, net: Autoencoder, x: Tensor, rng: torch.Generator, advance: Callable[[int], None]
    ) -> Autoencoder:
        """The averaged autoencoder of images x in 0..1 after its share of the training."""
        steps, rate = int(self._settings["autoencoder_steps"]), float(self._settings["learning_rate"])
        beta, y = float(self._settings["beta"]), x.new_ones(BATCH, 1)
        ema = Ema(net, EMA_DECAY)
        adam = torch.optim.Adam(net.parameters(), rate, fused=True)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 20)
        for step in range(steps):
            rows = torch.randint(len(x), (BATCH,), generator=rng).to(x.device)
            epsilon = torch.randn(BATCH, net.latent, generator=rng).to(x.device)
            # Nothing is kept for the case that it diverges: an autoencoder alone draws no images.
            descend(elbo_loss(net, x[rows], y, epsilon, beta), adam, f"{self.name}'s autoencoder", step)
            falling.step()
            ema.update(net)
            advance(1)
        return ema.net

    def _diffused(
        self,
        net: LatentDenoiser,
        mean: Tensor,
        spread: Tensor,
        labels: Tensor,
        rng: torch.Generator,
        advance: Callable[[int], None],
    ) -> None:
        """Train the denoiser of `net` on normalised codes mean + spread epsilon; its average stays in `net`."""
        steps, rate = int(self._settings["training_steps"]), float(self._settings["learning_rate"])
        abar, learner = schedule(SCHEDULE).float().to(mean.device), net.denoiser
        ema = Ema(learner, EMA_DECAY)
        adam = torch.optim.Adam(learner.parameters(), rate, fused=True)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
        net.denoiser = ema.net
        good = LastGood(net)
        for step in range(steps):
            rows = torch.randint(len(mean), (BATCH,), generator=rng).to(mean.device)
            t = torch.randint(1, T + 1, (BATCH,), generator=rng).to(mean.device)
            around, epsilon = torch.randn(2, BATCH, mean.shape[1], generator=rng).to(mean.device)
            a, x0 = abar[t][:, None], mean[rows] + spread[rows] * around
            answer = learner(a.sqrt() * x0 + (1 - a).sqrt() * epsilon, t, dropped(labels[rows], net.null, rng))
            descend(F.mse_loss(answer, target(PREDICTION, x0, epsilon, a)), adam, self.name, step, good)
            falling.step()
            ema.update(learner)
            advance(1)

    def _build(self, look: Look) -> LatentDenoiser:
        return LatentDenoiser(look, int(self._settings["width"]), int(self._settings["latent"]))

    @property
    def latent_size(self) -> int:
        """The noised code at T is the code of the image: DDIM is a function of it."""
        return int(self._settings["latent"])

    @property
    def _latent_net(self) -> LatentDenoiser:
        assert isinstance(self._net, LatentDenoiser)
        return self._net

    @property
    def _denoiser(self) -> nn.Module:
        return self._latent_net.denoiser

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        path = times(int(self._settings["steps"]))
        answer = self._guided(torch.tensor(path), labels)
        for i, step in enumerate(plan(path, schedule(SCHEDULE).tolist(), PREDICTION, eta=0.0)):
            z = step.r * (step.p * z + step.q * answer(z, i)) + step.s * z
        return self._latent_net.decode(z)

    def reconstruct(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Images [B, H, W, 3] through the autoencoder alone, float32 [B, 3, H, W] in 0..255; nothing is drawn.

        What it loses is what AEROBLADE reads (Ricker et al. 2024, section 3). Images of another size are averaged over
        areas to the size that was learned. Raises BadSetting before `fit`.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before reconstruct")
        x = (area_resized(images, *self._look.shape[1:]) / 255).to(self._device)
        x = x if self._look.channels == 3 else x.mean(1, keepdim=True)
        autoencoder = self._latent_net.autoencoder
        with torch.no_grad():
            mean, _ = autoencoder.encode(x, x.new_ones(len(x), 1))
            made = autoencoder.decode(mean, x.new_ones(len(x), 1)).sigmoid()
        return made.expand(-1, 3, -1, -1) * 255
