"""Images from a variational autoencoder, class-conditional unless told otherwise: every class found, edges blurred.

- Loss = summed binary cross-entropy + KL, both in nats an image (Kingma & Welling 2014, eq. 10). The *sum* over pixels
  matters: with their mean the KL term wins and the decoder ignores z. `beta` weighs the KL term (Higgins et al. 2017,
  eq. 4).
- The class enters encoder and decoder as a one-hot vector y (Sohn et al. 2015), so z carries style only. Without it
  (`conditional` no) z carries everything and samples are of no class.
- A sample is the decoder's mean for z ~ N(0, I), as usual. Blur is this family's signature.
- `draw` shows the code space instead, in rows of 8 images of one class: "interpolation" goes from one code to another
  along the great arc (White 2016), "traversal" moves one number of one code from -3 to 3, the numbers in turn.
- Given images, it makes their reconstructions; an image whose class is not told is tried under every class.
- Up to 16x16 pixels a plain MLP; above, two or three strided convolutions each way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource
from evalkit.types import Batch, Control, Modality, Progress, SampleSet

from ._area import area_resized
from ._given import GivenImages, answer_images, as_input, check_images
from ._images import CodeFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

EMA_DECAY = 0.99
BATCH = 64
# Images in a row of an interpolation or a traversal; batches of 64 are whole rows.
ROW = 8
# How far a traversal goes to each side, in standard deviations of the prior.
REACH = 3.0


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


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Between the rows of a and b [B, D] at t [B] in 0..1, along the arc between them: 0 is a, 1 is b.

    A straight line passes near the origin, where N(0, I) has no mass (White 2016, sec. 2.1).
    """
    a_unit, b_unit = F.normalize(a, dim=1), F.normalize(b, dim=1)
    # Two arctangents keep small angles exact where arccos of the dot product does not (Kahan).
    omega = 2 * torch.atan2((a_unit - b_unit).norm(dim=1), (a_unit + b_unit).norm(dim=1))
    sine = omega.sin()
    # No arc is defined between opposite codes, and none is needed between equal ones: take the line.
    flat = sine < 1e-4
    sine = sine.masked_fill(flat, 1.0)
    of_a = torch.where(flat, 1 - t, ((1 - t) * omega).sin() / sine)
    of_b = torch.where(flat, t, (t * omega).sin() / sine)
    return of_a[:, None] * a + of_b[:, None] * b


def elbo_loss(net: Autoencoder, x: Tensor, y: Tensor, epsilon: Tensor, beta: float) -> Tensor:
    """Reconstruction + beta KL in nats an image, mean over the batch; z = mean + std epsilon."""
    mean, log_variance = net.encode(x, y)
    z = mean + (0.5 * log_variance).exp() * epsilon
    bce = F.binary_cross_entropy_with_logits(net.decode(z, y), x, reduction="sum") / len(x)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / len(x)
    return bce + beta * kl


