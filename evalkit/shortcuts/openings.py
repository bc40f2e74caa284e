"""What texts share with each other: openings and copies, and the groups that a split must not tear apart.

A human text and a machine's continuation of its first words are one source: with one of them to learn from and the
other to be tested on, a detector is asked what it has read. So texts whose first eight words are equal are one group,
copies too, and every split deals out groups. Eight words are hardly ever equal by chance, and are fewer than prompts of
thirty tokens hold.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

OPENING = 8  # words


def group_of(words: Sequence[str]) -> str:
    """The name of the group of a text by its first eight words; a shorter one is with its copies alone."""
    return f"{min(len(words), OPENING)}:{' '.join(words[:OPENING])}"


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words two texts begin with in common."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))


def longest_shared(texts: Sequence[Sequence[str]], sides: Sequence[Hashable]) -> list[int]:
    """For each text, in words, the longest opening it shares with any text of another side.

    Of texts in alphabetical order it is the nearest one of another side, before or after, that shares most; so one sort
    and two passes do for all pairs.
    """
    order = sorted(range(len(texts)), key=lambda i: tuple(texts[i]))
    shared = [0] * len(texts)
    for way in (order, order[::-1]):
        # The last text, and the last one that was not of its side: one of the two is of another side than the next.
        last: int | None = None
        before: int | None = None
        for i in way:
            other = last if last is not None and sides[last] != sides[i] else before
            if other is not None:
                shared[i] = max(shared[i], common(texts[i], texts[other]))
            if last is not None and sides[last] != sides[i]:
                before = last
            last = i
    return shared


def copies(texts: Sequence[str]) -> list[int]:
    """For each text how many others are equal to it, character by character."""
    count: dict[str, int] = defaultdict(int)
    for text in texts:
        count[text] += 1
    return [count[text] - 1 for text in texts]


def dealt(groups: Sequence[str], is_fake: Iterable[bool], seed: int) -> list[int]:
    """The half, 0 or 1, of each text: groups are dealt out by turns in an order of the seed and the group's name.

    Groups with texts of both sides first, then those of one: so each half has its share of every kind.
    """
    sides: dict[str, set[bool]] = defaultdict(set)
    for group, fake in zip(groups, is_fake, strict=True):
        sides[group].add(fake)

    def draw(group: str) -> tuple[int, bool, str]:
        name = f"{seed}/{group}".encode("utf-8", "surrogatepass")
        return -len(sides[group]), max(sides[group]), hashlib.sha256(name).hexdigest()

    half = {group: place % 2 for place, group in enumerate(sorted(sides, key=draw))}
    return [half[group] for group in groups]
