"""Walks metrics through the situations and judges the curves: draws, repetitions, verdicts."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from .curves import Curve, Verdict, worst
from .draws import Size
from .scenarios import Kind, Scenario
from .scores import KINDS, TREE_ROWS, scores

Curves: TypeAlias = Mapping[tuple[str, str], Curve]  # by sweep and metric

# The two-sample test trains, which is as much work as all others together.
REPEATS: Mapping[Kind, int] = MappingProxyType({"fidelity": 2, "diversity": 2, "distance": 2, "overall": 1})
ONCE: Mapping[Kind, int] = MappingProxyType(dict.fromkeys(REPEATS, 1))


def follow(
    scenario: Scenario,
    size: Size,
    metrics: Collection[str] = tuple(KINDS),
    *,
    repeats: Mapping[Kind, int] = REPEATS,
    standardise: bool = True,
) -> Curves:
    """The mean curve of each metric in each sweep over some repetitions, with fixed seeds.

    Situations of many thousands of rows have one repetition. The two-sample test, which trains, is made at four points
    only, and of at most 500 rows a side unless sizes are what the situation is about.
    """
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for sweep, walk in scenario.sweeps(size).items():
        for repeat in range(1 if scenario.big else max(repeats.values())):
            seed = zlib.crc32(f"{scenario.name} {sweep} {repeat}".encode())
            steps = list(walk(size, np.random.default_rng(seed)))
            wanted = [metric for metric in metrics if repeat < repeats[KINDS[metric]]]
            for i, (x, real, fake) in enumerate(steps):
                here = scores(real, fake, [metric for metric in wanted if metric != "c2st"], standardise=standardise)
                if "c2st" in wanted and i in _key_points(len(steps)):
                    # The last rows, since an outlier is the very last.
                    rows = 0 if scenario.big else -TREE_ROWS
                    here |= scores(real[rows:], fake[rows:], ["c2st"], standardise=standardise)
                for metric, y in here.items():
                    found.setdefault((sweep, metric), {}).setdefault(float(x), []).append(y)
    return {
        key: Curve(np.array(list(points)), np.array([np.mean(y) for y in points.values()]))
        for key, points in found.items()
    }


def _key_points(points: int) -> set[int]:
    """The ends, the middle, and the last but one, where the modes that fade are all but gone."""
    return {0, (points - 1) // 2, points - 2, points - 1}


def judge(scenario: Scenario, curves: Curves) -> dict[tuple[str, str], Verdict]:
    """By desideratum and metric, the verdict on all sweeps and checks together; None where no check applies."""
    found: dict[tuple[str, str], list[Verdict]] = {}
    for (sweep, metric), curve in curves.items():
        for desideratum, verdict in checked(scenario, sweep, KINDS[metric], curve):
            found.setdefault((desideratum, metric), []).append(verdict)
    return {key: worst(verdicts) for key, verdicts in found.items()}


def checked(scenario: Scenario, sweep: str, kind: Kind, curve: Curve) -> list[tuple[str, Verdict]]:
    """What each check says of one curve, in the order of the checks; None where it does not apply."""
    found: list[tuple[str, Verdict]] = []
    for check in scenario.checks:
        applies = kind in check.kinds and check.sweep in ("", sweep)
        score = check.as_score(curve) if kind == "distance" else curve
        found.append((check.desideratum, check.test(score) if applies else None))
    return found
