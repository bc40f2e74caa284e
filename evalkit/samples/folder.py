"""A folder, read recursively: every image, or every .txt file as one text; the folder a file lies in is its group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import FileDigests
from ..errors import UnreadableSample
from ..types import Modality, Sample
from ._media import IMAGE_SUFFIXES, decode_image, decode_text, pick_kind
from ._set import ListedSet

if TYPE_CHECKING:
    from ..types import Media


def open_folder(path: Path, modality: Modality | None, digests: FileDigests) -> ListedSet:
    """The images of a folder, or its .txt files where those are more; NothingToEvaluate when it has neither."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    kinds: dict[Modality, list[Path]] = {
        "image": [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES],
        "text": [p for p in files if p.suffix.lower() == ".txt"],
    }
    kind = pick_kind({k: len(found) for k, found in kinds.items()}, modality, f"folder {str(path)!r}")
    chosen = kinds[kind]
    samples = []
    for file, digest in zip(chosen, digests.of(chosen), strict=True):
        inside = file.relative_to(path)
        group = inside.parts[-2] if len(inside.parts) > 1 else None
        samples.append(Sample(inside.as_posix(), digest, _reader(file, kind), group))
    return ListedSet(path.resolve().name or str(path), kind, tuple(samples), str(path))


def _reader(file: Path, kind: Modality) -> Callable[[], Media]:
    def load() -> Media:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise UnreadableSample(f"cannot be read: {error.strerror}") from error
        return decode_image(data) if kind == "image" else decode_text(data)

    return load
