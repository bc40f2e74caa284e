"""Samples behind a URL (`s3://`, `gs://`, `hf://`, `https://`, ...): fetched once, kept by content, read from there.

Every object is streamed into the `objects` folder of evalkit's cache under the sha256 of its bytes. An index a source
remembers which object had which size and version, so that an unchanged one is not fetched again; an object whose store
tells no version is fetched each time. What a URL may carry to prove who asks (user, password, query) is kept nowhere.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ..cache import Cache, digest_of
from ..downloads import is_offline
from ..errors import BadSource, EvalkitError, NothingToEvaluate, UnreadableSample, UnwritableOutput
from ..types import Modality, SampleSet
from ._files import File, listed, local
from ._media import IMAGE_SUFFIXES
from ._set import ListedSet
from .archive import MOST_BYTES, MOST_MEMBERS
from .prompts import TABLES
from .statistics import StatisticsSet

MOST_FILE = 64 * 2**30  # bytes of an archive, array or text file
CHUNK = 1 << 20
CONNECTIONS = 8
HERE = ("file", "local", "memory")  # need no network
# Where one store or another puts what changes when an object does.
VERSIONS = (
    *("ETag", "etag", "md5Hash", "checksum", "Content-MD5", "Digest", "blob_id", "generation", "version_id"),
    *("LastModified", "Last-Modified", "last_modified", "last_commit", "updated", "mtime", "modified", "created"),
)
FILES = (".zip", ".tar", ".tgz", ".gz", ".npz", ".npy", ".txt", ".jsonl", ".csv", ".parquet")


def is_url(source: str) -> bool:
    """Whether a source is a URL and not a path."""
    return "://" in source


def as_path(url: str) -> Path | None:
    """The path that a file:// URL names on this machine; None for any other."""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else None


def shown(url: str) -> str:
    """The URL without what proves who asks: no user, no password, no query."""
    safe = []
    for link in url.split("::"):
        scheme, mark, rest = link.partition("://")
        rest = rest.split("?")[0].split("#")[0]
        host, slash, path = rest.partition("/")
        safe.append(f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else link)
    return "::".join(safe)


def open_remote(url: str, modality: Modality | None, root: Path, open_file: Callable[[Path], SampleSet]) -> SampleSet:
    """The samples of a URL: of every image or text under it, or of the one archive, array or text file that it names.

    root: evalkit's cache. open_file: opens one fetched file as samples. Raises BadSource in one line, and what opening
    the same files from a folder raises.
    """
    place = _place(url)
    if PurePosixPath(place.path_of_url()).suffix.lower() in FILES:
        return _one(place, place.info(), root, open_file)
    infos = place.listing()
    if len(infos) == 1 and next(iter(infos)) == place.path:
        return _one(place, place.info(), root, open_file)
    return _folder(place, infos, modality, root)


@dataclass(frozen=True)
class _Place:
    """A URL with the file system that serves it; whatever that raises becomes one line without secrets."""

    url: str
    path: str
    system: Any
    scheme: str

    @property
    def shown(self) -> str:
        return shown(self.url)

    def path_of_url(self) -> str:
        """The path part of what is addressed: a query is no part of it where the scheme has queries."""
        return unquote(urlsplit(self.path).path) if self.scheme in ("http", "https") else self.path

    def info(self) -> Mapping[str, Any]:
        try:
            return dict(self.system.info(self.path))
        except Exception as error:
            raise self.failed("cannot be opened", error) from None

    def listing(self) -> dict[str, Mapping[str, Any]]:
        try:
            return dict(self.system.find(self.path, detail=True))
        except Exception as error:
            raise self.failed("cannot be listed", error) from None

    def failed(self, what: str, error: Exception, name: str = "") -> BadSource:
        # Only the class: the words of a client may hold the whole URL with its signature.
        why = error.strerror if isinstance(error, OSError) and error.errno and error.strerror else ""
        said = type(error).__name__ if not why or self.url in why else f"{type(error).__name__}: {why}"
        inside = f" ({name})" if name else ""
        return BadSource(f"URL {self.shown}{inside} {what} [{said}]; check the address and your right to read it")


