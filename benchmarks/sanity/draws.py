"""The samples of each situation: real and generated rows, drawn for every setting on the way through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.float64]
Step: TypeAlias = tuple[float, Rows, Rows]  # setting, real [N, D], fake [M, D]

OVERLAP = 0.2  # share of the volume that the shifted cubes have in common
REACHES = {1: 6.0, 8: 3.0, 64: 1.0}  # how far the mean moves, by dimension
DECADES = {1: 3.0, 8: 1.0, 64: 0.5}  # how far the standard deviation moves, in powers of ten
WIDTHS = {1: 1 / 6, 8: 1 / 3, 64: 1.0}  # of each of ten modes on the diagonal from 0 to 10
MODES = 10
KEPT = 5
# Ten places in the plane, far apart: five are real modes, the rest are there to be invented.
PLACES = np.array(
    [(5, -4), (5, -14), (-16, 9), (-2, 12), (12, -5), (-25, 14), (17, -3), (-5, -7), (9, 1), (-5, -17)], dtype=float
)


@dataclass(frozen=True)
class Size:
    """How thoroughly to look: rows a side, points of a sweep, dimensions of each kind, and the largest sizes."""

    n: int = 1000
    points: int = 9
    dims: tuple[int, ...] = (1, 8, 64)
    spheres: tuple[int, ...] = (2, 16, 128)
    sizes: tuple[int, ...] = (100, 316, 1000, 3162, 10_000)
    extra: tuple[int, ...] = (1, 3, 10, 31, 100, 316, 1000)


def means(d: int, size: Size, g: np.random.Generator, outlier: str = "") -> Iterator[Step]:
    """The generated mean moves past the real one; `outlier`: the side with one sample at the far end."""
    real, far = g.normal(size=(size.n, d)), np.full((1, d), REACHES[d])
    for mean in np.linspace(-REACHES[d], REACHES[d], size.points):
        fake = g.normal(mean, size=(size.n, d))
        yield (
            mean,
            np.concatenate([real, far]) if outlier == "real" else real,
            np.concatenate([fake, far]) if outlier == "fake" else fake,
        )


def means_beside_pareto(size: Size, g: np.random.Generator) -> Iterator[Step]:
    """The mean moves in one column; the other has a tail so heavy that its variance is infinite."""

    def with_tail(column: Rows) -> Rows:
        return np.stack([column, 1 + g.pareto(1.01, size=size.n)], axis=1)

    real = with_tail(g.normal(size=size.n))
    for mean in np.linspace(-6, 6, size.points):
        yield mean, real, with_tail(g.normal(mean, size=size.n))


def deviations(d: int, size: Size, g: np.random.Generator) -> Iterator[Step]:
    """The generated samples go from far too narrow to far too wide; 1 is right."""
    real = g.normal(size=(size.n, d))
    for std in np.logspace(-DECADES[d], DECADES[d], size.points):
        yield std, real, g.normal(scale=std, size=(size.n, d))


def _on_diagonal(d: int, shares: Rows, n: int, g: np.random.Generator) -> Rows:
    places = np.linspace(0, 10, MODES)[g.choice(MODES, size=n, p=shares / shares.sum())]
    return places[:, None] + WIDTHS[d] * g.normal(size=(n, d))


def drops_together(d: int, size: Size, g: np.random.Generator) -> Iterator[Step]:
    """Nine of ten modes fade out at once until only the first is generated."""
    real = _on_diagonal(d, np.ones(MODES), size.n, g)
    for gone in (0.0, 0.25, 0.5, 0.75, 0.9, 0.96, 1.0):
        yield gone, real, _on_diagonal(d, np.where(np.arange(MODES) == 0, 1.0, 1 - gone), size.n, g)


def drops_in_turn(d: int, size: Size, g: np.random.Generator) -> Iterator[Step]:
    """One mode after the other is no longer generated until only the first is left."""
    real = _on_diagonal(d, np.ones(MODES), size.n, g)
    for gone in range(MODES):
        yield gone, real, _on_diagonal(d, (np.arange(MODES) < MODES - gone).astype(float), size.n, g)


def invents(size: Size, g: np.random.Generator) -> Iterator[Step]:
    """Of ten places five are real modes; generated are the first, the first two, ..., all ten."""

    def around(modes: int) -> Rows:
        return PLACES[g.integers(modes, size=size.n)] + 0.25 * g.normal(size=(size.n, 2))

    real = around(KEPT)
    for modes in range(1, len(PLACES) + 1):
        yield modes, real, around(modes)


def one_for_two(d: int, size: Size, g: np.random.Generator) -> Iterator[Step]:
    """Two real modes move apart; generated is one Gaussian as wide as both together."""
    for gap in np.linspace(0, 5, size.points):
        centres = g.choice([-0.5 * gap, 0.5 * gap], size=(size.n, 1))
        fake = g.normal(scale=np.sqrt(1 + gap**2), size=(size.n, d))
        yield gap, centres + g.normal(size=(size.n, d)), fake


def spheres(d: int, size: Size, g: np.random.Generator) -> Iterator[Step]:
    """Both sides lie on the surface of a sphere; the generated one grows through the real one, of radius 1."""

    def surface(radius: float) -> Rows:
        rows: Rows = g.normal(size=(size.n, d))
        rows *= radius / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    real = surface(1.0)
    for radius in np.linspace(0.1, 1.9, size.points):
        yield radius, real, surface(radius)


def cubes(d: int, size: Size, g: np.random.Generator, real_too: bool) -> Iterator[Step]:
    """Two cubes that share a fifth of their volume; more and more samples, on both sides or generated ones only."""
    shift = 1 - OVERLAP ** (1 / d)
    real = g.uniform(size=(size.n, d))
    for n in size.sizes:
        yield n, g.uniform(size=(n, d)) if real_too else real, shift + g.uniform(size=(n, d))


def sphere_and_torus(real_is: str, size: Size, g: np.random.Generator) -> Iterator[Step]:
    """A ball in the hole of a ring, which it does not touch; one is real, the other is generated, ever more of it."""

    def ball(n: int) -> Rows:
        rows: Rows = g.normal(size=(n, 3))
        rows *= 0.8 * g.uniform(size=(n, 1)) ** (1 / 3) / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    def ring(n: int) -> Rows:
        around, along = g.uniform(0, 2 * np.pi, size=(2, n))
        thick = 0.1 * np.sqrt(g.uniform(size=n))
        out = 1 + thick * np.cos(around)
        return np.stack([out * np.cos(along), out * np.sin(along), thick * np.sin(around)], axis=1)

    real = ball(size.n) if real_is == "sphere" else ring(size.n)
    for n in size.sizes:
        yield n, real, ring(n) if real_is == "sphere" else ball(n)


def scales(size: Size, g: np.random.Generator) -> Iterator[Step]:
    """Two columns, far apart in the first; the second is measured in ever larger units on both sides."""
    for unit in np.logspace(-3, 3, size.points):
        rows = g.normal(size=(2, size.n, 2)) * [1, unit]
        yield unit, rows[0], rows[1] + [6, 0]


def one_disjoint(size: Size, g: np.random.Generator) -> Iterator[Step]:
    """Far apart in one column, alike in ever more others."""
    for extra in size.extra:
        real, fake = g.normal(size=(2, size.n, extra + 1))
        fake[:, 0] += 6
        yield extra, real, fake


def grids(discrete: str, size: Size, g: np.random.Generator) -> Iterator[Step]:
    """One side is rounded to whole numbers, of which there are ever more."""
    for scale in np.logspace(0, 3, size.points):
        real, fake = scale * g.normal(size=(2, size.n, 1))
        yield scale, np.round(real) if discrete == "real" else real, np.round(fake) if discrete == "fake" else fake
