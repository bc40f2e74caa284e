"""An image watermark that can be written, and the label beside it: dwtDct in the pixels, an IPTC source type in XMP.

dwtDct is the mark of Stable Diffusion's releases as the package invisible-watermark 0.2.0 writes it, to the bit, since
that is what decoders in the field read. Despite its name it has no cosine transform. Of the chroma U (BT.601, OpenCV's
fixed-point arithmetic) one level of a Haar transform is taken; in every 4 x 4 block of its approximation the largest
coefficient but the first is moved to a quarter (bit 0) or three quarters (bit 1) of the quantisation step of 36 that it
lies in; blocks carry the bits in turn, row by row. As there, the horizontal and vertical details change places on the
way back and the result is cut off, not rounded; unlike there, what leaves 0..255 is clipped, where the package wraps
around in a way that depends on the processor.

Marks of this kind are weak (`docs/marking.md`): they are here so that a marking can be measured from end to end.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..errors import BadSetting, UnreadableSample

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels: TypeAlias = "npt.NDArray[np.uint8]"
    Values: TypeAlias = "npt.NDArray[np.float64]"

STEP, BLOCK = 36.0, 4
# The package refuses smaller images, and so do its decoders.
LEAST_PIXELS = 256 * 256
# Bytes of a payload. Of fewer than 24 bits no match is told from chance; of 256 bits each is in at least four blocks of
# the smallest image.
SHORTEST, LONGEST = 3, 32
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_KEY = "XML:com.adobe.xmp"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def payload_of(text: str) -> bytes:
    """The bytes of a payload in hexadecimal digits, 3 to 32 of them; BadSetting for anything else."""
    try:
        payload = bytes.fromhex(text)
    except ValueError as error:
        raise BadSetting(f"payload {text!r}; expected pairs of hexadecimal digits, such as b3ec907bb19e") from error
    if not SHORTEST <= len(payload) <= LONGEST:
        raise BadSetting(f"payload {text!r} has {len(payload)} bytes; expected {SHORTEST} to {LONGEST}")
    return payload


def embedded(image: Pixels, payload: bytes) -> Pixels:
    """The image uint8 [H, W, 3] (RGB) with `payload` written into it by dwtDct; same shape.

    Raises UnreadableSample for an image of fewer than 65,536 pixels, which no decoder of this mark reads.
    """
    height, width = image.shape[:2]
    if height * width < LEAST_PIXELS:
        raise UnreadableSample(f"the image is {width} x {height}; dwtdct needs at least {LEAST_PIXELS:,} pixels")
    yuv = _to_yuv(image)
    rows, columns = height // 4 * 4, width // 4 * 4
    approximation, details = _haar(yuv[:rows, :columns, 1].astype(np.float64))
    _write(approximation, np.unpackbits(np.frombuffer(payload, np.uint8)))
    marked = _haar_back(approximation, details)
    # Cut off as the package does it: rounding would be kinder, and another mark.
    yuv[:rows, :columns, 1] = np.clip(np.trunc(marked), 0, 255).astype(np.uint8)
    return _from_yuv(yuv)


def _write(frame: Values, bits: npt.NDArray[np.uint8]) -> None:
    """Put one bit into each 4 x 4 block of `frame` [R, C], in place."""
    down, across = frame.shape[0] // BLOCK, frame.shape[1] // BLOCK
    whole = frame[: down * BLOCK, : across * BLOCK].reshape(down, BLOCK, across, BLOCK)
    blocks = whole.transpose(0, 2, 1, 3).reshape(-1, BLOCK * BLOCK)
    at = np.argmax(np.abs(blocks[:, 1:]), axis=1) + 1
    every = np.arange(len(blocks))
    value, bit = blocks[every, at], bits[every % len(bits)]
    size = (np.abs(value) // STEP + 0.25 + 0.5 * bit) * STEP
    blocks[every, at] = np.where(value >= 0, size, -1.0 * size)
    back = blocks.reshape(down, across, BLOCK, BLOCK).transpose(0, 2, 1, 3)
    frame[: down * BLOCK, : across * BLOCK] = back.reshape(down * BLOCK, across * BLOCK)


# One level of the orthonormal Haar transform, in the order of operations of PyWavelets: the result is cut off, so the
# last bit of a float decides whether an untouched pixel keeps its value.
HALF = 0.7071067811865476
Details: TypeAlias = "tuple[Values, Values, Values]"


def _haar(x: Values) -> tuple[Values, Details]:
    """Approximation and (horizontal, vertical, diagonal) details, each [H / 2, W / 2], of x [H, W]."""
    low, high = HALF * x[1::2] + HALF * x[::2], -HALF * x[1::2] + HALF * x[::2]
    ll, lh = HALF * low[:, 1::2] + HALF * low[:, ::2], -HALF * low[:, 1::2] + HALF * low[:, ::2]
    hl, hh = HALF * high[:, 1::2] + HALF * high[:, ::2], -HALF * high[:, 1::2] + HALF * high[:, ::2]
    return ll, (hl, lh, hh)


def _haar_back(approximation: Values, details: Details) -> Values:
    """The inverse, with horizontal and vertical details exchanged as invisible-watermark exchanges them."""
    lh, hl, hh = details
    low, high = _joined(approximation, lh, axis=1), _joined(hl, hh, axis=1)
    return _joined(low, high, axis=0)


def _joined(low: Values, high: Values, axis: int) -> Values:
    pair = np.stack([HALF * low + HALF * high, HALF * low - HALF * high], axis=axis + 1)
    shape = list(low.shape)
    shape[axis] *= 2
    return np.asarray(pair.reshape(shape))


# OpenCV's COLOR_BGR2YUV and back for 8 bits: weights times 2^14, rounded.
SHIFT, ROUND = 14, 1 << 13


def _to_yuv(image: Pixels) -> Pixels:
    red, green, blue = (image[..., k].astype(np.int32) for k in range(3))
    y = (blue * 1868 + green * 9617 + red * 4899 + ROUND) >> SHIFT
    middle = (128 << SHIFT) + ROUND
    u, v = ((blue - y) * 8061 + middle) >> SHIFT, ((red - y) * 14369 + middle) >> SHIFT
    return np.asarray(np.clip(np.stack([y, u, v], axis=2), 0, 255), dtype=np.uint8)


def _from_yuv(yuv: Pixels) -> Pixels:
    y, u, v = yuv[..., 0].astype(np.int32), yuv[..., 1].astype(np.int32) - 128, yuv[..., 2].astype(np.int32) - 128
    blue = y + ((u * 33292 + ROUND) >> SHIFT)
    green = y + ((u * -6472 + v * -9519 + ROUND) >> SHIFT)
    red = y + ((v * 18678 + ROUND) >> SHIFT)
    return np.asarray(np.clip(np.stack([red, green, blue], axis=2), 0, 255), dtype=np.uint8)


def labelled_png(image: Pixels) -> bytes:
    """The image uint8 [H, W, 3] as a PNG that says by XMP that a trained algorithm made it (IPTC DigitalSourceType)."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    notes, buffer = PngInfo(), io.BytesIO()
    notes.add_itxt(XMP_KEY, XMP)
    Image.fromarray(image).save(buffer, "PNG", pnginfo=notes)
    return buffer.getvalue()
