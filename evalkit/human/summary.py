"""What a study found, as run records that stand on the board beside every other number, and as a page of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..cache import digest_of
from ..errors import BadSetting, Inconclusive, UnwritableOutput
from ..hardware import environment
from ..publishing import STUDY_FILES, safe_name, write_study
from ..records import write_record
from ..types import Better, Cell, Exhibit, Matrix, MetricResult, Reference, RunRecord, Study, Subject, Table
from .agreement import alpha_interval
from .readings import PASS, Conduct, Readings, strengths
from .sensitivity import LEVEL, Measured
from .store import Store

SCHEMA = "evalkit.human/1"
RESULT_VERSION = 1
UNITS: Mapping[str, tuple[Better, str]] = {
    "auc": ("lower", "area"),
    "accuracy": ("lower", "share"),
    "dprime": ("lower", "standard deviations"),
    "passed_for_real": ("higher", "share"),
}
ENDS = ("value", "low", "high")
WORDS = {"auc": "AUC", "accuracy": "right answers", "dprime": "d'", "passed_for_real": "passed for real"}


def records_of(readings: Readings) -> tuple[RunRecord, ...]:
    """One run record a judged set, results named human@<page>.<part>; Inconclusive when no rater is kept.

    Better fakes are harder to tell: AUC, accuracy and d' are better lower, the share that passed for real higher.
    """
    if not readings.kept:
        aside = "; ".join(f"{c.name}: {c.aside}" for c in readings.conduct) or "nobody has answered yet"
        raise Inconclusive(f"no rater of study {readings.terms.page!r} can be counted ({aside})")
    facts = environment("cpu")
    return tuple(_record(readings, name, facts) for name in readings.fakes)


def _record(readings: Readings, name: str, facts: Mapping[str, Any]) -> RunRecord:
    terms = readings.terms
    group = next(g for g in terms.sets if g.name == name)
    real = terms.sets[0]
    shown = Counter(s for i in readings.judged for s in _shown(readings, i, name))
    numbers = readings.numbers(name)
    n = {"real": shown[real.name], "fake": shown[name], "raters": len(readings.kept)}
    results = tuple(_result(readings, part, found, n) for part, found in numbers.items())
    return RunRecord(
        subject=Subject(name, terms.modality, group.source, shown[name], group.digest),
        reference=Reference(real.name, shown[real.name], real.digest),
        train=None,
        seed=terms.seed,
        results=results,
        timing=None,
        environment=facts,
        warnings=(*cautions(readings), *([] if numbers else [f"human@{terms.page} is missing: too few answers"])),
    )


def _shown(readings: Readings, item: int, name: str) -> tuple[str, ...]:
    """The sets of an item that a number of `name` is made of; none where it takes no part."""
    sets = tuple(readings.sets[s] for s in readings.items[item].stimuli)
    counted = [(readings.real, name)] if readings.forced else [(name,), (readings.real,)]
    return sets if sets in counted else ()


def _result(readings: Readings, part: str, found: Measured, n: Mapping[str, int]) -> MetricResult:
    terms = readings.terms
    better, unit = UNITS[part]
    protocol = {
        "metric": "human",
        "part": part,
        "version": RESULT_VERSION,
        "mode": terms.mode,
        # The same people and the same items: another panel, or another draw of items, is another instrument.
        "study": digest_of(terms.page, terms.seed, terms.items, terms.catch, [g.digest for g in terms.sets]),
        "raters": digest_of(sorted(r.name for r in readings.kept)),
        "scores": readings.scored_by if part == "auc" else "choices",
        "shown": terms.words,
        "reference": terms.sets[0].digest,
    }
    method = "two-way jackknife" if len(readings.kept) > 1 else "jackknife over items, one rater"
    return MetricResult(
        name=f"human@{terms.page}.{part}",
        value=found.value,
        low=found.low,
        high=found.high,
        level=LEVEL,
        interval=method,
        better=better,
        unit=unit,
        n=n,
        version=RESULT_VERSION,
        protocol=f"sha256:{digest_of(protocol)}",
        terms=protocol,
        seconds=0.0,
    )


def cautions(readings: Readings) -> tuple[str, ...]:
    """What a reader of the numbers has to know: raters set aside, and what one rater cannot say."""
    page = readings.terms.page
    found = [f"human@{page}: rater {c.name} is set aside: {c.aside}" for c in readings.conduct if c.aside]
    if len(readings.kept) == 1:
        found.append(f"human@{page}: one rater only; the interval does not cover the choice of the rater")
    return (*found, *(f"human@{page}: {note}" for note in readings.terms.notes))


def merged(record: RunRecord, human: RunRecord) -> RunRecord:
    """A new record with the results of both; BadSetting when they are of different modality or share a result."""
    if record.subject.modality != human.subject.modality:
        raise BadSetting(f"the record holds {record.subject.modality} samples, the study {human.subject.modality}")
    double = {r.name for r in record.results} & {r.name for r in human.results}
    if double:
        raise BadSetting(f"the record has {sorted(double)[0]} already; start from the record without it")
    warnings = [*record.warnings, *(w for w in human.warnings if w not in record.warnings)]
    if record.subject.digest != human.subject.digest:
        page = human.results[0].name.partition(".")[0] if human.results else "human"
        warnings.append(f"{page}: raters judged samples drawn from {human.subject.digest}, not the scored ones alone")
    return replace(record, results=(*record.results, *human.results), warnings=tuple(warnings))


def study_of(readings: Readings, records: tuple[RunRecord, ...], command: str) -> Study:
    """The study as sentences, tables and plain data, schema `evalkit.human/1`."""
    terms = readings.terms
    agreement = alpha_interval(readings.units())
    data = {
        "page": terms.page,
        "mode": terms.mode,
        "modality": terms.modality,
        "seed": terms.seed,
        "items": len(readings.judged),
        "scores": readings.scored_by,
        "sets": {r.subject.name: _plain_results(r) for r in records},
        "win_rates": [
            {"winner": a, "loser": b, "value": m.value, "low": m.low, "high": m.high}
            for a in readings.fakes
            for b in readings.fakes
            if a != b and (m := readings.win_rate(a, b)) is not None
        ],
        "bradley_terry": {name: dict(zip(ENDS, found, strict=True)) for name, found in strengths(readings).items()},
        "raters": [_plain_rater(c) for c in readings.conduct],
        "catch_threshold": PASS,
    }
    if agreement is not None:
        data["alpha"] = dict(zip(ENDS, agreement, strict=True))
    for key, value in (("seconds", readings.seconds), ("consistency", readings.consistency)):
        if value is not None:
            data[key] = value
    return Study(
        schema=SCHEMA,
        title=f"Human judging: {terms.page}",
        findings=_findings(readings, records, agreement),
        exhibits=_exhibits(readings, records, data),
        data=data,
        provenance={
            "command": command,
            **{f"{g.role} set {g.name}": f"{g.source}, n = {g.n}, {g.digest}" for g in terms.sets},
            "shown": terms.words,
            "seed": str(terms.seed),
        },
        warnings=cautions(readings),
    )


def _plain_results(record: RunRecord) -> dict[str, Any]:
    return {
        r.name.rpartition(".")[2]: {"value": r.value, "low": r.low, "high": r.high, "n": dict(r.n)}
        for r in record.results
    }


def _plain_rater(c: Conduct) -> dict[str, Any]:
    found = {"name": c.name, "answered": c.answered, "catch": list(c.catch), "repeats_alike": list(c.same)}
    return {**found, "changed": c.changed, "aside": c.aside, **({} if c.seconds is None else {"seconds": c.seconds})}


def _findings(
    readings: Readings, records: tuple[RunRecord, ...], agreement: tuple[float, float, float] | None
) -> tuple[str, ...]:
    people = f"{len(readings.kept)} rater{'s' * (len(readings.kept) != 1)}, {len(readings.judged)} items each"
    lines = []
    for record in records:
        parts = {r.name.rpartition(".")[2]: r for r in record.results}
        lead = parts.get("auc", parts.get("accuracy"))
        if lead is None:
            continue
        told = "is told from real" if lead.low > 0.5 else "is not told from real"
        word = WORDS[lead.name.rpartition(".")[2]]
        bars = _bars(lead.value, lead.low, lead.high)
        lines.append(f"{record.subject.name} {told}: {word} {bars} ({people}; chance is 0.5).")
    for i, one in enumerate(readings.fakes):
        for other in readings.fakes[i + 1 :]:
            if (rate := readings.win_rate(one, other)) is not None:
                ahead = one if rate.low > 0.5 else other if rate.high < 0.5 else ""
                said = f"{ahead} looks more real" if ahead else "neither looks more real"
                lines.append(f"{one} against {other}: {said}; {one} wins {_bars(rate.value, rate.low, rate.high)}.")
    if agreement is not None:
        lines.append(f"Raters agree with Krippendorff's alpha {_bars(*agreement)}; 0 is chance, 1 is one opinion.")
    aside = [c for c in readings.conduct if c.aside]
    lines += [f"{len(aside)} of {len(readings.conduct)} raters are set aside; the table names them."] if aside else []
    return tuple(lines)


def _bars(value: float, low: float, high: float) -> str:
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _exhibits(readings: Readings, records: tuple[RunRecord, ...], data: Mapping[str, Any]) -> tuple[Exhibit, ...]:
    parts = [p for p in UNITS if any(r.name.endswith(f".{p}") for record in records for r in record.results)]
    rows = []
    for name, found in data["sets"].items():
        bars = [_bars(*(found[p][end] for end in ENDS)) if p in found else "–" for p in parts]
        rows.append((name, *bars))
    note = f"95 % intervals over raters and items. The area is made of {readings.scored_by}."
    if readings.forced:
        note = "95 % intervals over raters and items, of pairs of which one was real."
    shown: list[Exhibit] = [Table("What raters can tell", note, ("set", *(WORDS[p] for p in parts)), tuple(rows))]
    if len(readings.fakes) > 1:
        shown.append(_duels(readings))
    if data["bradley_terry"]:
        table = sorted(data["bradley_terry"].items(), key=lambda entry: -entry[1]["value"])
        lines = tuple((name, _bars(**values)) for name, values in table)
        note = "Log odds, their mean 0; real samples compete too."
        shown.append(Table("Strength by Bradley-Terry", note, ("set", "strength"), lines))
    shown.append(_people(readings))
    return tuple(shown)


def _duels(readings: Readings) -> Matrix:
    names = tuple(readings.fakes)
    cells = []
    for one in names:
        line = []
        for other in names:
            rate = None if one == other else readings.win_rate(one, other)
            why = "the same set" if one == other else "too few answers"
            line.append(Cell(None, why=why) if rate is None else Cell(rate.value, rate.low, rate.high))
        cells.append(tuple(line))
    how = "chosen in a pair" if readings.forced else "called real with more confidence"
    note = f"How often the row wins against the column: {how}."
    return Matrix("Who looks more real", note, "wins", "against", names, names, tuple(cells))


def _people(readings: Readings) -> Table:
    header = ("rater", "items", "catch trials passed", "repeats alike", "seconds an item", "counted")
    rows = tuple(
        (
            c.name,
            str(c.answered),
            f"{c.catch[0]} of {c.catch[1]}",
            f"{c.same[0]} of {c.same[1]}",
            "–" if c.seconds is None else f"{c.seconds:.1f}",
            "yes" if c.kept else f"no: {c.aside}",
        )
        for c in readings.conduct
    )
    return Table("Raters", f"Who passes fewer than {PASS:.0%} of the catch trials is set aside.", header, rows)


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds other things than an earlier summary."""
    known = (*STUDY_FILES, "records")
    if folder.exists() and not folder.is_dir():
        raise UnwritableOutput(f"{folder} is a file; give a folder with --out")
    strangers = [p.name for p in folder.iterdir() if p.name not in known] if folder.is_dir() else []
    if strangers:
        raise UnwritableOutput(f"{folder} holds other things ({strangers[0]!r}); give a new or empty folder with --out")


def write_summary(study: Study, records: tuple[RunRecord, ...], folder: Path) -> None:
    """The page, JSON, CSV and Markdown of a study, and a run record a set under records/."""
    names: set[str] = set()
    for record in records:
        name = f"human-{safe_name(record.subject.name)}"
        while name in names:
            name += "_"
        names.add(name)
        write_record(record, folder / "records" / f"{name}.json")
    write_study(study, folder=folder)


def summarise(study: Path, command: str) -> tuple[Study, tuple[RunRecord, ...]]:
    """What the study file holds by now, as a study and as run records. Raises BadRecord, Inconclusive."""
    store = Store(study)
    try:
        readings = Readings(store)
        records = records_of(readings)
        return study_of(readings, records, command), records
    finally:
        store.close()
