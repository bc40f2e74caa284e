"""More that a report shows of its subjects: copied passages of texts, the best and worst samples, two-sided trade-offs.

A copied passage is a run of words that stands in some training text, word for word and with the same spaces between
them: what a reader can check with the eye. Runs shorter than SHORTEST words are common speech (Lee et al. 2022,
"Deduplicating training data makes language models better", count 50 tokens as a duplicate of web text; ours are short
texts). Found by the run's first SHORTEST words, then extended as far as both texts agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .attribution import has_worst, worst_first
from .comparison import result_of
from .types import Comparison, Grid, Marked, Pair, Pairs, Point, Sample, Scatter, Shown

if TYPE_CHECKING:
    from .subjects import Scored

SHORTEST = 6  # words
MOST_WORDS = 2_000_000  # of the training texts: some 500 MB of index
MOST_PLACES = 64  # where one run of words begins: a phrase on every page is looked up in the first of them
PICKED = {"image": 8, "text": 2}
PASSAGES = 3

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Passage:
    """A run of words of a text [start, stop) that stands in the training text `place` at [at, at + stop - start)."""

    start: int
    stop: int
    place: int
    at: int
    words: int


class Copied:
    """Finds the longest verbatim passages of texts in a training set."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts: list[str] = []
        self.is_whole = True
        self._spots: list[list[tuple[int, int]]] = []
        self._index: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        total = 0
        for text in texts:
            spots, words = _words(text)
            if total + len(words) > MOST_WORDS:
                self.is_whole = False
                break
            total += len(words)
            for k in range(len(words) - SHORTEST + 1):
                found = self._index.setdefault(tuple(words[k : k + SHORTEST]), [])
                if len(found) < MOST_PLACES:
                    found.append((len(self.texts), k))
            self.texts.append(text)
            self._spots.append(spots)

    def passages(self, text: str) -> tuple[Passage, ...]:
        """The passages of at least SHORTEST words, from left to right, each as long as it can be, none overlapping."""
        spots, words = _words(text)
        found: list[Passage] = []
        k = 0
        while k + SHORTEST <= len(words):
            best: Passage | None = None
            for place, at in self._index.get(tuple(words[k : k + SHORTEST]), ()):
                count = self._agree(text, spots, k, place, at)
                if count >= SHORTEST and (best is None or count > best.words):
                    start, stop = spots[k][0], spots[k + count - 1][1]
                    best = Passage(start, stop, place, self._spots[place][at][0], count)
            if best is None:
                k += 1
            else:
                found.append(best)
                k += best.words
        return tuple(found)

    def _agree(self, text: str, spots: Sequence[tuple[int, int]], k: int, place: int, at: int) -> int:
        """How many words from word k on are those of the training text from word `at` on, the spaces included."""
        theirs, other = self._spots[place], self.texts[place]
        count = 0
        while k + count < len(spots) and at + count < len(theirs):
            own, their = spots[k + count], theirs[at + count]
            # From the end of the word before: the spaces between two words must agree too.
            a = spots[k + count - 1][1] if count else own[0]
            b = theirs[at + count - 1][1] if count else their[0]
            if text[a : own[1]] != other[b : their[1]]:
                break
            count += 1
        return count


def _words(text: str) -> tuple[list[tuple[int, int]], list[str]]:
    spots = [found.span() for found in _WORD.finditer(text)]
    return spots, [text[a:b] for a, b in spots]


def copied(scored: Sequence[Scored], comparison: Comparison) -> Copied | None:
    """What finds copied passages on this board; None where the samples are no texts or nothing was learnt from."""
    train = next((s.sides.train for s in scored if s.sides.train is not None), None)
    if comparison.modality != "text" or train is None:
        return None
    return Copied(_text(sample) for sample in train.samples)


def _text(sample: Sample) -> str:
    media = sample.load()
    assert isinstance(media, str)
    return media


def marked(item: Shown, finder: Copied | None) -> Shown:
    """A text with its copied passages marked; anything else, and a text without any, as it is."""
    if finder is None or not isinstance(item, str):
        return item
    spans = tuple((p.start, p.stop) for p in finder.passages(item))
    return Marked(item, spans) if spans else item


