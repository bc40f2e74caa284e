"""The columns of a board: one name and one protocol each, and why a subject's number is not in its column.

A column holds results of one name *and* one protocol. Where subjects differ, the protocol most of them share stays and
the others are refused with what differs, in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .types import Column, MetricResult, RunRecord

COSTS = ("throughput", "latency", "energy", "flops")
# Longer names are cut in sentences; rows keep them whole.
LONGEST_NAME = 80
MOST_LISTED = 6


def result_of(record: RunRecord, name: str, protocol: str | None = None) -> MetricResult | None:
    """The record's result of that name (and protocol), or None."""
    for result in record.results:
        if result.name == name and protocol in (None, result.protocol):
            return result
    return None


def instrument_digests(records: Sequence[RunRecord]) -> dict[str, str]:
    """ "instrument NAME" -> digest of everything that was measured with; of a fitted detector, its recipe."""
    found = {}
    for result in (result for record in records for result in record.results):
        if digest := result.terms.get("instrument"):
            found[f"instrument {instrument_of(result)}"] = str(digest)
    return found


def instrument_of(result: MetricResult) -> str:
    """The instrument's name as it stands in the result's; "" where there is none."""
    return result.name.partition("@")[2].removesuffix(f".{result.terms.get('part', '')}")


def columns_of(records: Sequence[RunRecord]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """The columns in the order in which the records name them, and what was refused, in words."""
    found: dict[str, list[tuple[str, MetricResult]]] = {}
    for record in records:
        own = {result.name: result for result in reversed(record.results)}
        for name in dict.fromkeys(result.name for result in record.results):
            found.setdefault(name, []).append((record.subject.name, own[name]))
    columns, refused = [], []
    for name, entries in found.items():
        protocol, _ = Counter(result.protocol for _, result in entries).most_common(1)[0]
        kept = next(result for _, result in entries if result.protocol == protocol)
        columns.append(Column(name, kept.better, kept.unit, protocol, kept.n, kept.interval))
        refused += [
            f"{name} of {shown(subject)} is not comparable: {_differs(result.terms, kept.terms)}"
            for subject, result in entries
            if result.protocol != protocol
        ]
    return tuple(columns), tuple(refused)


def _differs(own: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
    """Which terms differ, in words."""
    parts = []
    for key in sorted({*own, *kept}):
        a, b = own.get(key), kept.get(key)
        if a != b and isinstance(a, Mapping) and isinstance(b, Mapping):
            a, b = ({k: v for k, v in x.items() if y.get(k) != v} for x, y in ((a, b), (b, a)))
        if a != b:
            parts.append(f"{key} is {shown_term(a)}, the others have {shown_term(b)}")
    return "; ".join(parts) or "its terms were not recorded"


def shown_term(value: Any) -> str:
    """A term of a protocol, short enough for a sentence."""
    text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
    return text[:19] if text.startswith("sha256:") else text[:60]


def why_empty(column: Column, record: RunRecord) -> str:
    """Why a subject has no number in a column, in words."""
    if result_of(record, column.name) is not None:
        return "not comparable: another protocol (see below)"
    stem = column.name.split(".")[0]
    for warning in record.warnings:
        for words in (" is missing: ", " does not apply: "):
            if warning.startswith((f"{stem}{words}", f"{column.name}{words}")):
                return warning.split(words, 1)[1]
    return "not measured for this subject"


def sign(column: Column) -> float:
    """1 where lower is better, -1 where higher is: times a value it is a cost."""
    return 1.0 if column.better == "lower" else -1.0


def is_cost(column: Column) -> bool:
    """Whether the column says what a sample costs and not how good it is."""
    return column.name.split("@")[0].split(".")[0] in COSTS


def quality_columns(columns: Sequence[Column]) -> list[Column]:
    """Columns of quality; numbers of single groups would count a metric once more for every class."""
    return [c for c in columns if ".group=" not in c.name and not is_cost(c)]


def shown(name: str) -> str:
    """A name, short enough for a sentence."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def listed(names: Sequence[str]) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else ""
    return ", ".join(map(shown, names[:MOST_LISTED])) + more
