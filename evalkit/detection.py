"""Fake-vs-real detectors at work: fitted on one half of two sample sets, judging the other half they never saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import registry
from .cache import beside, digest_of
from .errors import BadSource, EvalkitError
from .measurement import Bench, measure
from .samples import ListedSet, halves
from .types import Detector, Features, SampleSet


@dataclass(frozen=True)
class Judge:
    """A detector fitted on the fitting halves of `real` and `fake`, with the rows it gave the testing halves."""

    detector: Detector
    real: Features
    fake: Features
    fitted_on: Mapping[str, Any]


def fitted(name: str, real: SampleSet, fake: SampleSet, *, seed: int, bench: Bench) -> Detector:
    """The detector `name` fitted to tell `fake` from `real`: found again by content, trained otherwise."""
    detector: Detector = registry.detectors.get(name)()
    folder = bench.cache.folder("models", digest_of("detector", detector.recipe, real.digest, fake.digest, seed))
    if folder is not None and (folder / "card.json").is_file():
        try:
            detector.load(folder)
        except EvalkitError:
            shutil.rmtree(folder, ignore_errors=True)
            detector = registry.detectors.get(name)()
        else:
            return detector
    bench.progress.start(f"{name}: learning {fake.name} from {real.name}", 1)
    detector.fit(real, fake, seed=seed, device=bench.device)
    bench.progress.finish()
    if folder is not None:
        with beside(folder) as draft:
            detector.save(draft)
    return detector


def judge(name: str, real: SampleSet, fake: SampleSet, *, seed: int, bench: Bench) -> Judge:
    """Fit `name` on one half of each set by content and let it score the other halves."""
    real_fit, real_test = halves(real)
    fake_fit, fake_test = halves(fake)
    detector = fitted(name, real_fit, fake_fit, seed=seed, bench=bench)
    about = {"rule": "half of each set, by content", "seed": seed, "n_real": len(real_fit), "n_fake": len(fake_fit)}
    return Judge(detector, rows(detector, real_test, bench), rows(detector, fake_test, bench), about)


def rows(detector: Detector, samples: SampleSet, bench: Bench) -> Features:
    """P(fake) of every readable sample, [N, 1]."""
    return measure(samples, [detector], bench).features[detector.name]


def cross_rows(judges: Mapping[str, Judge], bench: Bench) -> dict[tuple[str, str], tuple[Features, Features]]:
    """(trained on, tested on) -> rows of the real and the fake testing half, for every pair of subjects.

    All judges are one kind of detector fitted against the same reals, so each sees fakes of others for the first time
    and the same reals it was tested on before.
    """
    table = {}
    for trained_on, own in judges.items():
        for tested_on, other in judges.items():
            fake = own.fake if trained_on == tested_on else rows(own.detector, other.fake.samples, bench)
            table[trained_on, tested_on] = (own.real, fake)
    return table


def load_detector(folder: Path) -> Detector:
    """A fitted detector from its model folder; BadSource when the folder is not one."""
    try:
        name = json.loads((folder / "card.json").read_text("utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSource(
            f"{folder} is not a detector folder (card.json: {error}); see `evalkit train detector`"
        ) from error
    detector: Detector = registry.detectors.get(str(name))()
    detector.load(folder)
    return detector


def pooled(samples: Sequence[SampleSet]) -> SampleSet:
    """Several sets of one modality as one, in order, each sample keeping its set's name as group."""
    from dataclasses import replace

    listed = tuple(replace(s, id=f"{part.name}/{s.id}", group=part.name) for part in samples for s in part)
    return ListedSet("+".join(part.name for part in samples), samples[0].modality, listed)
