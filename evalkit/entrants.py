"""Subjects become entrants: opened, drawn from a generator, cut to size, told apart, given what judges learn from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import registry
from .cache import FileDigests
from .detection import Lesson
from .errors import BadSource, ModalityMismatch, UsageError
from .generation import generate, load_generator, trained
from .hardware import derive_seed
from .likelihoods import LikelihoodOf
from .measurement import Bench
from .planning import Task
from .samples import halves, open_samples, select, some
from .samples.embedded import PREFIX
from .subjects import Entrant
from .suite import SUITE
from .types import Generator, Modality, SampleSet, Tunable

# The name of a generator, alone or with its controls.
NAMED = re.compile(r"[A-Za-z]\w*(:\w+=.*)?$", re.DOTALL)

FRESH = "fitted on half of the training data and as many fresh samples, tested on all that is scored"


def as_entrant(
    subject: Any,
    real: Any,
    training: SampleSet | None,
    n: int,
    seed: int,
    bench: Bench,
    modality: Modality,
    sample_seed: int | None = None,
) -> Entrant:
    """A subject as an entrant: its samples opened, or drawn from the generator it names.

    sample_seed: the seed of the draw where it is not that of the training. `diffusion:steps=20,guidance=2` is the
    generator with these controls; a folder that `evalkit train generator` wrote is that model.
    """
    if not is_generator(subject):
        samples = open_source(subject, bench, modality=modality)
        return Entrant(samples.name, samples, getattr(samples, "source", samples.name))
    if is_model_folder(subject):
        generator, model = load_generator(Path(subject), {}, bench)
        _check_modality(subject, generator, modality)
        count, label = n, Path(subject).name
    else:
        name, controls = split_controls(str(subject))
        make = registry.generators.get(name)
        _check_modality(subject, make(**controls), modality)
        data = _lesson_data(subject, make, real, training)
        generator, model, label = trained(name, data, seed=seed, bench=bench, controls=controls), str(seed), subject
        count = min(n, len(data)) if make.role == "ceiling" else n
    drawn = generate(generator, count, seed if sample_seed is None else sample_seed, bench, model=model)
    return Entrant(label, drawn.samples, f"generator:{subject}", generator.role, drawn.timing, generator, model)


def as_entrants(
    subject: Any,
    real: Any,
    training: SampleSet | None,
    n: int,
    seed: int,
    bench: Bench,
    modality: Modality,
    grid: tuple[int, int],
) -> list[Entrant]:
    """A subject, and where it is a generator the same one again for every other pair of a training and a sampling seed.

    grid: how many training and sampling seeds. A model that is trained already, and a ceiling, have one training.
    """
    first = as_entrant(subject, real, training, n, seed, bench, modality)
    if first.generator is None:
        return [first]
    fixed = is_model_folder(subject) or first.role == "ceiling"
    pairs = [(t, s) for t in range(1 if fixed else grid[0]) for s in range(grid[1])]
    found = [first]
    for t, s in pairs[1:]:
        # A sampling seed of its own for every cell: draws of two models that share one are not independent.
        drawn_by = derive_seed(seed, "grid", str(t), str(s))
        again = as_entrant(subject, real, training, n, seed + t, bench, modality, drawn_by)
        name = f"{first.name} (training seed {seed + t}, draw {s + 1})"
        found.append(replace(again, name=name, repeats=first.name, seeds=(t, s)))
    return found


def _check_modality(subject: Any, generator: Any, modality: Modality) -> None:
    if not getattr(generator, "takes_any", False) and generator.modality != modality:
        raise ModalityMismatch(
            f"generator {str(subject)!r} makes {generator.modality} samples, the real ones are {modality}"
        )


def _lesson_data(subject: Any, make: Any, real: Any, training: SampleSet | None) -> SampleSet:
    if make.role == "ceiling":
        return _held_back(str(subject), real)
    if training is None:
        raise UsageError(f"generator {subject!r} has to learn from something: give --train SOURCE")
    return training


def _held_back(subject: str, real: Any) -> SampleSet:
    """The data a ceiling draws from: never the reference, never the training data."""
    if isinstance(real, str) and real.startswith(PREFIX):
        return open_samples(f"{real.split('/')[0]}/ceiling")
    raise UsageError(
        f"{subject!r} needs real data held back from the reference; give a folder of it as a subject instead"
    )


def training_data(real: Any, source: Any, modality: Modality, bench: Bench) -> SampleSet | None:
    """What the generators learn from: `source`, or the train split of an embedded `real`, or nothing."""
    if source is not None:
        return open_source(source, bench, split="train", modality=modality)
    if isinstance(real, str) and real.startswith(PREFIX):
        return open_samples(f"{real.split('/')[0]}/train")
    return None


def trained_generator(name: str, data: Any, seed: int, controls: Mapping[str, Any] | None, bench: Bench) -> Generator:
    """A trained generator by name, its data opened; the embedded data of its modality when none is given."""
    make = registry.generators.get(name)(**dict(controls or {}))
    modality: Modality = getattr(make, "learns_from", None) or make.modality
    source = SUITE[modality].data if data is None else data
    split = "ceiling" if make.role == "ceiling" else "train"
    samples = open_source(source, bench, split=split, modality=None if getattr(make, "takes_any", False) else modality)
    return trained(name, samples, seed=seed, bench=bench, controls=controls)


def tuned_generator(
    name: str, start: Path, data: Any, seed: int, controls: Mapping[str, Any] | None, bench: Bench
) -> Generator:
    """The trained generator of the folder `start`, trained further on `data`.

    Raises UsageError for a generator that cannot be trained further, BadSource for a folder of another generator.
    """
    generator, _ = load_generator(start, controls or {}, bench)
    if generator.name != name:
        raise BadSource(f"{start} holds the generator {generator.name!r}, expected {name!r}")
    if not isinstance(generator, Tunable):
        raise UsageError(f"{name} cannot be trained further; leave --from out")
    samples = open_source(data, bench, split="train", modality=generator.modality)
    generator.tune(samples, seed=seed, device=bench.device, progress=bench.progress)
    return generator


def open_source(source: Any, bench: Bench, split: str | None = None, modality: Modality | None = None) -> SampleSet:
    """`open_samples` with the cache's memory of file digests."""
    return open_samples(source, split=split, modality=modality, digests=FileDigests(bench.cache.root))


