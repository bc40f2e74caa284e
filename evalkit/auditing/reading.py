"""The bytes of a manifest's entries, read in place: nothing is extracted, no link is followed, no device is opened.

The listing hashes what it reads here, the examination reads it here again and compares; both go the same way. A member
of a .zip or .tar is a stretch of its file, so that any worker reads it without the archive's directory. What a .tar.gz
unpacks to can only be passed through from its beginning: a reader keeps its place in it and the last stretch it passed,
which is enough for batches in the manifest's order.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from typing import Any, BinaryIO, cast

from ..downloads import is_offline
from ..errors import BadSource, UnreadableSample
from .entries import Entry, Fault

CHUNK = 1 << 20
# Bytes of an unpacked .tar.gz that stay at hand behind the reader: threads of one batch ask a little out of order.
BEHIND = 64 << 20
HERE = ("file", "local", "memory")  # need no network


def is_url(place: str | bytes) -> bool:
    """Whether a PATH or a container is a URL; the absolute paths of containers never are."""
    return (b"://" if isinstance(place, bytes) else "://") in place and place[:1] not in (b"/", "/")  # type: ignore[operator]


def open_local(path: bytes) -> BinaryIO:
    """A regular file, opened for reading; OSError for anything else: a FIFO or device is refused without waiting."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(handle, "rb")


def open_url(url: str) -> tuple[Any, str]:
    """The file system behind a URL and the path on it; BadSource, one line, when it cannot be had."""
    if is_offline(os.environ) and url.partition("://")[0] not in HERE:
        raise BadSource(f"URL {url}: the network is switched off by EVALKIT_OFFLINE or HF_HUB_OFFLINE")
    try:
        system, path = import_module("fsspec.core").url_to_fs(url)
    except ImportError as error:
        raise BadSource(f"URL {url}: {' '.join(str(error).split())}; or copy the files to this machine") from None
    except Exception as error:
        raise BadSource(
            f"URL {url} cannot be opened: {type(error).__name__}; expected s3://, gs:// or the like"
        ) from None
    return system, str(path)


def why(error: BaseException) -> str:
    """What a store or an operating system said, without an address in it that could carry a secret."""
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    return type(error).__name__


class Reader:
    """Reads entries; any thread may ask. Used as a context manager, because it keeps packed streams open."""

    def __init__(self) -> None:
        self._streams: dict[bytes, _Stream] = {}
        self._systems: dict[bytes, tuple[Any, str]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    def read(self, entry: Entry) -> bytes:
        """The content that was listed, from this entry or from a copy of it; UnreadableSample when neither has it."""
        first: str | None = None
        for place in (entry, *entry.copies):
            try:
                data = b"".join(self.chunks(place))
            except Fault as fault:
                first = first or fault.reason
                continue
            if hashlib.sha256(data).hexdigest() == entry.sha256:
                return data
            first = first or "changed since it was listed"
        raise UnreadableSample(first or "not listed")

    def chunks(self, entry: Entry, most: int | None = None) -> Iterator[bytes]:
        """The content piece by piece, at most `most` bytes (by default the listed size and one more); raises Fault."""
        limit = entry.size + 1 if most is None else most
        try:
            if entry.packing == "gzip":
                yield from self._stream(entry.container).stretch(entry.offset, entry.size)
            elif entry.packing == "deflate":
                with closing(self.open(entry)) as file:
                    yield from _inflated(file, entry, limit)
            else:
                with closing(self.open(entry)) as file:
                    file.seek(entry.offset)
                    yield from _stretch(file, min(limit, entry.size) if entry.packing == "range" else limit)
        except (Fault, GeneratorExit):
            raise
        except (zlib.error, gzip.BadGzipFile, EOFError) as error:
            raise Fault("corrupt", f"its archive is damaged here: {str(error)[:120] or type(error).__name__}") from None
        except Exception as error:  # A store's client raises what it likes.
            raise Fault("io_error", f"cannot be read: {why(error)}") from None

    def open(self, entry: Entry) -> BinaryIO:
        """The file that holds an entry, or that it is."""
        local = not is_url(entry.container)
        if entry.packing == "file" and local:
            return open_local(os.path.join(entry.container, entry.name))  # noqa: PTH118 (names are bytes)
        if local:
            return open_local(entry.container)
        with self._lock:
            if entry.container not in self._systems:
                self._systems[entry.container] = open_url(os.fsdecode(entry.container))
            system, root = self._systems[entry.container]
        path = f"{root.rstrip('/')}/{os.fsdecode(entry.name)}" if entry.packing == "file" else root
        return cast(BinaryIO, system.open(path, "rb"))

    def _stream(self, container: bytes) -> _Stream:
        with self._lock:
            if container not in self._streams:
                self._streams[container] = _Stream(self, container)
            return self._streams[container]


def _stretch(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (piece := file.read(min(CHUNK, length))):
        length -= len(piece)
        yield piece


def _inflated(file: BinaryIO, entry: Entry, limit: int) -> Iterator[bytes]:
    """A deflated stretch, unpacked no further than the limit, whatever its data would go on to."""
    file.seek(entry.offset)
    inflater, given = zlib.decompressobj(-15), 0
    for packed in _stretch(file, entry.packed):
        while packed and given < limit:
            piece = inflater.decompress(packed, min(CHUNK, limit - given))
            packed, given = inflater.unconsumed_tail, given + len(piece)
            if piece:
                yield piece
        if given >= limit:
            return
    if not inflater.eof:
        raise Fault("truncated", "truncated: its packed data end early")


class _Stream:
    """What one gzip file unpacks to, passed through forwards; a step back beyond BEHIND begins again."""

    def __init__(self, reader: Reader, container: bytes) -> None:
        self.lock = threading.Lock()
        self.reader, self.container = reader, container
        self.file: gzip.GzipFile | None = None
        self.raw: BinaryIO | None = None
        self.window = bytearray()
        self.end = 0  # of the window, in unpacked bytes

    def stretch(self, offset: int, size: int) -> Iterator[bytes]:
        with self.lock:
            if self.file is None or offset < self.end - len(self.window):
                self.close()
                self.raw = self.reader.open(Entry(-1, "", b"", self.container, "range"))
                self.file = gzip.GzipFile(fileobj=self.raw)
            while self.end < offset + size:
                piece = self.file.read(min(CHUNK, offset + size - self.end))
                if not piece:
                    raise EOFError("it ends early")
                self.window += piece
                self.end += len(piece)
                # What one entry needs stays whole, however long it is.
                spare = len(self.window) - max(BEHIND, self.end - offset)
                if spare > CHUNK:
                    del self.window[:spare]
            start = offset - (self.end - len(self.window))
            found = bytes(self.window[start : start + size])
        yield found

    def close(self) -> None:
        for file in (self.file, self.raw):
            if file is not None:
                file.close()
        self.file, self.raw, self.end = None, None, 0
        self.window.clear()
