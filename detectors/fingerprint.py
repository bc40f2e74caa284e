"""Attribute by the fingerprint: what the images of one generator have in common once their scenes are averaged away.

Marra et al. 2019, "Do GANs leave artificial fingerprints?", section 3: an image less its denoised self leaves a
residual; the mean residual of many images of one source is its fingerprint; an image is of the source whose fingerprint
its residual correlates with most. The denoiser here is the local adaptive Wiener filter (Lee 1980) on 3 x 3 windows,
which works from 8 x 8 pixels on: x - (x - m) min(1, v / s), m and s the mean and variance of the window, v the noise
variance. It is clamped where texture is strong, so that edges of scenes weigh little. v is fixed: 9 squared grey levels
(a deviation of 3), as in the camera identification the method comes from, where it is 2 to 5.

A fingerprint stays where it is: nothing is resized or shifted. Images are cut to one size, the smallest height and
width of the training images (at most 1,024); the cut is central, its corner moved up and left to a multiple of 16
pixels, so that the phase of an upsampling grid is the same in images of several sizes. Smaller ones are not attributed.

Evidence is the autocorrelation of the fingerprint (section 4): upsampling leaves peaks at the period of its grid.

What it cannot see: a source whose residuals have nothing in common, such as photographs of many cameras, has no
fingerprint, and its images come out as another's or as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import UnreadableSample
from evalkit.extractors.area import image_of
from evalkit.types import SampleSet

from ._sources import FOLDS, REJECTED, Array, Attributing, gather

if TYPE_CHECKING:
    from evalkit.types import Media

SMALLEST, LARGEST = 8, 1024
GRID = 16
NOISE = 9.0
# A peak is named from this many standard deviations of the correlation of white noise on.
NOTABLE = 5.0
PEAKS = 3


class Fingerprint(Attributing):
    """Attributor: correlation of an image's noise residual with the mean residual of each source."""

    name = "fingerprint"
    modality: ClassVar[Literal["image"]] = "image"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"noise": NOISE, "window": 3, "sides": (SMALLEST, LARGEST), "grid": GRID, "rejected": REJECTED}
    )

    def prepare(self, sample: Media) -> Tensor:
        """float32 [3, H, W] of the size of the fingerprints, mean 0 and length 1; UnreadableSample when smaller."""
        self._fitted()
        return _signal(_image(sample, self.name), self._facts["size"])

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        self._fitted()
        # Both sides have length 1: the product is the normalised cross-correlation, -1..1.
        found = batch.cpu().double().flatten(1) @ self._marks.flatten(1).T
        return self._rows(found, found)

    def fit_sources(self, sources: Mapping[str, SampleSet], *, seed: int, device: str = "cpu") -> None:
        """Learn from two or more sources of at least 20 images; the seed deals the five parts of the calibration."""
        shapes: list[tuple[int, int]] = []
        gathered = gather(self.name, sources, lambda sample: shapes.append(_image(sample, self.name).shape[:2]), seed)
        size = [min(LARGEST, *(shape[axis] for shape in shapes)) for axis in (0, 1)]
        k = len(gathered.names)
        sums = np.zeros((k, FOLDS, 3, *size))
        counts = np.zeros((k, FOLDS, 1, 1, 1))
        for i, residual in gathered.prepared(lambda sample: _residual(_image(sample, self.name), size)):
            at = gathered.truth[i], gathered.fold[i]
            sums[at] += residual.numpy()
            counts[at] += 1
        # What each fingerprint is without one part, to score that part.
        without = _unit((sums.sum(1, keepdims=True) - sums) / (counts.sum(1, keepdims=True) - counts))
        scores = np.empty((len(gathered.samples), k))
        for i, signal in gathered.prepared(lambda sample: _signal(_image(sample, self.name), size)):
            scores[i] = np.tensordot(without[:, gathered.fold[i]], signal.numpy(), 3)
        marks = _unit(sums.sum(1) / counts.sum(1))
        evidence = {name: in_words(mark) for name, mark in zip(gathered.names, marks, strict=True)}
        facts = {"seed": seed, "size": size, "evidence": evidence}
        self.to(device)
        self._learn_sources({"marks": torch.from_numpy(marks).float()}, facts, gathered, scores, scores)

    def _ready(self) -> None:
        super()._ready()
        size = [int(side) for side in self._facts["size"]]
        if self._tensors["marks"].shape != (len(self.sources), 3, *size):
            raise ValueError("the fingerprints are not of this size")
        self._marks = self._tensors["marks"].double().cpu()


