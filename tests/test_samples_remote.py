"""Samples behind URLs: the same set as from a folder, fetched once, in one line when they cannot be had."""

from __future__ import annotations

import io
import json
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.cache import FileDigests
from evalkit.errors import BadSource, EvalkitError, NothingToEvaluate, UnreadableSample
from evalkit.samples import open_samples, remote

fsspec = pytest.importorskip("fsspec")


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (level, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "b.png": png(1),
    "a-b/x.png": png(2),
    "a/y.png": png(3),
    ".hidden.png": png(4),
    "notes.md": b"no sample",
    "metadata.jsonl": b'{"file_name": "b.png", "text": "a red square"}',
    "a/y.txt": b"beside",
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """An empty place in fsspec's memory and its name; the cache in a folder of the test's own."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    for name in ("EVALKIT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    system, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    yield system, root
    if system.exists(root):
        system.rm(root, recursive=True)


def filled(store: tuple[Any, str], files: dict[str, bytes]) -> str:
    system, root = store
    for name, data in files.items():
        system.pipe_file(f"{root}/{name}", data)
    return f"memory:/{root}"


def counting(monkeypatch: pytest.MonkeyPatch, system: Any) -> list[str]:
    """The paths that are read from now on."""
    opened: list[str] = []
    plain = type(system).open

    def count(self: Any, path: str, *args: Any, **options: Any) -> Any:
        if "rb" in args:
            opened.append(path)
        return plain(self, path, *args, **options)

    monkeypatch.setattr(type(system), "open", count)
    return opened


def test_a_remote_folder_is_the_set_that_its_copy_on_disk_is(store: tuple[Any, str], tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(data)
    there, here = open_samples(filled(store, FILES)), open_samples(tmp_path / "copy")
    assert there.digest == here.digest
    for a, b in zip(there, here, strict=True):
        assert (a.id, a.digest, a.group, a.condition) == (b.id, b.digest, b.group, b.condition)
        assert a.load().tolist() == b.load().tolist()  # type: ignore[union-attr]
        assert a.facts is not None and b.facts is not None and a.facts() == b.facts()
    assert there.source.startswith("memory://")  # type: ignore[attr-defined]


def test_a_file_url_is_the_path(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    (tmp_path / "with space" / "a.png").write_bytes(png(1))
    assert open_samples((tmp_path / "with space").as_uri()).digest == open_samples(tmp_path / "with space").digest


def test_archives_arrays_and_lines_behind_a_url(store: tuple[Any, str]) -> None:
    packed, arrays = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("cats/a.png", png(9))
    np.savez(arrays, images=np.zeros((2, 4, 4), np.uint8))
    np.savez(moments := io.BytesIO(), mu=np.zeros(4), sigma=np.eye(4))
    files = {"set.zip": packed.getvalue(), "x.npz": arrays.getvalue(), "m.npz": moments.getvalue()}
    url = filled(store, {**files, "t.jsonl": b'{"text": "hello"}'})
    inside = open_samples(f"{url}/set.zip")
    assert inside.name == "set" and [(s.id, s.group) for s in inside] == [("cats/a.png", "cats")]
    assert [s.id for s in open_samples(f"{url}/x.npz")] == ["x-000000", "x-000001"]
    assert [s.load() for s in open_samples(f"{url}/t.jsonl")] == ["hello"]
    assert open_samples(f"{url}/m.npz").name == "m"
    assert open_samples(f"{url}/t.jsonl").source == f"{url}/t.jsonl"  # type: ignore[attr-defined]


def test_an_unchanged_object_is_fetched_once_and_a_changed_one_again(
    store: tuple[Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, root = store
    url = filled(store, FILES)
    opened = counting(monkeypatch, system)
    before = open_samples(url).digest
    assert len(opened) == 5
    assert open_samples(url).digest == before
    assert len(opened) == 5
    system.pipe_file(f"{root}/b.png", png(200))
    assert open_samples(url).digest != before
    assert opened[5:] == [f"{root}/b.png"]


def test_objects_lie_in_the_cache_by_content(store: tuple[Any, str], tmp_path: Path) -> None:
    found = open_samples(filled(store, FILES), digests=FileDigests(tmp_path / "mine"))
    names = {p.stem for p in (tmp_path / "mine" / "objects").rglob("*.png")}
    assert names == {s.digest for s in found}
    assert not (tmp_path / "cache").exists()


def test_a_damaged_object_in_the_cache_is_fetched_again(store: tuple[Any, str], tmp_path: Path) -> None:
    url = filled(store, FILES)
    open_samples(url)
    for path in (tmp_path / "cache" / "objects").rglob("*.png"):
        path.write_bytes(b"short")
    assert all(s.load() is not None for s in open_samples(url))


def test_an_object_that_is_too_large_is_listed_as_unreadable_and_not_fetched(
    store: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 500)
    url = filled(store, {"a.png": png(1), "big.png": b"\0" * 501})
    opened = counting(monkeypatch, store[0])
    good, bad = open_samples(url)
    assert good.load() is not None and len(opened) == 1
    for read in (bad.load, bad.facts):
        assert read is not None
        with pytest.raises(UnreadableSample, match="too large: 501 bytes, at most 500"):
            read()


class Liar(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A store that announces fewer bytes than it has, or that fails while it is read."""

    protocol = "liar"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return super()._strip_protocol(path.replace("liar://", "memory://"))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {**super().info(path, **options), "size": None}

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        if path.endswith("secret.txt"):
            raise OSError(f"403 for {path}?signature=hunter2")
        return super()._open(path, *args, **options)


def test_sizes_are_counted_while_they_come(store: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("liar", Liar, clobber=True)
    monkeypatch.setattr(remote, "MOST_FILE", 10)
    url = filled(store, {"t.txt": b"longer than ten bytes"}).replace("memory", "liar")
    with pytest.raises(BadSource, match="too large: over 10 bytes"):
        open_samples(f"{url}/t.txt")


def test_what_proves_who_asks_is_never_said(store: tuple[Any, str]) -> None:
    fsspec.register_implementation("liar", Liar, clobber=True)
    url = filled(store, {"secret.txt": b"x"}).replace("memory", "liar")
    with pytest.raises(BadSource, match=r"cannot be read \[OSError\]") as refused:
        open_samples(f"{url}/secret.txt")
    assert "hunter2" not in str(refused.value) and refused.value.__suppress_context__
    said = remote.shown("https://me:pw@host:8080/a/b.zip?X-Amz-Signature=abc#frag")
    assert said == "https://host:8080/a/b.zip"
    assert remote.shown("simplecache::s3://key:secret@bucket/x@y.zip") == "simplecache::s3://bucket/x@y.zip"
    assert remote.shown("hf://datasets/me/set@main/a.png") == "hf://datasets/me/set@main/a.png"


def test_errors_of_a_fetched_file_name_the_url(store: tuple[Any, str]) -> None:
    url = filled(store, {"broken.zip": b"PK\x03\x04 nothing", "t.csv": b"body\nx\n"})
    for name in ("broken.zip", "t.csv"):
        with pytest.raises(EvalkitError) as refused:
            open_samples(f"{url}/{name}")
        assert f"{url}/{name}" in str(refused.value) and "objects" not in str(refused.value)


def test_what_cannot_be_had_is_told_in_one_line(store: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NothingToEvaluate, match="holds no image or text"):
        open_samples(filled(store, {"notes.md": b"x"}))
    with pytest.raises(BadSource, match=r"no protocol 'nosuch'"):
        open_samples("nosuch://place/x")
    with pytest.raises(BadSource, match=r"gone\.zip cannot be opened \[FileNotFoundError"):
        open_samples("memory://gone.zip")
    with pytest.raises(BadSource, match="given as a path"):
        open_samples(Path("s3://bucket/x"))
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    with pytest.raises(BadSource, match=r"s3://bucket/x: the network is switched off"):
        open_samples("s3://user:secret@bucket/x")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVALKIT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(BadSource, match="gcsfs"):
        open_samples("gs://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(BadSource, match="needs fsspec; pip install fsspec"):
        open_samples("memory://x")


def test_a_damaged_index_is_as_good_as_none(store: tuple[Any, str], tmp_path: Path) -> None:
    url = filled(store, FILES)
    before = open_samples(url).digest
    [index] = (tmp_path / "cache" / "objects").glob("*.json")
    assert all(len(entry) == 2 for entry in json.loads(index.read_text()).values())
    for damage in ("[]", "{", '{"x": 7}'):
        index.write_text(damage)
        assert open_samples(url).digest == before
