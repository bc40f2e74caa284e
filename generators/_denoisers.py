"""Networks that see a noised image, its time and its class, and classifier-free guidance over them.

Diffusion, flow matching and latent diffusion differ in what they make of the answer, not in who is asked:

- Up to 16x16 pixels (and for codes) a residual MLP whose every block is scaled and shifted by the condition (Perez et
  al. 2018); above, a small U-Net (Ronneberger et al. 2015, as in Ho et al. 2020).
- One class more than the data has: the null class, put in place of the true one for a tenth of the training images, so
  that one network is conditional and unconditional (Ho & Salimans 2022, alg. 1).
- While sampling, all images of a batch share one time: the times of a whole path are embedded once, before its first
  step, and a step reads one row of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Batch

from ._images import CodeFamily, Look

FREQUENCIES = 32
CLASS_DROPOUT = 0.1


class Embedding(nn.Module):
    """Times t [B] in 0..1000 and classes [B] -> one vector [B, width] that every block reads.

    Or times as `of_times` made them [B, width]; in both forms one time may stand for the whole batch.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        # Without classes every image is of class 0, which is then the null class.
        self.classes = nn.Embedding(classes + 1, width)
        self.mix = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def of_times(self, t: Tensor) -> Tensor:
        """The half of the vectors that depends on times t [B] alone, [B, width]."""
        rates = torch.exp(-math.log(10_000) * torch.arange(FREQUENCIES, device=t.device) / FREQUENCIES)
        angle = t[:, None].float() * rates
        out: Tensor = self.mix(torch.cat([angle.sin(), angle.cos()], 1))
        return out

    def forward(self, t: Tensor, labels: Tensor) -> Tensor:
        return F.silu((self.of_times(t) if t.dim() == 1 else t) + self.classes(labels))


class Mlp(nn.Module):
    """What belongs to (x_t, t, y), for small images and for codes: residual blocks on all numbers of x at once."""

    BLOCKS = 3

    def __init__(self, shape: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        size = math.prod(shape)
        self.embed = Embedding(classes, width // 2)
        self.enter = nn.Linear(size, width)
        # Scale and shift of all blocks in one product: they depend on nothing but the condition.
        self.shifts = nn.Linear(width // 2, self.BLOCKS * 2 * width)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(self.BLOCKS))
        self.block = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(self.BLOCKS)
        )
        self.leave = nn.Linear(width, size)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        shifts = self.shifts(self.embed(t, labels)).chunk(2 * self.BLOCKS, 1)
        h = self.enter(x.flatten(1))
        for norm, block, scale, offset in zip(self.norm, self.block, shifts[::2], shifts[1::2], strict=True):
            h = h + block(torch.addcmul(offset, norm(h), 1 + scale))
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
    """What belongs to (x_t, t, y), for larger images: two halvings, skip connections, sides padded to fours."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        narrow, wide = width // 8, width // 4
        self.embed = Embedding(classes, width)
        # Two coordinate channels: a convolution does not know where in the image it is.
        self.enter = nn.Conv2d(channels + 2, narrow, 3, padding=1)
        self.down1, self.down2 = ResBlock(narrow, narrow, width), ResBlock(narrow, wide, width)
        self.middle = ResBlock(wide, wide, width)
        self.up2, self.up1 = ResBlock(2 * wide, wide, width), ResBlock(wide + narrow, narrow, width)
        self.leave = nn.Sequential(nn.GroupNorm(8, narrow), nn.SiLU(), nn.Conv2d(narrow, channels, 3, padding=1))

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


def image_denoiser(look: Look, width: int) -> nn.Module:
    """The network for images of this look."""
    # Group norm wants channels in eighths of the eighth of the width.
    width, classes = width // 64 * 64, len(look.classes)
    return Mlp(look.shape, classes, width) if look.is_small else UNet(look.shape, classes, width)


def dropped(labels: Tensor, null: int, rng: torch.Generator) -> Tensor:
    """Class indices with a tenth of them replaced by the null class; where null is 0 there are none to replace."""
    if null == 0:
        return labels
    drop = torch.rand(len(labels), generator=rng) < CLASS_DROPOUT
    return labels.masked_fill(drop.to(labels.device), null)


def guided(net: nn.Module, times: Tensor, labels: Tensor, null: int, w: float) -> Callable[[Tensor, int], Tensor]:
    """(x, i) -> what the network says of x at the i-th of `times` [S], under guidance w (Ho & Salimans 2022, eq. 6).

    u + w (c - u) of the unconditional answer u and the conditional c, both from one call of a doubled batch. At w = 0
    and w = 1 one of the two is not needed and not computed. (The paper's w is this one less 1.)
    """
    t = net.embed.of_times(times) if isinstance(net, Mlp | UNet) else times
    unconditional = torch.full_like(labels, null)
    if w in (0, 1) or null == 0:
        told = labels if w else unconditional
        return lambda x, i: cast(Tensor, net(x, t[i : i + 1], told))
    both = torch.cat([unconditional, labels])

    def doubled(x: Tensor, i: int) -> Tensor:
        u, c = net(torch.cat([x, x]), t[i : i + 1], both).chunk(2)
        return cast(Tensor, u + w * (c - u))

    return doubled


class GuidedFamily(CodeFamily):
    """A family with the control `guidance`: at 0 its samples are of no class, and none is named."""

    @property
    def _null(self) -> int:
        """The index of the null class."""
        return len(self._look.classes)

    @property
    def _denoiser(self) -> nn.Module:
        """The network that is guided."""
        return self._net

    def _guided(self, times: Tensor, labels: Tensor) -> Callable[[Tensor, int], Tensor]:
        return guided(self._denoiser, times.to(labels.device), labels, self._null, float(self._settings["guidance"]))

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        batch = super()._draw(start, count, rng)
        return batch._replace(groups=None) if self._settings["guidance"] == 0 else batch
