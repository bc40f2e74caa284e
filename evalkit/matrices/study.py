"""What a cross-generator matrix says: sentences first, then one summary, a matrix a detector and rule, and the sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..leakage import LIMIT
from ..types import Cell, Estimate, Exhibit, Matrix, Study, Table
from .cells import GIVEN, RANKING, Found, is_unseen, kinds, plain_matrix
from .readings import READINGS, Reading, estimated, mean_again, shown

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "evalkit.matrix/1"
SAYS: Mapping[str, str] = {
    "each": "Each row is fitted to one generator: off the diagonal the generator was never seen.",
    "pairs": "Each row is fitted to two generators: in the other columns the generator was never seen.",
    "leave-one-out": "Each row is fitted to all generators but one: on the diagonal is the one it never saw.",
    "leave-family-out": "Each row is fitted to all generators but one family, whose columns it never saw.",
    "all": "Fitted to every generator: none is unseen, this is what knowing them all would give.",
    GIVEN: "Fitted to nothing here: what it was trained on is its makers' choice.",
}


# What the cells of a mean have in common.
WORDS: Mapping[bool | None, str] = {True: "unseen", False: "seen", None: "all"}


def as_study(found: Found, provenance: Mapping[str, str]) -> Study:
    """The study of a matrix, ready to be written."""
    title = f"Across generators: {', '.join(f.name for f in found.fakes)}"
    exhibits: list[Exhibit] = [_summary(found)]
    exhibits += [_matrix(found, d, r) for d in found.detectors for r in found.rules if found.cells(d, r)]
    exhibits += [*_readings(found), _sets(found)]
    findings = (*_best(found), *_given(found), *_hardest(found), *_gaps(found), *_leaking(found), *found.notes)
    return Study(
        SCHEMA, title, findings, tuple(exhibits), plain_matrix(found), provenance, found.warnings, found.excluded
    )


# Sentences ------------------------------------------------------------------------------------------------------------


def _best(found: Found) -> list[str]:
    """Who does best on generators it never saw, whether the next one is beyond doubt worse, and who is below chance."""
    ranked = [(d, *r) for d in found.detectors if (r := found.ranked(d)) is not None]
    if not ranked:
        return []
    ranked.sort(key=lambda entry: -float(entry[2][0]))
    name, rule, mean = ranked[0]
    value = estimated("auroc", mean, found.n_smallest)
    reaches = f"mean AUROC {shown(value)} over {len(found.fakes)} generators{_beside_chance(value)}"
    if len(ranked) == 1:
        return [f"On generators it never saw ({rule}), {name} reaches a {reaches}."]
    second, _, other = ranked[1]
    lead = estimated("auroc", mean - other)
    beyond = "which excludes zero" if lead.low > 0 else "which does not exclude zero: they are not told apart"
    lines = [
        f"On generators it never saw ({rule}), {name} does best: {reaches}; it leads {second} by"
        f" {shown(lead, sign='+')}, {beyond}."
    ]
    tied = [d for d, _, m in ranked[2:] if estimated("auroc", mean - m).low <= 0]
    if tied:
        lines.append(f"Not told apart from {name} either: {', '.join(tied)}.")
    below = [d for d, _, m in ranked[1:] if estimated("auroc", m, found.n_smallest).high < 0.5]
    if below:
        lines.append(f"Below chance on generators never seen: {', '.join(below)}.")
    return lines


def _beside_chance(value: Estimate) -> str:
    if value.high < 0.5:
        return ", below chance"
    return "" if value.low > 0.5 else ", not told apart from chance"


def _given(found: Found) -> list[str]:
    """What was fitted elsewhere, beside the ranking: whether it saw these generators is not known, or it did."""
    lines = []
    for lesson in found.lessons:
        mean = found.mean(lesson.detector, GIVEN, unseen=None)
        if mean is None:
            continue
        value = estimated("auroc", mean, found.n_smallest)
        where = f"on samples of {', '.join(lesson.regime.seen)}" if lesson.regime.seen else "elsewhere"
        lines.append(
            f"{lesson.detector}, as given: mean AUROC {shown(value)} over {len(found.fakes)} generators"
            f"{_beside_chance(value)}; not ranked, because it was trained {where}."
        )
    return lines


def _hardest(found: Found) -> list[str]:
    """The generator that the best of the detectors finds hardest when it never saw it."""
    best: dict[str, tuple[str, Tensor]] = {}
    for fake in found.fakes:
        for detector in found.detectors:
            ranked = found.ranked(detector)
            mean = ranked and mean_again(found.cells(detector, ranked[0], unseen=True, on=fake.name), "auroc")
            if mean is not None and (fake.name not in best or mean[0] > best[fake.name][1][0]):
                best[fake.name] = (detector, mean)
    if not best:
        return []
    name = min(best, key=lambda key: float(best[key][1][0]))
    detector, mean = best[name]
    value = estimated("auroc", mean, found.n_smallest)
    who = f"{detector}, the best on it," if len(found.detectors) > 1 else detector
    return [f"Hardest when unseen is {name}: {who} reaches an AUROC of {shown(value)}{_beside_chance(value)}."]


def _gaps(found: Found) -> list[str]:
    """How much less a detector knows of generators it was not fitted to, one sentence a detector."""
    lines = []
    for detector in found.detectors:
        rule = next((r for r in ("each", *RANKING) if found.mean(detector, r, unseen=False) is not None), None)
        own, others = (found.mean(detector, rule or "", unseen=unseen) for unseen in (False, True))
        if own is None or others is None:
            continue
        gap = shown(estimated("auroc", own - others), sign="+")
        lines.append(
            f"{detector}: mean AUROC {shown(estimated('auroc', own, found.n_smallest))} on generators it was fitted to,"
            f" {shown(estimated('auroc', others, found.n_smallest))} on others ({rule}): a gap of {gap}."
        )
    return lines


def _leaking(found: Found) -> list[str]:
    over = [f"{name} ({auc.value:.2f})" for name, auc in found.leaks.items() if auc is not None and auc.low > LIMIT]
    if not over:
        return []
    done = "; what was scored is normalised" if found.preparation.startswith("normalised") else "; use --normalise"
    return [f"Container facts alone, no pixel, tell from the reals (AUC): {', '.join(over)}{done}."]


# Tables ---------------------------------------------------------------------------------------------------------------


def _protocol(found: Found) -> str:
    reading = next(iter(found.readings.values()))
    fakes = sorted({r.n_fake for r in found.readings.values()})
    n_fake = f"{fakes[0]}" if len(fakes) == 1 else f"{fakes[0]} to {fakes[-1]}"
    return f"{reading.n_real} real and {n_fake} fake test samples a cell, {found.preparation}."


def _matrix(found: Found, detector: str, rule: str) -> Matrix:
    lessons = [(i, x) for i, x in enumerate(found.lessons) if (x.detector, x.regime.rule) == (detector, rule)]
    rows, lines = [], []
    for i, lesson in lessons:
        line = [found.readings[i, fake.name] for fake in found.fakes]
        averaged = [r for r, f in zip(line, found.fakes, strict=True) if rule == GIVEN or is_unseen(lesson, f.name)]
        mean = mean_again(averaged, "auroc")
        cells = [_cell(reading.auroc) for reading in line]
        none = Cell(None, why="every generator was seen")
        rows.append(lesson.regime.label)
        lines.append((*cells, none if mean is None else _cell(estimated("auroc", mean, found.n_smallest))))
    note = f"AUROC with DeLong's 95 % interval; mean with a joint bootstrap's. {SAYS[rule]} {_protocol(found)}"
    columns = (*(f.name for f in found.fakes), "mean" if rule == GIVEN else "mean of unseen")
    return Matrix(f"{detector}: {rule}", note, "fitted to", "tested on", tuple(rows), columns, tuple(lines))


def _cell(estimate: Estimate) -> Cell:
    return Cell(estimate.value, estimate.low, estimate.high)


def _summary(found: Found) -> Table:
    rows = []
    for unseen in (True, False, None):
        for rule in [r for r in found.rules if unseen in kinds(r)]:
            for detector in found.detectors:
                if found.cells(detector, rule, unseen=unseen):
                    means = [_mean_words(found, detector, rule, name, unseen) for name in READINGS]
                    rows.append((detector, rule, WORDS[unseen], *means))
    note = (
        "Means over cells with joint bootstrap intervals (reals and each generator's fakes redrawn together): over"
        f" samples, these generators being fixed. Accuracies weigh both sides one half. {_protocol(found)}"
    )
    return Table("Means over generators", note, ("detector", "rule", "generators", *READINGS.values()), tuple(rows))


def _mean_words(found: Found, detector: str, rule: str, name: str, unseen: bool | None) -> str:
    mean = found.mean(detector, rule, name, unseen=unseen)
    if mean is None:
        return _why(found.cells(detector, rule, unseen=unseen), name)
    return shown(estimated(name, mean, found.n_smallest))


def _why(cells: Sequence[Reading], name: str) -> str:
    return next((r.missing[name] for r in cells if name in r.missing), "–")


def _readings(found: Found) -> list[Table]:
    """Every reading of unseen generators, one table a rule, averaged where several rows never saw one; and as given."""
    tables = []
    for rule in found.rules:
        rows = []
        for fake in found.fakes:
            for detector in found.detectors:
                cells = found.cells(detector, rule, unseen=kinds(rule)[0], on=fake.name)
                if cells:
                    rows.append((fake.name, detector, *(_words(found, cells, name) for name in READINGS)))
        if rows:
            several = "; a mean where several rows never saw it" if rule in ("each", "pairs") else ""
            who = "trained elsewhere" if rule == GIVEN else f"that never saw it{several}"
            note = f"Readings of each generator by detectors {who}. {_protocol(found)}"
            header = ("generator", "detector", *READINGS.values())
            title = f"Generators: {rule}" if rule == GIVEN else f"Unseen generators: {rule}"
            tables.append(Table(title, note, header, tuple(rows)))
    return tables


def _words(found: Found, cells: Sequence[Reading], name: str) -> str:
    if len(cells) == 1:
        return shown(cells[0].estimate(name), _why(cells, name))
    mean = mean_again(cells, name)
    return _why(cells, name) if mean is None else shown(estimated(name, mean, found.n_smallest))


def _sets(found: Found) -> Table:
    rows = []
    for one in (found.real, *found.fakes):
        leak = found.leaks.get(one.name)
        rows.append(
            (
                one.name,
                one.family,
                str(len(one)),
                str(one.distinct),
                str(len(one.fit)),
                str(len(one.test)),
                shown(leak),
                one.digest.removeprefix("sha256:")[:12],
            )
        )
    note = (
        "Every set is halved by content once; no sample that any cell learns from is tested in any. Leak: AUC of the"
        " container's facts alone against the reals, as the sets were given."
    )
    header = ("set", "family", "n", "different", "to learn from", "to test on", "leak AUC", "digest")
    return Table("Sets", note, header, tuple(rows))
