"""The suite `attacks` of a stress study: PGD against every detector with gradients, its images shown to all detectors.

Numbers are against the same untouched samples, at the threshold that was set on the clean reals. For evasion the fakes
are attacked and the reals stay as they are, for framing the other way round. To see how images made against a detector
of the same kind carry over, give it twice, fitted with two seeds or on two halves of the data.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..samples import ListedSet, select
from ..types import Cell, Curves, Differentiable, Estimate, Exhibit, Line, Matrix, Table
from .attacks import STEPS, Attacked, Direction, attacked
from .bed import Bed, Numbers, Pair, Part, Scores, numbers_against, numbers_of, plain_numbers, said, scored

# Grey levels of 255: one to eight, the range of Madry et al. 2018 on photographs.
EPSILONS = (1, 2, 4, 8)
# Images a set: ten steps of a network on every image are what a training is, not what a scoring is.
MOST = 64
SAYS: Mapping[Direction, str] = {"real": "fakes made to look real", "fake": "reals made to look fake"}
ADVERSARIAL = ":adversarial"


@dataclass(frozen=True)
class Trial:
    """One judge on images that were made against `surrogate` (itself: white-box), and the numbers beside clean ones."""

    surrogate: str
    judge: str
    epsilon: int
    towards: Direction
    pair: Pair
    numbers: Numbers

    @property
    def is_white_box(self) -> bool:
        return self.surrogate == self.judge


def attacks(bed: Bed) -> Part:
    """PGD of 1, 2, 4 and 8 of 255 in both directions: white-box where there are gradients, by transfer everywhere."""
    makers = [label for label, detector in bed.detectors.items() if isinstance(detector, Differentiable)]
    without = [label for label in bed.detectors if label not in makers]
    if not makers:
        have = "has" if len(without) == 1 else "have"
        said_so = f"attacks: {', '.join(without)} {have} no gradients; give a detector that has, to make images against"
        return Part((), (), {}, (said_so,))
    sets = {name: _some(samples, bed.seed) for name, samples in bed.sets.items()}
    warnings: list[str] = []
    trials: list[Trial] = []
    for maker in makers:
        for epsilon in EPSILONS:
            trials += _trials(bed, sets, maker, epsilon, warnings)
    clean = {label: _clean(bed, sets, label) for label in bed.detectors}
    findings = [line for label in bed.detectors for line in _findings(label, trials)]
    findings += [line for label in makers for line in _hardened(label, bed, trials)]
    exhibits = [_curves(makers, trials, clean), *_matrices(bed, makers, trials, clean), _table(trials, bed)]
    data = {
        "epsilons": list(EPSILONS),
        "steps": STEPS,
        "images_a_set": MOST,
        "without_gradients": without,
        "clean": {label: plain_numbers(n) for label, n in clean.items()},
        "trials": [_plain(trial) for trial in trials],
    }
    return Part(tuple(findings), tuple(exhibits), data, tuple(dict.fromkeys(warnings)))


def _some(samples: ListedSet, seed: int) -> ListedSet:
    every = range(len(samples))
    return samples if len(samples) <= MOST else select(samples, sorted(random.Random(seed).sample(every, MOST)))


def _trials(bed: Bed, sets: Mapping[str, ListedSet], maker: str, epsilon: int, warnings: list[str]) -> list[Trial]:
    """Images made against one detector at one epsilon, judged by every detector, in both directions."""
    made: dict[str, Attacked] = {}
    for name, samples in sets.items():
        towards: Direction = "real" if name else "fake"
        # What the maker cannot read, such as an image too small for it, it cannot be attacked with.
        known = bed.clean[maker, name]
        readable = select(samples, [i for i, s in enumerate(samples) if s.id in known])
        if len(readable):
            made[name] = attacked(
                bed.detectors[maker], readable, epsilon=epsilon, towards=towards, seed=bed.seed, bench=bed.bench
            )
    flat, n = sum(one.flat for one in made.values()), sum(len(one.samples) for one in made.values())
    if flat:
        warnings.append(
            f"{maker}: the gradient is exactly zero on {flat} of {n} images, which the attack cannot move along: that"
            " is no robustness, and the transfer attacks say more of this detector"
        )
    found = []
    for judge, detector in bed.detectors.items():
        after = {name: scored(detector, one.samples, bed.bench)[0] for name, one in made.items()}
        clean = {name: bed.clean[judge, name] for name in bed.sets}
        for towards in SAYS:
            # Of the attacked side what was attacked, of the other side everything, untouched.
            moved = {name: after.get(name, {}) if (not name) == (towards == "fake") else clean[name] for name in clean}
            numbers = numbers_against(_pair(clean), _pair(moved), bed.thresholds[judge], bed.seed)
            if numbers is not None:
                found.append(Trial(maker, judge, epsilon, towards, _pair(moved), numbers))
    return found


def _pair(scores: Mapping[str, Scores]) -> Pair:
    """Scores by set as two sides; every sample keeps one id, whatever was done to it."""
    return Pair(scores[""], {f"{name}/{key}": p for name, by_id in scores.items() if name for key, p in by_id.items()})


def _clean(bed: Bed, sets: Mapping[str, ListedSet], label: str) -> Numbers:
    """All untouched reals against the fakes that will be attacked: where the curves begin."""
    kept = {name: {s.id for s in samples} for name, samples in sets.items() if name}
    scores = {name: {k: p for k, p in bed.clean[label, name].items() if k in ids} for name, ids in kept.items()}
    return numbers_of(_pair({"": bed.clean[label, ""], **scores}), bed.thresholds[label])


# Saying ---------------------------------------------------------------------------------------------------------------


def _findings(label: str, trials: Sequence[Trial]) -> list[str]:
    strongest = [t for t in trials if t.judge == label and t.epsilon == EPSILONS[-1]]
    own = {t.towards: t for t in strongest if t.is_white_box}
    lines = []
    if own:
        evaded, framed = own["real"].numbers, own["fake"].numbers
        lines.append(
            f"{label}, white-box at {EPSILONS[-1]}/255: with {SAYS['real']} its AUROC is {said(evaded.auroc)}, a change"
            f" of {said(evaded.auroc_change, '+')}, and it flags {said(evaded.tpr)} of them at the clean threshold; of"
            f" {SAYS['fake']} it flags {said(framed.fpr)}, a change of {said(framed.fpr_change, '+')}."
        )
    else:
        lines.append(f"{label} has no gradients: only images made against other detectors were shown to it.")
    others = [t for t in strongest if not t.is_white_box and t.towards == "real"]
    if others:
        worst = min(others, key=lambda t: t.numbers.auroc.value)
        change = worst.numbers.auroc_change
        ends = f"to {said(worst.numbers.auroc)}, a change of {said(change, '+')}"
        if change is not None and change.high < 0:
            what = f"images made against {worst.surrogate} lower its AUROC most, {ends}"
        else:
            what = f"no other detector's images lower its AUROC beyond chance; the lowest, {worst.surrogate}'s, {ends}"
        lines.append(f"{label}, by transfer at {EPSILONS[-1]}/255: {what}.")
    return lines


def _hardened(label: str, bed: Bed, trials: Sequence[Trial]) -> list[str]:
    """A detector trained on attacked images beside the same one that was not, each attacked by its own gradients."""
    partner = label.replace(ADVERSARIAL, "", 1)
    if ADVERSARIAL not in label or partner not in bed.detectors:
        return []
    lines = []
    for epsilon in EPSILONS:
        own, other = (
            next(
                (t for t in trials if t.is_white_box and (t.judge, t.epsilon, t.towards) == (j, epsilon, "real")), None
            )
            for j in (label, partner)
        )
        gain = own and other and numbers_against(other.pair, own.pair, bed.thresholds[label], bed.seed)
        if gain and own and other and gain.auroc_change is not None:
            told = "" if gain.auroc_change.low > 0 or gain.auroc_change.high < 0 else ", not told apart"
            lines.append(
                f"White-box at {epsilon}/255, {label} keeps an AUROC of {said(own.numbers.auroc)} where {partner} keeps"
                f" {said(other.numbers.auroc)}: {said(gain.auroc_change, '+')}{told}."
            )
    return lines


def _curves(makers: Sequence[str], trials: Sequence[Trial], clean: Mapping[str, Numbers]) -> Curves:
    lines = []
    for label in makers:
        own = [t for t in trials if t.judge == label and t.is_white_box and t.towards == "real"]
        points = ((0.0, clean[label].auroc.value), *((float(t.epsilon), t.numbers.auroc.value) for t in own))
        lines.append(Line(label, points, f"AUROC {points[0][1]:.3f} clean, {points[-1][1]:.3f} at {EPSILONS[-1]}/255"))
    note = f"Fakes made to look real by PGD of {STEPS} steps against the judge itself, rounded to whole grey levels."
    return Curves("White-box attacks", note, "epsilon, grey levels of 255", "AUROC", tuple(lines))


def _matrices(bed: Bed, makers: Sequence[str], trials: Sequence[Trial], clean: Mapping[str, Numbers]) -> list[Matrix]:
    """AUROC of every judge on fakes made to look real against every maker, one matrix an epsilon."""
    judges = tuple(bed.detectors)
    found = []
    for epsilon in EPSILONS:
        by = {(t.surrogate, t.judge): t for t in trials if t.epsilon == epsilon and t.towards == "real"}
        rows = [tuple(_cell(clean[judge].auroc) for judge in judges)]
        for maker in makers:
            line = [by.get((maker, judge)) for judge in judges]
            rows.append(tuple(Cell(None, why="not read") if t is None else _cell(t.numbers.auroc) for t in line))
        note = (
            "AUROC of untouched reals against fakes made to look real; on a detector's own row the attack is white-box."
        )
        labels = ("untouched", *makers)
        found.append(
            Matrix(
                f"Attacks of {epsilon}/255 across detectors",
                note,
                "made against",
                "judged by",
                labels,
                judges,
                tuple(rows),
            )
        )
    return found


def _cell(value: Estimate) -> Cell:
    return Cell(value.value, value.low, value.high)


def _table(trials: Sequence[Trial], bed: Bed) -> Exhibit:
    rows = []
    for trial in trials:
        numbers, evades = trial.numbers, trial.towards == "real"
        rate, change = (numbers.tpr, numbers.tpr_change) if evades else (numbers.fpr, numbers.fpr_change)
        rows.append(
            (
                trial.judge,
                "itself" if trial.is_white_box else trial.surrogate,
                SAYS[trial.towards],
                f"{trial.epsilon}/255",
                said(numbers.auroc),
                said(numbers.auroc_change, "+"),
                said(rate),
                said(change, "+"),
            )
        )
    note = (
        f"Flagged: the share of the attacked side above the threshold that flags at most {bed.fpr:.1%} of the clean"
        f" reals. Changes are against the same samples untouched (paired bootstrap). At most {MOST} images a set."
    )
    header = ("judged by", "made against", "attack", "epsilon", "AUROC", "change", "flagged", "change in flagged")
    return Table("Attacks", note, header, tuple(sorted(rows)))


def _plain(trial: Trial) -> dict[str, Any]:
    about = {"made_against": trial.surrogate, "judged_by": trial.judge, "epsilon": trial.epsilon}
    return {**about, "attack": SAYS[trial.towards], **plain_numbers(trial.numbers)}
