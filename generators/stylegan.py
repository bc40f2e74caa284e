"""Images from a small StyleGAN: a code becomes a style, and the style scales every convolution.

- A mapping network of two layers turns z and the class into w; each convolution reads w (Karras et al. 2019, sec. 2).
- Modulated and demodulated convolutions (StyleGAN2, Karras et al. 2020, eq. 1 and 3): style s scales the channels that
  enter, and the output is divided by the length its weights then have, so that its variance stays one. Scaling
  activations before and dividing after is the same mathematics as scaling weights, and saves a grouped convolution,
  four times as slow on a CPU.
- Noise enters after each convolution, new at each training step. While sampling it is one fixed picture a layer, kept
  with the model (as `noise_mode=const` of the authors' code): an image is then a function of its code.
- R1 penalty every 8 steps, weighted by 8 (Mescheder et al. 2018, eq. 9; lazily: StyleGAN2, sec. 3.1); non-saturating
  loss; average of G's weights. D sees the deviation of its features over the batch (Karras et al. 2018, sec. 3), here
  within each class.
- Truncation: w is pulled to the mean w of its class by psi (2019, sec. B): less variety, more typical samples.
- Left out, being of little use on a few pixels: skip or residual images, blur while resizing, style mixing, path length
  regularisation, equalised learning rates.
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

LATENT = 64
BATCH = 64
EMA_DECAY = 0.99
LOWEST = 4
R1_EVERY = 8
# Codes whose mean w is what truncation pulls to, for each class.
CENTRED = 2048


def r1(D: Callable[[Tensor, Tensor], Tensor], real: Tensor, y: Tensor) -> Tensor:
    """Half the mean squared gradient norm of D on real images [B, C, H, W]; Mescheder et al. 2018, eq. 9, gamma = 1."""
    real = real.detach().requires_grad_()
    (grad,) = torch.autograd.grad(D(real, y).sum(), real, create_graph=True)
    return 0.5 * grad.flatten(1).square().sum(1).mean()


def doublings(look: Look) -> int:
    """How often the 4x4 start is doubled until it covers the image: 1 at 8 pixels, 4 at 64."""
    return max(1, math.ceil(math.log2(max(look.height, look.width) / LOWEST)))


def channels(width: int, level: int) -> int:
    """Channels after `level` doublings of the start: `width` up to 8 pixels, half of it with every doubling above."""
    return max(8, width >> max(0, level - 1))


class ModulatedConv(nn.Module):
    """3x3 convolution of h [B, I, H, W] whose entering channels are scaled by a style of w [B, 64]."""

    def __init__(self, before: int, after: int, *, size: int = 3, demodulate: bool = True) -> None:
        super().__init__()
        self.style = nn.Linear(LATENT, before)
        nn.init.normal_(self.style.weight, 0, 1 / math.sqrt(LATENT))
        nn.init.ones_(self.style.bias)
        self.weight = nn.Parameter(torch.randn(after, before, size, size) / math.sqrt(before * size**2))
        self.demodulate = demodulate

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        s = self.style(w)
        out = F.conv2d(h * s[:, :, None, None], self.weight, padding=self.weight.shape[2] // 2)
        if self.demodulate:
            # eq. 3: one over the length of the scaled weights, sum over i and k of (s_i w_oik)^2.
            out = out * (s.square() @ self.weight.square().sum((2, 3)).T + 1e-8).rsqrt()[:, :, None, None]
        return out


class Layer(nn.Module):
    """One styled convolution with its noise, bias and leaky ReLU."""

    def __init__(self, before: int, after: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.conv = ModulatedConv(before, after)
        self.bias = nn.Parameter(torch.zeros(after, 1, 1))
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("fixed", torch.randn(1, 1, *shape))
        self.fixed: Tensor

    def forward(self, h: Tensor, w: Tensor, rng: torch.Generator | None) -> Tensor:
        """New noise from `rng`; the fixed picture where there is none."""
        h = self.conv(h, w)
        new = None if rng is None else torch.randn(len(h), 1, *h.shape[2:], generator=rng).to(h.device)
        # sqrt(2) gives back the variance that the leaky ReLU takes.
        return F.leaky_relu(h + self.strength * (self.fixed if new is None else new) + self.bias, 0.2) * math.sqrt(2)


class Generator(nn.Module):
    """g(w): style [B, 64] -> image [B, C, H, W] of about -1..1; `styles` maps codes and classes to w."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        _, self.height, self.width = look.shape
        times = doublings(look)
        low = -(-look.height // 2**times), -(-look.width // 2**times)
        enter, leave = nn.Linear(LATENT + look.kinds, LATENT), nn.Linear(LATENT, LATENT)
        # w must vary by about one from the start, half by code and half by class: with smaller weights every style is
        # its bias, and G learns one image a class.
        nn.init.normal_(enter.weight, 0, 1 / math.sqrt(LATENT))
        nn.init.normal_(leave.weight, 0, math.sqrt(2 / LATENT))
        self.mapping = nn.Sequential(enter, nn.LeakyReLU(0.2), leave, nn.LeakyReLU(0.2))
        self.start = nn.Parameter(torch.randn(1, width, *low))
        self.layers = nn.ModuleList([Layer(width, width, low)])
        for level in range(1, times + 1):
            shape = low[0] * 2**level, low[1] * 2**level
            before, after = channels(width, level - 1), channels(width, level)
            self.layers.extend([Layer(before, after, shape), Layer(after, after, shape)])
        self.to_pixels = ModulatedConv(channels(width, times), look.channels, size=1, demodulate=False)
        self.grey = nn.Parameter(torch.zeros(look.channels, 1, 1))
        self.register_buffer("centre", torch.zeros(look.kinds, LATENT))
        self.centre: Tensor

    def styles(self, z: Tensor, y: Tensor) -> Tensor:
        """w [B, 64] of codes z [B, 64] and one-hot classes y [B, K]."""
        # Codes on a sphere: their length must not decide how strong a style is. A class is as long as a code.
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        w: Tensor = self.mapping(torch.cat([z, math.sqrt(LATENT) * y], 1))
        return w

    def forward(self, w: Tensor, rng: torch.Generator | None = None) -> Tensor:
        h = self.layers[0](self.start.expand(len(w), -1, -1, -1), w, rng)
        # Pairs of layers: the first of each works on the doubled picture.
        for i in range(1, len(self.layers), 2):
            h = self.layers[i](F.interpolate(h, scale_factor=2.0), w, rng)
            h = self.layers[i + 1](h, w, rng)
        x: Tensor = self.to_pixels(h, w) + self.grey
        return x[:, :, : self.height, : self.width]

    @torch.no_grad()
    def find_centre(self) -> None:
        """Keep the mean w of each class, over codes that are always the same."""
        z = torch.randn(CENTRED, LATENT, generator=torch.Generator().manual_seed(0)).to(self.centre.device)
        for k, y in enumerate(torch.eye(len(self.centre), device=z.device)):
            self.centre[k] = self.styles(z, y.expand(CENTRED, -1)).mean(0)


def deviation(h: Tensor, y: Tensor) -> Tensor:
    """Mean deviation of the features h [B, C, H, W] among the samples of one's own class in the batch, [B].

    Look-alikes give themselves away. Over all classes together, ten images that never change would seem varied.
    """
    rows, share = h.flatten(1), y / y.sum(0).clamp_min(1)
    variance = share.T @ (rows - y @ (share.T @ rows)).square()
    return y @ (variance + 1e-8).sqrt().mean(1)


class Discriminator(nn.Module):
    """D(x, y): image [B, C, H, W] and one-hot class [B, K] -> logit of "real" [B]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        times = doublings(look)
        # Odd sides are filled up with their last row or column, so that no halving loses one.
        self.fill = 0, -look.width % 2**times, 0, -look.height % 2**times
        low = -(-look.height // 2**times) * -(-look.width // 2**times)
        layers: list[nn.Module] = [nn.Conv2d(look.channels, channels(width, times), 1), nn.LeakyReLU(0.2)]
        for level in range(times, 0, -1):
            before, after = channels(width, level), channels(width, level - 1)
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.2), nn.AvgPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.last = nn.Sequential(
            nn.Conv2d(width + 1, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(width * low, 2 * width),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Linear(2 * width, 1)
        self.embed = nn.Linear(look.kinds, 2 * width, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.body(F.pad(x, self.fill, mode="replicate"))
        spread = deviation(h, y)[:, None, None, None].expand(-1, 1, *h.shape[2:])
        phi: Tensor = self.last(torch.cat([h, spread], 1))
        out: Tensor = self.score(phi).squeeze(1) + (self.embed(y) * phi).sum(1) / math.sqrt(phi.shape[1])
        return out


class StyleGan(CodeFamily):
    """Class-conditional style-based GAN for images up to 64x64."""

    name = "stylegan"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("truncation", 1.0, "psi: 0 gives the mean sample of each class, 1 the full variety", 0, 1),
        Control("steps", 2000, "training steps", 1, 1_000_000),
        Control("learning_rate", 1e-3, "step size of Adam for both networks", 1e-7, 1000),
        Control("width", 32, "channels where the image is smallest", 8, 512),
        Control("gamma", 0.1, "weight of the R1 penalty", 0, 1000),
    )
    at_sampling = frozenset({"truncation"})

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        width, gamma = int(self._settings["width"]), float(self._settings["gamma"])
        x, onehot = (x * 2 - 1).to(device), F.one_hot(labels, look.kinds).float().to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            G, D = self._build(look).to(device), Discriminator(look, width).to(device)
            G_ema = Ema(G, EMA_DECAY)
            G_adam = torch.optim.Adam(G.parameters(), rate, betas=(0.0, 0.99), fused=True)
            D_adam = torch.optim.Adam(D.parameters(), rate, betas=(0.0, 0.99), fused=True)
            good = LastGood(G_ema.net)
            for step in range(steps):
                rows = torch.randint(len(x), (BATCH,), generator=rng)
                real, y = x[rows], onehot[rows]
                z = torch.randn(BATCH, LATENT, generator=rng).to(device)
                fake = G(G.styles(z, y), rng)
                D_loss = F.softplus(-D(real, y)).mean() + F.softplus(D(fake.detach(), y)).mean()
                if step % R1_EVERY == 0:
                    # Lazily: the penalty of eight steps at once.
                    D_loss = D_loss + gamma * R1_EVERY * r1(D, real, y)
                descend(D_loss, D_adam, self.name, step, good)
                # G's step needs no gradients of D's weights, which are a third of the work.
                D.requires_grad_(False)
                G_loss = F.softplus(-D(fake, y)).mean()
                descend(G_loss, G_adam, self.name, step, good)
                D.requires_grad_(True)
                G_ema.update(G)
                advance(1)
        G_ema.net.find_centre()
        return G_ema.net

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        kept = super()._salvage(state)
        self._network.find_centre()
        return kept

    def _build(self, look: Look) -> Generator:
        return Generator(look, int(self._settings["width"]))

    @property
    def _network(self) -> Generator:
        assert isinstance(self._net, Generator)
        return self._net

    @property
    def latent_size(self) -> int:
        return LATENT

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        G, psi = self._network, float(self._settings["truncation"])
        w = G.styles(z, F.one_hot(labels, self._look.kinds).float())
        if psi < 1:
            w = G.centre[labels].lerp(w, psi)
        x: Tensor = G(w)
        return (x + 1) / 2
