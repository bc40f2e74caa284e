"""How often the alarm of the agreement panel rings: when all instruments agree up to noise, and when one is gamed.

    python -m benchmarks.ranks_agreement

Simulated boards of six candidates under four instruments of the same true order, standard error 1. The numbers of one
candidate under different instruments are correlated by 0.5, because the same samples were measured; half of every
number's variance comes from the shared real samples. Gamed: the worst candidate is made so many standard errors better
than the best one under one instrument only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evalkit.columns import columns_of
from evalkit.concordance import alarm
from evalkit.differences import lineup
from evalkit.standings import ranking
from evalkit.types import RunRecord

from .ranks import records_of

BOARDS = 300
CANDIDATES = 6
INSTRUMENTS = ("inception", "dinov2", "clip", "convnext")
SHARED = 0.5
BETWEEN = 0.5
# Standard errors between neighbours in the true order; by how much the worst is made better than the best (0: not).
CASES = ((0.0, 0.0), (0.5, 0.0), (1.5, 0.0), (4.0, 0.0), (4.0, 2.0), (4.0, 4.0), (4.0, 6.0), (1.5, 6.0), (0.5, 6.0))


def board(apart: float, gamed: float, rng: np.random.Generator) -> list[RunRecord]:
    """The records of one simulated board; the last candidate is the gamed one, under the first instrument."""
    truth = apart * np.arange(CANDIDATES)
    own = np.sqrt(BETWEEN) * rng.standard_normal(CANDIDATES)
    columns = []
    for instrument in INSTRUMENTS:
        moved = truth.copy()
        if gamed and instrument == INSTRUMENTS[0]:
            moved[-1] = -gamed
        each = own + np.sqrt(1 - BETWEEN) * rng.standard_normal(CANDIDATES)
        values = moved + np.sqrt(SHARED) * rng.standard_normal() + np.sqrt(1 - SHARED) * each
        columns.append(records_of(values.tolist(), SHARED, f"fid@{instrument}"))
    return [replace(found[0], results=tuple(f.results[0] for f in found)) for found in zip(*columns, strict=True)]


def rings(records: list[RunRecord]) -> tuple[str, ...]:
    """What the alarm says of a board."""
    columns, _ = columns_of(records)
    lineups = {c.name: lineup(c, records) for c in columns}
    rankings = {name: found for name, own in lineups.items() if (found := ranking(own)) is not None}
    return alarm(columns, lineups, rankings)


def main() -> None:
    """Simulate and print."""
    print("| neighbours apart | gamed beyond the best by | alarm rings % | names the gamed instrument % |")
    print("|---|---|---|---|")
    for apart, gamed in CASES:
        rng = np.random.default_rng(0)
        found = [rings(board(apart, gamed, rng)) for _ in range(BOARDS)]
        rung = 100 * np.mean([bool(f) for f in found])
        named = 100 * np.mean([any(x.startswith(f"fid@{INSTRUMENTS[0]} ") for x in f) for f in found])
        said = f"{named:.1f}" if gamed else "–"
        print(f"| {apart:g} | {f'{gamed:g}' if gamed else '–'} | {rung:.1f} | {said} |", flush=True)


if __name__ == "__main__":
    main()
