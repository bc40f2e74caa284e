"""Why two numbers differ, in words: what was measured with what, against what, on how many, and what that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .comparison import difference, shown_term
from .errors import UsageError
from .types import MetricResult, RunRecord

# What a difference in one fact about the instrument does to a number; said where it is the reason.
EFFECTS: Mapping[str, str] = {
    "dialect": "the same images give other features, so the two numbers differ even for identical samples",
    "resize": "the same images give other features, so the two numbers differ even for identical samples",
    "range": "inputs are shifted by half a grey level: a small difference, but one in every number",
    "layer": "two layers are two feature spaces: the numbers are on two scales",
    "weights": "two networks are two feature spaces: the numbers are on two scales",
    "weights sha256": "two networks are two feature spaces: the numbers are on two scales",
}
BIASED = ("fid", "sfid", "fid_unbiased", "mifid", "mind")


def explain(a: RunRecord, b: RunRecord) -> tuple[str, ...]:
    """Lines that say, metric by metric, why the numbers of two records differ and whether they may be compared.

    Metrics are paired by name; where the names differ in the instrument alone (fid@inception, fid@inception:tf1), by
    metric and part. Raises UsageError when the records share no metric or are of two modalities.
    """
    if a.subject.modality != b.subject.modality:
        raise UsageError(
            f"{a.subject.name} is {a.subject.modality}, {b.subject.name} is {b.subject.modality}: they share no metric"
        )
    pairs = list(_pairs(a, b))
    if not pairs:
        raise UsageError(f"{a.subject.name} and {b.subject.name} share no metric; score both with the same --metrics")
    names = _names(a, b)
    lines = [*_what_was_scored(a, b, names)]
    for own, other in pairs:
        lines += _pair(own, other, a, b, names)
    return (*lines, *_files(a, b, names), *_machine(a, b))


def _names(a: RunRecord, b: RunRecord) -> tuple[str, str]:
    if a.subject.name != b.subject.name:
        return a.subject.name, b.subject.name
    return f"{a.subject.name} (first)", f"{b.subject.name} (second)"


def _pairs(a: RunRecord, b: RunRecord) -> Iterator[tuple[MetricResult, MetricResult]]:
    others = {r.name: r for r in b.results}
    by_metric: dict[tuple[Any, ...], list[MetricResult]] = {}
    for result in b.results:
        by_metric.setdefault(_kind(result), []).append(result)
    named = {r.name for r in a.results}
    for result in a.results:
        if result.name in others:
            yield result, others[result.name]
        else:
            yield from ((result, r) for r in by_metric.get(_kind(result), ()) if r.name not in named)


def _kind(result: MetricResult) -> tuple[Any, ...]:
    return result.terms.get("metric"), result.terms.get("part", ""), result.terms.get("group")


def _what_was_scored(a: RunRecord, b: RunRecord, names: tuple[str, str]) -> Iterator[str]:
    if a.subject.digest == b.subject.digest:
        yield f"{names[0]} and {names[1]} are the same {a.subject.n} samples: any difference comes from the measuring."
    else:
        yield f"{names[0]} ({a.subject.n} samples) and {names[1]} ({b.subject.n} samples) are different samples."


def _pair(own: MetricResult, other: MetricResult, a: RunRecord, b: RunRecord, names: tuple[str, str]) -> Iterator[str]:
    title = own.name if own.name == other.name else f"{own.name} and {other.name}"
    yield (
        f"{title}: {_number(own)} for {names[0]}, {_number(other)} for {names[1]}, a difference of"
        f" {own.value - other.value:.4g}."
    )
    if own.protocol == other.protocol:
        gap, low, high = difference(own, other)
        if a.subject.digest == b.subject.digest:
            yield "  One protocol and the same samples: they should be equal up to rounding."
        elif low <= 0 <= high:
            yield f"  Comparable, and not told apart: the difference {gap:.4g} [{low:.4g}, {high:.4g}] includes zero."
        else:
            yield f"  Comparable: the samples differ by {gap:.4g} [{low:.4g}, {high:.4g}], which excludes zero."
        return
    yield "  Not comparable; what differs:"
    for reason in _reasons(own, other, a, b):
        yield f"  - {reason}"


def _number(result: MetricResult) -> str:
    return f"{result.value:.5g} [{result.low:.4g}, {result.high:.4g}]"


def _reasons(own: MetricResult, other: MetricResult, a: RunRecord, b: RunRecord) -> Iterator[str]:
    terms, others = dict(own.terms), dict(other.terms)
    about, others_about = terms.pop("about", {}), others.pop("about", {})
    facts = sorted(k for k in {*about, *others_about} if about.get(k) != others_about.get(k))
    for key in facts:
        effect = f": {EFFECTS[key]}" if key in EFFECTS else ""
        said, others_said = (shown_term(x.get(key, "not said")) for x in (about, others_about))
        yield f"{key.replace('_', ' ')}: {said} against {others_said}{effect}"
    for key in sorted({*terms, *others}):
        mine, theirs = terms.get(key), others.get(key)
        if mine == theirs or (key == "instrument" and facts):
            continue
        if key == "n":
            yield _sizes(own, other)
        elif key == "reference":
            yield _references(a, b)
        elif key == "instrument":
            yield f"instrument: another version or other weights ({shown_term(mine)} against {shown_term(theirs)})"
        elif key == "device":
            yield f"device: {mine} against {theirs}; timings compare on one device only"
        else:
            yield f"{key}: {shown_term(mine)} against {shown_term(theirs)}"


def _sizes(own: MetricResult, other: MetricResult) -> str:
    said = f"samples: {shown_term(own.n)} against {shown_term(other.n)}"
    if own.terms.get("metric") not in BIASED:
        return f"{said}; score both at one n with --n"
    fewer = "first" if sum(own.n.values()) < sum(other.n.values()) else "second"
    return (
        f"{said}: this distance is biased upward by an amount that falls as 1/n, so the {fewer} number is too large"
        f" beside the other; score both at one n with --n, or compare {own.terms.get('metric')}'s part `unbiased`"
        " where it has one"
    )


def _references(a: RunRecord, b: RunRecord) -> str:
    said = [f"{r.name} ({r.n} samples)" if r is not None else "none" for r in (a.reference, b.reference)]
    if said[0] == said[1]:
        return f"real samples: both are called {said[0]}, but their content differs"
    return f"real samples: {said[0]} against {said[1]}"


def _files(a: RunRecord, b: RunRecord, names: tuple[str, str]) -> Iterator[str]:
    """What the lint found on one side only: formats reach every number."""
    found = [{w for w in r.warnings if w.startswith("lint ")} for r in (a, b)]
    for name, own, other in ((names[0], found[0], found[1]), (names[1], found[1], found[0])):
        for warning in sorted(own - other):
            yield f"Only {name}: {warning}"


def _machine(a: RunRecord, b: RunRecord) -> Iterator[str]:
    keys = ("evalkit", "torch", "device", "backends", "pillow")
    parts = [
        f"{key} {a.environment.get(key)} against {b.environment.get(key)}"
        for key in keys
        if a.environment.get(key) != b.environment.get(key)
    ]
    if parts:
        yield f"Environments differ ({'; '.join(parts)}): expect differences of rounding size from that, not more."
