"""One file opened inside a worker: what it is, what its header claims, its pixels or its text, and how that ended.

The pixels are those of `samples._media.decode_image` to the bit, made a band of rows at a time: a conversion and a copy
of the whole image would need twice the memory. Each pixel is converted by itself, so bands change nothing.
"""

from __future__ import annotations

import ctypes
import io
import platform
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..samples._headers import facts_of
from ..samples._media import as_rgb, decode_text
from ..types import MediaFacts, Modality, State
from . import budgets, faults, kinds
from .faults import Refused
from .limits import Limits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

BAND = 4_000_000  # pixels converted at a time
KEPT = 64 << 20  # bytes that the allocator may keep between files
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
STAGES = ("read", "sniff", "header", "decode", "witness")
MOST_WARNINGS, LONGEST_WARNING = 20, 300


@dataclass
class Reading:
    """What became of one file so far; `pixels` lie in the shared memory, `text` here."""

    state: State = "ok"
    stage: str = ""
    reason: str | None = None
    decoder: str = ""
    format: str = ""
    modality: Modality | None = None
    width: int | None = None
    height: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    media_facts: MediaFacts | None = None
    warnings: list[str] = field(default_factory=list)
    pixels: npt.NDArray[np.uint8] | None = None
    text: str | None = None

    def end(self, refused: Refused) -> None:
        self.state, self.stage, self.reason = refused.state, refused.stage, refused.reason
        self.pixels = self.text = None


def decoders() -> dict[str, str]:
    """The decoders and their versions, with the libraries that Pillow was built on."""
    import PIL
    from PIL import features

    libraries = {name: features.version(name) for name in ("jpg", "libjpeg_turbo", "zlib", "libtiff", "webp", "avif")}
    return {
        "Pillow": PIL.__version__,
        "Python": platform.python_version(),
        **{name: str(version) for name, version in libraries.items() if version},
    }


def prepare(limits: Limits) -> None:
    """Load the decoders of the formats that are opened, and make Pillow refuse what is over budget."""
    from importlib import import_module

    import numpy  # noqa: F401
    from PIL import Image, ImageFile

    for name in ("Png", "Jpeg", "Mpo", "WebP", "Gif", "Bmp", "Tiff", "Ppm", "Avif"):
        try:
            plugin: Any = import_module(f"PIL.{name}ImagePlugin")
        except ImportError:
            continue  # AVIF came with Pillow 11.3
        if name == "Avif":
            plugin.DEFAULT_MAX_THREADS = 1
    _keep_pages()
    Image.MAX_IMAGE_PIXELS = limits.most_pixels
    # Process-global, and True pads what is missing with grey without a word.
    ImageFile.LOAD_TRUNCATED_IMAGES = False


