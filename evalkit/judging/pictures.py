"""Thumbnails of judged images, so that a page shows what the numbers are about."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt

from ..types import Picture

LARGEST = 96  # pixels of the longer side: some kilobytes a thumbnail


def thumbnail(pixels: npt.NDArray[np.uint8], alt: str) -> Picture:
    """An image uint8 [H, W, 3] as a data URI: small ones as they are (PNG), larger ones reduced (WebP)."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    # A page shows a small image pixel by pixel; WebP would smear it and PNG costs little there.
    kind = "png" if max(image.size) <= LARGEST // 2 else "webp"
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, kind.upper())
    return Picture(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", alt)
