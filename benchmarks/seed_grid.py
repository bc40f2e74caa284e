"""What a grid of seeds can tell: coverage of the mean's interval, bias of the spread, how often models are told apart.

    python -m benchmarks.seed_grid

Simulated Gaussian models: a training seed moves a model by `retraining`, a sampling seed by `resampling`, 4,000 grids a
row. "Told apart" counts pairs of models whose means differ by the distance of the column.
"""

from __future__ import annotations

import math

import numpy as np

from evalkit.seeds import Spread, apart, spread

GRIDS = 4000
CASES = ((3, 3, 3.0, 1.0), (3, 3, 1.0, 1.0), (3, 3, 0.0, 1.0), (5, 3, 3.0, 1.0), (5, 1, 3.0, 1.0), (10, 3, 3.0, 1.0))


def drawn(rng: np.random.Generator, trainings: int, samplings: int, retraining: float, resampling: float) -> Spread:
    """The spread of one simulated grid of mean 0."""
    models = retraining * rng.standard_normal((trainings, 1))
    return spread((models + resampling * rng.standard_normal((trainings, samplings))).tolist())


def moved(s: Spread, by: float) -> Spread:
    return Spread(s.mean + by, s.low + by, s.high + by, s.total, s.by_training, s.by_sampling, s.trainings, s.samplings)


def main() -> None:
    """Simulate and print."""
    heads = ("seeds", "sd retraining / resampling", "interval covers", "sd of one run: found / true")
    print("| " + " | ".join((*heads, "apart at 0 sd", "at 2 sd", "at 4 sd")) + " |")
    print("|---|---|---|---|---|---|---|")
    for trainings, samplings, retraining, resampling in CASES:
        rng = np.random.default_rng(0)
        found = [drawn(rng, trainings, samplings, retraining, resampling) for _ in range(GRIDS)]
        true = math.hypot(retraining, resampling)
        covered = np.mean([s.low <= 0 <= s.high for s in found])
        total = math.sqrt(float(np.mean([s.total**2 for s in found])))
        pairs = list(zip(found[::2], found[1::2], strict=True))
        told = [np.mean([apart(a, moved(b, k * true)) for a, b in pairs]) for k in (0, 2, 4)]
        cells = [
            f"{trainings} x {samplings}",
            f"{retraining:g} / {resampling:g}",
            f"{covered:.1%}",
            f"{total:.2f} / {true:.2f}",
            *(f"{t:.1%}" for t in told),
        ]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
