"""plan -> measure -> score -> record: every name is looked up before anything is decoded, loaded or generated."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import registry
from .cache import digest_of
from .detection import Judge
from .errors import BadSetting, EvalkitError, ModalityMismatch, TooFewSamples, UnknownName, UsageError
from .generation import summary
from .hardware import environment
from .measurement import Bench, Measured, measure, nothing_measured
from .resample import group_jackknife
from .samples import select
from .types import (
    SHARED,
    Estimate,
    Excluded,
    Extractor,
    Features,
    Metric,
    MetricResult,
    Modality,
    Reference,
    RunRecord,
    SampleSet,
    Subject,
    Timing,
    Value,
)

if TYPE_CHECKING:
    from torch import Tensor

# What `score` and `compare` measure when nobody says what; those that need training data or timing drop out without.
DEFAULT_METRICS: Mapping[Modality, tuple[str, ...]] = {
    "image": ("fid", "kid", "prdc", "c2st", "auroc@spectrum", "auroc@cnn", "memorization", "throughput", "latency.p50"),
    "text": (
        "c2st.auroc", "fid", "kid", "perplexity", "bits_per_byte", "auroc@ngram_lr", "auroc@likelihood",
        "distinct", "self_bleu", "novelty", "memorization", "throughput", "latency.p50",
    ),
}  # fmt: skip

MOST_UNREADABLE = 0.01


@dataclass(frozen=True)
class Task:
    """One metric on one instrument; `part` narrows a metric of several values to one."""

    metric: Metric
    instrument: str | None
    part: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name its numbers carry, `metric@instrument`."""
        return self.metric.name if self.instrument is None else f"{self.metric.name}@{self.instrument}"

    @property
    def is_judged(self) -> bool:
        """Whether the instrument is a detector by name, which has to be fitted to the subject first."""
        return self.instrument is not None and self.instrument in registry.detectors


def plan(
    names: Sequence[str] | None,
    modality: Modality,
    *,
    with_train: bool,
    with_timing: bool,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Task, ...]:
    """The tasks behind metric names such as `fid`, `fid@pixels`, `prdc@pixels.recall`, `prdc.recall@pixels`.

    Raises UnknownName with the nearest name, ModalityMismatch for an instrument of the other modality, UsageError when
    a metric needs training data or timing that is not there, BadSetting for an unknown setting.
    """
    for word, own in (settings or {}).items():
        for key in own:
            if key not in (params := registry.metrics.get(word).params):
                raise UnknownName(f"setting of metric {word!r}", key, params)
    lacking = {"train": not with_train, "timing": not with_timing}
    tasks = []
    for name in names or DEFAULT_METRICS[modality]:
        task = _parse(name, modality, settings or {})
        missing = [word for word in task.metric.asks if lacking.get(word)]
        if missing and names:
            needs = {"train": "training data; give --train SOURCE", "timing": "timing; give the name of a generator"}
            raise UsageError(f"metric {name!r} needs {needs[missing[0]]}")
        if not missing and task not in tasks:
            tasks.append(task)
    return tuple(tasks)


def _parse(name: str, modality: Modality, settings: Mapping[str, Mapping[str, Any]]) -> Task:
    left, _, instrument = name.partition("@")
    word, _, part = left.partition(".")
    found = registry.metrics.get(word)
    if not isinstance(found, Metric):
        raise UnknownName("metric", word, registry.metrics.names())
    if instrument and not _is_instrument(instrument) and "." in instrument:
        instrument, _, part = instrument.rpartition(".")
    if instrument and all(default is None for default in found.on.values()):
        raise BadSetting(f"metric {word!r} reads samples or timing, not an instrument; write {left!r}")
    where = instrument or found.on.get(modality)
    if where is None and any(found.on.values()):
        raise ModalityMismatch(f"metric {word!r} has no instrument for {modality} samples; name one, as in {word}@NAME")
    if where is not None and not _is_instrument(where):
        known = registry.extractors.names() + registry.detectors.names()
        raise UnknownName("instrument", where, known)
    return Task(found, where, part or None, {**found.params, **settings.get(word, {})})


def _is_instrument(name: str) -> bool:
    return name in registry.extractors or name in registry.detectors


