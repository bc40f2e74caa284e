"""What a cross-generator matrix holds: who learnt from what, every reading, means over cells, and all of it as JSON.

"Unseen" is a cell whose generator the detector was not shown when it was fitted here. A detector given as it is was
fitted elsewhere: its cells are neither, unless what it says it was trained on names one of the sets. Means are over
cells, so every generator counts the same whatever its number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..types import Estimate, Excluded
from .readings import READINGS, Reading, estimated, mean_again, plain
from .regimes import Cut, Regime

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = "as given"
# By which rule detectors are ranked: the first of these that was asked for.
RANKING = ("leave-one-out", "leave-family-out", "pairs", "each")


@dataclass(frozen=True)
class Lesson:
    """One fitted detector: by which row of which rule, on how many samples of which digests."""

    detector: str
    regime: Regime
    digest: str
    trained_on: str
    n_real: int
    n_fake: int
    real_digest: str
    fake_digest: str


@dataclass(frozen=True)
class Found:
    """Everything measured: readings by number of the lesson and generator; leaks before anything was changed."""

    source: str
    real: Cut
    fakes: tuple[Cut, ...]
    lessons: tuple[Lesson, ...]
    readings: Mapping[tuple[int, str], Reading]
    leaks: Mapping[str, Estimate | None]
    preparation: str
    warnings: tuple[str, ...]
    excluded: tuple[tuple[str, Excluded], ...]
    notes: tuple[str, ...] = ()

    @property
    def detectors(self) -> list[str]:
        return list(dict.fromkeys(lesson.detector for lesson in self.lessons))

    @property
    def rules(self) -> list[str]:
        return list(dict.fromkeys(lesson.regime.rule for lesson in self.lessons))

    @property
    def n_smallest(self) -> int:
        """Samples of the smallest testing side."""
        reading = next(iter(self.readings.values()))
        return min(reading.n_real, *(r.n_fake for r in self.readings.values()))

    def cells(self, detector: str, rule: str, *, unseen: bool | None = None, on: str | None = None) -> list[Reading]:
        """The cells of a detector under a rule: all, the unseen or the seen ones, of one generator or of all."""
        return [
            self.readings[i, fake.name]
            for i, lesson in enumerate(self.lessons)
            if lesson.detector == detector and lesson.regime.rule == rule
            for fake in self.fakes
            if (unseen is None or is_unseen(lesson, fake.name) is unseen) and on in (None, fake.name)
        ]

    def mean(self, detector: str, rule: str, name: str = "auroc", *, unseen: bool | None = True) -> Tensor | None:
        """A reading's mean over cells, [1 + draws]; None without such cells."""
        return mean_again(self.cells(detector, rule, unseen=unseen), name)

    def ranked(self, detector: str) -> tuple[str, Tensor] | None:
        """The rule by which a detector fitted here is ranked and its mean AUROC on generators it never saw."""
        for rule in RANKING:
            mean = self.mean(detector, rule)
            if mean is not None:
                return rule, mean
        return None


def is_unseen(lesson: Lesson, name: str) -> bool | None:
    """Whether a detector never saw a generator; None where it was fitted elsewhere, which cannot be told."""
    if lesson.regime.rule == GIVEN:
        return False if name in lesson.regime.seen else None
    return name not in lesson.regime.seen


def kinds(rule: str) -> tuple[bool | None, ...]:
    """The cells that are averaged under a rule: unseen ones, then seen ones; all together where fitted elsewhere."""
    return (None,) if rule == GIVEN else (True, False)


def plain_matrix(found: Found) -> dict[str, Any]:
    """Every number with its interval and n as plain JSON."""
    return {
        "preparation": found.preparation,
        "sets": [_plain_set(found, one) for one in (found.real, *found.fakes)],
        "lessons": [_plain_lesson(i, lesson) for i, lesson in enumerate(found.lessons)],
        "cells": [_plain_cell(found, i, name, reading) for (i, name), reading in found.readings.items()],
        "means": [m for d in found.detectors for r in found.rules for u in kinds(r) if (m := _mean(found, d, r, u))],
        "differences": _differences(found),
    }


def _plain_set(found: Found, one: Cut) -> dict[str, Any]:
    leak = found.leaks.get(one.name)
    return {
        "name": one.name,
        "family": one.family,
        "n": len(one),
        "different": one.distinct,
        "digest": one.digest,
        "fit": {"n": len(one.fit), "digest": one.fit.digest},
        "test": {"n": len(one.test), "digest": one.test.digest},
        "leak_auc": None if leak is None else plain(leak),
    }


def _plain_lesson(number: int, lesson: Lesson) -> dict[str, Any]:
    return {
        "lesson": number,
        "detector": lesson.detector,
        "rule": lesson.regime.rule,
        "label": lesson.regime.label,
        "seen": list(lesson.regime.seen),
        "n": {"real": lesson.n_real, "fake": lesson.n_fake},
        "real": lesson.real_digest,
        "fake": lesson.fake_digest,
        "digest": lesson.digest,
        "trained_on": lesson.trained_on,
    }


def _plain_cell(found: Found, number: int, name: str, reading: Reading) -> dict[str, Any]:
    values: dict[str, Any] = {key: {"why": why} for key, why in reading.missing.items()}
    for key in READINGS:
        estimate = reading.estimate(key)
        values.update({} if estimate is None else {key: plain(estimate)})
    unseen = is_unseen(found.lessons[number], name)
    about = {"lesson": number, "tested_on": name, "unseen": unseen, "constant": reading.is_constant}
    return {**about, "n": {"real": reading.n_real, "fake": reading.n_fake}, **values}


def _mean(found: Found, detector: str, rule: str, unseen: bool | None) -> dict[str, Any]:
    cells = found.cells(detector, rule, unseen=unseen)
    if not cells:
        return {}
    values = {}
    for name in READINGS:
        mean = mean_again(cells, name)
        values.update({} if mean is None else {name: plain(estimated(name, mean, found.n_smallest))})
    return {"detector": detector, "rule": rule, "unseen": unseen, "cells": len(cells), **values}


def _differences(found: Found) -> list[dict[str, Any]]:
    """Mean AUROC of every detector less every later one's: on unseen generators, and among those given as they are."""
    lines = []
    for rule in [r for r in found.rules if r in (*RANKING, GIVEN)]:
        means = {d: found.mean(d, rule, unseen=kinds(rule)[0]) for d in found.detectors}
        names = [name for name, mean in means.items() if mean is not None]
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                ours, theirs = means[a], means[b]
                assert ours is not None and theirs is not None
                difference = plain(estimated("auroc", ours - theirs))
                lines.append({"detector": a, "less": b, "rule": rule, "auroc": difference})
    return lines
