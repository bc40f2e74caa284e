"""The picture of a map: the image, the map over it, a legend with numbers, and the words that go with it.

Colours run from dark blue to yellow along viridis (van der Walt & Smith 2015, CC0): lightness rises evenly, so the map
can be read in grey and with any kind of colour blindness.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..cache import beside
from ..errors import UnwritableOutput
from ..types import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

VIRIDIS = np.array(
    [
        [68, 1, 84],
        [72, 40, 120],
        [62, 74, 137],
        [49, 104, 142],
        [38, 130, 142],
        [31, 158, 137],
        [53, 183, 121],
        [109, 205, 89],
        [180, 222, 44],
        [253, 231, 37],
    ],
    dtype=np.float64,
)
# A panel has at least so many pixels a side, and the map covers so much of what is under it.
LEAST, MOST, OVER = 256, 1024, 0.65
MARGIN, TEXT, STRIP = 12, 14, 14


def coloured(shares: Array) -> Pixels:
    """The colour, uint8 [..., 3], of values in 0..1, interpolated along the table."""
    place = np.clip(shares, 0, 1) * (len(VIRIDIS) - 1)
    below = np.minimum(place.astype(int), len(VIRIDIS) - 2)
    part = (place - below)[..., None]
    found: Pixels = np.rint(VIRIDIS[below] * (1 - part) + VIRIDIS[below + 1] * part).astype(np.uint8)
    return found


def write_picture(file: Path, image: Pixels, fine: Array, words: Sequence[str]) -> None:
    """Write image [H, W, 3] and map [h, w] side by side as a PNG, whole or not at all; raises UnwritableOutput."""
    picture = drawn(image, fine, words)
    try:
        with beside(file) as draft:
            picture.save(draft, format="PNG")
    except OSError as error:
        raise UnwritableOutput(f"cannot write {file}: {error.strerror or error}; choose another folder") from error


def drawn(image: Pixels, fine: Array, words: Sequence[str]) -> Image:
    """The picture: two panels, a legend strip from the lowest to the highest value, one line of text each."""
    from PIL import Image, ImageDraw, ImageFont

    plain = _panel(image)
    width, height = plain.size
    low, high = float(fine.min()), float(fine.max())
    shares = (fine - low) / (high - low) if high > low else np.zeros_like(fine)
    # The map is stretched over the image as its cells lie; smoothing would show detail that it does not have.
    over = Image.fromarray(coloured(shares)).resize(plain.size, Image.Resampling.NEAREST)
    mixed = Image.blend(plain.convert("L").convert("RGB"), over, OVER)
    font: Any = ImageFont.load_default(TEXT)
    line = TEXT + 5
    total = max(2 * width + 3 * MARGIN, 2 * MARGIN + max(int(font.getlength(_plain(text))) for text in words))
    page = Image.new("RGB", (total, height + STRIP + 4 * MARGIN + line * (len(words) + 1)), "white")
    page.paste(plain, (MARGIN, MARGIN))
    page.paste(mixed, (width + 2 * MARGIN, MARGIN))
    pen = ImageDraw.Draw(page)
    top = height + 2 * MARGIN
    strip = coloured(np.broadcast_to(np.linspace(0, 1, width), (STRIP, width)))
    page.paste(Image.fromarray(strip), (width + 2 * MARGIN, top))
    ends = f"{low:+.3g}", f"{high:+.3g}"
    pen.text((width + 2 * MARGIN, top + STRIP + 2), ends[0], "black", font)
    pen.text((2 * width + 2 * MARGIN - font.getlength(ends[1]), top + STRIP + 2), ends[1], "black", font)
    if low < 0 < high:
        zero = width + 2 * MARGIN + round((width - 1) * -low / (high - low))
        pen.line([(zero, top - 3), (zero, top + STRIP + 3)], "black", 2)
    for i, text in enumerate(words):
        pen.text((MARGIN, top + STRIP + line + MARGIN + i * line), _plain(text), "black", font)
    return page


def _panel(image: Pixels) -> Image:
    """The image enlarged pixel by pixel to 256 a side or more, or brought down to 1,024."""
    from PIL import Image

    height, width = image.shape[:2]
    times = max(1, -(-LEAST // max(height, width)))
    picture = Image.fromarray(np.ascontiguousarray(image))
    if times > 1:
        return picture.resize((width * times, height * times), Image.Resampling.NEAREST)
    picture.thumbnail((MOST, MOST))
    return picture


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def as_picture(file: Path, alt: str) -> Picture:
    """A written picture as an exhibit's: its bytes in a data URI."""
    return Picture(f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}", alt)
