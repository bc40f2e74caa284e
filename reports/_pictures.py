"""Pictures of a page: embedded, or, where all of them would make it too large, as files beside it."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from evalkit.types import Leaderboard, Picture

from ._words import shorten

FOLDER = "pictures"
_IMAGE = re.compile(r"data:image/(png|jpeg|webp|gif);base64,([A-Za-z0-9+/=]+)")
_FILE = re.compile(FOLDER + r"/[0-9a-f]{32}-(pixels|photo)\.(?:png|jpeg|webp|gif)")
# A picture with an edge of at most this many pixels is enlarged with hard pixels; a larger one is a photograph.
_PIXEL_ART = 32


def picture(item: Picture) -> Markup:
    """The picture as an <img>; one that is not of the page's own is replaced by its words, so nothing is fetched."""
    if file := _FILE.fullmatch(item.uri):
        return Markup('<img class="{}" src="{}" alt="{}" loading="lazy">').format(
            file[1], item.uri, shorten(item.alt, 200)
        )
    if not _IMAGE.fullmatch(item.uri):
        return Markup('<span class="no-picture">{}</span>').format(shorten(item.alt or "no picture", 80))
    return Markup('<img class="{}" src="{}" alt="{}">').format(_kind(item.uri), item.uri, shorten(item.alt, 200))


def _kind(uri: str) -> str:
    return "pixels" if _edge(uri) <= _PIXEL_ART else "photo"


def _edge(uri: str) -> int:
    """The longer edge of an embedded PNG in pixels, from its header; large for other formats."""
    head = base64.b64decode(uri.partition(",")[2][:32].ljust(32, "A"))
    if head[12:16] != b"IHDR":
        return 10_000
    return max(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))


def beside(board: Leaderboard) -> tuple[Leaderboard, Mapping[str, bytes]]:
    """The board with its embedded pictures replaced by names of files, and those files by name, one a content."""
    files: dict[str, bytes] = {}
    return _moved(board, files), files


def _moved(thing: Any, files: dict[str, bytes]) -> Any:
    if isinstance(thing, Picture):
        return _as_file(thing, files)
    if isinstance(thing, tuple):
        moved = [_moved(item, files) for item in thing]
        # Most tuples hold no picture: those stay the very ones they were.
        return tuple(moved) if any(a is not b for a, b in zip(thing, moved, strict=True)) else thing
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        values = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
        changed = {name: new for name, old in values.items() if (new := _moved(old, files)) is not old}
        return dataclasses.replace(thing, **changed) if changed else thing
    return thing


def _as_file(item: Picture, files: dict[str, bytes]) -> Picture:
    found = _IMAGE.fullmatch(item.uri)
    if found is None:
        return item
    try:
        content = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return item
    name = f"{FOLDER}/{hashlib.sha256(content).hexdigest()[:32]}-{_kind(item.uri)}.{found[1]}"
    files[name] = content
    return dataclasses.replace(item, uri=name)
