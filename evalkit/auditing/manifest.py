"""Every input of an audit in a fixed order with the sha256 of its content: folders, files, archives, tables and URLs.

What cannot be read is listed too, with a state and a reason, so that there are as many records as inputs. Hidden files
are inputs like all others: a leading dot must not hide a file from an audit. Of a folder, names are taken as bytes in
byte order; links are not followed, FIFOs and devices never opened, the audit's own folder passed over. An archive that
is named as a PATH is listed member by member; one inside a folder or inside an archive is a file like any other, which
the examination finds unsupported: one level. A table (.csv, .jsonl) names local files by its column `path`.

`--include` and `--exclude` are shell globs without regard to folders: one without a slash is compared with a file's own
name, one with a slash with its whole name from the PATH on, where `*` also stands for slashes; exclude wins. What they
leave out is counted.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..errors import BadSource
from .archives import Member, is_archive, members
from .entries import Entry, Fault, Limits, display
from .reading import Reader, is_url, open_url, why
from .tabled import TABLES, rows

__all__ = ["Entry", "Limits", "Listing", "Reader", "display", "listed"]
THREADS = 8  # that hash; an object store answers in tens of milliseconds


def listed(
    paths: Sequence[str],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    own: Path | None = None,
    outside: bool = False,
    limits: Limits | None = None,
) -> Listing:
    """The inputs under the PATHs, each hashed once, in an order that depends on their names alone.

    own: the audit's folder, whose files are no inputs. outside: whether a table may name files outside of its folder.
    Raises BadSource, one line, for a PATH that is not there, a table that is malformed, or a URL that carries secrets.
    """
    return Listing(tuple(paths), tuple(include), tuple(exclude), own, outside, limits or Limits())


class Listing:
    """An iterable of entries; after it, `left_out` counts what the globs and the audit's own folder left out."""

    def __init__(
        self,
        paths: tuple[str, ...],
        include: tuple[str, ...],
        exclude: tuple[str, ...],
        own: Path | None,
        outside: bool,
        limits: Limits,
    ) -> None:
        self.include, self.exclude, self.outside, self.limits = include, exclude, outside, limits
        self.left_out: Counter[str] = Counter()
        self.own = _identity(own)
        self.roots = [_Root(label, path) for label, path in zip(_labels(paths), paths, strict=True)]
        for root in self.roots:
            root.check(self.own)

    def __iter__(self) -> Iterator[Entry]:
        self.left_out.clear()
        with Reader() as reader, ThreadPoolExecutor(THREADS, thread_name_prefix="evalkit-list") as pool:
            found = (m for root in self.roots for m in self._chosen(root, reader))
            hashed = _in_order(pool, lambda m: _hashed(m, reader, self.limits), found, 4 * THREADS)
            for position, entry in enumerate(hashed):
                yield replace(entry, position=position)

    def _chosen(self, root: _Root, reader: Reader) -> Iterator[Member]:
        """The inputs of one PATH with their display names, less what the globs leave out."""
        taken: set[int] = set()
        for member in self._members(root, reader):
            entry = member.entry
            if not self._wanted(entry.name or root.name):
                self.left_out["by --include or --exclude"] += 1
                continue
            inside = display(entry.name) if root.holds(entry) else ""
            shown = entry.id or "/".join(filter(None, (root.label, inside)))
            # Only these can hold one name twice.
            if root.kind in ("archive", "table"):
                shown = _alone(shown, taken)
            yield replace(member, entry=replace(entry, id=shown))

    def _members(self, root: _Root, reader: Reader) -> Iterator[Member]:
        if root.kind == "folder":
            return map(Member, _walked(os.fsencode(root.where), self.own, self.left_out))
        if root.kind == "table":
            return map(Member, rows(Path(root.where), outside=self.outside))
        if root.kind == "archive":
            return members(os.fsencode(root.where), reader, self.limits)
        if root.kind == "url":
            return map(Member, _remote(root.where))
        head, tail = os.path.split(os.fsencode(root.where))
        return iter((Member(Entry(-1, "", tail, head)),))

    def _wanted(self, name: bytes) -> bool:
        whole = os.fsdecode(name)
        last = whole.rpartition("/")[2]

        def fits(glob: str) -> bool:
            return fnmatchcase(whole if "/" in glob else last, glob)

        return (not self.include or any(map(fits, self.include))) and not any(map(fits, self.exclude))


class _Root:
    """One PATH: what kind it is, where it is for good, and the label that its files' display names begin with."""

    def __init__(self, label: str, path: str) -> None:
        self.label, self.given = label, path
        self.where = path.rstrip("/") if is_url(path) else os.path.realpath(path)
        self.name = os.fsencode(self.where.rpartition("/")[2])
        if is_url(path):
            self.kind = "archive" if is_archive(self.name) else "url"
        elif Path(self.where).is_dir():
            self.kind = "folder"
        else:
            kinds = {"archive": is_archive(self.name), "table": self.name.lower().endswith(TABLES)}
            self.kind = next((kind for kind, is_it in kinds.items() if is_it), "file")

    def holds(self, entry: Entry) -> bool:
        """Whether an entry lies in the PATH, and is not the PATH itself."""
        return self.kind in ("archive", "table") or entry.container == os.fsencode(self.where)

    def check(self, own: tuple[int, int] | None) -> None:
        if is_url(self.given):
            if any(c in self.given for c in "@?#") or "::" in self.given:
                shown = self.given.partition("://")[0]
                raise BadSource(
                    f"a {shown}:// URL with a user, query or chain is not audited: it would be kept in the audit's"
                    " files; give the plain address and the right to read it by the environment"
                )
            open_url(self.where)
            return
        if not Path(self.where).exists():
            raise BadSource(f"{self.given!r} does not exist; give folders, files, archives, tables or URLs")
        if self.kind == "folder" and own is not None and _identity(Path(self.where)) == own:
            raise BadSource(f"{self.given!r} is the audit's own folder; audit another, or give another --out")


