"""Fake-vs-real detectors at work: fitted on one half of two sample sets, judging the other half they never saw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from PIL.Image import Resampling

from . import registry
from .cache import beside, digest_of
from .errors import BadSource, EvalkitError, ModalityMismatch, UnknownName, UsageError
from .hardware import one_thread
from .laundering import resized
from .measurement import Bench, measure
from .normalising import normalised
from .samples import ListedSet, halves
from .samples._transformed import transformed
from .types import (
    Attributor,
    Detector,
    Features,
    Levelled,
    Modality,
    Published,
    Reconstructing,
    Reconstructor,
    Resumable,
    SampleSet,
    Witness,
)

HALVES = "fitted on half of each set by content, tested on the other half"
PUBLISHED = "published weights, nothing fitted"
CARD, RECONSTRUCTOR = "card.json", "reconstructor"
# Pixels a side of what a generator learns to reconstruct.
LARGEST = 32


@dataclass(frozen=True)
class Lesson:
    """What a judge learns from: real and generated samples of which none is ever scored, and the rule they came by."""

    real: SampleSet
    fake: SampleSet
    rule: str


@dataclass(frozen=True)
class Judge:
    """A detector fitted to one subject, with the rows it gave real and generated samples that it never saw.

    `fitted_on` goes into the protocol of its numbers: the rule, the seed and the planned counts.
    """

    detector: Detector
    real: Features
    fake: Features
    fitted_on: Mapping[str, Any]


def fitted(name: str, real: SampleSet, fake: SampleSet, *, seed: int, bench: Bench) -> Detector:
    """The detector `name` fitted to tell `fake` from `real`: found again by content, trained otherwise.

    A published detector is not fitted: it comes with its weights, RunFailed where they cannot be had. One that reads
    reconstructions is given its generator, trained on half of the real samples.
    """
    detector = made(name)
    if isinstance(detector, Published):
        return _obtained(detector, bench.device)
    reconstructor = _reconstructor(detector, real, seed, bench)
    folder = bench.cache.folder("models", digest_of("detector", detector.recipe, real.digest, fake.digest, seed))
    if folder is not None and (folder / CARD).is_file():
        try:
            detector.load(folder)
        except EvalkitError:
            shutil.rmtree(folder, ignore_errors=True)
            detector = made(name)
            _hand_over(detector, reconstructor)
        else:
            return detector
    unfinished = bench.cache.folder("unfinished", digest_of(detector.recipe, real.digest, fake.digest, seed))
    if isinstance(detector, Resumable) and unfinished is not None:
        detector.keep_in(unfinished)
    bench.progress.start(f"{name}: learning {fake.name} from {real.name}", 1)
    # The learned detectors see small images, crops or rows.
    with one_thread():
        # A generator's own training images come back too well: the judge learns from the half it has not seen.
        shown = halves(real)[1] if isinstance(detector, Reconstructing) else real
        detector.fit(shown, fake, seed=seed, device=bench.device)
    bench.progress.finish()
    if folder is not None:
        with beside(folder) as draft:
            detector.save(draft)
    if unfinished is not None:
        shutil.rmtree(unfinished, ignore_errors=True)
    return detector


def made(name: str) -> Detector:
    """The detector `name`, not fitted; UnknownName, or UsageError for a part that says something else than P(fake).

    An attributor names sources; a witness reads evidence out of one file.
    """
    part = registry.detectors.get(name)()
    if isinstance(part, Attributor):
        raise UsageError(f"{name!r} says which source made a sample, not whether it is fake; use evalkit attribute")
    if isinstance(part, Witness):
        raise UsageError(
            f"{name!r} is a witness: it reads evidence out of a file and gives no score; use evalkit audit"
        )
    detector: Detector = part
    return detector


def is_levelled(detector: Detector) -> TypeGuard[Levelled]:
    """Whether both sides are to be brought to one size, codec and quality before it is fitted and asked."""
    return isinstance(detector, Levelled) and detector.levelled


def _obtained(detector: Detector, device: str) -> Detector:
    assert isinstance(detector, Published)
    detector.obtain()
    detector.to(device)
    return detector


def _hand_over(detector: Detector, reconstructor: Reconstructor | None) -> None:
    if isinstance(detector, Reconstructing) and reconstructor is not None:
        detector.take_reconstructor(reconstructor)


def _reconstructor(detector: Detector, real: SampleSet, seed: int, bench: Bench) -> Reconstructor | None:
    """The generator a detector reads reconstructions of, trained on half of the reals and handed over; found again."""
    if not isinstance(detector, Reconstructing):
        return None
    name = detector.reconstructor_name
    generator: Any = registry.generators.get(name)()
    shown = transformed(halves(real)[0], _at_most, f"area to {LARGEST} pixels a side", name=real.name)
    folder = bench.cache.folder("models", digest_of("reconstructor", generator.recipe, shown.digest, seed))
    if folder is not None and (folder / CARD).is_file():
        generator.load(folder)
    else:
        with one_thread():
            generator.fit(shown, seed=seed, device=bench.device, progress=bench.progress)
        if folder is not None:
            with beside(folder) as draft:
                generator.save(draft)
    generator.to(bench.device)
    detector.take_reconstructor(generator)
    return generator  # type: ignore[no-any-return]


def _at_most(image: Any, seed: int) -> Any:
    """The image, its longer side at most LARGEST: generators of ours learn no larger ones."""
    height, width = image.shape[:2]
    factor = LARGEST / max(height, width)
    if factor >= 1:
        return image
    return resized(image, max(1, round(width * factor)), max(1, round(height * factor)), Resampling.BOX)


def judge(
    name: str, real: SampleSet, fake: SampleSet, *, seed: int, bench: Bench, lesson: Lesson | None = None
) -> Judge:
    """Fit `name` on the lesson and score both sets; without a lesson, fit on half of each set and score the rest."""
    if isinstance(made(name), Published):
        # Nothing is learnt from either set, so all of both is judged.
        detector = fitted(name, real, fake, seed=seed, bench=bench)
        facts = {"rule": PUBLISHED, "weights": detector.digest, "trained_on": detector.trained_on}
        return Judge(detector, rows(detector, real, bench), rows(detector, fake, bench), facts)
    about: dict[str, Any]
    if lesson is None:
        # The planned counts, not the found ones: where copies straddle the cut a few samples less are learned from.
        about = {"rule": HALVES, "seed": seed, "n_real": -(-len(real) // 2), "n_fake": -(-len(fake) // 2)}
        real_fit, real = halves(real)
        fake_fit, fake = halves(fake)
        lesson = Lesson(real_fit, fake_fit, HALVES)
    else:
        about = {"rule": lesson.rule, "seed": seed, "n_real": len(lesson.real), "n_fake": len(lesson.fake)}
        about["real"] = lesson.real.digest
    if is_levelled(made(name)):
        level = normalised(lesson.real, lesson.fake, real, fake)
        lesson = Lesson(level.real, level.fakes[0], lesson.rule)
        _, real, fake = level.fakes
        about["rule"] = f"{about['rule']}; {level.plan.words}"
    detector = fitted(name, lesson.real, lesson.fake, seed=seed, bench=bench)
    return Judge(detector, rows(detector, real, bench), rows(detector, fake, bench), about)


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


def modality_of(place: Path | str) -> Modality | None:
    """What a detector judges, told without its weights; None for a place that is no detector."""
    name = str(place)
    if Path(name).is_dir():
        try:
            name = str(json.loads((Path(name) / CARD).read_text("utf-8"))["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    found: Modality | None = getattr(_class_of(name), "modality", None) if name in registry.detectors else None
    return found


def load_detector(place: Path | str, *, device: str = "cpu", modality: Modality | None = None) -> Detector:
    """A fitted detector from its model folder, or a published one by its name.

    modality: of the samples it is for; a detector of others is refused before its weights are had (ModalityMismatch).
    Raises BadSource when the place is no detector folder, UnknownName when it is neither a folder nor a name,
    UsageError for the name of a detector that has to be trained, RunFailed when published weights cannot be had.
    """
    folder = Path(place)
    if modality is not None and (judges := modality_of(place)) not in (None, modality):
        raise ModalityMismatch(f"{place} judges {judges}s; the samples are {modality}s")
    if isinstance(place, str) and folder.is_dir() and place in registry.detectors:
        raise UsageError(f"{place} is a detector's name and a folder here; write ./{place} for the folder")
    if not folder.is_dir() and str(place) in registry.detectors:
        detector = made(str(place))
        if not isinstance(detector, Published):
            raise UsageError(
                f"the detector {place!s} has to be trained first: evalkit train detector {place!s} --real SOURCE"
                " --fake SOURCE --out DIR, then give DIR"
            )
        return _obtained(detector, device)
    if not folder.exists() and folder.name == str(place):
        ready, trainable = _usable(modality)
        taught = f"; or the folder of one trained with evalkit train detector NAME: {', '.join(trainable)}"
        kind = "detector (neither a model folder nor the name of one that needs no training)"
        raise UnknownName(kind, str(place), ready, taught)
    try:
        name = str(json.loads((folder / CARD).read_text("utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSource(
            f"{folder} is not a detector folder (card.json: {error}); see `evalkit train detector`"
        ) from error
    detector = made(name)
    if isinstance(detector, Reconstructing):
        generator: Any = registry.generators.get(detector.reconstructor_name)()
        generator.load(folder / RECONSTRUCTOR)
        detector.take_reconstructor(generator)
    detector.load(folder)
    return detector


def _usable(modality: Modality | None) -> tuple[list[str], list[str]]:
    """Names of the detectors of a modality (None: of all) that can be given as they are, and of those to be trained."""
    ready, trainable = [], []
    for name in registry.detectors.names():
        part = _class_of(name)
        if modality in (None, getattr(part, "modality", None)):
            if hasattr(part, "obtain"):
                # A watermark is tested under a key.
                ready.append(f"{name}:KEY.json" if hasattr(part, "schemes") else name)
            elif hasattr(part, "fit"):
                trainable.append(name)
    return ready, trainable


def _class_of(name: str) -> Any:
    """What makes the detector of a name, without its variant."""
    return registry.detectors.get(name if name in registry.detectors.names() else name.partition(":")[0])


def pooled(samples: Sequence[SampleSet]) -> SampleSet:
    """Several sets of one modality as one, in order, each sample keeping its set's name as group."""
    from dataclasses import replace

    listed = tuple(replace(s, id=f"{part.name}/{s.id}", group=part.name) for part in samples for s in part)
    names = tuple(part.name for part in samples)
    return ListedSet("+".join(names), samples[0].modality, listed, origins=names)
