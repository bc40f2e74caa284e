"""One file's own page: its evidence kept apart by kind and strength, each detector, hashes, record, decisions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evalkit.types import FilePage

from ._words import one_line

KINDS: Mapping[str, str] = {
    "c2pa": "Signed provenance (C2PA)",
    "metadata": "Metadata",
    "watermark": "Watermarks",
    "fingerprint": "Likeness to known sources",
    "likelihood": "Detectors without a score",
    "known": "Known content",
    "inconsistency": "Conflicts",
}
STRENGTHS: Mapping[str, str] = {
    "strong": "strong: a trusted signature over intact content, an exact test, or a match of a list",
    "claim": "claim: anyone could have written it",
    "hint": "hint: compatible with much else",
}
# Longest record that a page holds; the whole one stands in audit.jsonl.
MOST_JSON = 40_000
MOST_FACTS = 60
# A page between the one before and the one after it in the worklist.
Turn: TypeAlias = "tuple[FilePage | None, FilePage, FilePage | None]"


@dataclass(frozen=True)
class Said:
    """One piece of evidence as the page prints it."""

    says: str
    strength: str
    source: str
    detail: str
    p: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Judge:
    """One detector's opinion as the page prints it; digest: of its weights and preparation."""

    name: str
    score: str
    p_fake: str
    p_calibrated: str
    p_value: str
    threshold: str
    trained_on: str
    reasons: tuple[str, ...]
    digest: str


def evidence(page: FilePage) -> list[tuple[str, list[Said]]]:
    """(heading, pieces) by kind in a fixed order; a kind that this version does not know stands last by its name."""
    found: dict[str, list[Said]] = {}
    for one in entries(page.record.get("evidence")):
        kind = "known" if one.get("of") == "list" else words(one.get("kind"))
        found.setdefault(kind, []).append(
            Said(
                words(one.get("says")) or "unknown",
                words(one.get("strength")),
                words(one.get("source")),
                words(one.get("detail")),
                probability(one.get("p_value")),
                tuple(flat(one.get("facts")))[:MOST_FACTS],
            )
        )
    order = [*KINDS, *sorted(set(found) - set(KINDS))]
    return [(KINDS.get(kind, kind or "Other"), found[kind]) for kind in order if kind in found]


def judges(page: FilePage) -> list[Judge]:
    """Each detector's opinion, in the record's order."""
    found = []
    for one in entries(page.record.get("detectors")):
        ends = one.get("threshold") or [one.get("low"), one.get("high")]
        reasons = one.get("reasons")
        said = reasons.values() if isinstance(reasons, Mapping) else reasons if isinstance(reasons, list) else ()
        found.append(
            Judge(
                words(one.get("name")),
                number(one.get("score"), "+.2f"),
                chance(one.get("p_fake")),
                chance(one.get("p_calibrated")),
                probability(one.get("p_value")),
                " to ".join(number(end, ".3g") for end in ends) if isinstance(ends, list | tuple) else "",
                words(one.get("trained_on")),
                tuple(map(words, said)),
                words(one.get("digest")),
            )
        )
    return found


def told(page: FilePage, *keys: str) -> list[tuple[str, str]]:
    """(name, value) of those parts of the record that are there, mappings by dotted name."""
    found = (pair for key in keys if key in page.record for pair in flat({key: page.record[key]}))
    return [(name, value) for name, value in found if value][:MOST_FACTS]


def sentences(page: FilePage, key: str) -> list[str]:
    """A part of the record that is sentences: a list, or a mapping of kind -> sentence."""
    found = page.record.get(key)
    if isinstance(found, Mapping):
        return [f"{key}: {words(value)}" for key, value in found.items()]
    return [words(value) for value in found] if isinstance(found, list | tuple) else [words(found)] if found else []


def as_json(page: FilePage) -> tuple[str, bool]:
    """The record as indented JSON, and whether it was cut; ASCII, so that no character hides in it."""
    text = json.dumps(page.record, indent=1, ensure_ascii=True, sort_keys=True, default=str)
    return text[:MOST_JSON], len(text) > MOST_JSON


# ---------------------------------------------------------------------------------------------- values as words


def entries(value: object) -> Iterator[Mapping[str, Any]]:
    return (one for one in value if isinstance(one, Mapping)) if isinstance(value, list | tuple) else iter(())


def flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of nested mappings and lists with its dotted name."""
    if isinstance(value, Mapping):
        for key in value:
            yield from flat(value[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in value):
        for place, one in enumerate(value, 1):
            yield from flat(one, f"{prefix} {place}")
    elif isinstance(value, list | tuple):
        yield prefix, ", ".join(map(words, value))
    elif value is not None:
        yield prefix, words(value)


def words(value: object) -> str:
    """Plain words for a value: yes, no, numbers short, texts as they are."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def number(value: object, shape: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return format(value, shape).replace("-", "−")


def probability(value: object) -> str:
    """A p-value with two significant digits; "" where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return ""
    text = f"{value:.2g}"
    mantissa, _, power = text.partition("e")
    return f"{mantissa}e{int(power)}".replace("-", "−") if power else text


def chance(value: object) -> str:
    """P(fake) with three decimals, and no 0 or 1 that is none; "" where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return ""
    if 0 < value < 0.0005:
        return "< 0.001"
    return "> 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def turns(pages: Sequence[FilePage]) -> Iterator[Turn]:
    """Each page with the one before and the one after it in the worklist."""
    for place, page in enumerate(pages):
        before = pages[place - 1] if place else None
        yield before, page, pages[place + 1] if place + 1 < len(pages) else None


def title(page: FilePage) -> str:
    return one_line(page.row.id, 120) or "(no name)"
