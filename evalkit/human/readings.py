"""From the answers of a study to the numbers: who is kept, what each rater said of each set, times and consistency.

A rater is set aside, and listed with the reason, who passes fewer than three of four catch trials or who answered less
than half of the judged items. Everything else that was answered counts; of an item answered twice, the first answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from .sensitivity import (
    Measured,
    Sheet,
    Statistic,
    area,
    dprime,
    dprime_forced,
    measure,
    passed_for_real,
    right,
    share,
)
from .store import Answer, Rater, Store

PASS = 0.75  # share of the catch trials that a rater must pass
FINISHED = 0.5  # share of the judged items that a rater must have answered
FEWEST = 2  # answers to each kind of item, without which no interval could be made


@dataclass(frozen=True)
class Conduct:
    """How one rater judged; `aside` is why the answers are left out, empty where they are kept. Seconds an item."""

    name: str
    answered: int
    catch: tuple[int, int]
    same: tuple[int, int]
    seconds: float | None
    changed: int
    aside: str

    @property
    def kept(self) -> bool:
        return not self.aside


class Readings:
    """A study's answers, read once."""

    def __init__(self, store: Store) -> None:
        self.terms, self.items, self.sets = store.terms, store.items, store.sets
        self.raters = [r for r in store.raters() if r.answers]
        self.judged = [i for i, item in enumerate(self.items) if item.kind == "judged"]
        self.conduct = tuple(self._conduct(rater) for rater in self.raters)
        self.kept = [r for r, c in zip(self.raters, self.conduct, strict=True) if c.kept]
        self.real = self.terms.sets[0].name
        self.fakes = [group.name for group in self.terms.sets[1:]]
        self.forced = self.terms.mode == "2afc"

    def of(self, *names: str) -> list[int]:
        """The judged items that show exactly these sets, in this order."""
        return [i for i in self.judged if tuple(self.sets[s] for s in self.items[i].stimuli) == names]

    def _conduct(self, rater: Rater) -> Conduct:
        judged = [rater.answers[i] for i in self.judged if i in rater.answers]
        catch = [a for i, a in rater.answers.items() if self.items[i].kind == "catch"]
        passed = sum(a.choice in ("fake", "first") for a in catch)
        again = [
            (rater.answers[item.of], rater.answers[i])
            for i, item in enumerate(self.items)
            if item.of is not None and i in rater.answers and item.of in rater.answers
        ]
        times = [a.client_ms / 1000 for a in judged if a.client_ms is not None]
        aside = ""
        if catch and passed < PASS * len(catch):
            aside = f"passed {passed} of {len(catch)} catch trials; {PASS:.0%} are needed"
        elif len(judged) < FINISHED * len(self.judged):
            aside = f"answered {len(judged)} of {len(self.judged)} items; half are needed"
        return Conduct(
            rater.name,
            len(judged),
            (passed, len(catch)),
            (sum(a.choice == b.choice for a, b in again), len(again)),
            median(times) if times else None,
            rater.changed,
            aside,
        )

    @property
    def scored_by(self) -> str:
        """What the area is made of: "confidence", "yes/no", or both where only some raters said how sure they were."""
        sure = [self._is_sure(rater) for rater in self.kept]
        return "confidence" if all(sure) else "confidence of some raters, yes/no of others" if any(sure) else "yes/no"

    def _is_sure(self, rater: Rater) -> bool:
        return all(rater.answers[i].confidence is not None for i in self.judged if i in rater.answers)

    def _scores(self, rater: Rater, items: Sequence[int]) -> dict[str, float]:
        sure = self._is_sure(rater)
        return {str(i): _score(rater.answers[i], sure) for i in items if i in rater.answers}

    def sheets(self, fake: Sequence[int], real: Sequence[int] = ()) -> dict[str, Sheet]:
        """Each kept rater's answers to two lists of items, where there are enough of both."""
        found = {r.name: Sheet(self._scores(r, fake), self._scores(r, real)) for r in self.kept}
        least = FEWEST if real else 0
        return {name: s for name, s in found.items() if len(s.fake) >= FEWEST and len(s.real) >= least}

    def numbers(self, name: str) -> dict[str, Measured]:
        """What was told of one set, by part: accuracy, dprime, and by single items auc and passed_for_real."""
        if self.forced:
            parts: list[tuple[str, Statistic, bool]] = [("accuracy", share, True), ("dprime", dprime_forced, False)]
            sheets = self.sheets(self.of(self.real, name))
        else:
            parts = [("auc", area, True), ("accuracy", right, True), ("dprime", dprime, False)]
            parts += [("passed_for_real", passed_for_real, True)]
            sheets = self.sheets(self.of(name), self.of(self.real))
        return {part: measure(statistic, sheets, unit=unit) for part, statistic, unit in parts} if sheets else {}

    def win_rate(self, one: str, other: str) -> Measured | None:
        """How often `one` looks more real than `other`: chosen in a pair, or called real with more confidence."""
        if not self.forced:
            sheets = self.sheets(self.of(other), self.of(one))
            return measure(area, sheets, unit=True) if sheets else None
        sheets = self.sheets(self.of(one, other))
        if sheets:
            return measure(share, sheets, unit=True)
        sheets = {name: Sheet({i: 1 - x for i, x in s.fake.items()}, {}) for name, s in self._turned(one, other)}
        return measure(share, sheets, unit=True) if sheets else None

    def _turned(self, one: str, other: str) -> list[tuple[str, Sheet]]:
        return list(self.sheets(self.of(other, one)).items())

    def wins(self, without_rater: str = "", without_item: int = -1) -> dict[tuple[str, str], float]:
        """How often each set was chosen over each other one, in the pairs of a forced choice."""
        found: dict[tuple[str, str], float] = {}
        for rater in self.kept:
            for i in self.judged if rater.name != without_rater else ():
                if i in rater.answers and i != without_item:
                    pair = tuple(self.sets[s] for s in self.items[i].stimuli)
                    winner, loser = pair if rater.answers[i].choice == "first" else pair[::-1]
                    found[winner, loser] = found.get((winner, loser), 0.0) + 1
        return found

    def units(self) -> list[list[str]]:
        """For each judged item the choices of the kept raters."""
        return [[r.answers[i].choice for r in self.kept if i in r.answers] for i in self.judged]

    @property
    def seconds(self) -> float | None:
        """Median seconds an item over the kept raters' medians."""
        times = [c.seconds for c in self.conduct if c.kept and c.seconds is not None]
        return median(times) if times else None

    @property
    def consistency(self) -> float | None:
        """Share of the repeats that got the same answer again, over the kept raters."""
        shares = [c.same[0] / c.same[1] for c in self.conduct if c.kept and c.same[1]]
        return fmean(shares) if shares else None


