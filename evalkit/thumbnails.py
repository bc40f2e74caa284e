"""Small pictures of samples, so that a page shows what its numbers are about."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from .types import Picture

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LARGEST = 96  # pixels of the longer side: some kilobytes a thumbnail


def thumbnail(pixels: npt.NDArray[np.uint8], alt: str) -> Picture:
    """An image uint8 [H, W, 3] as a data URI: small ones as they are (PNG), larger ones reduced (WebP)."""
    from PIL import Image

    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    # A page shows a small image pixel by pixel; WebP would smear it and PNG costs little there.
    if max(image.size) <= LARGEST // 2:
        kind = "png"
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "webp"
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        image.save(buffer, "WEBP", quality=75)
    return Picture(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", alt)
