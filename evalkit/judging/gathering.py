"""The user's own samples made ready for a calibration: each once, none that is judged as well, scored, counted.

A sample that cannot be used is left out and counted, never passed over: what was left out of a set is said when too
little of it is left, and an input of which more than one part in a hundred is unreadable is no input to act on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..cache import FileDigests
from ..calibration import enough_reals
from ..detection import pooled
from ..errors import BadRows, BadSource, NothingToEvaluate, TooFewSamples, UsageError
from ..measurement import Bench, measure
from ..metrics.detection import area_under_roc
from ..samples import open_samples, select
from ..types import Detector, SampleSet
from .appearance import Appearance
from .operating import Calibration, Plan, Side, scores_of

LEAST_FAKES = 20
# The share of an input that may be unreadable, as for `evalkit compare`.
MOST_UNREADABLE = 0.01


@dataclass
class Inputs:
    """What was said on the way: warnings, and of each input by its option how many of how many could not be read."""

    warnings: list[str]
    unread: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def count(self, option: str, name: str, lost: int, n: int) -> None:
        """Note what could not be read; of several detectors, the one that could read least."""
        if lost > self.unread.get(option, ("", 0, 0))[1]:
            self.unread[option] = (name, lost, n)

    def inconclusive(self) -> list[str]:
        """One sentence an input of which more than 1 % could not be read."""
        return [
            f"{option} {name!r}: {lost} of {n} samples could not be read, more than {MOST_UNREADABLE:.0%}"
            for option, (name, lost, n) in self.unread.items()
            if lost > MOST_UNREADABLE * n
        ]


@dataclass(frozen=True)
class Chosen:
    """The samples of a calibration set that may be used, and how many of it were left out for which reason."""

    samples: SampleSet
    n: int
    overlapping: int = 0
    copies: int = 0

    def without(self, unread: int) -> str:
        """What was left out, in words: "; of 40 given 37 are judged as well, 0 are copies and 1 could not be read"."""
        if not self.overlapping + self.copies + unread:
            return ""
        return (
            f"; of the {self.n:,} of {self.samples.name!r} {self.overlapping:,} were left out because they are judged"
            f" as well, {self.copies:,} because they are copies of others, and {unread:,} could not be read"
        )


def opened(source: Any, judge: Detector, bench: Bench) -> SampleSet:
    return open_samples(source, digests=FileDigests(bench.cache.root), modality=judge.modality)


def gathered(
    judges: Sequence[Detector], samples: SampleSet, calibrate: Any, fake: Sequence[Any], given: Mapping[str, Any],
    bench: Bench, inputs: Inputs,
) -> list[Calibration]:  # fmt: skip
    """A calibration of each detector on the user's reals and fakes without what is judged as well.

    Raises TooFewSamples when what is left does not carry the FPR, with how many were left out for which reason;
    UsageError when a sample is on both sides; and what `calibrated` raises.
    """
    plan = Plan(**given)
    judged_ones = frozenset(s.digest for s in samples)
    real = distinct(opened(calibrate, judges[0], bench), judged_ones, inputs.warnings)
    # Before any network runs.
    _enough(len(real.samples), plan, real, bench)
    fakes = [opened(f, judges[0], bench) for f in fake]
    pool = None if not fakes else fakes[0] if len(fakes) == 1 else pooled(fakes)
    chosen = None
    if pool is not None:
        reals = {r.digest for r in real.samples}
        both = next((s for s in pool if s.digest in reals), None)
        if both is not None:
            raise UsageError(
                f"{both.id!r} is both a calibration real and a calibration fake; one of the sources is wrong"
            )
        chosen = distinct(pool, judged_ones, inputs.warnings)
    return [calibrated(judge, real, chosen, plan, bench, inputs) for judge in judges]


def _enough(n: int, plan: Plan, real: Chosen, bench: Bench) -> None:
    """Nothing where n reals carry the FPR; TooFewSamples with what was left out of the set where not."""
    try:
        enough_reals(n, plan.fpr, plan.confidence)
    except TooFewSamples as error:
        raise TooFewSamples(f"{error}{real.without(_unread(real.samples, bench))}") from error


def _unread(samples: SampleSet, bench: Bench) -> int:
    """How many of the samples cannot be decoded; no network runs."""
    try:
        return len(measure(samples, [], bench).excluded)
    except NothingToEvaluate:
        return len(samples)


def distinct(samples: SampleSet, judged_ones: frozenset[str], warnings: list[str]) -> Chosen:
    """The samples once each and without those that are judged as well: copies are not independent draws.

    Raises TooFewSamples when none is left.
    """
    seen: set[str] = set()
    keep, copies, overlapping = [], 0, 0
    for i, sample in enumerate(samples):
        if sample.digest in judged_ones:
            overlapping += 1
        elif sample.digest in seen:
            copies += 1
        else:
            keep.append(i)
        seen.add(sample.digest)
    if copies:
        warnings.append(f"{samples.name}: {copies} copies of other samples left out of the calibration")
    if overlapping:
        warnings.append(f"{samples.name}: {overlapping} samples that are judged as well left out of the calibration")
    if not keep:
        raise TooFewSamples(
            f"no calibration sample of {samples.name!r} is left: all {len(samples):,} of them are judged as well; give"
            " others"
        )
    left = samples if len(keep) == len(samples) else select(samples, keep)
    return Chosen(left, len(samples), overlapping, copies)


def calibrated(
    judge: Detector, real: Chosen, fake: Chosen | None, plan: Plan, bench: Bench, inputs: Inputs
) -> Calibration:
    """Score the calibration sets with one detector.

    Raises TooFewSamples when there are too few reals for the FPR or fewer than 20 fakes, BadSource when the detector
    learned from these very sets, BadRows when it gives every one of them the same score.
    """
    for word, side in (("real", real), ("fake", fake)):
        if side is not None and side.samples.digest in judge.trained_on:
            raise BadSource(
                f"{judge.name} was trained on the {word} calibration set {side.samples.name!r}: its scores there say"
                " nothing of fresh samples; give others"
            )
    of_real = _side("--calibrate", judge, real, bench, inputs)
    _enough(len(of_real.scores), plan, real, bench)
    of_fake = None if fake is None else _side("--fake", judge, fake, bench, inputs)
    if fake is not None and of_fake is not None and len(of_fake.scores) < LEAST_FAKES:
        left_out = fake.without(len(fake.samples) - len(of_fake.scores))
        raise TooFewSamples(
            f"{len(of_fake.scores)} calibration fakes; a calibration map needs at least {LEAST_FAKES}: give more with"
            f" --fake, or none for an operating point alone{left_out}"
        )
    every = of_real.scores if of_fake is None else np.concatenate([of_real.scores, of_fake.scores])
    if of_fake is not None and len(np.unique(every)) == 1:
        raise BadRows(
            f"{judge.name} gives all {len(every)} calibration samples the score {every[0]:.3g}: it knows nothing"
        )
    if of_fake is not None and len(of_real.scores) > 1:
        inputs.warnings.extend(_orientation(judge.name, of_real, of_fake))
    return Calibration(judge.name, judge.digest, of_real, of_fake, plan)


def _orientation(name: str, real: Side, fake: Side) -> list[str]:
    """What the AUROC of the calibration sets says where its 95 % interval is not wholly above chance."""
    area = area_under_roc(torch.from_numpy(real.scores), torch.from_numpy(fake.scores))
    assert area.low is not None and area.high is not None
    said = f"AUROC {area.value:.3g} [{area.low:.3g}, {area.high:.3g}]"
    if area.high < 0.5:
        return [f"{name} finds the calibration fakes less fake than the reals ({said}); its scores mislead here"]
    if area.low <= 0.5:
        return [f"{name} does not tell the calibration fakes from the reals ({said})"]
    return []


def _side(option: str, judge: Detector, chosen: Chosen, bench: Bench, inputs: Inputs) -> Side:
    samples = chosen.samples
    looks = Appearance(samples.modality)
    found = measure(samples, [judge, looks], bench)
    if found.excluded:
        said = f"{samples.name}: {len(found.excluded)} of {len(samples)} calibration samples unreadable, left out"
        # Two detectors that fail on the same files need not say so twice.
        inputs.warnings.extend({said} - set(inputs.warnings))
        inputs.count(option, samples.name, len(found.excluded), len(samples))
    rows = np.asarray(found.features[looks.name].rows.double().cpu().numpy())
    digests = tuple(s.digest for s in found.samples)
    return Side(samples.name, samples.digest, scores_of(found.features[judge.name]), rows, digests)
