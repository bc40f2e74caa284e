"""Records side by side: equal protocols share a column, unlike ones are refused in words, ties are called ties."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ModalityMismatch, NothingToEvaluate
from .pairing import correlation
from .types import SHARED, Cell, Column, Comparison, Excluded, MetricResult, Modality, Row, RunRecord

TITLES: Mapping[Modality, str] = {"image": "Images", "text": "Texts"}


def compare_records(records: Sequence[RunRecord], title: str | None = None) -> Comparison:
    """A board of records of one modality.

    A column holds results of one name *and* one protocol: where subjects differ, the protocol most of them share stays
    and the others are refused with what differs. The best of a column is the best candidate (floors and ceilings are
    there to check the metric, not to win); a candidate whose difference from it has an interval that includes zero is
    tied. Raises ModalityMismatch for two modalities, NothingToEvaluate without records.
    """
    if not records:
        raise NothingToEvaluate("no record to compare")
    modalities = {r.subject.modality for r in records}
    if len(modalities) > 1:
        named = ", ".join(f"{r.subject.name} ({r.subject.modality})" for r in records[:6])
        raise ModalityMismatch(f"one table holds one modality; given {named}: compare them separately")
    columns, refused = _columns(records)
    best = {c.name: name for c in columns if (name := _best(c, records)) is not None}
    ties = {c.name: tied for c in columns if (tied := _ties(c, best.get(c.name), records))}
    rows = tuple(
        Row(
            r.subject.name,
            r.subject.role,
            tuple(_cell(c, r, best.get(c.name), ties.get(c.name, ())) for c in columns),
            r.subject.n,
        )
        for r in _ranked(records, columns)
    )
    modality = records[0].subject.modality
    # A number that a subject cannot have says so in its empty cell, where another subject has that number.
    told = tuple(f"{c.name} does not apply: " for c in columns)
    warnings = Counter(w for r in records for w in r.warnings if not w.startswith(told))
    return Comparison(
        modality=modality,
        title=title or TITLES[modality],
        reference=records[0].reference,
        columns=columns,
        rows=rows,
        best=best,
        ties=ties,
        deltas={c.name: _deltas(c, best[c.name], records) for c in columns if c.name in best},
        refused=refused,
        verdict=_verdict(columns, records, best, ties),
        warnings=tuple(
            w if count == len(records) else f"{', '.join(r.subject.name for r in records if w in r.warnings)}: {w}"
            for w, count in warnings.items()
        ),
        excluded=_excluded(records),
    )


def _excluded(records: Sequence[RunRecord]) -> tuple[tuple[str, Excluded], ...]:
    """Whose sample could not be read, and why; those of a shared reference once and not for every subject."""
    found: dict[tuple[str, str], tuple[str, Excluded]] = {}
    for record in records:
        for entry in record.excluded:
            shared = entry.id.startswith(SHARED)
            found.setdefault(("" if shared else record.subject.name, entry.id), (record.subject.name, entry))
    return tuple(found.values())


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
            name = result.name.partition("@")[2].removesuffix(f".{result.terms.get('part', '')}")
            found[f"instrument {name}"] = str(digest)
    return found


def difference(a: MetricResult, b: MetricResult) -> tuple[float, float, float]:
    """a - b with its interval, recovered from the ends of both intervals and the correlation of the two numbers.

    The correlation is what the samples they share do to both, such as the real ones of one reference; 0 where none are
    shared or the records do not say. Zou & Donner 2008, "Construction of confidence limits about effect measures".
    """
    gap, shared = a.value - b.value, correlation(a.moves, b.moves)
    down = _leg(a.value - a.low, b.high - b.value, shared)
    up = _leg(a.high - a.value, b.value - b.low, shared)
    return gap, gap - down, gap + up


def _leg(one: float, other: float, shared: float) -> float:
    return math.sqrt(max(0.0, one * one + other * other - 2 * shared * one * other))


def _columns(records: Sequence[RunRecord]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    names = dict.fromkeys(result.name for record in records for result in record.results)
    columns, refused = [], []
    for name in names:
        found = [(r.subject.name, result) for r in records if (result := result_of(r, name)) is not None]
        protocol, _ = Counter(result.protocol for _, result in found).most_common(1)[0]
        kept = next(result for _, result in found if result.protocol == protocol)
        columns.append(Column(name, kept.better, kept.unit, protocol, kept.n, kept.interval))
        for subject, result in found:
            if result.protocol != protocol:
                refused.append(f"{name} of {subject} is not comparable: {_differs(result.terms, kept.terms)}")
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


def _candidates(records: Sequence[RunRecord]) -> list[RunRecord]:
    return [r for r in records if r.subject.role == "candidate"]


def _sign(column: Column) -> float:
    return 1.0 if column.better == "lower" else -1.0


def _best(column: Column, records: Sequence[RunRecord]) -> str | None:
    found = [
        (_sign(column) * result.value, r.subject.name)
        for r in _candidates(records)
        if (result := result_of(r, column.name, column.protocol)) is not None
    ]
    return min(found)[1] if len(found) > 1 else None


def _ties(column: Column, best: str | None, records: Sequence[RunRecord]) -> tuple[str, ...]:
    winner = next((r for r in records if r.subject.name == best), None)
    top = None if winner is None else result_of(winner, column.name, column.protocol)
    if top is None:
        return ()
    tied = []
    for record in _candidates(records):
        own = result_of(record, column.name, column.protocol)
        if own is not None and record is not winner:
            _, low, high = difference(own, top)
            if low <= 0 <= high:
                tied.append(record.subject.name)
    return tuple(tied)


def _cell(column: Column, record: RunRecord, best: str | None, ties: tuple[str, ...]) -> Cell:
    result = result_of(record, column.name, column.protocol)
    if result is None:
        return Cell(None, why=_why(column, record))
    name = record.subject.name
    return Cell(result.value, result.low, result.high, best=name == best, tied=name in ties)


def _why(column: Column, record: RunRecord) -> str:
    if result_of(record, column.name) is not None:
        return "not comparable: another protocol (see below)"
    stem = column.name.split(".")[0]
    for warning in record.warnings:
        for words in (" is missing: ", " does not apply: "):
            if warning.startswith((f"{stem}{words}", f"{column.name}{words}")):
                return warning.split(words, 1)[1]
    return "not measured for this subject"


def _deltas(column: Column, best: str, records: Sequence[RunRecord]) -> dict[str, Cell]:
    """Each subject's distance from the best one, with its interval."""
    top = next(
        result for r in records if r.subject.name == best and (result := result_of(r, column.name, column.protocol))
    )
    deltas = {}
    for record in records:
        own = result_of(record, column.name, column.protocol)
        if own is not None and record.subject.name != best:
            deltas[record.subject.name] = Cell(*difference(own, top))
    return deltas


