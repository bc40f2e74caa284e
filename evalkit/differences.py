"""How far two numbers lie apart: the interval of their difference, its p-value, and what the samples can still settle.

The interval is MOVER's (Zou & Donner 2008), from the ends of both intervals and the correlation that shared samples
give them (`pairing`). A p-value answers the same question: both ends of an interval are taken to lie as many standard
errors away as its level says, so p < 0.05 exactly where the 95 % interval of the difference excludes zero. Many
differences on one board are adjusted together: Holm (1979) keeps the chance of one false verdict on the whole board at
5 %, Benjamini & Hochberg (1995) the expected share of false ones among the verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from .columns import result_of, sign
from .errors import BadSetting
from .pairing import correlation
from .types import Column, Difference, MetricResult, Moves, Role, RunRecord, Standpoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

LEVEL = 0.95
ALPHA = 1 - LEVEL
POWER = 0.8
QUANTILE = NormalDist().inv_cdf(0.5 + LEVEL / 2)
ADJUSTMENTS = {"holm": "Holm", "bh": "Benjamini-Hochberg", "none": "not adjusted"}
# More subjects than these are told from the best and the baseline only: their pairs would be thousands.
MOST_IN_PAIRS = 30
# An answer such as "a million times more samples" helps nobody.
MOST_TIMES = 100
# Methods that leave the draw of the samples open: nothing can be told apart by them.
NO_INTERVAL = ("none", "no interval", "one call")


def difference(a: MetricResult, b: MetricResult) -> tuple[float, float, float]:
    """a - b with its 95 % interval, recovered from the ends of both and the correlation of the two numbers.

    The correlation is what the samples they share do to both, such as the real ones of one reference; 0 where none are
    shared or the records do not say. Zou & Donner 2008, "Construction of confidence limits about effect measures".
    """
    gap, shared = a.value - b.value, correlation(a.moves, b.moves)
    (down_a, up_a), (down_b, up_b) = _reach(a), _reach(b)
    return gap, gap - _leg(down_a, up_b, shared), gap + _leg(up_a, down_b, shared)


def p_of_no_difference(value: float, low: float, high: float) -> float:
    """Two-sided p-value of a difference with its 95 % interval, 0..1: below 0.05 exactly where that excludes zero.

    1 where an end is not finite: what has no interval is not told apart.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return 1.0
    leg = value - low if value > 0 else high - value
    if value == 0:
        return 1.0
    p = math.erfc(QUANTILE * abs(value) / leg / math.sqrt(2)) if leg > 0 else 0.0
    # At the very edge rounding must not let the two answers part.
    return max(p, ALPHA) if low <= 0 <= high else min(p, math.nextafter(ALPHA, 0))


def _reach(result: MetricResult) -> tuple[float, float]:
    """How far the 95 % interval of a number reaches down and up, >= 0; NaN where it has none."""
    if result.interval in NO_INTERVAL:
        return math.nan, math.nan
    scale = 1.0 if result.level == LEVEL else QUANTILE / NormalDist().inv_cdf(0.5 + result.level / 2)
    return (result.value - result.low) * scale, (result.high - result.value) * scale


def _leg(one: float, other: float, shared: float) -> float:
    squared = one * one + other * other - 2 * shared * one * other
    return math.sqrt(max(0.0, squared)) if math.isfinite(squared) else math.nan


# ---------------------------------------------------------------------------------------------- a column at once


@dataclass(frozen=True)
class Shared:
    """What the numbers of a column have in common: members [m] and rows [m, D] of each set of shared samples.

    The inner product of two members' rows, added over the sets, is the correlation of their numbers.
    """

    count: int
    blocks: tuple[tuple[Any, Any], ...]

    def with_rows(self, rows: slice) -> Array:
        """Correlations [R, K] of the numbers in `rows` with all K."""
        import numpy as np

        chosen = range(self.count)[rows]
        found = np.zeros((len(chosen), self.count))
        for members, loads in self.blocks:
            if len(members) == self.count:
                # All of a column share one reference, nearly always: no indices are needed.
                found += loads[rows] @ loads.T
                continue
            inside = np.flatnonzero((members >= chosen.start) & (members < chosen.stop))
            if len(inside):
                found[np.ix_(members[inside] - chosen.start, members)] += loads[inside] @ loads.T
        return np.clip(found, -1, 1, out=found)

    def draws(self, count: int, rng: np.random.Generator) -> Array:
        """Standard normal draws [count, K] with these correlations."""
        import numpy as np

        found = np.zeros((count, self.count))
        kept = np.zeros(self.count)
        for members, loads in self.blocks:
            found[:, members] += rng.standard_normal((count, loads.shape[1])) @ loads.T
            kept[members] += (loads**2).sum(1)
        found += np.sqrt(np.clip(1 - kept, 0, None)) * rng.standard_normal((count, self.count))
        return np.asarray(found / np.sqrt(np.maximum(kept, 1)))