class Vae(CodeFamily):
    """Variational autoencoder for images up to 64x64, class-conditional by default."""

    name = "vae"
    modality = "image"
    role = "candidate"
    takes: ClassVar[Modality] = "image"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 3000, "training steps", 1, 1_000_000),
        Control("learning_rate", 2e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 256, "hidden units of encoder and decoder", 16, 1024),
        Control("latent", 12, "numbers in the code z", 1, 256),
        Control("beta", 1.0, "weight of the KL term: more is smoother codes and more blur", 0, 1000),
        Control("conditional", "yes", "whether the class is told to the network", choices=("yes", "no")),
        Control(
            "draw",
            "prior",
            "samples, or rows of 8 through the code space",
            choices=("prior", "interpolation", "traversal"),
        ),
    )
    at_sampling = frozenset({"draw"})
    # How many coin flips of black or white a grey value is worth; as usual one, whatever the picture's true resolution.
    trials: ClassVar[int] = 1

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        x, onehot, beta = (
            x.to(device),
            self._onehot(look, labels).to(device),
            float(self._settings["beta"]) / self.trials,
        )
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            net = self._build(look).to(device)
            ema = Ema(net, EMA_DECAY)
            adam = torch.optim.Adam(net.parameters(), rate, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 20)
            good = LastGood(ema.net)
            for step in range(steps):
                rows = torch.randint(len(x), (BATCH,), generator=rng)
                epsilon = torch.randn(BATCH, net.latent, generator=rng).to(device)
                loss = elbo_loss(net, x[rows], onehot[rows], epsilon, beta)
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _build(self, look: Look) -> Autoencoder:
        return Autoencoder(self._told(look), int(self._settings["width"]), int(self._settings["latent"]))

    # ------------------------------------------------------------------ with and without classes

    @property
    def _is_conditional(self) -> bool:
        return self._settings.get("conditional") == "yes"

    def _told(self, look: Look) -> Look:
        """The look as the network is told it: without classes where it is unconditional."""
        return look if self._is_conditional else replace(look, classes=())

    def _onehot(self, look: Look, labels: Tensor) -> Tensor:
        kinds = self._told(look).kinds
        return F.one_hot(labels if kinds > 1 else torch.zeros_like(labels), kinds).float()

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        parameters = super()._learn(samples, seed, device, progress)
        # Kept without classes, so that no sample is named as one.
        self._look = self._told(self._look)
        return parameters

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        done = super()._salvage(state)
        self._look = self._told(self._look)
        return done

    # ------------------------------------------------------------------ codes to images

    @property
    def latent_size(self) -> int:
        return int(self._settings["latent"])

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        return self._autoencoder.decode(z, self._onehot(self._look, labels)).sigmoid()

    @property
    def _autoencoder(self) -> Autoencoder:
        assert isinstance(self._net, Autoencoder)
        return self._net

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        if self._settings["draw"] == "prior":
            return super()._draw(start, count, rng)
        i = torch.arange(start, start + count)
        row, place = i // ROW, i % ROW / (ROW - 1)
        if self._settings["draw"] == "interpolation":
            labels = row % self._look.kinds
            ends = torch.randn(-(-count // ROW), 2, self.latent_size, generator=rng)[row - start // ROW]
            z = slerp(ends[:, 0], ends[:, 1], place)
        else:
            # All numbers for one class, then for the next; one code for the whole seed, so that rows can be compared.
            labels = row // self.latent_size % self._look.kinds
            again = torch.Generator().manual_seed(rng.initial_seed())
            z = torch.randn(self.latent_size, generator=again).repeat(count, 1)
            z[torch.arange(count), row % self.latent_size] = (2 * place - 1) * REACH
        x = self._decoded(z.to(self._device), labels.to(self._device))
        return Batch(self._look.render(x), self._look.names(labels))

    # ------------------------------------------------------------------ images to codes

    def encode(self, images: npt.NDArray[np.uint8] | Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x, y), each float32 [B, latent_size].

        images: uint8 [B, H, W, 3] as samples are, or a float tensor [B, 3, H, W] in 0..255 as `decode` gives; labels:
        class indices [B], without which the positions take the classes in turn, as in `decode`. Raises BadSetting
        before `fit`, BadSource for images of another size.
        """
        x, labels = self._read_in(images, labels)
        with torch.no_grad():
            return self._autoencoder.encode(x, self._onehot(self._look, labels))

    def reconstruct(self, images: npt.NDArray[np.uint8] | Tensor, labels: Tensor | None = None) -> Tensor:
        """What decoding the mean code of each image gives, float32 [B, 3, H, W] in 0..255; nothing is drawn.

        Arguments as `encode`, but without labels an image is given the class under which its loss is lowest, whatever
        its position, and uint8 images of another size are averaged over areas to the size that was learned.
        """
        if self._trained_on and isinstance(images, np.ndarray) and images.shape[1:3] != self._look.shape[1:]:
            images = area_resized(images, *self._look.shape[1:])
        x, in_turn = self._read_in(images, labels)
        with torch.no_grad():
            told = self._likeliest(x) if labels is None else in_turn
            return self._reconstructed(x, told).expand(-1, 3, -1, -1) * 255

    def sample_given(self, inputs: SampleSet, seed: int) -> Iterator[Batch]:
        """The reconstruction of each image; `seed` changes nothing, as nothing is drawn.

        An image whose class is not one of those learned is given the class under which its loss is lowest. Raises
        BadSetting before `fit`, ModalityMismatch, TooFewSamples, or BadSource for an image of another size.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before sample_given")
        check_images(inputs, self.name)
        return answer_images(inputs, self._look, self.name, seed, self._answer)

    def _answer(self, given: GivenImages, rng: torch.Generator) -> npt.NDArray[np.uint8]:
        x, labels = given.x.to(self._device), given.labels.to(self._device)
        labels = torch.where(labels < 0, self._likeliest(x), labels) if bool((labels < 0).any()) else labels
        return self._look.render(self._reconstructed(x, labels))

    def _reconstructed(self, x: Tensor, labels: Tensor) -> Tensor:
        mean, _ = self._autoencoder.encode(x, self._onehot(self._look, labels))
        return self._decoded(mean, labels)

    def _likeliest(self, x: Tensor) -> Tensor:
        """For each image the class y of least -ln p(x|z, y) + KL at the mean of q(z|x, y), [B]."""
        losses = []
        for kind in range(self._look.kinds):
            y = self._onehot(self._look, torch.full((len(x),), kind, device=x.device))
            mean, log_variance = self._autoencoder.encode(x, y)
            logits = self._autoencoder.decode(mean, y)
            bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
            losses.append(bce + 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1))
        return torch.stack(losses).argmin(0)

    def _read_in(self, images: npt.NDArray[np.uint8] | Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values in 0..1 [B, C, H, W] and class indices [B], on the network's device."""
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before encode")
        size = (self._look.height, self._look.width)
        found = tuple(images.shape[2:] if isinstance(images, Tensor) else images.shape[1:3])
        if found != size:
            raise BadSource(f"{self.name} learned images of height and width {size}, these are {found}; scale them")
        if isinstance(images, Tensor):
            x = images[:, : self._look.channels] if self._look.channels == 3 else images.mean(1, keepdim=True)
            x = x.float() / 255
        else:
            x = as_input(images, self._look)
        labels = self._look.cycle(0, len(x)) if labels is None else labels
        return x.to(self._device), labels.to(self._device)
