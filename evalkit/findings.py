"""A board in words: who leads, by how much, how sure; what the baseline, the floors and the ceiling say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .columns import is_cost, listed, quality_columns, shown, sign
from .differences import ADJUSTMENTS, MOST_IN_PAIRS, MOST_TIMES, Lineup, difference
from .standings import MOST_DRAWN, Ranking
from .types import Column, Difference, MetricResult

Lineups = Mapping[str, Lineup]
Rankings = Mapping[str, Ranking]
# Candidates that are set beside the baseline one by one in words.
MOST_AGAINST = 6


def verdict(
    columns: Sequence[Column],
    lineups: Lineups,
    rankings: Rankings,
    differences: Mapping[str, Sequence[Difference]],
    baseline: str | None,
    adjustment: str,
) -> tuple[str, ...]:
    """The sentences, the most important ones first."""
    lines = []
    whole = [c for c in columns if ".group=" not in c.name]
    quality = quality_columns(columns)
    lead = rankings.get(quality[0].name) if quality else None
    if lead is not None:
        lines.append(_lead(lead, differences.get(quality[0].name, ())))
        if told := _told(columns, lineups, (lead.best, *lead.tied)):
            lines.append(told)
    lines += _against(whole, differences, baseline)
    frame, doubtful = _frame(quality, lineups)
    sound = [rankings[c.name] for c in quality if c.name in rankings and c.name not in doubtful]
    wins = Counter(r.best for r in sound if not r.tied)
    if wins:
        said = ", ".join(f"{shown(name)} {count}" for name, count in wins.most_common())
        open_ = len(sound) - sum(wins.values())
        lines.append(
            f"Clear first places over {sum(wins.values()) + open_} quality numbers: {said}; {open_} open (ties)."
        )
    lines += frame
    lines += _caught(whole, lineups)
    speed = rankings.get("throughput")
    if speed is not None:
        value = speed.lineup.values[speed.lineup.places[speed.best]]
        lines.append(f"Fastest: {shown(speed.best)}, {value:,.0f} samples per second.")
    lines += _family(lineups, differences, adjustment)
    return tuple(lines)


def _lead(lead: Ranking, differences: Sequence[Difference]) -> str:
    """Who leads, who is tied with it, and how many samples would settle that."""
    own, column = lead.lineup, lead.lineup.column
    top = own.results[own.places[lead.best]]
    said = f"{shown(lead.best)} leads on {column.name}: {top.value:.3g} [{top.low:.3g}, {top.high:.3g}]"
    if lead.tied:
        every = "" if len(own.candidates()) == 2 else ", all pairs of candidates at once"
        tie = f"{said}, not told apart from {listed(lead.tied)} (at 95 %{every})."
        return f"{tie}{_settled(lead, differences)}"
    behind = [i for i in own.candidates() if own.names[i] != lead.best]
    second = min(behind, key=lambda i: (abs(own.values[i] - top.value), own.names[i]))
    gap, low, high = (abs(v) for v in difference(own.results[second], top))
    return f"{said}, ahead of {shown(own.names[second])} by {gap:.3g} [{min(low, high):.3g}, {max(low, high):.3g}]."


def _settled(lead: Ranking, differences: Sequence[Difference]) -> str:
    """What it would take to tell the best from the one that is nearest to it."""
    found = {(d.one, d.other): d for d in differences}
    for name in lead.tied[:1]:
        d = found.get((name, lead.best)) or found.get((lead.best, name))
        if d is None or d.verdict != "inconclusive":
            return ""
        if d.settles_at is not None:
            return f" About {d.settles_at:,} samples a side would settle {shown(name)} with 80 % power."
        if d.value != 0:
            return f" Not even {MOST_TIMES} times the samples would settle {shown(name)} with 80 % power."
    return ""


def _told(columns: Sequence[Column], lineups: Lineups, names: Sequence[str]) -> str:
    """How surely the leaders are told from real data all the same, by whichever test tells them best."""
    tests = [c for c in columns if c.name.startswith("auroc@") or (c.name.startswith("c2st@") and "auroc" in c.name)]
    said = []
    for name in names[:MOST_AGAINST]:
        results = [(x, c.name) for c in tests if (x := _result(lineups[c.name], name)) is not None]
        found = [(x.value, column) for x, column in results if x.low > 0.5]
        if found:
            value, column = max(found)
            said.append(f"{shown(name)} by {column} (AUROC {value:.2f})")
    return f"Still told from real data: {', '.join(said)}." if said else ""


def _result(lineup: Lineup, name: str) -> MetricResult | None:
    place = lineup.places.get(name)
    return None if place is None else lineup.results[place]


def _against(
    columns: Sequence[Column], differences: Mapping[str, Sequence[Difference]], baseline: str | None
) -> list[str]:
    """Where each candidate is better, worse or not told apart from the baseline, by the adjusted p-values."""
    if baseline is None:
        return []
    found: dict[str, dict[str, list[str]]] = {}
    for column in columns:
        for d in differences.get(column.name, ()):
            if d.other == baseline:
                settles = f" (about {d.settles_at:,} samples a side would settle it)" if d.settles_at else ""
                sorts = found.setdefault(d.one, {"better": [], "worse": [], "inconclusive": []})
                sorts[d.verdict].append(column.name + settles)
    lines = []
    for name in list(found)[:MOST_AGAINST]:
        parts = [f"{sort} on {', '.join(names)}" for sort, names in found[name].items() if names]
        lines.append(f"{shown(name)} against {shown(baseline)}: {'; '.join(parts)}.")
    if len(found) > MOST_AGAINST:
        lines.append(f"{len(found) - MOST_AGAINST:,} more subjects stand against the baseline in the differences.")
    return lines


def _frame(quality: Sequence[Column], lineups: Lineups) -> tuple[list[str], set[str]]:
    """What the ceiling and the floors say about the metrics, in words, and the columns that they put in doubt.

    Real data should not be beaten, and floors should not win.
    """
    beaten: list[tuple[str, list[str]]] = []
    overtaken: list[tuple[str, list[str]]] = []
    for column in quality:
        own = lineups[column.name]
        candidates = {own.names[i] for i in own.candidates()}
        ceiling = next((i for i, role in enumerate(own.roles) if role == "ceiling"), None)
        if ceiling is not None and (above := [n for n in own.ahead_of(ceiling) if n in candidates]):
            beaten.append((column.name, above))
        for place in (i for i, role in enumerate(own.roles) if role == "floor"):
            if _is_ahead_of_any(own, place, candidates):
                overtaken.append((column.name, [own.names[place]]))
    lines = []
    if beaten:
        said = "; ".join(f"{column} ({listed(names)})" for column, names in beaten)
        lines.append(f"Scored better than held-back real data, so more is not better there: {said}.")
    if overtaken:
        said = "; ".join(f"{column} ({listed(names)})" for column, names in overtaken)
        lines.append(f"A floor is ahead of a candidate, so these alone do not measure quality: {said}.")
    return lines, {column for column, _ in (*beaten, *overtaken)}


def _is_ahead_of_any(own: Lineup, place: int, candidates: set[str]) -> bool:
    """Whether the number in `place` is better than a candidate's by more than the interval of the difference."""
    lower = own.column.better == "lower"
    return any(
        name in candidates and (low > 0 if lower else high < 0)
        for name, (_, low, high) in zip(own.names, own.over(place), strict=True)
    )


