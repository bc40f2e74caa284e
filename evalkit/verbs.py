"""What evalkit does, one function a command: compare, score, generate, train, detect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import registry
from .board import Wishes, compared, score_all
from .comparison import instrument_digests
from .detection import fitted, pooled
from .entrants import (
    as_entrant,
    is_generator,
    lesson,
    limited,
    named_apart,
    open_source,
    trained_generator,
    training_data,
)
from .errors import BadSetting, Inconclusive, TooFewSamples, UnwritableOutput, UsageError
from .evaluation import is_inconclusive
from .explaining import explain as why
from .generation import generate as draw
from .generation import load_generator, write_samples
from .hardware import environment
from .measurement import Bench
from .planning import default_metrics, instruments, plan
from .publishing import ReportFolder, check_outputs, publish_model, write_outputs
from .records import read_record
from .samples import open_samples
from .samples.statistics import StatisticsSet
from .settings import Settings
from .sharing import Alone
from .suite import SUITE, Chapter
from .types import Comparison, Detector, Generator, Leaderboard, Modality, RunRecord

MOST_BY_DEFAULT = 10_000


def compare(
    subjects: Sequence[Any] = (),
    *,
    real: Any = None,
    train: Any = None,
    out: Path | str | None = None,
    baseline: Path | str | None = None,
    metrics: Sequence[str] = (),
    settings: Settings | None = None,
    bench: Bench | None = None,
    command: str = "evalkit compare",
) -> Leaderboard:
    """Score each subject against `real` and set them side by side; without subjects, run the embedded suite.

    subjects: folders, archives, files, arrays, run records, or names of generators (trained on `train`, or on the
    train split of an embedded `real`). out: a folder for the report; nothing is written without it.
    Raises the errors of evalkit.errors; the report is written even when some numbers are missing.
    """
    settings, bench = settings or Settings(), bench or Bench()
    folder = None if out is None else ReportFolder(Path(out))
    records: list[RunRecord] = []
    settings = replace(settings, metrics=tuple(metrics)) if metrics else settings

    def done(record: RunRecord) -> None:
        records.append(_with_settings(record, settings))
        if folder is not None:
            folder.record(records[-1])

    if subjects:
        if real is None and not all(_is_record(s) for s in subjects):
            raise UsageError("nothing to compare with: give the real samples with --real SOURCE")
        extra = [] if baseline is None else [_as_baseline(read_record(Path(baseline)))]
        comparisons = [_one_board(subjects, real, train, settings, bench, done, extra)]
        title = "Comparison"
    else:
        if real is not None or train is not None or baseline is not None:
            raise UsageError("--real, --train and --baseline need subjects: evalkit compare SUBJECT ... --real SOURCE")
        comparisons = [_chapter(modality, chapter, settings, bench, done) for modality, chapter in SUITE.items()]
        title = "The embedded suite"
    board = Leaderboard(
        title, tuple(comparisons), tuple(records), _provenance(command, settings, bench, comparisons, records)
    )
    if folder is not None:
        folder.finish(board)
    return board


def explain(records: Sequence[Path | str]) -> tuple[str, ...]:
    """Why the numbers of two run records differ, in words; UsageError unless exactly two records are given."""
    if len(records) != 2 or not all(_is_record(r) for r in records):
        raise UsageError(
            f"--explain compares two run records (.json); given {len(records)}: {', '.join(map(str, records))}"
        )
    return why(*(read_record(Path(r)) for r in records))


def score(
    subject: Any,
    *,
    real: Any = None,
    train: Any = None,
    metrics: Sequence[str] = (),
    outputs: Sequence[Path] = (),
    settings: Settings | None = None,
    bench: Bench | None = None,
) -> RunRecord:
    """One subject against `real`: its run record, also written to `outputs`, whose suffixes pick the formats."""
    chosen = settings or Settings()
    chosen = replace(chosen, metrics=tuple(metrics)) if metrics else chosen
    return scored(subject, real=real, train=train, outputs=outputs, settings=chosen, bench=bench).records[0]


def scored(
    subject: Any,
    *,
    real: Any = None,
    train: Any = None,
    outputs: Sequence[Path] = (),
    settings: Settings | None = None,
    bench: Bench | None = None,
    command: str = "evalkit score",
) -> Leaderboard:
    """`score` with the board of one that renders its record."""
    settings, bench = settings or Settings(), bench or Bench()
    check_outputs(outputs)
    if real is None:
        raise UsageError("nothing to score against: give the real samples with --real SOURCE")
    records: list[RunRecord] = []

    def done(record: RunRecord) -> None:
        records.append(_with_settings(record, settings))

    comparison = _one_board([subject], real, train, settings, bench, done, [])
    provenance = _provenance(command, settings, bench, [comparison], records)
    board = Leaderboard(f"Score of {records[0].subject.name}", (comparison,), tuple(records), provenance)
    write_outputs(records[0], board, outputs)
    return board


def generate(
    name: str,
    *,
    n: int,
    out: Path | str,
    data: Any = None,
    seed: int = 0,
    controls: Mapping[str, Any] | None = None,
    bench: Bench | None = None,
) -> Path:
    """Train (or find trained) a generator, or load a model folder, and write n samples with `set.json` to `out`."""
    bench = bench or Bench()
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnwritableOutput(f"{folder} is not an empty folder; give a new one with --out")
    if n < 1:
        raise BadSetting(f"n = {n}; expected at least 1 sample")
    if Path(name).is_dir():
        generator, model = load_generator(Path(name), controls or {}, bench)
    else:
        generator, model = trained_generator(name, data, seed, controls, bench), str(seed)
    drawn = draw(generator, n, seed, bench, model=model)
    write_samples(drawn, generator, folder, {"seed": seed, "environment": environment(bench.device)})
    return folder


def train(
    kind: str,
    name: str,
    *,
    out: Path | str,
    real: Any = None,
    fake: Sequence[Any] = (),
    data: Any = None,
    seed: int = 0,
    controls: Mapping[str, Any] | None = None,
    bench: Bench | None = None,
) -> Generator | Detector:
    """Fit a generator on `data`, or a detector on `real` and `fake`, and save it as a model folder."""
    bench = bench or Bench()
    if kind == "generator":
        model: Generator | Detector = trained_generator(name, data, seed, controls, bench)
    elif kind == "detector":
        registry.detectors.get(name)
        if real is None or not fake:
            raise UsageError("a detector learns from both sides: give --real SOURCE and --fake SOURCE")
        genuine = open_source(real, bench, split="train")
        fakes = [open_source(f, bench, modality=genuine.modality) for f in fake]
        model = fitted(name, genuine, pooled(fakes), seed=seed, bench=bench)
    else:
        raise UsageError(f"cannot train {kind!r}; expected generator or detector")
    publish_model(model, Path(out))
    return model


def conclude(board: Leaderboard) -> None:
    """Raise Inconclusive when a number is missing, over 1 % of an input is unreadable, or protocols differ."""
    for record in board.records:
        if is_inconclusive(record):
            reasons = [w for w in record.warnings if " is missing: " in w]
            why = reasons[0] if reasons else f"{len(record.excluded)} unreadable, listed under excluded"
            raise Inconclusive(f"{record.subject.name}: {why}; what was measured is written, but do not act on it")
    refused = [reason for comparison in board.comparisons for reason in comparison.refused]
    if refused:
        raise Inconclusive(f"{refused[0]} ({len(refused)} refused); what was measured is written, but do not act on it")


# ---------------------------------------------------------------------------------------------- how they do it


def _one_board(
    subjects: Sequence[Any],
    real: Any,
    train_source: Any,
    settings: Settings,
    bench: Bench,
    done: Any,
    others: Sequence[RunRecord],
) -> Comparison:
    """A board of the user's subjects."""
    stored = _told_apart([Path(s) for s in subjects if _is_record(s)])
    live = [s for s in subjects if not _is_record(s)]
    if not live:
        board = compared([], bench, [*stored, *others])
        for record in stored:
            done(record)
        return board
    reference = open_source(real, bench, split="heldout")
    if len(reference) < 2 and not isinstance(reference, StatisticsSet):
        raise TooFewSamples(f"the real set {reference.name!r} has {len(reference)} sample; at least 2 are needed")
    training = training_data(real, train_source, reference.modality, bench)
    generators = [is_generator(s) for s in live]
    if any(generators) and not isinstance(bench.team, Alone):
        raise UsageError("several processes share samples that are there; generate them first: evalkit generate")
    names, notes = (settings.metrics, ()) if settings.metrics else default_metrics(reference.modality)
    tasks = plan(
        names,
        reference.modality,
        by_default=not settings.metrics,
        with_train=training is not None,
        with_timing=all(generators),
        with_prompts=not any(generators),
        only_moments=isinstance(reference, StatisticsSet) and reference.statistics.rows is None,
        settings=settings.metric,
    )
    instruments(tasks, reference.modality)
    count = settings.n or min(len(reference) or MOST_BY_DEFAULT, MOST_BY_DEFAULT)
    seed = settings.seed
    entrants = [as_entrant(s, real, training, count, seed, bench, reference.modality) for s in live]
    if settings.n is not None:
        entrants = [limited(e, settings.n, seed) for e in entrants]
    entrants = named_apart(entrants, [r.subject.name for r in stored])
    wishes = Wishes(settings.per_group, settings.attribution, settings.strict, notes=notes)
    finished = score_all(
        entrants, tasks, real=reference, train=training, seed=seed, bench=bench, done=done, wishes=wishes
    )
    for record in stored:
        done(record)
    return compared(finished, bench, [*stored, *others])