def _keep_pages() -> None:
    """Let the allocator keep up to KEPT bytes between files; only glibc is asked.

    By itself it gives back what a megapixel takes after every file, and each page of the next has to be fetched anew,
    which costs as much as decoding does.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT // 2)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def open_media(
    data: bytes, decode: bool, limits: Limits, room: npt.NDArray[np.uint8], enter: Callable[[str], None]
) -> Reading:
    """Open one file; its pixels are written to the front of `room`, a flat uint8 array. Never raises.

    decode: whether pixels and text are wanted, not the header alone. enter: is told each stage that begins.
    """
    reading, stage = Reading(), "sniff"

    def begin(next_stage: str) -> None:
        nonlocal stage
        stage = next_stage
        enter(stage)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("error", category=_bomb_warning())
        try:
            begin("sniff")
            kind = kinds.sniff(data)
            if not data:
                raise Refused("truncated", "sniff", "empty file")
            if not kind.format:
                raise Refused("unsupported", "sniff", f"unsupported: {kind.says}")
            reading.format, reading.decoder = kind.format, decoder_of(kind.format)
            if kind.format == kinds.TEXT:
                _open_text(reading, data, decode, limits, begin)
            else:
                _open_image(reading, data, decode, limits, room, begin)
        except BaseException as error:
            reading.end(faults.classify(error, stage))
    for warning in caught:
        warn(reading, str(warning.message))
    return reading


def warn(reading: Reading, words: str) -> None:
    """Note a warning once, and that the file has one; a few short ones are enough."""
    words = " ".join(words.split())[:LONGEST_WARNING]
    if reading.state == "ok":
        reading.state = "ok_with_warning"
    if words not in reading.warnings and len(reading.warnings) < MOST_WARNINGS:
        reading.warnings.append(words)


def decoder_of(format: str) -> str:
    """Name and version of what opens a format: "Pillow 13.0.0 / PNG"."""
    if format == kinds.TEXT:
        return f"Python {platform.python_version()} / UTF-8"
    import PIL

    return f"Pillow {PIL.__version__} / {format}"


def _bomb_warning() -> type[Warning]:
    from PIL import Image

    return Image.DecompressionBombWarning


def _open_text(reading: Reading, data: bytes, decode: bool, limits: Limits, begin: Callable[[str], None]) -> None:
    reading.modality = "text"
    begin("decode")
    if not data.strip():
        raise Refused("unsupported", "decode", "a text of white space alone")
    text = decode_text(data)
    if len(text) > limits.most_characters:
        raise Refused("too_large", "decode", f"{len(text):,} characters, at most {limits.most_characters:,}")
    reading.facts = {"format": kinds.TEXT, "bytes": len(data), "characters": len(text)}
    if decode:
        reading.text = text


def _open_image(
    reading: Reading,
    data: bytes,
    decode: bool,
    limits: Limits,
    room: npt.NDArray[np.uint8],
    begin: Callable[[str], None],
) -> None:
    from PIL import Image

    reading.modality = "image"
    begin("header")
    claim = budgets.check(reading.format, data, limits)
    with Image.open(io.BytesIO(data), formats=(reading.format,)) as image:
        reading.width, reading.height = image.size
        budgets.within(budgets.Claim(*image.size), limits)
        try:
            facts = facts_of(image, len(data))
        except Exception as error:
            # A broken second page is no reason to refuse the first, but counting has left the decoder at that page.
            warnings.warn(f"pages cannot be counted: {type(error).__name__}: {error}", stacklevel=1)
            image.close()
            with Image.open(io.BytesIO(data), formats=(reading.format,)) as again:
                facts = facts_of(again, len(data), claim.frames)
                _decode_image(reading, again, facts, decode, room, begin)
            return
        budgets.within(budgets.Claim(*image.size, facts.frames if reading.format == "AVIF" else 1), limits)
        _decode_image(reading, image, facts, decode, room, begin)


def _decode_image(
    reading: Reading,
    image: Image.Image,
    facts: MediaFacts,
    decode: bool,
    room: npt.NDArray[np.uint8],
    begin: Callable[[str], None],
) -> None:
    reading.media_facts, reading.facts = facts, {**vars(facts), "chunks": list(facts.chunks)}
    if decode:
        begin("decode")
        image.load()
        reading.width, reading.height = image.size  # a TIFF turns itself
        reading.pixels = into(image, room)


def into(image: Image.Image, room: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] at the front of `room`, as decode_image makes it of a loaded image."""
    width, height = image.size
    if not width * height:
        raise Refused("corrupt", "decode", "empty image")
    pixels = room[: 3 * width * height].reshape(height, width, 3)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = image if rows >= height else image.crop((0, top, width, bottom))
        band.format = image.format  # 16-bit grey means different things in different formats
        pixels[top:bottom] = _plain(band)
    # Witnesses see them before the parent does, and may not change what it sees.
    pixels.flags.writeable = False
    return pixels


def _plain(band: Image.Image) -> npt.NDArray[np.uint8]:
    if band.mode == "RGB":
        import numpy as np

        # as_rgb would copy twice what is copied into the room in any case.
        return np.frombuffer(band.tobytes(), np.uint8).reshape(band.height, band.width, 3)
    return as_rgb(band)
