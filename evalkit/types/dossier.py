"""The nouns of an audit's dossier: what is shown of a batch, of a file, and of what reviewers decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .board import Curves

# What a row of the worklist is marked with. signed: a trusted signature over intact content. claim: anyone could have
# written it. hint: compatible with much else.
Chip: TypeAlias = Literal["signed", "claim", "hint", "watermark", "detector", "fingerprint", "known", "conflict"]
CHIPS: tuple[Chip, ...] = ("signed", "claim", "hint", "watermark", "detector", "fingerprint", "known", "conflict")


@dataclass(frozen=True)
class DossierLimits:
    """How much of a batch is shown: rows of the worklist, pages by rank alone, entries of each list.

    Files that are called synthetic, in conflict or decided on come into the worklist first and have a page each.
    """

    rows: int = 2000
    pages: int = 500
    listed: int = 200


@dataclass(frozen=True)
class Preview:
    """What is shown of one content, re-encoded from its decoded pixels: never the original bytes.

    thumbnail (longer side <= 96 pixels), picture and heat: a PNG, WebP or JPEG file, or b"". heat_says: what the heat
    map can and cannot be read as. excerpt: the beginning of a text.
    """

    thumbnail: bytes = b""
    picture: bytes = b""
    heat: bytes = b""
    heat_says: str = ""
    excerpt: str = ""


@dataclass(frozen=True)
class Decision:
    """What a reviewer decided of one file; time: as recorded, digest: of this entry in the chain."""

    position: int | None
    id: str
    decision: str
    reason: str = ""
    reviewer: str = ""
    time: str = ""
    digest: str = ""


@dataclass(frozen=True)
class FileRow:
    """One file of the worklist; p_value, q_value, p_fake: None where there is none. decided: the last decision."""

    position: int
    id: str
    sha256: str
    verdict: str
    rule: str
    state: str
    modality: str
    p_value: float | None
    q_value: float | None
    p_fake: float | None
    chips: tuple[Chip, ...]
    flagged: bool = False
    decided: str = ""


@dataclass(frozen=True)
class Named:
    """A file by its name, with its position where it has one; `says` is what is said of it."""

    id: str
    position: int | None = None
    says: str = ""


@dataclass(frozen=True)
class FilePage:
    """One file's own page: its row, its whole record, decisions on it and its near-duplicates in the batch."""

    row: FileRow
    record: Mapping[str, Any]
    decisions: tuple[Decision, ...] = ()
    neighbours: tuple[Named, ...] = ()


@dataclass(frozen=True)
class Group:
    """Files of a batch that show nearly the same; size: all of them, also those that are not listed."""

    says: str
    size: int
    members: tuple[Named, ...]


@dataclass(frozen=True)
class Histogram:
    """Counts over equal bins of [0, 1]; marked: those of each bin that were called synthetic.

    level: the count a bin would have if all were alike; mark: a place on the axis, such as a threshold.
    """

    title: str
    note: str
    x_label: str
    counts: tuple[int, ...]
    marked: tuple[int, ...]
    level: float | None = None
    level_says: str = ""
    mark: float | None = None
    mark_says: str = ""


@dataclass(frozen=True)
class Ended:
    """How many inputs ended in one state, what that means, and the first of them."""

    state: str
    count: int
    says: str
    first: tuple[Named, ...] = ()


@dataclass(frozen=True)
class Dossier:
    """An audit as it is shown: verdict in words, worklist, statistics, what was left out, custody; nothing computes on.

    undone: what was not done and why. order: how the rows were chosen. verdicts: (state, verdict -> count) of all
    files. facts: (what, value, what it means) of coverage, risk and calibration. total: files of the batch.
    rules: name of a rule -> when it applies.
    """

    title: str
    findings: tuple[str, ...]
    undone: tuple[str, ...]
    order: str
    total: int
    rows: tuple[FileRow, ...]
    pages: tuple[FilePage, ...]
    verdicts: tuple[tuple[str, Mapping[str, int]], ...]
    facts: tuple[tuple[str, str, str], ...] = ()
    histograms: tuple[Histogram, ...] = ()
    discovery: Curves | None = None
    groups: tuple[Group, ...] = ()
    group_count: int = 0
    conflicts: tuple[Named, ...] = ()
    conflict_count: int = 0
    ended: tuple[Ended, ...] = ()
    decisions: tuple[Decision, ...] = ()
    decision_count: int = 0
    custody: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, Preview] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    schema: str = "evalkit.dossier/1"
