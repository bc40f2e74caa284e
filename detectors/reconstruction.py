"""Judge by what a generator cannot draw again: how far an image is from its reconstruction.

A generator draws its own images, and those of its relatives, again with less error than photographs: DIRE takes them to
noise and back (Wang et al. 2023, section 3.2), AEROBLADE through the autoencoder of a latent diffusion model (Ricker et
al. 2024, section 3). `reconstruction` asks the decoder mean of our `vae`, `reconstruction:diffusion` our `diffusion` by
DDIM up and back, `reconstruction:latent_diffusion` that model's autoencoder. Both papers' models are published ones of
photographs; ours are trained on real images of the case at hand, so that a fake is an image which that model finds too
easy, or as often too hard: the sign is learnt.

The generator is handed over (`take_reconstructor`), fitted, by whoever has one, because wings do not know each other;
it must have learnt from none of the images that the detector is then fitted on, or those would seem too easy. What it
makes of two fixed patterns is kept beside the weights: another generator is refused, and the digest covers its weights.

Sixteen columns, in logs where they are sizes: the error, its quantiles, the error of the 2 x 2 and 4 x 4 means and of
the differences between neighbours, each also against the image's own high-pass energy, because a busy image has more
to lose; and the signed error. The papers use a learned distance (LPIPS) or a deep classifier instead. Images are
averaged over areas to the size that the generator learned: finer detail is not seen here, `residual` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.errors import BadSetting, RunFailed, UnreadableSample
from evalkit.extractors.area import area_average, image_of
from evalkit.extractors.identity import identity
from evalkit.types import Reconstructor, SampleSet

from ._fit import collect, rows_of
from ._judge import LinearJudge
from ._linear import linear_tensors

if TYPE_CHECKING:
    from evalkit.types import Media

FOLDER = "reconstructor"
RECONSTRUCTORS = ("vae", "diffusion", "latent_diffusion")
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
SMALLEST = 8
C = 0.1
# Patterns by which a generator is known again, and how far two devices may differ on them, in grey levels.
PROBES, NEAR = 2, 0.5
# Rounding to whole grey levels is an error of this size (grey levels): below it there is no signal.
ROUNDING = 1 / 12**0.5


class Reconstruction(LinearJudge):
    """Logistic regression on the error of an image against what a generator of ours draws of it again."""

    name: str = "reconstruction"  # type: ignore[misc]  # A variant has a name of its own.
    modality: ClassVar[Literal["image"]] = "image"
    columns = 16
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"quantiles": QUANTILES, "probes": PROBES, "C": C})

    def __init__(self, variant: str = "") -> None:
        """variant: the generator that draws again: vae (the default), diffusion or latent_diffusion."""
        super().__init__()
        self._wanted = variant or RECONSTRUCTORS[0]
        if self._wanted not in RECONSTRUCTORS:
            raise BadSetting(f"reconstruction:{variant}: expected one of {', '.join(RECONSTRUCTORS)}")
        if variant and variant != RECONSTRUCTORS[0]:
            self.name = f"{self.name}:{variant}"
        self._reconstructor: Reconstructor | None = None
        self._side = (0, 0)

    @property
    def reconstructor_name(self) -> str:
        """The generator that is asked for."""
        return self._wanted

    @property
    def reconstructor(self) -> Reconstructor | None:
        """The generator that was handed over."""
        return self._reconstructor

    @property
    def recipe(self) -> str:
        """The digest of settings and the generator's recipe, once it was handed over; its weights are in `digest`."""
        terms = {**self.settings, "reconstructor": self._wanted, "its recipe": self._their_recipe}
        return identity("reconstruction", self.version, terms)

    @property
    def _their_recipe(self) -> str:
        return str(getattr(self._reconstructor, "recipe", ""))

    def take_reconstructor(self, reconstructor: Reconstructor) -> None:
        """Use this fitted generator; RunFailed when the detector was fitted with another one."""
        answer = _answer(reconstructor)
        self._check_same(answer, self._tensors.get("probe"))
        self._reconstructor, self._side = reconstructor, (int(answer.shape[2]), int(answer.shape[3]))

    def save(self, folder: Path) -> None:
        """Write the detector as every other, and the generator's model folder as `reconstructor` in its own."""
        super().save(folder)
        self._handed_over().save(folder / FOLDER)

    def load(self, folder: Path) -> None:
        """Read a folder that `save` wrote; RunFailed before the generator was handed over, or when it is another."""
        self._handed_over()
        super().load(folder)

    def to(self, device: str) -> None:
        super().to(device)
        # The protocol of a generator has `to`; a reconstructor need not be one.
        move = getattr(self._reconstructor, "to", None)
        if move is not None:
            move(device)

    def prepare(self, sample: Media) -> Tensor:
        """uint8 [3, H, W] of the size that the generator learned; UnreadableSample when a side is under 8 pixels."""
        self._handed_over()
        image = image_of(sample, f"detector {self.name!r}")
        if min(image.shape[:2]) < SMALLEST:
            found = f"{image.shape[1]} x {image.shape[0]}"
            raise UnreadableSample(f"the image is {found}; a reconstruction error needs {SMALLEST} pixels a side")
        return torch.from_numpy(_sized(image, *self._side).transpose(2, 0, 1).copy())

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        self._fitted()
        return self._p_fake(self._statistics(batch))

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side that the generator has not seen; RunFailed before it is handed over.

        The seed shuffles the folds of the calibration.
        """
        reconstructor = self._handed_over()
        data = collect(self.name, self.modality, self.prepare, real, fake)
        self.to(device)
        with torch.no_grad():
            rows = rows_of(self._statistics, data.prepared, device)
        tensors = linear_tensors(rows, data.is_fake, C, seed)
        taught = getattr(reconstructor, "trained_on", "")
        words = f"{data.words}; {self._wanted}" + (f" trained on {taught}" if taught else "")
        self._learn({**tensors, "probe": _answer(reconstructor)}, {"seed": seed}, words)

    def _ready(self) -> None:
        super()._ready()
        probe = self._tensors["probe"]
        if probe.dim() != 4 or len(probe) != PROBES or probe.shape[1] != 3:
            raise ValueError(f"probe has shape {tuple(probe.shape)}, expected {(PROBES, 3, 'H', 'W')}")
        if self._reconstructor is not None:
            self._check_same(_answer(self._reconstructor), probe)

    def _handed_over(self) -> Reconstructor:
        if self._reconstructor is None:
            raise RunFailed(
                f"detector {self.name!r} has no generator to draw images again; hand it a fitted {self._wanted!r}"
                " with take_reconstructor"
            )
        return self._reconstructor

    def _check_same(self, answer: Tensor, probe: Tensor | None) -> None:
        if probe is None:
            return
        if answer.shape != probe.shape or float((answer - probe.cpu()).abs().max()) > NEAR:
            raise RunFailed(f"detector {self.name!r} was fitted with another {self._wanted!r}; hand it that one")

    def _statistics(self, batch: Tensor) -> Tensor:
        """Rows [B, 16] of images uint8 [B, 3, H, W]."""
        pixels = np.ascontiguousarray(batch.permute(0, 2, 3, 1).cpu().numpy())
        again = self._handed_over().reconstruct(pixels).to(batch.device)
        return error_statistics(batch.float(), again)


def error_statistics(images: Tensor, again: Tensor) -> Tensor:
    """Columns [B, 16] of images and their reconstructions, both float32 [B, 3, H, W] in 0..255, H and W at least 8.

    ln of: mean error, five quantiles of it, error of the 2 x 2 and the 4 x 4 means, gradient error, the image's own
    high-pass energy, the gradient energy of the reconstruction; mean error, error of the 4 x 4 means, gradient error
    and the reconstruction's gradient energy over the image's own energy; last the mean signed error in grey levels.
    """
    error = images - again
    size = error.abs().mean(dim=1).flatten(1)
    levels = torch.tensor(QUANTILES, device=images.device)
    columns = [size.mean(dim=1), *torch.quantile(size, levels, dim=1)]
    coarse = [F.avg_pool2d(error, k).abs().flatten(1).mean(dim=1) for k in (2, 4)]
    gradient, own, drawn = gradient_size(error), gradient_size(images), gradient_size(again)
    sizes = torch.stack([*columns, *coarse, gradient, own, drawn], dim=1)
    logs = torch.log(sizes + ROUNDING)
    ratios = logs[:, [0, 7, 8, 10]] - logs[:, [9]]
    return torch.cat([logs, ratios, error.flatten(1).mean(dim=1, keepdim=True)], dim=1)


def gradient_size(x: Tensor) -> Tensor:
    """Mean absolute difference between neighbours, across and down, of [B, C, H, W] -> [B]."""
    across, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    return (across.abs().flatten(1).mean(dim=1) + down.abs().flatten(1).mean(dim=1)) / 2


def _answer(reconstructor: Reconstructor) -> Tensor:
    """What a generator makes of fixed patterns, float32 [2, 3, H, W] on the CPU; H and W are the size it learned."""
    noise = np.random.RandomState(0).randint(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, 8).astype(np.uint8)[None, :, None, None], (1, 8, 8, 3))
    return reconstructor.reconstruct(np.concatenate([noise, ramp])).float().cpu()


def _sized(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Area-averaged to height x width and rounded; an image of that size comes back as it is."""
    if image.shape[:2] == (height, width):
        return image
    if height == width:
        return np.rint(area_average(image, height)).astype(np.uint8)
    # Rows, then columns: the other axis stands among the channels meanwhile.
    tall = area_average(image.reshape(image.shape[0], 1, -1), height)[:, 0].reshape(height, image.shape[1], 3)
    wide = area_average(tall.transpose(1, 0, 2).reshape(image.shape[1], 1, -1), width)[:, 0].reshape(width, height, 3)
    return np.rint(wide.transpose(1, 0, 2)).astype(np.uint8)
