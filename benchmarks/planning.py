"""Does a planned n keep its promise? Power of the test that a pilot was used to plan, by simulation.

Two generators with a known difference, one shared reference; a pilot of 200 samples a side plans n for 80 % power
(`evalkit plan --pilot A --against B --detect DIFFERENCE`), then both are measured afresh with n a side. Power is how
often the interval of the difference excludes zero on the right side.

    python -m benchmarks.planning [--repeats 200]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor

from evalkit.comparison import difference
from evalkit.metrics.detection import area_under_roc
from evalkit.metrics.frechet import frechet_estimate
from evalkit.metrics.kernel import kernel_estimate
from evalkit.metrics.likelihood import corpus_perplexity
from evalkit.metrics.neighbours import neighbour_estimates
from evalkit.pairing import kept
from evalkit.sizing import noise_of, sized
from evalkit.types import Estimate, MetricResult

from .families import gaussian, likelihoods

PILOT, TRUTH_RUNS = 200, 400
Pair = Callable[[int, torch.Generator], tuple[Estimate, Estimate]]


def rows(measure: Callable[[Tensor, Tensor], Estimate], one: float, other: float, d: int) -> Pair:
    """Two generators moved by `one` and `other`, measured against the same reference rows."""

    def draw(n: int, g: torch.Generator) -> tuple[Estimate, Estimate]:
        real = gaussian(n, d, g)
        return measure(real, gaussian(n, d, g, shift=one)), measure(real, gaussian(n, d, g, shift=other))

    return draw


def texts(n: int, g: torch.Generator) -> tuple[Estimate, Estimate]:
    """Two language models of which one needs 1.5 % fewer nats a token."""
    one, other = likelihoods(n, g), likelihoods(n, g)
    one[:, 0] *= 0.985
    return corpus_perplexity(other), corpus_perplexity(one)


def coverage(real: Tensor, fake: Tensor) -> Estimate:
    return neighbour_estimates(real, fake)["coverage"]


CASES: tuple[tuple[str, Pair], ...] = (
    ("kid", rows(kernel_estimate, 0.25, 0.2, 8)),
    ("fid", rows(frechet_estimate, 0.25, 0.2, 8)),
    ("auroc", rows(area_under_roc, 0.6, 0.5, 1)),
    ("perplexity", texts),
    ("prdc.coverage", rows(coverage, 0.45, 0.55, 8)),
)


def as_result(name: str, found: Estimate, n: int) -> MetricResult:
    """An estimate as a record would hold it."""
    sides = {"real": n, "fake": n} if name != "perplexity" else {"fake": n}
    moves = kept(found.moves, {"real": "reference"})
    return MetricResult(
        name, found.value, found.low, found.high, found.level, found.method, "lower", "", sides, 1, "", {}, 0.0, moves
    )


def row(name: str, pair: Pair, repeats: int) -> str:
    """The planned n and the power it reached; the true difference is that of the means at the planned n."""

    def draw(n: int, seed: int) -> tuple[MetricResult, MetricResult]:
        one, other = pair(n, torch.Generator().manual_seed(seed))
        return as_result(name, one, n), as_result(name, other, n)

    fresh = [draw(2 * PILOT, 2_000_000 + i) for i in range(TRUTH_RUNS)]
    truth = math.fsum(a.value - b.value for a, b in fresh) / len(fresh)
    plans = []
    for i in range(20):
        a, b = draw(PILOT, 1_000_000 + i)
        plans.append(sized(a, noise_of(a, b), truth, 0.8, 0.05).n)
    n = sorted(plans)[len(plans) // 2]
    found = [difference(*draw(n, i)) for i in range(repeats)]
    power = 100 * sum(low > 0 for _, low, _ in found) / repeats
    spread = f"{min(plans)} to {max(plans)}"
    return f"| {name} | {truth:.4g} | {n} ({spread}) | {repeats} | {power:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| metric | difference | planned n a side, median of 20 pilots (range) | runs | power reached % |")
    print("|---|---|---|---|---|")
    for name, pair in CASES:
        print(row(name, pair, given.repeats), flush=True)


if __name__ == "__main__":
    main()
