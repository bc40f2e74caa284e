"""Does the false-discovery rate hold, what is found, and where does the promise end? Simulated, and on real media.

    python -m benchmarks.discovery                 simulation and the embedded sets
    python -m benchmarks.discovery --data DIR      with photographs, faces and texts: DIR holds `image` and `text`

Prints Markdown tables. Simulated scores are N(0, 1) of reals and N(2, 1) or N(4, 1) of fakes (AUROC 0.921, 0.998);
2,000 batches a row, with Monte-Carlo standard errors. Real scores are of detectors fitted on other samples; 200 times
the reals are split into a calibration set and what is audited among fakes. A rate over nominal by more than two
standard errors is bold. One thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evalkit.auditing.discovering import METHODS, combined, discoveries, least_calibration, least_flagged
from evalkit.cache import Cache, default_root
from evalkit.calibration import conformal_p_values
from evalkit.detection import fitted, pooled
from evalkit.entrants import trained_generator
from evalkit.generation import generate
from evalkit.judging.operating import scores_of
from evalkit.measurement import Bench, measure
from evalkit.samples import open_samples, select
from evalkit.samples.arrays import from_texts
from evalkit.types import SampleSet

Array = npt.NDArray[np.float64]
Combine = Callable[[Array], Array]
BATCHES, SPLITS, Q = 2000, 200, 0.05
WEAK, STRONG = 2.0, 4.0
RATES = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class World:
    """Where calibration sets and batches are drawn from.

    seen: which detectors notice a fake ("all", "first", "one" at random). copies: how many reals of a batch, or of the
    calibration set, are variants of one, with correlation `alike`. shifted: a share of the batch's reals whose scores
    are higher by `shift`. doubted: shares of fakes and of reals with a reason against their score; they are taken off
    the discoveries, or before they are made where `early`.
    """

    name: str = ""
    n: int = 500
    m: int = 1000
    share: float = 0.05
    apart: float = STRONG
    detectors: int = 1
    correlation: float = 0.5
    seen: str = "all"
    copies: int = 1
    calibration_copies: int = 1
    alike: float = 0.95
    step: float = 0.0
    contaminated: float = 0.0
    shift: float = 0.0
    shifted: float = 1.0
    doubted: tuple[float, float] = (0.0, 0.0)
    early: bool = False


def normals(rng: np.random.Generator, world: World, count: int, copies: int = 1) -> Array:
    """Scores [K, count] of reals: correlated between detectors, alike within each stretch of `copies`."""
    shape = (world.detectors, count)
    found = rng.standard_normal(shape)
    if world.detectors > 1:
        common = rng.standard_normal((1, count))
        found = np.sqrt(world.correlation) * common + np.sqrt(1 - world.correlation) * found
    if copies > 1:
        first = np.repeat(rng.standard_normal((world.detectors, -(-count // copies))), copies, axis=1)[:, :count]
        found = np.sqrt(world.alike) * first + np.sqrt(1 - world.alike) * found
    return found


def noticed(rng: np.random.Generator, world: World, count: int) -> Array:
    """How much higher each detector scores each of `count` fakes, [K, count]."""
    if world.seen == "all":
        return np.full((world.detectors, count), world.apart)
    by = np.zeros(count, int) if world.seen == "first" else rng.integers(world.detectors, size=count)
    return world.apart * (np.arange(world.detectors)[:, None] == by)


def drawn(rng: np.random.Generator, world: World) -> tuple[Array, int]:
    """P-values [K, m] of one batch against a calibration set of its own, its fakes first, and how many they are."""
    calibration = normals(rng, world, world.n, world.calibration_copies)
    foul = round(world.contaminated * world.n)
    calibration[:, :foul] += noticed(rng, world, foul)
    return audited(rng, world, calibration)


def audited(rng: np.random.Generator, world: World, calibration: Array) -> tuple[Array, int]:
    fakes = round(world.share * world.m)
    fake = normals(rng, world, fakes) + noticed(rng, world, fakes)
    real = normals(rng, world, world.m - fakes, world.copies)
    real[:, : round(world.shifted * real.shape[1])] += world.shift
    scores = np.concatenate([fake, real], axis=1)
    if world.step:
        calibration, scores = (np.round(x / world.step) * world.step for x in (calibration, scores))
    return np.stack([conformal_p_values(c, s) for c, s in zip(calibration, scores, strict=True)]), fakes


def outcome(flagged: npt.NDArray[np.bool_], fakes: int) -> tuple[float, float]:
    """Share of reals among the flagged (0 where none is), and share of the fakes that are flagged."""
    return flagged[fakes:].sum() / max(1, flagged.sum()), flagged[:fakes].mean() if fakes else np.nan


def simulated(world: World, methods: Sequence[str] = METHODS, combine: Combine = combined, seed: int = 0) -> str:
    """Cells of one row: realised FDR and power of each method."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    for _ in range(BATCHES):
        p, fakes = drawn(rng, world)
        doubted = rng.random(p.shape[1]) < np.repeat(world.doubted, (fakes, p.shape[1] - fakes))
        together = combine(np.where(doubted, 1.0, p) if world.early else p)
        for method in methods:
            found[method].append(outcome(discoveries(together, Q, method) & ~doubted, fakes))
    return " | ".join(cells(np.array(found[method]), Q) for method in methods)


