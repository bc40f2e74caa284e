"""What is listed: every input once, in one order, by content, with names as bytes; and read again as it was listed."""

from __future__ import annotations

import os
import random
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.auditing.entries import LONGEST, Entry, Limits, display
from evalkit.auditing.manifest import Reader, listed
from evalkit.auditing.reading import open_local
from evalkit.errors import BadSource, UnreadableSample
from tests.queued import listing_of as one
from tests.queued import sha, zip_of

HOSTILE = [
    b"plain.png", b".hidden", b"-rf", b"new\nline", b"\xff\xfe.png", b"\xe2\x80\xaegnp.exe", b"e\xcc\x81.png",
    "é.png".encode(), b"<script>.png", b"=cmd()", b"a\\b", b"\x1b[31m", b"tab\there", "\u200b".encode(), b"~2",
]  # fmt: skip


def put(folder: Path, name: bytes, data: bytes) -> None:
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# ---------------------------------------------------------------------------------------------- names


@given(st.lists(st.binary(min_size=1, max_size=12), unique=True, min_size=2, max_size=20))
def test_display_names_are_printable_and_as_different_as_the_bytes(names: list[bytes]) -> None:
    shown = [display(n) for n in names]
    assert len(set(shown)) == len(names)
    assert all(s.isprintable() and s.encode("utf-8") for s in shown)


@given(st.text(max_size=10), st.text(max_size=10))
def test_texts_that_look_alike_after_normalising_are_shown_apart(a: str, b: str) -> None:
    composed = unicodedata.normalize("NFC", a)
    for other in (unicodedata.normalize("NFD", a), b):
        if other.encode("utf-8", "surrogatepass") != composed.encode("utf-8", "surrogatepass"):
            left, right = (display(t.encode("utf-8", "surrogatepass")) for t in (composed, other))
            # Even a reader who normalises what is shown cannot take one for the other.
            assert unicodedata.normalize("NFC", left) != unicodedata.normalize("NFC", right)


def test_display_names_known_by_hand() -> None:
    assert display(b"upload/1.png") == "upload/1.png"
    assert display("café 写真.png".encode()) == "café 写真.png"
    assert display(b"e\xcc\x81") == "e\\u0301"
    assert display(b"\xff\n\x1b\\\xe2\x80\xae") == "\\xff\\x0a\\x1b\\\\\\u202e"
    assert display("\u1112\u1161\u11ab".encode()) == "\u1112\\u1161\\u11ab" and display("한".encode()) == "한"
    assert display(b"x" * LONGEST) == "x" * LONGEST
    long = [display(b"x" * 100_000), display(b"x" * 100_001)]
    assert len(set(long)) == 2 and max(map(len, long)) < LONGEST


# ---------------------------------------------------------------------------------------------- folders


def test_a_folder_in_byte_order_with_hidden_files_links_and_devices(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for i, name in enumerate(HOSTILE):
        put(root, name, bytes([i]) * i)
    put(root, b"sub/deep/x", b"x")
    (root / "link").symlink_to("/etc/passwd")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "fifo")
    entries = one(root)
    # An independent walk with the standard library.
    there = sorted(
        os.fsencode(os.path.relpath(Path(base) / f, root)) for base, _, files in os.walk(root) for f in files
    )
    assert sorted(e.name for e in entries) == sorted([*there, b"loop"])
    assert [e.position for e in entries] == list(range(len(entries)))
    assert [e.name for e in entries if b"/" not in e.name] == sorted(e.name for e in entries if b"/" not in e.name)
    assert len({e.id for e in entries}) == len(entries) and all(e.id.startswith("in/") for e in entries)
    by_name = {e.name: e for e in entries}
    for i, name in enumerate(HOSTILE):
        assert (by_name[name].sha256, by_name[name].size, by_name[name].state) == (sha(bytes([i]) * i), i, "ok")
    for name, word in ((b"link", "link"), (b"loop", "link"), (b"fifo", "FIFO")):
        assert by_name[name].state == "unsupported" and word in str(by_name[name].reason) and not by_name[name].sha256


def test_the_order_and_contents_do_not_depend_on_how_the_folder_was_written(tmp_path: Path) -> None:
    names = [f"{i % 7}/{i}".encode() for i in range(60)]
    for turn, folder in enumerate((tmp_path / "a" / "in", tmp_path / "b" / "in")):
        mixed = names[:]
        random.Random(turn).shuffle(mixed)
        for name in mixed:
            put(folder, name, name)
    first, second = one(tmp_path / "a" / "in"), one(tmp_path / "b" / "in")
    assert [(e.id, e.sha256) for e in first] == [(e.id, e.sha256) for e in second]


def test_what_cannot_be_read_is_an_entry_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, b"in/closed", b"1")
    put(tmp_path, b"in/large", b"x" * 101)
    put(tmp_path, b"in/open", b"2")

    def refuse(path: bytes) -> Any:
        if path.endswith(b"closed"):
            raise PermissionError(13, "Permission denied")
        return open_local(path)

    monkeypatch.setattr("evalkit.auditing.reading.open_local", refuse)
    states = {e.id: (e.state, e.reason) for e in one(tmp_path / "in", limits=Limits(bytes=100))}
    assert states["in/closed"] == ("io_error", "cannot be read: Permission denied")
    assert states["in/large"][0] == "too_large" and "100" in str(states["in/large"][1])
    assert states["in/open"] == ("ok", None)


