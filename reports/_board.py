"""The board as it is laid out: columns under the question they answer, boxes of words and strips, lettered notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, groupby

from evalkit.types import Cell, Column, Comparison

from ._numbers import column_cells, decimals, interval, number, settled
from ._words import ARROWS, one_line
from .svg import span, strip

# Which question a metric answers. A metric that is not listed stands under OTHER.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "Quality": (
        *("fid", "sfid", "kid", "cmmd", "mind", "inception_score", "classes.confidence", "prdc.precision"),
        *("prdc.density", "clipped.density", "realism", "ppl", "clip_score", "c2st", "mauve", "perplexity"),
        *("bits_per_byte", "bits_per_dim", "held_out_bits", "agreement"),
    ),
    "Diversity": (
        *("prdc.recall", "prdc.coverage", "prdc", "clipped.coverage", "clipped", "classes", "vendi"),
        *("lpips_diversity", "ms_ssim_diversity", "distinct", "self_bleu"),
    ),
    "Originality": ("memorization", "memorization_p", "authenticity", "ct", "mifid", "novelty"),
    "Detectability": ("auroc", "average_precision", "eer", "tpr_at_fpr"),
    "Cost": ("throughput", "latency", "energy", "flops"),
}
OTHER = "Other"


@dataclass(frozen=True)
class Heading:
    """One column's head: `metric` and `instrument` of its name, the arrow of its direction, its settings in words."""

    column: Column
    metric: str
    instrument: str
    arrow: str
    index: int

    @property
    def says(self) -> str:
        """What a reader asks of a number: direction, unit, how many samples, which interval."""
        sides = ", ".join(f"{n} {side}" for side, n in self.column.n.items())
        parts = (f"{self.column.better} is better", self.column.unit, sides, f"interval: {self.column.interval}")
        return "; ".join(part for part in parts if part and part != "interval: ")


@dataclass(frozen=True)
class Box:
    """One cell of the board in words, or the letter of the note that says why it is empty."""

    text: str
    interval: str = ""
    difference: str = ""
    mark: str = ""
    strip: str = ""
    value: float | None = None
    note: str = ""
    why: str = ""


@dataclass(frozen=True)
class Line:
    """One subject across the board."""

    name: str
    role: str
    n: int
    boxes: tuple[Box, ...]

    @property
    def compared(self) -> bool:
        """Whether the line is the best, or has a difference to the best, in some column."""
        return any(box.difference or box.mark == "best" for box in self.boxes)


@dataclass(frozen=True)
class Layout:
    """A comparison ready to be written down: headings grouped, one line a subject, notes below."""

    groups: tuple[tuple[str, int], ...]
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    notes: tuple[tuple[str, str], ...]

    @property
    def lead(self) -> int | None:
        """The place of the first column as given in which some candidate has a value: it leads the first screen."""
        ranked = sorted(range(len(self.headings)), key=lambda place: self.headings[place].index)
        filled = (p for p in ranked if any(x.role == "candidate" and x.boxes[p].value is not None for x in self.lines))
        return next(filled, None)


def question(name: str) -> str:
    """The question that the metric `name` (`metric[.part]@instrument[.part]`) answers."""
    metric, _, instrument = name.partition("@")
    base = metric.split(".")[0]
    for key in (f"{base}.{instrument.rpartition('.')[2]}", metric, base):
        for words, names in QUESTIONS.items():
            if key in names:
                return words
    return OTHER


def headings(comparison: Comparison) -> list[Heading]:
    """The columns' heads, those of one question side by side, otherwise in the order given."""
    order = [*QUESTIONS, OTHER]
    found = []
    for index, column in enumerate(comparison.columns):
        metric, _, instrument = column.name.partition("@")
        found.append(Heading(column, metric, instrument, ARROWS[column.better], index))
    return sorted(found, key=lambda head: order.index(question(head.column.name)))


def lay_out(comparison: Comparison) -> Layout:
    """Order, round and annotate the board of one comparison."""
    heads = headings(comparison)
    letters: dict[str, str] = {}
    fresh = note_letters()
    columns = []
    for head in heads:
        cells = [settled(row.cells[head.index]) for row in comparison.rows]
        for cell in cells:
            if cell.value is None and cell.why not in letters:
                letters[cell.why] = next(fresh)
        columns.append(_column(comparison, head, cells, letters))
    lines = tuple(
        Line(row.name, row.role, row.n, tuple(boxes[place] for boxes in columns))
        for place, row in enumerate(comparison.rows)
    )
    groups = tuple((words, len(list(same))) for words, same in groupby(question(head.column.name) for head in heads))
    return Layout(groups, tuple(heads), lines, tuple((letter, why) for why, letter in letters.items()))


def _column(comparison: Comparison, head: Heading, cells: list[Cell], letters: Mapping[str, str]) -> list[Box]:
    places = decimals(column_cells(comparison.rows, head.index))
    scale = span(column_cells(comparison.rows, head.index, drawn=True), head.column.better)
    leader = next((cell.value for cell in cells if cell.best), None)
    deltas = comparison.deltas.get(head.column.name, {})
    boxes = []
    for row, cell in zip(comparison.rows, cells, strict=True):
        if cell.value is None:
            boxes.append(Box("–", note=letters[cell.why], why=cell.why))
            continue
        said = f"{one_line(row.name, 40)}: {number(cell.value, places)} {interval(cell, places)}".rstrip()
        boxes.append(
            Box(
                text=number(cell.value, places),
                interval=interval(cell, places),
                difference="" if cell.best else _difference(deltas.get(row.name), places),
                mark="best" if cell.best else "tied" if cell.tied else "",
                strip=strip(cell, scale, leader, said, cell.best),
                value=cell.value,
            )
        )
    return boxes


def _difference(delta: Cell | None, places: int) -> str:
    if delta is None or (cell := settled(delta)).value is None:
        return ""
    return f"{number(cell.value, places, sign=True)} {interval(cell, places, sign=True)}".rstrip()


def note_letters() -> Iterator[str]:
    """a, b, ... z, a2, b2, ..."""
    for turn in count(1):
        for letter in "abcdefghijklmnopqrstuvwxyz":
            yield letter if turn == 1 else f"{letter}{turn}"