def _labels(paths: Sequence[str]) -> list[str]:
    """The last part of each PATH, safe to show and all different."""
    taken: set[int] = set()
    last = (p.rstrip("/") if is_url(p) else os.path.realpath(p) for p in paths)
    return [_alone(display(os.fsencode(p.rpartition("/")[2])), taken) for p in last]


def _alone(name: str, taken: set[int]) -> str:
    """The name, numbered where it was taken before; of a million names eight bytes each are remembered."""

    def key(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")

    chosen, turn = name, 2
    while key(chosen) in taken:
        chosen, turn = f"{name}~{turn}", turn + 1
    taken.add(key(chosen))
    return chosen


def _identity(folder: Path | None) -> tuple[int, int] | None:
    try:
        found = None if folder is None else folder.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _walked(root: bytes, own: tuple[int, int] | None, left_out: Counter[str]) -> Iterator[Entry]:
    """Everything below a folder that is not a folder, depth first, each folder in byte order."""
    waiting: list[Iterator[tuple[bytes, str]]] = [iter(((b"", "folder"),))]
    while waiting:
        name, kind = next(waiting[-1], (b"", ""))
        if not kind:
            waiting.pop()
            continue
        entry = Entry(-1, "", name, root)
        if kind != "folder":
            yield entry if kind == "file" else entry.failed(Fault("unsupported", kind))
            continue
        path = os.path.join(root, name)  # noqa: PTH118 (names are bytes)
        try:
            here = os.stat(path, follow_symlinks=False)  # noqa: PTH116
            if (here.st_dev, here.st_ino) == own:
                left_out["the audit's own folder"] += 1
                continue
            prefix = name + b"/" if name else b""
            with os.scandir(path) as found:
                waiting.append(iter(sorted((prefix + e.name, _kind(e)) for e in found)))
        except OSError as error:
            yield entry.failed(Fault("io_error", f"a folder that cannot be listed: {why(error)}"))


def _kind(entry: os.DirEntry[bytes]) -> str:
    """folder, file, or why it is neither."""
    if entry.is_symlink():
        return "a symbolic link: not followed"
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return "file"  # Opening it will say why.
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "a FIFO, socket or device: not opened"


def _remote(url: str) -> Iterator[Entry]:
    """Every object below a URL, folder by folder in byte order, or the one that it names."""
    system, path = open_url(url)
    try:
        if system.isfile(path):
            head, _, tail = url.rpartition("/")
            yield Entry(-1, "", os.fsencode(tail), os.fsencode(head))
            return
        base = path.rstrip("/") + "/"
        waiting = [iter([(path, True)])]
        while waiting:
            name, is_folder = next(waiting[-1], ("", False))
            if not name:
                waiting.pop()
            elif not is_folder:
                yield Entry(-1, "", os.fsencode(name.removeprefix(base)), os.fsencode(url))
            else:
                infos: Iterable[Mapping[str, Any]] = system.ls(name, detail=True)
                found = ((str(i["name"]), str(i.get("type", "file")) == "directory") for i in infos)
                # A store may list a folder's own marker in it.
                waiting.append(iter(sorted(f for f in found if f[0].rstrip("/") != name.rstrip("/"))))
    except Exception as error:
        raise BadSource(f"URL {url} cannot be listed: {why(error)}; check the address and your right to read") from None


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Member], Entry], items: Iterable[Member], ahead: int
) -> Iterator[Entry]:
    """The results in the order of the items, a bounded number of them under way."""
    waiting: deque[Future[Entry]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _hashed(member: Member, reader: Reader, limits: Limits) -> Entry:
    """The entry with the size and sha256 of its content, or with the reason why it has none."""
    entry = member.entry
    if entry.state != "ok" or entry.sha256:
        return entry
    digest, size, crc = hashlib.sha256(), 0, 0
    try:
        for piece in reader.chunks(entry, limits.bytes + 1):
            digest.update(piece)
            size += len(piece)
            crc = zlib.crc32(piece, crc) if member.crc is not None else 0
        if size > limits.bytes:
            raise Fault("too_large", f"more than {limits.bytes:,} bytes, the most that are read of one file")
        if entry.packing != "file" and size != entry.size:
            raise Fault("truncated", f"{size:,} bytes where its archive promises {entry.size:,}")
        if member.crc is not None and crc != member.crc:
            raise Fault("corrupt", "its bytes differ from the checksum in its archive")
    except Fault as fault:
        return replace(entry, size=size or entry.size).failed(fault)
    return replace(entry, size=size, sha256=digest.hexdigest())
