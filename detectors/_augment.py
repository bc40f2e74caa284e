"""What training images go through on their way to a network: blur, JPEG, crop, mirror, each drawn for one sample.

The order and the ranges are those of CNNDetection (Wang et al. 2020, section 4.1): with a probability each, a Gaussian
blur of sigma ~ U[0, 3] pixels, then JPEG of quality ~ U{30..100}, then a crop at a random place, then a mirror. Where
they draw one of two JPEG encoders, Pillow's is used with chroma at half or at full resolution, drawn evenly: that is
what the two encoders differ in most.

One generator of random numbers a (seed, epoch, sample): what happens to a sample does not depend on which batch or
which worker it is in. Nothing is resized. An image smaller than the crop is padded by reflection after blur and JPEG,
as often as needed, its content in the middle.

Only the part of the image that the crop can see is blurred and encoded: blocks of 16 pixels, with the reach of the
blur and one block around. The pixels are those of the whole image treated and then cropped.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

LARGEST_SIGMA = 3.0
QUALITIES = (30, 100)

# What one coded unit of a JPEG with halved chroma spans; the widest blur reaches 12 pixels, less than one unit.
UNIT = 16

# Pillow's numbers of 4:4:4 and 4:2:0.
SUBSAMPLINGS = (0, 2)


@dataclass(frozen=True)
class Augmentation:
    """Probabilities, 0..1, of each change; the crop is always made."""

    blur: float = 0.0
    jpeg: float = 0.0
    mirror: float = 0.5


@dataclass(frozen=True)
class Drawn:
    """What happens to one image: sigma 0 is no blur, quality 0 no JPEG; top and left of the crop, after padding."""

    sigma: float
    quality: int
    subsampling: int
    top: int
    left: int
    mirrored: bool


def generator(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The random numbers of one sample in one epoch; all three are at least 0."""
    return np.random.default_rng([seed, epoch, sample])


def drawn(rng: np.random.Generator, height: int, width: int, side: int, how: Augmentation) -> Drawn:
    """What to do to an image of this size; every draw is made, so that a probability does not move the others."""
    blurs, sigma = rng.random() < how.blur, rng.uniform(0, LARGEST_SIGMA)
    encodes, quality = rng.random() < how.jpeg, int(rng.integers(QUALITIES[0], QUALITIES[1], endpoint=True))
    subsampling = SUBSAMPLINGS[int(rng.integers(2))]
    top, left = (int(rng.integers(0, max(0, length - side), endpoint=True)) for length in (height, width))
    return Drawn(sigma * blurs, quality * encodes, subsampling, top, left, bool(rng.random() < how.mirror))


def augmented(
    image: npt.NDArray[np.uint8], side: int, how: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """A training view uint8 [side, side, 3] of an image uint8 [H, W, 3] of any size."""
    height, width = image.shape[:2]
    draw = drawn(rng, height, width, side, how)
    rows, columns = _seen(draw.top, side, height), _seen(draw.left, side, width)
    part = applied(image[rows, columns], draw)
    y, x = places(part.shape[0], side, draw.top - rows.start), places(part.shape[1], side, draw.left - columns.start)
    crop = part[y[:, None], x]
    return crop[:, ::-1] if draw.mirrored else crop


def applied(image: npt.NDArray[np.uint8], draw: Drawn) -> npt.NDArray[np.uint8]:
    """The image after its blur and its JPEG."""
    if draw.sigma:
        image = blurred(image, draw.sigma)
    return compressed(image, draw.quality, draw.subsampling) if draw.quality else image


def blurred(image: npt.NDArray[np.uint8], sigma: float) -> npt.NDArray[np.uint8]:
    """Each channel under a Gaussian of `sigma` pixels, rounded to grey levels; edges are mirrored."""
    soft = gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    rounded: npt.NDArray[np.uint8] = np.rint(soft).astype(np.uint8)
    return rounded


def compressed(image: npt.NDArray[np.uint8], quality: int, subsampling: int) -> npt.NDArray[np.uint8]:
    """The image written as JPEG of `quality` 1..100 and read again; subsampling 0 is 4:4:4, 2 is 4:2:0."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(stream))


def places(length: int, side: int, start: int) -> npt.NDArray[np.int64]:
    """Which of `length` pixels stand in a crop of `side` that begins at `start`; a shorter line is reflected."""
    if length >= side:
        return np.arange(start, start + side)
    before = (side - length) // 2
    return np.pad(np.arange(length), (before, side - length - before), mode="reflect")


def _seen(start: int, side: int, length: int) -> slice:
    """The part of a line of `length` that decides what a crop of it looks like."""
    if length <= side:
        return slice(0, length)
    first = (start // UNIT - 1) * UNIT
    last = (-(-(start + side) // UNIT) + 1) * UNIT
    # The start stays on the grid of units, or JPEG would cut its blocks elsewhere: the reach is a whole unit.
    return slice(max(0, first - UNIT), min(length, last + UNIT))
