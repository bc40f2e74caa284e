"""Every output through every passage, looked through for every mark: which layers each file carries after each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ..calibration import Proportion, proportion
from ..errors import NothingToEvaluate, UnreadableSample
from ..measurement import Bench
from ..types import Evidence, Excluded, MediaFile, Sample, SampleSet
from .marks import LAYERS, Mark, layers_of
from .passages import COPY, Passage, opener

Spoken = tuple[str, Evidence]  # a mark's name and what it found


@dataclass(frozen=True)
class Looked:
    """One file: the layers after each passage, or why it could not pass; the evidence in it as it is."""

    id: str
    stored: bool
    layers: Mapping[str, frozenset[str] | str]
    evidence: tuple[Spoken, ...]
    troubles: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Survey:
    """A set looked through: its readable files, in order, and the others."""

    samples: SampleSet
    files: tuple[Looked, ...]
    excluded: tuple[Excluded, ...]
    marks: tuple[str, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """Layers, then each watermark by its name."""
        named = {name for file in self.files for found in file.layers.values() for name in found if name in self.marks}
        return (*LAYERS, *(mark for mark in self.marks if mark in named))

    def share(self, layer: str, passage: str) -> Proportion | str:
        """The share of files that could pass which carry the layer afterwards, or why there is none."""
        found = [file.layers[passage] for file in self.files]
        passed = [one for one in found if not isinstance(one, str)]
        if not passed:
            return next((one for one in found if isinstance(one, str)), "no file")
        return proportion(sum(layer in one for one in passed), len(passed))

    @property
    def troubles(self) -> tuple[str, ...]:
        """What a mark could not say, once a mark and passage, with the first reason."""
        first: dict[str, str] = {}
        times: Counter[str] = Counter()
        for file in self.files:
            for mark, why in file.troubles:
                first.setdefault(mark, why)
                times[mark] += 1
        return tuple(
            f"{mark} failed {times[mark]} times on {self.samples.name}; first: {first[mark]}" for mark in first
        )


def surveyed(samples: SampleSet, marks: Sequence[Mark], passages: Sequence[Passage], seed: int, bench: Bench) -> Survey:
    """Every file of a set through every passage and past every mark; NothingToEvaluate when none is readable."""
    look = partial(_looked, marks=marks, passages=passages, seed=seed, opened=opener(samples))
    bench.progress.start(f"marks of {samples.name}", len(samples))
    files, excluded = [], []
    # Pillow and NumPy let go of the interpreter lock for most of this.
    with ThreadPoolExecutor(max(1, bench.workers)) as pool:
        for found in pool.map(look, samples):
            bench.progress.advance()
            if isinstance(found, Looked):
                files.append(found)
            else:
                excluded.append(found)
    bench.progress.finish()
    if not files:
        raise NothingToEvaluate(f"none of the {len(samples)} samples of {samples.name!r} can be read")
    return Survey(samples, tuple(files), tuple(excluded), tuple(mark.name for mark in marks))


def _looked(
    sample: Sample,
    *,
    marks: Sequence[Mark],
    passages: Sequence[Passage],
    seed: int,
    opened: Callable[[Sample], tuple[MediaFile, bool]],
) -> Looked | Excluded:
    try:
        file, stored = opened(sample)
    except UnreadableSample as error:
        return Excluded(sample.id, str(error))
    # Of content and seed, so that a sample is changed the same way in any set.
    own = int(hashlib.sha256(f"{sample.digest}\n{seed}".encode()).hexdigest()[:8], 16)
    layers: dict[str, frozenset[str] | str] = {}
    said: tuple[Spoken, ...] = ()
    troubles: list[tuple[str, str]] = []
    for passage in passages:
        try:
            changed = passage(file, own)
        except UnreadableSample as error:
            layers[passage.name] = str(error)
            continue
        spoken = _spoken(changed, marks, troubles)
        layers[passage.name] = layers_of(spoken)
        if passage.name == COPY:
            said = spoken
    return Looked(sample.id, stored, layers, said, tuple(troubles))


def _spoken(file: MediaFile, marks: Sequence[Mark], troubles: list[tuple[str, str]]) -> tuple[Spoken, ...]:
    found: list[Spoken] = []
    for mark in marks:
        try:
            found += [(mark.name, one) for one in mark.testify(file)]
        except Exception as error:  # A witness may raise anything on a file it was not made for.
            troubles.append((mark.name, " ".join(f"{type(error).__name__}: {error}".split())[:200]))
    return tuple(found)