def _image(sample: Media, name: str) -> npt.NDArray[np.uint8]:
    image = image_of(sample, f"attributor {name!r}")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise UnreadableSample(f"the image is {width} x {height}; a fingerprint needs {SMALLEST} pixels a side")
    return image


def central(image: npt.NDArray[np.uint8], size: list[int]) -> npt.NDArray[np.uint8]:
    """The middle [size] of [H, W, 3], its corner moved up and left to a multiple of 16; UnreadableSample if smaller."""
    (height, width), (tall, wide) = image.shape[:2], size
    if height < tall or width < wide:
        raise UnreadableSample(
            f"the image is {width} x {height}, the fingerprints are of {wide} x {tall}; fit them on images of its size"
        )
    top, left = (height - tall) // 2 // GRID * GRID, (width - wide) // 2 // GRID * GRID
    return image[top : top + tall, left : left + wide]


def residual(planes: Array) -> Array:
    """What the adaptive Wiener filter takes for noise, [..., H, W] in grey levels; outside, the border is mirrored."""
    from scipy.ndimage import uniform_filter

    window = (*[1] * (planes.ndim - 2), 3, 3)
    mean = uniform_filter(planes, window, mode="reflect")
    variance = uniform_filter(planes**2, window, mode="reflect") - mean**2
    found: Array = (planes - mean) * (NOISE / np.maximum(variance, NOISE))
    return found


def _residual(image: npt.NDArray[np.uint8], size: list[int]) -> Tensor:
    return torch.from_numpy(residual(central(image, size).transpose(2, 0, 1).astype(np.float64)))


def _signal(image: npt.NDArray[np.uint8], size: list[int]) -> Tensor:
    return torch.from_numpy(_unit(_residual(image, size).numpy())).float()


def _unit(planes: Array) -> Array:
    """[..., 3, H, W] with the mean of each plane taken out, scaled to length 1; a flat one stays zero."""
    centred = planes - planes.mean(axis=(-2, -1), keepdims=True)
    length = np.sqrt((centred**2).sum(axis=(-3, -2, -1), keepdims=True))
    found: Array = centred / np.maximum(length, 1e-9)
    return found


def autocorrelation_peaks(mark: Array) -> list[tuple[float, int, int]]:
    """The highest peaks of the circular autocorrelation of a fingerprint [3, H, W]: (height, lag down, lag across).

    At most three, highest first, each above its eight neighbours and above 5 standard deviations of white noise,
    1 / sqrt(H W). Lags under 2 pixels are left out: every filter correlates neighbours. Of a lag and its opposite one
    is listed.
    """
    height, width = mark.shape[-2:]
    spectrum = (np.abs(np.fft.fft2(mark)) ** 2).sum(axis=0)
    found = np.fft.ifft2(spectrum).real
    found = found / max(found[0, 0], 1e-30)
    around = [np.roll(found, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    is_peak = (found > np.max(around, axis=0)) & (found > NOTABLE / np.sqrt(height * width))
    peaks = []
    for y, x in zip(*np.nonzero(is_peak), strict=True):
        down, across = (int(v) - n * (int(v) > n // 2) for v, n in ((y, height), (x, width)))
        if max(abs(down), abs(across)) >= 2 and (down, across) >= (0, 0):
            peaks.append((float(found[y, x]), down, across))
    return sorted(peaks, reverse=True)[:PEAKS]


def in_words(mark: Array) -> str:
    """The autocorrelation peaks of a fingerprint in one phrase."""
    peaks = autocorrelation_peaks(mark)
    if not peaks:
        return "no peak in the autocorrelation of its fingerprint"
    said = ", ".join(f"{height:.2f} at {down} down {across} across" for height, down, across in peaks)
    return f"autocorrelation of its fingerprint: {said} (pixels)"
