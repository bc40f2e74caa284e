"""Judge by the spectrum: how much detail an image has at each scale, against what real images have.

Generators leave their mark on the radially averaged power spectrum of the luminance: too little at high frequencies
(blur), too much (noise), or peaks (upsampling); Durall et al. 2020, section 3. A spectrum is a second-order statistic:
a generator that matches means and covariances, as a fitted Gaussian does, is nearly hidden from it.

Frequencies are in cycles a pixel from 0 to sqrt(1/2) (the corner, where a checkerboard is), in a fixed number of bins,
so images of any size from 4 x 4 have rows of one width. Nothing is resized, because resizing rewrites the spectrum;
of images over 1,024 pixels a side the centre is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import ModalityMismatch, UnreadableSample
from evalkit.types import SampleSet

from ._fit import collect
from ._judge import LinearJudge

if TYPE_CHECKING:
    from evalkit.types import Media

BINS = 24
SMALLEST, LARGEST = 4, 1024
C = 0.1

# Rounding to whole grey levels is white noise of this power (squared grey levels): below it there is no signal.
ROUNDING = 1 / 12


class Spectrum(LinearJudge):
    """Logistic regression on the radially averaged log power spectrum of an image's luminance."""

    name = "spectrum"
    modality: ClassVar[Literal["image"]] = "image"
    columns = BINS
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"bins": BINS, "largest": LARGEST, "C": C})

    def prepare(self, sample: Media) -> Tensor:
        """float32 [24], the profile; UnreadableSample when a side is under 4 pixels."""
        if isinstance(sample, str):
            raise ModalityMismatch(f"detector {self.name!r} judges images and was given a text")
        return torch.from_numpy(radial_log_power(_luminance(sample)).astype(np.float32))

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        return self._p_fake(batch)

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed shuffles the folds of the calibration."""
        data = collect(self.name, self.modality, self.prepare, real, fake)
        self.to(device)
        self._learn_linear(torch.stack(data.prepared), data.is_fake, C, seed, data.words)


def radial_log_power(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Natural log of the power in each of 24 rings of frequency, from [H, W] grey levels (0..255).

    Power is |F|^2 / (H W) of the image without its mean, averaged over the ring: white noise of variance v gives ln v
    everywhere. Rings without a frequency of a small image are interpolated from their neighbours.
    """
    height, width = grey.shape
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2 / grey.size
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    ring = np.minimum((radius / np.sqrt(0.5) * BINS).astype(int), BINS - 1).ravel()
    # Frequency zero is the mean, which was taken out.
    count = np.bincount(ring[1:], minlength=BINS)
    total = np.bincount(ring[1:], weights=power.ravel()[1:], minlength=BINS)
    full = np.flatnonzero(count)
    profile: npt.NDArray[np.float64] = np.interp(np.arange(BINS), full, np.log(total[full] / count[full] + ROUNDING))
    return profile


def _luminance(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Rec. 601 luma [H, W] in 0..255 of the central part."""
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise UnreadableSample(f"the image is {width} x {height}; a spectrum needs {SMALLEST} pixels a side")
    top, left = max(0, height - LARGEST) // 2, max(0, width - LARGEST) // 2
    grey: npt.NDArray[np.float64] = image[top : top + LARGEST, left : left + LARGEST] @ np.array([0.299, 0.587, 0.114])
    return grey