def cells(outcomes: Array, q: float) -> str:
    """`FDR % (standard error) | power %` of outcomes [R, 2]; bold where the rate is over nominal."""
    rate, error = outcomes[:, 0].mean(), outcomes[:, 0].std(ddof=1) / np.sqrt(len(outcomes))
    shown = f"{rate:.2%} ({error:.2%})".replace("%", "")
    bold = f"**{shown}**" if rate > q + 2 * error else shown
    power = outcomes[:, 1].mean()
    return f"{bold} | " + ("" if np.isnan(power) else f"{100 * power:.1f}")


# ---------------------------------------------------------------------------------------------- simulation

BASE = [
    World(n=n, m=m, share=share, apart=apart)
    for n in (100, 500, 2000)
    for m in (100, 1000)
    for share, apart in ((0.0, STRONG), (0.05, WEAK), (0.05, STRONG), (0.3, WEAK), (0.3, STRONG))
]
HARD = World(n=2000, share=0.3, apart=WEAK)
USUAL = World("as promised", n=2000, share=0.2)
FEWER: dict[str, Any] = {"n": 500, "share": 0.05}
CASES = [
    USUAL,
    *(
        replace(USUAL, name=name, **change)  # type: ignore[arg-type]
        for name, change in (
            ("scores in steps of 0.5 (ties)", {"step": 0.5}),
            ("reals of the batch in 20s of near-copies", {"copies": 20}),
            ("reals of the batch in 20s of exact copies", {"copies": 20, "alike": 1.0}),
            ("reals of the batch in 200s of near-copies", {"copies": 200}),
            ("calibration reals in 20s of near-copies", {"calibration_copies": 20}),
            ("500 calibration reals in 20s of near-copies, 5 % fakes", {"calibration_copies": 20, **FEWER}),
            ("500 calibration reals in fives of near-copies, 5 % fakes", {"calibration_copies": 5, **FEWER}),
            ("1 % of the calibration reals are fakes", {"contaminated": 0.01}),
            ("5 % of the calibration reals are fakes", {"contaminated": 0.05}),
            ("all reals of the batch score 0.25 SD higher", {"shift": 0.25}),
            ("all reals of the batch score 0.5 SD higher", {"shift": 0.5}),
            ("all reals of the batch score 1 SD higher", {"shift": 1.0}),
            ("a tenth of them scores 1 SD higher", {"shift": 1.0, "shifted": 0.1}),
            ("a tenth of them scores 2 SD higher", {"shift": 2.0, "shifted": 0.1}),
            ("all reals of the batch score 0.5 SD lower", {"shift": -0.5}),
            ("reasons against 60 % of fakes, 10 % of reals: flags taken off afterwards", {"doubted": (0.6, 0.1)}),
            ("the same, counted as p = 1 before", {"doubted": (0.6, 0.1), "early": True}),
        )
    ),
]
WHO = (("all three see each fake", "all"), ("one of three sees it", "one"), ("only the first", "first"))
PANELS = [
    replace(HARD, name=f"{words}, rho {rho}", detectors=3, correlation=rho, seen=seen)
    for words, seen in WHO
    for rho in (0.0, 0.5, 0.9)
]
WAYS: dict[str, Combine] = {
    "bonferroni": combined,
    "unanimous": lambda p: combined(p, "unanimous"),
    "twice the mean": lambda p: np.minimum(1.0, 2 * p.mean(0)),  # Vovk & Wang 2020
    "first detector alone": lambda p: p[0],
}


