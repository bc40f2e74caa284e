"""Files by name, wherever they lie, made into samples: which are images or texts, their groups and their prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from posixpath import basename, dirname, splitext
from typing import TYPE_CHECKING

from ..errors import UnreadableSample
from ..types import MediaFacts, Modality, Sample
from ._headers import read_facts
from ._media import IMAGE_SUFFIXES, decode_image, decode_text, pick_kind
from .prompts import Note, notes_of, sidecars

if TYPE_CHECKING:
    from ..types import Media


@dataclass(frozen=True)
class File:
    """One file: `read` gives its bytes or raises UnreadableSample; `path` is where it lies, if on this machine."""

    read: Callable[[], bytes]
    path: Path | None = None

    def facts(self) -> MediaFacts:
        """What the header of an image says; read from the file itself where there is one, without the rest of it."""
        return read_facts(self.read() if self.path is None else self.path)


def local(path: Path) -> File:
    """A file of this machine."""
    return File(partial(_bytes, path), path)


def listed(
    files: Mapping[str, File],
    digests: Callable[[Sequence[str]], Sequence[str]],
    modality: Modality | None,
    what: str,
) -> tuple[Modality, tuple[Sample, ...]]:
    """The kind of samples that the files are, and the samples in the order of the files.

    A .txt of the same stem beside an image is that image's prompt, not a text sample. digests: hex sha256 of the files
    of these names. Raises ModalityMismatch, NothingToEvaluate, or BadSource for a table of prompts that is malformed.
    """
    suffixes = {name: splitext(name)[1].lower() for name in files}
    images = [name for name in files if suffixes[name] in IMAGE_SUFFIXES]
    texts = [name for name in files if suffixes[name] == ".txt"]
    beside = 0 if modality == "text" else len(set(sidecars(images, texts).values()))
    kind = pick_kind({"image": len(images), "text": len(texts) - beside}, modality, what)
    chosen = images if kind == "image" else texts
    notes = notes_of(images, texts, {n: f.read for n, f in files.items()}, what) if kind == "image" else {}
    samples = []
    for name, digest in zip(chosen, digests(chosen), strict=True):
        file, note = files[name], notes.get(name, Note())
        if note.group is None:
            folder = basename(dirname(name))
            note = note.filled(Note(group=folder if folder not in ("", ".") else None))
        facts = file.facts if kind == "image" else None
        samples.append(Sample(name, digest, partial(_load, file, kind), note.group, note.prompt, facts))
    return kind, tuple(samples)


def _load(file: File, kind: Modality) -> Media:
    return decode_image(file.read()) if kind == "image" else decode_text(file.read())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableSample(f"cannot be read: {error.strerror}") from error
