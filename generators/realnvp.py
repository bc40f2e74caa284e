"""Images from RealNVP, an invertible network: likelihood in one pass, sampling in one pass, and visible noise.

- Affine couplings y = b x + (1 - b) (x exp(s(b x)) + t(b x)) (Dinh et al. 2017, eq. 9), s bounded by a scaled tanh. The
  masks b are checkerboards (sec. 3.4) whose squares grow and shrink again, so that every pixel meets every other.
- Pixels are discrete, the flow is not: u = (index + noise) / V, noise uniform, then the logit of a + (1 - 2a) u with
  a = 0.05 (sec. 4.1).
- The class enters every s and t as a one-hot vector. Without a label p(x) = sum_y p(y) p(x | y), p(y) uniform because
  samples take the classes in turn.
- The chance of the discrete levels is the flow's mass in the cell of the image, the mean of its density over the noise.
  It is estimated from four draws of noise, the same for every image and call: p = 1/4 sum_k p(x + u_k), unbiased, whose
  logarithm is in expectation a lower bound (Ho et al. 2019, sec. 3.1; Burda et al. 2016, eq. 8). So nats are
  slightly too high rather than too low, depend on nothing but the image, and are no sum to the last digit.
- A thousand images are overfitted within some twenty passes: the averaged weights that were best on the images held out
  are kept.
- Up to 16x16 pixels s and t are MLPs on all pixels; above, three convolutions.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from evalkit.types import Control, Progress

from ._images import CodeFamily, LikelyFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

EMA_DECAY = 0.99
BATCH = 64
ALPHA = 0.05
VALIDATION_SHARE = 0.1
VALIDATIONS = 20
DRAWS = 4


def to_logit(u: Tensor) -> tuple[Tensor, Tensor]:
    """u [B, ...] in 0..1 -> y = logit(a + (1 - 2a) u), and ln |det dy/du| [B]."""
    p = ALPHA + (1 - 2 * ALPHA) * u
    log_det = (math.log(1 - 2 * ALPHA) - p.log() - (1 - p).log()).flatten(1).sum(1)
    return p.logit(), log_det


def from_logit(y: Tensor) -> Tensor:
    """The inverse of `to_logit`; beyond 0..1 where the flow puts mass where no image is."""
    p = y.sigmoid()
    return (p - ALPHA) / (1 - 2 * ALPHA)


def checkerboard(look: Look, at: int) -> Tensor:
    """The mask b of coupling `at`, float32 [C, H, W]: squares of 1, 1, 2, 2, 4, 4, 1, ... pixels, colours in turn."""
    side = 2 ** (at // 2 % 3)
    c, h, w = (torch.arange(n) for n in look.shape)
    squares: Tensor = c[:, None, None] + h[None, :, None] // side + w[None, None, :] // side + at
    return (squares % 2).float()


class Coupling(nn.Module):
    """One affine coupling: what the mask shows stays, and says how the rest is scaled and shifted."""

    def __init__(self, look: Look, width: int, at: int) -> None:
        super().__init__()
        self.shape, self.is_small = look.shape, look.is_small
        c, h, w = look.shape
        self.b: Tensor
        self.register_buffer("b", checkerboard(look, at), persistent=False)
        if self.is_small:
            self.enter: nn.Module = nn.Linear(c * h * w, width)
            self.body = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2 * c * h * w))
        else:
            # Four channels for each tap: as wide as the MLP where the work is the same.
            width = max(8, width // 4)
            self.enter = nn.Conv2d(c, width, 3, padding=1)
            self.body = nn.Sequential(
                nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * c, 3, padding=1)
            )
        self.classes = nn.Embedding(look.kinds, width)
        self.bound = nn.Parameter(torch.ones(c, h, w))
        # The whole flow starts as the identity.
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)

    def moves(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """s and t [B, C, H, W] from what the mask shows of x; zero where it shows it."""
        seen = x * self.b
        shift = self.classes(labels)
        if self.is_small:
            s, t = self.body(self.enter(seen.flatten(1)) + shift).view(-1, 2, *self.shape).unbind(1)
        else:
            s, t = self.body(self.enter(seen) + shift[:, :, None, None]).chunk(2, 1)
        hidden = 1 - self.b
        return hidden * self.bound * s.tanh(), hidden * t

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Image to code: y and ln |det dy/dx| [B]."""
        s, t = self.moves(x, labels)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, y: Tensor, labels: Tensor) -> Tensor:
        """Code to image: what the mask shows was not changed, so s and t are the same."""
        s, t = self.moves(y, labels)
        return (y - t) * (-s).exp()


