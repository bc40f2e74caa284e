"""Quality against what a sample costs: speed, latency and energy, and the candidates that no other beats in all.

A candidate is off the front where another is at least as cheap in everything that is drawn and told apart from it in
quality (the simultaneous decisions of `standings`). One that is behind in every measured number, but whose quality is
not told apart from the other's, stays on the front: it may well be the better one. Costs are taken as measured; floors
and ceilings are drawn and never on the front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .columns import listed, quality_columns, result_of
from .standings import Ranking
from .types import Column, Point, RunRecord, Scatter

# Path in a record's timing, words, whether more is better.
AXES = (
    ("samples_per_second", "samples per second", True),
    ("latency_ms.p50", "median latency", False),
    ("joules_per_sample", "energy", False),
)
DRAWN = (
    ("samples_per_second", "Quality against speed", "samples per second"),
    ("joules_per_sample", "Quality against energy", "joules per sample"),
)
# A plane of more points shows none of them.
MOST_POINTS = 200

Rankings = Mapping[str, Ranking]


def timed(timing: Mapping[str, Any] | None, path: str) -> float | None:
    """The number under "a.b" of a record's timing, None where it is not known."""
    found: Any = timing
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def fronts(
    columns: Sequence[Column], records: Sequence[RunRecord], rankings: Rankings
) -> tuple[tuple[Scatter, ...], tuple[str, ...]]:
    """The planes of the first quality column against speed and energy, and who is on the front, in words."""
    quality = quality_columns(columns)
    if not quality or ".group=" in quality[0].name:
        return (), ()
    column, own = quality[0], rankings.get(quality[0].name)
    shown = [
        r for r in records if r.subject.role != "ceiling" and result_of(r, column.name, column.protocol) is not None
    ]
    devices = {r.timing.get("device") for r in shown if r.timing}
    planes = [s for path, title, label in DRAWN if (s := _plane(column, shown, own, path, title, label, devices))]
    return tuple(planes), _said(column, shown, own) if len(devices) == 1 else ()


def _plane(
    column: Column,
    records: Sequence[RunRecord],
    own: Ranking | None,
    path: str,
    title: str,
    label: str,
    devices: set[Any],
) -> Scatter | None:
    points, costs = [], {}
    for record in records:
        result, x = result_of(record, column.name, column.protocol), timed(record.timing, path)
        if result is None or x is None:
            continue
        points.append(Point(record.subject.name, x, result.value, result.low, result.high, record.subject.role))
        if record.subject.role == "candidate":
            costs[record.subject.name] = (-x if path == "samples_per_second" else x,)
    if not 2 <= len(points) <= MOST_POINTS:
        return None
    alike = len(devices) == 1
    front, kept = front_of(costs, own) if own is not None and alike else ([], [])
    arrow = "lower is better" if column.better == "lower" else "higher is better"
    where = f"on {next(iter(devices))}" if alike else "on several devices, so there is no front"
    note = f"{column.name} ({arrow}) against {label} {where}; bars are 95 % intervals."
    if front:
        note += " The front joins the candidates that no other beats in both."
    if kept:
        note += f" Kept on it, because the quality is not told apart from a cheaper one's: {listed(kept)}."
    places = {p.name: p.x for p in points}
    values = [p.y for p in points]
    wide = min(values) > 0 and max(values) / min(values) > 20
    ordered = tuple(sorted(front, key=lambda name: (places[name], name)))
    return Scatter(title, note, label, column.name, tuple(points), min(places.values()) > 0, wide, ordered)


def front_of(costs: Mapping[str, tuple[float, ...]], own: Ranking) -> tuple[list[str], list[str]]:
    """Names on the front of quality and costs (lower is better), and those of them kept only because of the doubt.

    Names without a number in the ranking's column are left out.
    """
    line, lower = own.lineup, own.lineup.column.better == "lower"
    value = {n: float(line.values[line.places[n]]) * (1 if lower else -1) for n in costs if n in own.standings}
    front, kept = [], []
    for name in value:
        ahead = [
            other
            for other in value
            if other != name
            and value[other] <= value[name]
            and all(a <= b for a, b in zip(costs[other], costs[name], strict=True))
            and (value[other], *costs[other]) != (value[name], *costs[name])
        ]
        if any(own.surely_better(other, name) for other in ahead):
            continue
        front.append(name)
        if ahead:
            kept.append(name)
    return front, kept


def _said(column: Column, records: Sequence[RunRecord], own: Ranking | None) -> tuple[str, ...]:
    """Who is on the front of quality and every cost that all candidates know."""
    candidates = [r for r in records if r.subject.role == "candidate"]
    if own is None or not 2 <= len(candidates) <= MOST_POINTS:
        return ()
    known = [a for a in AXES if all(timed(r.timing, a[0]) is not None for r in candidates)]
    costs = {
        r.subject.name: tuple((timed(r.timing, path) or 0.0) * (-1 if more else 1) for path, _, more in known)
        for r in candidates
    }
    if not known:
        return ()
    front, kept = front_of(costs, own)
    axes = [column.name, *(words for _, words, _ in known)]
    doubt = f" Behind in every number but not told apart in quality: {listed(kept)}." if kept else ""
    off = [name for name in costs if name not in front]
    rest = f"; surely beaten in all of them: {listed(off)}" if off else ""
    return (f"On the front of {', '.join(axes[:-1])} and {axes[-1]}: {listed(front)}{rest}.{doubt}",)
