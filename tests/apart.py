"""Rank ranges and differences made by hand for boards of tests: normal errors, Holm over a column's pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from statistics import NormalDist

from evalkit.types import Better, Difference, Standing, Standpoint

Found = Mapping[str, tuple[float, float]]  # value and half of the 95 % interval of each candidate


def differences(found: Found, better: Better) -> tuple[Difference, ...]:
    """Every pair once, in the order given."""
    pairs = []
    for one, other in combinations(found, 2):
        gap = found[one][0] - found[other][0]
        half = math.hypot(found[one][1], found[other][1])
        p = 2 * (1 - NormalDist().cdf(abs(gap) / (half / 1.96))) if half else float(gap == 0)
        pairs.append((one, other, gap, half, p))
    adjusted = holm([p for *_, p in pairs])
    made = []
    for (one, other, gap, half, p), q in zip(pairs, adjusted, strict=True):
        ahead = (gap < 0) == (better == "lower")
        verdict: Standpoint = "inconclusive" if q >= 0.05 else "better" if ahead else "worse"
        settles = math.ceil(600 * (2.8 / 1.96 * half / gap) ** 2) if verdict == "inconclusive" and gap else None
        made.append(Difference(one, other, gap, gap - half, gap + half, p, q, verdict, settles))
    return tuple(made)


def holm(values: list[float]) -> list[float]:
    order, found, largest = sorted(range(len(values)), key=values.__getitem__), [0.0] * len(values), 0.0
    for place, k in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[k]))
        found[k] = largest
    return found


def standings(found: Found, better: Better) -> dict[str, Standing]:
    """Ranks between the surely ahead and the surely behind; a letter for each leader and who is not told from it."""
    apart = differences(found, better)
    behind = {
        (d.one, d.other) if d.verdict == "worse" else (d.other, d.one) for d in apart if d.verdict != "inconclusive"
    }
    sign = 1 if better == "lower" else -1
    letters = dict.fromkeys(found, "")
    last: set[str] = set()
    for letter, leader in zip(
        "abcdefghijklmnopqrstuvwxyz", sorted(found, key=lambda k: sign * found[k][0]), strict=False
    ):
        group = {n for n in found if n == leader or ((n, leader) not in behind and (leader, n) not in behind)}
        group = {n for n in group if sign * found[n][0] >= sign * found[leader][0]}
        if not group <= last:
            letters = {n: said + (letter if n in group else "") for n, said in letters.items()}
            last = group
    return {
        n: Standing(
            1 + sum((n, m) in behind for m in found), len(found) - sum((m, n) in behind for m in found), letters[n]
        )
        for n in found
    }