def passages(scored: Sequence[Scored], finder: Copied | None) -> Pairs | None:
    """The longest copied passages of each subject, each beside the training text that holds it."""
    if finder is None:
        return None
    lines = []
    for s in scored:
        # A ceiling's texts come from the same source; what they share with the training texts is the yardstick.
        found = [(p, text) for text in map(_text, s.sides.fake.samples) for p in finder.passages(text)]
        found.sort(key=lambda entry: (-entry[0].words, entry[1], entry[0].start))
        pairs: list[Pair] = []
        seen: set[str] = set()
        for p, text in found:
            if len(pairs) == PASSAGES or text in seen:
                continue
            seen.add(text)
            home = finder.texts[p.place]
            theirs = Marked(home, ((p.at, p.at + p.stop - p.start),))
            pairs.append(Pair(Marked(text, ((p.start, p.stop),)), theirs, f"{p.words} words in a row"))
        if pairs:
            lines.append((s.entrant.name, tuple(pairs)))
    if not lines:
        return None
    part = "" if finder.is_whole else f" Looked for in the first {len(finder.texts)} training texts."
    rule = (
        f"The {PASSAGES} longest passages of each subject that stand word for word in a training text, {SHORTEST} words"
        f" or more, the longest first; one a sample.{part} A ceiling shows what real texts of this kind share."
    )
    return Pairs("Copied passages", rule, tuple(lines))


def picked_grids(scored: Sequence[Scored], show: Callable[[Sample, str], Shown]) -> Iterator[Grid]:
    """For the first number with an attribution: the best, the middle and the worst samples of each subject by it."""
    names = dict.fromkeys(name for s in scored for name in s.record.attribution or ())
    for name in names:
        lines: list[tuple[str, tuple[Shown, ...]]] = []
        for s in scored:
            shares = (s.record.attribution or {}).get(name)
            result = result_of(s.record, name)
            count = PICKED[s.record.subject.modality]
            if shares is None or result is None or len(shares) < 3 * count or not has_worst(shares, result.better):
                continue
            samples = {sample.id: sample for sample in s.sides.fake.samples}
            ranked = worst_first(shares, result.better)
            middle = (len(ranked) - count) // 2
            for word, part in (
                ("best", ranked[-count:][::-1]),
                ("median", ranked[middle : middle + count]),
                ("worst", ranked[:count]),
            ):
                shown = tuple(show(samples[share.id], s.entrant.name) for share in part)
                lines.append((f"{s.entrant.name}: {word}", shown))
        if lines:
            each = PICKED[scored[0].record.subject.modality]
            rule = (
                f"By what each sample adds to {name}: the {each} that better it most, the {each} around the median and"
                f" the {each} that harm it most, in that order; equal ones by id. None was picked by hand."
            )
            yield Grid(f"Best, median and worst by {name}", rule, tuple(lines))
            return


def tradeoffs(comparison: Comparison) -> Iterator[Scatter]:
    """Precision against recall, for each instrument that gave both; the front holds who is beaten in both by none."""
    places = {column.name: k for k, column in enumerate(comparison.columns)}
    for name in places:
        if not name.startswith("prdc") or "precision" not in name or ".group=" in name:
            continue
        other = name.replace("precision", "recall")
        if other not in places:
            continue
        points = []
        for row in comparison.rows:
            up, across = row.cells[places[name]], row.cells[places[other]]
            if up.value is None or across.value is None:
                continue
            low, high = (up.value if end is None else end for end in (up.low, up.high))
            points.append(Point(row.name, across.value, up.value, low, high, row.role, across.low, across.high))
        if len(points) > 1:
            instrument = name.partition("@")[2].removesuffix(".precision")
            note = (
                "How many generated samples look real (precision) against how much of the real data they reach"
                f" (recall), under {instrument}. Further up and right is better; up and left is mode dropping."
            )
            yield Scatter(
                f"Precision against recall, {instrument}",
                note,
                "recall ↑",
                "precision ↑",
                tuple(points),
                front=_front(points),
            )


def _front(points: Sequence[Point]) -> tuple[str, ...]:
    """The candidates that no other candidate beats in one without losing in the other, by x."""
    own = [p for p in points if p.role == "candidate"]
    ahead = [p for p in own if not any(q.x >= p.x and q.y >= p.y and (q.x > p.x or q.y > p.y) for q in own)]
    return tuple(p.name for p in sorted(ahead, key=lambda p: (p.x, -p.y, p.name)))