def _caught(columns: Sequence[Column], lineups: Lineups) -> list[str]:
    """Which numbers tell each saboteur from real data, in words."""
    roles = {n: r for x in lineups.values() for n, r in zip(x.names, x.roles, strict=True)}
    ceiling = next((n for n, role in roles.items() if role == "ceiling"), None)
    lines = []
    for name in (n for n, role in roles.items() if role == "saboteur"):
        if ceiling is None:
            lines.append(f"{name} is broken on purpose; beside held-back real data the board says what catches it.")
            continue
        both = [c for c in columns if not is_cost(c) and {name, ceiling} <= lineups[c.name].places.keys()]
        found: list[str] = []
        missed: list[str] = []
        for column in both:
            own = lineups[column.name]
            _, low, high = difference(own.results[own.places[name]], own.results[own.places[ceiling]])
            worse = low > 0 if sign(column) > 0 else high < 0
            (found if worse else missed).append(column.name)
        said = f"is caught by {', '.join(found)}" if found else "is caught by none of these numbers"
        rest = f"; not by {', '.join(missed)}" if found and missed else ""
        lines.append(f"{name} {said}{rest}.")
    return lines


def _family(lineups: Lineups, differences: Mapping[str, Sequence[Difference]], adjustment: str) -> list[str]:
    """Which p-values are adjusted together, and what a large board leaves out."""
    count = sum(map(len, differences.values()))
    subjects = max((len(x.names) for x in lineups.values()), default=0)
    lines = []
    if count > 1:
        how = ADJUSTMENTS[adjustment]
        word = f"adjusted together ({how})" if adjustment != "none" else how
        lines.append(f"The p-values of all {count:,} differences in {len(differences)} columns are {word}.")
    if subjects > MOST_IN_PAIRS:
        lines.append(f"With {subjects:,} subjects only the differences from the best and the baseline are looked at.")
    if max((len(x.candidates()) for x in lineups.values()), default=0) > MOST_DRAWN:
        lines.append(f"Ranks of more than {MOST_DRAWN} candidates are bounded by Bonferroni and have no letters.")
    return lines