def _shared(results: Sequence[MetricResult]) -> Shared:
    import numpy as np

    found: dict[tuple[str, str, int], list[tuple[int, Moves]]] = {}
    for i, result in enumerate(results):
        for side, moved in result.moves.items():
            found.setdefault((side, moved.key, len(moved.parts)), []).append((i, moved))
    blocks = []
    for _, entries in sorted(found.items()):
        if len(entries) > 1:
            rows = np.array([moved.parts for _, moved in entries], dtype=np.float64)
            lengths = np.sqrt((rows**2).sum(1, keepdims=True))
            share = np.array([[moved.share] for _, moved in entries])
            rows *= np.divide(np.sqrt(share), lengths, out=np.zeros_like(lengths), where=lengths > 0)
            blocks.append((np.array([i for i, _ in entries]), rows))
    return Shared(len(results), tuple(blocks))


@dataclass(frozen=True)
class Lineup:
    """The numbers of one column in the order of their subjects' names, so that no answer follows the records' order.

    values, down, up: [K] each number and how far its 95 % interval reaches; NaN where it has none.
    """

    column: Column
    names: tuple[str, ...]
    roles: tuple[Role, ...]
    results: tuple[MetricResult, ...]
    values: Any
    down: Any
    up: Any
    shared: Shared
    places: Mapping[str, int] = field(default_factory=dict)

    def candidates(self) -> list[int]:
        """Places of the candidates."""
        return [i for i, role in enumerate(self.roles) if role == "candidate"]

    def scores(self, rows: slice) -> Array:
        """How many standard errors each of `rows` lies above each of all [R, K]; 0 where one has no interval.

        Beyond +-1.96 exactly where the 95 % interval of the difference excludes zero.
        """
        import numpy as np

        gap = self.values[rows, None] - self.values[None, :]
        above = gap > 0
        one = np.where(above, self.down[rows, None], self.up[rows, None])
        other = np.where(above, self.up[None, :], self.down[None, :])
        leg = one * one + other * other - 2 * self.shared.with_rows(rows) * one * other
        np.sqrt(np.maximum(leg, 0, out=leg), out=leg)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = QUANTILE * gap / leg
        return np.asarray(np.nan_to_num(found, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf))

    def over(self, place: int) -> list[tuple[float, float, float]]:
        """Each number minus that in `place`, with the 95 % interval of the difference, as `difference` says."""
        import numpy as np

        shared = self.shared.with_rows(slice(place, place + 1))[0]
        gap = self.values - self.values[place]
        legs = []
        for own, other in ((self.down, self.up[place]), (self.up, self.down[place])):
            legs.append(np.sqrt(np.maximum(own * own + other * other - 2 * shared * own * other, 0)))
        return list(zip(gap.tolist(), (gap - legs[0]).tolist(), (gap + legs[1]).tolist(), strict=True))

    def ahead_of(self, place: int) -> list[str]:
        """Whose number is better than that in `place` by more than the 95 % interval of the difference."""
        found = zip(self.names, self.over(place), strict=True)
        return [n for n, (_, low, high) in found if (high < 0 if self.column.better == "lower" else low > 0)]


def lineup(column: Column, records: Sequence[RunRecord]) -> Lineup:
    """The numbers of a column, ready to be told apart."""
    import numpy as np

    found = [(r.subject, x) for r in records if (x := result_of(r, column.name, column.protocol)) is not None]
    found.sort(key=lambda entry: entry[0].name)
    results = tuple(x for _, x in found)
    reach = np.array([_reach(x) for x in results], dtype=np.float64).reshape(-1, 2)
    names = tuple(s.name for s, _ in found)
    return Lineup(
        column,
        names,
        tuple(s.role for s, _ in found),
        results,
        np.array([x.value for x in results], dtype=np.float64),
        reach[:, 0],
        reach[:, 1],
        _shared(results),
        {name: i for i, name in enumerate(names)},
    )


# ---------------------------------------------------------------------------------------------- a board at once


