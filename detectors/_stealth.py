"""Texts hidden in the lowest bits of pixels, as some front ends of Stable Diffusion write them ("stealth pnginfo").

The bits run down the columns, left to right: of alpha alone (stealth_pnginfo, stealth_pngcomp), or of red, green and
blue of each pixel (stealth_rgbinfo, stealth_rgbcomp). A mark of 15 characters, the length of the text in bits (32 bits,
big endian), the text: UTF-8, with ...comp packed by gzip. Any lossy step removes it, so only PNG is looked at.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

from ._objects import quietly

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bits = npt.NDArray[np.uint8]

MARKS = {"alpha": (b"stealth_pnginfo", b"stealth_pngcomp"), "rgb": (b"stealth_rgbinfo", b"stealth_rgbcomp")}
HEAD = 15 + 4
LONGEST = 4 << 20
# Alpha is decoded a second time here, beside the pixels that are there already: 80 MB at this size.
MOST_PIXELS = 20_000_000


class StealthRefused(ValueError):
    """A mark is there and the text behind it cannot be read."""


def hidden_text(data: bytes, pixels: Bits | None, *, alpha: bool) -> tuple[str, str] | None:
    """Where ("alpha" or "rgb") and what, of a PNG; None when there is no mark.

    pixels: uint8 [H, W, 3], as decoded; alpha: whether the file has an alpha channel, which is then decoded here.
    """
    planes = {"alpha": _alpha(data) if alpha else None, "rgb": pixels}
    for where, plane in planes.items():
        if plane is None:
            continue
        head = _bytes_of(plane, 0, HEAD)
        if head[:15] in MARKS[where]:
            bits = int.from_bytes(head[15:], "big")
            if bits > 8 * LONGEST or bits + 8 * HEAD > plane.size:
                raise StealthRefused(f"a hidden text in {where} that says it has {bits:,} bits, more than there are")
            body = _bytes_of(plane, HEAD, bits // 8)
            return where, _unpacked(body) if head[:15].endswith(b"comp") else body.decode("utf-8", "replace")
    return None


def _bytes_of(plane: Bits, start: int, count: int) -> bytes:
    """`count` bytes from byte `start` of the lowest bits, down the columns; fewer where the picture has fewer."""
    import numpy as np

    height, channels = plane.shape[0], plane.shape[2]
    columns = -(-8 * (start + count) // (height * channels))
    bits = plane[:, :columns].transpose(1, 0, 2).reshape(-1)[8 * start : 8 * (start + count)] & 1
    return np.packbits(bits).tobytes()


def _alpha(data: bytes) -> Bits | None:
    """uint8 [H, W, 1]; None when the picture cannot be decoded, which is the decoder's matter and not ours."""
    import numpy as np
    from PIL import Image

    try:
        with quietly(), Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if "A" not in image.getbands():
                return None
            if (count := image.width * image.height) > MOST_PIXELS:
                raise StealthRefused(f"alpha of {count:,} pixels, at most {MOST_PIXELS:,} are looked at for a text")
            found: Bits = np.asarray(image.getchannel("A"), dtype=np.uint8)[:, :, None]
    except (MemoryError, StealthRefused):
        raise
    except Exception:  # Pillow raises many unrelated classes on malformed files.
        return None
    return found if found.size else None


def _unpacked(body: bytes) -> str:
    try:
        unpacker = zlib.decompressobj(31)
        text = unpacker.decompress(body, LONGEST)
    except zlib.error as error:
        raise StealthRefused("a hidden text that does not unpack") from error
    if not unpacker.eof:
        raise StealthRefused(f"a hidden text that is cut off or has more than {LONGEST >> 20} MiB")
    return text.decode("utf-8", "replace")