def instruments(tasks: Iterable[Task], modality: Modality) -> dict[str, Extractor]:
    """One instance of every instrument the tasks read that needs no fitting, checked for modality and for its heads.

    Raises ModalityMismatch, or UsageError when a metric reads a head that its instrument does not have.
    """
    made: dict[str, Extractor] = {}
    for task in tasks:
        name = task.instrument
        door = registry.detectors if task.is_judged else registry.extractors
        if name is None:
            continue
        part = made.get(name) or door.get(name)()
        if part.modality != modality:
            raise ModalityMismatch(f"{task.label}: {name} measures {part.modality} samples, these are {modality}")
        if task.metric.reads not in part.heads:
            raise UsageError(
                f"{task.label}: the metric reads {task.metric.reads!r}, {name} gives {', '.join(sorted(part.heads))}"
            )
        if not task.is_judged:
            made[name] = part
    return made


def check_sizes(tasks: Iterable[Task], **sides: SampleSet | None) -> None:
    """Refuse, before anything is measured, a metric that one of the sides is too small for."""
    for task in tasks:
        # A judge tests on half of what it is given.
        needed = 20 if task.is_judged else task.metric.min_n
        for word, samples in sides.items():
            wanted = word in task.metric.asks or (word == "fake" and "samples" in task.metric.asks)
            if samples is not None and wanted and len(samples) < needed:
                raise TooFewSamples(
                    f"{task.label} needs at least {needed} {word} samples; {samples.name!r} has {len(samples)}"
                )


@dataclass(frozen=True)
class Sides:
    """Everything one subject is scored with, measured."""

    fake: Measured
    real: Measured | None = None
    train: Measured | None = None
    timing: Timing | None = None
    judges: Mapping[str, Judge | EvalkitError] = field(default_factory=dict)


def measure_side(
    word: str, samples: SampleSet, tasks: Iterable[Task], made: Mapping[str, Extractor], bench: Bench
) -> Measured:
    """One pass over one side for every instrument that a task asks this side for."""
    wanted = {
        task.instrument
        for task in tasks
        if word in task.metric.asks or (word == "fake" and "samples" in task.metric.asks)
    }
    return measure(samples, [made[name] for name in sorted(made) if name in wanted], bench)


