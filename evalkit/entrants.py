"""Subjects become entrants: opened, drawn from a generator, cut to size, told apart, given what judges learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import registry
from .board import narrowed
from .cache import FileDigests
from .detection import Lesson
from .errors import ModalityMismatch, UsageError
from .generation import generate, trained
from .hardware import derive_seed
from .measurement import Bench, Measured
from .samples import halves, open_samples, select
from .samples.embedded import PREFIX
from .subjects import Entrant
from .suite import SUITE
from .types import Generator, Modality, SampleSet

FRESH = "fitted on half of the training data and as many fresh samples, tested on all that is scored"


def as_entrant(
    subject: Any,
    real: Any,
    training: SampleSet | None,
    n: int,
    seed: int,
    bench: Bench,
    modality: Modality,
) -> Entrant:
    """A subject as an entrant: its samples opened, or drawn from the generator it names."""
    if not is_generator(subject):
        samples = open_source(subject, bench, modality=modality)
        return Entrant(samples.name, samples, getattr(samples, "source", samples.name))
    make = registry.generators.get(str(subject))
    if make.role != "ceiling" and make.modality != modality:
        raise ModalityMismatch(f"generator {subject!r} makes {make.modality} samples, the real ones are {modality}")
    if make.role == "ceiling":
        data = _held_back(str(subject), real)
    elif training is None:
        raise UsageError(f"generator {subject!r} has to learn from something: give --train SOURCE")
    else:
        data = training
    generator = trained(str(subject), data, seed=seed, bench=bench)
    count = min(n, len(data)) if make.role == "ceiling" else n
    drawn = generate(generator, count, seed, bench, model=str(seed))
    return Entrant(str(subject), drawn.samples, f"generator:{subject}", generator.role, drawn.timing, generator)


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
    make = registry.generators.get(name)
    modality: Modality = make.modality
    source = SUITE[modality].data if data is None else data
    if make.role == "ceiling":
        # It holds whatever real data it is given, images or texts.
        samples = open_source(source, bench, split="ceiling")
    else:
        samples = open_source(source, bench, split="train", modality=modality)
    return trained(name, samples, seed=seed, bench=bench, controls=controls)


def open_source(source: Any, bench: Bench, split: str | None = None, modality: Modality | None = None) -> SampleSet:
    """`open_samples` with the cache's memory of file digests."""
    return open_samples(source, split=split, modality=modality, digests=FileDigests(bench.cache.root))


def is_generator(subject: Any) -> bool:
    """Whether a subject is the name of a generator (a folder of that name is given as ./name)."""
    return isinstance(subject, str) and subject in registry.generators


def limited(entrant: Entrant, n: int, seed: int) -> Entrant:
    """At most n samples of a subject, chosen by content and seed."""
    return replace(entrant, samples=narrowed(Measured(entrant.samples, {}, ()), n, seed).samples)


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
