"""Detectors against someone who means to pass them: projected gradient descent, and its images shown to other judges.

The attacker of Madry et al. 2018 (section 2.1, eq. 2) moves every pixel by at most epsilon grey levels of 255: from a
random start, ten steps of 2.5 epsilon / 10 along the sign of the gradient of the log-odds, each put back into the cube
around the image and into 0..255. Fakes are made to look real (evasion); reals are made to look fake (framing), which
matters where a verdict hurts the maker of an image.

What is handed out are whole grey levels, still within epsilon, and they are judged as any image is: an attack that does
not outlive rounding is none. Of the points on its way the best one is kept, and the untouched image where rounding left
nothing gained; so a detector cannot look robust because an attack overshot. An image's random start follows from the
seed and its content. White-box means that the attacked detector is the judge; in a transfer the images were made
against another detector, which needs no access to the judge and works on judges without gradients. Gradients of zero
are no robustness (Athalye et al. 2018, section 3): they are counted and said.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import BadSetting, ModalityMismatch, RunFailed, UnreadableSample
from ..hardware import derive_seed
from ..measurement import Bench
from ..samples import ListedSet
from ..types import Detector, Differentiable, Sample, SampleSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Pixels: TypeAlias = "npt.NDArray[np.uint8]"

Direction: TypeAlias = Literal["real", "fake"]
STEPS = 10
# Of epsilon: what ten steps may travel is 2.5 epsilon, so that every corner of the cube can be reached from any start.
REACH = 2.5


@dataclass(frozen=True)
class Attacked:
    """Images under attack, in the order, with the ids and groups of what they were made of.

    flat: how many had a gradient of exactly zero where the attack began. unreadable: how many could not be decoded.
    """

    samples: ListedSet
    flat: int
    unreadable: int


def attacked(
    detector: Detector, samples: SampleSet, *, epsilon: float, towards: Direction, seed: int, bench: Bench
) -> Attacked:
    """The images of a set moved by at most `epsilon` grey levels so that a detector finds them more real, or more fake.

    Raises BadSetting when the detector has no gradients or epsilon is not in 0..255, ModalityMismatch for texts,
    RunFailed when a gradient is not finite.
    """
    if not isinstance(detector, Differentiable):
        raise BadSetting(f"detector {detector.name!r} has no gradients; attack another one and show it those images")
    if samples.modality != "image":
        raise ModalityMismatch(f"{samples.name!r} holds {samples.modality}s; only images can be attacked")
    detector.to(bench.device)
    taken: list[Sample] = []
    images: list[Pixels] = []
    for sample in samples:
        try:
            image = sample.load()
        except UnreadableSample:
            continue
        assert not isinstance(image, str)
        taken.append(sample)
        images.append(image)
    seeds = [derive_seed(seed, "attack", sample.digest) for sample in taken]
    words = f"{samples.name}: {detector.name} attacked, {epsilon:g}/255 towards {towards}"
    bench.progress.start(words, len(images))
    moved, flat = list(images), 0
    for chosen in _batches(images, bench.batch_size):
        found, zeros = projected_gradient(
            detector,
            [images[i] for i in chosen],
            epsilon=epsilon,
            towards=towards,
            seeds=[seeds[i] for i in chosen],
            device=bench.device,
        )
        flat += zeros
        for i, image in zip(chosen, found, strict=True):
            moved[i] = image
        bench.progress.advance(len(chosen))
    bench.progress.finish()
    listed = tuple(_sample(sample, image) for sample, image in zip(taken, moved, strict=True))
    made = ListedSet(f"{samples.name} ({epsilon:g}/255 towards {towards})", "image", listed)
    return Attacked(made, flat, len(samples) - len(taken))


def projected_gradient(
    detector: Differentiable,
    images: Sequence[Pixels],
    *,
    epsilon: float,
    towards: Direction,
    seeds: Sequence[int],
    steps: int = STEPS,
    device: str = "cpu",
) -> tuple[list[Pixels], int]:
    """Images uint8 [H, W, 3] of one size, each moved by at most `epsilon` grey levels, and how many have no gradient.

    towards: "real" lowers the log-odds of fake, "fake" raises them. seeds: of the random start of each image.
    Raises BadSetting when epsilon is not in 0..255 or steps is under 1, RunFailed when a gradient is not finite.
    """
    import numpy as np
    import torch

    if not 0 <= epsilon <= 255 or steps < 1:
        raise BadSetting(f"epsilon {epsilon:g}, {steps} steps; expected 0 to 255 grey levels and at least one step")
    if not epsilon or not images:
        return [image.copy() for image in images], 0
    clean = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)).to(device)
    low, high = (clean - epsilon).clamp_min(0), (clean + epsilon).clamp_max(255)
    starts = [np.random.default_rng(s).uniform(-epsilon, epsilon, clean.shape[1:]) for s in seeds]
    x = (clean + torch.from_numpy(np.stack(starts)).float().to(device)).clamp(low, high)
    sign, step = (-1.0 if towards == "real" else 1.0), REACH * epsilon / steps
    best, gain, flat = x, torch.full((len(x),), -math.inf, device=device), 0
    for at in range(steps + 1):
        value, gradient = _climb(detector, x, sign)
        if at == 0:
            flat = int((gradient.flatten(1).abs().amax(dim=1) == 0).sum())
        better = value > gain
        best = torch.where(better[:, None, None, None], x, best)
        gain = torch.where(better, value, gain)
        x = torch.maximum(torch.minimum(x + step * gradient.sign(), high), low)
    # Whole grey levels within epsilon of whole grey levels: the move is rounded, then cut to the whole part of epsilon.
    rounded = clean + (best - clean).round().clamp(-math.floor(epsilon), math.floor(epsilon))
    with torch.no_grad():
        gained = sign * detector.log_odds(rounded) > sign * detector.log_odds(clean)
    kept = torch.where(gained[:, None, None, None], rounded, clean)
    pixels = kept.cpu().numpy().transpose(0, 2, 3, 1).astype(np.uint8)
    return [np.ascontiguousarray(image) for image in pixels], flat


def _climb(detector: Differentiable, x: Tensor, sign: float) -> tuple[Tensor, Tensor]:
    """What the attacker wants more of, [B], and its gradient [B, 3, H, W] in the images."""
    import torch

    x = x.detach().requires_grad_(True)
    value = sign * detector.log_odds(x)
    # Rows do not depend on their batch: the gradient of the sum holds that of every image.
    (gradient,) = torch.autograd.grad(value.sum(), x)
    if not bool(gradient.isfinite().all() and value.isfinite().all()):
        raise RunFailed("the detector's log-odds or their gradient are not finite numbers; it cannot be attacked")
    return value.detach(), gradient


def _batches(images: Sequence[Pixels], size: int) -> list[list[int]]:
    """Positions of images of one size together, at most `size` at once."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(i)
    return [where[start : start + size] for where in shapes.values() for start in range(0, len(where), size)]


def _sample(sample: Sample, image: Pixels) -> Sample:
    digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
    return replace(sample, digest=digest, load=lambda: image, facts=None)
