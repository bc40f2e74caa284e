"""Where the parts of a dossier's folder lie, and its pictures as files: named by content, admitted by magic bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from evalkit.types import Dossier, FileRow, Preview

FOLDER = "files"


def page_name(position: int) -> str:
    """The address of a file's page inside `files/`: its place in the manifest, six digits or more."""
    return f"{position:06d}.html"


def kind(picture: bytes) -> str:
    """png, webp or jpeg by the magic bytes; "" for anything else, which is not shown."""
    if picture.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "webp"
    return "jpeg" if picture.startswith(b"\xff\xd8\xff") else ""


@dataclass(frozen=True)
class Shots:
    """The names inside `files/` of a content's pictures; "" where it has none."""

    thumbnail: str = ""
    picture: str = ""
    heat: str = ""


def shots(dossier: Dossier) -> tuple[Mapping[str, Shots], Mapping[str, bytes]]:
    """sha256 of a file -> its pictures' names, and those files by name; whole pictures only of files with a page."""
    files: dict[str, bytes] = {}

    def stored(content: bytes) -> str:
        suffix = kind(content)
        if not suffix:
            return ""
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.{suffix}"
        files[name] = content
        return name

    with_page = {page.row.sha256 for page in dossier.pages}
    names = {}
    for digest in sorted(dossier.pictures):
        one = dossier.pictures[digest]
        whole = digest in with_page
        names[digest] = Shots(
            stored(one.thumbnail), stored(one.picture) if whole else "", stored(one.heat) if whole else ""
        )
    return names, files


def excerpt(dossier: Dossier, row: FileRow) -> str:
    """The beginning of a text file; "" where it is none."""
    return dossier.pictures.get(row.sha256, Preview()).excerpt
