"""Sources: what each kind opens to, that identity is of content, and what a bad one is told."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evalkit.cache import FileDigests
from evalkit.errors import BadSource, ModalityMismatch, NothingToEvaluate, UnknownName, UnreadableSample
from evalkit.samples import halves, open_samples, select
from evalkit.samples._set import ListedSet
from evalkit.samples.arrays import from_images, from_texts
from evalkit.types import Sample
from tests.data import shared


def png(colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (4, 3), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def noise() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "cats").mkdir(parents=True)
    (root / "b.png").write_bytes(png((1, 2, 3)))
    (root / "a.jpg").write_bytes(png((200, 100, 50), kind="JPEG"))
    (root / "cats" / "c.png").write_bytes(png((7, 8, 9)))
    (root / ".hidden.png").write_bytes(b"not looked at")
    (root / "notes.md").write_text("neither image nor text sample")
    return root


def test_folder_is_read_recursively_in_name_order_with_groups(folder: Path) -> None:
    samples = list(open_samples(folder))
    assert [s.id for s in samples] == ["a.jpg", "b.png", "cats/c.png"]
    assert [s.group for s in samples] == [None, None, "cats"]
    assert samples[1].load().tolist() == [[[1, 2, 3]] * 4] * 3  # type: ignore[union-attr]


def test_zip_and_tar_hold_the_same_samples_as_the_folder(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for file in sorted(folder.rglob("*.*")):
            packed.write(file, file.relative_to(folder))
    with tarfile.open(tmp_path / "a.tar", "w") as packed_tar:
        packed_tar.add(folder, arcname=".")
    plain = open_samples(folder)
    for name in ("a.zip", "a.tar"):
        other = open_samples(tmp_path / name)
        assert {s.digest for s in other} == {s.digest for s in plain}
        assert [s.load().tolist() for s in other] == [s.load().tolist() for s in plain]  # type: ignore[union-attr]


def test_digest_is_of_content_not_of_names(folder: Path, tmp_path: Path) -> None:
    before = open_samples(folder).digest
    (folder / "b.png").rename(folder / "bb.png")
    assert open_samples(folder).digest == before
    (folder / "bb.png").write_bytes(png((1, 2, 4)))
    assert open_samples(folder).digest != before


def test_remembered_file_digests_notice_a_changed_file(folder: Path, tmp_path: Path) -> None:
    memory = FileDigests(tmp_path / "cache")
    first = open_samples(folder, digests=memory).digest
    assert open_samples(folder, digests=memory).digest == first == open_samples(folder).digest
    (folder / "b.png").write_bytes(png((9, 9, 9)))
    assert open_samples(folder, digests=memory).digest == open_samples(folder).digest != first


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "not an image"),
        (noise()[:900], "truncated"),
        (noise()[:20], "truncated"),
    ],
    ids=["empty", "text", "half", "header"],
)
def test_an_unreadable_image_says_why(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    [sample] = open_samples(tmp_path)
    with pytest.raises(UnreadableSample, match=reason):
        sample.load()


def test_image_modes_become_eight_bit_rgb(tmp_path: Path) -> None:
    Image.new("P", (2, 2)).save(tmp_path / "palette.png")
    Image.new("CMYK", (2, 2), (0, 0, 0, 0)).save(tmp_path / "print.jpg")
    Image.new("RGBA", (2, 2), (5, 6, 7, 0)).save(tmp_path / "alpha.png")
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(tmp_path / "sixteen.png")
    by_name = {s.id: s.load() for s in open_samples(tmp_path)}
    assert all(p.shape == (2, 2, 3) and p.dtype == np.uint8 for p in by_name.values())  # type: ignore[union-attr]
    assert by_name["sixteen.png"].max() == 255  # type: ignore[union-attr]
    assert by_name["alpha.png"][0, 0].tolist() == [5, 6, 7]  # type: ignore[index,union-attr]


def test_bomb_is_refused_in_its_header(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    [sample] = open_samples(tmp_path)
    with pytest.raises(UnreadableSample, match="too large"):
        sample.load()


def test_malformed_images_only_ever_raise_unreadable_sample() -> None:
    for folder in ("pillow_odd", "image_rs"):
        for sample in open_samples(shared("data", "malformed", folder), modality="image"):
            try:
                assert sample.load().dtype == np.uint8  # type: ignore[union-attr]
            except UnreadableSample as error:
                assert str(error)


def test_arrays_gray_float_and_labels(tmp_path: Path) -> None:
    grey = np.linspace(0, 1, 2 * 4 * 4).reshape(2, 4, 4)
    np.savez(tmp_path / "x.npz", images=grey, labels=np.array([3, 1]))
    samples = list(open_samples(tmp_path / "x.npz"))
    assert [s.group for s in samples] == ["3", "1"]
    assert samples[0].load().shape == (4, 4, 3)  # type: ignore[union-attr]
    np.save(tmp_path / "y.npy", (grey * 255).round().astype(np.uint8))
    assert open_samples(tmp_path / "y.npy").digest == open_samples(tmp_path / "x.npz").digest


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 4, 4, 2), np.uint8), "expected"),
        (np.zeros((4, 4), np.uint8), "expected"),
        (np.full((3, 2, 2), np.nan), "sample 0 holds NaN"),
        (np.stack([np.zeros((2, 2)), np.full((2, 2), 7.0)]), "sample 1 holds NaN or values outside"),
        (np.zeros((2, 4, 4), np.int64), "int64"),
        (np.zeros((2, 0, 4), np.uint8), "0x4"),
    ],
)
def test_bad_arrays_are_refused_in_words(array: np.ndarray, says: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(BadSource, match=says):
        open_samples(array)


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadSource, match="Object arrays cannot be loaded"):
        open_samples(tmp_path / "evil.npz")


def test_texts_of_every_kind_of_file_are_the_same_samples(tmp_path: Path) -> None:
    lines = ["one text", "another, with a comma", 'and "quotes"']
    (tmp_path / "t.txt").write_text("\n".join(lines) + "\n\n")
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": t, "label": "x"}) for t in lines))
    (tmp_path / "t.csv").write_text('text\none text\n"another, with a comma"\n"and ""quotes"""\n')
    (tmp_path / "d").mkdir()
    for i, text in enumerate(lines):
        (tmp_path / "d" / f"{i}.txt").write_text(text)
    digests = {open_samples(tmp_path / name).digest for name in ("t.txt", "t.jsonl", "t.csv", "d")}
    assert digests == {from_texts(lines).digest}
    assert {s.group for s in open_samples(tmp_path / "t.jsonl")} == {"x"}


