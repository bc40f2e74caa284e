"""Prompts and labels of images: tables in the folder, a text beside each image, and the prompts as a set of texts."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from evalkit.errors import BadSource, ModalityMismatch, UsageError
from evalkit.samples import conditions_of, open_samples
from evalkit.samples.lines import open_lines


def image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (level, level, level)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for i, name in enumerate(("a.png", "b.png", "cats/c.png")):
        image(root / name, i)
    return root


def prompts(root: Path) -> list[str | None]:
    return [s.condition for s in open_samples(root)]


def packed(root: Path, kind: str, inside: str = "") -> Path:
    """The folder as an archive, under `inside`."""
    target = root.parent / f"{root.name}.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for file in sorted(p for p in root.rglob("*") if p.is_file()):
                archive.write(file, inside + file.relative_to(root).as_posix())
    else:
        with tarfile.open(target, "w") as tar:
            tar.add(root, arcname=inside or ".")
    return target


@pytest.mark.parametrize("table", ["metadata.jsonl", "prompts.jsonl", "metadata.csv", "prompts.csv"])
@pytest.mark.parametrize(("file", "text"), [("file_name", "text"), ("file", "prompt"), ("image", "caption")])
def test_a_table_gives_prompts_by_file(photos: Path, table: str, file: str, text: str) -> None:
    rows = [("cats/c.png", "a cat, asleep"), ("./a.png", "Über\nzwei Zeilen"), ("gone.png", "not here")]
    if table.endswith(".jsonl"):
        (photos / table).write_text("\n".join(json.dumps({file: f, text: t}) for f, t in rows), "utf-8")
    else:
        lines = [f"{file},{text}", *(f'{f},"{t}"' for f, t in rows)]
        (photos / table).write_text("\n".join(lines), "utf-8")
    assert prompts(photos) == ["Über\nzwei Zeilen", None, "a cat, asleep"]


def test_a_table_names_images_by_id_and_gives_labels_that_outrank_folders(photos: Path) -> None:
    (photos / "metadata.jsonl").write_text(
        '{"id": "a", "label": 3}\n{"id": "cats/c", "class": "tiger", "prompt": "t"}\n\n{"id": "b", "text": ""}\n'
    )
    samples = list(open_samples(photos))
    assert [s.group for s in samples] == ["3", None, "tiger"]
    assert [s.condition for s in samples] == [None, None, "t"]


def test_archives_give_the_same_prompts_with_or_without_a_folder_in_them(photos: Path) -> None:
    (photos / "metadata.csv").write_text("file_name,text\na.png,one\nb.png,two\n")
    (photos / "cats" / "c.txt").write_text("three\n")
    for kind, inside in (("zip", ""), ("zip", "photos/"), ("tar", ""), ("tar", "photos")):
        assert prompts(packed(photos, kind, inside)) == ["one", "two", "three"]


def test_texts_beside_images_are_prompts_and_not_samples(photos: Path) -> None:
    for name in ("a", "b", "cats/c"):
        (photos / f"{name}.txt").write_text(f"  prompt of {name}\n")
    found = open_samples(photos)
    assert (found.modality, len(found)) == ("image", 3)
    assert prompts(photos) == ["prompt of a", "prompt of b", "prompt of cats/c"]
    texts = open_samples(photos, modality="text")
    assert [s.load() for s in texts] == ["  prompt of a\n", "  prompt of b\n", "  prompt of cats/c\n"]


def test_more_texts_than_images_is_a_folder_of_texts_all_of_them(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    image(tmp_path / "0.png", 0)
    found = open_samples(tmp_path)
    assert (found.modality, len(found)) == ("text", 5)


def test_the_table_counts_before_the_text_beside_and_the_first_table_before_the_second(photos: Path) -> None:
    (photos / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "first"}')
    (photos / "prompts.csv").write_text("file,prompt,label\na.png,second,x\nb.png,second,y\n")
    (photos / "b.txt").write_text("third")
    (photos / "cats" / "c.txt").write_text("third")
    assert prompts(photos) == ["first", "second", "third"]
    assert [s.group for s in open_samples(photos)] == ["x", "y", "cats"]


def test_an_empty_text_beside_is_no_prompt(photos: Path) -> None:
    (photos / "a.txt").write_text(" \n")
    assert prompts(photos) == [None, None, None]


def test_a_table_about_something_else_is_left_alone(photos: Path) -> None:
    (photos / "metadata.csv").write_text("camera,year\nLeica,1961\n")
    (photos / "metadata.jsonl").write_text('{"camera": "Leica"}')
    assert prompts(photos) == [None, None, None]


@pytest.mark.parametrize(
    ("table", "content", "says"),
    [
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n{"file_name": ', "line 2 is not valid JSON"),
        ("metadata.jsonl", b"[1, 2]", "line 1 is not a JSON object"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": 7}', "line 1: the prompt is int, expected text"),
        ("metadata.jsonl", b'{"file_name": "a.png", "label": [1]}', "line 1: the label is list"),
        ("metadata.jsonl", b'{"text": "x"}', "line 1 names no file .*expected one of file_name"),
        ("metadata.jsonl", b'{"file_name": "z.png", "text": "x"}', "names none of the 3 images, .*'a.png'"),
        ("metadata.jsonl", b"\xff", "line 1 is not valid JSON"),
        ("metadata.csv", b"file_name,text\na.png,x\nb.png,y,z\n", "line 3 has more cells"),
        ("metadata.csv", b"file_name,text\na.png,\xff\n", "line 2 is not valid UTF-8"),
        ("metadata.csv", b'file_name,text\na.png,"open\n', "line 2 is not readable CSV"),
        ("prompts.csv", b"file,prompt\na.png,x\na.png,y\n", "line 3 says something else of 'a.png'"),
        ("a.txt", b"\xff\xfe", "a.txt: not valid UTF-8"),
    ],
)
def test_a_malformed_table_is_refused_by_file_and_line(photos: Path, table: str, content: bytes, says: str) -> None:
    (photos / table).write_bytes(content)
    with pytest.raises(BadSource, match=says) as refused:
        open_samples(photos)
    assert table in str(refused.value) and "\n" not in str(refused.value)


def test_prompts_change_no_digest(photos: Path) -> None:
    before = open_samples(photos).digest
    (photos / "a.txt").write_text("a prompt")
    assert open_samples(photos).digest == before


def test_prompts_as_a_set_of_texts(photos: Path) -> None:
    for name in ("a", "b", "cats/c"):
        (photos / f"{name}.txt").write_text(f"prompt of {name}")
    samples = open_samples(photos)
    found = conditions_of(samples)
    assert (found.modality, [s.id for s in found]) == ("text", [s.id for s in samples])
    assert [s.load() for s in found] == ["prompt of a", "prompt of b", "prompt of cats/c"]
    assert [s.group for s in found] == [None, None, "cats"]
    assert found.digest == open_samples(["prompt of a", "prompt of b", "prompt of cats/c"]).digest


def test_the_first_sample_without_a_prompt_is_named(photos: Path) -> None:
    (photos / "a.txt").write_text("one")
    with pytest.raises(UsageError, match=r"sample 'b\.png' has no prompt; .*metadata\.jsonl"):
        conditions_of(open_samples(photos))


def test_prompts_of_texts_are_found_as_well(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "an answer", "prompt": "a question"}\n')
    [found] = conditions_of(open_lines(tmp_path / "t.jsonl"))
    assert found.load() == "a question"


def test_a_folder_of_images_with_prompts_is_no_folder_of_texts(photos: Path) -> None:
    (photos / "metadata.csv").write_text("file_name,text\na.png,one\n")
    with pytest.raises(ModalityMismatch, match="holds image samples, expected text"):
        open_samples(photos, modality="text")


def test_a_table_in_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture.getvalue())
        archive.writestr("metadata.jsonl", b" " * 30_000_000)
    with pytest.raises(BadSource, match=r"metadata\.jsonl: too large"):
        open_samples(tmp_path / "x.zip")
