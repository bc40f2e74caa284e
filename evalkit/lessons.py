"""What a detector is trained on, looked at before and after: enough, readable, nothing on both sides, something learnt.

A detector fitted on five images, on the same images twice or on nothing that it tells apart is saved and judges like
any other, so the first two are refused and the third is said. `fit` itself has a lower floor: halves of small sets are
fitted inside other protocols, which say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import BadSource, Inconclusive, NothingToEvaluate, TooFewSamples
from .evaluation import MOST_UNREADABLE
from .measurement import Bench, measure
from .samples import select, some
from .types import Detector, Generator, SampleSet

FEWEST = 20  # readable samples a side
MOST_TRIED = 100  # samples a side that a fitted detector is asked about


@dataclass(frozen=True)
class Trained:
    """A saved model with what is to be said of its training, and why it is not one to act on, where that is so."""

    model: Generator | Detector
    warnings: tuple[str, ...] = ()
    inconclusive: str = ""

    def conclude(self) -> None:
        """Raise Inconclusive when over 1 % of a side could not be read."""
        if self.inconclusive:
            raise Inconclusive(self.inconclusive)


def check_lesson(real: SampleSet, fake: SampleSet, bench: Bench) -> tuple[tuple[str, ...], str]:
    """What could not be decoded of each side, in words, and "" or the words of a side that lost over 1 %.

    Raises BadSource when a content is on both sides, TooFewSamples below 20 readable samples a side.
    """
    of_real = {sample.digest: sample.id for sample in real}
    if shared := [sample for sample in fake if sample.digest in of_real]:
        raise BadSource(
            f"{len(shared)} of the {len(fake)} fake samples are real ones too, such as {shared[0].id!r}"
            f" (real: {of_real[shared[0].digest]!r}); take them out of one side"
        )
    said, lost = [], ""
    for role, samples in (("real", real), ("fake", fake)):
        least = f"a detector learns from {FEWEST} {role} samples or more"
        try:
            side = measure(samples, [], bench)
        except NothingToEvaluate as error:
            raise TooFewSamples(f"{least}; {error}") from error
        if len(side.samples) < FEWEST:
            raise TooFewSamples(f"{least}; {samples.name!r} has {len(side.samples)} readable of {len(samples)}")
        if out := side.excluded:
            words = f"{len(out)} of {len(samples)} {role} samples could not be read and were left out"
            said.append(f"{words} (first: {out[0].id}: {out[0].reason})")
            lost = words if len(out) > MOST_UNREADABLE * len(samples) else lost
    return tuple(said), lost


def on_its_own(detector: Detector, real: SampleSet, fake: SampleSet, seed: int, bench: Bench) -> tuple[str, ...]:
    """A warning when all that a detector learnt from get one P(fake), tried on a hundred samples a side."""
    shown = [select(side, some(side, MOST_TRIED, seed)) for side in (real, fake)]
    try:
        rows = [measure(side, [detector], bench).features[detector.name].rows for side in shown]
    except NothingToEvaluate as error:
        return (f"{detector.name} scores none of what it learnt from: {error}",)
    scores = [float(score) for side in rows for score in side[:, 0]]
    if min(scores) < max(scores):
        return ()
    return (
        f"{detector.name} gives P(fake) {scores[0]:.3f} to all of {len(scores)} samples it learnt from; do not use it",
    )