def conditional(n: int, sets: int = 200, batches: int = 100) -> str:
    """One row: the false-discovery rate given the calibration set, over calibration sets of n."""
    rng, world, rates = np.random.default_rng(n), World(n=n), []
    for _ in range(sets):
        calibration = normals(rng, world, n)
        outcomes = []
        for _ in range(batches):
            p, fakes = audited(rng, world, calibration)
            outcomes.append(outcome(discoveries(p[0], Q), fakes)[0])
        rates.append(np.mean(outcomes))
    quantiles = " | ".join(f"{100 * x:.1f}" for x in np.quantile(rates, (0.05, 0.5, 0.95)))
    return f"| {n:,} | {100 * np.mean(rates):.2f} | {quantiles} | {100 * np.mean(np.array(rates) > Q):.0f} |"


def base_rows() -> Iterator[str]:
    for world in BASE:
        strength = "" if not world.share else "weak" if world.apart == WEAK else "strong"
        least = least_flagged(world.n, world.m, Q)
        head = f"| {world.n:,} | {world.m:,} | {world.share:.0%} | {strength} | {least or 'never'}"
        yield f"{head} | {simulated(world)} |"


def panel_rows() -> Iterator[str]:
    for world in PANELS:
        yield f"| {world.name} | " + " | ".join(simulated(world, ("bh",), way) for way in WAYS.values()) + " |"


def sizes() -> Iterator[str]:
    """How many calibration reals it takes, for BH, for BY, and for BH after Bonferroni over three detectors."""
    for files in (100, 1_000, 10_000, 100_000, 1_000_000):
        for share in (0.001, 0.01, 0.1):
            flagged = round(files * share)
            if flagged:
                ways = ({}, {"method": "by"}, {"detectors": 3})
                needs = " | ".join(f"{least_calibration(files, flagged, Q, **way):,}" for way in ways)  # type: ignore[arg-type]
                yield f"| {files:,} | {flagged:,} | {needs} |"


# ---------------------------------------------------------------------------------------------- real media


def scored(names: Sequence[str], lesson: tuple[SampleSet, SampleSet], asked: SampleSet, bench: Bench) -> Array:
    """P(fake) [K, N] of detectors fitted on the lesson."""
    judges = [fitted(name, *lesson, seed=0, bench=bench) for name in names]
    features = measure(asked, judges, bench).features
    return np.stack([scores_of(features[judge.name]) for judge in judges])


def media_rows(name: str, detectors: Sequence[str], real: Array, fake: Array, share: float) -> Iterator[str]:
    """Rows of one set, scores [K, N] and [K, M]: each detector alone, then all together."""
    n = real.shape[1] // 2
    fakes = min(fake.shape[1], round((real.shape[1] - n) * share / (1 - share)))
    panels = [[k] for k in range(len(detectors))] + ([list(range(len(detectors)))] if len(detectors) > 1 else [])
    for panel in panels:
        rng = np.random.default_rng(0)
        found: dict[tuple[float, str], list[tuple[float, float]]] = {(q, w): [] for q in RATES for w in METHODS}
        for _ in range(SPLITS):
            order, taken = rng.permutation(real.shape[1]), rng.permutation(fake.shape[1])[:fakes]
            batch = np.concatenate([fake[:, taken], real[:, order[n:]]], axis=1)
            p = np.stack([conformal_p_values(real[k, order[:n]], batch[k]) for k in panel])
            together = combined(p)
            for q, method in found:
                found[q, method].append(outcome(discoveries(together, q, method), fakes))
        said = detectors[panel[0]] if len(panel) == 1 else "all, Bonferroni"
        m = fakes + real.shape[1] - n
        both = " | ".join(cells(np.array(found[q, w]), q).replace(" | ", " / ") for w in METHODS for q in RATES)
        yield f"| {name} | {said} | {n} | {m} | {fakes / m:.0%} | {both} |"


def drawn_by(generators: Sequence[str], data: Any, n: int, bench: Bench) -> tuple[SampleSet, SampleSet]:
    """n samples of each generator to learn from, and n others."""
    sets = [
        generate(trained_generator(name, data, 0, None, bench), 2 * n, 0, bench, model="0").samples
        for name in generators
    ]
    return pooled([select(s, range(n)) for s in sets]), pooled([select(s, range(n, 2 * n)) for s in sets])


