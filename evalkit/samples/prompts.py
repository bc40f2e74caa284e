"""Which prompt and label each image has: tables beside the images, a text beside each image, and the prompts as a set.

A table (`metadata.jsonl`, `metadata.csv`, `prompts.jsonl`, `prompts.csv`) lies where the images' paths begin and names
them in a column file_name, file, image or id, as the Hub's image folders do; the prompt is in text, prompt or caption,
the group in label, class or group. Where several tables or a text beside the image speak, the first one counts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import splitext
from typing import Any

from ..errors import BadSource, UnreadableSample, UsageError
from ..types import Sample, SampleSet
from ._media import decode_text
from ._set import ListedSet, loaded

TABLES = ("metadata.jsonl", "metadata.csv", "prompts.jsonl", "prompts.csv")
FILE_FIELDS = ("file_name", "file", "image", "id")
PROMPT_FIELDS = ("text", "prompt", "caption")
GROUP_FIELDS = ("label", "class", "group")

Read = Callable[[], bytes]


@dataclass(frozen=True)
class Note:
    """What stands beside an image: the prompt it was made for and its label, where there are any."""

    prompt: str | None = None
    group: str | None = None

    def filled(self, other: Note) -> Note:
        """What this one leaves open, taken from the other."""
        return Note(
            other.prompt if self.prompt is None else self.prompt, other.group if self.group is None else self.group
        )


def conditions_of(samples: SampleSet) -> ListedSet:
    """The prompts of the samples, in their order and under their ids, as a set of texts.

    Raises UsageError naming the first sample that has no prompt.
    """
    prompts = []
    for sample in samples:
        if sample.condition is None:
            raise UsageError(
                f"{samples.name!r}: sample {sample.id!r} has no prompt; give each image one in metadata.jsonl "
                "(file_name, text) or in a .txt beside it"
            )
        digest = hashlib.sha256(sample.condition.encode("utf-8", "surrogatepass")).hexdigest()
        prompts.append(Sample(sample.id, digest, loaded(sample.condition), sample.group))
    return ListedSet(f"prompts of {samples.name}", "text", tuple(prompts), getattr(samples, "source", ""))


def sidecars(images: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """Image -> the text file of equal path and stem beside it."""
    by_stem = {_stem(text): text for text in texts}
    return {image: by_stem[_stem(image)] for image in images if _stem(image) in by_stem} if by_stem else {}


def notes_of(images: Sequence[str], texts: Sequence[str], files: Mapping[str, Read], what: str) -> dict[str, Note]:
    """The note of each image that has one; `files` reads every file of the source by its name.

    Raises BadSource with file, line and reason for a table that cannot be understood.
    """
    notes: dict[str, Note] = {}
    for place in _roots(images):
        for table in TABLES:
            name = next((n for n in _spellings(place, table) if n in files), None)
            if name is not None:
                found = _of_table(place, table, _content(files[name], f"{what}: {name}"), images, f"{what}: {name}")
                for image, note in found.items():
                    notes[image] = notes.get(image, Note()).filled(note)
    for image, text in sidecars(images, texts).items():
        prompt = _text(_content(files[text], f"{what}: {text}"), f"{what}: {text}")
        notes[image] = notes.get(image, Note()).filled(Note(prompt))
    return notes


def _roots(images: Sequence[str]) -> list[PurePosixPath]:
    """Where a table may lie: the deepest folder that holds every image, and the root of the source."""
    common = list(PurePosixPath(images[0]).parts[:-1])
    for image in images:
        parts = PurePosixPath(image).parts[:-1]
        while common != list(parts[: len(common)]):
            common.pop()
    return list(dict.fromkeys((PurePosixPath(*common), PurePosixPath())))


def _spellings(place: PurePosixPath, table: str) -> tuple[str, str]:
    # Members of a .tar are often called ./name.
    return str(place / table), f"./{place / table}"


def _stem(name: str) -> str:
    return splitext(name)[0]


def _content(read: Read, where: str) -> bytes:
    try:
        return read()
    except UnreadableSample as error:
        raise BadSource(f"{where}: {error}") from error


def _text(data: bytes, where: str) -> str | None:
    if not data.strip():
        return None
    try:
        return decode_text(data).strip() or None
    except UnreadableSample as error:
        raise BadSource(f"{where}: {error}; save it as UTF-8") from error


def _of_table(place: PurePosixPath, table: str, data: bytes, images: Sequence[str], where: str) -> dict[str, Note]:
    by_path = {PurePosixPath(image): image for image in images}
    by_stem = {PurePosixPath(_stem(image)): image for image in reversed(images)}
    notes: dict[str, Note] = {}
    speaks = False
    for line, row in (_jsonl if table.endswith(".jsonl") else _csv)(data, where):
        file = _field(row, FILE_FIELDS)
        if not any(name in row for name in (*PROMPT_FIELDS, *GROUP_FIELDS)):
            continue
        speaks = True
        if file is None:
            raise BadSource(
                f"{where}: line {line} names no file (columns {', '.join(map(str, list(row)[:8]))}); "
                f"expected one of {', '.join(FILE_FIELDS)}"
            )
        path = place / str(file).replace("\\", "/")
        image = by_path.get(path) or by_stem.get(path)
        if image is None:
            continue
        note = _note(row, f"{where}: line {line}")
        if notes.setdefault(image, note) != note:
            raise BadSource(f"{where}: line {line} says something else of {str(file)!r} than a line before it")
    if speaks and not notes:
        raise BadSource(f"{where}: names none of the {len(images):,} images, of which the first is {images[0]!r}")
    return notes


def _note(row: Mapping[str, Any], where: str) -> Note:
    prompt, group = _field(row, PROMPT_FIELDS), _field(row, GROUP_FIELDS)
    if prompt is not None and not isinstance(prompt, str):
        raise BadSource(f"{where}: the prompt is {type(prompt).__name__}, expected text")
    if isinstance(group, list | dict):
        raise BadSource(f"{where}: the label is {type(group).__name__}, expected text or a number")
    return Note((prompt or "").strip() or None, None if group is None else str(group))


def _field(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _jsonl(data: bytes, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadSource(f"{where}: line {number} is not valid JSON") from error
        if not isinstance(row, dict):
            raise BadSource(f"{where}: line {number} is not a JSON object")
        yield number, row


def _csv(data: bytes, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadSource(f"{where}: line {line} is not valid UTF-8; save it as UTF-8") from error
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in rows:
            if None in row:
                raise BadSource(f"{where}: line {rows.line_num} has more cells than the header has columns")
            yield rows.line_num, row
    except csv.Error as error:
        raise BadSource(f"{where}: line {rows.reader.line_num} is not readable CSV: {error}") from error
