"""Images from rectified flow: a velocity field that carries noise to images along nearly straight lines.

- x_t = (1 - t) x_0 + t x_1 from noise x_0 to an image x_1; the network learns v = x_1 - x_0 by its squared error, whose
  minimum is the mean velocity of all lines through (x_t, t) (Liu et al. 2023, eq. 1; Lipman et al. 2023, sec. 4.1 with
  sigma_min = 0).
- t is logit-normal in training: the middle of the way is where lines cross and v is hard to know (Esser et al. 2024,
  sec. 3.1). Cosine learning rate, average of the weights for sampling.
- Sampling: dx/dt = v(x, t) from 0 to 1 in `steps` steps of Euler, or of Heun with two calls of the network each.
- `guidance` w: velocity = unconditional + w (conditional - unconditional) (Ho & Salimans 2022).
- Up to 16x16 pixels a residual MLP; above, a small U-Net: the ones of `diffusion`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Control, Progress

from ._denoisers import GuidedFamily, dropped, image_denoiser
from ._images import Look
from ._training import Ema, LastGood, announced, descend, isolated

EMA_DECAY = 0.995
BATCH = 64
# The networks read times on the scale of diffusion's T steps.
CLOCK = 1000


def integrate(velocity: Callable[[Tensor, int], Tensor], x: Tensor, steps: int, solver: str) -> Tensor:
    """x at t = 1 of dx/dt = velocity from x at t = 0; velocity(x, i) is asked at t = i / steps, i in 0..steps."""
    dt = 1 / steps
    for i in range(steps):
        v = velocity(x, i)
        if solver == "heun":
            v = (v + velocity(x + dt * v, i + 1)) / 2
        x = x + dt * v
    return x


def line_loss(net: nn.Module, x1: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
    """Mean squared error of the velocity at one point of the line from noise to each x_1 [B, ...]."""
    x0 = torch.randn(x1.shape, generator=rng).to(x1.device)
    t = torch.randn(len(x1), generator=rng).to(x1.device).sigmoid()
    along = t.view(-1, *[1] * (x1.dim() - 1))
    return F.mse_loss(net((1 - along) * x0 + along * x1, CLOCK * t, labels), x1 - x0)


class FlowMatching(GuidedFamily):
    """Class-conditional rectified flow for images up to 64x64."""

    name = "flow_matching"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 50, "sampling steps; cost is proportional", 1, 1000),
        Control("solver", "euler", "how a step is taken; heun costs twice", choices=("euler", "heun")),
        Control("guidance", 1.0, "weight of the class while sampling: 0 none, 1 as learned, more is stricter", 0, 100),
        Control("training_steps", 2000, "training steps", 1, 1_000_000),
        Control("learning_rate", 1e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 256, "hidden units, in multiples of 64", 64, 1024),
    )
    at_sampling = frozenset({"steps", "solver", "guidance"})

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["training_steps"]), float(self._settings["learning_rate"])
        x, labels = (x * 2 - 1).to(device), labels.to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            net = self._build(look).to(device)
            ema = Ema(net, EMA_DECAY)
            adam = torch.optim.Adam(net.parameters(), rate, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
            good = LastGood(ema.net)
            for step in range(steps):
                rows = torch.randint(len(x), (BATCH,), generator=rng).to(device)
                y = dropped(labels[rows], len(look.classes), rng)
                descend(line_loss(net, x[rows], y, rng), adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _build(self, look: Look) -> nn.Module:
        return image_denoiser(look, int(self._settings["width"]))

    @property
    def latent_size(self) -> int:
        """The noise x_0 is the code: the flow is a function of it."""
        return math.prod(self._look.shape)

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        steps = int(self._settings["steps"])
        velocity = self._guided(CLOCK * torch.arange(steps + 1) / steps, labels)
        return (integrate(velocity, z.view(-1, *self._look.shape), steps, str(self._settings["solver"])) + 1) / 2
