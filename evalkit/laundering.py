"""What happens to an image between its maker and a detector: named, seeded chains of re-encoding, resizing and worse.

A chain is pure: uint8 [H, W, 3] and a seed in, uint8 [H, W, 3] out; the same two always give the same result, and no
global state is read. Images come back as the pixels that the laundered file would decode to. Codecs are Pillow's
(libjpeg-turbo, libwebp); JPEG is 4:2:0 as every social network and every library writes it by default.

Where a chain is somebody's protocol its source is named at the function. Those protocols draw with the random streams
of torch, OpenCV or Python; ours draws with numpy, so numbers agree in distribution and not image by image.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageFilter

from .errors import BadSetting, UnknownName, UnreadableSample

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels: TypeAlias = "npt.NDArray[np.uint8]"
    Change: TypeAlias = "Callable[[Pixels, int], Pixels]"

VERSION = 1
SMALLEST = 8  # pixels: below this a codec sees one block and a crop leaves nothing
LANCZOS, BILINEAR, BICUBIC = Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC

# AI-GenBench evaluates with a fixed seed; https://github.com/MI-BioLab/AI-GenBench
AIGENBENCH_SEED = 4321
# Its JPEG quality is drawn from the two numbers 50 and 101, not from the range between them; 101 is above the scale,
# and libjpeg takes it for 100.
AIGENBENCH_QUALITIES = (50, 100)
# Sides to which a network limits an upload, with the quality it is then stored at: drawn from 71..85.
SOCIAL_SIDES = (1080, 1200, 2048)
SOCIAL_QUALITIES = (71, 85)


@dataclass(frozen=True)
class Chain:
    """A named way of changing an image; called with uint8 [H, W, 3] and a seed it gives uint8 [H', W', 3].

    Raises UnreadableSample for an image whose shorter side is under `least` pixels.
    """

    name: str
    says: str
    change: Change
    least: int = SMALLEST

    def __call__(self, image: Pixels, seed: int) -> Pixels:
        height, width = image.shape[:2]
        if min(height, width) < self.least:
            raise UnreadableSample(f"the image is {width} x {height}; the chain {self.name} needs {self.least} a side")
        return self.change(image, seed)

    @property
    def recipe(self) -> str:
        """Everything the chain does, in words: what the digest of a laundered sample covers."""
        return f"laundering/{VERSION} {self.name}: {self.says}"


# Steps ----------------------------------------------------------------------------------------------------------------


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Through JPEG of this quality (1 to 100) at 4:2:0."""
    return _coded(image, "JPEG", {"quality": quality, "subsampling": 2})


def webp(image: Pixels, quality: int) -> Pixels:
    """Through lossy WebP of this quality (0 to 100)."""
    return _coded(image, "WEBP", {"quality": quality, "method": 4})


def _coded(image: Pixels, kind: str, options: Mapping[str, int]) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return np.array(Image.open(buffer).convert("RGB"), dtype=np.uint8)


def resized(image: Pixels, width: int, height: int, kernel: Image.Resampling = LANCZOS) -> Pixels:
    """At another size, antialiased where it shrinks."""
    return np.asarray(Image.fromarray(image).resize((width, height), kernel)).copy()


def scaled(image: Pixels, factor: float, kernel: Image.Resampling = LANCZOS) -> Pixels:
    """At `factor` of its size, at least one pixel a side."""
    height, width = image.shape[:2]
    return resized(image, max(1, round(width * factor)), max(1, round(height * factor)), kernel)


def _there_and_back(image: Pixels, factor: float) -> Pixels:
    height, width = image.shape[:2]
    return resized(scaled(image, factor), width, height)