def adjusted(p: Sequence[float], method: str) -> list[float]:
    """The p-values adjusted for one another by "holm", "bh" or "none", in their order; BadSetting for another word."""
    if method not in ADJUSTMENTS:
        raise BadSetting(f"adjust = {method!r}; expected {', '.join(ADJUSTMENTS)}")
    m, found, last = len(p), [1.0] * len(p), 0.0
    if method == "none":
        return list(p)
    order = sorted(range(m), key=lambda i: p[i])
    if method == "holm":
        for rank, i in enumerate(order):
            last = found[i] = min(1.0, max(last, (m - rank) * p[i]))
        return found
    last = 1.0
    for rank in range(m, 0, -1):
        i = order[rank - 1]
        last = found[i] = min(last, p[i] * m / rank)
    return found


def _level(method: str, rejected: int, m: int) -> float:
    """The level that the next p-value of the family has to meet."""
    if method == "holm":
        return ALPHA / max(1, m - rejected)
    return ALPHA * min(1.0, (rejected + 1) / m) if method == "bh" else ALPHA


@dataclass(frozen=True)
class _Pair:
    column: Column
    one: str
    other: str
    gap: tuple[float, float, float]
    n: int | None
    p: float


def differences_of(
    lineups: Mapping[str, Lineup], best: Mapping[str, str], baseline: str | None, method: str
) -> dict[str, tuple[Difference, ...]]:
    """By column: the differences of candidates and the baseline, and of every other subject from the best.

    Their p-values are adjusted together over the whole board. A pair without an interval is left out.
    """
    pairs = [p for x in lineups.values() for p in _pairs(x, best.get(x.column.name), baseline)]
    found: dict[str, list[Difference]] = {}
    together = adjusted([pair.p for pair in pairs], method)
    level = _level(method, sum(q < ALPHA for q in together), len(pairs))
    for pair, q in zip(pairs, together, strict=True):
        value, low, high = pair.gap
        better: Standpoint = "better" if sign(pair.column) * value < 0 else "worse"
        told = q < ALPHA
        made = Difference(
            pair.one,
            pair.other,
            value,
            low,
            high,
            pair.p,
            q,
            better if told else "inconclusive",
            None if told else settles_at(pair.gap, pair.n, level),
        )
        found.setdefault(pair.column.name, []).append(made)
    return {name: tuple(entries) for name, entries in found.items()}


def _pairs(own: Lineup, best: str | None, baseline: str | None) -> list[_Pair]:
    """The pairs of a column that are looked at; `other` is the baseline, else the better of the two."""
    anchors = [name for name in dict.fromkeys((baseline, best)) if name is not None and name in own.places]
    inner = {own.names[i] for i in own.candidates()} | {name for name in anchors if name == baseline}
    cost = {name: sign(own.column) * own.results[i].value for name, i in own.places.items()}
    order = sorted(inner, key=lambda name: (name != baseline, cost[name], name))
    chosen = order if len(own.names) <= MOST_IN_PAIRS else [name for name in order if name in anchors]
    found = []
    done: set[str] = set()
    for other in chosen:
        done.add(other)
        outer = [n for n in own.names if n not in inner] if other == best else []
        gaps = own.over(own.places[other])
        for one in [*(n for n in order if n not in done), *outer]:
            i = own.places[one]
            if all(map(math.isfinite, gaps[i])):
                found.append(_Pair(own.column, one, other, gaps[i], _drawn(own, i), p_of_no_difference(*gaps[i])))
    return found


def _drawn(own: Lineup, place: int) -> int | None:
    """How many samples were drawn for a number: the generated ones, else the smaller side."""
    n = own.results[place].n
    return n.get("fake") or min(n.values(), default=0) or None


def settles_at(gap: tuple[float, float, float], n: int | None, level: float = ALPHA) -> int | None:
    """So many samples a side would tell a difference of this size at `level` with 80 % power; None where none would.

    gap: the difference with its 95 % interval at n samples. Both sides grow alike and intervals shrink as 1/sqrt(n),
    which is first order. None also beyond 100 times n, and where n is not known.
    """
    value, low, high = gap
    leg = value - low if value > 0 else high - value
    if n is None or value == 0 or not leg > 0 or not math.isfinite(leg):
        return None
    normal = NormalDist()
    # The chance of an error in the wrong direction is left out: it is nothing at 80 % power.
    wanted = -normal.inv_cdf(level / 2) + normal.inv_cdf(POWER)
    wider = wanted * leg / QUANTILE / abs(value)
    return math.ceil(n * wider**2) if wider <= math.sqrt(MOST_TIMES) else None
