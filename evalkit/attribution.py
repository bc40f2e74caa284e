"""What each sample adds to a number, shown: the samples that cost most, and what each group of them costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .comparison import result_of
from .types import Better, Pair, Pairs, RunRecord, Share, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from .subjects import Scored
    from .types import Picture, Sample

SHOWN = 7
LISTED = 5
MOST_GROUPS = 30


def worst_first(shares: Sequence[Share], better: Better) -> list[Share]:
    """The samples of a metric, those that harm it most first; equal ones in the order of their ids."""
    sign = 1 if better == "higher" else -1
    return sorted(shares, key=lambda share: (sign * share.value, share.id))


def has_worst(shares: Sequence[Share], better: Better) -> bool:
    """Whether some samples stand out: not where more are worst alike than would be shown, as of a share of 0 or 1."""
    ranked = worst_first(shares, better)
    return len(ranked) <= SHOWN or ranked[0].value != ranked[SHOWN].value


def attribution_exhibits(
    scored: Sequence[Scored], show: Callable[[Sample, str], Picture | str]
) -> Iterator[Pairs | Table]:
    """For each number with an attribution: the samples that harm it most, and its groups."""
    names = dict.fromkeys(name for s in scored for name in s.record.attribution or ())
    for name in names:
        lines = []
        for s in scored:
            shares = (s.record.attribution or {}).get(name)
            result = result_of(s.record, name)
            if shares is None or result is None or not has_worst(shares, result.better):
                continue
            samples = {sample.id: sample for sample in s.sides.fake.samples}
            pairs = tuple(
                Pair(show(samples[share.id], s.entrant.name), None, _says(share, samples[share.id].condition))
                for share in worst_first(shares, result.better)[:SHOWN]
            )
            lines.append((s.entrant.name, pairs))
        rule = (
            f"The {SHOWN} samples of each subject that harm {name} most, with what each one adds: of a distance, its"
            " influence (how fast the distance would grow with more of its like); of a mean, its own score."
        )
        if lines:
            yield Pairs(f"What harms {name}", rule, tuple(lines))
        table = _groups(name, [s.record for s in scored])
        if table is not None:
            yield table


def _says(share: Share, condition: str | None) -> str:
    group = f", {share.group}" if share.group else ""
    prompt = f": {condition[:60]}" if condition else ""
    return f"{share.value:+.3g}{group}{prompt}"


def _groups(name: str, records: Sequence[RunRecord]) -> Table | None:
    """Mean share of each group, a column a subject; None when the samples have no groups."""
    columns: list[dict[str, list[float]]] = []
    for record in records:
        found = defaultdict(list)
        for share in (record.attribution or {}).get(name, ()):
            if share.group is not None:
                found[share.group].append(share.value)
        columns.append(found)
    groups = sorted({group for column in columns for group in column})
    if len(groups) < 2:
        return None
    result = next(r for record in records if (r := result_of(record, name)) is not None)
    sign = -1 if result.better == "lower" else 1

    def cost(group: str) -> float:
        means = [sum(column[group]) / len(column[group]) for column in columns if column.get(group)]
        return sign * sum(means) / len(means)

    shown = sorted(groups, key=cost)[:MOST_GROUPS]
    rows = [(group, *(_mean(column.get(group)) for column in columns)) for group in shown]
    cut = "" if len(groups) <= MOST_GROUPS else f" The {MOST_GROUPS} costliest of {len(groups)} groups."
    note = f"Mean of what the samples of a group add to {name}, with their number; the costliest group first.{cut}"
    return Table(f"{name} by group", note, ("group", *(r.subject.name for r in records)), tuple(rows))


def _mean(values: list[float] | None) -> str:
    return f"{sum(values) / len(values):+.3g} (n = {len(values)})" if values else "–"


def attribution_lines(record: RunRecord) -> Iterator[str]:
    """For the terminal: the worst samples of each number of one record."""
    for name, shares in (record.attribution or {}).items():
        result = result_of(record, name)
        better = "lower" if result is None else result.better
        if not has_worst(shares, better):
            worst = worst_first(shares, better)[0].value
            alike = sum(share.value == worst for share in shares)
            yield f"{record.subject.name}: {alike} of {len(shares)} samples are worst alike for {name} (see the record)"
            continue
        yield f"{record.subject.name}: samples that harm {name} most (all are in the record)"
        for share in worst_first(shares, better)[:LISTED]:
            group = f"  {share.group}" if share.group else ""
            yield f"  {share.value:+10.4g}  {share.id}{group}"
