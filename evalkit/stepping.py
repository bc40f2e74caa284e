"""Samples of one subject in growing steps: a generator asked again with further seeds, or a set in shuffled order.

What is looked at while it grows has to come as if drawn at random. Names, classes and dates order the files of a set,
so it is shuffled by content and seed; every step of a generator has a seed of its own. Detectors that have to be fitted
learn from the first step, which they are then not asked about.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .blocks import Follower, follow
from .cache import digest_of
from .detection import PUBLISHED, fitted, made, rows
from .drawings import summary
from .entrants import as_entrant, check_generators, is_generator, rating_generators
from .errors import RunFailed, TooFewSamples
from .evaluation import measure_side
from .generation import generate
from .hardware import derive_seed, environment
from .measurement import Bench, Measured, measure
from .planning import Task, instruments
from .samples import ListedSet, halves, select
from .sequences import LEAST_BLOCKS, LEVEL, BoundedMean
from .settings import Settings
from .subjects import Entrant
from .types import (
    SHARED,
    Detector,
    Excluded,
    MetricResult,
    Modality,
    Published,
    Reference,
    RunRecord,
    SampleSet,
    Subject,
    Timing,
)

MOST = 10_000
# A step adds this share of what has been drawn, so that steps stay few.
GROWTH = 0.25
FIRST_STEP = "fitted on the first step of samples, which it does not judge, and half of the real ones"
LEAST_LESSON = 20
ORDER = "drawn anew, or shuffled by content and seed"


class Step(NamedTuple):
    """Samples of one step in the order of their draw, and what drawing them cost, where they were drawn."""

    samples: ListedSet
    timing: Timing | None


class Source:
    """Where the samples come from: a generator, asked again with further seeds, or a set in shuffled order."""

    def __init__(
        self, subject: Any, real: Any, training: SampleSet | None, modality: Modality, settings: Settings, bench: Bench
    ) -> None:
        check_generators([subject])
        self.seed, self.bench = settings.seed, bench
        self.most = settings.n or MOST
        drawn = is_generator(subject)
        # A generator is trained, or loaded, with one sample: those to score come in steps.
        count = 1 if drawn else self.most
        entrant = as_entrant(subject, real, training, count, self.seed, bench, modality)
        if entrant.role == "ceiling":
            entrant = as_entrant(subject, real, training, self.most, self.seed, bench, modality)
        self.entrant: Entrant = entrant
        self.generator = entrant.generator if entrant.role != "ceiling" else None
        self.known: set[str] = set()
        self.order: list[int] = []
        if self.generator is None:
            self.most = min(self.most, len(entrant.samples))
            self.order = shuffled(entrant.samples, self.seed)

    def steps(self, block: int) -> Iterator[Step]:
        """Steps of whole blocks: enough for a first look, then a quarter more each time, until none are left."""
        taken = 0
        while taken < self.most:
            wanted = math.ceil(GROWTH * taken / block) * block if taken else LEAST_BLOCKS * block
            size = min(self.most - taken, wanted)
            yield self._step(taken, size)
            taken += size

    def _step(self, start: int, size: int) -> Step:
        if self.generator is None:
            return Step(select(self.entrant.samples, self.order[start : start + size]), self.entrant.timing)
        own = derive_seed(self.seed, "until decided", str(start))
        drawn = generate(self.generator, size, own, self.bench, model=self.entrant.model)
        digests = {s.digest for s in drawn.samples}
        if digests <= self.known:
            raise RunFailed(
                f"{self.entrant.name} gave the same samples for another seed; write them out and score those"
            )
        self.known |= digests
        return Step(drawn.samples, drawn.timing)


def shuffled(samples: SampleSet, seed: int) -> list[int]:
    """All positions in an order that content and seed decide: names, classes and dates say nothing of it."""
    listed = [s.digest for s in samples]
    return sorted(range(len(listed)), key=lambda i: hashlib.sha256(f"{seed}/{listed[i]}/{i}".encode()).hexdigest())


def joined(timings: Sequence[Timing | None]) -> Timing | None:
    """The timing of all steps as one; None where nothing was drawn."""
    known = [t for t in timings if t is not None]
    if not known:
        return None
    joules = [(t.joules, t.joules_for) for t in known if t.joules is not None]
    return replace(
        known[-1],
        seconds=tuple(s for t in known for s in t.seconds),
        sizes=tuple(n for t in known for n in t.sizes),
        peak_bytes=max(t.peak_bytes for t in known),
        joules=sum(j for j, _ in joules) if joules else None,
        joules_for=sum(n for _, n in joules),
    )


def label_of(task: Task) -> str:
    """The name of the task's number, `prdc@inception.coverage`."""
    return task.label if task.part is None else f"{task.label}.{task.part}"


