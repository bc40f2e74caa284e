"""Recorded runs and RAID's table as exhibits: what a report draws, in words and already formatted numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..types import Cell, Exhibit, Matrix, Table
from .conditions import ALL, Conditions, Row, pick
from .numbers import FPRS, Replayed, said

LISTED = 2000
SEPARATOR = " · "


def run_tables(found: Sequence[Replayed], resampled: bool) -> Iterator[Table]:
    """One table of all runs, one of the thresholds behind it."""
    claims = any(one.claimed is not None for one in found)
    header = ("run", "human + machine", "AUROC", "AP", "EER", *(f"TPR at {fpr:.0%} FPR" for fpr in FPRS))
    header = (*header, "recorded AUROC less this") if claims else header
    rows = []
    for one in found:
        sizes = f"{len(one.run.human):,} + {len(one.run.machine):,}"
        cells = [said(one.auroc), said(one.average_precision), said(one.eer)]
        cells += [said(x, t.why) for x, t in zip(one.caught, one.thresholds, strict=True)]
        cells += ([f"{one.claimed:.2g}" if one.claimed is not None else "–"]) if claims else []
        rows.append((one.run.name, sizes, *cells))
    boot = "by bootstrap" if resampled else "without an interval, the scores are too many to be redrawn"
    note = (
        f"95 % intervals: AUROC DeLong, AP and EER {boot}, TPR Clopper-Pearson at a threshold that is held fixed."
        " Machine texts are the positives; chance is their share for AP."
    )
    if any(one.apart for one in found):
        note += " Texts that nobody attacked; those under attack are in the tables of conditions."
    yield Table("Recorded runs", note, header, tuple(rows))
    lines = [
        (one.run.name, f"{t.fpr:.0%}", "–" if t.score is None else _recorded(one, t.score), said(t.realised, t.why))
        for one in found
        for t in one.thresholds
    ]
    note = (
        "c is the (floor(a n) + 1)-th largest human score, so at most floor(a n) humans are flagged, equal scores"
        " together. The realised FPR with its Clopper-Pearson interval is what so many humans can say of fresh ones."
    )
    yield Table("Thresholds", note, ("run", "FPR", "machine when", "realised FPR"), tuple(lines))


def _recorded(one: Replayed, score: float) -> str:
    """The rule in the direction in which the scores were recorded."""
    return f"score < {-score:.6g}" if one.run.flipped else f"score > {score:.6g}"


def condition_findings(name: str, found: Conditions) -> list[str]:
    """The pooled row, and the condition of one field that the detector catches least of: of texts nobody attacked,
    where there are any, but for the attacks themselves.
    """
    untouched = {"attack": "none"} if "none" in _attacks(found) else {}
    (whole,) = pick(found, **untouched)
    pooled = "; ".join(f"TPR at {fpr:.0%} FPR {said(x, whole.why)}" for fpr, x in zip(FPRS, whole.caught, strict=True))
    lines = [f"{name}, one threshold a domain: {pooled} over {whole.n:,} machine texts{_plainly(bool(untouched))}"]
    for field in found.fields:
        at, others = found.fields.index(field), untouched if field != "attack" else {}
        rows = [r for w in _levels(found, field) if w != ALL for r in pick(found, **{**others, field: w})]
        rows = [r for r in rows if r.caught[0]]
        if len(rows) > 1:
            least = min(rows, key=lambda r: r.caught[0].value if r.caught[0] else 1.0)
            lines.append(
                f"{name}: least caught by {field.replace('_', ' ')}: {least.where[at]}, TPR at {FPRS[0]:.0%} FPR"
                f" {said(least.caught[0])} of {least.n:,}{_plainly(bool(others))}"
            )
    return lines


def _plainly(untouched: bool) -> str:
    return " that nobody attacked" if untouched else ""


def condition_tables(name: str, found: Conditions) -> Iterator[Exhibit]:
    """Thresholds a domain, the planes domain x model and attack x domain, false alarms by attack, every row."""
    yield Table(
        f"{name}: one threshold a domain",
        "Set on the untouched human texts of the domain, exactly: at most floor(a n) of them lie above it.",
        ("domain", *(f"{fpr:.0%} FPR: {what}" for fpr in FPRS for what in ("score above", "realised"))),
        tuple(
            (domain, *(w for t in own for w in ("–" if t.score is None else f"{t.score:.6g}", said(t.realised, t.why))))
            for domain, own in found.thresholds.items()
        ),
    )
    for rows, columns in (("domain", "model"), ("attack", "model"), ("attack", "domain")):
        if {rows, columns} <= set(found.fields):
            yield _plane(name, found, rows, columns)
    if len(found.alarms) > 1:
        yield _alarms(name, found)
    yield _every_row(name, found)


def _levels(found: Conditions, field: str) -> tuple[str, ...]:
    at = found.fields.index(field)
    return tuple(dict.fromkeys(row.where[at] for row in found.rows))


def _plane(name: str, found: Conditions, rows: str, columns: str) -> Matrix:
    untouched = {"attack": "none"} if rows != "attack" and "none" in _attacks(found) else {}
    across, down = _levels(found, columns), _levels(found, rows)
    cells = tuple(
        tuple(_cell(pick(found, **{**untouched, rows: row, columns: column})) for column in across) for row in down
    )
    which = "untouched texts" if untouched else "all texts of the cell"
    note = f"TPR at {FPRS[0]:.0%} FPR on {which}, Clopper-Pearson; n of every cell is in the table of all conditions."
    title = f"{name}: {rows} and {columns}"
    return Matrix(title, note, rows, columns, down, across, cells, neutral=FPRS[0])


def _attacks(found: Conditions) -> tuple[str, ...]:
    return _levels(found, "attack") if "attack" in found.fields else ()


def _cell(rows: Sequence[Row]) -> Cell:
    if not rows:
        return Cell(None, why="no such texts")
    caught = rows[0].caught[0]
    return Cell(None, why=rows[0].why) if caught is None else Cell(caught.value, caught.low, caught.high)


def _alarms(name: str, found: Conditions) -> Table:
    rows = tuple(
        (SEPARATOR.join((a.domain, a.attack)), f"{a.n:,}", *(said(x, "no threshold") for x in a.flagged))
        for a in found.alarms
    )
    note = "Human texts above the threshold of their domain: what an attack on a human's own text does to them."
    header = (SEPARATOR.join(("domain", "attack")), "n", *(f"FPR, set for {fpr:.0%}" for fpr in FPRS))
    return Table(f"{name}: human texts flagged", note, header, rows)


def _every_row(name: str, found: Conditions) -> Table:
    rows = tuple(
        (
            SEPARATOR.join(row.where) or ALL,
            f"{row.n:,}",
            f"{row.n_human:,}",
            *(said(x, row.why) for x in row.caught),
            "–" if row.auroc is None else said(row.auroc),
        )
        for row in found.rows[:LISTED]
    )
    left = f" The first {LISTED:,} of {len(found.rows):,}; all are in the JSON." if len(found.rows) > LISTED else ""
    left += " A row of all attacks has a text once for each attack on it." if "attack" in found.fields else ""
    note = (
        "TPR at each text's domain's threshold (Clopper-Pearson); AUROC against the untouched humans of the domain,"
        f" of all domains where they are pooled (DeLong).{left}"
    )
    fields = SEPARATOR.join(name.replace("_", " ") for name in found.fields) or "texts"
    header = (fields, "n", "n human", *(f"TPR at {fpr:.0%} FPR" for fpr in FPRS), "AUROC")
    return Table(f"{name}: all conditions", note, header, rows)
