"""The report folder: records as they are finished, the leaderboard at the end, each file whole or not at all."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import registry
from .cache import beside
from .errors import BadSetting, UnwritableOutput
from .records import dumps, to_json, write_record, write_text
from .types import Detector, Generator, Leaderboard, RunRecord, Study

# Bytes of a page that a browser still opens at once; the pictures of a larger one become files beside it.
LARGEST_PAGE = 10_000_000
PICTURES = "pictures"
OURS = {"index.html": "html", "leaderboard.json": "json", "leaderboard.csv": "csv", "leaderboard.md": "markdown"}
MODEL_FILES = ("model.safetensors", "card.json", "reconstructor")
BY_SUFFIX = {".json": "json", ".csv": "csv", ".md": "markdown", ".html": "html", ".xml": "junit"}
STUDY_BY_SUFFIX = {".json": "study_json", ".csv": "study_csv", ".md": "study_markdown", ".html": "study_html"}
STUDY_FILES = ("index.html", "study.json", "study.csv", "study.md")


class ReportFolder:
    """A folder that is ours to write: new, empty, or a report of ours; anything else is refused, never mixed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fresh: set[str] = set()
        if path.exists() and not path.is_dir():
            raise UnwritableOutput(f"{path} is a file; give a folder for the report")
        strangers = (
            [p.name for p in path.iterdir() if p.name not in (*OURS, "records", PICTURES)] if path.is_dir() else []
        )
        if strangers:
            raise UnwritableOutput(
                f"{path} holds other things ({strangers[0]!r}); give a new or empty folder with --out"
            )
        if (path / "leaderboard.json").exists() and not _is_ours(path / "leaderboard.json"):
            raise UnwritableOutput(
                f"{path / 'leaderboard.json'} is not a report of evalkit; give another folder with --out"
            )
        home = next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
        try:
            # Nothing stays behind: a run that is refused later leaves no folder.
            with tempfile.TemporaryFile(dir=home):
                pass
        except OSError as error:
            raise UnwritableOutput(
                f"cannot write to {path}: {error.strerror or error}; choose another --out"
            ) from error

    def record(self, record: RunRecord) -> None:
        """Write one finished record."""
        name = f"{record.subject.modality}-{safe_name(record.subject.name)}"
        while f"{name}.json" in self.fresh:
            name += "_"
        self.fresh.add(f"{name}.json")
        write_record(record, self.path / "records" / f"{name}.json")

    def finish(self, board: Leaderboard) -> None:
        """Write the leaderboard in every format and drop the records and pictures of an earlier run.

        The page is one file; over LARGEST_PAGE its pictures lie in `pictures/`, written before the page that shows
        them and dropped after the page that showed them, so that no page ever misses one.
        """
        for file, name in OURS.items():
            if name != "html":
                write_text(self.path / file, registry.reports.get(name)(board))
        page = registry.reports.get("html")(board)
        pictures: dict[str, bytes] = {}
        if len(page.encode()) > LARGEST_PAGE:
            pictures = dict(registry.reports.get("html_folder")(board))
            page = pictures.pop("index.html").decode()
        for file, content in pictures.items():
            _write_bytes(self.path / file, content)
        write_text(self.path / "index.html", page)
        self._drop_pictures({Path(file).name for file in pictures})
        for old in (self.path / "records").glob("*.json"):
            if old.name not in self.fresh:
                old.unlink()

    def _drop_pictures(self, keep: set[str]) -> None:
        folder = self.path / PICTURES
        for old in folder.glob("*") if folder.is_dir() else ():
            if old.name not in keep and PICTURE.fullmatch(old.name):
                old.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


# What our pictures are called: anything else in that folder is not ours to drop.
PICTURE = re.compile(r"[0-9a-f]{32}-(?:pixels|photo)\.(?:png|jpeg|webp|gif)")


def _write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; one that is there already, as after an earlier run, stays."""
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        with beside(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise UnwritableOutput(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def safe_name(name: str) -> str:
    """A file name made of a subject's name: letters, digits, dot, dash and underscore, at most 80."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:80] or "subject"


def _is_ours(path: Path) -> bool:
    try:
        return str(json.loads(path.read_text("utf-8"))["schema"]).startswith("evalkit.leaderboard/")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_outputs(files: Sequence[Path], formats: Mapping[str, str] = BY_SUFFIX) -> None:
    """Refuse, before any work, an output whose suffix names no format or whose folder does not exist."""
    for file in files:
        if file.suffix not in formats:
            raise BadSetting(f"-o {file}: the suffix picks the format; expected one of {' '.join(formats)}")
        if not file.parent.is_dir():
            raise UnwritableOutput(f"-o {file}: the folder {file.parent} does not exist; make it first")
        if file.is_dir():
            raise UnwritableOutput(f"-o {file} is a folder; give a file name")


def write_outputs(record: RunRecord, board: Leaderboard, files: Sequence[Path]) -> None:
    """One run in every format asked for: .json is the run record itself, the others are rendered."""
    for file in files:
        text = dumps(to_json(record)) if file.suffix == ".json" else registry.reports.get(BY_SUFFIX[file.suffix])(board)
        write_text(file, text)


def check_study_outputs(files: Sequence[Path], folder: Path | None = None) -> None:
    """Refuse, before any work, files that no study can be written to, and a folder that holds other things."""
    check_outputs(files, STUDY_BY_SUFFIX)
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise UnwritableOutput(f"{folder} is a file; give a folder with --out")
    strangers = [p.name for p in folder.iterdir() if p.name not in STUDY_FILES] if folder.is_dir() else []
    if strangers:
        raise UnwritableOutput(f"{folder} holds other things ({strangers[0]!r}); give a new or empty folder with --out")


def write_study(study: Study, files: Sequence[Path] = (), folder: Path | None = None) -> None:
    """Write a study to files, whose suffixes pick the format, and as page, JSON, CSV and Markdown into a folder."""
    inside = [] if folder is None else [folder / name for name in STUDY_FILES]
    for file in (*files, *inside):
        write_text(file, registry.reports.get(STUDY_BY_SUFFIX[file.suffix])(study))


def publish_model(model: Generator | Detector, folder: Path) -> None:
    """Save a fitted model as a folder, in place of an earlier model of ours; anything else there is refused."""
    if folder.is_file():
        raise UnwritableOutput(f"{folder} is a file; give a folder with --out")
    strangers = [p.name for p in folder.iterdir() if p.name not in MODEL_FILES] if folder.is_dir() else []
    if strangers:
        raise UnwritableOutput(f"{folder} holds other things ({strangers[0]!r}); give a new or empty folder with --out")
    with beside(folder) as draft:
        model.save(draft)
