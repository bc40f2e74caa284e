"""What an image file says of itself before a pixel is decoded: format, mode, size, frames, JPEG quality, rotation.

Beside these the container: how many bytes, which quantisation tables, which chroma grid, which metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..types import MediaFacts
from ._media import opened

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112  # the EXIF and TIFF tag
MAKE = 0x010F  # likewise: the maker of the camera

# What Pillow notes of any JPEG or of how it read a file, which is no metadata.
NOT_METADATA = frozenset(("jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression", "exif"))
# Names of PNG texts are the user's to choose: these many of these lengths are enough to tell sets apart.
MOST_CHUNKS, LONGEST_CHUNK = 24, 40
# Horizontal and vertical factors of the first component against the second, as the field writes them.
CHROMA = {(1, 1): "4:4:4", (2, 1): "4:2:2", (1, 2): "4:4:0", (2, 2): "4:2:0", (4, 1): "4:1:1", (4, 2): "4:1:0"}

# The luminance table of ITU-T T.81, annex K.1, row by row: what the IJG scale calls quality 50.
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def read_facts(source: bytes | Path) -> MediaFacts:
    """The header facts of an encoded image, given as bytes or as a file; no pixel is decoded.

    mode is Pillow's, with ";16" after it where a 16-bit colour file is narrowed on decoding (RGB;16, RGBA;16, LA;16).
    A JPEG with auxiliary pictures (MPO) counts as a JPEG of one frame. Raises UnreadableSample as decoding does.
    """
    with opened(source) as image:
        return facts_of(image, len(source) if isinstance(source, bytes) else source.stat().st_size)


def facts_of(image: Image.Image, size: int, frames: int | None = None) -> MediaFacts:
    """The header facts, as `read_facts` gives them, of an image that is open already and was not decoded yet.

    size: bytes of the file. frames: where they are known; counting them moves the decoder and may raise whatever it
    raises on a broken frame.
    """
    is_jpeg = image.format in ("JPEG", "MPO")
    return MediaFacts(
        format="JPEG" if is_jpeg else str(image.format),
        mode=_mode(image),
        width=image.width,
        height=image.height,
        frames=1 if is_jpeg else frames or int(getattr(image, "n_frames", 1)),
        quality=_quality(image) if is_jpeg else None,
        orientation=_orientation(image),
        profile="icc_profile" in image.info,
        bytes=size,
        subsampling=_subsampling(image) if is_jpeg else None,
        progressive=bool(image.info.get("progressive")),
        tables=_tables(image) if is_jpeg else None,
        exif="exif" in image.info,
        camera=_camera(image),
        chunks=_chunks(image),
    )


def _mode(image: Image.Image) -> str:
    tiles: Any = getattr(image, "tile", None)
    told = tiles[0][3] if tiles else ""
    words = told if isinstance(told, tuple) else (told,)
    deep = image.format in ("PNG", "TIFF") and any(isinstance(w, str) and ";16" in w for w in words)
    deep |= image.format == "PPM" and any(isinstance(w, int) and w > 255 for w in words)
    return f"{image.mode};16" if deep and not image.mode.startswith("I") else image.mode


def _orientation(image: Image.Image) -> int:
    found: Any = 1
    try:
        if image.format == "TIFF":
            found = getattr(image, "tag_v2", {}).get(ORIENTATION, 1)
        elif "exif" in image.info:  # asked first, because Pillow decodes a PNG without it to look behind its pixels
            found = image.getexif().get(ORIENTATION, 1)
    except Exception:
        # Broken EXIF says nothing of how the image lies; its pixels may be fine.
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _subsampling(image: Image.Image) -> str:
    """The chroma grid of a JPEG; "grey" for one component, the plain factors where they have no usual name."""
    layers: Any = getattr(image, "layer", [])
    if len(layers) < 2:
        return "grey"
    (_, h, v, _), (_, h_chroma, v_chroma, _) = layers[0][:4], layers[1][:4]
    factors = (h // h_chroma, v // v_chroma) if h_chroma and v_chroma else (0, 0)
    return CHROMA.get(factors, f"{factors[0]}x{factors[1]}")


def _tables(image: Image.Image) -> str | None:
    tables: dict[int, Sequence[int]] = getattr(image, "quantization", {})
    return _tables_digest(tuple((key, *tables[key]) for key in sorted(tables))) if tables else None


@lru_cache(maxsize=4096)
def _tables_digest(tables: tuple[tuple[int, ...], ...]) -> str:
    return hashlib.sha256(repr(list(tables)).encode()).hexdigest()[:12]


def _camera(image: Image.Image) -> str:
    """The make that EXIF (or a TIFF's own tags) name, one short line; empty when there is none."""
    made: Any = ""
    try:
        if image.format == "TIFF":
            made = getattr(image, "tag_v2", {}).get(MAKE, "")
        elif "exif" in image.info:
            made = image.getexif().get(MAKE, "")
    except Exception:
        return ""  # as above: broken EXIF says nothing
    return " ".join(str(made).replace("\0", " ").split())[:LONGEST_CHUNK]


def _chunks(image: Image.Image) -> tuple[str, ...]:
    names = sorted({str(key)[:LONGEST_CHUNK] for key in image.info} - NOT_METADATA)
    return tuple(names[:MOST_CHUNKS])


def _quality(image: Image.Image) -> int | None:
    tables: dict[int, Sequence[int]] = getattr(image, "quantization", {})
    return jpeg_quality(tuple(tables[min(tables)])) if tables else None


@lru_cache(maxsize=4096)
def jpeg_quality(table: tuple[int, ...]) -> int:
    """The quality, 1 to 100 on the IJG scale, whose luminance table is nearest (least absolute difference).

    table: 64 steps, row by row. Exact for files of libjpeg's family; for other encoders the nearest equivalent.
    """
    return min(range(100, 0, -1), key=lambda q: sum(abs(a - b) for a, b in zip(table, _scaled(q), strict=False)))


@cache
def _scaled(quality: int) -> tuple[int, ...]:
    """LUMINANCE on the IJG scale (libjpeg, jpeg_quality_scaling), held to a byte as baseline files are."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(max((step * percent + 50) // 100, 1), 255) for step in LUMINANCE)
