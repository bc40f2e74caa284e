"""What chains of laundering leave of a detector, and what a smaller size does: two suites of a stress study."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UnreadableSample
from ..laundering import shrunk
from ..types import Cell, Curves, Estimate, Exhibit, Line, Matrix, Sample, SampleSet, Table
from .bed import Bed, Changed, Link, Numbers, Part, numbers_against, numbers_of, plain_numbers, said

FRACTIONS = (2, 4, 8)  # of the side, in the size sweep


Behind = dict[str, "Numbers | str"]


def laundering(bed: Bed) -> Part:
    """Every chain on both sides: AUROC, TPR and FPR at the clean threshold, changes on the same samples, the worst."""
    damages: list[Damage] = []
    tables: list[Exhibit] = []
    warnings: list[str] = []
    every: dict[str, Behind] = {}
    data: dict[str, Any] = {}
    for label in bed.detectors:
        found, alone, gone = _behind(bed, label, bed.chains)
        warnings += gone
        every[label], data[label] = found, _chain_data(found, alone)
        damages.append(_worst(label, found, bed.fpr))
        what = "laundering" if bed.real.modality == "image" else "text attacks"
        tables.append(_chain_table(label, found, bed, what))
        if len(bed.fakes) > 1:
            tables.append(_chain_matrix(label, alone, bed))
    return Part(_sorted(damages), (_alarm_matrix(every, bed), *tables), data, tuple(warnings))


def text_attacks(bed: Bed) -> Part:
    """Every attack on both sides, read as a chain is: people misspell and change case too."""
    return laundering(bed)


def sizes(bed: Bed) -> Part:
    """Both sides at 1/2, 1/4 and 1/8 of their side: AUROC and FPR against the size in pixels."""
    chains = tuple(shrunk(parts) for parts in FRACTIONS)
    side = _median_side(bed.real)
    damages: list[Damage] = []
    tables: list[Exhibit] = []
    warnings: list[str] = []
    areas: list[Line] = []
    alarms: list[Line] = []
    data: dict[str, Any] = {}
    for label in bed.detectors:
        found, alone, gone = _behind(bed, label, chains)
        warnings += gone
        data[label] = _chain_data(found, alone)
        whole = numbers_of(bed.clean_pair(label), bed.thresholds[label])
        points = [(side / parts, found[f"1/{parts}"]) for parts in reversed(FRACTIONS)]
        known = [(pixels, x) for pixels, x in (*points, (float(side), whole)) if isinstance(x, Numbers)]
        areas.append(Line(label, tuple((pixels, x.auroc.value) for pixels, x in known)))
        alarms.append(Line(label, tuple((pixels, x.fpr.value) for pixels, x in known)))
        damages.append(_worst(label, found, bed.fpr))
        tables.append(_chain_table(label, found, bed, "sizes"))
    note = "Both sides shrunk alike (Lanczos). Median shorter side of the reals; a detector may resize by itself."
    curves = (
        _curves("AUROC against size", note, "AUROC", areas, "chance", 0.5),
        _curves(
            "False positives against size",
            f"Reals above the threshold fixed on clean ones. {note}",
            "FPR",
            alarms,
            "set for",
            bed.fpr,
        ),
    )
    return Part(_sorted(damages), (*curves, *tables), data, tuple(warnings))


def _curves(title: str, note: str, what: str, lines: Sequence[Line], level: str, height: float) -> Curves:
    """Lines against the size, and a level one to hold them against, as wide as they are."""
    across = [x for line in lines for x, _ in line.points]
    flat = Line(level, ((min(across), height), (max(across), height)))
    return Curves(title, note, "shorter side in pixels", what, (*lines, flat))


def _behind(
    bed: Bed, label: str, chains: Sequence[Link]
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


@dataclass(frozen=True)
class Damage:
    """What one detector loses behind the worst of its chains, in words; `rank` sorts the worst damage first."""

    rank: tuple[float, float]
    says: tuple[str, ...]


def _worst(label: str, found: Behind, fpr: float) -> Damage:
    """The chain that makes most false alarms and the one that takes most AUROC, the one that matters first.

    False alarms beyond the nominal rate with their whole interval come first: a ranking that is kept is of no use at
    a threshold that is lost.
    """
    numbers = {name: x for name, x in found.items() if isinstance(x, Numbers)}
    if not numbers:
        return Damage((1.0, 1.0), (f"{label}: nothing could be measured behind any of {', '.join(found)}",))
    low = min(numbers, key=lambda name: _change(numbers[name]).value)
    high = max(numbers, key=lambda name: numbers[name].fpr.value)
    a, b = numbers[low], numbers[high]
    takes, alarms = _change(a), b.fpr.low > fpr
    flags = f"FPR {said(b.fpr)} at a threshold set for {fpr:.1%}"
    lines = [f"{label}: most false alarms behind {high}: {flags}{'' if alarms else ', not beyond it by its interval'}"]
    ends = f"AUROC {said(a.auroc)}, change {said(takes, '+')}; TPR at the clean threshold {said(a.tpr)}"
    # The interval is that chain's alone; the lowest of many lies low by chance as well.
    sure = [name for name, x in numbers.items() if _change(x).high < 0]
    if takes.high < 0:
        lines.append(f"{label}: AUROC falls most behind {low}: {ends}")
    elif sure:
        other = min(sure, key=lambda name: _change(numbers[name]).value)
        lines.append(
            f"{label}: AUROC is lowest behind {low}, whose change includes zero: {ends}; beyond its interval it falls"
            f" most behind {other}: change {said(_change(numbers[other]), '+')}"
        )
    else:
        lines.append(f"{label}: AUROC is lower than clean behind none beyond its interval; lowest is {low}: {ends}")
    rank = (-b.fpr.value if alarms else 0.0, takes.value if sure else 0.0)
    return Damage(rank, tuple(lines if alarms else reversed(lines)))


def _sorted(damages: Sequence[Damage]) -> tuple[str, ...]:
    return tuple(words for damage in sorted(damages, key=lambda d: d.rank) for words in damage.says)


def _change(numbers: Numbers) -> Estimate:
    assert numbers.auroc_change is not None
    return numbers.auroc_change


def _alarm_matrix(every: Mapping[str, Behind], bed: Bed) -> Matrix:
    """The FPR of every detector behind every chain, coloured from the nominal rate on."""
    rows = tuple(next(iter(every.values())))
    cells = tuple(tuple(_rate(found[chain]) for found in every.values()) for chain in rows)
    note = (
        f"FPR at the threshold fixed on clean reals for {bed.fpr:.1%} (Clopper-Pearson, 95 %), which is where the"
        " colours begin: reals behind the chain that are called fake."
    )
    title = "False positives behind each chain"
    return Matrix(title, note, "chain", "detector", rows, tuple(every), cells, neutral=bed.fpr)


def _rate(x: Numbers | str) -> Cell:
    return Cell(None, why=x) if isinstance(x, str) else Cell(x.fpr.value, x.fpr.low, x.fpr.high)


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


def _side(sample: Sample) -> int:
    if sample.facts is not None:
        facts = sample.facts()
        return min(facts.width, facts.height)
    image = sample.load()
    assert not isinstance(image, str)
    return int(min(image.shape[:2]))


def _median_side(samples: SampleSet, most: int = 200) -> int:
    sides = []
    for sample in samples:
        try:
            sides.append(_side(sample))
        except UnreadableSample:
            # Named among the excluded already.
            continue
        if len(sides) == most:
            break
    return int(statistics.median(sides))
