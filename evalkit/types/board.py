"""Records side by side, and everything a report draws of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .line import Excluded, Modality, Role
from .metrics import Better
from .records import Reference, RunRecord


@dataclass(frozen=True)
class Column:
    """A metric that several subjects share under one protocol."""

    name: str
    better: Better
    unit: str
    protocol: str
    n: Mapping[str, int]
    interval: str


@dataclass(frozen=True)
class Cell:
    """One number on the board, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False
    tied: bool = False
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One subject's line on the board; cells in the order of the columns."""

    name: str
    role: Role
    cells: tuple[Cell, ...]
    n: int


@dataclass(frozen=True)
class Picture:
    """A small image as a data URI, with the words that stand for it."""

    uri: str
    alt: str


@dataclass(frozen=True)
class Marked:
    """A text with marked pieces; spans: (start, end) of characters, in order, none reaching into another."""

    text: str
    spans: tuple[tuple[int, int], ...]


Shown: TypeAlias = "Picture | Marked | str"


@dataclass(frozen=True)
class Grid:
    """Samples side by side, one line a subject; `rule` says how they were chosen."""

    title: str
    rule: str
    lines: tuple[tuple[str, tuple[Shown, ...]], ...]


@dataclass(frozen=True)
class Pair:
    """A sample with what is said of it, beside its nearest neighbour in the training data where that is the point."""

    sample: Shown
    neighbour: Shown | None
    says: str


@dataclass(frozen=True)
class Pairs:
    """Samples with their words, one line a subject: nearest-neighbour pairs, or samples that cost most."""

    title: str
    rule: str
    lines: tuple[tuple[str, tuple[Pair, ...]], ...]


AxisScale: TypeAlias = Literal["linear", "log", "probit"]


@dataclass(frozen=True)
class Line:
    """One curve: points (x, y) in order; counts: how many samples each point stands for, where that varies."""

    name: str
    points: tuple[tuple[float, float], ...]
    says: str = ""
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Curves:
    """Curves on one pair of axes; diagonal: also the line of x = y; x_scale, y_scale: what an axis counts in.

    "log" counts in powers of ten and draws 0 at its low end; "probit" in standard deviations, for rates in (0, 1).
    """

    title: str
    note: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    diagonal: bool = False
    x_scale: AxisScale = "linear"
    y_scale: AxisScale = "linear"


@dataclass(frozen=True)
class Point:
    """One subject in a plane, with the interval of its height and, where it has one, of its breadth."""

    name: str
    x: float
    y: float
    low: float
    high: float
    role: Role = "candidate"
    left: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class Scatter:
    """Subjects in a plane, such as quality against speed; front: names of those that no other beats in both, by x."""

    title: str
    note: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]
    log_x: bool = False
    log_y: bool = False
    front: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """A square or oblong of numbers coloured between `worst` and `neutral`, such as the cross-generator AUROC."""

    title: str
    note: str
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    neutral: float = 0.5
    extreme: float = 1.0


@dataclass(frozen=True)
class Table:
    """Words and numbers in rows, already formatted."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Standpoint: TypeAlias = Literal["better", "worse", "inconclusive"]
Exhibit: TypeAlias = "Grid | Pairs | Curves | Scatter | Matrix | Table"


@dataclass(frozen=True)
class Standing:
    """Where a candidate stands in one column: the ranks it may have, 1 = best, and the letters of its tie groups.

    best, worst: the range that holds its true rank, for all candidates of the column at once, with 95 % confidence.
    letters: two candidates that share one are not told apart.
    """

    best: int
    worst: int
    letters: str


@dataclass(frozen=True)
class Difference:
    """How far subject `one` lies from subject `other` in a column: value = one - other, with its own 95 % interval.

    p: two-sided, of no difference; adjusted: for the number of differences that are looked at together. verdict: of
    `one` against `other`, by the adjusted p. settles_at: so many samples a side would tell a difference of this size
    with 80 % power; None where it is told already, or where none would.
    """

    one: str
    other: str
    value: float
    low: float
    high: float
    p: float
    adjusted: float
    verdict: Standpoint
    settles_at: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Records of one modality side by side: every empty cell has its reason, every refusal its words.

    standings: by column and candidate. differences: by column, of pairs of subjects. adjustment: how their p-values
    are adjusted, "holm", "bh" or "none".
    """

    modality: Modality
    title: str
    reference: Reference | None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    best: Mapping[str, str]
    ties: Mapping[str, tuple[str, ...]]
    deltas: Mapping[str, Mapping[str, Cell]]
    refused: tuple[str, ...]
    verdict: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    excluded: tuple[tuple[str, Excluded], ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    standings: Mapping[str, Mapping[str, Standing]] = field(default_factory=dict)
    differences: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)
    adjustment: str = "holm"


@dataclass(frozen=True)
class Leaderboard:
    """What a report draws: one comparison a modality, and where every number came from."""

    title: str
    comparisons: tuple[Comparison, ...]
    records: tuple[RunRecord, ...]
    provenance: Mapping[str, str]
    schema: str = "evalkit.leaderboard/1"


@dataclass(frozen=True)
class Study:
    """What one protocol found of detectors or sets: sentences first, then exhibits; `data` is the same as plain JSON.

    `schema` names the protocol, such as `evalkit.matrix/1`; `data` holds every number with interval and n.
    """

    schema: str
    title: str
    findings: tuple[str, ...]
    exhibits: tuple[Exhibit, ...]
    data: Mapping[str, Any]
    provenance: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    excluded: tuple[tuple[str, Excluded], ...] = ()
