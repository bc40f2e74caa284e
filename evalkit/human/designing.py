"""The design of a study: which samples are judged, which pairs meet, what checks attention, and in which order.

Every rater judges the same items, so that agreement can be measured, each in an order of their own that follows from
the seed and their name. Real or generated: half of the items are real, the others are shared out evenly over the sets.
Two-alternative forced choice: every set meets real samples, and with two sets or more at least half of the pairs do
so while the others put set against set. Sides are counterbalanced: of the pairs of one kind, each rater sees the realer
one as often left as right, give or take one.

Two things check a rater. Catch trials show shuffled pixels or letters, whose answer is known and announced beforehand.
Repeats show an item of the first half again in the second half, in a pair with sides swapped; only the first counts.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from ..errors import BadSetting, ModalityMismatch
from ..types import SampleSet
from .stimuli import Stimulus, draw, shuffled

Mode: TypeAlias = Literal["real-or-fake", "2afc"]
Kind: TypeAlias = Literal["judged", "catch", "repeat"]
FEWEST = 4  # items a set must have: of fewer no interval could be said


@dataclass(frozen=True)
class Item:
    """One thing to judge: positions of its stimuli, in a pair the realer one first; `of` is what a repeat repeats."""

    kind: Kind
    stimuli: tuple[int, ...]
    of: int | None = None


@dataclass(frozen=True)
class Trial:
    """An item at its place in one rater's order; `flipped`: the second of a pair stands on the left."""

    item: int
    flipped: bool


@dataclass(frozen=True)
class Design:
    """Everything a study shows: the names of its sets, the real one first, its stimuli and its items."""

    mode: Mode
    sets: tuple[str, ...]
    stimuli: tuple[Stimulus, ...]
    items: tuple[Item, ...]
    words: str
    notes: tuple[str, ...]


def design(real: SampleSet, fakes: Sequence[SampleSet], *, mode: Mode, items: int, catch: float, seed: int) -> Design:
    """The items of a study and their stimuli, the same for the same sets and seed.

    items: how many are judged; `catch` times as many catch trials are added, and as many repeats. Raises BadSetting
    when there are too few items for the sets or names are given twice, ModalityMismatch, TooFewSamples.
    """
    names = (real.name, *(f.name for f in fakes))
    if len(set(names)) < len(names):
        raise BadSetting(f"sets need names of their own; given {', '.join(names)}: write NAME=SOURCE")
    for fake in fakes:
        if fake.modality != real.modality:
            raise ModalityMismatch(f"{fake.name!r} holds {fake.modality} samples, {real.name!r} {real.modality}")
    blocks = _shares(names, mode, items)
    checks = round(catch * items)
    wanted = [sum(n * (name in block) for block, n in blocks.items()) for name in names]
    # A catch trial is made of a real sample; beside a real one in a pair it is made of another.
    wanted[0] += checks * (2 if mode == "2afc" else 1)
    drawn = draw([real, *fakes], wanted, seed)
    stock = {name: list(range(sum(wanted[:i]), sum(wanted[: i + 1]))) for i, name in enumerate(names)}
    stimuli = [s for of_set in drawn.stimuli for s in of_set]
    made = [Item("judged", tuple(stock[name].pop() for name in block)) for block, n in blocks.items() for _ in range(n)]
    rng = random.Random(f"{seed}/repeats")
    repeated = rng.sample(range(len(made)), min(checks, len(made)))
    for _ in range(checks):
        source = stock[real.name].pop()
        stimuli[source] = shuffled(stimuli[source], seed)
        made.append(Item("catch", (stock[real.name].pop(), source) if mode == "2afc" else (source,)))
    made += [Item("repeat", made[i].stimuli, of=i) for i in repeated]
    return Design(mode, names, tuple(stimuli), tuple(made), drawn.words, drawn.notes)


def _shares(names: Sequence[str], mode: Mode, items: int) -> dict[tuple[str, ...], int]:
    """How many items each set (or each pair of sets) gets."""
    real, fakes = names[0], names[1:]
    if mode == "real-or-fake":
        half = items // 2
        shares: dict[tuple[str, ...], int] = {(real,): items - half, **_even([(f,) for f in fakes], half)}
    else:
        duels = list(combinations(fakes, 2))
        met = len(fakes) / (len(fakes) + len(duels))
        with_real = items if not duels else max(round(met * items), items // 2)
        shares = {**_even([(real, f) for f in fakes], with_real), **_even(duels, items - with_real)}
    least = min(n for block, n in shares.items() if mode == "real-or-fake" or real in block)
    if least < FEWEST:
        raise BadSetting(
            f"--items {items} leaves {least} for a set; {FEWEST} are needed: give more items or fewer sets"
        )
    return shares


def _even(blocks: Sequence[tuple[str, ...]], total: int) -> dict[tuple[str, ...], int]:
    return {block: total // len(blocks) + (i < total % len(blocks)) for i, block in enumerate(blocks)}


def order(stimuli: Sequence[str], items: Sequence[Item], seed: int, key: str) -> tuple[Trial, ...]:
    """One rater's trials: first appearances at random, each repeat somewhere in the second half, sides balanced.

    stimuli: the set of each stimulus. key: the rater's name, or the name of a prepared sheet.
    """
    rng = random.Random(f"{seed}\n{key}")
    repeated = [i for i, item in enumerate(items) if item.kind == "repeat"]
    again = {items[i].of for i in repeated}
    first = [i for i, item in enumerate(items) if item.kind != "repeat"]
    rng.shuffle(first)
    half = len(first) // 2
    # What will be shown again belongs to the first half, so that its repeat is never its neighbour.
    late = [place for place in range(half, len(first)) if first[place] in again]
    early = [place for place in range(half) if first[place] not in again]
    for here, there in zip(late, rng.sample(early, min(len(late), len(early))), strict=False):
        first[here], first[there] = first[there], first[here]
    second = first[half:]
    for i in repeated:
        second.insert(rng.randint(min(2, len(second)), len(second)), i)
    sides = _sides(stimuli, items, rng)
    return tuple(Trial(i, sides[i]) for i in (*first[:half], *second))


def _sides(stimuli: Sequence[str], items: Sequence[Item], rng: random.Random) -> dict[int, bool]:
    """Which pairs are shown the other way round: half of each kind of pair; a repeat against its original."""
    sides: dict[int, bool] = {}
    kinds: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        if item.kind != "repeat":
            kinds[(item.kind, *(stimuli[s] for s in item.stimuli))].append(i)
    for members in kinds.values():
        rng.shuffle(members)
        odd = rng.random() < 0.5
        sides.update({i: (place % 2 == 0) == odd for place, i in enumerate(members)})
    sides.update({i: not sides[item.of] for i, item in enumerate(items) if item.of is not None})
    return {i: flipped and len(items[i].stimuli) == 2 for i, flipped in sides.items()}
