"""Judge by what is left when the scene is filtered away: how neighbouring residuals go together, in light and colour.

A high-pass filter takes the scene away and leaves noise, rounding, compression and what a generator put in its place.
Three readings of it, 72 columns, few enough for a hundred samples a side:

- Co-occurrences (Fridrich & Kodovsky 2012, sections II.B to II.D; Cozzolino et al. 2014, section 2): the residuals of
  three linear filters of the luma, divided by a step, rounded, cut off at +-2, and counted in neighbouring pairs, along
  the filter and across it. A pair, its reverse and its negative are one: 25 cells become 9. As square roots, which is
  Hellinger's distance between histograms (Cozzolino et al. 2014, section 3, use it for the same features).
- Spread, peakedness and lopsidedness of the residual in luma and both chroma, on the image and on its 2 x 2 means.
- How far the residuals of red, green and blue agree: a camera makes each colour from its neighbours, a generator makes
  all of them at once (Li et al. 2020, section 3, find its traces in chroma).

The step of a filter is the median size of what it leaves of the real training images, at least one grey level, so that
photographs of fine noise and drawings of sixteen levels both fill the cells. Nothing is resized; of images over 1,024
pixels a side the centre is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import UnreadableSample
from evalkit.extractors.area import image_of
from evalkit.types import SampleSet

from ._fit import collect
from ._judge import LinearJudge
from ._linear import linear_tensors

if TYPE_CHECKING:
    from evalkit.types import Media

Plane = npt.NDArray[np.float64]

SMALLEST, LARGEST = 8, 1024
CUT = 2
LOOKED_AT = 200
C = 0.03

# Rounding to whole grey levels is noise of this power (squared grey levels): below it there is no signal.
ROUNDING = 1 / 12

# ITU-T T.871 (JFIF): Y, Cb, Cr of R, G, B, without the offset of the chroma.
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def first_order(x: Plane) -> tuple[Plane, Plane]:
    """The difference to the next pixel, across and down; each laid out along its own direction (the second turned)."""
    return x[:, 1:] - x[:, :-1], (x[1:] - x[:-1]).T


def second_order(x: Plane) -> tuple[Plane, Plane]:
    """Half of [1, -2, 1], across and down, laid out as `first_order` does."""
    return (x[:, 2:] + x[:, :-2]) / 2 - x[:, 1:-1], ((x[2:] + x[:-2]) / 2 - x[1:-1]).T


def square(x: Plane) -> tuple[Plane, Plane]:
    """A pixel foretold from the eight around it (Ker & Boehme 2008, figure 1): [-1 2 -1; 2 -4 2; -1 2 -1] / 4."""
    beside = x[1:-1, 2:] + x[1:-1, :-2] + x[2:, 1:-1] + x[:-2, 1:-1]
    corners = x[2:, 2:] + x[2:, :-2] + x[:-2, 2:] + x[:-2, :-2]
    found = (2 * beside - corners) / 4 - x[1:-1, 1:-1]
    return found, found.T


FILTERS: tuple[Callable[[Plane], tuple[Plane, Plane]], ...] = (first_order, second_order, square)


class Residual(LinearJudge):
    """Logistic regression on co-occurrences and moments of high-pass residuals in luma and chroma."""

    name = "residual"
    modality: ClassVar[Literal["image"]] = "image"
    # 9 cells along and across two filters, and 9 of the square one, which has no direction.
    columns = 5 * 9 + 3 * 2 * 4 + 3
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"filters": ("first", "second", "square"), "cut": CUT, "looked_at": LOOKED_AT, "largest": LARGEST, "C": C}
    )

    def prepare(self, sample: Media) -> Tensor:
        """float32 [72]; UnreadableSample when a side is under 8 pixels, RunFailed before `fit` or `load`."""
        self._fitted()
        return _row(_planes(sample), self._steps)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        return self._p_fake(batch)

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed shuffles the folds of the calibration."""
        steps = _choose_steps(real)
        data = collect(self.name, self.modality, lambda sample: _row(_planes(sample), steps), real, fake)
        self.to(device)
        tensors = linear_tensors(torch.stack(data.prepared), data.is_fake, C, seed)
        self._learn(tensors, {"seed": seed, "steps": steps}, data.words)

    def _ready(self) -> None:
        super()._ready()
        self._steps = [float(step) for step in self._facts["steps"]]
        if len(self._steps) != len(FILTERS) or not all(1 <= step < 512 for step in self._steps):
            raise ValueError(f"steps {self._steps} are not those of three filters")


