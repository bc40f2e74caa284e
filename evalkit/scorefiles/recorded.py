"""One detector's recorded scores with what is known of each text: the noun of this room, and its refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import BadRows, BadSetting, BadSource, TooFewSamples

Array: TypeAlias = "npt.NDArray[np.float64]"
Codes: TypeAlias = "npt.NDArray[np.int8]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"
Higher = Literal["fake", "real", "auto"]
NanPolicy = Literal["refuse", "exclude"]
HUMAN, MACHINE, UNKNOWN = 0, 1, -1
# How a file may say that nobody attacked a text.
UNTOUCHED = ("none", "", "no", "clean", "original")


@dataclass(frozen=True)
class Recorded:
    """Scores [N] of one run as they were recorded, NaN where one is missing, and the truth [N] of each text.

    truth: 0 human, 1 machine, -1 not known. fields: what else is known of each text (domain, model, attack, ...), one
    word a text, "" where it is not. claims: numbers that the file itself gives for this run, such as its AUROC.
    flipped: scores were negated so that higher means machine. excluded: how many missing scores were left out.
    """

    name: str
    scores: Array
    truth: Codes
    ids: Sequence[str]
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)
    claims: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    flipped: bool = False
    excluded: int = 0

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def human(self) -> Array:
        return np.asarray(self.scores[self.truth == HUMAN], dtype=np.float64)

    @property
    def machine(self) -> Array:
        return np.asarray(self.scores[self.truth == MACHINE], dtype=np.float64)

    def only(self, keep: Mask) -> Recorded:
        """The rows of a mask [N]."""
        where = np.flatnonzero(keep).tolist()
        kept = {name: [words[i] for i in where] for name, words in self.fields.items()}
        return replace(
            self, scores=self.scores[keep], truth=self.truth[keep], ids=[self.ids[i] for i in where], fields=kept
        )


def attack_of(word: str) -> str:
    """The attack that a word of the field `attack` names; "none" for every way to say that there was none."""
    clean = word.strip()
    return "none" if clean.lower() in UNTOUCHED else clean


def unattacked(run: Recorded) -> Recorded:
    """The texts that nobody attacked, without the file's own numbers where these are of more; the whole run where
    fewer than two of a side are left.

    A text and its attacked copies are not independent, and an attacked human sets no threshold.
    """
    keep = np.array([attack_of(word) == "none" for word in run.fields.get("attack", [""] * len(run))], dtype=np.bool_)
    if keep.all() or min(int((keep & (run.truth == side)).sum()) for side in (HUMAN, MACHINE)) < 2:
        return run
    return replace(run.only(keep), claims={})


def checked(run: Recorded, nan: NanPolicy = "refuse") -> Recorded:
    """The run with finite scores only, every id once.

    Raises BadRows for missing scores under the policy "refuse", with their count a side, and for infinite ones under
    any; BadSource for an id that comes twice.
    """
    missing, endless = np.isnan(run.scores), np.isinf(run.scores)
    if endless.any():
        first = run.ids[int(np.flatnonzero(endless)[0])]
        raise BadRows(
            f"{run.name}: {int(endless.sum()):,} of {len(run):,} scores are infinite (first: {first!r}); no threshold"
            " lies beyond them: write them as finite numbers"
        )
    if missing.any() and nan == "refuse":
        first = run.ids[int(np.flatnonzero(missing)[0])]
        raise BadRows(
            f"{run.name}: {int(missing.sum()):,} of {len(run):,} scores are missing or NaN, expected a number for"
            f" each ({_sides(run, missing)}; first: {first!r}); find out why, or leave them out with --nan exclude"
        )
    kept = replace(run.only(~missing), excluded=int(missing.sum())) if missing.any() else run
    if len(set(kept.ids)) < len(kept):
        seen: set[str] = set()
        twice = next(i for i in kept.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise BadSource(
            f"{run.name}: id {twice!r} comes more than once ({len(kept):,} rows, {len(set(kept.ids)):,} ids); give each"
            " text one score"
        )
    return kept


def _sides(run: Recorded, mask: Mask) -> str:
    words = {HUMAN: "human", MACHINE: "machine", UNKNOWN: "of unknown truth"}
    return ", ".join(f"{int((mask & (run.truth == code)).sum()):,} {word}" for code, word in words.items())


def both_sides(run: Recorded) -> Recorded:
    """The run when every text's truth is known and each side has two; BadSource or TooFewSamples when not."""
    unknown = int((run.truth == UNKNOWN).sum())
    if unknown:
        first = run.ids[int(np.flatnonzero(run.truth == UNKNOWN)[0])]
        raise BadSource(
            f"{run.name}: {unknown:,} of {len(run):,} rows have no label (first: {first!r}); give a column label"
            " (human or machine), or --truth FILE"
        )
    human, machine = int((run.truth == HUMAN).sum()), int((run.truth == MACHINE).sum())
    if min(human, machine) < 2:
        raise TooFewSamples(f"{run.name}: {human:,} human and {machine:,} machine scores; give at least two of each")
    return run


def oriented(run: Recorded, higher: Higher) -> tuple[Recorded, str]:
    """The run with scores that are higher for machine texts, and in words what was done where it was not told.

    higher: which side the recorded scores are higher for; "auto" takes the side whose AUROC is at least 0.5, which is
    a choice made on these very scores.
    """
    if higher not in ("fake", "real", "auto"):
        raise BadSetting(f"--higher {higher!r}; expected fake, real or auto")
    plain = unattacked(run)
    area = 0.5 if higher != "auto" else rank_area(plain.human, plain.machine)
    flip = higher == "real" or area < 0.5
    done = replace(run, scores=-run.scores, flipped=True) if flip else run
    if higher != "auto":
        return done, ""
    side = "human" if flip else "machine"
    turned = f"; they were turned round, without that it is {area:.4f}" if flip else ""
    return done, (
        f"{run.name}: --higher auto takes higher scores for {side} texts, because AUROC is then"
        f" {max(area, 1 - area):.4f}{turned}; chosen on these very scores"
    )


def rank_area(human: Array, machine: Array) -> float:
    """P(machine score > human score) + half P(equal), in [0, 1]: an exact count over all pairs, divided once.

    float64 sums of halves are exact up to 2^53 pairs, so the only rounding is that of the division.
    """
    ordered = np.sort(human)
    twice = np.searchsorted(ordered, machine, side="left") + np.searchsorted(ordered, machine, side="right")
    return int(twice.sum()) / (2 * len(human) * len(machine))
