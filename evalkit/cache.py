"""What was computed before, found again by content: feature rows, fitted models, generated samples, file digests.

Keys are digests of content and settings, never names or paths; the one exception is the memory of file digests, which
is keyed by (path, size, modification time) and only spares reading a file again. Nothing is ever unpickled, every entry
is written beside its place and renamed into it, and an entry that cannot be read counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UnwritableOutput

if TYPE_CHECKING:
    from torch import Tensor


def digest_of(*parts: Any) -> str:
    """sha256 of the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def default_root() -> Path:
    """EVALKIT_CACHE, else XDG_CACHE_HOME/evalkit, else ~/.cache/evalkit."""
    if own := os.environ.get("EVALKIT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalkit"


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A path next to `target` to write to; renamed onto it when the block ends well, removed when it does not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    except OSError as error:
        raise UnwritableOutput(f"cannot write {target}: {error.strerror or error}; choose a writable place") from error
    try:
        draft = fresh / target.name
        yield draft
        if draft.is_dir() and target.is_dir():
            shutil.rmtree(target)
        draft.replace(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


_CODES = {"torch.float32": "F32", "torch.float64": "F64", "torch.int64": "I64", "torch.uint8": "U8"}


def _write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """The safetensors layout written straight from the tensors' memory.

    The library's own writer first makes bytes of everything, which a table larger than memory cannot bear.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _CODES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            if tensor.numel():
                file.write(tensor.contiguous().numpy().data.cast("B"))


class Cache:
    """A folder of entries by key; `Cache(None)` remembers nothing."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        if root is not None:
            try:
                root.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise UnwritableOutput(
                    f"cannot use the cache folder {root}: {error.strerror}; set EVALKIT_CACHE to a writable folder"
                ) from error

    # Rows ------------------------------------------------------------------------------------------------

    def get_tensors(self, kind: str, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and notes stored under `key`, or None."""
        from safetensors import SafetensorError, safe_open

        path = self._path(kind, f"{key}.safetensors")
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
                return tensors, json.loads((stored.metadata() or {}).get("notes", "{}"))
        except (SafetensorError, OSError, ValueError):
            path.unlink(missing_ok=True)
            return None

    def put_tensors(self, kind: str, key: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Store tensors with JSON notes under `key`."""
        path = self._path(kind, f"{key}.safetensors")
        if path is not None:
            with beside(path) as draft:
                _write_safetensors(draft, tensors, {"notes": json.dumps(dict(notes))})

    # Folders and documents -------------------------------------------------------------------------------

    def folder(self, kind: str, key: str) -> Path | None:
        """Where the folder of `key` lies or would lie; None when nothing is remembered."""
        return self._path(kind, key)

    def get_json(self, kind: str, key: str) -> Any | None:
        """The document stored under `key`, or None."""
        path = self._path(kind, f"{key}.json")
        if path is None or not path.is_file():
            return None
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
            return None

    def put_json(self, kind: str, key: str, document: Any) -> None:
        """Store a JSON document under `key`."""
        path = self._path(kind, f"{key}.json")
        if path is not None:
            with beside(path) as draft:
                draft.write_text(json.dumps(document, allow_nan=False), "utf-8")

    def _path(self, kind: str, name: str) -> Path | None:
        return None if self.root is None else self.root / kind / name

    # Housekeeping ----------------------------------------------------------------------------------------

    def info(self) -> dict[str, tuple[int, int]]:
        """kind -> (files, bytes) of what is stored."""
        found: dict[str, tuple[int, int]] = {}
        if self.root is not None:
            for path in self.root.rglob("*"):
                if path.is_file():
                    kind = path.relative_to(self.root).parts[0]
                    files, size = found.get(kind, (0, 0))
                    found[kind] = (files + 1, size + path.stat().st_size)
        return dict(sorted(found.items()))

    def clear(self) -> int:
        """Remove every entry of ours; the number of files removed."""
        files = sum(files for files, _ in self.info().values())
        if self.root is not None:
            for kind in (*KINDS, DIGESTS, f"{DIGESTS}-wal", f"{DIGESTS}-shm"):
                path = self.root / kind
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        return files


KINDS = ("features", "models", "samples", "objects")
DIGESTS = "digests.sqlite"


class FileDigests:
    """sha256 of files, remembered by (path, size, mtime_ns) so that an unchanged file is read once."""

    def __init__(self, root: Path | None) -> None:
        self.path = None if root is None else root / DIGESTS

    def of(self, paths: list[Path]) -> list[str]:
        """Hex sha256 of each file's bytes, in order."""
        known = self._read()
        found, fresh = [], []
        for path in paths:
            stat = path.stat()
            key = (os.fsencode(path.absolute()), stat.st_size, stat.st_mtime_ns)
            digest = known.get(key)
            if digest is None:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                fresh.append((*key, digest))
            found.append(digest)
        if fresh:
            self._write(fresh)
        return found

    def _read(self) -> dict[tuple[bytes, int, int], str]:
        if self.path is None or not self.path.is_file():
            return {}
        try:
            with closing(sqlite3.connect(self.path, timeout=10)) as db:
                return {(p, s, m): d for p, s, m, d in db.execute("SELECT path, size, mtime_ns, sha256 FROM files")}
        except sqlite3.Error:
            return {}

    def _write(self, rows: list[tuple[bytes, int, int, str]]) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with closing(sqlite3.connect(self.path, timeout=10)) as db, db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS files"
                    " (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT) STRICT"
                )
                db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error:
            # Only a memory: without it the files are read again.
            return