def _choose_steps(real: SampleSet) -> list[float]:
    """The median size of each filter's residual over the first 200 readable real images, in grey levels, at least 1.

    Zeros are left out: a flat background says nothing of how large a residual is.
    """
    sizes: list[list[float]] = [[] for _ in FILTERS]
    for sample in islice(real, LOOKED_AT):
        with suppress(UnreadableSample):
            luma = _planes(sample.load())[1][0]
            for found, filter in zip(sizes, FILTERS, strict=True):
                size = np.abs(filter(luma)[0])
                found.append(float(np.median(size[size > 0.5])) if (size > 0.5).any() else 0.0)
    return [max(1.0, float(np.median(found or [1.0]))) for found in sizes]


def _planes(sample: Media) -> tuple[Plane, Plane]:
    """RGB and YCbCr of the central part, each [3, H, W] in grey levels."""
    image = image_of(sample, "detector 'residual'")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise UnreadableSample(f"the image is {width} x {height}; residual statistics need {SMALLEST} pixels a side")
    top, left = max(0, height - LARGEST) // 2, max(0, width - LARGEST) // 2
    rgb = image[top : top + LARGEST, left : left + LARGEST].transpose(2, 0, 1).astype(np.float64)
    return rgb, (TO_YCC @ rgb.reshape(3, -1)).reshape(rgb.shape)


def _row(planes: tuple[Plane, Plane], steps: list[float]) -> Tensor:
    rgb, ycc = planes
    columns: list[Plane] = []
    for filter, step in zip(FILTERS, steps, strict=True):
        across, down = filter(ycc[0])
        along = cooccurrence(across, step) + cooccurrence(down, step)
        beside = cooccurrence(across.T, step) + cooccurrence(down.T, step)
        parts = [along + beside] if filter is square else [along, beside]
        columns += [np.sqrt(part / part.sum()) for part in parts]
    columns += [moments(square(plane)[0]) for plane in ycc]
    columns += [moments(square(_halved(plane))[0]) for plane in ycc]
    columns.append(agreement(np.stack([square(plane)[0] for plane in rgb])))
    return torch.from_numpy(np.concatenate(columns).astype(np.float32))


def cooccurrence(residual: Plane, step: float) -> Plane:
    """How often two neighbours of a row of [H, W] fall in each of nine cells, [9].

    Each value is divided by the step, rounded, and cut off at -2 and 2. (a, b), (b, a) and (-a, -b) are one cell.
    """
    levels = np.clip(np.rint(residual / step), -CUT, CUT).astype(np.int64) + CUT
    pairs = levels[:, :-1] * (2 * CUT + 1) + levels[:, 1:]
    counts = np.bincount(pairs.ravel(), minlength=(2 * CUT + 1) ** 2)
    return np.asarray(np.bincount(_cells(), weights=counts), dtype=np.float64)


@lru_cache(maxsize=1)
def _cells() -> npt.NDArray[np.int64]:
    """The cell [25] of each pair of levels, cells numbered in the order of their first pair."""
    levels = range(-CUT, CUT + 1)
    kinds = [min((a, b), (b, a), (-a, -b), (-b, -a)) for a in levels for b in levels]
    order = sorted(set(kinds))
    return np.array([order.index(kind) for kind in kinds])


def moments(residual: Plane) -> Plane:
    """Log standard deviation, log kurtosis, skewness, and how much the spread itself is spread, of [H, W] -> [4].

    The last is the log of the mean size of a residual over its root mean square. A normal residual of deviation s reads
    ln s, ln 3, 0 and ln sqrt(2 / pi).
    """
    r = residual - residual.mean()
    # Products and not powers: numpy's power takes ten times as long.
    squared = r * r
    power = float(squared.mean()) + ROUNDING
    kurtosis = (float((squared * squared).mean()) + 3 * ROUNDING**2) / power**2
    size = (float(np.abs(r).mean()) ** 2 + ROUNDING * 2 / np.pi) / power
    skewness = float((squared * r).mean()) / power**1.5
    return np.array([np.log(power) / 2, np.log(kurtosis), skewness, np.log(size) / 2])


def agreement(residuals: Plane) -> Plane:
    """Correlation in -1..1 of the residuals [3, H, W] of red and green, green and blue, blue and red, [3]."""
    r = residuals - residuals.mean(axis=(1, 2), keepdims=True)
    products = np.einsum("chw,dhw->cd", r, r) / r[0].size
    scale = np.sqrt(np.diag(products) + ROUNDING)
    correlation = products / np.outer(scale, scale)
    return np.array([correlation[0, 1], correlation[1, 2], correlation[2, 0]])


def _halved(plane: Plane) -> Plane:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in plane.shape)
    halved: Plane = plane[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return halved
