"""What the marks of a generator's outputs come to: sentences, then layers by chains, what was read, what lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..calibration import Proportion
from ..types import Cell, Evidence, Exhibit, Matrix, Study, Table
from .asking import Answered, said
from .marks import LAYERS
from .passages import COPY, Passage
from .surveying import Looked, Survey

SCHEMA = "evalkit.marking/1"
# The European code of practice on marking and labelling of generated content, June 2026, as it is publicly summarised.
CODE = (
    "What the EU Code of Practice on marking generated content (June 2026, to article 50 of the AI Act) asks for, as it"
    " is publicly summarised: at least two machine-readable layers, signed metadata and an imperceptible watermark."
)
NO_ADVICE = "This is a measurement of files, not legal advice."
# Facts of a C2PA manifest that are told apart, never one "valid".
FIELDS = ("integrity", "signer", "credential", "ingredients")
MOST_LACKING = 50


def as_study(
    outputs: Survey,
    real: Survey | None,
    passages: Sequence[Passage],
    answers: Sequence[Answered],
    digests: Mapping[str, str],
    provenance: Mapping[str, str],
) -> Study:
    """The study of a generator's marks, ready to be written."""
    findings = (*_asked(answers), *_code(outputs), *_alarms(outputs, real), *_lost(outputs, passages))
    exhibits: list[Exhibit] = [*_answers(answers), _matrix(outputs, passages, "Layers after each chain", _NOTE)]
    if real is not None:
        exhibits.append(_matrix(real, passages, "False alarms: layers found in real files", _ALARM_NOTE))
    exhibits += [_evidence(outputs, real), *_lacking(outputs, answers), _chains(passages)]
    warnings = (*_bare(outputs), *outputs.troubles, *(real.troubles if real else ()))
    excluded = tuple((s.samples.name, e) for s in (outputs, *([real] if real else [])) for e in s.excluded)
    title = f"Marks of {outputs.samples.name}"
    data = _data(outputs, real, passages, answers, digests)
    return Study(SCHEMA, title, findings, tuple(exhibits), data, provenance, warnings, excluded)


# Sentences ------------------------------------------------------------------------------------------------------------


def _asked(answers: Sequence[Answered]) -> list[str]:
    if not answers:
        return []
    counts = Counter(one.answer for one in answers)
    total = ", ".join(f"{counts[a]} {a}" for a in ("failed", "inconclusive", "passed") if counts[a])
    worst = [f"{one.ask.words}: {one.answer}, {one.why}." for one in answers if one.answer != "passed"]
    return [f"Of {len(answers)} things asked for: {total}.", *worst]


def _code(outputs: Survey) -> list[str]:
    """How many files carry which layers, against what the code asks for, and nothing concluded from it."""
    signed, unsigned, marked, both = (outputs.share(k, COPY) for k in ("signed", "unsigned", "watermark", "both"))
    n = len(outputs.files)
    two = sum({"signed", "watermark"} <= set(file.layers[COPY]) for file in outputs.files if _passed(file))
    return [
        f"As they are, {_of(signed)} of {n} files carry signed metadata, {_of(unsigned)} unsigned metadata,"
        f" {_of(marked)} an imperceptible watermark that was looked for; {_of(both)} metadata and a watermark.",
        f"{CODE} Both were found in {two} of {n} files. Looked for: {', '.join(outputs.marks)}; other watermarks may be"
        f" there and were not. {NO_ADVICE}",
    ]


def _passed(file: Looked) -> bool:
    return not isinstance(file.layers[COPY], str)


def _of(share: Proportion | str) -> str:
    return "0" if isinstance(share, str) else str(share.count)


def _alarms(outputs: Survey, real: Survey | None) -> list[str]:
    if real is None:
        return [
            "No real files were given (--real): how often these layers are found where there are none is not known."
        ]
    found = {row: real.share(row, COPY) for row in _rows(outputs, real)}
    some = [f"{row} {said(x)}" for row, x in found.items() if isinstance(x, Proportion) and x.count]
    n = len(real.files)
    if not some:
        high = next((x.high for x in found.values() if isinstance(x, Proportion)), 1.0)
        return [
            f"In none of {n} real files any layer was found: the rate of false alarms is at most {high:.3f} (95 %)."
        ]
    return [f"False alarms in {n} real files: {', '.join(some)}."]


def _lost(outputs: Survey, passages: Sequence[Passage]) -> list[str]:
    """Of each kind of layer the chains that it does not outlive in half of the files."""
    lines = []
    for row in ("metadata", "watermark"):
        clean = outputs.share(row, COPY)
        if isinstance(clean, str) or clean.value <= 0.5:
            continue
        shares = {p.name: outputs.share(row, p.name) for p in passages if p.name != COPY}
        gone = [name for name, x in shares.items() if isinstance(x, Proportion) and x.high < 0.5]
        kept = [name for name, x in shares.items() if isinstance(x, Proportion) and x.low > 0.5]
        lines.append(
            f"{row.capitalize()} is still found in more than half of the files after {', '.join(kept) or 'no chain'};"
            f" in less than half after {', '.join(gone) or 'none'} (95 % intervals)."
        )
    return lines


def _bare(outputs: Survey) -> list[str]:
    bare = sum(not file.stored for file in outputs.files)
    if not bare:
        return []
    return [
        f"{bare} of {len(outputs.files)} samples of {outputs.samples.name} are no files of their own: metadata layers"
        " cannot be in them; give the folder or archive that the generator wrote"
    ]


