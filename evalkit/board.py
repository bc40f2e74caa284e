"""Several subjects of one modality through the whole line: measured, judged, scored, set side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from .comparison import compare_records
from .detection import Judge, Lesson, judge
from .errors import EvalkitError, RunFailed, UsageError
from .evaluation import Sides, evaluate, measure_side
from .exhibits import exhibits
from .hardware import derive_seed
from .likelihoods import own_likelihood
from .linting import lint
from .measurement import Bench, Measured, measure, narrowed_to
from .paths import measure_paths
from .planning import Task, check_sizes, check_widths, instruments, texts_of
from .samples import conditions_of, some
from .samples.statistics import StatisticsSet
from .sharing import Alone, HelperDone
from .subjects import Entrant, Scored
from .types import Comparison, Extractor, Features, Modality, RunRecord, SampleSet, Subject


@dataclass(frozen=True)
class Wishes:
    """What is asked of a board beside its tasks.

    per_group: every number of rows again for each group of the samples. attribution: keep what each generated sample
    adds. strict: what the lint finds, and too few samples for a full covariance, are errors. with_lint: look at the
    files of the sets at all. notes: sentences that belong into every record.
    """

    per_group: bool = False
    attribution: bool = False
    strict: bool = False
    with_lint: bool = True
    notes: tuple[str, ...] = ()


def score_all(
    entrants: Sequence[Entrant],
    tasks: Sequence[Task],
    *,
    real: SampleSet,
    train: SampleSet | None,
    seed: int,
    bench: Bench,
    done: Callable[[RunRecord], None],
    wishes: Wishes = Wishes(),
    rating: Mapping[str, Extractor] = MappingProxyType({}),
) -> list[Scored]:
    """Score every entrant against `real`, all with the same number of samples.

    Each set is measured once for all instruments; the larger sets are then narrowed to the smallest one's count by
    content, so that no number differs because its n does. `done` gets each record as soon as it is final. rating: the
    fitted generators that serve as instruments.
    """
    modality: Modality = real.modality
    made = instruments(tasks, modality, rating)
    for entrant in entrants:
        check_sizes(tasks, fake=entrant.samples, real=real, train=train)
        if wishes.strict:
            check_widths(tasks, made, fake=entrant.samples, real=real)
    linted = [_linted(e, real, train, seed, wishes.strict) if wishes.with_lint else () for e in entrants]
    real_side = measure_side("real", real, tasks, made, bench)
    train_side = None if train is None else measure_side("train", train, tasks, made, bench)
    measured = [measure_side("fake", e.samples, tasks, made, bench) for e in entrants]
    bench.team.part()
    if bench.team.rank:
        raise HelperDone
    n = min(len(m.samples) for m in measured)
    # An instrument may know why its numbers cannot stand beside published ones: that belongs to every record.
    notes = [*wishes.notes, *(str(i.incomparable) for i in made.values() if hasattr(i, "incomparable"))]
    notes += dict.fromkeys(f"{t.label}: {t.metric.caution}" for t in tasks if t.metric.caution)
    scored = []
    for entrant, side, found in zip(entrants, measured, linted, strict=True):
        fake = narrowed(side, n, seed)
        check_sizes(tasks, fake=fake.samples)
        judges = _judges(tasks, real_side.samples, fake.samples, entrant.lesson, seed, bench)
        prompts = _prompts(tasks, made, fake.samples, bench)
        paths = measure_paths(tasks, made, entrant.generator, entrant.name, seed=seed, bench=bench)
        own = own_likelihood(tasks, entrant.generator, entrant.model, real_side.samples, bench)
        sides = Sides(fake, real_side, train_side, entrant.timing, judges, prompts, paths, own)
        subject = Subject(entrant.name, modality, entrant.source, n, fake.samples.digest, entrant.role)
        record = evaluate(
            subject, sides, tasks, seed=seed, bench=bench, per_group=wishes.per_group, attribution=wishes.attribution
        )
        if len(side.samples) > n:
            cut = f"{n} of {len(side.samples)} samples were scored, chosen by content, to equal the smallest subject"
            record = replace(record, warnings=(*record.warnings, cut))
        backends = {i.name: str(b) for i in made.values() if (b := getattr(i, "backend", None))}
        environment = {**record.environment, "backends": backends} if backends else record.environment
        record = replace(record, warnings=(*notes, *record.warnings, *found), environment=environment)
        done(record)
        scored.append(Scored(entrant, sides, record))
    return scored


def compared(
    scored: Sequence[Scored],
    bench: Bench,
    others: Sequence[RunRecord] = (),
    *,
    baseline: str | None = None,
    adjust: str = "holm",
) -> Comparison:
    """The board of scored entrants, with records scored elsewhere beside them and everything a report draws.

    baseline, adjust: as `compare_records` takes them.
    """
    comparison = compare_records([*(s.record for s in scored), *others], baseline=baseline, adjust=adjust)
    return replace(comparison, exhibits=exhibits(scored, comparison, bench)) if scored else comparison


def narrowed(side: Measured, n: int, seed: int) -> Measured:
    """n of the samples, chosen by content and seed and kept in order, with their rows: no network runs again."""
    return side if len(side.samples) <= n else narrowed_to(side, some(side.samples, n, seed))


def _linted(entrant: Entrant, real: SampleSet, train: SampleSet | None, seed: int, strict: bool) -> tuple[str, ...]:
    """What the files of a set say against its numbers; with `strict` the first of it is an error."""
    if real.modality != "image":
        return ()
    found = lint(None if isinstance(real, StatisticsSet) else real, entrant.samples, train, seed=seed)
    if found and strict:
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise UsageError(f"{entrant.name}: {found[0]}{more}; without --strict it is a warning")
    return found


def _prompts(
    tasks: Sequence[Task], made: Mapping[str, Extractor], samples: SampleSet, bench: Bench
) -> dict[str, Features]:
    """The prompts of the samples, read by the text side of each instrument that a task asks prompts of."""
    readers = texts_of(tasks, made)
    if not readers:
        return {}
    conditions = conditions_of(samples)
    measured = measure(conditions, list(readers.values()), replace(bench, team=Alone()))
    if len(measured.samples) < len(samples):
        raise UsageError(f"{samples.name!r}: a prompt cannot be read ({measured.excluded[0].reason})")
    return {name: measured.features[reader.name] for name, reader in readers.items()}


def _judges(
    tasks: Sequence[Task], real: SampleSet, fake: SampleSet, lesson: Lesson | None, seed: int, bench: Bench
) -> Mapping[str, Judge | EvalkitError]:
    """A fitted judge for each detector the tasks name; its refusal where it cannot be fitted to this subject."""
    found: dict[str, Judge | EvalkitError] = {}
    for name in dict.fromkeys(str(t.instrument) for t in tasks if t.is_judged):
        try:
            own = derive_seed(seed, "judge", name)
            found[name] = judge(name, real, fake, seed=own, bench=replace(bench, team=Alone()), lesson=lesson)
        except (UsageError, RunFailed) as error:
            found[name] = error
    return found
