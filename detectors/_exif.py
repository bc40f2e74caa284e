"""EXIF: what its software, maker, description and comment fields say; none of it signed, all of it easily written.

Camera make and model fit a photograph and anyone can write them: a hint. Names of generators are claims. xAI's images
carry a description "Signature: ..." with a UUID as artist (both are asked for: each alone is common); Samsung's photo
editor leaves a block `PhotoEditor_Re_Edit_Data` behind the JPEG whose genAIType is not 0 after generative edits (seen
in files of Galaxy phones; not documented by Samsung).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from evalkit.types import Evidence

from ._objects import object_of, quietly
from ._wording import evidence, visible

DESCRIPTION, MAKE, MODEL, SOFTWARE, ARTIST = 0x010E, 0x010F, 0x0110, 0x0131, 0x013B
XMP_TAG, EXIF_IFD, COMMENT = 0x02BC, 0x8769, 0x9286
EXPOSURE = (0x829A, 0x829D, 0x8827)  # time, f-number, ISO
NAMES = {DESCRIPTION: "description", MAKE: "make", MODEL: "model", SOFTWARE: "software", ARTIST: "artist"}
LONGEST = 4 << 20

# Names that a field begins with -> the tool. A name counts where the whole field is it or it ends at a word's end.
SOFTWARE_NAMES: Mapping[str, str] = {
    "adobe firefly": "Adobe Firefly",
    "adobe_firefly": "Adobe Firefly",
    "automatic1111": "AUTOMATIC1111",
    "black forest labs": "FLUX",
    "bing image creator": "Bing Image Creator",
    "comfyui": "ComfyUI",
    "dall-e": "DALL-E",
    "dall·e": "DALL-E",
    "draw things": "Draw Things",
    "dreamstudio": "DreamStudio",
    "fooocus": "Fooocus",
    "gpt-image": "OpenAI",
    "ideogram": "Ideogram",
    "invoke-ai": "InvokeAI",
    "invokeai": "InvokeAI",
    "leonardo.ai": "Leonardo.Ai",
    "midjourney": "Midjourney",
    "novelai": "NovelAI",
    "openai": "OpenAI",
    "stable diffusion": "Stable Diffusion",
    "stable-diffusion": "Stable Diffusion",
    "swarmui": "SwarmUI",
}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class ExifRefused(ValueError):
    """EXIF that cannot be read."""


def fields(block: bytes) -> dict[str, Any]:
    """description, make, model, software, artist, comment (texts), exposure (bool), xmp (bytes), where they are there.

    block: a TIFF structure. Raises ExifRefused for whatever Pillow raises on a broken one.
    """
    from PIL import Image

    try:
        with quietly():
            exif = Image.Exif()
            exif.load(block)
            found: dict[str, Any] = {name: _text(exif[tag]) for tag, name in NAMES.items() if tag in exif}
            inner = exif.get_ifd(EXIF_IFD)
            packet = exif.get(XMP_TAG)
        if COMMENT in inner:
            found["comment"] = comment_of(inner[COMMENT])
        found["exposure"] = any(tag in inner for tag in EXPOSURE)
    except Exception as error:  # Pillow raises many unrelated classes on malformed TIFF structures.
        raise ExifRefused(f"EXIF that cannot be read ({visible(error, 80) or type(error).__name__})") from error
    if isinstance(packet, bytes):
        found["xmp"] = packet
    return {name: value for name, value in found.items() if value}


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value[:LONGEST].decode("utf-8", "replace")
    # Pillow reads ASCII fields as Latin-1; many writers put UTF-8 there.
    text = value[:LONGEST] if isinstance(value, str) else ""
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode("utf-8")
    return text.replace("\0", " ").strip()


def comment_of(value: object) -> str:
    """The text of a UserComment, by the character code in its first eight bytes (Exif 2.32, section 4.6.5).

    The standard leaves the byte order of "UNICODE" open: the one that gives more ASCII is taken.
    """
    if isinstance(value, str):
        return value.strip("\0 ")
    if not isinstance(value, bytes):
        return ""
    value = value[:LONGEST]
    code, body = value[:8], value[8:]
    if code == b"UNICODE\0":
        big, little = (body.decode(name, "replace") for name in ("utf-16-be", "utf-16-le"))
        return max(big, little, key=lambda text: sum(c < "\x80" for c in text)).strip("\0 ")
    if code not in (b"ASCII\0\0\0", b"\0" * 8):
        body = value
    return body.decode("utf-8", "replace").strip("\0 ")


def generator_named(text: str) -> str:
    """The generator that a software field names; "" for none."""
    said = text.strip().casefold()
    for name, tool in SOFTWARE_NAMES.items():
        if said.startswith(name) and not said[len(name) : len(name) + 1].isalnum():
            return tool
    return ""


def exif_evidence(found: Mapping[str, Any]) -> list[Evidence]:
    """What the fields say: a generator's name or sign as a claim, a camera as a hint."""
    said = []
    artist, description = str(found.get("artist", "")), str(found.get("description", ""))
    if description.startswith("Signature: ") and UUID.fullmatch(artist):
        grok = {"tool": "xAI Grok", "artist": artist}
        said.append(evidence("synthetic", "EXIF", "the signature and the artist UUID that xAI Grok writes", facts=grok))
    for name in ("software", "make", "model", "artist", "description"):
        tool = generator_named(str(found.get(name, "")))
        if tool:
            value = visible(found[name])
            named = {"tool": tool, "field": name, "value": value}
            said.append(evidence("synthetic", "EXIF", f"the field {name} names {tool}: {value!r}", facts=named))
            break
    make, model = visible(found.get("make", "")), visible(found.get("model", ""))
    if make and model and not said and not make.startswith(("workflow:", "prompt:")):
        exposure = bool(found.get("exposure"))
        facts: dict[str, Any] = {
            "make": make,
            "model": model,
            "exposure": exposure,
            "software": visible(found.get("software", "")),
        }
        camera = model if model.casefold().startswith(make.split()[0].casefold()) else f"{make} {model}"
        what = f"a camera: {camera}, {'with' if exposure else 'without'} exposure data"
        said.append(evidence("authentic", "EXIF", what, "hint", facts=facts, strength="hint"))
    return said


def samsung_evidence(data: bytes) -> list[Evidence]:
    """The generative-edit mark of Samsung's photo editor, from the directory of blocks behind a JPEG."""
    for name, body in _samsung_blocks(data):
        if name == b"PhotoEditor_Re_Edit_Data":
            kind = (object_of(body[:LONGEST].decode("utf-8", "replace").strip("\0 ")) or {}).get("genAIType")
            if isinstance(kind, int) and not isinstance(kind, bool) and kind != 0:
                facts = {"tool": "Samsung photo editor", "gen_ai_type": str(kind)}
                return [evidence("edited", "Samsung trailer", f"genAIType {kind}: a generative edit", facts=facts)]
    return []


def _samsung_blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each block: "SEFH", version, count, entries of 12 bytes, length of all that, "SEFT"."""
    if not data.endswith(b"SEFT"):
        return
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    if start < 0 or data[start : start + 4] != b"SEFH":
        return
    count = min(int.from_bytes(data[start + 8 : start + 12], "little"), 256)
    for i in range(count):
        entry = data[start + 12 + 12 * i : start + 24 + 12 * i]
        offset, length = int.from_bytes(entry[4:8], "little"), int.from_bytes(entry[8:12], "little")
        if not 0 < offset <= start or length > offset:
            continue
        block = data[start - offset : start - offset + length]
        size = int.from_bytes(block[4:8], "little")
        yield block[8 : 8 + size], block[8 + size :]
