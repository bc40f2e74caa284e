"""measure -> score -> record: one pass over each side, then every number of the plan with its interval and protocol."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .cache import digest_of
from .detection import Judge
from .drawings import summary
from .errors import DoesNotApply, EvalkitError, TooFewSamples, UnknownName, UsageError
from .estimating import estimated
from .hardware import environment
from .measurement import Bench, Measured, measure, narrowed_to, nothing_measured, taken
from .pairing import kept
from .planning import Task
from .samples.statistics import StatisticsSet
from .types import (
    SHARED,
    Excluded,
    Extractor,
    Features,
    MetricResult,
    Reference,
    RunRecord,
    SampleSet,
    Share,
    Subject,
    Timing,
)

if TYPE_CHECKING:
    from torch import Tensor

MOST_UNREADABLE = 0.01
# How the sentence goes on that says why a subject cannot have a number.
DOES_NOT_APPLY = " does not apply: "


@dataclass(frozen=True)
class Sides:
    """Everything one subject is scored with, measured."""

    fake: Measured
    real: Measured | None = None
    train: Measured | None = None
    timing: Timing | None = None
    judges: Mapping[str, Judge | EvalkitError] = field(default_factory=dict)
    prompts: Mapping[str, Features] = field(default_factory=dict)
    paths: Mapping[str, Features | EvalkitError] = field(default_factory=dict)
    own: Features | EvalkitError | None = None

    def only(self, group: str, with_real: bool) -> Sides:
        """The samples of one group on the real and the generated side; the training data is what it is.

        Raises TooFewSamples when a side has none of them.
        """
        real = _of_group(self.real, group, "real") if with_real and self.real is not None else None
        fake = _of_group(self.fake, group, "generated")
        keep = _members(self.fake.samples, group)
        return Sides(fake, real, self.train, prompts={name: taken(f, keep) for name, f in self.prompts.items()})


def _members(samples: SampleSet, group: str) -> list[int]:
    return [i for i, sample in enumerate(samples) if sample.group == group]


def _of_group(side: Measured, group: str, word: str) -> Measured:
    keep = _members(side.samples, group)
    if not keep:
        raise TooFewSamples(f"no {word} sample of group {group!r}")
    return narrowed_to(side, keep)


def measure_side(
    word: str, samples: SampleSet, tasks: Iterable[Task], made: Mapping[str, Extractor], bench: Bench
) -> Measured:
    """One pass over one side for every instrument that a task asks this side for."""
    wanted = {
        task.instrument
        for task in tasks
        if word in task.metric.asks or (word == "fake" and "samples" in task.metric.asks)
    }
    chosen = [made[name] for name in sorted(made) if name in wanted]
    if isinstance(samples, StatisticsSet):
        return Measured(samples, {i.name: as_features(samples, i) for i in chosen}, ())
    return measure(samples, chosen, bench)


def as_features(samples: StatisticsSet, instrument: Extractor) -> Features:
    """What a statistics file holds (its rows, or mean and covariance) as the side an instrument would have measured.

    Raises UsageError when the file says it was made with another instrument; a file that does not say is believed.
    """
    import torch

    statistics = samples.statistics
    facts = statistics.instrument or {}
    made_with = facts.get("digest")
    if made_with is not None and made_with != instrument.digest:
        raise UsageError(
            f"statistics {samples.name!r} were made with {facts.get('name')} ({made_with[:19]}),"
            f" not with {instrument.name} ({instrument.digest[:19]}): make them again with it"
        )
    about = getattr(instrument, "about", {})
    if statistics.rows is not None:
        return Features(statistics.rows, instrument.digest, samples, {}, about)
    moments = statistics.moments(instrument.name)
    rows = torch.empty(0, len(moments.mean))
    return Features(rows, instrument.digest, samples, {}, about, moments)


def evaluate(
    subject: Subject,
    sides: Sides,
    tasks: Sequence[Task],
    *,
    seed: int,
    bench: Bench,
    per_group: bool = False,
    attribution: bool = False,
) -> RunRecord:
    """Score one subject: a record with every number's interval, protocol and n, and a reason for every missing one.

    per_group: each number of rows again for every group of the generated samples, as `fid@inception.group=cat`.
    attribution: keep what each generated sample adds to the numbers that know it.
    """
    results: list[MetricResult] = []
    warnings: list[str] = []
    shares: dict[str, tuple[Share, ...]] = {}
    if per_group and sides.real is not None and not _have_groups(sides.real):
        warnings.append("no number by group against the real samples: they carry no groups")
    for task in tasks:
        bench.progress.start(f"{subject.name}: {task.label}", 1)
        for group in (None, *(_groups(task, sides) if per_group else ())):
            label = task.label if group is None else f"{task.label}.group={group}"
            try:
                own = sides if group is None else sides.only(group, "real" in task.metric.asks)
                for result, per_sample in _score(task, own, warnings, bench.device, group):
                    results.append(result)
                    if attribution and per_sample is not None and group is None:
                        shares[result.name] = _shares(sides.fake.samples, per_sample)
            except DoesNotApply as error:
                warnings.append(f"{label}{DOES_NOT_APPLY}{error}")
            except UnknownName:
                # A part that the metric does not have: a mistake of the caller's, not a number that is missing.
                raise
            except UsageError as error:
                warnings.append(f"{label} is missing: {error}")
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
        attribution=shares if attribution else None,
    )


def _groups(task: Task, sides: Sides) -> list[str]:
    """The groups a task is scored for again: of metrics that read rows, and where the real samples have groups too."""
    if task.is_judged or task.instrument is None or "paths" in task.metric.asks:
        return []
    found = {s.group for s in sides.fake.samples if s.group is not None}
    if "real" in task.metric.asks and not _have_groups(sides.real):
        return []
    return sorted(found)


def _have_groups(side: Measured | None) -> bool:
    if side is None or isinstance(side.samples, StatisticsSet):
        return False
    return any(s.group is not None for s in side.samples)


def _shares(samples: SampleSet, per_sample: Tensor) -> tuple[Share, ...]:
    return tuple(Share(s.id, float(v), s.group) for s, v in zip(samples, per_sample.tolist(), strict=True))


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


def _score(
    task: Task, sides: Sides, warnings: list[str], device: str, group: str | None
) -> Iterator[tuple[MetricResult, Tensor | None]]:
    """The task's numbers, each with what every generated sample adds to it where the metric knows that."""
    start = time.perf_counter()
    inputs, terms = _inputs(task, sides, device)
    if group is not None:
        terms["group"] = group
    for word, given in inputs.items():
        least = task.metric.min_n
        if group is not None and isinstance(given, Features) and word in ("real", "fake") and len(given) < least:
            raise TooFewSamples(f"{len(given)} {word} samples of this group; at least {least} are needed")
    estimates = estimated(task, inputs, device)
    seconds = time.perf_counter() - start
    keys = _keys(inputs, terms)
    columns = inputs["fake"].rows.shape[1] if isinstance(inputs.get("fake"), Features) else 0
    for part, estimate in estimates.items():
        own = {**terms, "part": part} if part else terms
        name = ".".join([task.label, *([part] if part else []), *([f"group={group}"] if group is not None else [])])
        if not math.isfinite(estimate.value):
            warnings.append(f"{name} is missing: it came out as {estimate.value}")
            continue
        # A statistics file need not say of how many samples it is.
        smallest = min((n for n in terms["n"].values() if n), default=0)
        if task.metric.moments and part != "unbiased" and 0 < smallest < 4 * columns:
            few = "is below the" if smallest < columns else "is few for"
            warnings.append(
                f"{name}: n = {smallest} {few} {columns} columns and biases it upward; compare it at equal n only"
            )
        result = MetricResult(
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
            moves=kept(estimate.moves, keys),
        )
        yield result, estimate.per_sample


