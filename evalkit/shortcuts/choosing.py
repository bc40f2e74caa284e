"""Every rule scored on both sides, and the best of them: chosen on one half of the groups, scored on the other.

The largest of thirty AUROCs is above 0.5 by chance alone. So the rule and its direction come from one half, and the
number that is said from the other, which had no part in the choice. Only rules that one text answers by itself are
chosen from: what a text shares with others of the set is in the table, and a detector of single texts cannot use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import TooFewSamples
from ..types import Estimate
from .areas import area
from .openings import copies, dealt, longest_shared
from .reading import Side
from .rules import RULES, numbers_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Of a text among the others: what a split by file, or a judge of the whole set at once, would give away.
SHARED = (
    ("opening", "words of the opening shared with another text of the set"),
    ("copies", "exact copies in the set"),
)
AMONG = frozenset(name for name, _ in SHARED)
SAYS = {**{rule.name: rule.says for rule in RULES}, **dict(SHARED)}
BINARY = frozenset(rule.name for rule in RULES if rule.binary)
FEWEST = 10  # texts a side


@dataclass(frozen=True)
class Scored:
    """One rule: AUROC with fakes high, and its mean on each side."""

    name: str
    auc: Estimate
    real: float
    fake: float
    varies: bool


@dataclass(frozen=True)
class Best:
    """The best rule: higher is whether a higher number means fake; its AUROC, that way round, on n texts of each side.

    chosen_by: its AUROC on the half it was chosen on.
    """

    name: str
    higher: bool
    auc: Estimate
    chosen_by: float
    n_real: int
    n_fake: int

    def is_over(self, limit: float) -> bool:
        """Whether even the lower end of the interval lies above the limit."""
        return self.auc.low > limit


@dataclass(frozen=True)
class Found:
    """All rules, the worst first; best None, with the reason, where half of the groups are too few to choose by."""

    rules: tuple[Scored, ...]
    best: Best | None
    why: str
    n_real: int
    n_fake: int
    groups: int


def scored(real: Side, fake: Side, *, seed: int) -> Found:
    """Every rule on both sides; TooFewSamples below 10 texts a side."""
    import numpy as np

    for side in (real, fake):
        if len(side) < FEWEST:
            raise TooFewSamples(f"{side.name!r} has {len(side)} readable texts; the audit needs {FEWEST} a side")
    n, columns = len(real), columns_of(real, fake)
    names = (*real.groups, *fake.groups)
    is_fake = np.arange(len(names)) >= n
    group = np.unique(np.array(names, dtype=object), return_inverse=True)[1].reshape(-1)
    rules = [
        Scored(name, area(column, is_fake, group), float(column[:n].mean()), float(column[n:].mean()),
               bool(np.ptp(column) > 0))
        for name, column in zip(SAYS, columns.T, strict=True)
    ]  # fmt: skip
    half = np.array(dealt(names, is_fake.tolist(), seed))
    best, why = best_of(columns[:, : len(RULES)], is_fake, group, half)
    worst_first = sorted(rules, key=lambda rule: -abs(rule.auc.value - 0.5))
    return Found(tuple(worst_first), best, why, n, len(fake), int(group.max()) + 1)


def columns_of(*sides: Side) -> npt.NDArray[np.float64]:
    """The numbers of every rule, then of what a text shares with the others, in the order of SAYS, float64 [N, K]."""
    import numpy as np

    texts = [text for side in sides for text in side.texts]
    words = [text.split() for text in texts]
    shared = zip(longest_shared(words, range(len(words))), copies(texts), strict=True)
    return np.array([[*numbers_of(text), *others] for text, others in zip(texts, shared, strict=True)], dtype=float)


def best_of(
    columns: npt.NDArray[np.float64],
    is_fake: npt.NDArray[np.bool_],
    group: npt.NDArray[np.int64],
    half: npt.NDArray[np.int64],
) -> tuple[Best | None, str]:
    """The rule furthest from 0.5 on half 0, scored on half 1; columns [N, K] of the first K rules, the rest [N].

    None, with the reason, where a half has fewer than two groups of a side.
    """
    import numpy as np

    sizes = [len(np.unique(group[(half == h) & (is_fake == side)])) for h in (0, 1) for side in (False, True)]
    if min(sizes) < 2:
        return None, "the texts form too few groups to choose a rule on one half of them and score it on the other"
    learnt, judged = half == 0, half == 1
    chosen_by = [area(column[learnt], is_fake[learnt], group[learnt]).value for column in columns.T]
    k = max(range(len(chosen_by)), key=lambda k: abs(chosen_by[k] - 0.5))
    higher = chosen_by[k] >= 0.5
    sign = 1 if higher else -1
    auc = area(sign * columns[judged, k], is_fake[judged], group[judged])
    by = chosen_by[k] if higher else 1 - chosen_by[k]
    return Best(tuple(SAYS)[k], higher, auc, by, int((~is_fake & judged).sum()), int((is_fake & judged).sum())), ""


def counted(own: Sequence[str], other: Sequence[str]) -> int:
    """How many of `own` are in `other`."""
    there = set(other)
    return sum(one in there for one in own)
