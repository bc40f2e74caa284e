"""Do the error bars hold? Simulates samples of known families and counts how often a 95 % interval holds the truth.

The truth is the statistic's expected value at the same n, the mean over further, independent draws. Prints a Markdown
table, a row outside 93 to 97 % in bold: `python -m benchmarks.coverage [--repeats 400] [--only NAME ...]`.
"""

from __future__ import annotations

import argparse
import math
import time

import torch

from evalkit.types import Estimate

from .coverage_cases import Case, Found, all_cases

HEAD = "| metric | family | n | d | method | truth | covered % | below, above % | mean width | SD | width / 3.92 SD |"
TRUTH_DRAWS = 200
GOAL = (93.0, 97.0)


def parts(found: Estimate | Found) -> Found:
    return {"": found} if isinstance(found, Estimate) else found


def run(case: Case, repeats: int) -> list[str]:
    """Table rows of one case, one a part: intervals from `repeats` draws, the truth from as many others, or 200."""
    found = [parts(case.draw(torch.Generator().manual_seed(1_000_000 + i))) for i in range(repeats)]
    # So many that the truth's own error, SD / sqrt(draws), costs the coverage less than a tenth of a percent.
    draws = min(repeats, TRUTH_DRAWS)
    fresh = [parts(case.draw(torch.Generator().manual_seed(2_000_000 + i))) for i in range(draws)]
    return [row(case, part, [f[part] for f in found], [f[part].value for f in fresh]) for part in found[0]]


def row(case: Case, part: str, estimates: list[Estimate], fresh: list[float]) -> str:
    """How often the intervals hold the mean of the fresh values, on which side they miss, and how wide they are."""
    repeats = len(estimates)
    truth = math.fsum(fresh) / len(fresh)
    below = 100 * sum(e.high < truth for e in estimates) / repeats
    above = 100 * sum(e.low > truth for e in estimates) / repeats
    covered = f"{100 - below - above:.1f}"
    if not GOAL[0] <= 100 - below - above <= GOAL[1]:
        covered = f"**{covered}**"
    width = math.fsum(e.high - e.low for e in estimates) / repeats
    spread = float(torch.tensor([e.value for e in estimates] + fresh, dtype=torch.float64).std())
    ratio = width / (3.92 * spread) if spread > 0 else math.inf
    name = f"{case.metric}.{part}" if part else case.metric
    return (
        f"| {name} | {case.family} | {case.n} | {case.d} | {estimates[0].method} | {truth:.4g} "
        f"| {covered} | {below:.1f}, {above:.1f} | {width:.3g} | {spread:.3g} | {ratio:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400, help="at most; cases that cost much take 200")
    parser.add_argument("--only", nargs="*", default=None, help="metric names")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    print(HEAD)
    print("|---" * HEAD.count(" |") + "|")
    for case in all_cases():
        if given.only is None or case.metric in given.only:
            print("\n".join(run(case, min(given.repeats, case.repeats))), flush=True)
    print(f"\nat most {given.repeats} repetitions, one thread, {(time.process_time() - start) / 60:.0f} CPU minutes")


if __name__ == "__main__":
    main()
