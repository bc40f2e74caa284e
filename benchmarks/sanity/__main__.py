"""Which metric passes which sanity check: `python -m benchmarks.sanity [--quick] [--only TEXT] [--raw] [--curves]`.

Eight minutes on one core; --quick looks at few and small sets, to see that it runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch

from .curves import Verdict
from .draws import Size
from .published import METRICS, published
from .running import Curves, follow, judge
from .scenarios import SCENARIOS, Scenario
from .scores import KINDS

Verdicts: TypeAlias = Mapping[tuple[str, str], Mapping[str, Verdict]]  # by scenario and desideratum, then metric

QUICK = Size(n=120, points=5, dims=(1, 8), spheres=(2, 16), sizes=(50, 100, 200), extra=(1, 10, 100))
TABLES = (
    ("Fidelity", ("fidelity",)),
    ("Diversity", ("diversity",)),
    ("Overall: both at once, and distances", ("overall", "distance")),
)
MARKS: Mapping[Verdict, str] = {"pass": "pass", "fail": "**fail**", "low": "low", "high": "high", None: "–"}


def verdicts_of(scenario: Scenario, curves: Curves) -> dict[tuple[str, str], dict[str, Verdict]]:
    found: dict[tuple[str, str], dict[str, Verdict]] = {}
    for (desideratum, metric), verdict in sorted(judge(scenario, curves).items()):
        found.setdefault((scenario.name, desideratum), {})[metric] = verdict
    return found


def table(verdicts: Verdicts, metrics: list[str]) -> Iterator[str]:
    """Markdown rows: a row a scenario and desideratum, then how many of the applicable ones were passed."""
    yield f"| situation | | {' | '.join(metrics)} |"
    yield "|---" * (len(metrics) + 2) + "|"
    for (scenario, desideratum), row in verdicts.items():
        said = [row.get(metric) for metric in metrics]
        if any(said):
            yield f"| {scenario} | {desideratum} | {' | '.join(MARKS[verdict] for verdict in said)} |"
    columns = [[row[metric] for row in verdicts.values() if row.get(metric)] for metric in metrics]
    counts = [f"{sum(verdict != 'fail' for verdict in column)} of {len(column)}" for column in columns]
    yield f"| **passed** | | {' | '.join(counts)} |"


def differences(verdicts: Verdicts) -> Iterator[str]:
    """Markdown rows where our verdict is not the authors'."""
    yield "| situation | | metric | published | here |"
    yield "|---|---|---|---|---|"
    for (scenario, desideratum), row in verdicts.items():
        for metric, theirs in published(scenario, desideratum).items():
            if row[metric] != theirs:
                yield f"| {scenario} | {desideratum} | {metric} | {theirs} | {row[metric]} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sanity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small sets")
    parser.add_argument("--only", default="", help="situations whose name has this in it")
    parser.add_argument("--raw", action="store_true", help="do not standardise columns, as the paper does")
    parser.add_argument("--curves", action="store_true", help="print the curves too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    verdicts: dict[tuple[str, str], dict[str, Verdict]] = {}
    curves: dict[str, Curves] = {}
    for scenario in SCENARIOS:
        if given.only in scenario.name:
            curves[scenario.name] = follow(scenario, QUICK if given.quick else Size(), standardise=not given.raw)
            verdicts |= verdicts_of(scenario, curves[scenario.name])
            sys.stderr.write(f"{scenario.name}: {time.process_time() - start:.0f} s\n")
    for title, kinds in TABLES:
        print(f"### {title}\n", *table(verdicts, [m for m, kind in KINDS.items() if kind in kinds]), "", sep="\n")
    print(f"### Where {', '.join(METRICS)} differ from the published run\n", *differences(verdicts), "", sep="\n")
    if given.curves:
        for name, found in curves.items():
            for (sweep, metric), curve in found.items():
                numbers = ", ".join(f"{x:.3g}: {y:.3g}" for x, y in zip(curve.x, curve.y, strict=True))
                print(f"- {name}; {sweep}; {metric}: {numbers}")
    print(f"\n{time.process_time() - start:.0f} CPU seconds on one thread")


if __name__ == "__main__":
    main()
