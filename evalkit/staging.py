"""Boards put together: of the user's subjects, and of each chapter of the embedded suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .board import Wishes, compared, score_all
from .columns import shown
from .entrants import (
    as_entrants,
    check_generators,
    is_generator,
    lesson,
    limited,
    named_apart,
    open_source,
    opened,
    rating_generators,
    training_data,
)
from .errors import ModalityMismatch, TooFewSamples, UsageError
from .measurement import Bench
from .planning import default_metrics, instruments, plan
from .records import read_record
from .samples import open_samples
from .samples.statistics import StatisticsSet
from .seeds import Run, said, seeds_table, spreads
from .settings import Settings
from .sharing import Alone
from .subjects import Scored
from .suite import Chapter
from .types import Comparison, Modality, RunRecord

MOST_BY_DEFAULT = 10_000
Done = Callable[[RunRecord], None]


def one_board(
    subjects: Sequence[Any],
    real: Any,
    train_source: Any,
    settings: Settings,
    bench: Bench,
    done: Done,
    others: Sequence[RunRecord],
) -> Comparison:
    """A board of the user's subjects; of `others`, which stand beside them, the first is the baseline."""
    stored = _told_apart([Path(s) for s in subjects if is_record(s)])
    baseline = others[0].subject.name if others else None
    live = [s for s in subjects if not is_record(s)]
    if not live:
        board = compared([], bench, [*stored, *others], baseline=baseline, adjust=settings.adjust)
        for record in stored:
            done(record)
        return board
    reference = open_source(real, bench, split="heldout")
    if len(reference) < 2 and not isinstance(reference, StatisticsSet):
        raise TooFewSamples(f"the real set {reference.name!r} has {len(reference)} sample; at least 2 are needed")
    for record in (*stored, *others):
        # Before anything is measured for a board that cannot be.
        if record.subject.modality != reference.modality:
            what = f"{shown(record.subject.name)} is a record of {record.subject.modality} samples"
            raise ModalityMismatch(f"{what}, the real ones are {reference.modality}: compare them separately")
    training = training_data(real, train_source, reference.modality, bench)
    generators = [is_generator(s) for s in live]
    if any(generators) and not isinstance(bench.team, Alone):
        raise UsageError("several processes share samples that are there; generate them first: evalkit generate")
    check_generators(live)
    live = opened(live, reference.modality, bench)
    names, notes = (settings.metrics, ()) if settings.metrics else default_metrics(reference.modality)
    tasks = plan(
        names,
        reference.modality,
        by_default=not settings.metrics,
        with_train=training is not None,
        with_timing=all(generators),
        with_prompts=True,
        only_moments=isinstance(reference, StatisticsSet) and reference.statistics.rows is None,
        settings=settings.metric,
    )
    instruments(tasks, reference.modality)
    count = settings.n or min(len(reference) or MOST_BY_DEFAULT, MOST_BY_DEFAULT)
    seed, grid = settings.seed, (settings.train_seeds, settings.sample_seeds)
    entrants = [e for s in live for e in as_entrants(s, real, training, count, seed, bench, reference.modality, grid)]
    if settings.n is not None:
        entrants = [limited(e, settings.n, seed) for e in entrants]
    entrants = named_apart(entrants, [r.subject.name for r in (*stored, *others)])
    finished = score_all(
        entrants,
        tasks,
        real=reference,
        train=training,
        seed=seed,
        bench=bench,
        done=done,
        wishes=Wishes(settings.per_group, settings.attribution, settings.strict, notes=notes),
        rating=rating_generators(tasks, training, seed, bench),
    )
    for record in stored:
        done(record)
    board = compared(_shown(finished), bench, [*stored, *others], baseline=baseline, adjust=settings.adjust)
    return _with_seeds(finished, board)


def chapter_board(modality: Modality, chapter: Chapter, settings: Settings, bench: Bench, done: Done) -> Comparison:
    """One modality of the embedded suite."""
    reference = open_samples(f"{chapter.data}/heldout")
    training = open_samples(f"{chapter.data}/train")
    names = settings.metrics or chapter.metrics
    tasks = plan(names, modality, with_train=True, with_timing=True, settings=settings.metric)
    instruments(tasks, modality)
    held_back = open_samples(f"{chapter.data}/ceiling")
    count = min(settings.n or chapter.n, len(held_back))
    seed, grid, data = settings.seed, (settings.train_seeds, settings.sample_seeds), chapter.data
    entrants = [
        e for g in chapter.generators for e in as_entrants(g, data, training, count, seed, bench, modality, grid)
    ]
    if chapter.fresh_lessons:
        entrants = [replace(e, lesson=lesson(e, training, seed, bench)) for e in entrants]
    finished = score_all(
        entrants,
        tasks,
        real=reference,
        train=training,
        seed=seed,
        bench=bench,
        done=done,
        wishes=Wishes(settings.per_group, settings.attribution, with_lint=False),
        rating=rating_generators(tasks, training, seed, bench),
    )
    board = compared(_shown(finished), bench, adjust=settings.adjust)
    return _with_seeds(finished, replace(board, title=chapter.title))


def _shown(finished: Sequence[Scored]) -> list[Scored]:
    """Those with a row of their own: runs that repeat one of them with other seeds are summed up instead."""
    return [s for s in finished if not s.entrant.repeats]


def _with_seeds(finished: Sequence[Scored], board: Comparison) -> Comparison:
    """The board with what a grid of seeds says, where there was one."""
    runs = [Run(s.entrant.repeats or s.entrant.name, *s.entrant.seeds, s.record) for s in finished]
    if len(runs) == len(_shown(finished)):
        return board
    found = spreads(board.columns, runs)
    table = seeds_table(board.columns, found)
    words = said(board.columns, found, {s.entrant.name: s.entrant.role for s in finished})
    exhibits = board.exhibits if table is None else (*board.exhibits, table)
    return replace(board, verdict=(*board.verdict, *words), exhibits=exhibits)


def is_record(subject: Any) -> bool:
    return isinstance(subject, str | Path) and Path(subject).suffix == ".json"


def with_records(subjects: Sequence[Any]) -> list[Any]:
    """The subjects with every folder of run records, and every report folder, replaced by its records.

    A folder of run records holds .json files and nothing else; what is hidden does not count.
    """
    return [s for subject in subjects for s in (_records_in(subject) or [subject])]


def _records_in(subject: Any) -> list[Path]:
    folder = Path(subject) if isinstance(subject, str | Path) and not is_generator(subject) else None
    if folder is None or not folder.is_dir():
        return []
    if (folder / "leaderboard.json").is_file() and (folder / "records").is_dir():
        folder = folder / "records"
    held = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    return held if all(p.suffix == ".json" and p.is_file() for p in held) else []


def _told_apart(files: Sequence[Path]) -> list[RunRecord]:
    """Records of files, those of one name told apart by their file, and by a number where that is the same too."""
    records = [read_record(file) for file in files]
    count, seen, named = Counter(r.subject.name for r in records), Counter[str](), []
    for record, file in zip(records, files, strict=True):
        name = record.subject.name if count[record.subject.name] == 1 else f"{record.subject.name} ({file})"
        seen[name] += 1
        name = name if seen[name] == 1 else f"{name} #{seen[name]}"
        named.append(replace(record, subject=replace(record.subject, name=name)))
    return named