def test_the_audits_own_folder_and_what_the_globs_leave_out_are_no_inputs(tmp_path: Path) -> None:
    for name in (b"a.png", b"b.txt", b"sub/c.png", b"thumbs/d.png", b"audit/audit.db"):
        put(tmp_path / "in", name, name)
    listing = listed([str(tmp_path / "in")], own=tmp_path / "in" / "audit", include=["*.png"], exclude=["thumbs/*"])
    assert [e.name for e in listing] == [b"a.png", b"sub/c.png"]
    assert listing.left_out == {"the audit's own folder": 1, "by --include or --exclude": 2}
    with pytest.raises(BadSource, match="own folder"):
        listed([str(tmp_path / "in" / "audit")], own=tmp_path / "in" / "audit")


def test_paths_of_one_name_a_single_file_and_one_that_is_missing(tmp_path: Path) -> None:
    put(tmp_path, b"x/in/1", b"1")
    put(tmp_path, b"y/in/1", b"2")
    (tmp_path / "to").symlink_to(tmp_path / "x" / "in" / "1")
    entries = list(listed([str(tmp_path / "x/in"), str(tmp_path / "y/in"), str(tmp_path / "to")]))
    assert [(e.id, e.sha256) for e in entries] == [("in/1", sha(b"1")), ("in~2/1", sha(b"2")), ("1", sha(b"1"))]
    with pytest.raises(BadSource, match="does not exist"):
        listed([str(tmp_path / "nowhere")])


# ---------------------------------------------------------------------------------------------- reading again


def test_a_file_that_changed_is_told_and_a_copy_stands_in(tmp_path: Path) -> None:
    put(tmp_path, b"in/a", b"same")
    put(tmp_path, b"in/b", b"same")
    a, b = one(tmp_path / "in")
    put(tmp_path, b"in/a", b"other")
    with Reader() as reader:
        with pytest.raises(UnreadableSample, match="changed since it was listed"):
            reader.read(a)
        assert reader.read(replace(a, copies=(b,))) == b"same"
        (tmp_path / "in" / "b").unlink()
        with pytest.raises(UnreadableSample, match="No such file"):
            reader.read(b)
        os.mkfifo(tmp_path / "in" / "b")
        with pytest.raises(UnreadableSample, match="not a regular file"):
            reader.read(b)


def test_an_entry_survives_json() -> None:
    copy = Entry(3, "b", b"\xff", b"/b")
    entry = Entry(1, "a", b"\x00\xff", b"/a", "deflate", 5, 6, 7, "ab", "ok", None, "cap", (copy,))
    assert Entry.read(entry.plain()) == entry


# ---------------------------------------------------------------------------------------------- tables and URLs


def test_a_table_names_files_below_it_and_others_only_when_allowed(tmp_path: Path) -> None:
    for name in (b"set/a.png", b"set/b.png", b"secret"):
        put(tmp_path, name, name)
    (tmp_path / "set" / "way").symlink_to(tmp_path / "secret")
    rows = "path,id,caption\na.png,first,a dog\nb.png,first,\n../secret,,\nway,,\nhttp://x/y,,\ngone.png,,\n"
    (tmp_path / "set" / "t.csv").write_text(rows)
    entries = one(tmp_path / "set" / "t.csv")
    assert [e.state for e in entries] == ["ok", "ok", "unsupported", "unsupported", "unsupported", "io_error"]
    assert [(e.id, e.caption) for e in entries[:2]] == [("first", "a dog"), ("first~2", None)]
    allowed = one(tmp_path / "set" / "t.csv", outside=True)
    assert allowed[2].sha256 == sha(b"secret") and allowed[3].state == "io_error"  # A link is never followed.
    (tmp_path / "set" / "t.jsonl").write_text('{"path": "a.png"}\n\n{"path": "b.png", "id": 7}\n')
    assert [e.id for e in one(tmp_path / "set" / "t.jsonl")] == ["t.jsonl/a.png", "7"]


@pytest.mark.parametrize(("name", "text"), [("t.csv", "file\nx\n"), ("t.jsonl", "[1]\n"), ("t.jsonl", "{\n")])
def test_a_malformed_table_is_refused_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadSource, match="path"):
        one(tmp_path / name)


def test_urls_are_listed_and_read_through_fsspec() -> None:
    store = fsspec.filesystem("memory")
    contents = {"bucket/p/1.png": b"1", "bucket/p/q/2.png": b"22", "bucket/z.zip": zip_of([("m", b"member")])}
    for path, data in contents.items():
        store.pipe(f"/{path}", data)
    try:
        entries = list(listed(["memory://bucket/p", "memory://bucket/z.zip", "memory://bucket/p/1.png"]))
        assert [(e.id, e.sha256) for e in entries] == [
            ("p/1.png", sha(b"1")), ("p/q/2.png", sha(b"22")), ("z.zip/m", sha(b"member")), ("1.png", sha(b"1")),
        ]  # fmt: skip
        with Reader() as reader:
            assert [reader.read(e) for e in entries] == [b"1", b"22", b"member", b"1"]
    finally:
        store.rm("/bucket", recursive=True)
    with pytest.raises(BadSource, match="not audited"):
        listed(["s3://key:word@bucket/x"])
    with pytest.raises(BadSource, match="EVALKIT_OFFLINE"):
        listed(["s3://bucket/x"])
