"""Images from a class-conditional diffusion model: noise taken away step by step, quality against speed in one control.

- x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) epsilon, T = 1000; `schedule` "linear" is beta from 1e-4 to 0.02 (DDPM, Ho
  et al. 2020, eq. 4 and sec. 4), "cosine" is Nichol & Dhariwal 2021, eq. 17.
- The network predicts epsilon (Ho et al., eq. 14), x_0, or v = sqrt(abar) epsilon - sqrt(1 - abar) x_0 (Salimans & Ho
  2022, sec. 4), each with its plain squared error; cosine learning rate, average of the weights for sampling.
- Sampling: DDIM (Song et al. 2021, eq. 12) over `steps` of the T times; eta = 0 is deterministic given x_T, eta = 1
  is DDPM's ancestral sampling. Cost is proportional to `steps`.
- The predicted x_0 is clipped to the data's range at each step, without which few steps overshoot. Around that clip a
  step is linear: what it multiplies by is worked out once for the whole path, in float64.
- `guidance` w: answer = unconditional + w (conditional - unconditional) (Ho & Salimans 2022).
- Given images: the masked part is made new. After each step the known part is replaced by the given image noised to the
  same time, and the step is taken again `resampling` times so that the two parts agree (RePaint, Lugmayr et al. 2022,
  alg. 1 with jumps of one step).
- `reconstruct` takes an image up to x_T and back, both ways by DDIM with eta = 0 in 20 steps (Song et al. 2021, eq. 14;
  the steps of DIRE, Wang et al. 2023, section 4.1), with the null class: what is read must not depend on a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting
from evalkit.types import Batch, Control, Modality, Progress, SampleSet

from ._area import area_resized
from ._denoisers import GuidedFamily, dropped, guided, image_denoiser
from ._given import GivenImages, answer_images, check_images
from ._images import Look
from ._training import Ema, LastGood, announced, descend, isolated

T = 1000
EMA_DECAY = 0.995
BATCH = 64
# Each way of a reconstruction.
RETURN_STEPS = 20


def schedule(kind: str = "linear") -> Tensor:
    """abar_t for t = 0..T, float64 [T + 1]; abar_0 = 1 is the clean image."""
    if kind == "linear":
        beta = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    else:
        f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008 * math.pi / 2) ** 2
        # At T the cosine is 0: nothing of the image would be left to divide by.
        beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])


def times(steps: int) -> list[int]:
    """The times a sampler of `steps` steps visits, from T down to 0: steps + 1 of them, evenly spread."""
    return [round(T * (1 - i / steps)) for i in range(steps + 1)]


def target(prediction: str, x0: Tensor, epsilon: Tensor, a: Tensor) -> Tensor:
    """What the network should say of x_t = sqrt(a) x_0 + sqrt(1 - a) epsilon."""
    if prediction == "v":
        return a.sqrt() * epsilon - (1 - a).sqrt() * x0
    return epsilon if prediction == "epsilon" else x0


def back_to_x0(prediction: str, a: float) -> tuple[float, float]:
    """(p, q) with x_0 = p x_t + q answer: the inverse of `target` at abar = a."""
    signal, noise = math.sqrt(a), math.sqrt(1 - a)
    return {"epsilon": (1 / signal, -noise / signal), "v": (signal, -noise), "x": (0.0, 1.0)}[prediction]


class Step(NamedTuple):
    """From x at abar to x at a larger abar: x_0 = p x + q answer, clipped, then x = r x_0 + s x + sigma noise."""

    p: float
    q: float
    r: float
    s: float
    sigma: float
    abar: float
    abar_next: float


def plan(path: list[int], abar: list[float], prediction: str, eta: float) -> list[Step]:
    """The steps along a path of times, down or, without the clean time 0, up (Song et al. 2021, eq. 12 to 16)."""
    steps = []
    for t, earlier in pairwise(path):
        a, a_next = abar[t], abar[earlier]
        # Upwards, towards more noise, none is put back.
        sigma = eta * math.sqrt(max(0.0, (1 - a_next) / (1 - a) * (1 - a / a_next)))
        # epsilon is taken as (x - sqrt(a) x_0) / sqrt(1 - a), so that it and the clipped x_0 still add up to x.
        s = math.sqrt(max(0.0, 1 - a_next - sigma**2) / (1 - a))
        steps.append(Step(*back_to_x0(prediction, a), math.sqrt(a_next) - s * math.sqrt(a), s, sigma, a, a_next))
    return steps


def hidden(mask: str, height: int, width: int) -> Tensor:
    """bool [H, W], True where an image is made new: one half of it, or the middle half of both sides."""
    new = torch.zeros(height, width, dtype=torch.bool)
    across, down = (slice(size // 4, size - size // 4) for size in (width, height))
    {
        "right": new[:, width // 2 :],
        "left": new[:, : width // 2],
        "top": new[: height // 2],
        "bottom": new[height // 2 :],
        "center": new[down, across],
    }[mask].fill_(True)
    return new


class Diffusion(GuidedFamily):
    """Class-conditional DDPM with a DDIM sampler for images up to 64x64, which also fills in parts of given images."""

    name = "diffusion"
    modality = "image"
    role = "candidate"
    takes: ClassVar[Modality] = "image"
    version = 2
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 50, "sampling steps; cost is proportional", 1, 1000),
        Control("eta", 0.0, "noise put back while sampling: 0 is DDIM, 1 is DDPM", 0, 1),
        Control("guidance", 1.0, "weight of the class while sampling: 0 none, 1 as learned, more is stricter", 0, 100),
        Control(
            "mask", "right", "part of a given image to make new", choices=("right", "left", "top", "bottom", "center")
        ),
        Control("resampling", 5, "times each step is taken when filling in; cost is proportional", 1, 100),
        Control("training_steps", 4000, "training steps", 1, 1_000_000),
        Control("learning_rate", 1e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 192, "hidden units, in multiples of 64", 64, 1024),
        Control("prediction", "epsilon", "what the network predicts", choices=("epsilon", "v", "x")),
        Control("schedule", "linear", "how the noise grows with time", choices=("linear", "cosine")),
    )
    at_sampling = frozenset({"steps", "eta", "guidance", "mask", "resampling"})

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["training_steps"]), float(self._settings["learning_rate"])
        prediction, abar = str(self._settings["prediction"]), self._abar().float().to(device)
        x, labels = (x * 2 - 1).to(device), labels.to(device)
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
                answer = net(x_t, t, dropped(labels[rows], len(look.classes), rng))
                loss = F.mse_loss(answer, target(prediction, x[rows], epsilon, a))
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _build(self, look: Look) -> nn.Module:
        return image_denoiser(look, int(self._settings["width"]))

    def _abar(self) -> Tensor:
        return schedule(str(self._settings["schedule"]))

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
        path = times(int(self._settings["steps"]))
        answer = self._guided(torch.tensor(path), labels)
        for i, step in enumerate(self._plan(path)):
            x = _taken(step, x, answer(x, i), rng)
        return (x + 1) / 2

    def _plan(self, path: list[int]) -> list[Step]:
        return plan(path, self._abar().tolist(), str(self._settings["prediction"]), float(self._settings["eta"]))

    def sample_given(self, inputs: SampleSet, seed: int) -> Iterator[Batch]:
        """Each image with its part `mask` made new and every other pixel kept to the byte.

        An image whose class is not one of those learned is filled in without a class. Raises BadSetting before `fit`,
        ModalityMismatch, TooFewSamples, or BadSource for an image of another size.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before sample_given")
        check_images(inputs, self.name)
        return answer_images(inputs, self._look, self.name, seed, self._filled)

    def _filled(self, given: GivenImages, rng: torch.Generator) -> npt.NDArray[np.uint8]:
        new = hidden(str(self._settings["mask"]), self._look.height, self._look.width)
        labels = torch.where(given.labels < 0, self._null, given.labels)
        x = self._inpainted(given.x.to(self._device), new.to(self._device), labels.to(self._device), rng)
        # Pasted as bytes: rendering snaps to the training levels, which a given image need not keep to.
        return np.where(new.numpy()[:, :, None], self._look.render(x), given.pixels)

    def _inpainted(self, image: Tensor, new: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images in 0..1 that agree with `image` in 0..1 where not `new`: RePaint's algorithm 1."""

        def noise() -> Tensor:
            return torch.randn(x0.shape, generator=rng).to(x0.device)

        x0, path, again = image * 2 - 1, times(int(self._settings["steps"])), int(self._settings["resampling"])
        answer, x = self._guided(torch.tensor(path), labels), noise()
        for i, step in enumerate(self._plan(path)):
            clean, kept = step.abar_next == 1, step.abar / step.abar_next
            # The last step is taken once: nothing comes after it that could use another attempt.
            for attempt in range(1 if clean else again):
                if attempt:
                    x = math.sqrt(kept) * x + math.sqrt(1 - kept) * noise()
                x = _taken(step, x, answer(x, i), rng)
                known = math.sqrt(step.abar_next) * x0 + math.sqrt(1 - step.abar_next) * noise()
                x = torch.where(new, x, known)
        return (x + 1) / 2

    def reconstruct(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Images [B, H, W, 3] after DDIM to x_T and back without a class, float32 [B, 3, H, W] in 0..255.

        Nothing is drawn. Images of another size are averaged over areas to the size that was learned; colours too
        where it learned grey. Raises BadSetting before `fit`.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before reconstruct")
        x = area_resized(images, *self._look.shape[1:]) / 255
        x = x if self._look.channels == 3 else x.mean(1, keepdim=True)
        with torch.no_grad():
            returned = self._returned(x.to(self._device) * 2 - 1)
        return ((returned + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1) * 255

    def _returned(self, x: Tensor) -> Tensor:
        """Images in -1..1 taken up to x_T and back."""
        down = times(RETURN_STEPS)
        # The network has not seen time 0: a clean image is taken for one at time 1, as ADM's code does.
        up = [max(1, t) for t in reversed(down)]
        abar, kind = self._abar().tolist(), str(self._settings["prediction"])
        null = torch.full((len(x),), self._null, device=x.device)
        for path in (up, down):
            answer = guided(self._net, torch.tensor(path, device=x.device), null, self._null, 0.0)
            for i, step in enumerate(plan(path, abar, kind, eta=0.0)):
                x = _taken(step, x, answer(x, i), torch.Generator())
        return x


def _taken(step: Step, x: Tensor, answer: Tensor, rng: torch.Generator) -> Tensor:
    """x one step later, the network's answer to it being known."""
    x0 = (step.p * x + step.q * answer).clamp(-1, 1)
    x = step.r * x0 + step.s * x
    return x + step.sigma * torch.randn(x.shape, generator=rng).to(x.device) if step.sigma > 0 else x