# Tables ---------------------------------------------------------------------------------------------------------------

_NOTE = (
    "Share of files in which the layer is found after the chain, with the exact 95 % interval (Clopper-Pearson). A"
    " laundering chain stores decoded pixels anew, so no metadata can outlive it; the changed file is searched all the"
    " same."
)
_ALARM_NOTE = "The same of real files: what is found there is a false alarm, or a mark on what was taken for real."


def _rows(outputs: Survey, real: Survey | None = None) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*outputs.rows, *(real.rows if real else ()))))


def _matrix(survey: Survey, passages: Sequence[Passage], title: str, note: str) -> Matrix:
    named = survey.rows[len(LAYERS) :]
    # One watermark alone is the layer `watermark` already.
    rows = survey.rows if len(named) > 1 else tuple(LAYERS)
    cells = tuple(tuple(_cell(survey.share(row, p.name)) for row in rows) for p in passages)
    words = f"{note} {len(survey.files)} files of {survey.samples.name}."
    return Matrix(title, words, "chain", "layer", tuple(p.name for p in passages), rows, cells, neutral=0.0)


def _cell(share: Proportion | str) -> Cell:
    return Cell(None, why=share) if isinstance(share, str) else Cell(share.value, share.low, share.high)


def _answers(answers: Sequence[Answered]) -> list[Table]:
    rows = tuple((one.ask.words, one.answer, one.why) for one in answers)
    note = (
        "Asked of every file: of the files given. Asked of a share: passed when the lower end of the 95 % interval is"
        " at or above it, failed when the upper end is below it."
    )
    return [Table("What was asked for", note, ("asked for", "answer", "why"), rows)] if rows else []


def _spoken(survey: Survey) -> Counter[tuple[str, ...]]:
    """Files by what was read in them: mark, kind, what it speaks for, how strongly, a manifest's fields."""
    counts: Counter[tuple[str, ...]] = Counter()
    for file in survey.files:
        counts.update({(mark, one.kind, one.says, one.strength, _fields(one)) for mark, one in file.evidence})
    return counts


def _fields(one: Evidence) -> str:
    """The four fields of a manifest, apart; of other evidence its source."""
    if one.kind != "c2pa":
        return one.source
    return ", ".join(f"{name} {one.facts[name]}" for name in FIELDS if name in one.facts) or one.source


def _evidence(outputs: Survey, real: Survey | None) -> Table:
    found, alarms = _spoken(outputs), _spoken(real) if real else Counter()
    rows = [
        (*key, str(found[key]), str(alarms[key]) if real else "–")
        for key in sorted({*found, *alarms}, key=lambda k: (-found[k], k))
    ]
    note = (
        "Evidence in the files as they are. Only what says synthetic or edited counts as a layer. Anyone can write or"
        " copy unsigned metadata; that nothing was found says nothing of a file."
    )
    header = ("mark", "kind", "says", "strength", "fields or source", "files", "real files")
    return Table("What was read", note, header, tuple(rows))


def _lacking(outputs: Survey, answers: Sequence[Answered]) -> list[Table]:
    """The first files that lack a layer that was asked for; where nothing was, metadata or a watermark others carry."""
    usual = {one.ask.layer for one in answers if one.ask.passage == COPY}
    for row in () if usual else ("metadata", "watermark"):
        share = outputs.share(row, COPY)
        usual |= {row} if isinstance(share, Proportion) and share.count else set()
    rows = []
    for file in outputs.files:
        has = file.layers[COPY]
        if not isinstance(has, str) and usual - has:
            rows.append((file.id, ", ".join(sorted(usual - has)), ", ".join(sorted(has)) or "none"))
    if not rows:
        return []
    what = "was asked for" if answers else "others carry"
    note = f"{len(rows)} of {len(outputs.files)} files lack a layer that {what}; the first {MOST_LACKING} at most."
    return [Table("Files that lack a layer", note, ("file", "lacks", "has"), tuple(rows[:MOST_LACKING]))]


def _chains(passages: Sequence[Passage]) -> Table:
    note = "Every change is seeded by the content of the file."
    return Table("Chains", note, ("chain", "what it does"), tuple((p.name, p.says) for p in passages))


# Data -----------------------------------------------------------------------------------------------------------------


def _data(
    outputs: Survey,
    real: Survey | None,
    passages: Sequence[Passage],
    answers: Sequence[Answered],
    digests: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "outputs": _set(outputs),
        "real": None if real is None else _set(real),
        "marks": dict(digests),
        "layers": dict(LAYERS),
        "chains": {p.name: _numbers(outputs, p.name) for p in passages},
        "false_alarms": None if real is None else {p.name: _numbers(real, p.name) for p in passages},
        "asked": [
            {"layer": a.ask.layer, "chain": a.ask.passage, "share": a.ask.share, "answer": a.answer, "why": a.why}
            for a in answers
        ],
        "files": [{"id": f.id, "layers": sorted(f.layers[COPY])} for f in outputs.files if _passed(f)],
    }


def _set(survey: Survey) -> dict[str, Any]:
    s = survey.samples
    return {"name": s.name, "digest": s.digest, "modality": s.modality, "n": len(survey.files)}


def _numbers(survey: Survey, passage: str) -> dict[str, Any]:
    found = {row: survey.share(row, passage) for row in survey.rows}
    return {
        row: {"why": x}
        if isinstance(x, str)
        else {"count": x.count, "n": x.n, "value": x.value, "low": x.low, "high": x.high, "level": x.level}
        for row, x in found.items()
    }
