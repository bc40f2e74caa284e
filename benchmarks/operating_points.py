"""Do operating points, p-values and calibration keep what they promise? On Gaussian scores and on a detector's own.

    python -m benchmarks.operating_points                      Gaussian scores and the embedded digits
    python -m benchmarks.operating_points --images DIR         the same on photographs of yours, in folders under DIR

Prints Markdown tables. Reals are split 300 times into a calibration set and fresh reals; the threshold is set on the
one and counted on the other. The detector is `spectrum`, fitted on samples that are in neither part.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from evalkit import registry
from evalkit.cache import Cache, default_root
from evalkit.calibration import (
    METHODS,
    conformal_p_values,
    fitted_map,
    least_reals,
    log_odds,
    operating_point,
)
from evalkit.detection import fitted, pooled
from evalkit.judging.operating import scores_of
from evalkit.measurement import Bench, measure
from evalkit.metrics.calibration import cllr, expected_calibration_error
from evalkit.samples import open_samples, select
from evalkit.types import SampleSet

Array = npt.NDArray[np.float64]
SPLITS = 300
FPRS = (0.05, 0.01)
GENERATORS = ("gan", "vae", "pca", "gaussian_mixture")
MAPS = ("as it is", *METHODS)


def guarantees(name: str, reals: Array, exact: Callable[[float], float] | None = None) -> Iterator[str]:
    """Rows of one source of reals: what was promised and what fresh reals showed over the splits."""
    for fpr in FPRS:
        for confidence in (0.95, 0.0):
            n = len(reals) // 2
            if n < least_reals(fpr, confidence):
                need = least_reals(fpr, confidence)
                yield f"| {name} | {n} | {fpr:.0%} | {_kind(confidence)} | refused: needs {need} | | | | |"
                continue
            rng = np.random.default_rng(0)
            true, over, band, expected, attained = [], 0, 0, 0.0, 0.0
            for _ in range(SPLITS):
                order = rng.permutation(len(reals))
                calibration, fresh = reals[order[:n]], reals[order[n:]]
                point = operating_point(calibration, fpr, confidence)
                flagged = int((fresh > point.threshold).sum())
                true.append(exact(point.threshold) if exact else flagged / len(fresh))
                over += true[-1] > fpr
                band += flagged > stats.binom.ppf(0.975, len(fresh), fpr)
                expected, attained = point.expected_fpr, point.attained
            cells = [f"{np.mean(true):.3%}", f"{expected:.3%}", f"{1 - over / SPLITS:.1%}", f"{attained:.1%}"]
            shares = f"{1 - band / SPLITS:.1%}"
            yield f"| {name} | {n} | {fpr:.0%} | {_kind(confidence)} | {' | '.join(cells)} | {shares} |"


def _kind(confidence: float) -> str:
    return f"{confidence:.0%} confidence" if confidence else "on average"


def uniformity(name: str, reals: Array) -> str:
    """One row: the share of fresh reals' p-values at or under 1, 5, 10 and 50 %, over the splits."""
    rng, found = np.random.default_rng(1), []
    n = len(reals) // 2
    for _ in range(SPLITS):
        order = rng.permutation(len(reals))
        found.append(conformal_p_values(reals[order[:n]], reals[order[n:]]))
    p = np.concatenate(found)
    shares = " | ".join(
        f"{(p <= a).mean():.3%} / {np.floor(a * (n + 1)) / (n + 1):.3%}" for a in (0.01, 0.05, 0.1, 0.5)
    )
    return f"| {name} | {n} | {shares} |"


