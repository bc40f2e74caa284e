"""The board as it is laid out: columns under the question they answer, boxes of words and strips, lettered notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby

from evalkit.types import Cell, Column, Comparison, Standing

from ._numbers import column_cells, decimals, interval, number, settled
from ._words import ARROWS, anchors
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
# A number of one group of the samples, such as fid@inception.group=cat: shown as slices, not as a column of its own.
GROUP = ".group="
# More lines than this have no strips: a page of thousands of subjects would be tens of megabytes of drawings.
MOST_STRIPS = 400
_NOT_COMPARABLE = " is not comparable: "


@dataclass(frozen=True)
class Heading:
    """One column's head: `metric` and `instrument` of its name, the arrow of its direction, its settings in words."""

    column: Column
    metric: str
    instrument: str
    arrow: str
    index: int
    anchor: str

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
    rank: str = ""
    letters: str = ""
    refused: bool = False


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
    slices: int

    @property
    def has_ranks(self) -> bool:
        """Whether some candidate has a range of ranks."""
        return any(box.rank for line in self.lines for box in line.boxes)

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


def headings(comparison: Comparison, prefix: str = "") -> list[Heading]:
    """The columns' heads, those of one question side by side, otherwise in the order given; slices are left out."""
    order = [*QUESTIONS, OTHER]
    names = anchors(prefix or comparison.modality, (column.name for column in comparison.columns))
    found = []
    for index, (column, anchor) in enumerate(zip(comparison.columns, names, strict=True)):
        metric, _, instrument = column.name.partition("@")
        if GROUP not in column.name:
            found.append(Heading(column, metric, instrument, ARROWS[column.better], index, anchor))
    return sorted(found, key=lambda head: order.index(question(head.column.name)))


def lay_out(comparison: Comparison, prefix: str = "") -> Layout:
    """Order, round and annotate the board of one comparison; prefix: how the ids of its columns begin."""
    heads = headings(comparison, prefix)
    refusals = _refusals(comparison)
    letters: dict[str, str] = {}
    fresh = note_letters()
    columns = []
    for head in heads:
        cells = [_explained(comparison, head, place, refusals) for place in range(len(comparison.rows))]
        for cell in cells:
            if cell.value is None and cell.why not in letters:
                letters[cell.why] = next(fresh)
        columns.append(_column(comparison, head, cells, letters))
    lines = tuple(
        Line(row.name, row.role, row.n, tuple(boxes[place] for boxes in columns))
        for place, row in enumerate(comparison.rows)
    )
    groups = tuple((words, len(list(same))) for words, same in groupby(question(head.column.name) for head in heads))
    notes = tuple((letter, why) for why, letter in letters.items())
    return Layout(groups, tuple(heads), lines, notes, len(comparison.columns) - len(heads))


def _refusals(comparison: Comparison) -> dict[tuple[str, str], str]:
    """(column, subject) -> why its number may not stand in the column, for the refusals that name both."""
    known = {(column.name, row.name) for column in comparison.columns for row in comparison.rows}
    found = {}
    for words in comparison.refused:
        head, said, _ = words.partition(_NOT_COMPARABLE)
        column, _, subject = head.partition(" of ")
        if said and (column, subject) in known:
            found[column, subject] = words
    return found


def _explained(comparison: Comparison, head: Heading, place: int, refusals: Mapping[tuple[str, str], str]) -> Cell:
    """The cell as it may be printed, with the refusal's own words where its number was refused."""
    row = comparison.rows[place]
    cell = settled(row.cells[head.index])
    words = refusals.get((head.column.name, row.name))
    return cell if cell.value is not None or words is None else Cell(None, why=words)


def rank_words(standing: Standing | None) -> str:
    """The ranks a subject may have, such as "1–3"; empty where none is known."""
    if standing is None:
        return ""
    return str(standing.best) if standing.best == standing.worst else f"{standing.best}–{standing.worst}"


def _column(comparison: Comparison, head: Heading, cells: Sequence[Cell], letters: Mapping[str, str]) -> list[Box]:
    places = decimals(column_cells(comparison.rows, head.index))
    scale = span(column_cells(comparison.rows, head.index, drawn=True), head.column.better)
    leader = next((cell.value for cell in cells if cell.best), None)
    deltas = comparison.deltas.get(head.column.name, {})
    standings = comparison.standings.get(head.column.name, {})
    is_drawn = len(cells) <= MOST_STRIPS
    boxes = []
    for row, cell in zip(comparison.rows, cells, strict=True):
        if cell.value is None:
            refused = _NOT_COMPARABLE in cell.why or cell.why.startswith("not comparable")
            boxes.append(Box("–", note=letters[cell.why], why=cell.why, refused=refused))
            continue
        standing = standings.get(row.name)
        boxes.append(
            Box(
                text=number(cell.value, places),
                interval=interval(cell, places),
                difference="" if cell.best else _difference(deltas.get(row.name), places),
                mark="best" if cell.best else "tied" if cell.tied else "",
                strip=strip(cell, scale, leader, cell.best) if is_drawn else "",
                value=cell.value,
                rank=rank_words(standing),
                letters="" if standing is None else standing.letters,
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
