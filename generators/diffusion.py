"""Images from a class-conditional diffusion model: noise taken away step by step, quality against speed in one control.

- Training: predict the noise epsilon in x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) epsilon, T = 1000, beta linear from
  1e-4 to 0.02 (DDPM, Ho et al. 2020, eq. 14 and sec. 4); cosine learning rate, average of the weights for sampling.
- Sampling: DDIM (Song et al. 2021, eq. 12) over `steps` of the T times; eta = 0 is deterministic given x_T, eta = 1
  is DDPM's ancestral sampling. Cost is proportional to `steps`.
- The predicted x_0 is clipped to the data's range at each step, without which few steps overshoot.
- Up to 16x16 pixels a residual MLP; above, a small U-Net.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting
from evalkit.types import Control, Progress

from ._images import CodeFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

T = 1000
EMA_DECAY = 0.995
BATCH = 64
FREQUENCIES = 32


def schedule() -> Tensor:
    """abar_t for t = 0..T, float64 [T + 1]; abar_0 = 1 is the clean image."""
    beta = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])


def times(steps: int) -> list[int]:
    """The times a sampler of `steps` steps visits, from T down to 0: steps + 1 of them, evenly spread."""
    return [round(T * (1 - i / steps)) for i in range(steps + 1)]


class Embedding(nn.Module):
    """Time t [B] in 1..T and class [B] -> one vector [B, width] that every block reads."""

    def __init__(self, kinds: int, width: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(kinds, width)
        self.mix = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor, labels: Tensor) -> Tensor:
        rates = torch.exp(-math.log(10_000) * torch.arange(FREQUENCIES, device=t.device) / FREQUENCIES)
        angle = t[:, None].float() * rates
        out: Tensor = self.mix(torch.cat([angle.sin(), angle.cos()], 1)) + self.classes(labels)
        return F.silu(out)


class Mlp(nn.Module):
    """epsilon(x_t, t, y) for small images: residual blocks on flattened pixels."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        pixels = math.prod(look.shape)
        self.embed = Embedding(look.kinds, width // 2)
        self.enter = nn.Linear(pixels, width)
        self.shift = nn.ModuleList(nn.Linear(width // 2, 2 * width) for _ in range(3))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.block = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(3)
        )
        self.leave = nn.Linear(width, pixels)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        condition = self.embed(t, labels)
        h = self.enter(x.flatten(1))
        for shift, norm, block in zip(self.shift, self.norm, self.block, strict=True):
            scale, offset = shift(condition).chunk(2, 1)
            h = h + block(norm(h) * (1 + scale) + offset)
        out: Tensor = self.leave(h)
        return out.view_as(x)


class ResBlock(nn.Module):
    """Two 3x3 convolutions around the condition, with a residual path."""

    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.shift = nn.Linear(width, after)
        self.second = nn.Sequential(nn.GroupNorm(8, after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h: Tensor = self.second(self.first(x) + self.shift(condition)[:, :, None, None])
        out: Tensor = h + self.skip(x)
        return out


class UNet(nn.Module):
    """epsilon(x_t, t, y) for larger images: two halvings, skip connections, sides padded to multiples of 4."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        _, self.height, self.width = look.shape
        narrow, wide = width // 8, width // 4
        self.embed = Embedding(look.kinds, width)
        # Two coordinate channels: a convolution does not know where in the image it is.
        self.enter = nn.Conv2d(look.channels + 2, narrow, 3, padding=1)
        self.down1, self.down2 = ResBlock(narrow, narrow, width), ResBlock(narrow, wide, width)
        self.middle = ResBlock(wide, wide, width)
        self.up2, self.up1 = ResBlock(2 * wide, wide, width), ResBlock(wide + narrow, narrow, width)
        self.leave = nn.Sequential(nn.GroupNorm(8, narrow), nn.SiLU(), nn.Conv2d(narrow, look.channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        condition = self.embed(t, labels)
        x = F.pad(x, (0, -self.width % 4, 0, -self.height % 4), mode="replicate")
        rows = torch.linspace(-1, 1, x.shape[2], device=x.device)[:, None].expand(len(x), 1, -1, x.shape[3])
        columns = torch.linspace(-1, 1, x.shape[3], device=x.device)[None, :].expand(len(x), 1, x.shape[2], -1)
        a = self.down1(self.enter(torch.cat([x, rows, columns], 1)), condition)
        b = self.down2(F.avg_pool2d(a, 2), condition)
        h = F.interpolate(self.middle(F.avg_pool2d(b, 2), condition), scale_factor=2.0)
        h = F.interpolate(self.up2(torch.cat([h, b], 1), condition), scale_factor=2.0)
        out: Tensor = self.leave(self.up1(torch.cat([h, a], 1), condition))
        return out[:, :, : self.height, : self.width]


class Diffusion(CodeFamily):
    """Class-conditional DDPM with a DDIM sampler for images up to 64x64."""

    name = "diffusion"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 50, "sampling steps; cost is proportional", 1, 1000),
        Control("eta", 0.0, "noise put back while sampling: 0 is DDIM, 1 is DDPM", 0, 1),
        Control("training_steps", 4000, "training steps", 1, 1_000_000),
        Control("learning_rate", 1e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 192, "hidden units, in multiples of 64", 64, 1024),
    )
    at_sampling = frozenset({"steps", "eta"})

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["training_steps"]), float(self._settings["learning_rate"])
        x, labels, abar = (x * 2 - 1).to(device), labels.to(device), schedule().float().to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            net = self._build(look).to(device)
            ema = Ema(net, EMA_DECAY)
            adam = torch.optim.Adam(net.parameters(), rate, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
            good = LastGood(ema.net)
            for step in range(steps):
                rows = torch.randint(len(x), (BATCH,), generator=rng).to(device)
                t = torch.randint(1, T + 1, (BATCH,), generator=rng).to(device)
                epsilon = torch.randn(BATCH, *look.shape, generator=rng).to(device)
                a = abar[t][:, None, None, None]
                x_t = a.sqrt() * x[rows] + (1 - a).sqrt() * epsilon
                loss = F.mse_loss(net(x_t, t, labels[rows]), epsilon)
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _build(self, look: Look) -> nn.Module:
        # Group norm wants channels in eighths of the eighth of the width.
        width = int(self._settings["width"]) // 64 * 64
        return Mlp(look, width) if look.is_small else UNet(look, width)

    @property
    def latent_size(self) -> int:
        """x_T is the code: with eta = 0 the sampler is a function of it (Song et al. 2021, sec. 5.3)."""
        return math.prod(self._look.shape)

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        x = torch.randn(len(labels), *self._look.shape, generator=rng).to(labels.device)
        return self._denoised(x, labels, rng)

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        if float(self._settings["eta"]) > 0:
            raise BadSetting("diffusion with eta > 0 puts noise back: no function of a code; set eta=0")
        return self._denoised(z.view(-1, *self._look.shape), labels, torch.Generator())

    def _denoised(self, x: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images in 0..1 at the end of the sampler's way from x_T = x; what noise eta puts back comes from `rng`."""
        eta, path, abar = float(self._settings["eta"]), times(int(self._settings["steps"])), schedule().tolist()
        for t, earlier in pairwise(path):
            a, a_earlier = abar[t], abar[earlier]
            epsilon = self._net(x, torch.full_like(labels, t), labels)
            x0 = ((x - math.sqrt(1 - a) * epsilon) / math.sqrt(a)).clamp(-1, 1)
            # The noise that goes with the clipped x_0, so that the two still add up to x.
            epsilon = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
            sigma = eta * math.sqrt((1 - a_earlier) / (1 - a) * (1 - a / a_earlier))
            x = math.sqrt(a_earlier) * x0 + math.sqrt(1 - a_earlier - sigma**2) * epsilon
            if sigma > 0:
                x = x + sigma * torch.randn(x.shape, generator=rng).to(x.device)
        return (x + 1) / 2