def test_lines_that_cannot_be_read_stay_listed(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"good\n\n\xff\xfe bad\n")
    reasons = []
    for sample in open_samples(tmp_path / "t.txt"):
        try:
            sample.load()
        except UnreadableSample as error:
            reasons.append((sample.id, str(error)))
    assert reasons == [("line-2", "empty text"), ("line-3", "not valid UTF-8 at byte 0")]


def test_broken_jsonl_line_is_one_excluded_sample_and_a_missing_field_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "fine"}\n{"text": \n{"text": 7}\n')
    loads = list(open_samples(tmp_path / "t.jsonl"))
    assert loads[0].load() == "fine"
    with pytest.raises(UnreadableSample, match=r"line 2 is not valid JSON \(Expect.*\); expected one JSON object"):
        loads[1].load()
    with pytest.raises(UnreadableSample, match="int, expected text"):
        loads[2].load()
    (tmp_path / "u.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(BadSource, match="fields body; expected one of text"):
        open_samples(tmp_path / "u.jsonl")


def test_what_is_not_there_or_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="no such source"):
        open_samples(tmp_path / "nowhere")
    with pytest.raises(NothingToEvaluate, match="holds no image or text"):
        open_samples(tmp_path)
    with pytest.raises(BadSource, match="URL"):
        open_samples("https://example.org/x")
    with pytest.raises(NothingToEvaluate):
        open_samples([])
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        open_samples("embedded:digit")
    with pytest.raises(UnknownName, match="did you mean 'heldout'"):
        open_samples("embedded:digits/held-out")
    with pytest.raises(ModalityMismatch, match="holds text samples, expected image"):
        open_samples(["a text"], modality="image")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(BadSource):
        open_samples(tmp_path / "broken.zip")


@pytest.mark.parametrize("name", ["digits", "prose"])
def test_embedded_splits_share_nothing_and_cover_everything(name: str) -> None:
    whole = open_samples(f"embedded:{name}")
    parts = {split: open_samples(f"embedded:{name}/{split}") for split in ("train", "heldout", "ceiling")}
    digests = {split: {s.digest for s in part} for split, part in parts.items()}
    assert sum(len(p) for p in parts.values()) == len(whole)
    assert not digests["train"] & digests["heldout"] and not digests["heldout"] & digests["ceiling"]
    assert not digests["train"] & digests["ceiling"]
    assert open_samples(f"embedded:{name}", split="heldout").digest == parts["heldout"].digest


def test_embedded_digits_are_the_known_1797_with_labels() -> None:
    digits = list(open_samples("embedded:digits"))
    assert len(digits) == 1797
    assert Counter(s.group for s in digits)["3"] == 183
    levels = {int(v) for s in digits[:200] for v in np.unique(s.load())}
    assert levels == {round(v * 255 / 16) for v in range(17)}


def test_embedded_prose_is_prose() -> None:
    pieces = [str(s.load()) for s in open_samples("embedded:prose")]
    assert len(pieces) > 1000
    assert all(60 <= len(p) <= 400 and p == p.strip() for p in pieces)
    assert sum(" the " in f" {p.lower()} " for p in pieces) > 0.8 * len(pieces)


@given(st.lists(st.integers(0, 5), min_size=0, max_size=40))
def test_halves_never_split_copies_and_test_on_exactly_half(values: list[int]) -> None:
    samples = tuple(Sample(str(i), f"{v * 7919:064x}"[::-1], lambda: "x") for i, v in enumerate(values))
    fit, test = halves(ListedSet("s", "text", samples))
    assert len(test) == len(values) // 2
    assert not {s.digest for s in fit} & {s.digest for s in test}


def test_select_keeps_order_and_identity() -> None:
    samples = from_images(np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2), "x")
    assert [s.id for s in select(samples, [3, 1])] == ["x-000003", "x-000001"]
    assert select(samples, range(5)).digest == samples.digest != select(samples, [1, 0]).digest


def test_real_photographs_open() -> None:
    faces = open_samples(shared("data", "image", "faces", "real"))
    assert len(faces) > 100
    assert next(iter(faces)).load().shape == (256, 256, 3)  # type: ignore[union-attr]


def test_an_archive_member_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros.png", b"\0" * 30_000_000)
        packed.writestr("fine.png", png())
    good, bad = open_samples(tmp_path / "b.zip")
    assert good.load() is not None
    with pytest.raises(UnreadableSample, match="too large"):
        bad.load()
