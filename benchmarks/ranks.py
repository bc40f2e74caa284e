"""Rank ranges and letters: are all true ranks inside, is nobody told apart who is equal, and how wide are the ranges.

    python -m benchmarks.ranks

Simulated columns of candidates with known true values. Every number has the same standard error; `shared` of its
variance comes from the real samples that all are measured against, which the records say through their moves. Three
rules on the same draws: the board's (all pairs at once, with the correlation), the overlap of the single 95 %
intervals, and each pair alone at 95 % (with the correlation). "Covered": every candidate's true rank inside its range,
all at once; equal candidates have all ranks of their group. "Falsely apart": two equal candidates share no letter.
"Ranks": how many ranks a range holds on average; 1 is the least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evalkit.differences import QUANTILE, lineup
from evalkit.standings import ranking, share_a_letter
from evalkit.types import Column, MetricResult, Moves, Reference, RunRecord, Subject

COLUMNS = {5: 400, 20: 150}
COUNTS = tuple(COLUMNS)
SHARED = (0.0, 0.5, 0.9)
# How far true values lie apart, in standard errors of one number. "pairs equal": two and two alike.
TRUTHS: dict[str, Callable[[int], Any]] = {
    "1.5 apart": lambda count: 1.5 * np.arange(count),
    "pairs equal, 4 apart": lambda count: 4.0 * (np.arange(count) // 2),
    "all equal": lambda count: np.zeros(count),
}
# Any profile will do: all candidates are moved alike by the shared samples.
PARTS = (700, -400, 999, -300, -850, 120, 431, -700)
COLUMN = Column("fid@simulated", "lower", "squared feature distance", "sha256:p", {"fake": 1000, "real": 1000}, "delta")


def records_of(values: Sequence[float], shared: float, name: str = COLUMN.name) -> list[RunRecord]:
    """Records of one result each, of standard error 1, whose real side makes up `shared` of the variance."""
    moves = {"real": Moves("real:r:8", shared, PARTS)} if shared else {}
    found = []
    for i, value in enumerate(values):
        value = float(value)
        result = MetricResult(
            name, value, value - QUANTILE, value + QUANTILE, 0.95, "delta", "lower", COLUMN.unit, COLUMN.n, 1,
            COLUMN.protocol, {}, 0.0, moves,
        )  # fmt: skip
        subject = Subject(f"m{i:02}", "image", "simulated", 1000, "sha256:s")
        found.append(RunRecord(subject, Reference("r", 1000, "sha256:r"), None, 0, (result,), None, {}))
    return found


def true_ranks(truth: Any) -> tuple[Any, Any]:
    """The first and last rank of each candidate's group of equals."""
    better, worse = truth[None, :] < truth[:, None], truth[None, :] > truth[:, None]
    return 1 + better.sum(1), len(truth) - worse.sum(1)


def ranges(told: Any, values: Any) -> tuple[Any, Any]:
    """Rank ranges from who is told apart from whom [K, K]."""
    better = values[None, :] < values[:, None]
    return 1 + (told & better).sum(1), len(values) - (told & ~better).sum(1)


def simulated(truth: Any, shared: float, rng: np.random.Generator) -> dict[str, tuple[bool, float, bool]]:
    """Of one simulated column, by rule: covered, mean count of ranks, somebody falsely apart."""
    count = len(truth)
    luck = np.sqrt(shared) * rng.standard_normal() + np.sqrt(1 - shared) * rng.standard_normal(count)
    values = truth + luck
    records = records_of(values, shared)
    own = ranking(lineup(COLUMN, records))
    assert own is not None
    standings = [own.standings[r.subject.name] for r in records]
    first, last = true_ranks(truth)
    equal = (truth[None, :] == truth[:, None]) & ~np.eye(count, dtype=bool)
    apart = np.array([[not share_a_letter(a, b) for b in standings] for a in standings])
    gaps = np.abs(values[None, :] - values[:, None])
    rules = {
        "overlap": gaps > 2 * QUANTILE,
        "each pair alone": (gaps > QUANTILE * np.sqrt(2 - 2 * shared)) & ~np.eye(count, dtype=bool),
    }
    sides = {"board": (np.array([s.best for s in standings]), np.array([s.worst for s in standings]), apart)}
    sides |= {rule: (*ranges(told, values), told) for rule, told in rules.items()}
    return {
        rule: (
            bool(((low <= first) & (last <= high)).all()),
            float((high - low + 1).mean()),
            bool((told & equal).any()),
        )
        for rule, (low, high, told) in sides.items()
    }


def main() -> None:
    """Simulate and print."""
    rules = ("board", "overlap", "each pair alone")
    heads = [f"{rule}: {what}" for rule in rules for what in ("covered %", "falsely apart %", "ranks")]
    print("| " + " | ".join(("candidates", "true values", "shared", *heads)) + " |")
    print("|" + "---|" * (3 + len(heads)))
    for count in COUNTS:
        for label, make in TRUTHS.items():
            for shared in SHARED:
                rng = np.random.default_rng(0)
                found = [simulated(make(count), shared, rng) for _ in range(COLUMNS[count])]
                cells = [f"{count}", label, f"{shared:g}"]
                for rule in rules:
                    covered, ranks, apart = zip(*(f[rule] for f in found), strict=True)
                    cells += [f"{100 * np.mean(covered):.1f}", f"{100 * np.mean(apart):.1f}", f"{np.mean(ranks):.1f}"]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