def _ranked(records: Sequence[RunRecord], columns: Sequence[Column]) -> list[RunRecord]:
    """Ceilings first, candidates by the first column, floors last: the frame in which the candidates are read."""
    order = {"ceiling": 0, "candidate": 1, "saboteur": 2, "floor": 3}
    lead = columns[0] if columns else None

    def key(record: RunRecord) -> tuple[int, float]:
        result = None if lead is None else result_of(record, lead.name, lead.protocol)
        value = math.inf if result is None or lead is None else _sign(lead) * result.value
        return order[record.subject.role], value

    return sorted(records, key=key)


def _verdict(
    columns: Sequence[Column],
    records: Sequence[RunRecord],
    best: Mapping[str, str],
    ties: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """The board in words: who leads, by how much, how sure, and whether floor and ceiling stand where they must."""
    lines = []
    # Numbers of single groups would count a metric once more for every class.
    whole = [c for c in columns if ".group=" not in c.name]
    quality = [c for c in whole if not _is_cost(c)]
    if quality and quality[0].name in best:
        lines.append(_lead(quality[0], records, best, ties))
        if told := _told(columns, records, (best[quality[0].name], *ties.get(quality[0].name, ()))):
            lines.append(told)
    frame, doubtful = _frame(quality, records)
    sound = [c for c in quality if c.name in best and c.name not in doubtful]
    wins = Counter(best[c.name] for c in sound if not ties.get(c.name))
    if wins:
        listed = ", ".join(f"{name} {count}" for name, count in wins.most_common())
        open_ = len(sound) - sum(wins.values())
        lines.append(
            f"Clear first places over {sum(wins.values()) + open_} quality numbers: {listed}; {open_} open (ties)."
        )
    lines += frame
    lines += _caught(whole, records)
    speed = next((c for c in columns if c.name == "throughput" and c.name in best), None)
    if speed is not None:
        result = _result_named(records, best[speed.name], speed)
        if result is not None:
            lines.append(f"Fastest: {best[speed.name]}, {result.value:,.0f} samples per second.")
    return tuple(lines)


def _is_cost(column: Column) -> bool:
    return column.name.split("@")[0].split(".")[0] in ("throughput", "latency", "energy", "flops")


def _told(columns: Sequence[Column], records: Sequence[RunRecord], names: Sequence[str]) -> str:
    """How surely the leaders are told from real data all the same, by whichever test tells them best."""
    tests = [c for c in columns if c.name.startswith("auroc@") or (c.name.startswith("c2st@") and "auroc" in c.name)]
    said = []
    for name in names:
        found = [(x.value, c.name) for c in tests if (x := _result_named(records, name, c)) is not None and x.low > 0.5]
        if found:
            value, column = max(found)
            said.append(f"{name} by {column} (AUROC {value:.2f})")
    return f"Still told from real data: {', '.join(said)}." if said else ""


def _frame(quality: Sequence[Column], records: Sequence[RunRecord]) -> tuple[list[str], set[str]]:
    """What the ceiling and the floors say about the metrics, in words, and the columns that they put in doubt.

    Real data should not be beaten, and floors should not win.
    """
    ceiling = next((r for r in records if r.subject.role == "ceiling"), None)
    floors = [r for r in records if r.subject.role == "floor"]
    beaten: list[str] = []
    overtaken: list[str] = []
    for column in quality:
        own = None if ceiling is None else result_of(ceiling, column.name, column.protocol)
        found = [(r, result_of(r, column.name, column.protocol)) for r in _candidates(records)]
        above = [r.subject.name for r, x in found if x is not None and own is not None and _is_ahead(column, x, own)]
        if above:
            beaten.append(f"{column.name} ({', '.join(above)})")
        for floor in floors:
            low = result_of(floor, column.name, column.protocol)
            if any(x is not None and low is not None and _is_ahead(column, low, x) for _, x in found):
                overtaken.append(f"{column.name} ({floor.subject.name})")
    lines = []
    if beaten:
        lines.append(f"Scored better than held-back real data, so more is not better there: {'; '.join(beaten)}.")
    if overtaken:
        lines.append(f"A floor is ahead of a candidate, so these alone do not measure quality: {'; '.join(overtaken)}.")
    return lines, {entry.split(" (")[0] for entry in (*beaten, *overtaken)}


def _caught(columns: Sequence[Column], records: Sequence[RunRecord]) -> list[str]:
    """Which numbers tell each saboteur from real data, in words."""
    ceiling = next((r for r in records if r.subject.role == "ceiling"), None)
    lines = []
    for record in (r for r in records if r.subject.role == "saboteur"):
        if ceiling is None:
            name = record.subject.name
            lines.append(f"{name} is broken on purpose; beside held-back real data the board says what catches it.")
            continue
        pairs = [(c, result_of(ceiling, c.name, c.protocol), result_of(record, c.name, c.protocol)) for c in columns]
        both = [(c, a, b) for c, a, b in pairs if a is not None and b is not None and not _is_cost(c)]
        found = [c.name for c, a, b in both if _is_ahead(c, a, b)]
        said = f"is caught by {', '.join(found)}" if found else "is caught by none of these numbers"
        missed = [c.name for c, a, b in both if not _is_ahead(c, a, b)]
        rest = f"; not by {', '.join(missed)}" if found and missed else ""
        lines.append(f"{record.subject.name} {said}{rest}.")
    return lines


def _is_ahead(column: Column, a: MetricResult, b: MetricResult) -> bool:
    """Whether a is better than b by more than the interval of the difference."""
    _, low, high = difference(a, b)
    return high < 0 if column.better == "lower" else low > 0


def _lead(
    column: Column, records: Sequence[RunRecord], best: Mapping[str, str], ties: Mapping[str, tuple[str, ...]]
) -> str:
    name = best[column.name]
    top = _result_named(records, name, column)
    assert top is not None
    said = f"{name} leads on {column.name}: {top.value:.3g} [{top.low:.3g}, {top.high:.3g}]"
    if tied := ties.get(column.name):
        return f"{said}, not clearly ahead of {', '.join(tied)} (the interval of the difference includes zero)."
    others = [
        (abs(result.value - top.value), r.subject.name, result)
        for r in _candidates(records)
        if r.subject.name != name and (result := result_of(r, column.name, column.protocol)) is not None
    ]
    _, second, result = min(others, key=lambda entry: entry[0])
    gap, low, high = (abs(v) for v in difference(result, top))
    return f"{said}, ahead of {second} by {gap:.3g} [{min(low, high):.3g}, {max(low, high):.3g}]."


def _result_named(records: Sequence[RunRecord], name: str, column: Column) -> MetricResult | None:
    record = next(r for r in records if r.subject.name == name)
    return result_of(record, column.name, column.protocol)