def _place(url: str) -> _Place:
    scheme = url.partition("://")[0].rpartition("::")[2]
    if is_offline(os.environ) and url.split("::")[-1].partition("://")[0] not in HERE:
        raise BadSource(f"URL {shown(url)}: the network is switched off by EVALKIT_OFFLINE or HF_HUB_OFFLINE")
    try:
        core = import_module("fsspec.core")
    except ImportError:
        raise BadSource(f"URL {shown(url)}: reading it needs fsspec; pip install fsspec, or copy the files") from None
    try:
        system, path = core.url_to_fs(url)
    except ImportError as error:
        # fsspec's own table says which package a protocol needs.
        need = " ".join(str(error).split()) or f"a package for {scheme}:// is missing"
        raise BadSource(f"URL {shown(url)}: {need}; or copy the files to this machine") from None
    except Exception as error:
        known = f"no protocol {scheme!r}" if "not known" in str(error) else type(error).__name__
        raise BadSource(f"URL {shown(url)} cannot be opened: {known}; expected s3://, gs://, hf://, https://") from None
    return _Place(url, str(path), system, scheme)


def _one(place: _Place, info: Mapping[str, Any], root: Path, open_file: Callable[[Path], SampleSet]) -> SampleSet:
    name = PurePosixPath(place.path_of_url())
    [path] = _Objects(place, root, MOST_FILE).fetch({place.path: info})
    if isinstance(path, UnreadableSample):
        raise BadSource(f"URL {place.shown}: {path}")
    try:
        found = open_file(path)
    except EvalkitError as error:
        raise type(error)(_told(str(error), path, place.shown)) from None
    if isinstance(found, StatisticsSet):
        return replace(found, name=name.stem, source=place.shown)
    if not isinstance(found, ListedSet):
        return found
    # Sets of arrays number their samples after the file, which here is called by its digest.
    samples = tuple(replace(s, id=s.id.replace(path.stem, name.stem)) for s in found.samples)
    return ListedSet(name.stem, found.modality, samples, place.shown)


def _told(message: str, path: Path, url: str) -> str:
    return message.replace(str(path), url)


def _folder(place: _Place, infos: Mapping[str, Any], modality: Modality | None, root: Path) -> ListedSet:
    """The objects under a URL, under the names and in the order that a copy of them on disk would have."""
    base = place.path.rstrip("/") + "/"
    wanted = {*IMAGE_SUFFIXES, ".txt"} if modality != "text" else {".txt"}
    inside = {PurePosixPath(path.removeprefix(base)): path for path, info in infos.items() if _is_file(info)}
    names = [
        name
        for name in sorted(inside)
        if not name.name.startswith(".") and (name.suffix.lower() in wanted or name.name in TABLES)
    ]
    if len(names) > MOST_MEMBERS:
        raise BadSource(f"URL {place.shown} has {len(names):,} objects; at most {MOST_MEMBERS:,} are read")
    if not names:
        raise NothingToEvaluate(f"URL {place.shown} holds no image or text file")
    fetched = _Objects(place, root, MOST_BYTES).fetch({inside[name]: infos[inside[name]] for name in names})
    files = {str(name): _file(found) for name, found in zip(names, fetched, strict=True)}
    kept = dict(zip(files, fetched, strict=True))
    kind, samples = listed(files, lambda chosen: [_digest(kept[n]) for n in chosen], modality, f"URL {place.shown}")
    return ListedSet(PurePosixPath(place.path_of_url()).name or place.scheme, kind, samples, place.shown)


def _is_file(info: Mapping[str, Any]) -> bool:
    return str(info.get("type", "file")) == "file"


def _file(found: Path | UnreadableSample) -> File:
    if isinstance(found, Path):
        return local(found)

    def read() -> bytes:
        raise UnreadableSample(str(found))

    return File(read)


