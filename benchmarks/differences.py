"""Do the intervals of differences hold? Two subjects against one shared sample, their true difference known.

The truth is the mean difference of further, independent draws, or 0 where both subjects have one distribution. Beside
the width stands the width that the same intervals would have without the correlation, and beside the correlation that
was estimated the one that the numbers really have over the draws. Prints a Markdown table, a row outside 93 to 97 % in
bold: `python -m benchmarks.differences [--repeats 400] [--only NAME ...] [--families NAME ...]`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import replace

import torch

from evalkit.differences import difference
from evalkit.pairing import correlation, kept
from evalkit.types import Estimate, MetricResult

from .differences_cases import Case, all_cases

HEAD = (
    "| metric | family | n | d | truth | covered % | below, above % | mean width | without pairing | SD "
    "| width / 3.92 SD | correlation: estimated | real |"
)
TRUTH_DRAWS = 400
GOAL = (93.0, 97.0)


def result(case: Case, estimate: Estimate, subject: str) -> MetricResult:
    """The number as a record would hold it."""
    names = "names" if case.named_alike else subject
    return MetricResult(
        name=case.metric,
        value=estimate.value,
        low=min(estimate.low, estimate.value),
        high=max(estimate.high, estimate.value),
        level=estimate.level,
        interval=estimate.method,
        better="lower",
        unit="",
        n={"real": case.n, "fake": case.n},
        version=1,
        protocol="",
        terms={},
        seconds=0.0,
        moves=kept(estimate.moves, {"real": "real", "fake": names, "draws": "real and as many"}),
    )


def run(case: Case, repeats: int) -> list[str]:
    """Table rows of one case, one a part."""
    found = [case.draw(torch.Generator().manual_seed(1_000_000 + i)) for i in range(repeats)]
    fresh = [] if case.equal else [values(case, 2_000_000 + i) for i in range(TRUTH_DRAWS)]
    return [
        row(case, part, [(a[part], b[part]) for a, b in found], [(a[part], b[part]) for a, b in fresh])
        for part in found[0][0]
    ]


def values(case: Case, seed: int) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Both subjects' numbers by part, of fresh samples."""
    g = torch.Generator().manual_seed(seed)
    if case.values is not None:
        return case.values(g)
    a, b = ({part: e.value for part, e in found.items()} for found in case.draw(g))
    return a, b


def row(case: Case, part: str, pairs: list[tuple[Estimate, Estimate]], fresh: list[tuple[float, float]]) -> str:
    """How often the intervals hold the truth, on which side they miss, and how wide they are, paired and not."""
    results = [(result(case, a, "a"), result(case, b, "b")) for a, b in pairs]
    truth = 0.0 if case.equal else math.fsum(a - b for a, b in fresh) / len(fresh)
    ends = [difference(a, b)[1:] for a, b in results]
    alone = [difference(replace(a, moves={}), replace(b, moves={}))[1:] for a, b in results]
    below = 100 * sum(high < truth for _, high in ends) / len(ends)
    above = 100 * sum(low > truth for low, _ in ends) / len(ends)
    covered = f"{100 - below - above:.1f}"
    if not GOAL[0] <= 100 - below - above <= GOAL[1]:
        covered = f"**{covered}**"
    width, wide = (math.fsum(high - low for low, high in which) / len(which) for which in (ends, alone))
    numbers = torch.tensor([(a.value, b.value) for a, b in pairs] + fresh, dtype=torch.float64)
    spread = float((numbers[:, 0] - numbers[:, 1]).std())
    real = float(torch.corrcoef(numbers.T)[0, 1])
    guessed = math.fsum(correlation(a.moves, b.moves) for a, b in results) / len(results)
    name = f"{case.metric}.{part}" if part else case.metric
    return (
        f"| {name} | {case.family} | {case.n} | {case.d} | {truth:.4g} | {covered} | {below:.1f}, {above:.1f} "
        f"| {width:.3g} | {wide:.3g} | {spread:.3g} | {width / (3.92 * spread):.2f} | {guessed:.2f} | {real:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400, help="at most; cases that cost much take 250 or 300")
    parser.add_argument("--only", nargs="*", default=None, help="metric names")
    parser.add_argument("--families", nargs="*", default=None, help="names of families")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    print(HEAD)
    print("|---" * (HEAD.count("|") - 1) + "|")
    for case in all_cases():
        if case.metric in (given.only or [case.metric]) and case.family in (given.families or [case.family]):
            print("\n".join(run(case, min(given.repeats, case.repeats))), flush=True)
    print(f"\nat most {given.repeats} repetitions, one thread, {(time.process_time() - start) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
