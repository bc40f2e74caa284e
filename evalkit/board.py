"""Several subjects of one modality through the whole line: measured, judged, scored, set side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .comparison import compare_records
from .detection import Judge, Lesson, judge
from .errors import EvalkitError, RunFailed, UsageError
from .evaluation import Sides, Task, check_sizes, evaluate, instruments, measure_side
from .exhibits import exhibits
from .hardware import derive_seed
from .measurement import Bench, Measured
from .samples import select
from .subjects import Entrant, Scored
from .types import Comparison, Features, Modality, RunRecord, SampleSet, Subject


def score_all(
    entrants: Sequence[Entrant],
    tasks: Sequence[Task],
    *,
    real: SampleSet,
    train: SampleSet | None,
    seed: int,
    bench: Bench,
    done: Callable[[RunRecord], None],
) -> list[Scored]:
    """Score every entrant against `real`, all with the same number of samples.

    Each set is measured once for all instruments; the larger sets are then narrowed to the smallest one's count by
    content, so that no number differs because its n does. `done` gets each record as soon as it is final.
    """
    modality: Modality = real.modality
    made = instruments(tasks, modality)
    for entrant in entrants:
        check_sizes(tasks, fake=entrant.samples, real=real, train=train)
    real_side = measure_side("real", real, tasks, made, bench)
    train_side = None if train is None else measure_side("train", train, tasks, made, bench)
    measured = [measure_side("fake", e.samples, tasks, made, bench) for e in entrants]
    n = min(len(m.samples) for m in measured)
    # An instrument may know why its numbers cannot stand beside published ones: that belongs to every record.
    notes = [str(i.incomparable) for i in made.values() if hasattr(i, "incomparable")]
    scored = []
    for entrant, side in zip(entrants, measured, strict=True):
        fake = narrowed(side, n, seed)
        check_sizes(tasks, fake=fake.samples)
        judges = _judges(tasks, real_side.samples, fake.samples, entrant.lesson, seed, bench)
        sides = Sides(fake, real_side, train_side, entrant.timing, judges)
        subject = Subject(entrant.name, modality, entrant.source, n, fake.samples.digest, entrant.role)
        record = evaluate(subject, sides, tasks, seed=seed, bench=bench)
        if len(side.samples) > n:
            cut = f"{n} of {len(side.samples)} samples were scored, chosen by content, to equal the smallest subject"
            record = replace(record, warnings=(*record.warnings, cut))
        record = replace(record, warnings=(*notes, *record.warnings))
        done(record)
        scored.append(Scored(entrant, sides, record))
    return scored


def compared(scored: Sequence[Scored], bench: Bench, others: Sequence[RunRecord] = ()) -> Comparison:
    """The board of scored entrants, with records scored elsewhere beside them and everything a report draws."""
    comparison = compare_records([*(s.record for s in scored), *others])
    return replace(comparison, exhibits=exhibits(scored, comparison, bench) if scored else ())


def narrowed(side: Measured, n: int, seed: int) -> Measured:
    """n of the samples, chosen by content and seed and kept in order, with their rows: no network runs again."""
    listed = tuple(side.samples)
    if len(listed) <= n:
        return side

    def draw(i: int) -> str:
        return hashlib.sha256(f"{seed}/{listed[i].digest}/{i}".encode()).hexdigest()

    keep = sorted(sorted(range(len(listed)), key=draw)[:n])
    samples = select(side.samples, keep)
    features = {k: Features(f.rows[keep], f.extractor, samples, f.heads) for k, f in side.features.items()}
    return Measured(samples, features, side.excluded)


def _judges(
    tasks: Sequence[Task], real: SampleSet, fake: SampleSet, lesson: Lesson | None, seed: int, bench: Bench
) -> Mapping[str, Judge | EvalkitError]:
    """A fitted judge for each detector the tasks name; its refusal where it cannot be fitted to this subject."""
    found: dict[str, Judge | EvalkitError] = {}
    for name in dict.fromkeys(str(t.instrument) for t in tasks if t.is_judged):
        try:
            own = derive_seed(seed, "judge", name)
            found[name] = judge(name, real, fake, seed=own, bench=bench, lesson=lesson)
        except (UsageError, RunFailed) as error:
            found[name] = error
    return found