def _window(image: Pixels, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A part of this size from a random place."""
    top = int(rng.integers(image.shape[0] - height + 1))
    left = int(rng.integers(image.shape[1] - width + 1))
    return image[top : top + height, left : left + width].copy()


def _cropped(image: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    return _window(image, max(1, round(height * share)), max(1, round(width * share)), rng)


def _filtered(image: Pixels, kernel: ImageFilter.Filter) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(kernel)).copy()


def _noisy(image: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    """With white Gaussian noise of this standard deviation, in grey levels, in each channel."""
    return _rounded(image + rng.normal(0.0, deviation, image.shape))


def _rounded(values: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blurred(image: Pixels, size: int) -> Pixels:
    """With OpenCV's Gaussian kernel of `size` pixels, whose sigma follows from its size (getGaussianKernel)."""
    from scipy.ndimage import gaussian_filter1d

    sigma, values = 0.3 * ((size - 1) * 0.5 - 1) + 0.8, image.astype(np.float64)
    for axis in (0, 1):
        values = gaussian_filter1d(values, sigma, axis=axis, mode="mirror", radius=size // 2)
    return _rounded(values)


def _grey(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB")).copy()


# Chains ---------------------------------------------------------------------------------------------------------------


def _screenshot(image: Pixels, seed: int) -> Pixels:
    """Shown at 80 to 125 % between margins of white, pale or dark grey, as a viewer does, and stored without loss."""
    rng = np.random.default_rng(seed)
    shown = scaled(image, float(rng.uniform(0.8, 1.25)), BILINEAR)
    height, width = shown.shape[:2]
    margin = int(rng.integers(1, max(2, max(height, width) // 8)))
    paper = np.full((height + 2 * margin, width + 2 * margin, 3), int(rng.choice([255, 240, 32])), np.uint8)
    paper[margin : margin + height, margin : margin + width] = shown
    return paper


def _double_jpeg(image: Pixels, seed: int) -> Pixels:
    """The second grid of 8 x 8 blocks is 3 pixels off the first, as after a crop."""
    return jpeg(jpeg(image, 85)[3:, 3:].copy(), 75)


def _social(image: Pixels, seed: int, side: int) -> Pixels:
    longest = max(image.shape[:2])
    # Networks shrink what is too large and leave the size of the rest.
    shown = scaled(image, side / longest) if longest > side else image
    low, high = SOCIAL_QUALITIES
    return jpeg(shown, int(np.random.default_rng(seed).integers(low, high + 1)))


def _recaptured(image: Pixels, seed: int) -> Pixels:
    """A screen or print photographed again: a little keystone, lens blur, another gamma, sensor noise, JPEG 85."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], float)
    quad = corners + rng.uniform(0, 0.03, (4, 2)) * np.array([width, height]) * np.where(corners > 0, -1, 1)
    view = Image.fromarray(image).transform(
        (width, height), Image.Transform.QUAD, tuple(quad.ravel().tolist()), Image.Resampling.BICUBIC
    )
    soft = np.asarray(view.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float64)
    lit = 255 * (soft / 255) ** rng.uniform(0.85, 1.2)
    return jpeg(_noisy(_rounded(lit), 2.0, rng), 85)


def _aigenbench(image: Pixels, seed: int) -> Pixels:
    """The evaluation chain of AI-GenBench up to the resize to a network's input, which is the detector's own.

    Centre crop to at most 1080; grey, p 0.1; JPEG, p 0.5; Gaussian noise of 0.015 to 0.075 of full scale, p 0.3; JPEG,
    p 0.2; a random crop of half to all of the area resized to 256..512, p 0.25; JPEG, p 0.1. Its choice between OpenCV
    and Pillow as encoder is Pillow here. Its images are photographs: small ones grow to 256 at the least when resized.
    """
    rng = np.random.default_rng([AIGENBENCH_SEED, seed])
    height, width = image.shape[:2]
    top, left = max(0, height - 1080) // 2, max(0, width - 1080) // 2
    image = image[top : top + 1080, left : left + 1080].copy()
    if rng.random() < 0.1:
        image = _grey(image)
    image = _maybe_jpeg(image, 0.5, rng)
    if rng.random() < 0.3:
        image = _noisy(image, 255 * float(rng.uniform(0.015, 0.075)), rng)
    image = _maybe_jpeg(image, 0.2, rng)
    if rng.random() < 0.25:
        image = _random_resized_crop(image, rng)
    return _maybe_jpeg(image, 0.1, rng)


def _maybe_jpeg(image: Pixels, p: float, rng: np.random.Generator) -> Pixels:
    return jpeg(image, int(rng.choice(AIGENBENCH_QUALITIES))) if rng.random() < p else image


def _random_resized_crop(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A part of 0.5 to 1 of the area and an aspect of 3/4 to 4/3, made a square of 256 to 512 pixels."""
    height, width = image.shape[:2]
    area = height * width * rng.uniform(0.5, 1.0)
    aspect = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    part = _window(
        image,
        int(np.clip(round(np.sqrt(area / aspect)), 1, height)),
        int(np.clip(round(np.sqrt(area * aspect)), 1, width)),
        rng,
    )
    side = int(rng.integers(256, 513))
    return resized(part, side, side, (BILINEAR, BICUBIC, LANCZOS)[int(rng.integers(3))])


# Frank et al. 2020, section 4.3, as RINE (Koutlis & Papadopoulos 2024, section 4.4) takes them over: ranges are theirs.


def _rine_blur(image: Pixels, seed: int) -> Pixels:
    return _blurred(image, int(np.random.default_rng(seed).choice([3, 5, 7, 9])))


def _rine_crop(image: Pixels, seed: int) -> Pixels:
    """5 to 20 % taken off both sides, then enlarged to what it was."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    return resized(_cropped(image, 1 - float(rng.uniform(0.05, 0.2)), rng), width, height, BICUBIC)


def _rine_jpeg(image: Pixels, seed: int) -> Pixels:
    return jpeg(image, int(np.random.default_rng(seed).integers(10, 76)))


def _rine_noise(image: Pixels, seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    return _noisy(image, float(np.sqrt(rng.uniform(5.0, 20.0))), rng)


def _rine_combined(image: Pixels, seed: int) -> Pixels:
    """Each of the four with p 0.5, in this order."""
    chosen = np.random.default_rng(seed).random(4) < 0.5
    for k, step in enumerate((_rine_blur, _rine_crop, _rine_jpeg, _rine_noise)):
        if chosen[k]:
            # Other numbers than those that chose, and others for each step.
            image = step(image, int(np.random.default_rng([seed, k]).integers(2**31)))
    return image


def _seedless(change: Callable[[Pixels], Pixels]) -> Change:
    return lambda image, seed: change(image)


def _all() -> tuple[Chain, ...]:
    return (
        *(Chain(f"jpeg{q}", f"JPEG {q}, 4:2:0", _seedless(partial(jpeg, quality=q))) for q in (95, 85, 75, 50)),
        *(Chain(f"webp{q}", f"lossy WebP of quality {q}", _seedless(partial(webp, quality=q))) for q in (90, 80)),
        *(
            Chain(f"resize{f}", f"to {f} of its size and back, Lanczos", _seedless(partial(_there_and_back, factor=f)))
            for f in (0.9, 0.5)
        ),
        Chain("upscale2", "to twice its size, Lanczos", _seedless(partial(scaled, factor=2.0))),
        Chain(
            "crop0.8",
            "0.8 of each side from a random place",
            lambda image, seed: _cropped(image, 0.8, np.random.default_rng(seed)),
        ),
        Chain(
            "screenshot",
            "shown at 80 to 125 % (bilinear) between margins of white or grey (255, 240, 32), no loss",
            _screenshot,
        ),
        Chain(
            "sharpen",
            "unsharp mask of radius 2 pixels, 150 %",
            _seedless(partial(_filtered, kernel=ImageFilter.UnsharpMask(2, 150, 0))),
        ),
        Chain(
            "blur", "Gaussian blur, sigma 1 pixel", _seedless(partial(_filtered, kernel=ImageFilter.GaussianBlur(1)))
        ),
        Chain(
            "noise",
            "white Gaussian noise, sigma 5 grey levels",
            lambda image, seed: _noisy(image, 5.0, np.random.default_rng(seed)),
        ),
        Chain("double_jpeg", "JPEG 85, 3 pixels cropped at the top and left, JPEG 75", _double_jpeg, SMALLEST + 3),
        *(
            Chain(
                f"social{side}",
                f"long side at most {side} (Lanczos), JPEG of a quality from 71..85",
                partial(_social, side=side),
            )
            for side in SOCIAL_SIDES
        ),
        Chain("recapture", "photographed again: keystone, blur 0.7, gamma 0.85..1.2, noise 2, JPEG 85", _recaptured),
        Chain("aigenbench", "the evaluation chain of AI-GenBench (seed 4321; quality 50 or 100)", _aigenbench),
        Chain("rine_blur", "Gaussian kernel of 3, 5, 7 or 9 pixels", _rine_blur),
        Chain("rine_crop", "5 to 20 % cropped, enlarged back, bicubic", _rine_crop),
        Chain("rine_jpeg", "JPEG of a quality from 10..75", _rine_jpeg),
        Chain("rine_noise", "white Gaussian noise, variance 5 to 20 squared grey levels", _rine_noise),
        Chain("rine_combined", "rine_blur, _crop, _jpeg, _noise, each with p 0.5", _rine_combined),
    )


CHAINS: Mapping[str, Chain] = MappingProxyType({chain.name: chain for chain in _all()})

# What an image meets on any upload: a verdict that flips under these was not worth giving.
MILD: tuple[str, ...] = ("jpeg95", "jpeg85", "resize0.9", "webp90")


def chain_of(name: str) -> Chain:
    """The chain of this name; UnknownName, with the nearest one, when there is none."""
    if name not in CHAINS:
        raise UnknownName("chain", name, CHAINS)
    return CHAINS[name]


def shrunk(parts: int) -> Chain:
    """The chain that leaves 1 / parts of each side (Lanczos); BadSetting when parts is under 2."""
    if parts < 2:
        raise BadSetting(f"1/{parts} of the side is no smaller; give 2 or more")
    return Chain(f"1/{parts}", f"1/{parts} of each side, Lanczos", _seedless(partial(scaled, factor=1 / parts)), parts)