def _score(answer: Answer, sure: bool) -> float:
    """Above 0 for "generated", and larger the surer; in a forced choice 1 for the realer one, else 0."""
    if answer.choice in ("first", "second"):
        return float(answer.choice == "first")
    size = float(answer.confidence or 1) if sure else 1.0
    return size if answer.choice == "fake" else -size


def strengths(readings: Readings) -> Mapping[str, tuple[float, float, float]]:
    """Bradley-Terry strengths in log odds with 95 % intervals, every rater and every item left out once in turn.

    Empty for fewer than three sets and where no pairs were judged. Both jackknife variances add, which counts the
    answers' own noise twice: the intervals err on the wide side.
    """
    from scipy import stats

    from .agreement import bradley_terry
    from .sensitivity import LEVEL

    wins = readings.wins() if readings.forced else {}
    whole = bradley_terry(wins) if len({name for pair in wins for name in pair}) > 2 else {}
    if not whole:
        return {}
    left = [[bradley_terry(readings.wins(r.name)) for r in readings.kept]] if len(readings.kept) > 1 else []
    left += [[bradley_terry(readings.wins("", i)) for i in readings.judged]]
    found = {}
    for name, value in whole.items():
        variance = 0.0
        for deleted in left:
            values = [d[name] for d in deleted if name in d]
            variance += (len(values) - 1) / len(values) * sum((v - fmean(values)) ** 2 for v in values)
        reach = float(stats.t.ppf(0.5 + LEVEL / 2, max(1, len(left[0]) - 1))) * variance**0.5
        found[name] = (value, value - reach, value + reach)
    return found
