"""Pictures of audited files for the dossier: decoded again in isolation and drawn anew, never the original bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UnreadableSample
from ..isolation import Limits, Pool
from ..types import FileRow, Preview
from .entries import Entry
from .reading import Reader
from .store import Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Media = npt.NDArray[np.uint8] | str

THUMBNAIL, PICTURE = 96, 640  # pixels of the longer side
EXCERPT = 600  # characters


def previews(
    store: Store, rows: Sequence[FileRow], paged: frozenset[int], limits: Mapping[str, Any], workers: int
) -> dict[str, Preview]:
    """What is shown of the contents of these rows, by sha256: a thumbnail each, a picture for those with a page.

    A file that can no longer be read has none.
    """
    wanted = {row.sha256: row for row in rows if row.sha256 and row.state.startswith("ok")}
    entries = list(_entries(store, wanted))
    made: dict[str, Preview] = {}
    with Reader() as reader, Pool(workers=workers, limits=Limits(**limits), hashes=False) as pool:
        for entry in entries:
            try:
                _, media = pool.open(reader.read(entry))
            except UnreadableSample:
                continue
            if media is not None:
                made[entry.sha256] = preview(media, wanted[entry.sha256].position in paged)
    return made


def preview(media: Media, with_picture: bool) -> Preview:
    """The thumbnail of an image uint8 [H, W, 3], and a larger picture where asked; the beginning of a text."""
    if isinstance(media, str):
        return Preview(excerpt=media[:EXCERPT] + ("\u2026" if len(media) > EXCERPT else ""))
    return Preview(_drawn(media, THUMBNAIL), _drawn(media, PICTURE) if with_picture else b"")


def _drawn(pixels: npt.NDArray[np.uint8], side: int) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if max(image.size) <= side // 2:
        # Small images are shown pixel by pixel, which WebP would smear.
        image.save(buffer, "PNG", optimize=True)
    else:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()


def _entries(store: Store, wanted: Mapping[str, FileRow]) -> Iterator[Entry]:
    """Of each content the first input that has it, with copies to fall back on."""
    for row in sorted(wanted.values(), key=lambda r: r.position):
        found = store.content(row.sha256)
        if found is not None:
            yield found
