"""What the header of an image claims, read by hand before a decoder sees it: size, frames, metadata.

Only where asking the decoder is dear already: Pillow allocates the whole canvas of a WebP when it opens it, walks a
GIF frame by frame, and unpacks PNG text on the way. What is broken here is left for the decoder to name.

Sources: PNG (W3C, third edition, 5.3 and 11.3), WebP container (RFC 9649), GIF89a, TIFF 6.0 and BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .faults import Refused
from .limits import Limits

# More pieces than any encoder makes of a file: walking them in Python is what they would cost.
MOST_PIECES = 100_000
PNG_METADATA = (b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf")


@dataclass(frozen=True)
class Claim:
    """Width and height in pixels and the number of frames or pages, as the header has them; 0: not told."""

    width: int = 0
    height: int = 0
    frames: int = 1


def check(format: str, data: bytes, limits: Limits) -> Claim:
    """What the header claims; Refused (too_large, stage header) when it is over budget."""
    walk = WALKS.get(format)
    if walk is None:
        return Claim()
    try:
        claim = walk(data, limits)
    except (struct.error, IndexError):
        return Claim()
    within(claim, limits)
    return claim


def within(claim: Claim, limits: Limits) -> None:
    """Refused when the claim is over budget."""
    if claim.frames > limits.most_frames:
        raise Refused("too_large", "header", f"{claim.frames:,} frames, at most {limits.most_frames:,}")
    if claim.width * claim.height * max(1, claim.frames) > limits.most_pixels:
        frames = f" x {claim.frames} frames" if claim.frames > 1 else ""
        raise Refused(
            "too_large", "header", f"{claim.width}x{claim.height}{frames} pixels, at most {limits.most_pixels:,}"
        )


def _png(data: bytes, limits: Limits) -> Claim:
    width, height = struct.unpack_from(">II", data, 16)
    animated, frames, at = False, 0, 8
    for _ in range(MOST_PIECES):
        if at + 8 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        if name in PNG_METADATA and length > limits.most_chunk:
            raise Refused(
                "too_large", "header", f"a {name.decode()} of {length:,} bytes, at most {limits.most_chunk:,}"
            )
        animated |= name == b"acTL"
        frames += name == b"fcTL"
        if name == b"IEND":
            break
        at += 12 + length
    else:
        raise Refused("too_large", "header", f"more than {MOST_PIECES:,} chunks")
    # Counted, not believed: acTL may claim any number, and each frame that is there has its fcTL.
    return Claim(width, height, max(1, frames) if animated else 1)


def _webp(data: bytes, limits: Limits) -> Claim:
    name, body = data[12:16], 20
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, body + 6)
        return Claim(width & 0x3FFF, height & 0x3FFF)
    if name == b"VP8L":
        [bits] = struct.unpack_from("<I", data, body + 1)
        return Claim((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width = int.from_bytes(data[body + 4 : body + 7], "little") + 1
    height = int.from_bytes(data[body + 7 : body + 10], "little") + 1
    frames, at = 0, 12
    for _ in range(MOST_PIECES):
        if at + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if name in (b"ICCP", b"EXIF", b"XMP ") and length > limits.most_chunk:
            raise Refused(
                "too_large", "header", f"a {name.decode()} of {length:,} bytes, at most {limits.most_chunk:,}"
            )
        frames += name == b"ANMF"
        at += 8 + length + length % 2
    else:
        raise Refused("too_large", "header", f"more than {MOST_PIECES:,} chunks")
    return Claim(width, height, max(1, frames))


def _gif(data: bytes, limits: Limits) -> Claim:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames = 13 + _palette(flags), 0
    try:
        while frames <= limits.most_frames and data[at] != 0x3B:
            if data[at] == 0x2C:
                left, top, w, h, flags = struct.unpack_from("<HHHHB", data, at + 1)
                # Pillow widens the canvas to hold a first frame that is larger than it.
                width, height, frames = max(width, left + w), max(height, top + h), frames + 1
                at = _blocks(data, at + 11 + _palette(flags))
            elif data[at] == 0x21:
                at = _blocks(data, at + 2)
            else:
                at += 1  # as decoders do: look for the next block
    except (IndexError, struct.error):
        pass  # a truncated file; what was seen counts
    return Claim(width, height, max(1, frames))


def _palette(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def _tiff(data: bytes, limits: Limits) -> Claim:
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in (data[2], data[3])
    [at] = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    count, entry, following = ("Q", 20, "Q") if big else ("H", 12, "I")
    seen: set[int] = set()
    widest = tallest = 0
    while at and at not in seen and len(seen) <= limits.most_frames:
        seen.add(at)
        try:
            [n] = struct.unpack_from(order + count, data, at)
            at += struct.calcsize(order + count)
            for i in range(min(n, 4096)):
                tag, kind = struct.unpack_from(order + "HH", data, at + i * entry)
                if tag in (256, 257) and kind in (3, 4):
                    place = at + i * entry + (12 if big else 8)
                    [value] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place)
                    widest, tallest = (max(widest, value), tallest) if tag == 256 else (widest, max(tallest, value))
            [at] = struct.unpack_from(order + following, data, at + n * entry)
        except struct.error:
            break
    return Claim(widest, tallest, max(1, len(seen)))


WALKS = {"PNG": _png, "WEBP": _webp, "GIF": _gif, "TIFF": _tiff}
