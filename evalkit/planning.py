"""The plan: which metric on which instrument, every name looked up before anything is decoded, loaded or generated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from . import registry
from .errors import BadSetting, ModalityMismatch, RunFailed, TooFewSamples, UnknownName, UsageError
from .types import Extractor, Metric, Modality, SampleSet, Unrounded

# What `score` and `compare` measure when nobody says what; those that need training data or timing drop out without.
DEFAULT_METRICS: Mapping[Modality, tuple[str, ...]] = {
    "image": ("fid", "kid", "prdc", "c2st", "auroc@spectrum", "auroc@cnn", "memorization", "throughput", "latency.p50"),
    "text": (
        "c2st.auroc", "fid", "kid", "perplexity", "bits_per_byte", "auroc@ngram_lr", "auroc@likelihood",
        "distinct", "self_bleu", "novelty", "memorization", "throughput", "latency.p50",
    ),
}  # fmt: skip

# Measures images where the weights of the default instrument cannot be had: it ships, and prefers no domain.
STAND_IN = "random_conv"

NEEDS = {
    "train": "training data; give --train SOURCE",
    "timing": "timing; give the name of a generator",
    "paths": "a latent space; give the name of a generator",
    "own": "a generator that knows likelihoods; give its name",
    "prompts": "the prompt of every image; give a metadata.jsonl, metadata.csv or a .txt beside each image",
}


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

    @property
    def is_rated(self) -> bool:
        """Whether the instrument is a generator by name, which rates samples once it is fitted to the training data."""
        return self.instrument is not None and _rates(self.instrument)


def plan(
    names: Sequence[str] | None,
    modality: Modality,
    *,
    by_default: bool = False,
    with_train: bool,
    with_timing: bool,
    with_prompts: bool = False,
    only_moments: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Task, ...]:
    """The tasks behind metric names such as `fid`, `fid@pixels`, `prdc@pixels.recall`, `prdc.recall@pixels`.

    by_default: nobody asked for these names; those whose inputs are not there are left out. only_moments: the real side
    is a statistics file. Raises UnknownName with the nearest name, ModalityMismatch for an
    instrument of the other modality, UsageError when a metric needs training data, prompts, timing or real samples that
    are not there, BadSetting for an unknown setting.
    """
    for word, own in (settings or {}).items():
        for key in own:
            if key not in (params := registry.metrics.get(word).params):
                raise UnknownName(f"setting of metric {word!r}", key, params)
            _check_kind(f"{word}.{key}", own[key], params[key])
    lacking = {"train": not with_train, "timing": not with_timing, "prompts": not with_prompts}
    # Who can be timed is a generator, and only a generator can have a latent space or a likelihood.
    lacking["paths"] = lacking["own"] = not with_timing
    tasks = []
    for name in names or DEFAULT_METRICS[modality]:
        task = _parse(name, modality, settings or {})
        missing = [word for word in task.metric.asks if lacking.get(word)]
        if missing and names and not by_default:
            raise UsageError(f"metric {name!r} needs {NEEDS[missing[0]]}")
        if only_moments and "real" in task.metric.asks and not task.metric.moments:
            if names and not by_default:
                raise UsageError(f"metric {name!r} needs real samples; the real side is a statistics file")
            continue
        if not missing and task not in tasks:
            tasks.append(task)
    return tuple(tasks)


def _check_kind(path: str, value: Any, default: Any) -> None:
    """Refuse a setting that is of another kind than its default; a number may be whole where it need not be."""
    kinds: Mapping[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        str: ((str,), "a word"),
    }
    allowed, words = kinds.get(type(default), ((object,), ""))
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed and object not in allowed):
        raise BadSetting(f"{path} = {value!r}; expected {words}")


def default_metrics(modality: Modality) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is measured when nobody says what, and what has to be said about it.

    Images are measured with Inception where its weights are on this machine or can be fetched; otherwise with an
    instrument that ships, and every record says so.
    """
    names = DEFAULT_METRICS[modality]
    if modality != "image":
        return names, ()
    try:
        _fetch(registry.extractors.get("inception")())
    except RunFailed as error:
        names = tuple(n if "@" in n or not _is_on_inception(n) else f"{n}@{STAND_IN}" for n in names)
        return names, (f"measured with {STAND_IN} in place of inception: {error}",)
    return names, ()


def _is_on_inception(name: str) -> bool:
    return str(registry.metrics.get(name.partition(".")[0]).on.get("image")).partition(":")[0] == "inception"


def _fetch(instrument: Extractor) -> None:
    """Have the instrument's weights brought to this machine, where it needs any."""
    fetch = getattr(instrument, "fetch", None)
    if fetch is not None:
        fetch()


def _parse(name: str, modality: Modality, settings: Mapping[str, Mapping[str, Any]]) -> Task:
    left, _, instrument = name.partition("@")
    word, _, part = left.partition(".")
    found = registry.metrics.get(word)
    if not isinstance(found, Metric):
        raise UnknownName("metric", word, registry.metrics.names())
    instrument, found_part = _split_part(instrument)
    part = found_part or part
    if instrument and all(default is None for default in found.on.values()):
        raise BadSetting(f"metric {word!r} reads samples or timing, not an instrument; write {left!r}")
    where = instrument or found.on.get(modality)
    if where is None and any(found.on.values()):
        raise ModalityMismatch(f"metric {word!r} has no instrument for {modality} samples; name one, as in {word}@NAME")
    if where is not None and ":" in where and where.partition(":")[0] in registry.extractors:
        # One instrument, one name: `inception:clean` is `inception`.
        where = str(registry.extractors.get(where)().name)
    elif where is not None and not _is_instrument(where):
        known = registry.extractors.names() + registry.detectors.names()
        known += [name for name in registry.generators.names() if _rates(name)]
        raise UnknownName("instrument", where, known)
    return Task(found, where, part or None, {**found.params, **settings.get(word, {})})