def _keys(inputs: Mapping[str, Any], terms: Mapping[str, Any]) -> dict[str, str]:
    """By side, what another subject's number must share for the same place to hold the same sample.

    Real samples are the same by content. Generated ones are paired by name and prompt: where nothing but the numbering
    is the same, their numbers turn out not to move together. Draws of both sides are dealt alike where the real samples
    are the same and the generated ones as many: generated ones of other names do not move together either.
    """
    keys = {}
    if "reference" in terms:
        keys["real"] = str(terms["reference"])
    given = inputs.get("fake", inputs.get("samples"))
    if given is not None:
        samples: SampleSet = given.samples if isinstance(given, Features) else given
        names = [s.id if s.condition is None else s.condition for s in samples]
        keys["fake"] = f"sha256:{digest_of(names)}"
        keys["draws"] = f"sha256:{digest_of({'real': keys.get('real'), 'fake': len(names)})}"
    return keys


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
        views = {"real": judge.real.head(task.metric.reads), "fake": judge.fake.head(task.metric.reads)}
        terms["instrument"] = judge.detector.recipe
        terms["fitted"] = dict(judge.fitted_on)
    else:
        views = {word: _view(getattr(sides, word), task) for word in ("real", "fake", "train")}
        found = views["fake"]
        if task.instrument is not None and found is not None:
            terms["instrument"] = found.extractor
            if found.about:
                terms["about"] = dict(found.about)
    inputs: dict[str, Any] = {}
    for word in task.metric.asks:
        if word == "timing":
            if sides.timing is None:
                raise UsageError("it needs timing")
            inputs[word] = sides.timing
            terms["device"] = sides.timing.device
            continue
        if word == "prompts":
            if str(task.instrument) not in sides.prompts:
                raise UsageError("it needs the prompt of every sample")
            inputs[word] = sides.prompts[str(task.instrument)]
            terms["prompts"] = inputs[word].samples.digest
            terms["prompts_read_by"] = inputs[word].extractor
            continue
        if word == "paths":
            walked = sides.paths.get(task.label)
            if not isinstance(walked, Features):
                raise UsageError(str(walked or "it needs the generator itself"))
            inputs[word] = walked.head(task.metric.reads)
            terms.update(instrument=walked.extractor, about=dict(walked.about))
            terms["n"]["paths"] = len(walked) // 2
            continue
        if word == "own":
            if not isinstance(sides.own, Features):
                raise sides.own or UsageError("it needs the generator itself")
            inputs[word] = sides.own.head(task.metric.reads)
            terms["n"]["real"] = len(sides.own)
            terms["reference"] = sides.own.samples.digest
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
