"""What evalkit does, one function a command: compare, score, generate, train, detect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import registry
from .comparison import instrument_digests
from .detection import fitted, made, pooled
from .drawings import write_samples
from .entrants import (
    open_source,
    trained_generator,
    tuned_generator,
)
from .errors import BadSetting, Inconclusive, RunFailed, UnwritableOutput, UsageError
from .evaluation import DOES_NOT_APPLY, is_inconclusive
from .explaining import explain as why
from .generation import Unfinished, check_given, generate_given, load_generator
from .generation import generate as draw
from .hardware import environment
from .lessons import Trained, check_lesson, on_its_own
from .measurement import Bench
from .publishing import ReportFolder, check_outputs, publish_model, write_outputs
from .records import read_record
from .samples import select
from .settings import Settings
from .shortcuts.beside import cleaned_sets
from .staging import chapter_board, is_record, one_board, with_records
from .suite import SUITE
from .types import Comparison, Detector, Generator, Leaderboard, Published, RunRecord


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

    subjects: folders, archives, files, arrays, run records or folders of them, or names of generators (trained on
    `train`, or on the train split of an embedded `real`). out: a folder for the report; nothing is written without it.
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

    subjects = with_records(subjects)
    if subjects:
        if real is None and not all(is_record(s) for s in subjects):
            raise UsageError("nothing to compare with: give the real samples with --real SOURCE")
        extra = [] if baseline is None else [_as_baseline(read_record(Path(baseline)))]
        comparisons = [one_board(subjects, real, train, settings, bench, done, extra)]
        title = "Comparison"
    else:
        if real is not None or train is not None or baseline is not None:
            raise UsageError("--real, --train and --baseline need subjects: evalkit compare SUBJECT ... --real SOURCE")
        comparisons = [chapter_board(modality, chapter, settings, bench, done) for modality, chapter in SUITE.items()]
        title = "The embedded suite"
    board = Leaderboard(
        title, tuple(comparisons), tuple(records), _provenance(command, settings, bench, comparisons, records)
    )
    if folder is not None:
        folder.finish(board)
    return board


def explain(records: Sequence[Path | str]) -> tuple[str, ...]:
    """Why the numbers of two run records differ, in words; UsageError unless exactly two records are given."""
    if len(records) != 2 or not all(is_record(r) for r in records):
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

    comparison = one_board([subject], real, train, settings, bench, done, [])
    provenance = _provenance(command, settings, bench, [comparison], records)
    board = Leaderboard(f"Score of {records[0].subject.name}", (comparison,), tuple(records), provenance)
    write_outputs(records[0], board, outputs)
    return board


def generate(
    name: str,
    *,
    n: int | None = None,
    out: Path | str,
    data: Any = None,
    given: Any = None,
    seed: int = 0,
    controls: Mapping[str, Any] | None = None,
    bench: Bench | None = None,
) -> Path:
    """Train (or find trained) a generator, or load a model folder, and write n samples with `set.json` to `out`.

    given: a source of inputs, for a generator that translates, captions or follows prompts: one sample for each of the
    first n of them, all by default.
    """
    bench = bench or Bench()
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnwritableOutput(f"{folder} is not an empty folder; give a new one with --out")
    if n is None and given is None:
        raise UsageError("how many samples? give --n N, or what to make them of with --input SOURCE")
    if n is not None and n < 1:
        raise BadSetting(f"n = {n}; expected at least 1 sample")
    inputs = None if given is None else open_source(given, bench)
    if inputs is not None and n is not None:
        inputs = select(inputs, range(min(n, len(inputs))))
    if inputs is not None and not Path(name).is_dir():
        # Before anything is trained for them.
        check_given(registry.generators.get(name)(**dict(controls or {})), inputs)
    if Path(name).is_dir():
        generator, model = load_generator(Path(name), controls or {}, bench)
    else:
        generator, model = trained_generator(name, data, seed, controls, bench), str(seed)
    about: dict[str, Any] = {"seed": seed, "environment": environment(bench.device)}
    if inputs is None:
        write_samples(draw(generator, n or 1, seed, bench, model=model), generator, folder, about)
        return folder
    about["input"] = {"name": inputs.name, "n": len(inputs), "digest": inputs.digest}
    made = generate_given(generator, inputs, seed, bench)
    write_samples(made, generator, folder, about, [s.id for s in inputs])
    return folder


def train(
    kind: str,
    name: str,
    *,
    out: Path | str,
    real: Any = None,
    fake: Sequence[Any] = (),
    data: Any = None,
    start: Path | str | None = None,
    seed: int = 0,
    controls: Mapping[str, Any] | None = None,
    bench: Bench | None = None,
) -> Generator | Detector:
    """Fit a generator on `data`, or a detector on `real` and `fake`, and save it as a model folder.

    start: the folder of a trained generator of that name to go on from (fine-tuning). When training diverges, the last
    sound state is saved and the error says so. Of a detector: TooFewSamples below 20 readable samples a side,
    BadSource when a sample is on both.
    """
    return trained(
        kind, name, out=out, real=real, fake=fake, data=data, start=start, seed=seed, controls=controls, bench=bench
    ).model


def trained(
    kind: str,
    name: str,
    *,
    out: Path | str,
    real: Any = None,
    fake: Sequence[Any] = (),
    data: Any = None,
    start: Path | str | None = None,
    seed: int = 0,
    controls: Mapping[str, Any] | None = None,
    clean: bool = False,
    bench: Bench | None = None,
) -> Trained:
    """`train` with what is to be said of it; clean: a detector of texts learns from cleaned ones."""
    bench = bench or Bench()
    said: tuple[str, ...] = ()
    lost = ""
    if kind == "generator":
        if clean:
            raise UsageError("--clean is for detectors: it cuts real and fake texts alike")
        if start is not None and data is None:
            raise UsageError("--from goes on from a trained model: give the new samples with --data SOURCE")
        try:
            model: Generator | Detector = (
                trained_generator(name, data, seed, controls, bench)
                if start is None
                else tuned_generator(name, Path(start), data, seed, controls, bench)
            )
        except Unfinished as error:
            publish_model(error.generator, Path(out))
            raise RunFailed(f"{error}; its last sound state is in {out}") from error
    elif kind == "detector":
        registry.detectors.get(name)
        if real is None or not fake:
            raise UsageError("a detector learns from both sides: give --real SOURCE and --fake SOURCE")
        genuine = open_source(real, bench, split="train")
        fakes = [open_source(f, bench, modality=genuine.modality) for f in fake]
        forged = pooled(fakes)
        if clean:
            genuine, forged, left = cleaned_sets(genuine, forged, seed=seed)
        # A published one learns from neither.
        learns = not isinstance(made(name), Published)
        said, lost = check_lesson(genuine, forged, bench) if learns else ((), "")
        model = fitted(name, genuine, forged, seed=seed, bench=bench)
        said += (left,) if clean else ()
        said += on_its_own(model, genuine, forged, seed, bench) if learns else ()
    else:
        raise UsageError(f"cannot train {kind!r}; expected generator or detector")
    publish_model(model, Path(out))
    return Trained(model, said, lost and f"{lost}; the model is in {out}, but do not act on it")


def conclude(board: Leaderboard) -> None:
    """Raise Inconclusive when a number is missing, over 1 % of an input is unreadable, or protocols differ.

    And when there is no number at all, because none that was asked for applies.
    """
    for record in board.records:
        if is_inconclusive(record):
            reasons = [w for w in record.warnings if " is missing: " in w]
            why = reasons[0] if reasons else f"{len(record.excluded)} unreadable, listed under excluded"
            raise Inconclusive(f"{record.subject.name}: {why}; what was measured is written, but do not act on it")
    if board.records and not any(record.results for record in board.records):
        # A number that a subject cannot have is not missing; but with no other beside it there is nothing to act on.
        reasons = [w for record in board.records for w in record.warnings if DOES_NOT_APPLY in w]
        raise Inconclusive(f"no number at all: {reasons[0] if reasons else 'nothing was measured'}")
    refused = [reason for comparison in board.comparisons for reason in comparison.refused]
    if refused:
        raise Inconclusive(f"{refused[0]} ({len(refused)} refused); what was measured is written, but do not act on it")


# ---------------------------------------------------------------------------------------------- how they do it


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