def evaluate(subject: Subject, sides: Sides, tasks: Sequence[Task], *, seed: int, bench: Bench) -> RunRecord:
    """Score one subject: a record with every number's interval, protocol and n, and a reason for every missing one."""
    results: list[MetricResult] = []
    warnings: list[str] = []
    for task in tasks:
        bench.progress.start(f"{subject.name}: {task.label}", 1)
        try:
            results += _score(task, sides, warnings, bench.device)
        except UnknownName:
            # A part that the metric does not have: a mistake of the caller's, not a number that is missing.
            raise
        except UsageError as error:
            warnings.append(f"{task.label} is missing: {error}")
        bench.progress.finish()
    excluded = list(sides.fake.excluded)
    for word, side in zip(SHARED, (sides.real, sides.train), strict=True):
        excluded += [] if side is None else [Excluded(f"{word}{e.id}", e.reason) for e in side.excluded]
    return RunRecord(
        subject=subject,
        reference=_reference(sides.real),
        train=_reference(sides.train),
        seed=seed,
        results=tuple(results),
        timing=None if sides.timing is None else summary(sides.timing),
        environment=environment(bench.device),
        excluded=tuple(excluded),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def is_inconclusive(record: RunRecord) -> bool:
    """Whether a number is missing or more than 1 % of an input could not be read."""
    sizes = {"": record.subject.n}
    for word, side in zip(SHARED, (record.reference, record.train), strict=True):
        sizes[word] = 0 if side is None else side.n
    lost = dict.fromkeys(sizes, 0)
    for entry in record.excluded:
        lost[next((word for word in SHARED if entry.id.startswith(word)), "")] += 1
    unreadable = any(lost[word] > MOST_UNREADABLE * (n + lost[word]) for word, n in sizes.items())
    return unreadable or any(" is missing: " in warning for warning in record.warnings)


def _reference(side: Measured | None) -> Reference | None:
    return None if side is None else Reference(side.samples.name, len(side.samples), side.samples.digest)


def _score(task: Task, sides: Sides, warnings: list[str], device: str) -> Iterator[MetricResult]:
    start = time.perf_counter()
    inputs, terms = _inputs(task, sides, device)
    estimates = _estimates(task, inputs)
    seconds = time.perf_counter() - start
    columns = inputs["fake"].rows.shape[1] if isinstance(inputs.get("fake"), Features) else 0
    for part, estimate in estimates.items():
        if task.part is not None and part != task.part:
            continue
        name = f"{task.label}.{part}" if part else task.label
        if not math.isfinite(estimate.value):
            warnings.append(f"{name} is missing: it came out as {estimate.value}")
            continue
        smallest = min((n for n in terms["n"].values()), default=0)
        if estimate.method == "delta" and 0 < smallest < 4 * columns:
            warnings.append(
                f"{name}: {smallest} samples for {columns} columns bias it upward; compare it at equal n only"
            )
        own = {**terms, "part": part} if part else terms
        yield MetricResult(
            name=name,
            value=estimate.value,
            low=min(estimate.low, estimate.value),
            high=max(estimate.high, estimate.value),
            level=estimate.level,
            interval=estimate.method,
            better=task.metric.better,
            unit=task.metric.unit,
            n=terms["n"],
            version=task.metric.version,
            protocol=f"sha256:{digest_of(own)}",
            terms=own,
            seconds=seconds / len(estimates),
        )
    if task.part is not None and task.part not in estimates:
        raise UnknownName(f"part of {task.label}", task.part, [p for p in estimates if p])


def _inputs(task: Task, sides: Sides, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the metric asks for, by word, and the terms of the number: all that must be equal to compare it."""
    terms: dict[str, Any] = {
        "metric": task.metric.name,
        "version": task.metric.version,
        "settings": dict(task.settings),
        "n": {},
    }
    views: dict[str, Features | None] = {}
    if task.is_judged:
        judge = sides.judges[str(task.instrument)]
        if isinstance(judge, EvalkitError):
            raise UsageError(str(judge)) from judge
        views = {"real": judge.real, "fake": judge.fake}
        terms["instrument"] = judge.detector.recipe
        terms["fitted"] = dict(judge.fitted_on)
    else:
        views = {word: _view(getattr(sides, word), task) for word in ("real", "fake", "train")}
        found = views["fake"]
        if task.instrument is not None and found is not None:
            terms["instrument"] = found.extractor
    inputs: dict[str, Any] = {}
    for word in task.metric.asks:
        if word == "timing":
            if sides.timing is None:
                raise UsageError("it needs timing")
            inputs[word] = sides.timing
            terms["device"] = sides.timing.device
            continue
        view = views.get("fake" if word == "samples" else word)
        if view is None:
            raise UsageError(f"it needs {word} samples")
        inputs[word] = view.samples if word == "samples" else view
        terms["n"]["fake" if word == "samples" else word] = len(view)
        if word in ("real", "train"):
            terms["reference" if word == "real" else word] = view.samples.digest
    return inputs, terms


def _view(side: Measured | None, task: Task) -> Features | None:
    if side is None:
        return None
    if task.instrument is None:
        return nothing_measured(side.samples)
    found = side.features.get(task.instrument)
    return None if found is None else found.head(task.metric.reads)


def _estimates(task: Task, inputs: Mapping[str, Any]) -> dict[str, Estimate]:
    """The metric's values by part ("" for its only one), each with an interval: its own, or by resampling rows."""
    found = task.metric.fn(*inputs.values(), **task.settings)
    values: Mapping[str, Value] = found if isinstance(found, Mapping) else {"": found}
    bare = {part: v for part, v in values.items() if not isinstance(v, Estimate)}
    if not bare:
        return {part: v for part, v in values.items() if isinstance(v, Estimate)}
    # Real and generated samples are draws; the training data is what it is.
    sides = [word for word in ("real", "fake", "samples") if word in inputs]
    moving = [sides[:1], [s for s in sides if s != "real"]] if "real" in sides else [sides]
    moving = [group for group in moving if group]

    def statistic(keeps: Sequence[Tensor]) -> Mapping[str, float]:
        chosen = dict(inputs)
        for group, keep in zip(moving, keeps, strict=True):
            for word in group:
                chosen[word] = _take(inputs[word], keep)
        again = task.metric.fn(*chosen.values(), **task.settings)
        return {p: _number(v) for p, v in (again.items() if isinstance(again, Mapping) else [("", again)]) if p in bare}

    resampled = group_jackknife(statistic, [len(inputs[group[0]]) for group in moving])
    return {part: v if isinstance(v, Estimate) else resampled[part] for part, v in values.items()}


def _number(value: Value) -> float:
    return value.value if isinstance(value, Estimate) else float(value)


def _take(side: Features | SampleSet, keep: Tensor) -> Features | SampleSet:
    where = keep.tolist()
    if isinstance(side, Features):
        return Features(side.rows[keep], side.extractor, select(side.samples, where), side.heads)
    return select(side, where)
