"""Whether the instruments of a board agree: the ranks each gives the candidates, and how alike the orders are.

A generator can be tuned to one network's statistics: its FID under that network falls, and nothing a person sees gets
better. Other networks do not follow. So the panel sets the ranks side by side, with Kendall's tau-b between the orders
of every two columns, and an alarm names an instrument that contradicts all the others beyond chance: the candidate
that it puts surely first, by the ranks' simultaneous confidence sets, is surely beaten under every other one. Columns
of one network count once, by the first distance or test among them; numbers that are not of distance from the real data
(diversity, memorization) may disagree with it for good reasons and raise no alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .columns import instrument_of, quality_columns, shown, sign
from .differences import Lineup
from .standings import Ranking
from .types import Cell, Column, Exhibit, Matrix, Standing, Table

# Metrics that say how far generated samples lie from real ones.
DISTANCES = ("fid", "sfid", "kid", "cmmd", "mind", "mifid", "mauve", "c2st", "auroc", "perplexity", "bits_per_byte")
FEWEST = 3
MOST_ROWS = 50
MOST_COLUMNS = 24

Rankings = Mapping[str, Ranking]


def panel(columns: Sequence[Column], lineups: Mapping[str, Lineup], rankings: Rankings) -> tuple[Exhibit, ...]:
    """The ranks under each quality column side by side, and tau-b between the columns.

    Nothing with one column, or with fewer than three candidates, whose order says little.
    """
    chosen = [c for c in quality_columns(columns) if c.name in rankings and len(rankings[c.name].standings) >= FEWEST]
    if len(chosen) < 2:
        return ()
    return _ranks(chosen, rankings), _orders(chosen[:MOST_COLUMNS], lineups, len(chosen))


def _ranks(columns: Sequence[Column], rankings: Rankings) -> Table:
    names = list(dict.fromkeys(n for c in columns for n in rankings[c.name].standings))
    rows = tuple((name, *(_standing(rankings[c.name].standings.get(name)) for c in columns)) for name in names)
    note = (
        "The ranks a candidate may have, 1 = best, for all candidates of a column at once with 95 % confidence;"
        " letters: two candidates that share one are not told apart. A dash: not measured."
    )
    if len(rows) > MOST_ROWS:
        note += f" The first {MOST_ROWS} of {len(rows):,} candidates by {columns[0].name}."
    return Table("Ranks by instrument", note, ("candidate", *(c.name for c in columns)), rows[:MOST_ROWS])


def _standing(own: Standing | None) -> str:
    return "–" if own is None else f"{ranks(own)} {own.letters}".rstrip()


def ranks(own: Standing) -> str:
    """The range of ranks: "2" or "2–4"."""
    return f"{own.best}" if own.best == own.worst else f"{own.best}–{own.worst}"


def _orders(columns: Sequence[Column], lineups: Mapping[str, Lineup], count: int) -> Matrix:
    cells: list[list[Cell]] = [[Cell(1.0)] * len(columns) for _ in columns]
    for i, a in enumerate(columns):
        for j, b in enumerate(columns[:i]):
            cells[i][j] = cells[j][i] = agreement(lineups[a.name], lineups[b.name])
    note = (
        "Kendall's tau-b of the candidates' values: 1 the same order, 0 unrelated, -1 the opposite; every column is"
        " turned so that better comes first. Of few candidates it jumps: chance alone reaches far from 0."
    )
    if count > len(columns):
        note += f" The first {len(columns)} of {count} columns."
    names = tuple(c.name for c in columns)
    title = "Agreement of the orders"
    return Matrix(title, note, "column", "column", names, names, tuple(map(tuple, cells)), neutral=1.0, extreme=-1.0)


def agreement(a: Lineup, b: Lineup) -> Cell:
    """Kendall's tau-b, -1..1, of the candidates that have a number in both columns; 1 = the same order.

    Kendall 1945, "The treatment of ties in ranking problems".
    """
    from scipy.stats import kendalltau

    both = [n for n in (a.names[i] for i in a.candidates()) if n in b.places and b.roles[b.places[n]] == "candidate"]
    if len(both) < FEWEST:
        return Cell(None, why=f"{len(both)} candidates have both numbers")
    first, second = ([sign(x.column) * float(x.values[x.places[n]]) for n in both] for x in (a, b))
    if len(set(first)) == 1 or len(set(second)) == 1:
        return Cell(None, why="all candidates have the same number")
    return Cell(round(float(kendalltau(first, second).statistic), 12))


def alarm(columns: Sequence[Column], lineups: Mapping[str, Lineup], rankings: Rankings) -> tuple[str, ...]:
    """A sentence where one instrument contradicts all the others beyond chance, and where two contradict each other."""
    leads = leading(columns, lineups, rankings)
    found = []
    for instrument, own in leads.items():
        others = [r for name, r in leads.items() if name != instrument]
        if own.standings[own.best].worst > 1 or not others:
            continue
        against = [r.standings.get(own.best) for r in others]
        if all(s is not None and s.best > 1 for s in against):
            found.append((own, others))
    if len(leads) > 2:
        return tuple(
            f"{own.lineup.column.name} contradicts all other instruments: it puts {shown(own.best)} surely first,"
            f" which is surely beaten on {', '.join(r.lineup.column.name for r in others)}. That is typical of a"
            f" generator tuned to one network: do not rank {shown(own.best)} by it."
            for own, others in found
        )
    if len(found) == 2:
        names = " and ".join(own.lineup.column.name for own, _ in found)
        return (
            f"{names} contradict each other on who is first; a third instrument could tell which is to be doubted.",
        )
    return ()


def leading(columns: Sequence[Column], lineups: Mapping[str, Lineup], rankings: Rankings) -> dict[str, Ranking]:
    """Instrument -> the ranking of its first distance or test; variants of one network are one instrument."""
    found: dict[str, Ranking] = {}
    for column in quality_columns(columns):
        metric, at, _ = column.name.partition("@")
        if at and metric in DISTANCES and column.name in rankings:
            network = instrument_of(lineups[column.name].results[0]).partition(":")[0]
            found.setdefault(network, rankings[column.name])
    return found
