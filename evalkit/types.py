"""The nouns: what travels down the line, as frozen data and Protocols.

One sentence carries the design: every number is `metric@instrument` of a sample set against a reference, and an
instrument is anything that turns one sample into one row of numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Media: TypeAlias = "npt.NDArray[np.uint8] | str"

Modality: TypeAlias = Literal["image", "text"]
Better: TypeAlias = Literal["lower", "higher"]
Role: TypeAlias = Literal["candidate", "floor", "ceiling"]


# ---------------------------------------------------------------------------------------------- samples


@dataclass(frozen=True)
class Sample:
    """One image or text: `load()` decodes it (image: uint8 [H, W, 3]; text: str) or raises UnreadableSample.

    `digest` is the sha256 of its content as stored, never of its name. `group` is a label or slice, `condition` the
    prompt it was made for.
    """

    id: str
    digest: str
    load: Callable[[], Media]
    group: str | None = None
    condition: str | None = None


@runtime_checkable
class SampleSet(Protocol):
    """Finite, ordered, re-readable samples of one modality; `digest` is of their content in order."""

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def digest(self) -> str: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Sample]: ...


class Batch(NamedTuple):
    """What a generator yields: uint8 images [B, H, W, 3] or B texts, with the label of each where it has one."""

    items: npt.NDArray[np.uint8] | Sequence[str]
    groups: Sequence[str] | None = None


# ---------------------------------------------------------------------------------------------- instruments


@runtime_checkable
class Extractor(Protocol):
    """An instrument: `prepare` one sample on the CPU, then call one batch on the device -> float32 rows [B, D].

    `heads` names slices of a row by meaning: "features" (a point in a feature space), "logits" (class scores),
    "likelihood" (nats, tokens, bytes), "p_fake" (one probability). `digest` covers weights and preparation.
    Prepared tensors of one shape are batched together, so a row must not depend on its batch.
    """

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def digest(self) -> str: ...
    @property
    def heads(self) -> Mapping[str, slice]: ...
    def prepare(self, sample: Media) -> Tensor: ...
    def to(self, device: str) -> None: ...
    def __call__(self, batch: Tensor) -> Tensor: ...


@runtime_checkable
class Detector(Extractor, Protocol):
    """A judge: an instrument whose row is [P(fake)]; between the two thresholds its verdict is *uncertain*.

    `recipe` is the digest of architecture and settings before fitting; `digest` covers the fitted weights too.
    `save` writes `model.safetensors` and `card.json` into a folder, `load` reads them back.
    """

    @property
    def recipe(self) -> str: ...
    @property
    def threshold(self) -> tuple[float, float]: ...
    @property
    def trained_on(self) -> str: ...
    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class Control:
    """A declared knob of a generator: `--set name=value`; numbers outside [low, high] are refused."""

    name: str
    default: int | float | str
    says: str
    low: float | None = None
    high: float | None = None


@runtime_checkable
class Generator(Protocol):
    """A model that draws samples: same seed and same n, same samples; `recipe` is the digest of family and controls.

    `fit` learns from a sample set, `save` writes `model.safetensors` and `card.json`, `load` reads them back.
    """

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def role(self) -> Role: ...
    @property
    def recipe(self) -> str: ...
    @property
    def trained_on(self) -> str: ...
    def fit(self, samples: SampleSet, *, seed: int, device: str = "cpu", progress: Progress | None = None) -> None: ...
    def sample(self, n: int, seed: int) -> Iterator[Batch]: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Where a station reports how far it is; the caller decides what to show."""

    def start(self, task: str, total: int) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True)
class Excluded:
    """A sample that could not be read, and why."""

    id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of one instrument for one sample set: float32 [N, D]; row i belongs to sample i."""

    rows: Tensor
    extractor: str
    samples: SampleSet
    heads: Mapping[str, slice] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def head(self, name: str) -> Features:
        """The columns that mean `name`; all of them when the instrument does not name its columns."""
        part = self.heads.get(name)
        return self if part is None else Features(self.rows[:, part], self.extractor, self.samples)


@dataclass(frozen=True)
class Timing:
    """How long each call took to make `sizes[i]` samples: warm-up left out, device synchronised."""

    seconds: tuple[float, ...]
    sizes: tuple[int, ...]
    device: str
    peak_bytes: int


# ---------------------------------------------------------------------------------------------- metrics

ASKS = ("real", "fake", "train", "prompts", "samples", "timing")


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval and the name of the method that made them."""

    value: float
    low: float
    high: float
    method: str
    level: float = 0.95


Value: TypeAlias = "float | Estimate"


