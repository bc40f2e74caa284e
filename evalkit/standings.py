"""The ranks that candidates may have in a column, and letters that candidates share who are not told apart.

Both come from one set of decisions: which of two candidates is surely the better one, for all pairs of the column at
once. The decisions are those of Mogstad, Romano, Shaikh & Wilhelm 2024, "Inference for ranks", section 3: simultaneous
intervals of all differences by the maximum of the studentised ones, with the step-down that leaves out what is decided.
Its distribution is drawn jointly, with the correlation that shared samples give the numbers, so that luck they have in
common does not count as doubt. Asking whether the intervals of single numbers overlap would be far too careful, and
would forget how many pairs there are.

Letters are a compact letter display (Piepho 2004), made as a greedy cover of the pairs that are not told apart by
groups in which none is (Gramm et al. 2007), which cannot grow beyond the number of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from .columns import sign
from .differences import ALPHA, QUANTILE, Lineup
from .types import Standing

DRAWS = 4000
# Beyond these the joint draw costs more than it gains over Bonferroni's bound (3 % of the width at 50), and letters
# would be a text of their own.
MOST_DRAWN = 50
# Pairs of subjects looked at in one step: 4 MB each of what is worked out of them.
BLOCK = 500_000
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Ranking:
    """Who is surely better than whom among the candidates of a column.

    critical: two candidates are told apart that lie more than so many standard errors apart. best: the name of the
    best one; tied: those not told apart from it.
    """

    lineup: Lineup
    critical: float
    best: str
    tied: tuple[str, ...]
    standings: Mapping[str, Standing]

    def surely_better(self, one: str, other: str) -> bool:
        """Whether candidate `one` is told apart from `other`, and better."""
        i, j = self.lineup.places[one], self.lineup.places[other]
        return float(-sign(self.lineup.column) * self.lineup.scores(slice(i, i + 1))[0, j]) > self.critical


def ranking(lineup: Lineup) -> Ranking | None:
    """The ranking of a column's candidates; None for fewer than two."""
    import numpy as np

    places = np.array(lineup.candidates(), dtype=np.int64)
    if len(places) < 2:
        return None
    critical = _critical(lineup, places)
    cost = sign(lineup.column) * lineup.values[places]
    # lexsort is stable and the names are in order: equal values stand in the order of their names.
    order = np.argsort(cost, kind="stable")
    first, last, mates = _counts(lineup, places, critical)
    letters = _letters([mates[i] for i in order], order.tolist()) if mates else [""] * len(places)
    best = int(order[0])
    lead = int(places[best])
    ahead = -sign(lineup.column) * lineup.scores(slice(lead, lead + 1))[0, places] > critical
    standings = {
        lineup.names[int(places[i])]: Standing(int(first[i]), int(last[i]), letters[rank])
        for rank, i in enumerate(order.tolist())
    }
    tied = tuple(lineup.names[int(places[i])] for i in order.tolist() if i != best and not ahead[i])
    return Ranking(lineup, critical, lineup.names[lead], tied, standings)


