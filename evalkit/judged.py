"""What a board shows of its detectors: trivial rules first, curves, the cross-generator matrix, a panel, leaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .detection import PUBLISHED, cross_rows, is_levelled
from .errors import EvalkitError
from .leakage import leak_auc
from .metrics.detection import area_under_roc
from .operating import auroc_of, operating_exhibits
from .samples.statistics import StatisticsSet
from .shortcuts.beside import beside
from .shortcuts.choosing import SAYS
from .shortcuts.study import direction, said
from .types import Cell, Estimate, Exhibit, Matrix, Table

if TYPE_CHECKING:
    from .detection import Judge
    from .measurement import Bench
    from .subjects import Scored

# A side: a millisecond each, for every subject of a board.
MOST_TEXTS = 1000


def judged(scored: Sequence[Scored], bench: Bench) -> list[Exhibit]:
    """What trivial rules tell of texts, then curves of every detector, matrices, and what the files give away."""
    names = dict.fromkeys(name for s in scored for name in s.judges)
    found: list[Exhibit] = []
    for name in names:
        judges = {s.entrant.name: s.judges[name] for s in scored if name in s.judges}
        first = next(iter(judges.values()))
        found += _panel(name, judges) if is_levelled(first.detector) else _one(name, judges, bench)
    found.sort(key=lambda e: isinstance(e, Matrix))
    return [*(_shortcuts(scored) if names else ()), *found, *(_leaks(scored) if names else ())]


def _one(name: str, judges: Mapping[str, Judge], bench: Bench) -> Iterator[Exhibit]:
    first = next(iter(judges.values()))
    n = f"{len(first.real)} real and {len(first.fake)} generated samples"
    published = first.fitted_on["rule"] == PUBLISHED
    counts = "" if published else f"{first.fitted_on['n_real']} + {first.fitted_on['n_fake']}"
    yield from operating_exhibits(
        name,
        judges,
        f"Published weights, nothing fitted; tested on {n}."
        if published
        else f"Fitted to each subject on {counts} samples, tested on {n} it never saw.",
    )
    if len(judges) > 1 and not published:
        table = cross_rows(judges, bench)
        cells = tuple(tuple(_cell(auroc_of(*table[trained, tested])) for tested in judges) for trained in judges)
        yield Matrix(
            f"{name} across generators",
            f"AUROC of {name} fitted to the subject of the row and tested on the subject of the column."
            " 0.5 is chance; below it, the fakes look more real to it than real samples do.",
            "fitted to",
            "tested on",
            tuple(judges),
            tuple(judges),
            cells,
        )


def _panel(name: str, judges: Mapping[str, Judge]) -> Iterator[Exhibit]:
    first = next(iter(judges.values()))
    assert is_levelled(first.detector)
    members = first.detector.members
    cells = tuple(
        tuple(
            _cell(area_under_roc(own.real.rows[:, k : k + 1], own.fake.rows[:, k : k + 1])) for k in range(len(members))
        )
        for own in judges.values()
    )
    yield Matrix(
        f"Members of {name}",
        "AUROC of each detector, fitted to the subject of the row after both sides were brought to one size, codec and"
        f" quality ({first.fitted_on['rule']}). The largest of a row flatters: detectability chooses on other samples.",
        "subject",
        "detector",
        tuple(judges),
        tuple(members),
        cells,
    )


def _leaks(scored: Sequence[Scored]) -> Iterator[Exhibit]:
    """What container facts alone tell, beside every detector's number; nothing where there are neither files nor
    different sizes.
    """
    names, cells = [], []
    for s in scored:
        real, fake = s.sides.real, s.sides.fake.samples
        if real is None or isinstance(real.samples, StatisticsSet) or fake.modality != "image":
            continue
        try:
            value = leak_auc(real.samples, fake, 0)
        except EvalkitError as error:
            value, why = None, str(error)
        else:
            why = "no files on one side"
        names.append(s.entrant.name)
        cells.append((Cell(None, why=why) if value is None else _cell(value),))
    # Sets in memory have sizes only: where those are equal, 0.5 for every subject says nothing worth a table.
    if any(cell.value is not None and cell.value != 0.5 for (cell,) in cells):
        yield Matrix(
            "What the files give away",
            "AUC of a classifier that reads codec, tables, size and metadata and no pixel. Where it is high, a"
            " detector's number may be about the files: normalise both sides (evalkit leaks says how).",
            "subject",
            "container facts",
            tuple(names),
            ("AUC",),
            tuple(cells),
        )


def _shortcuts(scored: Sequence[Scored]) -> Iterator[Exhibit]:
    """What the best trivial rule tells of texts, before any detector's curve is shown."""
    rows = []
    for s in scored:
        real, fake = s.sides.real, s.sides.fake.samples
        if real is None or isinstance(real.samples, StatisticsSet) or fake.modality != "text":
            continue
        found = beside(real.samples, fake, most=MOST_TEXTS)
        told = ((found.raw, found.why), (found.again, found.why_again))
        cells = [
            (why, "–") if best is None else (f"{SAYS[best.name]} ({direction(best)})", said(best.auc))
            for best, why in told
        ]
        rows.append((s.entrant.name, *cells[0], *cells[1]))
    if rows:
        yield Table(
            "What trivial rules give away",
            f"The best rule on the texts as given and on cleaned ones (at most {MOST_TEXTS:,} a side), with its AUROC:"
            " chosen on one half of the groups of texts, scored on the other. A detector that does no better may have"
            " learnt no more (evalkit audit-data has all rules).",
            ("subject", "best rule (in the fakes)", "AUROC as given", "best rule, cleaned", "AUROC cleaned"),
            tuple(rows),
        )


def _cell(value: Estimate) -> Cell:
    return Cell(value.value, value.low, value.high)
