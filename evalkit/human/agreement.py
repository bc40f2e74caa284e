"""How far raters agree with each other, and who wins against whom: Krippendorff's alpha, Bradley-Terry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from .sensitivity import LEVEL

STEPS = 500


def alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha of nominal answers, at most 1; 0 is what chance gives. None where it is not defined.

    units: for each item the answers it got, in any order, of any number of raters; items with fewer than two are left
    out. Not defined without such an item, or when one answer is all there ever was.
    alpha = 1 - D_o / D_e from the coincidences. Krippendorff 2011, "Computing Krippendorff's alpha-reliability",
    section C.
    """
    pairable = [Counter(unit) for unit in units if len(unit) > 1]
    totals: Counter[Hashable] = Counter()
    disagreement = 0.0
    for unit in pairable:
        m = unit.total()
        totals.update(unit)
        # Pairs of unlike answers within the item, each weighing 1 / (m - 1).
        disagreement += (m * m - sum(c * c for c in unit.values())) / (m - 1)
    n = totals.total()
    expected = n * n - sum(c * c for c in totals.values())
    return None if expected == 0 else 1 - (n - 1) * disagreement / expected


def alpha_interval(units: Sequence[Sequence[Hashable]]) -> tuple[float, float, float] | None:
    """Alpha with its 95 % interval, every item left out once (jackknife, Student's t), cut at 1; None as `alpha`."""
    from scipy import stats

    kept = [unit for unit in units if len(unit) > 1]
    whole = alpha(kept)
    left = [alpha([*kept[:i], *kept[i + 1 :]]) for i in range(len(kept))]
    known = [value for value in left if value is not None]
    if whole is None or len(known) < 3:
        return None
    centre, n = sum(known) / len(known), len(known)
    error = math.sqrt((n - 1) / n * sum((value - centre) ** 2 for value in known))
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * error
    return whole, whole - reach, min(1.0, whole + reach)


def bradley_terry(wins: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Strength of each player in log odds, their mean 0: P(a beats b) = 1 / (1 + exp(b - a)).

    wins: (winner, loser) -> how often. Half a win is added to both sides of every pair that met, so that a player that
    never lost has a finite strength. Hunter 2004, "MM algorithms for generalized Bradley-Terry models", eq. 3.
    """
    players = sorted({name for pair in wins for name in pair})
    met = {(a, b) for a, b in wins} | {(b, a) for a, b in wins}
    won = {pair: wins.get(pair, 0.0) + 0.5 for pair in met}
    strength = dict.fromkeys(players, 1.0)
    for _ in range(STEPS):
        fresh = {}
        for a in players:
            total = sum(won[pair] for pair in met if pair[0] == a)
            weight = sum((won[a, b] + won[b, a]) / (strength[a] + strength[b]) for x, b in met if x == a)
            fresh[a] = total / weight
        scale = math.exp(sum(map(math.log, fresh.values())) / len(fresh))
        fresh = {name: value / scale for name, value in fresh.items()}
        moved = max(abs(math.log(fresh[name] / strength[name])) for name in players)
        strength = fresh
        if moved < 1e-10:
            break
    return {name: math.log(value) for name, value in strength.items()}
