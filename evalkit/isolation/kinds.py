"""What a file is by its first bytes: one of the formats that are opened, or the name of one that is not.

The suffix never counts. Signatures as in each format's specification; a two-letter signature (BMP, PPM) asks for the
bytes behind it too, because texts begin with "BM" and "P1" as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TEXT = "TEXT"
# A quarter of a kilobyte holds every signature, a tar's at 257 and the name of a zip's first member.
HEAD = 512


@dataclass(frozen=True)
class Kind:
    """`format` of a file that is opened (PNG, ..., TEXT), else `says`: what it is, with its article."""

    format: str = ""
    says: str = ""


# Formats that are opened, by what a file begins with.
OPENED: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\x89PNG\r\n\x1a\n", "PNG"),
        (rb"\xff\xd8\xff", "JPEG"),
        (rb"RIFF....WEBP", "WEBP"),
        (rb"GIF8[79]a", "GIF"),
        (rb"BM.{12}(?:\x0c|\x10|\x28|\x34|\x38|\x40|\x6c|\x7c)\0\0\0", "BMP"),
        (rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0", "TIFF"),
        (rb"P[1-6]\s+(?:#|\d)|P[fFy][\s#]|P0CMYK|PyCMYK|PyRGBA|PyP", "PPM"),
        (rb"\0...ftypavi[fs]", "AVIF"),
    )
)

# Formats that are known and not opened though they may pass for text.
WRITTEN: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), says)
    for pattern, says in (
        (rb"%PDF-", "a PDF document"),
        (rb"\s*%!PS", "a PostScript file"),
        # A comment ends at its first "-->": were it allowed to go on, sixty of them would be 2^60 ways to match.
        (
            rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*"
            rb"(?:<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]",
            "an SVG drawing",
        ),
    )
)  # fmt: skip

# Formats that are known, not opened and no text; the first that matches names the file.
REFUSED: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), says)
    for pattern, says in (
        (rb"\0...ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", "a HEIC image"),
        (rb"\0...ftypM4[AB]", "an M4A recording"),
        (rb"\0...ftypqt", "a QuickTime video"),
        (rb"\0...(?:moov|mdat|wide|skip)", "a QuickTime video"),
        (rb"\0...ftyp", "an MP4 video"),
        (rb"\x1aE\xdf\xa3", "a Matroska or WebM video"),
        (rb"RIFF....AVI ", "an AVI video"),
        (rb"RIF[FX]....WAVE|RF64....WAVE|FFIR....EVAW", "a WAV recording"),
        (rb"FLV\x01", "an FLV video"),
        (rb"\0\0\x01[\xba\xb3]|\x47.{187}\x47.{187}\x47", "an MPEG video"),
        (rb"0&\xb2u\x8ef\xcf\x11", "a Windows Media file"),
        (rb"fLaC", "a FLAC recording"),
        (rb"OggS", "an Ogg recording"),
        (rb"ID3|\xff[\xfb\xfa\xf3\xf2]", "an MP3 recording"),
        (rb"\xff[\xf1\xf9]", "an AAC recording"),
        (rb"FORM....AIF[FC]", "an AIFF recording"),
        (rb"#!AMR", "an AMR recording"),
        (rb"MThd", "a MIDI file"),
        (rb"\xc5\xd0\xd3\xc6", "a PostScript file"),
        (rb"PK\x03\x04.{26}[^/]{1,80}\.npy", "an NPZ archive of arrays"),
        (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a ZIP archive"),
        (rb"\x93NUMPY", "a NumPy array"),
        (rb"\x1f\x8b", "a gzip file"),
        (rb"BZh[1-9]", "a bzip2 file"),
        (rb"\xfd7zXZ\0", "an xz file"),
        (rb"\x28\xb5\x2f\xfd", "a Zstandard file"),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (rb"Rar!\x1a\x07", "a RAR archive"),
        (rb".{257}ustar", "a tar archive"),
        (rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51", "a JPEG 2000 image"),
        (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL image"),
        (rb"\0\0\x01\0.\0", "a Windows icon"),
        (rb"\0\0\x02\0.\0", "a Windows cursor"),
        (rb"8BPS", "a Photoshop file"),
        (rb"icns", "a Macintosh icon"),
        (rb"DDS ", "a DDS texture"),
        (rb"FTEX|FTC\0|FTU\0", "a texture"),
        (rb"BLP[12]", "a BLP texture"),
        (rb"qoif", "a QOI image"),
        (rb"v/1\x01", "an OpenEXR image"),
        (rb"#\?(?:RADIANCE|RGBE)", "a Radiance image"),
        (rb"SIMPLE  =", "a FITS file"),
        (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile"),
        (rb"GRIB", "a GRIB file"),
        (rb"BUFR", "a BUFR file"),
        (rb"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (rb"SQLite format 3\0", "an SQLite database"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE compound file"),
        (rb"\x7fELF|MZ|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe|\0asm", "a program"),
        (rb"\xff\xfe\0\0|\0\0\xfe\xff", "a UTF-32 text; expected UTF-8"),
        (rb"\xff\xfe|\xfe\xff", "a UTF-16 text; expected UTF-8"),
    )
)  # fmt: skip


def sniff(data: bytes) -> Kind:
    """The kind of a file by its content; TEXT is whatever has no signature, is UTF-8 and holds no NUL."""
    head = data[:HEAD]
    for pattern, name in OPENED:
        if pattern.match(head):
            return Kind(name)
    for pattern, says in WRITTEN:
        if pattern.match(head):
            return Kind(says=says)
    place = data.find(b"\0")
    if place < 0:
        try:
            data.decode("utf-8")
            return Kind(TEXT)
        except UnicodeDecodeError as error:
            place = error.start
    # Only now: "DDS ", "icns" and "GRIB" begin texts too.
    for pattern, says in REFUSED:
        if pattern.match(head):
            return Kind(says=says)
    return Kind(says=f"neither a known format nor UTF-8 text (byte {place:,})")
