"""Where samples come from: one file a kind of source, all ending in one kind of set."""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..cache import FileDigests, default_root
from ..errors import BadSource, ModalityMismatch
from ..types import Modality, SampleSet
from . import archive, arrays, embedded, folder, lines, remote, statistics
from ._set import ListedSet, halves, select, some
from .prompts import conditions_of

__all__ = ["ListedSet", "conditions_of", "halves", "open_samples", "select", "some"]


def open_samples(
    source: Any,
    *,
    split: str | None = None,
    modality: Modality | None = None,
    name: str | None = None,
    digests: FileDigests | None = None,
) -> SampleSet:
    """The samples of a source, listed and identified by content; nothing is decoded yet.

    source: a folder (recursive), .zip / .tar, .npz / .npy, .txt / .jsonl / .csv / .parquet, `embedded:digits`,
    `embedded:prose`, a URL of such a folder or file (s3://, gs://, hf://, https://, through fsspec), a statistics file
    (.npz with mu and sigma), an array of images [N, H, W(, C)], a list of texts, or a set already open.
    split: which split of an embedded set to take when the source does not say (train, heldout, ceiling).
    Raises BadSource, NothingToEvaluate, or ModalityMismatch when `modality` is given and differs.
    """
    found = _open(source, split, modality, digests or FileDigests(None))
    if modality is not None and found.modality != modality:
        raise ModalityMismatch(f"{_shown(source)} holds {found.modality} samples, expected {modality}")
    if name is not None and isinstance(found, ListedSet | statistics.StatisticsSet):
        return replace(found, name=name)
    return found


def _open(source: Any, split: str | None, modality: Modality | None, digests: FileDigests) -> SampleSet:
    if isinstance(source, str) and source.startswith(embedded.PREFIX):
        whole = "/" in source or split is None
        return embedded.open_embedded(source if whole else f"{source}/{split}")
    if isinstance(source, str) and remote.is_url(source):
        return _open_url(source, modality, digests)
    if isinstance(source, str | Path):
        return _open_path(Path(source), modality, digests)
    if isinstance(source, SampleSet):
        return source
    if isinstance(source, list | tuple) and all(isinstance(item, str) for item in source):
        return arrays.from_texts(source)
    return arrays.from_images(source)


def _open_url(url: str, modality: Modality | None, digests: FileDigests) -> SampleSet:
    if (here := remote.as_path(url)) is not None:
        return _open_path(here, modality, digests)
    root = default_root() if digests.path is None else digests.path.parent
    return remote.open_remote(url, modality, root, lambda path: _open_path(path, modality, digests))


def _open_path(path: Path, modality: Modality | None, digests: FileDigests) -> SampleSet:
    if ":/" in str(path) and not path.exists():
        raise BadSource("a URL was given as a path, which loses one of its slashes; give it as text")
    if not path.exists():
        raise BadSource(
            f"no such source {str(path)!r}; expected a folder, archive, array or text file, or embedded:NAME"
        )
    if path.is_dir():
        return folder.open_folder(path, modality, digests)
    suffix = path.suffix.lower()
    if suffix == ".npz" and statistics.holds_statistics(path):
        return statistics.open_statistics(path, modality, digests)
    if suffix in (".npz", ".npy"):
        return arrays.open_arrays(path)
    if suffix in lines.SUFFIXES:
        return lines.open_lines(path)
    if suffix in (".zip", ".tar", ".tgz") or zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return archive.open_archive(path, modality)
    raise BadSource(f"cannot tell what {str(path)!r} holds; expected .zip .tar .npz .npy {' '.join(lines.SUFFIXES)}")


def _shown(source: Any) -> str:
    if isinstance(source, str | Path):
        return repr(str(source))
    return repr(source.name) if isinstance(source, ListedSet) else f"the given {type(source).__name__}"