def _digest(found: Path | UnreadableSample) -> str:
    if isinstance(found, Path):
        return found.stem
    # As in an archive: what cannot be read still has an identity, so that it is listed as excluded.
    return hashlib.sha256(f"unreadable:{found}".encode()).hexdigest()


class _Objects:
    """The objects of one source on this machine: `objects/ab/abcd....png`, and which of them is which."""

    def __init__(self, place: _Place, root: Path, most: int) -> None:
        self.place, self.most = place, most
        self.cache = Cache(root)
        self.folder = root / "objects"
        self.key = digest_of("objects", place.scheme, shown(place.url))

    def fetch(self, infos: Mapping[str, Mapping[str, Any]]) -> list[Path | UnreadableSample]:
        """Where each object lies on this machine; UnreadableSample for one that is too large."""
        index = self.cache.get_json("objects", self.key)
        index = index if isinstance(index, dict) else {}
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="evalkit-fetch") as pool:
            work = [pool.submit(self._get, path, info, index.get(_name(path))) for path, info in infos.items()]
            try:
                found = [w.result() for w in work]
            finally:
                pool.shutdown(cancel_futures=True)
        fresh = {
            _name(path): [_version(info), str(where.relative_to(self.folder))]
            for (path, info), where in zip(infos.items(), found, strict=True)
            if isinstance(where, Path) and _version(info) is not None
        }
        if any(index.get(name) != entry for name, entry in fresh.items()):
            self.cache.put_json("objects", self.key, {**index, **fresh})
        return found

    def _get(self, path: str, info: Mapping[str, Any], known: Any) -> Path | UnreadableSample:
        size, version = info.get("size"), _version(info)
        if isinstance(size, int) and size > self.most:
            return UnreadableSample(f"too large: {size:,} bytes, at most {self.most:,}")
        if version is not None and isinstance(known, Sequence) and len(known) == 2 and known[0] == version:
            where = self.folder / str(known[1])
            if where.is_file() and (size is None or where.stat().st_size == size):
                return where
        return self._stream(path, size)

    def _stream(self, path: str, size: int | None) -> Path | UnreadableSample:
        draft = self._draft()
        try:
            total, digest = 0, hashlib.sha256()
            with draft.open("wb") as here:
                for chunk in self._chunks(path):
                    total += len(chunk)
                    if total > self.most:
                        return UnreadableSample(f"too large: over {self.most:,} bytes")
                    digest.update(chunk)
                    here.write(chunk)
            if size is not None and total != size:
                raise BadSource(f"URL {self.place.shown}: {total:,} of {size:,} bytes of {shown(path)} came; try again")
            suffix = PurePosixPath(shown(path)).suffix.lower()
            ending = suffix if suffix in FILES or suffix in IMAGE_SUFFIXES else ""
            where = self.folder / digest.hexdigest()[:2] / f"{digest.hexdigest()}{ending}"
            where.parent.mkdir(exist_ok=True, mode=0o700)
            draft.replace(where)
            return where
        except OSError as error:
            raise UnwritableOutput(f"cannot write into {self.folder}: {error.strerror}; set EVALKIT_CACHE") from error
        finally:
            draft.unlink(missing_ok=True)

    def _draft(self) -> Path:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(prefix=".", dir=self.folder)
        except OSError as error:
            raise UnwritableOutput(f"cannot write into {self.folder}: {error.strerror}; set EVALKIT_CACHE") from error
        os.close(handle)
        return Path(name)

    def _chunks(self, path: str) -> Any:
        try:
            with self.place.system.open(path, "rb") as there:
                while chunk := there.read(CHUNK):
                    yield chunk
        except GeneratorExit:
            raise
        except Exception as error:
            raise self.place.failed("cannot be read", error, shown(path)) from None


def _name(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()


def _version(info: Mapping[str, Any]) -> str | None:
    """What tells a changed object from the one fetched before; None where the store does not say."""
    told = [str(info[key]) for key in VERSIONS if info.get(key) is not None]
    return digest_of(told, info.get("size")) if told else None
