"""A grid of training and sampling seeds: how far each moves a number, and whether one seed is enough to rank models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, mean, median, variance

from .columns import result_of
from .differences import NO_INTERVAL, QUANTILE
from .types import Column, RunRecord, Table

# Two models stand in the wrong order this often, by chance, before one seed each is called too few.
MOST_WRONG = 0.025


@dataclass(frozen=True)
class Run:
    """One record of a generator: which training seed and which sampling seed made it, counted from 0."""

    subject: str
    train: int
    sample: int
    record: RunRecord


@dataclass(frozen=True)
class Spread:
    """A number over a grid of seeds: its mean with a 95 % interval, and what moves it, as standard deviations.

    by_training: the spread of models of different training seeds; None with one training seed, or when one sampling
    seed each cannot tell it from `by_sampling`. by_sampling: the spread of draws from one model; None with one sampling
    seed. total: of a single run of one seed each. The interval is of the mean over training seeds, Student's t.
    by_interval: what the runs' own intervals stand for, the draw of both sides' samples; the median over the runs, None
    where they have none. Resampling leaves the real samples as they are, so it may be less.
    """

    mean: float
    low: float
    high: float
    total: float
    by_training: float | None
    by_sampling: float | None
    trainings: int
    samplings: int
    by_interval: float | None = None


def spread(values: Sequence[Sequence[float]]) -> Spread:
    """The variance components of values[training][sampling], each training with as many samplings.

    Balanced one-way random effects by analysis of variance; a negative component is 0. With one training seed the
    interval of the mean covers resampling only. Searle, Casella & McCulloch 1992, section 3.5.
    """
    means = [mean(row) for row in values]
    trainings, samplings = len(values), len(values[0])
    within = mean(variance(row) for row in values) if samplings > 1 else None
    between = variance(means) if trainings > 1 else None
    # The mean of S draws of a model still moves by within / S: that part is not the training's.
    by_training = None if between is None or within is None else max(0.0, between - within / samplings)
    if between is not None:
        total = between if within is None else (by_training or 0.0) + within
        error, freedom = math.sqrt(between / trainings), trainings - 1
    else:
        total = within or 0.0
        error, freedom = math.sqrt(total / samplings), samplings - 1
    centre, half = mean(means), _t(freedom) * error
    return Spread(
        centre,
        centre - half,
        centre + half,
        math.sqrt(total),
        None if by_training is None else math.sqrt(by_training),
        None if within is None else math.sqrt(within),
        trainings,
        samplings,
    )


def wrong_order(a: Spread, b: Spread) -> float:
    """How often one run of each, of one seed each, would put two models in the other order than their means, 0..0.5."""
    both = math.hypot(a.total, b.total)
    return 0.0 if both == 0 else NormalDist().cdf(-abs(a.mean - b.mean) / both)


def apart(a: Spread, b: Spread) -> bool:
    """Whether the difference of two means over seeds has a 95 % interval without zero (Welch 1947)."""
    errors = [((x.high - x.low) / 2 / _t(_freedom(x))) ** 2 for x in (a, b)]
    if sum(errors) == 0:
        return a.mean != b.mean
    parts = sum(e**2 / _freedom(x) for e, x in zip(errors, (a, b), strict=True))
    return abs(a.mean - b.mean) > _t(sum(errors) ** 2 / parts) * math.sqrt(sum(errors))


def spreads(columns: Sequence[Column], runs: Sequence[Run]) -> dict[str, dict[str, Spread]]:
    """Column -> subject -> its spread, for subjects whose every run has that number."""
    found: dict[str, dict[str, Spread]] = {}
    for column in columns:
        grids: dict[str, dict[int, list[float]]] = {}
        errors: dict[str, list[float]] = {}
        for run in runs:
            result = result_of(run.record, column.name)
            grids.setdefault(run.subject, {}).setdefault(run.train, []).append(
                math.nan if result is None else result.value
            )
            if result is not None and result.interval not in NO_INTERVAL:
                errors.setdefault(run.subject, []).append((result.high - result.low) / 2 / QUANTILE)
        for subject, grid in grids.items():
            rows = list(grid.values())
            whole = len({len(row) for row in rows}) == 1 and len(rows) * len(rows[0]) > 1
            if whole and all(math.isfinite(v) for row in rows for v in row):
                own = errors.get(subject)
                made = replace(spread(rows), by_interval=median(own) if own else None)
                found.setdefault(column.name, {})[subject] = made
    return found


def said(columns: Sequence[Column], found: Mapping[str, Mapping[str, Spread]], roles: Mapping[str, str]) -> list[str]:
    """The grid in words: what moves the leading number more, and which candidates one seed cannot rank."""
    lines = []
    lead = next((c.name for c in columns if c.name in found), None)
    if lead is None:
        return []
    ratios = [s.by_training / s.by_sampling for s in found[lead].values() if s.by_training and s.by_sampling]
    if ratios:
        lines.append(
            f"Retraining moves {lead} {median(ratios):.1f} times as much as resampling (median over generators)."
        )
    elif any(s.by_training == 0 for s in found[lead].values()):
        lines.append(f"Retraining moves {lead} by nothing that these seeds could tell from resampling.")
    unsure, never = [], []
    own = [(name, s) for name, s in found[lead].items() if roles.get(name) == "candidate"]
    for i, (a, first) in enumerate(own):
        for b, second in own[i + 1 :]:
            wrong = wrong_order(first, second)
            if not apart(first, second):
                never.append(f"{a} and {b}")
            elif wrong > MOST_WRONG:
                unsure.append(f"{a} and {b} (wrong order in about {wrong:.0%} of single runs)")
    if unsure:
        lines.append(f"One seed is not enough on {lead} to rank {'; '.join(unsure)}.")
    if never:
        grid = next(iter(found[lead].values()))
        lines.append(
            f"Not even {grid.trainings} x {grid.samplings} seeds rank on {lead}: {'; '.join(never)}"
            " (the interval of the difference of the means includes zero)."
        )
    return lines


def seeds_table(columns: Sequence[Column], found: Mapping[str, Mapping[str, Spread]]) -> Table | None:
    """Every number's mean over the seeds and what moves it, one row a number and generator."""
    rows = [
        (
            column.name,
            subject,
            f"{s.trainings} x {s.samplings}",
            f"{s.mean:.4g} [{s.low:.4g}, {s.high:.4g}]",
            _number(s.by_training),
            _number(s.by_sampling),
            _number(s.by_interval),
            _number(s.total),
        )
        for column in columns
        for subject, s in found.get(column.name, {}).items()
    ]
    header = (
        "number",
        "generator",
        "seeds",
        "mean [95 %]",
        "sd retraining",
        "sd resampling",
        "sd by interval",
        "sd of one run",
    )
    note = (
        "Training seeds x sampling seeds. The leaderboard shows the first seed of each; this is how far others move it."
        " sd retraining is between models of different training seeds, sd resampling between draws of one model; sd by"
        " interval is what the intervals on the board stand for, the draw of generated and real samples."
    )
    return Table("Seeds", note, header, tuple(rows)) if rows else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _freedom(s: Spread) -> int:
    return (s.trainings if s.trainings > 1 else s.samplings) - 1


def _t(freedom: float) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy import stats

    return float(stats.t.ppf(0.975, freedom))
