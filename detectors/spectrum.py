"""Judge by the spectrum: how much detail an image has at each scale, and whether a grid of upsampling shines through.

Generators leave their mark on the radially averaged power spectrum of the luminance: too little at high frequencies
(blur) or too much (noise); Durall et al. 2020, section 3. A spectrum is a second-order statistic: a generator that
matches means and covariances, as a fitted Gaussian does, is nearly hidden from it.

A ring averages over directions, so two readings of the high-pass residual stand beside the 24 rings. Its
autocorrelation at nine lags shows what upsampling leaves between neighbours and at the period of the grid (Popescu &
Farid 2005, section II; Corvi et al. 2023, section 3.2), and three peaks say how far its power at the frequencies of a
grid of period 2, 4 and 8 stands over that of the frequencies beside them (Frank et al. 2020, section 3).

Frequencies are in cycles a pixel from 0 to sqrt(1/2) (the corner, where a checkerboard is), in a fixed number of bins,
so images of any size from 4 x 4 have rows of one width: a lag or a period that does not fit into an image reads 0, as
in an image without a grid. Nothing is resized, because resizing rewrites the spectrum; of images over 1,024 pixels a
side the centre is read.
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
# (down, across) in pixels. In all directions next door, then at the strides that upsampling has.
LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 4), (4, 0), (0, 8), (8, 0))
PERIODS = (2, 4, 8)
SMALLEST, LARGEST = 4, 1024
C = 0.1

# Rounding to whole grey levels is white noise of this power (squared grey levels): below it there is no signal.
ROUNDING = 1 / 12


class Spectrum(LinearJudge):
    """Logistic regression on the radial log power spectrum of an image's luminance and the traces of its upsampling."""

    name = "spectrum"
    modality: ClassVar[Literal["image"]] = "image"
    version: ClassVar[int] = 2
    columns = BINS + len(LAGS) + len(PERIODS)
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"bins": BINS, "lags": LAGS, "periods": PERIODS, "largest": LARGEST, "C": C}
    )

    def prepare(self, sample: Media) -> Tensor:
        """float32 [36]: 24 rings, 9 lags, 3 peaks; UnreadableSample when a side is under 4 pixels."""
        if isinstance(sample, str):
            raise ModalityMismatch(f"detector {self.name!r} judges images and was given a text")
        grey = _luminance(sample)
        residual = high_pass(grey)
        row = [radial_log_power(grey), autocorrelation(residual), grid_peaks(residual)]
        return torch.from_numpy(np.concatenate(row).astype(np.float32))

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


def high_pass(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each pixel less the mean of the 3 x 3 around it, [H, W]; outside, the border is repeated."""
    height, width = grey.shape
    padded = np.pad(grey, 1, mode="edge")
    around = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    residual: npt.NDArray[np.float64] = grey - around / 9
    return residual


def autocorrelation(residual: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Correlation in about -1..1 of a residual [H, W] with itself at each of nine lags; 0 for a lag that does not fit.

    It is the mean product of the pairs over the mean square: nothing wraps around, and fewer pairs are not less alike.
    """
    height, width = residual.shape
    # The residual of a flat image is rounding: as a share of its own power it would be as good as any signal.
    power = float((residual**2).mean()) + ROUNDING
    found = np.zeros(len(LAGS))
    for i, (down, across) in enumerate(LAGS):
        if down < height and across < width:
            pairs = residual[: height - down, : width - across] * residual[down:, across:]
            found[i] = pairs.mean() / power
    return found


def grid_peaks(residual: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Natural log of the power on a grid of period 2, 4 and 8 pixels over that of the frequencies beside it, [3].

    On the grid are the multiples of 1/period that are none of 1/(period / 2); beside each are its eight neighbours.
    Read from the largest central part of [H, W] whose sides are multiples of 8, or of 4 under 8 pixels; 0 for a period
    of which a side holds fewer than two, because nothing then lies between the frequencies of the grid.
    """
    multiple = 8 if min(residual.shape) >= 8 else 4
    height, width = (size - size % multiple for size in residual.shape)
    top, left = (residual.shape[0] - height) // 2, (residual.shape[1] - width) // 2
    part = residual[top : top + height, left : left + width]
    power = np.abs(np.fft.fft2(part)) ** 2 / part.size
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    beside = np.mean([np.roll(power, shift, (0, 1)) for shift in shifts], axis=0)
    found = np.zeros(len(PERIODS))
    for i, period in enumerate(PERIODS):
        if min(height, width) < 2 * period:
            continue
        on_grid = np.zeros((period, period), dtype=bool)
        on_grid[1::2] = on_grid[:, 1::2] = True
        steps = (slice(None, None, height // period), slice(None, None, width // period))
        peak, background = power[steps][on_grid].mean(), beside[steps][on_grid].mean()
        found[i] = np.log(peak + ROUNDING) - np.log(background + ROUNDING)
    return found


def _luminance(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Rec. 601 luma [H, W] in 0..255 of the central part."""
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise UnreadableSample(f"the image is {width} x {height}; a spectrum needs {SMALLEST} pixels a side")
    top, left = max(0, height - LARGEST) // 2, max(0, width - LARGEST) // 2
    grey: npt.NDArray[np.float64] = image[top : top + LARGEST, left : left + LARGEST] @ np.array([0.299, 0.587, 0.114])
    return grey