@dataclass(frozen=True)
class Metric:
    """A pure function of rows with the facts declared beside it; made by the `metric` decorator."""

    name: str
    fn: Callable[..., Value | Mapping[str, Value]]
    asks: tuple[str, ...]
    on: Mapping[str, str | None]
    reads: str
    better: Better
    unit: str
    version: int
    min_n: int
    params: Mapping[str, Any]
    resample: str

    def __call__(self, *args: Any, **settings: Any) -> Value | Mapping[str, Value]:
        return self.fn(*args, **settings)


def metric(
    *,
    on: str | Mapping[str, str | None] | None,
    better: Better,
    unit: str,
    version: int = 1,
    reads: str = "features",
    min_n: int = 2,
    resample: str = "jackknife",
) -> Callable[[Callable[..., Value | Mapping[str, Value]]], Metric]:
    """Make a Metric of a function whose positional parameters say what it asks for.

    on: the default instrument, per modality where it differs; None where no instrument is needed.
    reads: the head of a row it uses. min_n: the fewest samples a side may have.
    resample: how the caller makes an interval when the function returns a bare number.
    Raises TypeError at import when a parameter is not one of `real fake train prompts samples timing`.
    """

    def make(fn: Callable[..., Value | Mapping[str, Value]]) -> Metric:
        asks, params = [], {}
        for p in inspect.signature(fn).parameters.values():
            if p.kind is p.KEYWORD_ONLY:
                params[p.name] = p.default
            elif p.name in ASKS:
                asks.append(p.name)
            else:
                raise TypeError(f"metric {fn.__name__!r} asks for {p.name!r}; it may ask for {', '.join(ASKS)}")
        where = on if isinstance(on, Mapping) else {"image": on, "text": on}
        return Metric(
            name=fn.__name__,
            fn=fn,
            asks=tuple(asks),
            on=MappingProxyType(dict(where)),
            reads=reads,
            better=better,
            unit=unit,
            version=version,
            min_n=min_n,
            params=MappingProxyType(params),
            resample=resample,
        )

    return make


@dataclass(frozen=True)
class MetricResult:
    """One number of a record; `protocol` is the sha256 of `terms`, everything that must be equal to compare it."""

    name: str
    value: float
    low: float
    high: float
    level: float
    interval: str
    better: Better
    unit: str
    n: Mapping[str, int]
    version: int
    protocol: str
    terms: Mapping[str, Any]
    seconds: float


# ---------------------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class Subject:
    """Who was scored: its name, where its samples came from, how many and their digest."""

    name: str
    modality: Modality
    source: str
    n: int
    digest: str
    role: Role = "candidate"


@dataclass(frozen=True)
class Reference:
    """What it was scored against."""

    name: str
    n: int
    digest: str


@dataclass(frozen=True)
class RunRecord:
    """Everything one run of one subject found; written once as strict JSON, schema `evalkit.run/1`."""

    subject: Subject
    reference: Reference | None
    train: Reference | None
    seed: int
    results: tuple[MetricResult, ...]
    timing: Mapping[str, Any] | None
    environment: Mapping[str, Any]
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()
    schema: str = "evalkit.run/1"


# ---------------------------------------------------------------------------------------------- comparison


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
class Grid:
    """Samples side by side, one line a subject; `rule` says how they were chosen."""

    title: str
    rule: str
    lines: tuple[tuple[str, tuple[Picture | str, ...]], ...]


@dataclass(frozen=True)
class Pair:
    """A sample beside its nearest neighbour in the training data."""

    sample: Picture | str
    neighbour: Picture | str
    says: str


@dataclass(frozen=True)
class Pairs:
    """Nearest-neighbour pairs, one line a subject."""

    title: str
    rule: str
    lines: tuple[tuple[str, tuple[Pair, ...]], ...]


@dataclass(frozen=True)
class Line:
    """One curve: points (x, y) in order."""

    name: str
    points: tuple[tuple[float, float], ...]
    says: str = ""


@dataclass(frozen=True)
class Curves:
    """Curves on one pair of axes."""

    title: str
    note: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    diagonal: bool = False


@dataclass(frozen=True)
class Point:
    """One subject in a plane, with the interval of its height."""

    name: str
    x: float
    y: float
    low: float
    high: float
    role: Role = "candidate"


@dataclass(frozen=True)
class Scatter:
    """Subjects in a plane, such as quality against speed."""

    title: str
    note: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]
    log_x: bool = False
    log_y: bool = False


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


Exhibit: TypeAlias = "Grid | Pairs | Curves | Scatter | Matrix | Table"


@dataclass(frozen=True)
class Comparison:
    """Records of one modality side by side: every empty cell has its reason, every refusal its words."""

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


@dataclass(frozen=True)
class Leaderboard:
    """What a report draws: one comparison a modality, and where every number came from."""

    title: str
    comparisons: tuple[Comparison, ...]
    records: tuple[RunRecord, ...]
    provenance: Mapping[str, str]
    schema: str = "evalkit.leaderboard/1"