def embedded(bench: Bench) -> Iterator[str]:
    """The embedded digits and prose against the project's own quick generators."""
    for kind, generators, detectors, n in (
        ("digits", ("pca", "gaussian_mixture", "markov_field", "gan"), ("spectrum", "residual", "patch"), 100),
        ("prose", ("ngram", "unigram"), ("ngram_lr",), 150),
    ):
        learn = open_samples(f"embedded:{kind}/train")
        held = pooled([open_samples(f"embedded:{kind}/{split}") for split in ("heldout", "ceiling")])
        lesson, fresh = drawn_by(generators, None, n, bench)
        real, fake = (scored(detectors, (learn, lesson), asked, bench) for asked in (held, fresh))
        for share in (0.1, 0.3):
            yield from media_rows(kind, detectors, real, fake, share)


def shared(data: Path, bench: Bench) -> Iterator[str]:
    """Photographs against generators fitted to others of them, real against generated faces, human and LLM texts."""
    photographs = open_samples(data / "image" / "cifar10_subset")
    order = np.random.default_rng(0).permutation(len(photographs)).tolist()
    learn, held = select(photographs, order[:600]), select(photographs, order[600:])
    lesson, fresh = drawn_by(("pca", "gaussian_mixture"), learn, 300, bench)
    detectors = ("spectrum", "residual", "patch")
    real, fake = (scored(detectors, (learn, lesson), asked, bench) for asked in (held, fresh))
    yield from media_rows("photographs", detectors, real, fake, 0.3)
    sides = [open_samples(data / "image" / "faces" / side) for side in ("real", "fake")]
    order = np.random.default_rng(1).permutation(len(sides[0])).tolist()
    lessons, asked = ([select(side, part) for side in sides] for part in (order[:80], order[80:]))
    real, fake = (scored(detectors, (lessons[0], lessons[1]), side, bench) for side in asked)
    yield from media_rows("faces", detectors, real, fake, 0.3)
    rows = json.loads((data / "text" / "detectrl" / "direct_prompt_test.json").read_text("utf-8"))
    texts = [from_texts(sorted({r["text"] for r in rows if r["label"] == label}), label) for label in ("human", "llm")]
    orders = [np.random.default_rng(2).permutation(len(side)).tolist() for side in texts]
    lessons = [select(side, order[:300]) for side, order in zip(texts, orders, strict=True)]
    asked = [select(side, order[300:]) for side, order in zip(texts, orders, strict=True)]
    real, fake = (scored(("ngram_lr",), (lessons[0], lessons[1]), side, bench) for side in asked)
    yield from media_rows("texts", ("ngram_lr",), real, fake, 0.3)


# ---------------------------------------------------------------------------------------------- printed

BOTH = "FDR % BH | power % | FDR % BY | power %"


def table(name: str, heads: str, rows: Iterator[str]) -> None:
    """Print one Markdown table under its name, row by row."""
    print(f"\n## {name}\n\n| {heads} |\n" + "|---" * (heads.count(" | ") + 1) + "|")
    for row in rows:
        print(row, flush=True)


def main() -> None:
    """Simulate, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discovery", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with image/cifar10_subset, image/faces and text/detectrl")
    parser.add_argument("--only", choices=("simulated", "real"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    if given.only != "real":
        table("Sizes", "files | fakes that stand out | BH | BY | BH, three detectors", sizes())
        heads = f"calibration | files | fakes | apart | least flagged | {BOTH}"
        table("Simulation", heads, base_rows())
        table("Where it ends", f"case | {BOTH}", (f"| {w.name} | {simulated(w)} |" for w in CASES))
        heads = "calibration | FDR %, mean | 5 % of sets under | median | 95 % under | sets over nominal, %"
        table("Given the calibration set", heads, map(conditional, (100, 500, 2000)))
        table("Several detectors", "fakes | " + " | ".join(f"FDR % {w} | power %" for w in WAYS), panel_rows())
    if given.only != "simulated":
        bench = Bench(cache=Cache(default_root()))
        rates = " | ".join(f"{w.upper()}, q = {q:.0%}" for w in METHODS for q in RATES)
        heads = f"set | detector | calibration | files | fakes | {rates}"
        table("Embedded sets", heads, embedded(bench))
        if given.data is not None:
            table("Shared sets", heads, shared(given.data, bench))
    print(f"\n{(time.process_time() - start) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
