"""What chains of laundering leave of a detector, and what a smaller size does: two suites of a stress study."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..laundering import Chain, shrunk
from ..types import Cell, Curves, Exhibit, Line, Matrix, SampleSet, Table
from .bed import Bed, Changed, Numbers, Part, numbers_against, numbers_of, plain_numbers, said

FRACTIONS = (2, 4, 8)  # of the side, in the size sweep


def laundering(bed: Bed) -> Part:
    """Every chain on both sides: AUROC, TPR and FPR at the clean threshold, changes on the same samples, the worst."""
    findings: list[str] = []
    exhibits: list[Exhibit] = []
    warnings: list[str] = []
    data: dict[str, Any] = {}
    for label in bed.detectors:
        found, alone, gone = _behind(bed, label, bed.chains)
        warnings += gone
        data[label] = _chain_data(found, alone)
        findings += _worst(label, found, bed.fpr)
        exhibits.append(_chain_table(label, found, bed))
        if len(bed.fakes) > 1:
            exhibits.append(_chain_matrix(label, alone, bed))
    return Part(tuple(findings), tuple(exhibits), data, tuple(warnings))


def sizes(bed: Bed) -> Part:
    """Both sides at 1/2, 1/4 and 1/8 of their side: AUROC against the size in pixels."""
    chains = tuple(shrunk(parts) for parts in FRACTIONS)
    side = _median_side(bed.real)
    findings: list[str] = []
    exhibits: list[Exhibit] = []
    warnings: list[str] = []
    lines: list[Line] = []
    data: dict[str, Any] = {}
    for label in bed.detectors:
        found, alone, gone = _behind(bed, label, chains)
        warnings += gone
        data[label] = _chain_data(found, alone)
        whole = numbers_of(bed.clean_pair(label), bed.thresholds[label])
        known = [(side / parts, found[f"1/{parts}"]) for parts in reversed(FRACTIONS)]
        points = [(pixels, x.auroc.value) for pixels, x in known if isinstance(x, Numbers)]
        lines.append(Line(label, (*points, (float(side), whole.auroc.value))))
        findings += _worst(label, found, bed.fpr)
        exhibits.append(_chain_table(label, found, bed, "sizes"))
    note = "Both sides shrunk alike (Lanczos). Median shorter side of the reals; a detector may resize by itself."
    curves = Curves("AUROC against size", note, "shorter side in pixels", "AUROC", tuple(lines))
    return Part(tuple(findings), (curves, *exhibits), data, tuple(warnings))


Behind = dict[str, "Numbers | str"]


def _behind(
    bed: Bed, label: str, chains: Sequence[Chain]
) -> tuple[Behind, dict[str, dict[str, Numbers]], tuple[str, ...]]:
    """One detector behind each chain: numbers of all fakes together, or why there are none; and of each fake alone."""
    found: Behind = {}
    alone: dict[str, dict[str, Numbers]] = {}
    gone: list[str] = []
    for chain in chains:
        changed = bed.changed_pairs(label, chain)
        numbers = _against(bed, label, changed, None)
        found[chain.name] = numbers or changed.why or "fewer than two samples of a side are left"
        gone += [f"{label}, {chain.name}: {words} left out" for words in changed.gone]
        each = {name: _against(bed, label, changed, [name]) for name in bed.fakes}
        alone[chain.name] = {name: x for name, x in each.items() if x is not None}
    return found, alone, tuple(gone)


def _against(bed: Bed, label: str, changed: Changed, names: Sequence[str] | None) -> Numbers | None:
    if changed.why:
        return None
    return numbers_against(bed.clean_pair(label, names), changed.pair(names), bed.thresholds[label], bed.seed)


def _worst(label: str, found: Behind, fpr: float) -> list[str]:
    """The chain that takes most AUROC, and the one that makes most false alarms, in words."""
    numbers = {name: x for name, x in found.items() if isinstance(x, Numbers)}
    if not numbers:
        return [f"{label}: nothing could be measured behind any of {', '.join(found)}"]
    low = min(numbers, key=lambda name: _change(numbers[name]))
    high = max(numbers, key=lambda name: numbers[name].fpr.value)
    a, b = numbers[low], numbers[high]
    return [
        f"{label}: worst is {low}: AUROC {said(a.auroc)}, change {said(a.auroc_change, '+')};"
        f" TPR at the clean threshold {said(a.tpr)}",
        f"{label}: most false alarms behind {high}: FPR {said(b.fpr)} at a threshold set for {fpr:.1%}",
    ]


def _change(numbers: Numbers) -> float:
    assert numbers.auroc_change is not None
    return numbers.auroc_change.value


def _chain_table(label: str, found: Behind, bed: Bed, what: str = "laundering") -> Table:
    header = ("chain", "AUROC", "change", "TPR", "change", "FPR", "change", "n real + fake")
    clean = numbers_of(bed.clean_pair(label), bed.thresholds[label])
    rows = [_row("clean", clean)]
    for name, x in found.items():
        rows.append(_row(name, x) if isinstance(x, Numbers) else (name, f"not measurable: {x}", *("–",) * 6))
    note = (
        f"Both sides behind the chain. TPR and FPR at the threshold fixed on clean reals for an FPR of {bed.fpr:.1%}"
        " (Clopper-Pearson). Change: behind the chain less clean, on the same samples (paired bootstrap). 95 %."
    )
    return Table(f"{label}: {what}", note, header, tuple(rows))


def _row(name: str, x: Numbers) -> tuple[str, ...]:
    pairs = ((x.auroc, x.auroc_change), (x.tpr, x.tpr_change), (x.fpr, x.fpr_change))
    return (name, *(w for v, c in pairs for w in (said(v), said(c, "+"))), f"{x.n_real} + {x.n_fake}")


def _chain_matrix(label: str, alone: Mapping[str, Mapping[str, Numbers]], bed: Bed) -> Matrix:
    names = tuple(bed.fakes)
    clean = {name: numbers_of(bed.clean_pair(label, [name]), bed.thresholds[label]) for name in names}
    rows = {"clean": clean, **alone}
    cells = tuple(tuple(_cell(rows[row].get(name)) for name in names) for row in rows)
    note = f"AUROC of {label} behind the chain of the row, on the fakes of the column. 0.5 is chance."
    return Matrix(f"{label}: chains and fakes", note, "chain", "fakes", tuple(rows), names, cells)


def _cell(x: Numbers | None) -> Cell:
    if x is None:
        return Cell(None, why="not measurable")
    return Cell(x.auroc.value, x.auroc.low, x.auroc.high)


def _chain_data(found: Behind, alone: Mapping[str, Mapping[str, Numbers]]) -> dict[str, Any]:
    return {
        name: {"why": x}
        if isinstance(x, str)
        else {**plain_numbers(x), "fakes": {fake: plain_numbers(y) for fake, y in alone[name].items()}}
        for name, x in found.items()
    }


def _median_side(samples: SampleSet, most: int = 200) -> int:
    sides = []
    for _, sample in zip(range(most), samples, strict=False):
        if sample.facts is not None:
            facts = sample.facts()
            sides.append(min(facts.width, facts.height))
        else:
            image = sample.load()
            assert not isinstance(image, str)
            sides.append(min(image.shape[:2]))
    return int(statistics.median(sides))
