"""The members of a .zip or .tar as stretches of its bytes; names in it are only names, and nothing is unpacked to disk.

Both walks are flat in memory whatever the archive says of itself. The .zip directory is read record by record (APPNOTE
6.3.10, 4.3.12 to 4.3.16) instead of through `zipfile`, which holds it whole in every process and decodes names; the
.tar is walked by `tarfile` over a file that refuses reads and lengths that only a bomb asks for. What is wrong with a
member becomes the state of its entry, what is wrong with the archive itself an entry of its own, so that nothing that
lies behind the damage is passed over in silence.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from .entries import Entry, Fault, Limits
from .reading import CHUNK, Reader, why

TARS, PACKED_TARS = (b".tar",), (b".tar.gz", b".tgz")
SUFFIXES = (b".zip", *TARS, *PACKED_TARS)
MOST_EXTENDED = 1 << 20  # bytes of one extended header of a .tar; a path has at most 4096
RATIO_FROM = 1 << 20  # bytes: smaller members may be as empty as they like
STORED, DEFLATED = 0, 8


def is_archive(name: bytes) -> bool:
    """Whether a name is one of an archive that is listed member by member."""
    return name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class Member:
    """A member before its bytes are read: its entry, and the CRC-32 that the archive promises for it."""

    entry: Entry
    crc: int | None = None


def members(archive: bytes, reader: Reader, limits: Limits) -> Iterator[Member]:
    """The members of the archive at a path or URL, in its own order, then, if it is damaged, the archive itself."""
    found, total = 0, 0
    whole = Entry(-1, "", b"", archive)
    try:
        with closing(reader.open(replace(whole, packing="range"))) as file:
            size = file.seek(0, os.SEEK_END)
            for member in (
                _zip(file, size, archive) if archive.lower().endswith(b".zip") else _tar(file, size, whole, limits)
            ):
                found += 1
                if found > limits.members:
                    raise Fault("too_large", f"it has more than {limits.members:,} members; the others were not listed")
                total += member.entry.size
                yield _held(member, total, limits)
    except Fault as fault:
        yield Member(whole.failed(fault))
    except (zlib.error, EOFError, tarfile.TarError, struct.error, RecursionError, ValueError, OverflowError) as error:
        said = str(error)[:120] or type(error).__name__
        yield Member(whole.failed(Fault("corrupt", f"damaged archive after {found:,} members: {said}")))
    except OSError as error:
        state = "corrupt" if isinstance(error, gzip.BadGzipFile) else "io_error"
        yield Member(whole.failed(Fault(state, f"after {found:,} members it cannot be read: {why(error)}")))  # type: ignore[arg-type]


def _held(member: Member, total: int, limits: Limits) -> Member:
    """The member, unless it is larger than is accepted."""
    entry = member.entry
    if entry.state != "ok":
        return member
    if entry.size > limits.bytes:
        return Member(entry.failed(Fault("too_large", f"{entry.size:,} bytes; at most {limits.bytes:,} are read")))
    if entry.packing == "deflate" and entry.size > max(RATIO_FROM, limits.ratio * max(1, entry.packed)):
        packed = f"{entry.size:,} bytes from {entry.packed:,}; at most {limits.ratio} to 1 are unpacked"
        return Member(entry.failed(Fault("too_large", packed)))
    if total > limits.total:
        return Member(entry.failed(Fault("too_large", f"the archive unpacks to more than {limits.total:,} bytes")))
    return member


# ---------------------------------------------------------------------------------------------- .zip


def _zip(file: BinaryIO, size: int, archive: bytes) -> Iterator[Member]:
    """Every member of the central directory that is not a folder."""
    start, length, before = _directory(file, size)
    at, packed_total = start, 0
    while at < start + length:
        file.seek(at)
        head = file.read(46)
        if len(head) < 46 or head[:4] != b"PK\1\2":
            raise Fault("corrupt", "damaged archive: its directory ends early; what follows was not listed")
        flags, method = struct.unpack_from("<2H", head, 8)
        crc, packed, full, names, extras, comments = struct.unpack_from("<3I3H", head, 16)
        attributes, offset = struct.unpack_from("<2I", head, 38)
        name = file.read(names)
        packed, full, offset = _long(file.read(extras), packed, full, offset)
        at += 46 + names + extras + comments
        if name.endswith(b"/"):
            continue
        entry = Entry(-1, "", name, archive, "deflate" if method == DEFLATED else "range", 0, packed, full)
        packed_total += packed
        if packed_total > size:
            raise Fault("corrupt", "damaged archive: its members overlap; what follows was not listed")
        try:
            if stat.S_ISLNK(attributes >> 16):
                raise Fault("unsupported", "a symbolic link: not followed")
            if flags & 1:
                raise Fault("unsupported", "encrypted")
            if method not in (STORED, DEFLATED):
                raise Fault("unsupported", f"packed by method {method}; stored and deflated members are read")
            if method == STORED and packed != full:
                raise Fault("corrupt", f"stored as {packed:,} bytes, said to be {full:,}")
            yield Member(replace(entry, offset=_data(file, before + offset, packed, size)), crc)
        except Fault as fault:
            yield Member(entry.failed(fault))


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the central directory begins, its length, and the bytes before the archive proper."""
    tail_at = max(0, size - 65_557)
    file.seek(tail_at)
    tail = file.read(65_557)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise Fault("corrupt", "no .zip archive, or its end is missing")
    count, length, start = struct.unpack_from("<HII", tail, at + 10)
    end = tail_at + at
    if count == 0xFFFF or 0xFFFFFFFF in (length, start):
        file.seek(max(0, end - 20))
        locator = file.read(20)
        if locator[:4] == b"PK\6\7":
            end = struct.unpack_from("<Q", locator, 8)[0]
            file.seek(end)
            record = file.read(56)
            if record[:4] != b"PK\6\6":
                raise Fault("corrupt", "damaged archive: its 64-bit end record is missing")
            length, start = struct.unpack_from("<2Q", record, 40)
    before = end - length - start
    if before < 0:
        raise Fault("corrupt", "damaged archive: its directory lies outside of it")
    return start + before, length, before