class Line:
    """The subject's samples through measuring into the followers, step by step, and the record at the end."""

    def __init__(
        self,
        tasks: Sequence[Task],
        reference: SampleSet,
        training: SampleSet | None,
        block: int,
        settings: Settings,
        bench: Bench,
    ) -> None:
        self.settings, self.bench, self.block = settings, bench, block
        self.training, self.tasks = training, {label_of(task): task for task in tasks}
        rating = rating_generators(tasks, training, settings.seed, bench)
        self.instruments = instruments(tasks, reference.modality, rating)
        self.real = measure_side("real", reference, tasks, self.instruments, bench)
        self.detectors: dict[str, Detector] = {}
        self.followers = {name: self._follower(name, task) for name, task in self.tasks.items()}
        self.taken: list[Measured] = []
        self.timings: list[Timing | None] = []
        self.began = time.perf_counter()

    @property
    def n(self) -> int:
        """How many readable samples have been taken."""
        return sum(len(m.samples) for m in self.taken)

    def _follower(self, name: str, task: Task) -> Follower:
        features = None if task.is_judged else self.real.features.get(str(task.instrument))
        real = None if features is None else features.head(task.metric.reads).rows
        return follow(name, task, real, self.block, self.settings.seed)

    def take(self, step: Step) -> None:
        """Measure one step, once, and let every follower have its rows."""
        own = measure(step.samples, list(self.instruments.values()), self.bench)
        self.taken.append(own)
        self.timings.append(step.timing)
        for name, task in self.tasks.items():
            if not task.is_judged:
                self.followers[name].take(own.features[str(task.instrument)].head(task.metric.reads).rows)
            elif (detector := self._judge(name, task, own.samples)) is not None:
                self.followers[name].take(rows(detector, own.samples, self.bench).head(task.metric.reads).rows)

    def _judge(self, name: str, task: Task, step: SampleSet) -> Detector | None:
        """The detector to judge this step with; None where the step is what it learns from."""
        if name in self.detectors:
            return self.detectors[name]
        word, real = str(task.instrument), self.real.samples
        learns = not isinstance(made(word), Published)
        lesson, test = halves(real) if learns else (real, real)
        for side, samples in (("real", lesson), ("generated", step)):
            if learns and len(samples) < LEAST_LESSON:
                raise TooFewSamples(f"{name}: {len(samples)} {side} samples to learn from; {LEAST_LESSON} are needed")
        own = derive_seed(self.settings.seed, "judge", word)
        self.detectors[name] = fitted(word, lesson, step, seed=own, bench=self.bench)
        self.followers[name].real = rows(self.detectors[name], test, self.bench).head(task.metric.reads).rows
        return None if learns else self.detectors[name]

    def record(self, entrant: Entrant, decided: Mapping[str, Any]) -> RunRecord:
        """What was followed as a run record: the intervals are the sequences', and the terms say so."""
        listed = ListedSet(entrant.name, self.real.samples.modality, tuple(s for m in self.taken for s in m.samples))
        subject = Subject(entrant.name, listed.modality, entrant.source, self.n, listed.digest, entrant.role)
        warnings = [str(i.incomparable) for i in self.instruments.values() if hasattr(i, "incomparable")]
        warnings += dict.fromkeys(f"{t.label}: {t.metric.caution}" for t in self.tasks.values() if t.metric.caution)
        results = []
        for name, follower in self.followers.items():
            if why := _missing(follower):
                warnings.append(f"{name} is missing: {why}")
            else:
                results.append(self._result(name, follower))
        excluded = [e for m in self.taken for e in m.excluded]
        excluded += [Excluded(f"{SHARED[0]}{e.id}", e.reason) for e in self.real.excluded]
        timing = joined(self.timings)
        return RunRecord(
            subject=subject,
            reference=Reference(self.real.samples.name, len(self.real.samples), self.real.samples.digest),
            train=None,
            seed=self.settings.seed,
            results=tuple(results),
            timing=None if timing is None else summary(timing),
            environment={
                **environment(self.bench.device),
                "settings": self.settings.plain(),
                "until_decided": dict(decided),
            },
            excluded=tuple(excluded),
            warnings=tuple(dict.fromkeys(warnings)),
        )

    def _result(self, name: str, follower: Follower) -> MetricResult:
        task, (value, low, high) = follower.task, follower.interval
        terms = self._terms(name, follower)
        return MetricResult(
            name=name,
            value=value,
            low=low,
            high=high,
            level=LEVEL,
            interval=follower.about.method,
            better=task.metric.better,
            unit=task.metric.unit,
            n={**terms["n"], "fake": follower.taken},
            version=task.metric.version,
            protocol=f"sha256:{digest_of(terms)}",
            terms=terms,
            seconds=(time.perf_counter() - self.began) / len(self.followers),
        )

    def _terms(self, name: str, follower: Follower) -> dict[str, Any]:
        """All that must be equal to compare two such numbers; where each stopped is not part of it."""
        task, real = follower.task, self.real
        rule = {"method": follower.about.method, "target": follower.about.target, "level": LEVEL, "order": ORDER}
        if follower.block > 1:
            rule["block"] = follower.block
        terms: dict[str, Any] = {"metric": task.metric.name, "version": task.metric.version, "until_decided": rule}
        terms.update(settings=dict(task.settings), n={})
        if task.part is not None:
            terms["part"] = task.part
        if "real" in task.metric.asks:
            terms["reference"] = real.samples.digest
            terms["n"] = {"real": len(real.samples) if follower.real is None else len(follower.real)}
        if name in self.detectors:
            detector = self.detectors[name]
            learnt = {"rule": FIRST_STEP, "seed": derive_seed(self.settings.seed, "judge", str(task.instrument))}
            learnt["n_fake"] = len(self.taken[0].samples)
            terms["instrument"] = detector.recipe
            terms["fitted"] = {"rule": PUBLISHED} if isinstance(detector, Published) else learnt
        elif (own := self.taken[0].features.get(str(task.instrument))) is not None:
            terms["instrument"] = own.extractor
            terms.update({"about": dict(own.about)} if own.about else {})
        return terms


def _missing(follower: Follower) -> str:
    """Why a number has no interval to print; nothing where it has one."""
    if follower.sequence.is_empty:
        return "its confidence sequence contradicts itself, so the samples do not come in random order"
    _, low, high = follower.interval
    if not follower.taken:
        return "all samples went into teaching the detector"
    if not isinstance(follower.sequence, BoundedMean) and follower.sequence.count < LEAST_BLOCKS:
        blocks = follower.sequence.count
        return f"{follower.taken} samples are {blocks} blocks of {follower.block}; {LEAST_BLOCKS} are needed"
    return "" if math.isfinite(low) and math.isfinite(high) else "its samples differ too much for an interval"
