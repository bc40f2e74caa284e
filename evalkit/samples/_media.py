"""Decoding one image or text from untrusted bytes: allow-listed formats, sizes checked first, one error type."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ModalityMismatch, NothingToEvaluate, UnreadableSample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from ..types import Modality

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# 64 megapixels decode to 192 MB; a 160 kB file can claim 170 megapixels.
MOST_PIXELS = 64_000_000


def pick_kind(counts: Mapping[Modality, int], wanted: Modality | None, what: str) -> Modality:
    """Which kind of sample a folder or archive is read as: the wanted one, else the one it has more files of.

    Raises ModalityMismatch when it holds only the other kind, NothingToEvaluate when it holds neither.
    """
    if not any(counts.values()):
        raise NothingToEvaluate(
            f"{what} holds no image or text file (images: {' '.join(sorted(IMAGE_SUFFIXES))}; texts: .txt)"
        )
    kind = wanted if wanted is not None else max(counts, key=lambda k: counts[k])
    if not counts[kind]:
        raise ModalityMismatch(f"{what} holds {max(counts, key=lambda k: counts[k])} samples, expected {kind}")
    return kind


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] of an encoded image (first frame; alpha and palettes as Pillow's RGB conversion).

    Raises UnreadableSample with a short reason for whatever a decoder may raise on hostile bytes.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableSample(f"too large: {image.width}x{image.height} pixels, at most {MOST_PIXELS:,}")
            return _rgb(image)
    except UnreadableSample:
        raise
    except Exception as error:  # Pillow raises eleven unrelated classes on malformed files.
        raise UnreadableSample(_reason(data, error)) from error


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    import numpy as np

    if image.mode.startswith(("I", "F")):
        # 16-bit and float images: Pillow's own conversion clips at 255 instead of scaling.
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        grey = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    # A copy: an array that shares the decoder's memory is read-only, and torch wants to own what it wraps.
    pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    if pixels.size == 0:
        raise UnreadableSample("empty image")
    return pixels


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "empty file"
    said = " ".join(str(error).split())[:160] or type(error).__name__
    if "cannot identify image file" in said:
        return f"not an image of a supported format ({', '.join(IMAGE_FORMATS)})"
    return f"truncated: {said}" if "truncated" in said.lower() else f"corrupt: {said}"


def decode_text(data: bytes) -> str:
    """The text of UTF-8 bytes; UnreadableSample when it is not UTF-8 or holds nothing but white space."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableSample(f"not valid UTF-8 at byte {error.start}") from error
    if not text.strip():
        raise UnreadableSample("empty text")
    return text