def opened(subjects: Sequence[Any], modality: Modality, bench: Bench) -> list[Any]:
    """The subjects, those that are samples opened; ModalityMismatch, before any instrument is had, for others' kind."""
    found = []
    for subject in subjects:
        if is_model_folder(subject):
            found.append(subject)
        elif is_generator(subject):
            name, controls = split_controls(str(subject))
            _check_modality(subject, registry.generators.get(name)(**controls), modality)
            found.append(subject)
        else:
            try:
                found.append(open_source(subject, bench, modality=modality))
            except ModalityMismatch as error:
                advice = f"as the real samples are: score {modality}s against {modality}s"
                raise ModalityMismatch(f"{error}, {advice}") from error
    return found


def is_generator(subject: Any) -> bool:
    """Whether a subject is the name of a generator, perhaps with controls, or the folder of a trained one.

    A folder of samples that has a generator's name is given as ./name.
    """
    return is_model_folder(subject) or (
        isinstance(subject, str) and NAMED.match(subject) is not None and _is_known(subject)
    )


def _is_known(subject: str) -> bool:
    return subject.partition(":")[0] in registry.generators


def is_model_folder(subject: Any) -> bool:
    """Whether a subject is a folder that `evalkit train generator` wrote."""
    if not isinstance(subject, str | Path):
        return False
    try:
        card = json.loads((Path(subject) / "card.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and str(card.get("schema")).startswith("evalkit.generator/")


def split_controls(subject: str) -> tuple[str, dict[str, str]]:
    """`diffusion:steps=20,guidance=2` -> the generator's name and its controls as text."""
    name, _, listed = subject.partition(":")
    # A comma stands between two controls only where a name and an equals sign follow: a value may hold commas.
    pairs = re.split(r",(?=\w+=)", listed) if listed else []
    return name, {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def check_generators(subjects: Sequence[Any]) -> None:
    """Raise UnknownName or BadSetting, before anything is trained, for a control that a named generator has not."""
    for subject in subjects:
        if is_generator(subject) and not is_model_folder(subject):
            name, controls = split_controls(str(subject))
            registry.generators.get(name)(**controls)


def rating_generators(
    tasks: Sequence[Task], training: SampleSet | None, seed: int, bench: Bench
) -> dict[str, LikelihoodOf]:
    """The generators that tasks read as instruments, fitted to the training data; UsageError without any."""
    found: dict[str, LikelihoodOf] = {}
    for task in tasks:
        if task.is_rated and task.instrument not in found:
            name = str(task.instrument)
            if training is None:
                raise UsageError(f"{task.label}: {name} has to learn from something: give --train SOURCE")
            found[name] = LikelihoodOf(trained(name, training, seed=seed, bench=bench), str(seed))
    return found


def limited(entrant: Entrant, n: int, seed: int) -> Entrant:
    """At most n samples of a subject, chosen by content and seed."""
    return replace(entrant, samples=select(entrant.samples, some(entrant.samples, n, seed)))


def named_apart(entrants: Sequence[Entrant], taken: Sequence[str] = ()) -> list[Entrant]:
    """Subjects of one name, or of a name already taken, told apart by where they came from."""
    count = Counter([*taken, *(e.name for e in entrants)])
    named, seen = [], Counter[str]()
    for entrant in entrants:
        name = entrant.name if count[entrant.name] == 1 else f"{entrant.name} ({entrant.source})"
        seen[name] += 1
        named.append(replace(entrant, name=name if seen[name] == 1 else f"{name} #{seen[name]}"))
    return named


def lesson(entrant: Entrant, training: SampleSet, seed: int, bench: Bench) -> Lesson | None:
    """Half of the training data, and as many samples of the generator that are never scored."""
    real, rest = halves(training)
    count = min(len(real), len(rest))
    if entrant.role == "ceiling":
        return Lesson(select(real, range(count)), rest, FRESH)
    if entrant.generator is None:
        return None
    drawn = generate(entrant.generator, count, derive_seed(seed, "lesson"), bench, model=str(seed))
    return Lesson(select(real, range(count)), drawn.samples, FRESH)