def _chapter(modality: Modality, chapter: Chapter, settings: Settings, bench: Bench, done: Any) -> Comparison:
    """One modality of the embedded suite."""
    reference = open_samples(f"{chapter.data}/heldout")
    training = open_samples(f"{chapter.data}/train")
    names = settings.metrics or chapter.metrics
    tasks = plan(names, modality, with_train=True, with_timing=True, settings=settings.metric)
    instruments(tasks, modality)
    held_back = open_samples(f"{chapter.data}/ceiling")
    count = min(settings.n or chapter.n, len(held_back))
    seed = settings.seed
    entrants = [as_entrant(g, chapter.data, training, count, seed, bench, modality) for g in chapter.generators]
    if chapter.fresh_lessons:
        entrants = [replace(e, lesson=lesson(e, training, seed, bench)) for e in entrants]
    wishes = Wishes(settings.per_group, settings.attribution, with_lint=False)
    finished = score_all(
        entrants, tasks, real=reference, train=training, seed=seed, bench=bench, done=done, wishes=wishes
    )
    return replace(compared(finished, bench), title=chapter.title)


def _is_record(subject: Any) -> bool:
    return isinstance(subject, str | Path) and Path(subject).suffix == ".json"


def _told_apart(files: Sequence[Path]) -> list[RunRecord]:
    """Records of files, those of one name told apart by their file."""
    records = [read_record(file) for file in files]
    count = Counter(r.subject.name for r in records)
    return [
        r if count[r.subject.name] == 1 else replace(r, subject=replace(r.subject, name=f"{r.subject.name} ({file})"))
        for r, file in zip(records, files, strict=True)
    ]


def _as_baseline(record: RunRecord) -> RunRecord:
    return replace(record, subject=replace(record.subject, name=f"baseline: {record.subject.name}"))


def _with_settings(record: RunRecord, settings: Settings) -> RunRecord:
    return replace(record, environment={**record.environment, "settings": settings.plain()})


def _provenance(
    command: str,
    settings: Settings,
    bench: Bench,
    comparisons: Sequence[Comparison],
    records: Sequence[RunRecord],
) -> dict[str, str]:
    """Where the numbers came from, as lines of words."""
    lines = {"command": command, "seed": str(settings.seed)}
    for comparison in comparisons:
        if comparison.reference is not None:
            reference = comparison.reference
            lines[f"{comparison.modality} reference"] = f"{reference.name}, n = {reference.n}, {reference.digest}"
    for record in records:
        subject = record.subject
        lines[f"{subject.modality} subject {subject.name}"] = f"{subject.source}, n = {subject.n}, {subject.digest}"
        if record.train is not None:
            lines[f"{subject.modality} training data"] = (
                f"{record.train.name}, n = {record.train.n}, {record.train.digest}"
            )
    lines.update(sorted(instrument_digests(records).items()))
    lines.update({key: str(value) for key, value in environment(bench.device).items()})
    return lines
