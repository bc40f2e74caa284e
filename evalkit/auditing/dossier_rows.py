"""One sealed record as a row of the worklist: what it is marked with, what contradicts in it, where it stands.

A record is what a file on a disk says, perhaps an edited one: whatever is not of the kind it must be reads as absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from ..types import CHIPS, STATES, Chip, FileRow

VERDICTS = ("synthetic", "authentic", "uncertain", "unreadable")
# What a word that this version does not know is counted as; the record on the file's page has it.
OTHER = "other"
# Smaller comes first: whether it can be given up, p-value, rank of what has none, minus P(fake), how much its evidence
# weighs, place in the manifest.
Key = tuple[bool, float, float, float, int, int]
ORDER: tuple[Chip, ...] = (
    "conflict", "signed", "watermark", "known", "claim", "fingerprint", "hint", "detector",
)  # fmt: skip
WEIGHT = {chip: place for place, chip in enumerate(ORDER)}


def row_of(record: Mapping[str, Any], place: int) -> FileRow:
    """A record as a row of the worklist; place: its number where it does not carry its own."""
    position = record.get("position", place)
    return FileRow(
        position if isinstance(position, int) else place,
        text(record.get("id")),
        text(record.get("sha256")),
        one_of(VERDICTS, record.get("verdict") or "uncertain"),
        text(record.get("rule")),
        one_of(STATES, record.get("state") or ("io_error" if record.get("verdict") == "unreadable" else "ok")),
        text(record.get("modality")),
        share(record.get("p_value")),
        share(record.get("q_value")),
        share(record.get("p_fake")),
        chips_of(record),
        record.get("flagged") is True,
    )


def chips_of(record: Mapping[str, Any]) -> tuple[Chip, ...]:
    """What kinds of evidence a record has, each once, in the order of CHIPS."""
    found: set[str] = {"detector"} if listed(record, "detectors") else set()
    found |= {"conflict"} if conflicts_of(record) else set()
    for one in evidence_of(record):
        kind = "known" if one.get("of") == "list" else text(one.get("kind"))
        strength = text(one.get("strength"))
        if kind == "c2pa" and strength == "strong":
            found.add("signed")
        elif one.get("says") == "unknown":
            continue  # it was looked at and says nothing either way
        elif kind in ("c2pa", "metadata"):
            found.add("claim" if strength in ("claim", "strong") else "hint")
        elif kind in ("watermark", "fingerprint", "known"):
            found.add(kind)
        elif kind == "likelihood":
            found.add("detector")
    return tuple(chip for chip in CHIPS if chip in found)


def conflicts_of(record: Mapping[str, Any]) -> list[str]:
    """Every contradiction between pieces of evidence, in words, each once."""
    said = [text(words) for words in listed(record, "conflicts")]
    said += [text(one.get("detail")) for one in evidence_of(record) if one.get("kind") == "inconsistency"]
    return list(dict.fromkeys(words for words in said if words))


def in_sentences(said: Sequence[str]) -> str:
    return " ".join(words if words.endswith(".") else f"{words}." for words in said)


def evidence_of(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (one for one in listed(record, "evidence") if isinstance(one, Mapping))


def listed(record: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = record.get(key)
    return found if isinstance(found, list | tuple) else ()


def one_of(known: Sequence[str], value: object) -> str:
    return value if isinstance(value, str) and value in known else OTHER


def text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def share(value: object) -> float | None:
    """A number in [0, 1]; None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(cast(float, value)) if is_number and 0 <= cast(float, value) <= 1 else None


def stands_out(row: FileRow) -> bool:
    """Whether a person must see it: called synthetic, contradictory, or decided on."""
    return row.verdict == "synthetic" or row.flagged or "conflict" in row.chips or bool(row.decided)


def key_of(row: FileRow) -> Key:
    """Its place in the worklist, ascending."""
    p = 2.0 if row.p_value is None else row.p_value
    # Without a p-value: what was called synthetic first, what could not be read last.
    rank = {"synthetic": 0, "uncertain": 1, "authentic": 2}.get(row.verdict, 3) if row.p_value is None else 0
    weight = min((WEIGHT[chip] for chip in row.chips), default=len(WEIGHT))
    return (not stands_out(row), p, rank, -1.0 * (row.p_fake or 0.0), weight, row.position)


def negated(key: Key) -> Key:
    """The same order upside down, for a heap that gives up the largest."""
    return (not key[0], -key[1], -key[2], -key[3], -key[4], -key[5])
