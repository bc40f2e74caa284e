"""Archives as an audit lists them: member by member as other readers see them, flat, and honest about damage."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.auditing.archives import members
from evalkit.auditing.entries import Limits
from evalkit.auditing.manifest import Reader
from tests.data import shared
from tests.queued import listing_of as one
from tests.queued import sha, zip_of

FILES = st.lists(
    st.tuples(
        st.text("ab/.\\é", min_size=1, max_size=6).filter(lambda n: not n.endswith("/")), st.binary(max_size=300)
    ),
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(FILES, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.sampled_from([b"", b"prefix" * 9]))
def test_a_zip_is_read_as_zipfile_reads_it(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]], method: int, before: bytes
) -> None:
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    path.write_bytes(zip_of(files, method, before))
    with zipfile.ZipFile(path) as archive:
        expected = [(i.filename, archive.read(i)) for i in archive.infolist()]
    entries = one(path)
    with Reader() as reader:
        assert [(e.name.decode(), reader.read(e)) for e in entries] == expected
    assert len({e.id for e in entries}) == len(entries)


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz"])
@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_read_as_tarfile_reads_it(tmp_path: Path, ending: str, style: int) -> None:
    path, files = tmp_path / f"x.{ending}", [(f"{'../' * (i % 3)}{i}é", os.urandom(700 * i)) for i in range(20)]
    files.append(("d/" * 45 + "long", b"deep"))
    with tarfile.open(path, "w" if ending == "tar" else "w:gz", format=style) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    entries = one(path)
    assert entries[-1].state == "unsupported" and "link" in str(entries[-1].reason)
    mixed = list(zip(entries, files, strict=False))
    random.Random(0).shuffle(mixed)  # A stream is read in any order, if more slowly.
    with Reader() as reader:
        for entry, (name, data) in mixed:
            assert (entry.name.decode(), reader.read(entry)) == (name, data)


def test_members_that_are_links_encrypted_bombs_or_damaged_have_their_own_state(tmp_path: Path) -> None:
    body = bytearray(zip_of([("bomb", b"\0" * 2_000_000), ("locked", b"l"), ("flipped", b"f" * 40), ("good", b"g")]))
    with zipfile.ZipFile(io.BytesIO(bytes(body))) as archive:
        offsets = {i.filename: i.header_offset for i in archive.infolist()}
    at = bytes(body).index(b"PK\1\2")
    second = bytes(body).index(b"PK\1\2", at + 4)
    body[second + 8] |= 1  # The directory's flag of encryption.
    third = bytes(body).index(b"PK\1\2", second + 4)
    body[third + 16] ^= 0xFF  # The directory's checksum.
    path = tmp_path / "x.zip"
    path.write_bytes(bytes(body))
    assert offsets["bomb"] == 0
    found = {e.name: e for e in one(path)}
    assert found[b"bomb"].state == "too_large" and "to 1" in str(found[b"bomb"].reason)
    assert (found[b"locked"].state, found[b"locked"].reason) == ("unsupported", "encrypted")
    assert found[b"flipped"].state == "corrupt" and "checksum" in str(found[b"flipped"].reason)
    assert found[b"good"].sha256 == sha(b"g")


def test_damage_to_an_archive_is_an_entry_and_what_was_readable_stays(tmp_path: Path) -> None:
    whole = zip_of([(f"{i}", os.urandom(50)) for i in range(5)])
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    [lost] = one(tmp_path / "cut.zip")
    assert (lost.id, lost.state) == ("cut.zip", "corrupt")
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for i in range(5):
            info = tarfile.TarInfo(f"{i}")
            info.size = 600
            archive.addfile(info, io.BytesIO(bytes([i]) * 600))
    tar = bytearray(plain.getvalue())
    tar[3 * 1536 + 148] ^= 1  # The checksum of the fourth header.
    (tmp_path / "bent.tar").write_bytes(bytes(tar))
    bent = one(tmp_path / "bent.tar")
    assert [e.state for e in bent] == ["ok", "ok", "ok", "corrupt"] and bent[3].id == "bent.tar"
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(plain.getvalue())[:-40])
    assert one(tmp_path / "cut.tar.gz")[-1].state == "corrupt"
    (tmp_path / "short.tar").write_bytes(plain.getvalue()[: 5 * 1536])
    assert [e.state for e in one(tmp_path / "short.tar")] == ["ok"] * 5 + ["truncated"]


def test_limits_of_members_of_the_whole_and_of_headers(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of([(f"{i}", b"12345") for i in range(6)]))
    states = [e.state for e in one(tmp_path / "x.zip", limits=Limits(members=4))]
    assert states == ["ok"] * 4 + ["too_large"]
    states = [e.state for e in one(tmp_path / "x.zip", limits=Limits(total=17))]
    assert states == ["ok"] * 3 + ["too_large"] * 3
    # An extended header that asks for 1 GiB, and a stream of nothing but zeros behind a small file.
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    (tmp_path / "name.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
    [bomb] = one(tmp_path / "name.tar.gz")
    assert bomb.state == "too_large" and "header" in str(bomb.reason)
    big = tarfile.TarInfo("big")
    big.size = 2**33
    (tmp_path / "big.tar.gz").write_bytes(gzip.compress(big.tobuf() + bytes(100_000)))
    assert [e.state for e in one(tmp_path / "big.tar.gz")] == ["too_large", "too_large"]


def test_a_zip_of_64_bit_sizes_is_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("x", "w", force_zip64=True) as member:
        member.write(b"hello")
    body = out.getvalue()
    at, end = body.index(b"PK\1\2"), body.index(b"PK\5\6")
    # The directory record as archivers write it beyond 4 GiB: every number in the 64-bit field.
    record = bytearray(body[at : at + 46])
    struct.pack_into("<2I", record, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", record, 30, 28)
    struct.pack_into("<I", record, 42, 0xFFFFFFFF)
    directory = bytes(record) + b"x" + struct.pack("<2H3Q", 1, 24, 5, 5, 0)
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at + len(directory), 1)
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path = tmp_path / "x.zip"
    path.write_bytes(body[:at] + directory + end64 + locator + tail)
    assert end > at and zipfile.ZipFile(path).read("x") == b"hello"
    [entry] = one(path)
    assert (entry.name, entry.sha256) == (b"x", sha(b"hello"))


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_300_seeded_mutants_of_each_kind_raise_nothing_and_lose_no_state(tmp_path: Path, ending: str) -> None:
    random_state = random.Random(7)
    seed = zip_of([(f"{i}", bytes([i]) * 90 * i) for i in range(5)])
    if ending != "zip":
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w" if ending == "tar" else "w:gz", format=tarfile.PAX_FORMAT) as archive:
            for i in range(4):
                info = tarfile.TarInfo(f"{i}é")
                info.size = 90 * i
                archive.addfile(info, io.BytesIO(bytes([i]) * 90 * i))
        seed = out.getvalue()
    path, damaged = tmp_path / f"x.{ending}", 0
    for _ in range(300):
        body = bytearray(seed)
        for _ in range(random_state.randint(1, 6)):
            body[random_state.randrange(len(body))] = random_state.choice((0, 0xFF, random_state.randrange(256)))
        path.write_bytes(bytes(body[: random_state.choice((len(body), random_state.randrange(len(body))))]))
        entries = one(path)
        assert all((e.reason is None) == (e.state == "ok") == bool(e.sha256) for e in entries)
        damaged += any(e.state != "ok" for e in entries)
    assert damaged > 150


def test_the_malformed_set_is_listed_file_by_file() -> None:
    root = shared("data", "malformed")
    there = sum(len(files) for _, _, files in os.walk(root))
    entries = one(root)
    assert len(entries) == there and all(e.state == "ok" for e in entries)
    with Reader() as reader:
        found = [m.entry for m in members(os.fsencode(root / "pillow_odd/Tests/images/hopper.tar"), reader, Limits())]
    assert [e.state for e in found] == ["ok"] * len(found) and found
