"""What evalkit does, one function a command: compare, score, generate, train, detect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import registry
from .board import Entrant, Scored, compared, score_all
from .cache import FileDigests
from .detection import fitted, pooled
from .errors import BadSetting, Inconclusive, ModalityMismatch, NothingToEvaluate, UnwritableOutput, UsageError
from .evaluation import Task, instruments, is_inconclusive, plan
from .generation import generate as draw
from .generation import load_generator, trained, write_samples
from .hardware import environment
from .measurement import Bench
from .publishing import ReportFolder, check_outputs, publish_model, write_outputs
from .records import read_record
from .samples import open_samples
from .samples.embedded import PREFIX
from .settings import Settings
from .suite import SUITE, Chapter
from .types import Comparison, Detector, Generator, Leaderboard, Modality, RunRecord, SampleSet

MOST_BY_DEFAULT = 10_000


def compare(
    subjects: Sequence[Any] = (),
    *,
    real: Any = None,
    train: Any = None,
    out: Path | str | None = None,
    baseline: Path | str | None = None,
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
    board = Leaderboard(title, tuple(comparisons), tuple(records), _provenance(command, settings, bench, comparisons))
    if folder is not None:
        folder.finish(board)
    return board


def score(
    subject: Any,
    *,
    real: Any = None,
    train: Any = None,
    outputs: Sequence[Path] = (),
    settings: Settings | None = None,
    bench: Bench | None = None,
    command: str = "evalkit score",
) -> tuple[RunRecord, Leaderboard]:
    """One subject against `real` (texts may go without): its run record, and the board of one that renders it."""
    settings, bench = settings or Settings(), bench or Bench()
    check_outputs(outputs)
    if real is None:
        raise UsageError("nothing to score against: give the real samples with --real SOURCE")
    records: list[RunRecord] = []

    def done(record: RunRecord) -> None:
        records.append(_with_settings(record, settings))

    comparison = _one_board([subject], real, train, settings, bench, done, [])
    provenance = _provenance(command, settings, bench, [comparison])
    board = Leaderboard(f"Score of {records[0].subject.name}", (comparison,), tuple(records), provenance)
    write_outputs(records[0], board, outputs)
    return records[0], board


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
        generator, model = load_generator(Path(name), controls or {})
    else:
        generator, model = _generator(name, data, seed, controls, bench), str(seed)
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
        model: Generator | Detector = _generator(name, data, seed, controls, bench)
    elif kind == "detector":
        registry.detectors.get(name)
        if real is None or not fake:
            raise UsageError("a detector learns from both sides: give --real SOURCE and --fake SOURCE")
        genuine = _open(real, bench, split="train")
        fakes = [_open(f, bench, modality=genuine.modality) for f in fake]
        model = fitted(name, genuine, pooled(fakes), seed=seed, bench=bench)
    else:
        raise UsageError(f"cannot train {kind!r}; expected generator or detector")
    publish_model(model, Path(out))
    return model


def conclude(board: Leaderboard) -> None:
    """Raise Inconclusive when a number of the board is missing or more than 1 % of a subject could not be read."""
    for record in board.records:
        if is_inconclusive(record):
            reasons = [w for w in record.warnings if " is missing: " in w]
            why = reasons[0] if reasons else f"{len(record.excluded)} of its samples could not be read"
            raise Inconclusive(f"{record.subject.name}: {why}; the report is written, but do not act on it")


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
    stored = [read_record(Path(s)) for s in subjects if _is_record(s)]
    live = [s for s in subjects if not _is_record(s)]
    for record in stored:
        done(record)
    if not live:
        return compared([], (), bench, [*stored, *others])
    reference = _open(real, bench, split="heldout")
    if len(reference) < 2:
        raise NothingToEvaluate(f"the real set {reference.name!r} has {len(reference)} sample; at least 2 are needed")
    training = _training(real, train_source, reference.modality, bench)
    generators = [_is_generator(s) for s in live]
    tasks = plan(
        settings.metrics or None,
        reference.modality,
        with_train=training is not None,
        with_timing=all(generators),
        settings=settings.metric,
    )
    instruments(tasks, reference.modality)
    count = settings.n or min(len(reference), MOST_BY_DEFAULT)
    entrants = [_entrant(s, real, training, count, settings, bench, reference.modality) for s in live]
    if settings.n is not None:
        entrants = [_limited(e, settings.n, settings.seed) for e in entrants]
    scored = _scored(_named_apart(entrants), tasks, reference, training, settings, bench, done)
    return compared(scored, tasks, bench, [*stored, *others])


def _chapter(modality: Modality, chapter: Chapter, settings: Settings, bench: Bench, done: Any) -> Comparison:
    """One modality of the embedded suite."""
    reference = open_samples(f"{chapter.data}/heldout")
    training = open_samples(f"{chapter.data}/train")
    names = settings.metrics or chapter.metrics
    tasks = plan(names, modality, with_train=True, with_timing=True, settings=settings.metric)
    instruments(tasks, modality)
    held_back = open_samples(f"{chapter.data}/ceiling")
    count = min(settings.n or chapter.n, len(held_back))
    entrants = [
        _entrant(name, f"{chapter.data}", training, count, settings, bench, modality) for name in chapter.generators
    ]
    scored = _scored(entrants, tasks, reference, training, settings, bench, done)
    return replace(compared(scored, tasks, bench), title=chapter.title)


def _scored(
    entrants: Sequence[Entrant],
    tasks: Sequence[Task],
    real: SampleSet,
    training: SampleSet | None,
    settings: Settings,
    bench: Bench,
    done: Any,
) -> list[Scored]:
    return score_all(entrants, tasks, real=real, train=training, seed=settings.seed, bench=bench, done=done)


def _entrant(
    subject: Any,
    real: Any,
    training: SampleSet | None,
    n: int,
    settings: Settings,
    bench: Bench,
    modality: Modality,
) -> Entrant:
    """A subject as an entrant: its samples opened, or drawn from the generator it names."""
    if not _is_generator(subject):
        samples = _open(subject, bench, modality=modality)
        return Entrant(samples.name, samples, getattr(samples, "source", samples.name))
    make = registry.generators.get(str(subject))
    if make.modality != modality:
        raise ModalityMismatch(f"generator {subject!r} makes {make.modality} samples, the real ones are {modality}")
    if make.role == "ceiling":
        data = _held_back(str(subject), real)
    elif training is None:
        raise UsageError(f"generator {subject!r} has to learn from something: give --train SOURCE")
    else:
        data = training
    generator = trained(str(subject), data, seed=settings.seed, bench=bench)
    count = min(n, len(data)) if make.role == "ceiling" else n
    drawn = draw(generator, count, settings.seed, bench, model=str(settings.seed))
    return Entrant(str(subject), drawn.samples, f"generator:{subject}", generator.role, drawn.timing, generator)


def _held_back(subject: str, real: Any) -> SampleSet:
    """The data a ceiling draws from: never the reference, never the training data."""
    if isinstance(real, str) and real.startswith(PREFIX):
        return open_samples(f"{real.split('/')[0]}/ceiling")
    raise UsageError(
        f"{subject!r} needs real data held back from the reference; give a folder of it as a subject instead"
    )


def _training(real: Any, source: Any, modality: Modality, bench: Bench) -> SampleSet | None:
    if source is not None:
        return _open(source, bench, split="train", modality=modality)
    if isinstance(real, str) and real.startswith(PREFIX):
        return open_samples(f"{real.split('/')[0]}/train")
    return None


def _generator(name: str, data: Any, seed: int, controls: Mapping[str, Any] | None, bench: Bench) -> Generator:
    """A trained generator by name, its data opened; the embedded data of its modality when none is given."""
    make = registry.generators.get(name)
    modality: Modality = make.modality
    source = SUITE[modality].data if data is None else data
    split = "ceiling" if make.role == "ceiling" else "train"
    return trained(
        name, _open(source, bench, split=split, modality=modality), seed=seed, bench=bench, controls=controls
    )


def _open(source: Any, bench: Bench, split: str | None = None, modality: Modality | None = None) -> SampleSet:
    return open_samples(source, split=split, modality=modality, digests=FileDigests(bench.cache.root))


def _is_generator(subject: Any) -> bool:
    return isinstance(subject, str) and subject in registry.generators


def _is_record(subject: Any) -> bool:
    return isinstance(subject, str | Path) and Path(subject).suffix == ".json"


def _as_baseline(record: RunRecord) -> RunRecord:
    return replace(record, subject=replace(record.subject, name=f"baseline: {record.subject.name}"))


def _with_settings(record: RunRecord, settings: Settings) -> RunRecord:
    return replace(record, environment={**record.environment, "settings": settings.plain()})


def _limited(entrant: Entrant, n: int, seed: int) -> Entrant:
    """At most n samples of a subject, chosen by content and seed."""
    from .board import narrowed
    from .measurement import Measured

    return replace(entrant, samples=narrowed(Measured(entrant.samples, {}, ()), n, seed).samples)


def _named_apart(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Subjects of one name told apart by where they came from."""
    count = Counter(e.name for e in entrants)
    named, seen = [], Counter[str]()
    for entrant in entrants:
        name = entrant.name if count[entrant.name] == 1 else f"{entrant.name} ({entrant.source})"
        seen[name] += 1
        named.append(replace(entrant, name=name if seen[name] == 1 else f"{name} #{seen[name]}"))
    return named


def _provenance(command: str, settings: Settings, bench: Bench, comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Where the numbers came from, as lines of words."""
    lines = {"command": command, "seed": str(settings.seed)}
    for comparison in comparisons:
        if comparison.reference is not None:
            reference = comparison.reference
            lines[f"{comparison.modality} reference"] = f"{reference.name}, n = {reference.n}, {reference.digest}"
    lines.update({key: str(value) for key, value in environment(bench.device).items()})
    return lines