def calibration(name: str, real: Array, fake: Array, splits: int = 10) -> Iterator[str]:
    """Two rows: ECE and Cllr on fresh halves, before and after each map, as mean over the splits (and deviation)."""
    found: dict[str, list[tuple[float, float]]] = {m: [] for m in MAPS}
    rng = np.random.default_rng(2)
    for _ in range(splits):
        sides = [(rng.permutation(side), len(side) // 2) for side in (real, fake)]
        calibrating, fresh = ([part(s, n) for s, n in sides] for part in (lambda s, n: s[:n], lambda s, n: s[n:]))
        for method in MAPS:
            if method == "as it is":
                p = [1 / (1 + np.exp(-side)) for side in fresh]
            else:
                learnt = fitted_map(method, *calibrating)
                p = [learnt(side).p_fake for side in fresh]
            tensors = [torch.from_numpy(side) for side in p]
            found[method].append((expected_calibration_error(*tensors).ece, cllr(*tensors).value))
    for column, measure_name in ((0, "ECE"), (1, "Cllr, bits")):
        cells = []
        for method in MAPS:
            values = [pair[column] for pair in found[method]]
            cells.append(f"{np.mean(values):.3f} ({np.std(values):.3f})")
        yield f"| {name} | {len(real) // 2} + {len(fake) // 2} | {measure_name} | {' | '.join(cells)} |"


# ---------------------------------------------------------------------------------------------- where scores come from


def scores(detector: Any, samples: SampleSet, bench: Bench) -> Array:
    """Log-odds of fake [N]."""
    return log_odds(scores_of(measure(samples, [detector], bench).features[detector.name]))


def softened(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Every pixel averaged with its right and lower neighbours: a mild loss of detail."""
    padded = np.pad(image.astype(float), ((0, 1), (0, 1), (0, 0)), mode="edge")
    mean = (6 * padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:]) / 8
    return np.rint(mean).astype(np.uint8)


def photographs(folder: Path, bench: Bench) -> tuple[Array, Mapping[str, Array]]:
    """Scores of photographs the detector never saw, and of others of them softened; fitted on a quarter of each."""
    from evalkit.samples._transformed import transformed

    samples = open_samples(folder)
    order = np.random.default_rng(0).permutation(len(samples))
    learn, fake_learn, fake, real = np.split(order, (np.array([0.125, 0.25, 0.5]) * len(order)).astype(int))
    soft = {
        k: transformed(select(samples, v), lambda i, _: softened(i), "softened")
        for k, v in (("l", fake_learn), ("f", fake))
    }
    judge = fitted("spectrum", select(samples, learn), soft["l"], seed=0, bench=bench)
    return scores(judge, select(samples, real), bench), {"softened": scores(judge, soft["f"], bench)}


def digits(bench: Bench) -> tuple[Array, Mapping[str, Array]]:
    """Scores of held-out digits, and of what generators drew, by a detector of each fitted on other samples."""
    from evalkit.entrants import trained_generator
    from evalkit.generation import generate

    learn = open_samples("embedded:digits/train")
    # What neither the generators nor the detectors learned from.
    held = pooled([open_samples(f"embedded:digits/{split}") for split in ("heldout", "ceiling")])
    fakes: dict[str, Array] = {}
    reals = np.empty(0)
    for name in GENERATORS:
        drawn = generate(trained_generator(name, None, 0, None, bench), 800, 0, bench, model="0").samples
        judge = fitted("spectrum", learn, select(drawn, range(400)), seed=0, bench=bench)
        fakes[name] = scores(judge, select(drawn, range(400, 800)), bench)
        fakes[f"{name} reals"] = scores(judge, held, bench)
        reals = fakes[f"{name} reals"] if name == "gan" else reals
    return reals, fakes


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operating_points", description=__doc__)
    parser.add_argument("--images", type=Path, help="photographs in folders under this one")
    given = parser.parse_args()
    bench = Bench(cache=Cache(default_root()))
    pools: list[tuple[str, Array, Callable[[float], float] | None]] = []
    draws = np.random.default_rng(0)
    zoo: list[tuple[str, Array, Array]] = []
    reals, fakes = digits(bench)
    pools.append(("digits, `spectrum`", reals, None))
    zoo += [(f"digits, {name}", fakes[f"{name} reals"], fakes[name]) for name in GENERATORS]
    if given.images is not None:
        reals, fakes = photographs(given.images, bench)
        pools.append(("photographs, `spectrum`", reals, None))
        zoo.append(("photographs, softened", reals, fakes["softened"]))
    table("Guarantees", gaussian_rows(draws) + [row for name, r, e in pools for row in guarantees(name, r, e)])
    table("P-values", [uniformity(name, r) for name, r, _ in [("Gaussian", draws.normal(size=700), None), *pools]])
    table("Calibration", [row for name, real, fake in zoo for row in calibration(name, real, fake)])


def gaussian_rows(draws: np.random.Generator) -> list[str]:
    """New N(0, 1) reals for every split, so that the true FPR of each threshold is known exactly."""
    rows = []
    for n in (100, 350, 3000):
        for fpr in FPRS:
            for confidence in (0.95, 0.0):
                if n < (need := least_reals(fpr, confidence)):
                    rows.append(f"| Gaussian | {n} | {fpr:.0%} | {_kind(confidence)} | refused: needs {need} | | | | |")
                    continue
                points = [operating_point(draws.normal(size=n), fpr, confidence) for _ in range(SPLITS)]
                true = stats.norm.sf([p.threshold for p in points])
                flagged = draws.binomial(n, true)
                band = (flagged <= stats.binom.ppf(0.975, n, fpr)).mean()
                cells = [f"{true.mean():.3%}", f"{points[0].expected_fpr:.3%}", f"{(true <= fpr).mean():.1%}"]
                cells += [f"{points[0].attained:.1%}", f"{band:.1%}"]
                rows.append(f"| Gaussian | {n} | {fpr:.0%} | {_kind(confidence)} | {' | '.join(cells)} |")
    return rows


HEADS: Mapping[str, Sequence[str]] = {
    "Guarantees": (
        "reals", "n", "nominal FPR", "promise", "mean FPR", "expected", "splits at or under nominal", "promised",
        "fresh count within the 97.5 % band",
    ),
    "P-values": ("reals", "n", "p <= 1 % (seen / exact)", "p <= 5 %", "p <= 10 %", "p <= 50 %"),
    "Calibration": ("scores", "n to calibrate", "", *MAPS),
}  # fmt: skip


def table(name: str, rows: Sequence[str]) -> None:
    """Print one Markdown table under its name."""
    heads = HEADS[name]
    print("\n".join([f"\n## {name}\n", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows]), flush=True)


if __name__ == "__main__":
    registry.detectors.get("spectrum")
    main()
