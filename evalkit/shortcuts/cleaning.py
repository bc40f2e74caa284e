"""What can be cleaned of a real and a fake set, so that a detector is left with what the texts say.

In this order: runs of white space become one space; the opening of eight words or more that a text shares with one of
the other side of its group is dropped; both sides are cut to the same number of whole sentences; copies go. Texts of a
group with both sides are cut to its shortest. Texts without a partner are matched by rank: the one with the most whole
sentences on one side with the one on the other, each pair cut to the smaller number, so that both sides end with the
same distribution of it. A text that is on both sides says nothing of either and is dropped from both; of copies on one
side the first is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .openings import OPENING, longest_shared
from .reading import Side
from .sentences import sentences

STEPS = (
    "white space collapsed, the shared opening dropped, both sides cut to the same number of whole sentences,"
    " copies dropped"
)


@dataclass(frozen=True)
class Cleaned:
    """Both sides as they are left; of (real, fake) the texts dropped for want of a whole sentence, and as copies."""

    real: Side
    fake: Side
    cut_away: tuple[int, int]
    copies: tuple[int, int]


def cleaned(real: Side, fake: Side) -> Cleaned:
    """Both sides cleaned, groups and ids kept; either may be left empty."""
    n = len(real)
    groups = (*real.groups, *fake.groups)
    paired = set(real.groups) & set(fake.groups)
    words = _without_openings([text.split() for text in (*real.texts, *fake.texts)], groups, paired, n)
    whole = [sentences(" ".join(text)) for text in words]
    keep = _numbers([len(found) for found in whole], groups, paired, n)
    texts = [" ".join(found[:k]) for found, k in zip(whole, keep, strict=True)]
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text, i)
    both = set(texts[:n]) & set(texts[n:])
    left = [i for i, text in enumerate(texts) if text and text not in both and first[text] == i]
    empty = [i for i, text in enumerate(texts) if not text]
    sides = []
    for side, start, end in ((real, 0, n), (fake, n, len(texts))):
        own = [i - start for i in left if start <= i < end]
        ids, kept = tuple(side.ids[i] for i in own), tuple(texts[start + i] for i in own)
        sides.append(Side(side.name, ids, kept, tuple(side.groups[i] for i in own)))
    lost = tuple(sum(start <= i < end for i in empty) for start, end in ((0, n), (n, len(texts))))
    copied = tuple(len(old) - gone - len(new) for old, gone, new in zip((real, fake), lost, sides, strict=True))
    return Cleaned(sides[0], sides[1], (lost[0], lost[1]), (copied[0], copied[1]))


def _without_openings(words: list[list[str]], groups: Sequence[str], paired: set[str], n_real: int) -> list[list[str]]:
    """Each text without the longest opening it shares with one of the other side of its group."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        if group in paired:
            members[group].append(i)
    found = list(words)
    for own in members.values():
        shared = longest_shared([words[i] for i in own], [i < n_real for i in own])
        for i, k in zip(own, shared, strict=True):
            # Where groups are given, two texts of one may both begin with `The`: that is no prompt.
            found[i] = words[i][k:] if k >= OPENING else words[i]
    return found


def _numbers(whole: Sequence[int], groups: Sequence[str], paired: set[str], n_real: int) -> list[int]:
    """How many of its whole sentences each text keeps."""
    least: dict[str, int] = {}
    for group, count in zip(groups, whole, strict=True):
        least[group] = min(count, least.get(group, count))
    keep = [least[group] if group in paired else count for group, count in zip(groups, whole, strict=True)]
    sides = (range(n_real), range(n_real, len(whole)))
    alone = [[i for i in side if groups[i] not in paired] for side in sides]
    # Where the other side has none without a partner, those with one stand for it.
    ranked = [sorted(keep[i] for i in own or side) for own, side in zip(alone, sides, strict=True)]
    for own, other in zip(alone, ranked[::-1], strict=True):
        for rank, i in enumerate(sorted(own, key=lambda i: whole[i])):
            keep[i] = min(whole[i], other[(2 * rank + 1) * len(other) // (2 * len(own))] if other else 0)
    return keep
