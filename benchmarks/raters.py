"""How often the intervals of human judging hold: simulated raters of known sensitivity, over raters and items.

    python -m benchmarks.raters

A rater hears x = d' [generated] + (item) + (own noise), variance of item and own noise together 1, adds a sensitivity
and a criterion of their own, and says "generated" above the criterion, with confidence 1 to 4 by the distance from it.
The truth is the mean of the statistic over 600 independent studies of the same size: like every interval of this
package, these are for the expected value at this size. Prints a Markdown table: coverage in percent, how often the
interval lay below and above the truth, its mean width, and the width against 3.92 times the spread of the value.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

from evalkit.human.sensitivity import Sheet, Statistic, area, dprime, dprime_forced, measure, right, share

REPEATS = 200
TRUTHS = 600


@dataclass(frozen=True)
class Family:
    """A way in which people judge; item and skill are standard deviations of items and of raters' sensitivities."""

    name: str
    raters: int
    fakes: int
    reals: int
    sensitivity: float
    item: float
    skill: float


FAMILIES = (
    Family("one rater", 1, 15, 30, 1.0, 0.5, 0.0),
    Family("raters and items alike", 5, 15, 30, 1.0, 0.0, 0.0),
    Family("items differ", 5, 15, 30, 1.0, 0.6, 0.0),
    Family("raters differ", 5, 15, 30, 1.0, 0.0, 0.5),
    Family("both differ", 5, 15, 30, 1.0, 0.6, 0.5),
    Family("both differ, three raters", 3, 30, 30, 1.0, 0.6, 0.5),
    Family("both differ, cannot tell", 8, 30, 30, 0.0, 0.6, 0.3),
    Family("both differ, tell well", 8, 30, 30, 2.0, 0.6, 0.5),
    Family("both differ, twenty raters", 20, 30, 30, 1.0, 0.6, 0.5),
)


def study(family: Family, rng: random.Random, forced: bool) -> dict[str, Sheet]:
    """The answers of one simulated study."""
    own = (1 - family.item**2) ** 0.5
    fakes = [rng.gauss(0, family.item) for _ in range(family.fakes)]
    reals = [rng.gauss(0, family.item) for _ in range(family.reals)]
    sheets = {}
    for r in range(family.raters):
        skill = family.sensitivity + rng.gauss(0, family.skill)
        criterion = family.sensitivity / 2 + rng.gauss(0, 0.3)
        seen = [skill + x + rng.gauss(0, own) for x in fakes]
        calm = [x + rng.gauss(0, own) for x in reals]
        if forced:
            answers = {str(i): float(a > b) for i, (a, b) in enumerate(zip(seen, calm, strict=False))}
            sheets[str(r)] = Sheet(answers, {})
        else:
            said = {str(i): rating(x - criterion) for i, x in enumerate(seen)}
            sheets[str(r)] = Sheet(said, {f"r{i}": rating(x - criterion) for i, x in enumerate(calm)})
    return sheets


def rating(x: float) -> float:
    """Confidence 1 to 4 with the sign of the answer."""
    size = 1.0 + sum(abs(x) > edge for edge in (0.4, 0.8, 1.3))
    return size if x > 0 else -size


CASES: tuple[tuple[str, Statistic, bool, bool], ...] = (
    ("auc", area, True, False),
    ("accuracy", right, True, False),
    ("dprime", dprime, False, False),
    ("2afc accuracy", share, True, True),
    ("2afc dprime", dprime_forced, False, True),
)


def rows() -> Iterator[str]:
    """The table, line by line."""
    header = ("number", "family", "raters", "items (generated, real)", "truth", "covered %", "below, above %", "width")
    yield f"| {' | '.join(header)} | width / 3.92 SD |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, statistic, unit, forced in CASES:
        for f in FAMILIES:
            truths = [_value(statistic, study(f, random.Random(f"truth/{i}"), forced)) for i in range(TRUTHS)]
            truth = fmean(truths)
            found = [
                measure(statistic, study(f, random.Random(f"study/{i}"), forced), unit=unit) for i in range(REPEATS)
            ]
            below = 100 * fmean(m.high < truth for m in found)
            above = 100 * fmean(m.low > truth for m in found)
            width = fmean(m.high - m.low for m in found)
            covered = 100 - below - above
            shown = f"{covered:.1f}" if 93 <= covered <= 97 else f"**{covered:.1f}**"
            yield (
                f"| {name} | {f.name} | {f.raters} | {f.fakes}, {f.fakes if forced else f.reals} | {truth:.3f}"
                f" | {shown} | {below:.1f}, {above:.1f} | {width:.3f} | {width / (3.92 * stdev(truths)):.2f} |"
            )


def _value(statistic: Statistic, sheets: dict[str, Sheet]) -> float:
    return fmean(statistic(list(s.fake.values()), list(s.real.values())) for s in sheets.values())


if __name__ == "__main__":
    for line in rows():
        print(line, flush=True)