def _is_instrument(name: str) -> bool:
    return name in registry.extractors or name in registry.detectors or _rates(name)


def _rates(name: str) -> bool:
    """Whether a name is that of a generator which knows how probable a sample is."""
    return name in registry.generators and ":" not in name and hasattr(registry.generators.get(name), "likelihood")


def _split_part(name: str) -> tuple[str, str]:
    """`inception.unbiased` -> inception, unbiased; a variant may hold dots of its own: `clip:some-model:tag_v1.5`."""
    stem, dot, part = name.rpartition(".")
    if not dot or not _is_instrument(stem) or name in registry.extractors.names():
        return name, ""
    for door in (registry.extractors, registry.detectors):
        if ":" in name and stem.partition(":")[0] in door:
            try:
                door.get(name)()
            except UsageError:
                return stem, part
            return name, ""
    return stem, part


def instruments(
    tasks: Iterable[Task], modality: Modality, rating: Mapping[str, Extractor] = MappingProxyType({})
) -> dict[str, Extractor]:
    """One instance of every instrument the tasks read that needs no fitting, checked for modality and for its heads.

    rating: the fitted generators among them, by name; without them tasks that read one are only checked.
    Raises ModalityMismatch; UsageError when a metric reads a head that its instrument does not have; BadSetting for a
    part that asks more of it than it tells.
    """
    made: dict[str, Extractor] = {}
    for task in tasks:
        name = task.instrument
        door = registry.detectors if task.is_judged else registry.extractors
        if name is None:
            continue
        if task.is_rated and name not in rating:
            if task.metric.reads != "likelihood":
                raise UsageError(f"{task.label}: the metric reads {task.metric.reads!r}, {name} gives likelihood")
            _check_part(task, {})
            continue
        part = made.get(name) or rating.get(name) or door.get(name)()
        if part.modality != modality:
            raise ModalityMismatch(f"{task.label}: {name} measures {part.modality} samples, these are {modality}")
        if task.metric.reads not in part.heads:
            raise UsageError(
                f"{task.label}: the metric reads {task.metric.reads!r}, {name} gives {', '.join(sorted(part.heads))}"
            )
        _check_part(task, getattr(part, "about", {}))
        if "paths" in task.metric.asks and not isinstance(part, Unrounded):
            raise UsageError(f"{task.label}: {name} sees whole grey levels only, and a path's steps are smaller")
        if not task.is_judged:
            made[name] = part
            continue
        with suppress(RunFailed):  # What cannot be had may be missing; a folder that is not there is a mistake.
            _ = getattr(part, "recipe", "")
    for part in made.values():
        _fetch(part)
    return made


def _check_part(task: Task, about: Mapping[str, str]) -> None:
    """Refuse a part that was asked for by name on an instrument that does not tell the fact the part requires."""
    fact, refusal = task.metric.requires.get(task.part or "", ("", ""))
    if fact and about.get(fact, "none") == "none":
        raise BadSetting(f"{refusal} ({task.instrument} was given)")


def texts_of(tasks: Iterable[Task], made: Mapping[str, Extractor]) -> dict[str, Extractor]:
    """For every instrument whose tasks ask for prompts, the text instrument that reads them, by the image one's name.

    Raises UsageError when the instrument sees images only.
    """
    found: dict[str, Extractor] = {}
    for task in tasks:
        if "prompts" in task.metric.asks and task.instrument is not None:
            texts = getattr(made[task.instrument], "texts", None)
            if texts is None:
                raise UsageError(f"{task.label}: {task.instrument} reads no prompts; use clip")
            found[task.instrument] = texts(str(task.settings.get("prefix", "")))
    return found


def check_sizes(tasks: Iterable[Task], **sides: SampleSet | None) -> None:
    """Refuse, before anything is measured, a metric that one of the sides is too small for."""
    for task in tasks:
        # A judge tests on half of what it is given.
        needed = 20 if task.is_judged else task.metric.min_n
        for word, samples in sides.items():
            wanted = word in task.metric.asks or (word == "fake" and "samples" in task.metric.asks)
            if samples is None or not wanted or hasattr(samples, "statistics"):
                continue
            if len(samples) < needed:
                raise TooFewSamples(
                    f"{task.label} needs at least {needed} {word} samples; {samples.name!r} has {len(samples)}"
                )


def check_widths(tasks: Iterable[Task], made: Mapping[str, Extractor], **sides: SampleSet | None) -> None:
    """Refuse a Frechet distance of fewer samples than the instrument has columns: its covariance has no full rank."""
    for task in tasks:
        instrument = made.get(str(task.instrument))
        if instrument is None or not task.metric.moments:
            continue
        head = instrument.heads[task.metric.reads]
        for word, samples in sides.items():
            if samples is not None and word in task.metric.asks and 0 < len(samples) < head.stop - head.start:
                raise TooFewSamples(
                    f"{task.label} of {len(samples)} {word} samples on {head.stop - head.start} columns is mostly bias;"
                    " give more samples, or leave out --strict to compare at equal n only"
                )