def _counts(lineup: Lineup, places: Any, critical: float) -> tuple[Any, Any, list[int]]:
    """Best and worst rank of each candidate; as bits whom it is not told apart from (none for many candidates)."""
    import numpy as np

    count = len(places)
    first, last, mates = np.ones(count, dtype=int), np.full(count, count), []
    step = max(1, BLOCK // max(1, len(lineup.names)))
    better = np.zeros((0, count), dtype=bool)
    for start in range(0, len(lineup.names), step):
        stop = min(start + step, len(lineup.names))
        inside = places[(places >= start) & (places < stop)]
        scores = -sign(lineup.column) * lineup.scores(slice(start, stop))[np.ix_(inside - start, places)]
        rows = np.flatnonzero((places >= start) & (places < stop))
        first[rows] += (scores < -critical).sum(1)
        last[rows] -= (scores > critical).sum(1)
        if count <= MOST_DRAWN:
            better = np.concatenate([better, np.abs(scores) > critical])
    for row in better:
        mates.append(sum(1 << k for k, told in enumerate(row.tolist()) if not told))
    return first, last, mates


def _critical(lineup: Lineup, places: Any) -> float:
    """How many standard errors two candidates must lie apart to be told apart, all pairs at once with 95 %."""
    import numpy as np

    count = len(places)
    # Of both tails over all pairs.
    bound = -NormalDist().inv_cdf(ALPHA / (count * (count - 1)))
    if count == 2 or count > MOST_DRAWN:
        return bound
    scores = np.stack([lineup.scores(slice(int(i), int(i) + 1))[0, places] for i in places])
    one, other = np.triu_indices(count, 1)
    gaps, critical, roots = scores[one, other], bound, None
    # No bound falls below that of a single pair: where no difference lies between the two, nothing is left to decide.
    while ((np.abs(gaps) > QUANTILE) & (np.abs(gaps) <= critical)).any():
        roots = _roots(lineup, places, one, other) if roots is None else roots
        told = np.abs(gaps) > critical
        most = np.abs(roots[:, ~told]).max(1, initial=0.0)
        if told.any():
            # Of a pair that is decided only the other direction is still in doubt.
            most = np.maximum(most, (-np.sign(gaps[told]) * roots[:, told]).max(1))
        found = max(QUANTILE, float(np.quantile(most, 1 - ALPHA, method="higher")))
        if found >= critical:
            break
        settled = not ((np.abs(gaps) <= critical) & (np.abs(gaps) > found)).any()
        critical = found
        if settled:
            break
    return critical


def _roots(lineup: Lineup, places: Any, one: Any, other: Any) -> Any:
    """Draws [DRAWS, pairs] of the studentised error of each pair's difference."""
    import numpy as np

    errors = np.nan_to_num((lineup.down + lineup.up) / 2 / QUANTILE)
    drawn = (lineup.shared.draws(DRAWS, np.random.default_rng(0)) * errors)[:, places]
    shared = np.stack([lineup.shared.with_rows(slice(int(i), int(i) + 1))[0, places] for i in places])
    a, b = errors[places][one], errors[places][other]
    spread = np.sqrt(np.maximum(a * a + b * b - 2 * shared[one, other] * a * b, 0))
    return np.divide(drawn[:, one] - drawn[:, other], spread, out=np.zeros((DRAWS, len(one))), where=spread > 0)


# ---------------------------------------------------------------------------------------------- letters


def _letters(mates: Sequence[int], order: Sequence[int]) -> list[str]:
    """The letters of each candidate in the order given, from whom (as bits of first places) it is not told apart."""
    count = len(order)
    rank = {i: k for k, i in enumerate(order)}
    near = [sum(1 << rank[i] for i in range(count) if mask >> i & 1) | 1 << k for k, mask in enumerate(mates)]
    groups = _groups(near)
    found: list[list[str]] = [[] for _ in range(count)]
    for number, group in enumerate(groups):
        for k in range(count):
            if group >> k & 1:
                found[k].append(letter(number))
    return [" ".join(x) if any(len(word) > 1 for word in x) else "".join(x) for x in found]


def _groups(near: Sequence[int]) -> list[int]:
    """Groups, as bits, that cover every pair not told apart and hold no other pair; none could be left out.

    near: by candidate, as bits, whom it is not told apart from, itself included.
    """
    count = len(near)
    covered = [1 << k for k in range(count)]
    groups = []
    for i in range(count):
        for j in range(i + 1, count):
            if near[i] >> j & 1 and not covered[i] >> j & 1:
                group, common = 1 << i | 1 << j, near[i] & near[j]
                for k in range(count):
                    if common >> k & 1 and not group >> k & 1:
                        group, common = group | 1 << k, common & near[k]
                groups.append(group)
                for k in range(count):
                    covered[k] |= group if group >> k & 1 else 0
        if near[i] == 1 << i:
            groups.append(near[i])
    for group in reversed(groups.copy()):
        rest = [g for g in groups if g != group]
        if group.bit_count() > 1 and all(_together(rest, k) & group == group for k in range(count) if group >> k & 1):
            groups = rest
    # The best one's group is a, and so on downward.
    return sorted(groups, key=lambda g: [k for k in range(count) if g >> k & 1])


def _together(groups: Sequence[int], place: int) -> int:
    found = 0
    for group in groups:
        found |= group if group >> place & 1 else 0
    return found


def letter(number: int) -> str:
    """The letter of the group of that number, from 0: a to z, A to Z, then a2 and so on."""
    again, place = divmod(number, len(ALPHABET))
    return ALPHABET[place] + (str(again + 1) if again else "")


def share_a_letter(one: Standing, other: Standing) -> bool:
    """Whether two candidates are not told apart; False where a board is too large for letters."""
    return bool(_words(one.letters) & _words(other.letters))


def _words(letters: str) -> set[str]:
    return set(letters.split(" ") if " " in letters else letters) if letters else set()
