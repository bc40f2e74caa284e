"""A folder, read recursively: every image, or every .txt file as one text; the folder a file lies in is its group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..cache import FileDigests
from ..errors import BadSource
from ..types import Modality
from ._files import listed, local
from ._set import ListedSet


def open_folder(path: Path, modality: Modality | None, digests: FileDigests) -> ListedSet:
    """The images of a folder, or its .txt files where those are more; NothingToEvaluate when it has neither.

    Images take prompts and labels from a table in the folder or from a .txt beside each (see `prompts`).
    """
    found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    files = {p.relative_to(path).as_posix(): p for p in found}

    def digest(names: Sequence[str]) -> list[str]:
        try:
            return digests.of([files[name] for name in names])
        except OSError as error:
            raise BadSource(f"cannot read {str(error.filename)!r}: {error.strerror}; make it readable") from error

    kind, samples = listed({name: local(p) for name, p in files.items()}, digest, modality, f"folder {str(path)!r}")
    return ListedSet(path.resolve().name or str(path), kind, samples, str(path))
