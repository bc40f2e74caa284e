"""Decoding one image or text from untrusted bytes: allow-listed formats, sizes checked first, one error type."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
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


@contextmanager
def opened(source: bytes | Path) -> Iterator[Image.Image]:
    """An encoded image with its header read, its size checked and no pixel decoded.

    Raises UnreadableSample with a short reason for whatever a decoder may raise on hostile bytes, now or in the block.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableSample(f"too large: {image.width}x{image.height} pixels, at most {MOST_PIXELS:,}")
            yield image
    except UnreadableSample:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableSample(f"too large: {_said(error)}") from error
    except Exception as error:  # Pillow raises eleven unrelated classes on malformed files.
        raise UnreadableSample(_reason(source, error)) from error


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] of an encoded image, as Pillow's RGB conversion gives it and so as the field's tools see it.

    The first frame or page; alpha dropped, not blended; palettes and CMYK resolved, ICC profiles ignored; the EXIF
    orientation not applied, save in a TIFF, which Pillow turns itself. 16-bit grey is scaled by 1/257, of 16-bit
    colour Pillow keeps the high byte. Raises UnreadableSample with a short reason.
    """
    with opened(data) as image:
        return as_rgb(image)


def as_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3], owned by the caller, of an open image, as `decode_image` says; raises as Pillow does."""
    import numpy as np

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow's own conversion clips 16 bits at 255 instead of scaling. + 128 rounds to the nearest of 257 steps.
        values = np.asarray(image).astype(np.uint32)
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode.startswith(("I", "F")):
        raise UnreadableSample(f"mode {image.mode}: 32-bit pixels have no declared white; save it with 8 or 16 bits")
    # A copy: an array that shares the decoder's memory is read-only, and torch wants to own what it wraps.
    pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    if pixels.size == 0:
        raise UnreadableSample("empty image")
    return pixels


def _reason(source: bytes | Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    if not source if isinstance(source, bytes) else not source.stat().st_size:
        return "empty file"
    said = _said(error)
    if "cannot identify image file" in said:
        return f"not an image of a supported format ({', '.join(IMAGE_FORMATS)})"
    return f"truncated: {said}" if "truncated" in said.lower() else f"corrupt: {said}"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def decode_text(data: bytes) -> str:
    """The text of UTF-8 bytes; UnreadableSample when it is not UTF-8 or holds nothing but white space."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableSample(f"not valid UTF-8 at byte {error.start}") from error
    if not text.strip():
        raise UnreadableSample("empty text")
    return text