class Flow(nn.Module):
    """Images as logits [B, C, H, W] of classes [B] <-> codes z ~ N(0, I)."""

    def __init__(self, look: Look, width: int, couplings: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(look, width, at) for at in range(couplings))
        # Mean and scale of each pixel in each class before all else: a pixel that is always dark is learnt at once.
        self.shift = nn.Parameter(torch.zeros(look.kinds, *look.shape))
        self.log_scale = nn.Parameter(torch.zeros(look.kinds, *look.shape))

    def forward(self, y: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """z and ln |det dz/dy| [B]."""
        log_scale = self.log_scale[labels]
        z, log_det = (y - self.shift[labels]) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)
        for coupling in self.couplings:
            z, more = coupling(z, labels)
            log_det = log_det + more
        return z, log_det

    def inverse(self, z: Tensor, labels: Tensor) -> Tensor:
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, Coupling)
            z = coupling.inverse(z, labels)
        return z * self.log_scale[labels].exp() + self.shift[labels]

    def log_density(self, y: Tensor, labels: Tensor) -> Tensor:
        """ln p(y | class) [B] in logit space, where it integrates to one (Dinh et al. 2017, eq. 3)."""
        z, log_det = self(y, labels)
        normal = -0.5 * (z**2 + math.log(2 * math.pi)).flatten(1).sum(1)
        out: Tensor = normal + log_det
        return out


def nats(net: Flow, indices: Tensor, labels: Tensor, noise: Tensor, levels: int) -> Tensor:
    """-ln of the density [B] of indices + noise, both [B, C, H, W], where a cell of one grey level has volume 1."""
    y, log_det = to_logit((indices + noise) / levels)
    return math.prod(indices.shape[1:]) * math.log(levels) - log_det - net.log_density(y, labels)


class RealNvp(CodeFamily, LikelyFamily):
    """Class-conditional normalizing flow of affine couplings for images up to 64x64."""

    name = "realnvp"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 0.8, "scale of the code drawn; below 1 is cleaner and less diverse", 0, 10),
        Control("steps", 800, "training steps", 1, 1_000_000),
        Control("learning_rate", 2e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 128, "hidden units of each coupling", 8, 4096),
        Control("couplings", 8, "affine couplings", 2, 64),
    )
    at_sampling = frozenset({"temperature"})

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate, levels = int(self._settings["steps"]), float(self._settings["learning_rate"]), len(look.values)
        indices = torch.bucketize((x * 255).round().long().contiguous(), torch.tensor(look.values)).to(device)
        labels = labels.to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            order = torch.randperm(len(x), generator=rng).to(device)
            share = max(1, round(VALIDATION_SHARE * len(x)))
            held, kept = order[:share], order[share:]
            held_noise = torch.rand(len(held), *look.shape, generator=rng).to(device)
            net = self._build(look).to(device)
            ema, best, best_nats = Ema(net, EMA_DECAY), net.state_dict(), math.inf
            adam = torch.optim.Adam(net.parameters(), rate, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
            good = LastGood(ema.net)
            for step in range(steps):
                rows = kept[torch.randint(len(kept), (BATCH,), generator=rng).to(device)]
                noise = torch.rand(BATCH, *look.shape, generator=rng).to(device)
                loss = nats(net, indices[rows], labels[rows], noise, levels).mean() / math.prod(look.shape)
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
                if (step + 1) % max(1, steps // VALIDATIONS) == 0 or step + 1 == steps:
                    with torch.no_grad():
                        now = float(nats(ema.net, indices[held], labels[held], held_noise, levels).mean())
                    if now < best_nats:
                        best_nats, best = now, {k: v.clone() for k, v in ema.net.state_dict().items()}
        ema.net.load_state_dict(best)
        return ema.net

    def _build(self, look: Look) -> Flow:
        return Flow(look, int(self._settings["width"]), int(self._settings["couplings"]))

    def _nats(self, indices: Tensor) -> Tensor:
        assert isinstance(self._net, Flow)
        look, rng = self._look, torch.Generator().manual_seed(0)
        minus = []
        for noise in torch.rand(DRAWS, *look.shape, generator=rng).to(indices.device):
            for y in range(look.kinds):
                labels = torch.full_like(indices[:, 0, 0, 0], y)
                minus.append(-nats(self._net, indices, labels, noise, len(look.values)))
        return math.log(len(minus)) - torch.stack(minus).logsumexp(0)

    @property
    def latent_size(self) -> int:
        return math.prod(self._look.shape)

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(self._net, Flow)
        z = float(self._settings["temperature"]) * z.view(-1, *self._look.shape)
        # In cells of grey levels: cell k is k..k + 1 and its middle is that level; in between a straight line, so that
        # rounding to the nearest level finds the cell.
        middle = from_logit(self._net.inverse(z, labels)) * len(self._look.values) - 0.5
        middle = middle.nan_to_num().clamp(0, len(self._look.values) - 1)
        below = self._look.shades(middle.floor())
        return below + (middle - middle.floor()) * (self._look.shades(middle.ceil()) - below)
