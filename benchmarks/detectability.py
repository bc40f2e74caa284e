"""What choosing the best of several detectors does to its AUROC: the largest one, and the one chosen on other samples.

    python -m benchmarks.detectability [--repeats 300]

Scores of five detectors are unit Gaussians with a correlation of 0.3 and known AUROCs. Prints Markdown: bias against
the best true AUROC, and how often the interval holds it, for the largest AUROC with DeLong's interval and for ours.
"""

from __future__ import annotations

import argparse
import math

import torch
from scipy import stats
from torch import Tensor

from evalkit.metrics.detectability import selected_area
from evalkit.metrics.detection import area_under_roc
from evalkit.types import Estimate

CASES = (
    (0.5, 0.5, 0.5, 0.5, 0.5),
    (0.8, 0.8, 0.8, 0.8, 0.8),
    (0.74, 0.72, 0.7, 0.68, 0.66),
    (0.9, 0.8, 0.7, 0.6, 0.5),
    (0.97, 0.95, 0.9, 0.5, 0.5),
)
COUNTS = (60, 160, 400)
CORRELATION = 0.3


def scores(areas: tuple[float, ...], n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Scores [n, K] of reals and of fakes."""
    shift = torch.tensor([math.sqrt(2) * float(stats.norm.ppf(a)) for a in areas])

    def side() -> Tensor:
        common = torch.randn(n, 1, generator=generator) * math.sqrt(CORRELATION)
        return common + torch.randn(n, len(areas), generator=generator) * math.sqrt(1 - CORRELATION)

    return side(), side() + shift


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detectability", description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    repeats = parser.parse_args().repeats
    generator = torch.Generator().manual_seed(0)
    print("| true AUROCs | n a side | largest: bias | holds | detectability: bias | holds |")
    print("|:--|--:|--:|--:|--:|--:|")
    for areas in CASES:
        for n in COUNTS:
            found: dict[str, list[Estimate]] = {"largest": [], "ours": []}
            for repeat in range(repeats):
                real, fake = scores(areas, n, generator)
                each = [area_under_roc(real[:, k], fake[:, k]) for k in range(len(areas))]
                found["largest"].append(max(each, key=lambda e: e.value))
                found["ours"].append(selected_area(real, fake, seed=repeat))
            cells = []
            for estimates in found.values():
                bias = sum(e.value for e in estimates) / repeats - max(areas)
                holds = sum(e.low <= max(areas) <= e.high for e in estimates) / repeats
                cells += [f"{bias:+.3f}", f"{holds:.1%}"]
            print(f"| {', '.join(f'{a:g}' for a in areas)} | {n} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
