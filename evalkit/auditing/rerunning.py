"""What differs between a sealed record and the same file examined again, for appeals: field, both values, and words.

Numbers are compared exactly, as the doubles they are: a rerun under pinned versions gives the same ones, so the
smallest difference means that something else differed. What a batch gives a file (q-value, whether it is a discovery)
cannot be had from one file alone; a difference there says so. Headers bring in what a record does not hold: library
versions, trust list, calibration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

# Where a record lies in a chain is no part of what it says.
_PLACE = ("schema", "hash", "previous", "position", "id", "name_hex")
# Read first: the conclusion, then what it rests on, then what it was made with.
_ORDER = (
    "sha256", "verdict", "rule", "p_fake", "p_value", "detectors", "evidence", "conflicts", "state", "q_value",
    "flagged", "threshold", "reasons", "reason", "decoder", "hashes", "frozen", "configuration", "code", "environment",
)  # fmt: skip
_BATCH = ("q_value", "flagged")
# Parts of a header that tell of one run's day, not of what its records were made with.
_CLOCK = ("started", "finished", "statistics", "count", "head", "genesis", "file", "verdicts", "states", "manifest")
_LISTS = {"detectors": ("name",), "evidence": ("kind", "source", "detail")}
_ABSENT = object()
_Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One field that differs; `old`, `new`: None where it is absent. words: a sentence that says what that means."""

    field: str
    old: Any
    new: Any
    words: str


def difference(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_header: Mapping[str, Any] | None = None,
    new_header: Mapping[str, Any] | None = None,
) -> list[Difference]:
    """Every field in which two records of one file differ, the verdict first; [] when the rerun gave the same.

    old_header, new_header: the seal's document, or the header a new sealing would have; both or neither.
    """
    found = list(_differing(_without(old, _PLACE), _without(new, _PLACE), ()))
    if old_header is not None and new_header is not None:
        left = (*_PLACE, *_CLOCK)
        found += _differing(_pruned(old_header, left), _pruned(new_header, left), ())
    found.sort(key=lambda one: _place(one[0]))
    told = ((path, _shown(before), _shown(after)) for path, before, after in found)
    return [Difference(".".join(path), before, after, _words(path, before, after)) for path, before, after in told]


def _without(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in names}


def _pruned(header: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A header without the named parts, at its top and in its frozen part: another manifest is what a rerun has."""
    top = _without(header, names)
    frozen = top.get("frozen")
    return {**top, "frozen": _without(frozen, names)} if isinstance(frozen, Mapping) else top


def _differing(old: Any, new: Any, path: _Path) -> Iterator[tuple[_Path, Any, Any]]:
    """Leaves that differ, by path; lists of named things by name, so that an added one moves no other."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
            if key in _LISTS and not path:
                before, after = _named(before, _LISTS[key]), _named(after, _LISTS[key])
            yield from _differing(before, after, (*path, str(key)))
    elif not _same(old, new):
        yield path, old, new


def _named(listed: Any, keys: Sequence[str]) -> Any:
    if not isinstance(listed, list | tuple) or not all(isinstance(one, Mapping) for one in listed):
        return listed
    found: dict[str, Any] = {}
    for one in listed:
        name = " ".join(str(one.get(key)) for key in keys)
        while name in found:
            name += " (again)"
        found[name] = one
    return found


def _same(old: Any, new: Any) -> bool:
    """Equal values; 1 is 1.0, as canonical JSON writes both alike, but not true."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    return bool(old == new)


def _shown(value: Any) -> Any:
    return None if value is _ABSENT else value


def _place(path: _Path) -> tuple[int, _Path]:
    return (_ORDER.index(path[0]) if path[0] in _ORDER else len(_ORDER), path)


def _words(path: _Path, old: Any, new: Any) -> str:
    first, last, name = path[0], path[-1], ".".join(path)
    change = f"was {_said(old)}, is now {_said(new)}"
    if first == "sha256":
        return f"the file's content is another one: sha256 {change}; nothing else can be compared"
    if first in _BATCH:
        return f"{first} {change}; it is the batch's, and one file alone has none"
    if first in _LISTS and len(path) == 2:
        what = "detector" if first == "detectors" else "evidence"
        return f"{what} {path[1]!r} {'is new' if old is None else 'is gone'}"
    if first == "detectors" and last == "digest":
        return f"detector {path[1]!r} has other weights or preparation: digest {change}"
    if any("trust_list" in part for part in path):
        return f"the trust list is another one: {name} {change}"
    if "calibration" in path:
        return f"the calibration set is another one: {name} {change}"
    if "packages" in path or first == "environment":
        return f"version or machine: {last} {change}"
    if isinstance(old, int | float) and isinstance(new, int | float) and not isinstance(old, bool):
        return f"{name} {change}, by {abs(new - old):.3g}"
    return f"{name} {change}"


def _said(value: Any) -> str:
    return "absent" if value is None else repr(value) if len(repr(value)) <= 120 else repr(value)[:119] + "…"
