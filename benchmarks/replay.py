"""Recorded detector runs replayed: are their AUROCs met, and how far off is RAID's stepped threshold on their scores?

    python -m benchmarks.replay [SCORES]

SCORES: a collection of recorded runs (default: the Fast-DetectGPT runs of the optional test data). Prints how many
recorded AUROCs are met within 1e-12, the means of the published table, and for 5 and 1 % FPR what a stepped search ends
at on the same scores, as recorded and twenty times as large, against the exact order statistic.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.scorefiles.numbers import exact_threshold
from evalkit.scorefiles.reading import read_scores
from evalkit.scorefiles.recorded import Recorded, both_sides, checked, rank_area

ROOT = Path(os.environ.get("EVALKIT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))
GOLD = ROOT / "data" / "text" / "fastdetectgpt" / "gold_scores_gpt3to4.json"
# DATASET_GENERATOR.MODELS.METHOD.json, as the recorded runs are called.
RUN = re.compile(r"_(davinci|gpt-3\.5-turbo|gpt-4)\.(?:.*\.)?([^.]+)\.json$")
STEPS, EPSILON, FIRST_STEP, WRONG_WAY = 50, 0.0005, 0.5, 0.01


def stepped_threshold(human: Any, fpr: float) -> float:
    """The threshold that a stepped search ends at, human scores [n]; a text is called machine at or above it.

    The procedure of RAID's evaluation, stated again: from the mean in steps of 0.5, turned round and halved when the
    distance to the FPR changes sign, turned round when it grows by over 0.01, until the FPR is within 0.0005 or 50
    steps are done; then of all thresholds visited that flag anything the one closest below the FPR, else closest above.
    """
    threshold, step, before = float(np.mean(human)), FIRST_STEP, 0.0
    visited: list[tuple[float, float]] = []
    for _ in range(STEPS):
        share = float(np.mean(human >= threshold))
        away = fpr - share
        if abs(away) <= EPSILON:
            return threshold
        visited.append((away, threshold))
        if before and (away < 0) != (before < 0):
            step *= -0.5
        elif before and abs(away) - abs(before) > WRONG_WAY:
            step *= -1
        threshold, before = threshold + step, away
    flagging = [(away, t) for away, t in visited if away < fpr]
    if not flagging:
        return threshold
    below = [one for one in flagging if one[0] >= 0]
    return min(below)[1] if below else max(flagging)[1]


def _compared(runs: list[Recorded], fpr: float, scale: float) -> str:
    """One row: FPRs that the search and the order statistic realise over all runs, and how far apart their TPRs are."""
    stepped, exact, gaps = [], [], []
    for run in runs:
        human, machine = run.human * scale, run.machine * scale
        at, above = stepped_threshold(human, fpr), exact_threshold(human, fpr).score
        assert above is not None
        stepped.append(float(np.mean(human >= at)))
        exact.append(float(np.mean(human > above)))
        gaps.append(abs(float(np.mean(machine >= at)) - float(np.mean(machine > above))))
    over = sum(share > fpr + EPSILON for share in stepped)
    half = sum(share < fpr / 2 for share in stepped)
    cells = [f"{fpr:.0%}", f"{scale:g}", f"{over} of {len(runs)}", f"{max(stepped):.1%}", f"{half}", f"{max(gaps):.2f}"]
    return "| " + " | ".join([*cells, f"{min(exact):.2%} to {max(exact):.2%}"]) + " |"


def _means(runs: list[Recorded]) -> None:
    """Mean AUROC by method and generator, as the published table has them."""
    areas: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        found = RUN.search(run.name)
        generator, method = found.groups() if found else ("all", run.name)
        areas[method, generator].append(rank_area(run.human, run.machine))
    generators = sorted({generator for _, generator in areas})
    print("| method | " + " | ".join(generators) + " |\n|---" + "|---" * len(generators) + "|")
    for method in sorted({method for method, _ in areas}):
        means = [np.mean(areas[method, g]) if areas[method, g] else float("nan") for g in generators]
        print(f"| {method} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, nargs="?", default=GOLD)
    started = time.process_time()
    runs = [both_sides(checked(run)) for run in read_scores(parser.parse_args().scores)]
    claimed = [(run, run.claims["roc_auc"]) for run in runs if "roc_auc" in run.claims]
    away = [abs(rank_area(run.human, run.machine) - claim) for run, claim in claimed]
    print(f"{sum(x <= 1e-12 for x in away)} of {len(runs)} AUROCs within 1e-12, largest difference {max(away):.2g}\n")
    _means(runs)
    heads = ["FPR", "scores times", "search over the FPR", "worst FPR", "under half of it", "largest TPR gap"]
    print("\n| " + " | ".join([*heads, "exact FPR"]) + " |\n|" + "---|" * (len(heads) + 1))
    for fpr in (0.05, 0.01):
        for scale in (1.0, 20.0):
            print(_compared(runs, fpr, scale))
    print(f"\none thread, {time.process_time() - started:.0f} CPU seconds")


if __name__ == "__main__":
    main()
