"""Does MAUVE's interval hold? Counts how often it holds MAUVE's expected value at the same n, for known families.

The expected value, over draws of both sides and over k-means seeds, is the mean over further, independent draws. Every
draw is quantised once, with the metrics' defaults, and gives MAUVE, smoothed MAUVE and the frontier integral.
Prints a Markdown table, a row outside 93 to 97 % in bold: `python -m benchmarks.mauve_coverage [--repeats 200]`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from evalkit.metrics.mauve import area_of_frontier, estimate_of, integral_of_frontier, quantised, value_of
from evalkit.types import Estimate

from .families import gaussian, mixture

HEAD = (
    "| number | family | n a side | d | truth | covered % | below, above % | mean width | SD | width / 3.92 SD "
    "| seeds' part of the variance % |"
)
SIZES = (200, 500, 1000)
# A draw of a thousand costs five times as much as one of two hundred.
COSTLY, FEWER = 500, 100
GOAL = (93.0, 97.0)
NUMBERS = {
    "mauve": (area_of_frontier, 0.0),
    "mauve.star": (area_of_frontier, 0.5),
    "frontier_integral": (integral_of_frontier, 0.0),
}

Parts = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Family:
    """Two sides of known distribution in d columns: `draw` makes n rows of each with a generator."""

    name: str
    d: int
    draw: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


FAMILIES = (
    Family("Gaussian, equal", 16, lambda n, d, g: (gaussian(n, d, g), gaussian(n, d, g))),
    Family("Gaussian, moved by 0.2", 16, lambda n, d, g: (gaussian(n, d, g), gaussian(n, d, g, shift=0.2))),
    Family("Gaussian, moved by 0.8", 16, lambda n, d, g: (gaussian(n, d, g), gaussian(n, d, g, shift=0.8))),
    Family("mixture, moved by 1", 8, lambda n, d, g: (mixture(n, d, g), mixture(n, d, g) + 1)),
    Family("mixture, 3 of 10 modes lost", 32, lambda n, d, g: (mixture(n, d, g), mixture(n, d, g, modes=7))),
)


def quantised_draw(family: Family, n: int, seed: int) -> Parts:
    """The buckets of one draw of both sides, under the metrics' default five k-means seeds."""
    return quantised(*family.draw(n, family.d, torch.Generator().manual_seed(seed)))


def row(number: str, family: Family, n: int, found: list[Estimate], fresh: list[float]) -> str:
    """How often the intervals hold the mean of the fresh values, how wide they are, and what the seeds add to them."""
    truth, repeats = math.fsum(fresh) / len(fresh), len(found)
    below, above = (100 * sum(misses) / repeats for misses in _misses(found, truth))
    covered = f"{100 - below - above:.1f}"
    if not GOAL[0] <= 100 - below - above <= GOAL[1]:
        covered = f"**{covered}**"
    width = math.fsum(e.high - e.low for e in found) / repeats
    spread = float(torch.tensor([e.value for e in found] + fresh, dtype=torch.float64).std())
    seeds = 100 * math.fsum(map(_by_seeds, found)) / repeats
    return (
        f"| {number} | {family.name} | {n} | {family.d} | {truth:.4g} | {covered} | {below:.1f}, {above:.1f} "
        f"| {width:.3g} | {spread:.3g} | {width / (3.92 * spread):.2f} | {seeds:.0f} |"
    )


def _misses(found: list[Estimate], truth: float) -> tuple[list[bool], list[bool]]:
    return [e.high < truth for e in found], [e.low > truth for e in found]


def _by_seeds(found: Estimate) -> float:
    """The part of the variance behind an interval that is of the seeds: "seeds" beside the samples' moves."""
    moves = found.moves or {}
    squares = {name: float(moved.square().sum()) for name, moved in moves.items()}
    return squares.get("seeds", 0.0) / sum(squares.values()) if sum(squares.values()) > 0 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200, help=f"at most; from {COSTLY} a side on {FEWER}")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    print(HEAD)
    print("|---" * (HEAD.count("|") - 1) + "|")
    for n in given.sizes:
        repeats = min(given.repeats, FEWER) if n >= COSTLY else given.repeats
        for family in FAMILIES:
            own = [quantised_draw(family, n, 1_000_000 + i) for i in range(repeats)]
            others = [quantised_draw(family, n, 2_000_000 + i) for i in range(repeats)]
            for name, (number, half) in NUMBERS.items():
                found = [estimate_of(parts, number, half) for parts in own]
                fresh = [value_of(parts, number, half) for parts in others]
                print(row(name, family, n, found, fresh), flush=True)
    print(f"\n{given.repeats} repetitions or fewer, one thread, {(time.process_time() - start) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
