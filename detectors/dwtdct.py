"""The dwtDct watermark of Stable Diffusion, SDXL and FLUX: whether a known payload is present.

Block k (4 x 4, row by row) of the Haar low-pass band of the U channel carries bit k mod n: the largest coefficient
after the first, modulo 36, lies in the upper half for 1 (invisible-watermark 0.2.0, `EmbedMaxDct`, which has no DCT).
A bit is 1 where more than 127/255 of its blocks say so. `decode` gives the package's bits, to the last one: a
coefficient on the edge of a half is decided by the rounding of the two Haar steps, so they are done in its order.

Programs hand the encoder different images, and each needs its own reading:

- "uint8": whole grey levels, BGR: the scripts of Stable Diffusion 1 and 2, and the package's own decoder;
- "float": floating-point levels, BGR: Stability's SDXL code, FLUX, diffusers from 0.27. OpenCV then centres U at 0.5
  instead of 128, so that blocks where U is negative carry the opposite bit for the package's decoder;
- "float_rgb": the same with red and blue exchanged: diffusers before 0.27.

A mark that is not found says nothing: re-encoding with 4:2:0 chroma, resizing or cropping removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from evalkit.errors import BadSetting
from evalkit.extractors.identity import identity
from evalkit.types import Evidence, MediaFile

from ._payload import Bits, Payload, given, histogram, matches, read_null, testimony

Pixels = npt.NDArray[np.uint8]

STEP = 36.0
# Both Haar filters: 1 / sqrt(2) as PyWavelets writes it.
HAAR = 0.7071067811865476
# The package refuses less.
LEAST_PIXELS = 256 * 256
# Rows beyond are not read: the blocks above them keep their bits, and no generator at hand makes larger images.
MOST_PIXELS = 16_000_000
# Rows decoded at once: bounds memory, changes nothing.
STRIPE = 256
READINGS = ("uint8", "float", "float_rgb")


def _text(word: str) -> tuple[int, ...]:
    return tuple(int(b) for b in np.unpackbits(np.frombuffer(word.encode(), dtype=np.uint8)))


# FLUX writes 48 bits but hands over bin(message)[2:], which drops two leading zeros.
KNOWN = (
    Payload("stable-diffusion-v1", _text("StableDiffusionV1"), ("uint8",)),
    Payload("stable-diffusion-v2", _text("SDV2"), ("uint8",)),
    Payload("invokeai", _text("InvokeAI"), ("uint8",)),
    Payload("sdxl", tuple(int(b) for b in f"{0xB3EC907BB19E:b}"), READINGS),
    Payload("flux", tuple(int(b) for b in f"{0x2AFE879CF52E:b}"), READINGS),
)


# ---------------------------------------------------------------------------------------------- decoding


def block_votes(pixels: Pixels, reading: str = "uint8") -> Bits:
    """What each 8 x 8 block of the image says, row by row: bool [(H // 8) * (W // 8)]; pixels uint8 [H, W, 3] RGB."""
    height, width = pixels.shape[0] // 8 * 8, pixels.shape[1] // 8 * 8
    stripes = (pixels[top : min(top + STRIPE, height), :width] for top in range(0, height, STRIPE))
    votes = [_votes(_chroma(stripe, reading)) for stripe in stripes] if width else []
    return np.concatenate(votes) if votes else np.zeros(0, dtype=bool)


def _chroma(pixels: Pixels, reading: str) -> npt.NDArray[np.float64]:
    """The U channel [H, W] as OpenCV gives it for whole or for floating-point BGR."""
    order = (2, 1, 0) if reading == "float_rgb" else (0, 1, 2)
    if reading == "uint8":
        # Fixed point, 14 bits; U stays within 17..239, so nothing is clipped.
        r, g, b = (pixels[..., c].astype(np.int32) for c in order)
        y = (r * 4899 + g * 9617 + b * 1868 + 8192) >> 14
        return (((b - y) * 8061 + (128 << 14) + 8192) >> 14).astype(np.float64)
    red, green, blue = (pixels[..., c].astype(np.float64) for c in order)
    return np.asarray(0.492 * (blue - (0.299 * red + 0.587 * green + 0.114 * blue)) + 0.5)


def _votes(chroma: npt.NDArray[np.float64]) -> Bits:
    rows = HAAR * chroma[1::2] + HAAR * chroma[0::2]
    low = HAAR * rows[:, 1::2] + HAAR * rows[:, 0::2]
    height, width = low.shape
    blocks = low.reshape(height // 4, 4, width // 4, 4).swapaxes(1, 2).reshape(-1, 16)
    largest = np.abs(blocks[:, 1:]).max(axis=1)
    return np.asarray(largest % STEP > 0.5 * STEP)


def decode(pixels: Pixels, n: int, reading: str = "uint8") -> Bits | None:
    """The n bits that an image carries, marked or not: bool [n]; None where it has fewer than n blocks."""
    return bits_of(block_votes(pixels, reading), n)


def bits_of(votes: Bits, n: int) -> Bits | None:
    """Bool [n]: block k votes on bit k mod n; None where some bit has no vote."""
    if len(votes) < n:
        return None
    turn = np.arange(len(votes)) % n
    share = np.bincount(turn, votes, n) / np.bincount(turn, minlength=n)
    return np.asarray(share * 255 > 127)


# ---------------------------------------------------------------------------------------------- the witness


class DwtDct:
    """Whether an image carries the invisible watermark of Stable Diffusion, SDXL, FLUX or a payload that you give."""

    name = "dwtdct"
    modality = "image"
    version = 1
    licence = "no weights"
    trained = "nothing: known payloads are looked for"

    def __init__(
        self, *, payloads: Mapping[str, str] | None = None, null: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """payloads: name -> hex digits, besides the published ones. null: what `calibrate_null` gave.

        Raises BadSetting for a payload that is no hex, too short or nearly constant, and for a null of another payload.
        """
        taken = {p.name for p in KNOWN} & set(payloads or {})
        if taken:
            raise BadSetting(f"watermark payload {min(taken)!r} is a published one; give yours another name")
        self.payloads = (*KNOWN, *(given(name, digits, READINGS) for name, digits in (payloads or {}).items()))
        self._null = read_null(null, self.payloads)

    @property
    def digest(self) -> str:
        """sha256:... of version, payloads with their readings, and nulls."""
        return self.recipe

    @property
    def recipe(self) -> str:
        wanted = [[p.name, "".join(map(str, p.bits)), list(p.readings)] for p in self.payloads]
        return identity(self.name, self.version, {"payloads": wanted, "null": self._null})

    @staticmethod
    def null_of(images: Iterable[Pixels], *, payloads: Mapping[str, str] | None = None) -> dict[str, list[int]]:
        """What real images give, as the setting `null`: see `calibrate_null`."""
        return calibrate_null(images, payloads=payloads)

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        """Evidence for each payload that is matched better than chance; [] for texts and small or unmarked images."""
        counts = {} if file.pixels is None else self.count(file.pixels)
        found: list[Evidence] = []
        for payload in self.payloads:
            if payload.name in counts:
                found += testimony(self.name, payload, *counts[payload.name], self._null.get(payload.name))
        return found

    def count(self, pixels: Pixels) -> dict[str, tuple[int, str]]:
        """Payload name -> matched bits and the reading that has most; payloads that cannot be read are left out."""
        if pixels.shape[0] * pixels.shape[1] < LEAST_PIXELS:
            return {}
        pixels = pixels[: max(8, MOST_PIXELS // pixels.shape[1])]
        needed = {reading for p in self.payloads for reading in p.readings}
        votes = {reading: block_votes(pixels, reading) for reading in READINGS if reading in needed}
        found = {}
        for payload in self.payloads:
            decoded = {r: bits for r in payload.readings if (bits := bits_of(votes[r], len(payload.bits))) is not None}
            if len(decoded) == len(payload.readings):
                found[payload.name] = matches(payload, decoded)
        return found


def calibrate_null(images: Iterable[Pixels], *, payloads: Mapping[str, str] | None = None) -> dict[str, list[int]]:
    """The `null` setting: of each payload, how many of these real images have 0, 1, ..., n matched bits.

    images: uint8 [H, W, 3] of images known to be unmarked; those that cannot be read are left out. BadSetting where
    none can be read.
    """
    witness = DwtDct(payloads=payloads)
    counts: dict[str, list[int]] = {p.name: [] for p in witness.payloads}
    for pixels in images:
        for name, (matched, _) in witness.count(pixels).items():
            counts[name].append(matched)
    if not any(counts.values()):
        raise BadSetting(f"no image of {LEAST_PIXELS} pixels or more to calibrate the watermark null on")
    return {p.name: histogram(counts[p.name], len(p.bits)) for p in witness.payloads if counts[p.name]}