def _long(extra: bytes, packed: int, full: int, offset: int) -> tuple[int, int, int]:
    """The three numbers of a directory record, from its 64-bit field where they do not fit into 32 bits."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            longs = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
            full, packed, offset = (next(longs, v) if v == 0xFFFFFFFF else v for v in (full, packed, offset))
        at += 4 + length
    return packed, full, offset


def _data(file: BinaryIO, header: int, packed: int, size: int) -> int:
    """Where a member's bytes begin, behind its own header."""
    file.seek(header)
    head = file.read(30)
    if len(head) < 30 or head[:4] != b"PK\3\4":
        raise Fault("corrupt", "its header is missing in the archive")
    start = header + 30 + sum(struct.unpack_from("<2H", head, 26))
    if start + packed > size:
        raise Fault("truncated", "it lies beyond the end of the archive")
    return int(start)


# ---------------------------------------------------------------------------------------------- .tar


class _Guarded:
    """A file under `tarfile` that refuses long headers and a stream without end."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file, self.most = file, most

    def read(self, n: int) -> bytes:
        if not 0 <= n <= MOST_EXTENDED:
            raise Fault("too_large", f"damaged archive: an extended header of {n:,} bytes")
        return self.file.read(n)

    def seek(self, at: int) -> int:
        if at > self.most:
            raise Fault("too_large", f"it unpacks to more than {self.most:,} bytes; what follows was not listed")
        return self.file.seek(at)

    def tell(self) -> int:
        return self.file.tell()


def _tar(file: BinaryIO, size: int, whole: Entry, limits: Limits) -> Iterator[Member]:
    """Every member that is not a folder; of a packed one hashed in passing, as it is passed through only once."""
    packed = whole.container.lower().endswith(PACKED_TARS)
    most = min(limits.total, max(limits.ratio * size, 64 * RATIO_FROM)) if packed else size + tarfile.RECORDSIZE
    file.seek(0)
    raw = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
    guarded = cast(BinaryIO, _Guarded(raw, most))
    with tarfile.open(fileobj=guarded, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            cast(Any, tar).members = []  # It would keep every header that it has passed.
            if info.isdir():
                continue
            entry = Entry(-1, "", os.fsencode(info.name), whole.container, "gzip" if packed else "range")
            entry = replace(entry, offset=info.offset_data, packed=info.size, size=info.size)
            if not info.isreg() or info.sparse is not None:
                kind = "a link" if info.issym() or info.islnk() else "sparse" if info.isreg() else "no regular file"
                yield Member(entry.failed(Fault("unsupported", f"{kind}: not followed or unpacked")))
            elif packed and info.size <= limits.bytes:
                yield Member(_hashed(raw, entry))
            else:
                yield Member(entry)
        raw.seek(tar.offset)
        last = raw.read(tarfile.BLOCKSIZE)
    if len(last) < tarfile.BLOCKSIZE:
        raise Fault("truncated", "truncated archive: its end is missing; members may be")
    if last.strip(b"\0"):
        raise Fault("corrupt", "damaged archive: a header is unreadable; what follows was not listed")


def _hashed(raw: BinaryIO, entry: Entry) -> Entry:
    raw.seek(entry.offset)
    digest, left = hashlib.sha256(), entry.size
    while left and (piece := raw.read(min(CHUNK, left))):
        digest.update(piece)
        left -= len(piece)
    if left:
        return entry.failed(Fault("truncated", f"truncated: {left:,} of {entry.size:,} bytes are missing"))
    return replace(entry, sha256=digest.hexdigest())
