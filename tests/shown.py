"""Boards for the tests of pages: one with every kind of exhibit and slice, a small one of each kind, large ones."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from evalkit.types import (
    Cell,
    Column,
    Comparison,
    Curves,
    Excluded,
    Exhibit,
    Grid,
    Leaderboard,
    Line,
    Marked,
    Matrix,
    MetricResult,
    Pair,
    Pairs,
    Picture,
    Point,
    Reference,
    Row,
    RunRecord,
    Scatter,
    Subject,
    Table,
)

from .apart import differences, standings
from .boards import board, cross_generator, digest, digits, images, png, quality_against_speed

REFUSAL = "throughput of gan is not comparable: device is cuda:0, the others have cpu"
TEXT = "An object is a sequence of the target list. If the value is not a string, the exception is raised."


def full() -> Leaderboard:
    """The board of `boards.board` with slices, a refused cell and the exhibits of detectors, texts and trade-offs."""
    base = board()
    pictures, texts = base.comparisons
    pictures = refused(sliced(pictures))
    pictures = dataclasses.replace(pictures, exhibits=(*pictures.exhibits, *detector_curves(), tradeoff()))
    texts = dataclasses.replace(texts, exhibits=(*texts.exhibits, *copies()))
    return dataclasses.replace(base, comparisons=(pictures, texts))


def refused(comparison: Comparison) -> Comparison:
    """The throughput of gan stands under another protocol."""
    place = [column.name for column in comparison.columns].index("throughput")
    rows = tuple(
        dataclasses.replace(
            row,
            cells=tuple(
                Cell(None, why="not comparable: another protocol (see below)")
                if k == place and row.name == "gan"
                else c
                for k, c in enumerate(row.cells)
            ),
        )
        for row in comparison.rows
    )
    return dataclasses.replace(comparison, rows=rows, refused=(*comparison.refused, REFUSAL))


def sliced(comparison: Comparison) -> Comparison:
    """The first column again for three classes; one subject lacks one of them."""
    first = comparison.columns[0]
    columns = tuple(
        dataclasses.replace(first, name=f"{first.name}.group={k}", n={"real": 90, "fake": 60 + k}) for k in range(3)
    )
    rows = []
    for row in comparison.rows:
        value = row.cells[0].value or 0.0
        cells = [Cell(value + k, value + k - 0.5, value + k + 0.5) for k in range(3)]
        if row.name == "vae":
            cells[2] = Cell(None, why="no generated sample of group '2'")
        rows.append(dataclasses.replace(row, cells=(*row.cells, *cells)))
    return dataclasses.replace(comparison, columns=(*comparison.columns, *columns), rows=tuple(rows))


def detector_curves() -> tuple[Curves, ...]:
    """ROC with powers of ten, DET with probits, reliability with counts."""
    roc = tuple((k / 200, (k / 200) ** 0.3) for k in range(201))
    det = tuple((x, 1 - y) for x, y in roc if 0 < x < 1 and 0 < y < 1)
    bins = ((0.05, 0.1), (0.3, 0.25), (0.7, 0.8), (0.95, 0.9))
    return (
        Curves("ROC of cnn", "note", "false positive rate", "true positive rate", (Line("gan", roc),), True, "log"),
        Curves(
            "DET of cnn", "note", "false positive rate", "miss rate", (Line("gan", det),), False, "probit", "probit"
        ),
        Curves(
            "Reliability of cnn",
            "note",
            "mean P(fake)",
            "share of fakes",
            (Line("gan", bins, "calibration error 0.06", (120, 30, 45, 9)),),
            True,
        ),
    )


def tradeoff() -> Scatter:
    points = (
        Point("diffusion", 0.903, 0.921, 0.904, 0.938, "candidate", 0.884, 0.922),
        Point("gan", 0.641, 0.934, 0.918, 0.95, "candidate", 0.61, 0.672),
        Point("vae", 0.588, 0.812, 0.788, 0.836, "candidate", 0.558, 0.618),
    )
    return Scatter("Precision against recall", "", "recall ↑", "precision ↑", points, front=("gan", "diffusion"))


def copies() -> tuple[Exhibit, ...]:
    span = ((0, 43),)
    grid = Grid("Marked texts", "The first ones.", (("lm", (Marked(TEXT, span), TEXT)),))
    return grid, Pairs(
        "Copied passages", "The longest.", (("lm", (Pair(Marked(TEXT, span), TEXT, "9 words in a row"),)),)
    )


def tiny() -> Leaderboard:
    """One of everything that holds text, as small as it can be: for pages made by the hundred."""
    found = {"gan": (4.0, 0.5), "vae": (4.2, 0.5)}
    column = Column("fid@pixels", "lower", "distance", digest("p"), {"real": 9, "fake": 8}, "jackknife")
    group = dataclasses.replace(column, name="fid@pixels.group=cat")
    cells = {
        name: Cell(value, value - half, value + half, name == "gan", name == "vae")
        for name, (value, half) in found.items()
    }
    rows = tuple(Row(name, "candidate", (cell, cell), 8) for name, cell in cells.items())
    rows += (Row("old", "candidate", (Cell(None, why="not measured"), Cell(None, why="none of it")), 8),)
    comparison = Comparison(
        modality="image",
        title="Images",
        reference=Reference("real", 9, digest("r")),
        columns=(column, group),
        rows=rows,
        best={column.name: "gan"},
        ties={column.name: ("vae",)},
        deltas={},
        refused=("fid@pixels of old is not comparable: n is 9, the others have 8",),
        verdict=("gan leads.", "vae follows."),
        warnings=("few samples",),
        excluded=(("gan", Excluded("a.png", "truncated")),),
        exhibits=_one_of_each(),
        standings={column.name: standings(found, "lower")},
        differences={column.name: differences(found, "lower")},
    )
    result = MetricResult(
        *("fid@pixels", 4.0, 3.5, 4.5, 0.95, "jackknife", "lower", "distance", {"real": 9}, 1, column.protocol),
        terms={"metric": "fid", "n": {"real": 9}},
        seconds=0.1,
    )  # fmt: skip
    environment = {"device": "cpu", "torch": "2.15"}
    record = RunRecord(Subject("gan", "image", "runs/gan", 8, digest("g")), None, None, 0, (result,), None, environment)
    provenance = {"command": "evalkit compare", "seed": "0"}
    return Leaderboard("Comparison", (comparison,), (record,), provenance)


def _one_of_each() -> tuple[Exhibit, ...]:
    spot = Picture(png([[0, 255], [255, 0]]), "gan: a.png, cat")
    line = Line("gan", ((0.1, 0.2), (0.9, 0.8)), "AUROC 0.9", (3, 4))
    return (
        Grid("Samples", "The first.", (("gan", (spot, TEXT, Marked(TEXT, ((3, 9),)))),)),
        Pairs(
            "Neighbours",
            "The nearest.",
            (("gan", (Pair(spot, spot, "distance 0"), Pair("a", Marked("b", ((0, 1),)), "c"))),),
        ),
        Curves("Curves", "note", "x", "y", (line,), True),
        Scatter(
            "Scatter",
            "note",
            "x",
            "y",
            (Point("gan", 1.0, 2.0, 1.5, 2.5), Point("no", float("nan"), 1, 1, 1)),
            front=("gan",),
        ),
        Matrix("Matrix", "note", "row", "column", ("gan",), ("vae", "old"), ((Cell(0.7), Cell(None, why="none")),)),
        Table("Table", "note", ("class", "share"), (("cat", "10 %"),)),
    )


def many(subjects: int, pictures: int, metrics: int = 12) -> Leaderboard:
    """A board of so many candidates, so many thumbnails of 96 pixels a side in all, and so many columns."""
    rng = random.Random(0)
    columns = tuple(
        Column(f"fid@net{k}", "lower", "distance", digest(str(k)), {"real": 9999, "fake": 5000}, "jackknife")
        for k in range(metrics)
    )
    names = [f"generator {k:03d}" for k in range(subjects)]
    found = [{name: (rng.uniform(2, 90), rng.uniform(0.2, 2)) for name in names} for _ in columns]
    rows = tuple(
        Row(
            name,
            "candidate",
            tuple(Cell(f[name][0], f[name][0] - f[name][1], f[name][0] + f[name][1]) for f in found),
            5000,
        )
        for name in names
    )
    shown = 30  # who is compared with whom beyond that is for the JSON
    parts = [{name: f[name] for name in names[:shown]} for f in found]
    lines = _thumbnails(names, pictures)
    base = images()
    return Leaderboard(
        "Many",
        (
            dataclasses.replace(
                base,
                columns=columns,
                rows=rows,
                best={},
                ties={},
                deltas={},
                exhibits=(
                    Grid("Samples", "The first ones.", lines),
                    quality_against_speed(),
                    cross_generator(),
                    *detector_curves(),
                ),
                standings={c.name: standings(f, "lower") for c, f in zip(columns, parts, strict=True)},
                differences={c.name: differences(f, "lower") for c, f in zip(columns, parts, strict=True)},
            ),
        ),
        (),
        {"command": "evalkit compare"},
    )


def _thumbnails(names: Sequence[str], pictures: int) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    each = max(1, pictures // len(names))
    return tuple(
        (name, tuple(photograph(each * i + k) for k in range(each)))
        for i, name in enumerate(names)
        if each * i < pictures
    )


def photograph(seed: int) -> Picture:
    """A WebP of 96 x 96 pixels as large as a thumbnail of a photograph is: some smooth shades with a little noise."""
    import numpy as np

    from evalkit.thumbnails import thumbnail

    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3)).repeat(16, axis=0).repeat(16, axis=1)
    return thumbnail((coarse * 0.9 + rng.integers(0, 25, (128, 128, 3))).astype(np.uint8), f"sample {seed}")


def small_digits(subjects: int, pictures: int) -> Leaderboard:
    """A board of so many candidates with so many digits each."""
    base = many(subjects, 1)
    comparison = base.comparisons[0]
    grid = Grid("Samples", "The first ones.", tuple((row.name, digits(row.name, pictures)) for row in comparison.rows))
    return dataclasses.replace(
        base, comparisons=(dataclasses.replace(comparison, exhibits=(*comparison.exhibits, grid)),)
    )
