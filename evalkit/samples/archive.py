"""A .zip or .tar of images or .txt files, read in place: no member is ever extracted to a name it chose."""

from __future__ import annotations

import hashlib
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..errors import BadSource, UnreadableSample
from ..types import Modality
from ._files import File, listed
from ._set import ListedSet

MOST_MEMBERS = 2_000_000
MOST_BYTES = 256 * 2**20  # one member
MOST_RATIO = 200  # unpacked to packed, of one member over 1 MiB

Read = Callable[[], bytes]


def open_archive(path: Path, modality: Modality | None) -> ListedSet:
    """The images (or texts, where those are more) of an archive, in name order; BadSource when it is damaged.

    Images take prompts and labels from a table in it or from a .txt beside each (see `prompts`).
    """
    try:
        members = _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadSource(f"cannot open archive {str(path)!r}: {error}; expected a readable .zip or .tar") from error
    kind, samples = listed(
        {name: File(members[name]) for name in sorted(members)},
        lambda names: [_digest(members[name]) for name in names],
        modality,
        f"archive {str(path)!r}",
    )
    return ListedSet(path.stem, kind, samples, str(path))


def _digest(read: Read) -> str:
    try:
        return hashlib.sha256(read()).hexdigest()
    except UnreadableSample as error:
        # A member that cannot be read still has an identity, so that it is listed as excluded.
        return hashlib.sha256(f"unreadable:{error}".encode()).hexdigest()


def _zip_members(path: Path) -> dict[str, Read]:
    archive, lock = zipfile.ZipFile(path), threading.Lock()
    infos = [i for i in archive.infolist() if not i.is_dir() and not PurePosixPath(i.filename).name.startswith(".")]
    if len(infos) > MOST_MEMBERS:
        raise BadSource(f"archive {str(path)!r} has {len(infos):,} members; at most {MOST_MEMBERS:,} are read")

    def reader(info: zipfile.ZipInfo) -> Read:
        def read() -> bytes:
            large = info.file_size > 2**20 and info.file_size > MOST_RATIO * max(1, info.compress_size)
            if info.file_size > MOST_BYTES or large:
                raise UnreadableSample(f"too large: {info.file_size:,} bytes from {info.compress_size:,}")
            try:
                with lock, archive.open(info) as member:
                    return member.read(info.file_size + 1)[: info.file_size]
            except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError) as error:
                raise UnreadableSample(f"corrupt: {error}") from error

        return read

    return {info.filename: reader(info) for info in infos}


def _tar_members(path: Path) -> dict[str, Read]:
    archive, lock = tarfile.open(path), threading.Lock()  # noqa: SIM115 (read for as long as the set lives)
    infos = [i for i in archive.getmembers() if i.isfile() and not PurePosixPath(i.name).name.startswith(".")]
    if len(infos) > MOST_MEMBERS:
        raise BadSource(f"archive {str(path)!r} has {len(infos):,} members; at most {MOST_MEMBERS:,} are read")

    def reader(info: tarfile.TarInfo) -> Read:
        def read() -> bytes:
            if info.size > MOST_BYTES:
                raise UnreadableSample(f"too large: {info.size:,} bytes")
            try:
                with lock:
                    member = archive.extractfile(info)
                    data = member.read() if member is not None else b""
            except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
                raise UnreadableSample(f"corrupt: {error}") from error
            if len(data) != info.size:
                raise UnreadableSample(f"truncated: {len(data):,} of {info.size:,} bytes")
            return data

        return read

    return {info.name: reader(info) for info in infos}
