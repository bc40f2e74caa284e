"""Where files keep what they say of themselves: texts, XMP and EXIF of PNG, JPEG, WebP and TIFF, read as bytes.

No pixel is decoded and nothing is searched for in raw bytes: the chunks or segments are walked by their lengths, every
length is held against the bytes that are there, and what is larger than its cap is left unread and named in `notes`.
PNG 3rd edition, section 11.3 (tEXt, zTXt, iTXt, eXIf); XMP specification part 3, section 1.1.3 (JPEG, with extended
packets) and 1.1.5; WebP container specification (RFC 9649).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

# A ComfyUI workflow has some 100 kB; a text, a packet and all texts of a file together.
LONGEST_TEXT, LONGEST_XMP, LONGEST_EXIF, ALL_TEXT = 4 << 20, 4 << 20, 4 << 20, 16 << 20
MOST_TEXTS, MOST_CHUNKS, LONGEST_KEYWORD = 64, 1 << 20, 79
XMP_KEYWORD = "XML:com.adobe.xmp"
XMP_HEAD, EXTENDED_HEAD, EXIF_HEAD = (
    b"http://ns.adobe.com/xap/1.0/\0",
    b"http://ns.adobe.com/xmp/extension/\0",
    b"Exif\0\0",
)


@dataclass
class Carried:
    """What a file carries: format by magic bytes ("" for another), keyword -> text, XMP packets, EXIF as TIFF bytes.

    extended: JPEG's extended XMP by its identifier. alpha: a PNG with an alpha channel. notes: what was left unread.
    """

    format: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    xmp: list[bytes] = field(default_factory=list)
    extended: dict[str, bytes] = field(default_factory=dict)
    exif: bytes = b""
    alpha: bool = False
    notes: list[str] = field(default_factory=list)
    left: int = ALL_TEXT

    def take_text(self, keyword: bytes, text: bytes | None) -> None:
        """Keep a text; of two with one keyword the first. None: one that was larger than its cap."""
        name = keyword[:LONGEST_KEYWORD].decode("latin-1")
        if text is None or len(text) > min(LONGEST_TEXT, self.left):
            self.notes.append(f"a text of more than {LONGEST_TEXT >> 20} MiB")
        elif name == XMP_KEYWORD:
            self.take_xmp(text)
        elif len(self.texts) >= MOST_TEXTS:
            self.notes.append(f"more than {MOST_TEXTS} texts")
        else:
            self.left -= len(text)
            self.texts.setdefault(name, decoded(text))

    def take_xmp(self, packet: bytes) -> None:
        if len(packet) > LONGEST_XMP or len(self.xmp) >= 4:
            self.notes.append(f"XMP of {len(packet):,} bytes, at most {LONGEST_XMP:,} are read")
        else:
            self.xmp.append(packet)

    def take_exif(self, block: bytes) -> None:
        if len(block) > LONGEST_EXIF:
            self.notes.append(f"EXIF of {len(block):,} bytes, at most {LONGEST_EXIF:,} are read")
        elif not self.exif:
            self.exif = block.removeprefix(EXIF_HEAD)


def decoded(text: bytes) -> str:
    """UTF-8 where it is that, else Latin-1: tEXt is Latin-1 by its standard and UTF-8 in most generators' files."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def carried(data: bytes) -> Carried:
    """What the file carries; never raises, whatever the bytes."""
    found = Carried()
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        found.format = "PNG"
        _png(data, found)
    elif data.startswith(b"\xff\xd8\xff"):
        found.format = "JPEG"
        _jpeg(data, found)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        found.format = "WEBP"
        _webp(data, found)
    elif data.startswith((b"II*\0", b"MM\0*")):
        found.format = "TIFF"
        # A TIFF file is an EXIF block; what is not a tag of it is reached by offsets and not copied.
        found.exif = data
    found.notes = list(dict.fromkeys(found.notes))
    return found


def _png(data: bytes, found: Carried) -> None:
    position = 8
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        start, end = position + 8, position + 8 + length
        position = end + 4
        if kind == b"IEND":
            return
        if kind == b"IHDR":
            found.alpha = data[start + 9 : start + 10] in (b"\4", b"\6")
        elif kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            if end > len(data):
                found.notes.append(f"a {kind.decode()} chunk that is cut off")
            elif length > 2 * LONGEST_TEXT:
                found.notes.append(f"a {kind.decode()} chunk of {length:,} bytes")
            elif kind == b"eXIf":
                found.take_exif(data[start:end])
            else:
                _png_text(kind, data[start:end], found)


def _png_text(kind: bytes, body: bytes, found: Carried) -> None:
    keyword, zero, rest = body.partition(b"\0")
    if not zero:
        return
    if kind == b"tEXt":
        found.take_text(keyword, rest)
    elif kind == b"zTXt":
        found.take_text(keyword, _inflated(rest[1:], found))
    elif len(rest) >= 2:
        packed = rest[0] == 1
        text = rest[2:].split(b"\0", 2)[-1]  # behind language tag and translated keyword
        found.take_text(keyword, _inflated(text, found) if packed else text)


def _inflated(packed: bytes, found: Carried) -> bytes | None:
    """What zlib data unpacks to; None when that is larger than a text may be, which is found out before it is held."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, LONGEST_TEXT)
    except zlib.error:
        found.notes.append("a compressed text that does not unpack")
        return b""
    return None if unpacker.unconsumed_tail else text


def _jpeg(data: bytes, found: Carried) -> None:
    parts: dict[str, dict[int, bytes]] = {}
    sizes: dict[str, int] = {}
    for marker, body in _segments(data):
        if marker != 0xE1:
            continue
        if body.startswith(EXIF_HEAD):
            found.take_exif(body)
        elif body.startswith(XMP_HEAD):
            found.take_xmp(body[len(XMP_HEAD) :])
        elif body.startswith(EXTENDED_HEAD):
            rest = body[len(EXTENDED_HEAD) :]
            name, size = rest[:32].decode("latin-1"), int.from_bytes(rest[32:36], "big")
            if size > LONGEST_XMP:
                found.notes.append(f"extended XMP of {size:,} bytes, at most {LONGEST_XMP:,} are read")
            elif len(parts) < 4 or name in parts:
                parts.setdefault(name, {})[int.from_bytes(rest[36:40], "big")] = rest[40:]
                sizes[name] = size
    for name, pieces in parts.items():
        whole = b"".join(pieces[offset] for offset in sorted(pieces))
        if len(whole) == sizes[name]:
            found.extended[name] = whole
        else:
            found.notes.append("extended XMP that is not all there")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment before the first scan."""
    position = 2
    for _ in range(MOST_CHUNKS):
        if position + 4 > len(data) or data[position] != 0xFF:
            return
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (0xD9, 0xDA):
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def _webp(data: bytes, found: Carried) -> None:
    position = 12
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            return
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        start, end = position + 8, position + 8 + length
        position = end + (length & 1)
        if kind in (b"XMP ", b"EXIF"):
            if end > len(data):
                found.notes.append(f"a {kind.decode().strip()} chunk that is cut off")
            elif kind == b"EXIF":
                found.take_exif(data[start:end])
            else:
                found.take_xmp(data[start:end])
