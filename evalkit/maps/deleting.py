"""Where a detector's score comes from, as a picture, and a test of whether that picture is true of the detector.

Three kinds of map, the first that a detector can have. Its own `score_map`. Integrated gradients (Sundararajan et al.
2017, eq. 1) of the log-odds, from the blurred image to the image: not gradient x input, whose baseline is a black
image, and not SmoothGrad, which says how sensitive a pixel is and not what it adds; with this baseline the values add
up to the log-odds that blurring takes away, and blurring is how the test below deletes. Occlusion (Zeiler & Fergus
2014, section 4.2) for the rest: windows of 2 x 2 cells are blurred, one call of the detector each.

A map may look convincing and have nothing to do with the detector (Adebayo et al. 2018). So each is tested by deletion
(Petsiuk et al. 2018, section 4.1): cells are blurred, the most important first, and the area under P(fake) is compared
with that of random orders. A random order here is the same map turned and moved elsewhere: deleting a coherent patch
does something else to an image than deleting scattered cells, and a scattered order would make every coherent map look
faithful or useless. p = (1 + random orders with an area at most as small) / (1 + random orders).

What the test does not say: half-deleted images are unlike anything the detector was trained on (Hooker et al. 2019,
whose remedy ROAR trains again after each deletion), and a P(fake) that stays near 0 or 1 whatever is deleted leaves
nothing to order. A map that is faithful is still no location, unless the detector was trained on masks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..cache import Cache
from ..errors import BadSetting, ModalityMismatch, TooFewSamples
from ..measurement import Bench, Silence, measure
from ..samples.arrays import from_images
from ..types import Detector, Differentiable, Mapped, SampleSet
from .pictures import write_picture

if TYPE_CHECKING:
    from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

CELLS = 8  # a side
# Shares of the cells deleted between none and all: closer at the start, where a map that is right differs most.
STEPS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
ORDERS = 39  # the smallest p-value is 1 / 40
LEVEL = 0.05
PATH = 16
FAITHFUL, UNFAITHFUL = "faithful", "not distinguishable from random order"


@dataclass(frozen=True)
class Deleted:
    """The deletion test of one map: areas under P(fake) in [0, 1] as cells are blurred, and the p-value in (0, 1].

    `random_low`, `random_high`: the 95 % interval of the mean of the random orders.
    """

    auc: float
    random_auc: float
    random_low: float
    random_high: float
    p_value: float
    orders: int

    @property
    def faithful(self) -> bool:
        """Whether deleting by the map lowers P(fake) sooner than all but 5 % of random orders do."""
        return self.p_value <= LEVEL


def explain(
    detector: Detector, samples: SampleSet, indices: Sequence[int], folder: Path, *, seed: int, bench: Bench
) -> list[dict[str, Any]]:
    """A map of each of these samples as a PNG in `folder`, tested by deletion; facts of each, ready for JSON.

    Facts: id, sha256, file, kind, what, p_fake, location (whether it may be read as one), faithful, verdict,
    deletion_auc, random_auc with low and high, p_value, orders, calls (samples that the detector judged). A map costs
    283 judged samples and the kind's own: none, 16 gradients, or 50 for occlusion. Raises ModalityMismatch for
    texts, BadSetting for an index out of range, UnreadableSample for a sample that cannot be decoded,
    UnwritableOutput.
    """
    if samples.modality != "image":
        raise ModalityMismatch(f"{samples.name!r} holds {samples.modality}s; only images have maps")
    listed = tuple(samples)
    if wrong := [i for i in indices if not 0 <= i < len(listed)]:
        raise BadSetting(f"sample number {wrong[0]}; {samples.name!r} has 0 to {len(listed) - 1}")
    detector.to(bench.device)
    judge = Asked(detector, bench)
    found = []
    for i in indices:
        image = listed[i].load()
        assert not isinstance(image, str)
        before = judge.calls
        kind, what, fine = mapped(detector, image, judge, bench.device)
        cells = to_cells(fine, grid_of(image))
        test = deletion(judge, image, cells, seed=seed + i)
        p_fake = float(judge([image])[0])
        location = isinstance(detector, Mapped) and detector.localises
        file = folder / f"{i:05d}-{listed[i].digest[:12]}-{safe(detector.name)}.png"
        verdict = FAITHFUL if test.faithful else UNFAITHFUL
        words = (
            f"{detector.name}: P(fake) = {p_fake:.3f}",
            what,
            "a location: it was trained on masks" if location else "not a location",
            f"deletion test: {verdict} (p = {test.p_value:.3f})",
        )
        write_picture(file, image, fine, words)
        found.append(
            {
                "id": listed[i].id,
                "sha256": listed[i].digest,
                "file": file.name,
                "kind": kind,
                "what": what,
                "p_fake": p_fake,
                "location": location,
                "faithful": test.faithful,
                "verdict": verdict,
                "deletion_auc": test.auc,
                "random_auc": {"value": test.random_auc, "low": test.random_low, "high": test.random_high},
                "p_value": test.p_value,
                "orders": test.orders,
                "calls": judge.calls - before,
            }
        )
    return found


def over_all(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the maps of a set: how much sooner P(fake) falls than in random order, mean and 95 % Student interval.

    Raises TooFewSamples under two maps.
    """
    from scipy import stats

    if len(found) < 2:
        raise TooFewSamples(f"{len(found)} maps; an interval over a set needs two")
    gains = np.array([one["random_auc"]["value"] - one["deletion_auc"] for one in found])
    reach = float(stats.t.ppf(0.975, len(gains) - 1)) * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    mean = float(gains.mean())
    verdict = FAITHFUL if mean - reach > 0 else UNFAITHFUL
    faithful = sum(bool(one["faithful"]) for one in found)
    ends = {"value": mean, "low": mean - reach, "high": mean + reach, "interval": "Student"}
    return {"n": len(gains), "gain": ends, "faithful": faithful, "verdict": verdict}


class Asked:
    """A detector that is asked for P(fake) of images as they are, uint8; counts how many."""

    def __init__(self, detector: Detector, bench: Bench) -> None:
        # Nothing is remembered: hundreds of half-deleted images will never be asked for again.
        self._bench = replace(bench, cache=Cache(None), progress=Silence())
        self._detector, self.calls = detector, 0

    def __call__(self, images: Sequence[Pixels]) -> Array:
        """P(fake) [N] of images of one size."""
        self.calls += len(images)
        side = measure(from_images(np.stack(images)), [self._detector], self._bench)
        found: Array = side.features[self._detector.name].rows[:, 0].double().numpy()
        return found


def mapped(
    detector: Detector, image: Pixels, judge: Callable[[Sequence[Pixels]], Array], device: str
) -> tuple[str, str, Array]:
    """(kind, what it is in words, the map [h, w] in log-odds of fake) by the first way that this detector has."""
    if isinstance(detector, Mapped):
        prepared = detector.prepare(image)[None].to(device)
        fine = detector.score_map(prepared)[0].double().cpu().numpy()
        return "score map", "score map: log-odds of fake, place by place", fine
    if isinstance(detector, Differentiable):
        fine = integrated_gradients(detector.log_odds, image, device)
        return "gradient map", "integrated gradients: log-odds of fake added", fine
    return "occlusion map", "occlusion: log-odds of fake lost when blurred", occlusion(judge, image)


def integrated_gradients(log_odds: Callable[[Tensor], Tensor], image: Pixels, device: str = "cpu") -> Array:
    """What each pixel [H, W] adds to the log-odds of fake on the way from the blurred image, over colours.

    The path integral by the midpoint rule in 16 steps; the sum is the log-odds of the image less those of the blurred.
    """
    import torch

    start, end = (torch.from_numpy(x.transpose(2, 0, 1).astype(np.float32)).to(device) for x in (blurred(image), image))
    total = torch.zeros_like(end)
    for step in range(PATH):
        x = (start + (end - start) * ((step + 0.5) / PATH))[None].requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(log_odds(x).sum(), x)
        total += gradient[0] / PATH
    found: Array = (total * (end - start)).sum(dim=0).double().cpu().numpy()
    return found


def occlusion(judge: Callable[[Sequence[Pixels]], Array], image: Pixels) -> Array:
    """How far the log-odds of fake fall when a window is blurred, [rows, columns] of cells.

    Windows are two cells a side and one cell apart; a cell has the mean of those that cover it.
    """
    rows, columns = grid_of(image)
    soft, where = blurred(image), cell_numbers(image)
    tall, wide = min(2, rows), min(2, columns)
    corners = [(y, x) for y in range(rows - tall + 1) for x in range(columns - wide + 1)]
    numbers = np.arange(rows * columns).reshape(rows, columns)
    windows = [numbers[y : y + tall, x : x + wide].ravel() for y, x in corners]
    changed = [np.where(np.isin(where, inside)[:, :, None], soft, image) for inside in windows]
    p = _log_odds(judge([image, *changed]))
    total, count = np.zeros(rows * columns), np.zeros(rows * columns)
    for inside, fall in zip(windows, p[0] - p[1:], strict=True):
        total[inside] += fall
        count[inside] += 1
    found: Array = (total / count).reshape(rows, columns)
    return found


def deletion(
    judge: Callable[[Sequence[Pixels]], Array], image: Pixels, cells: Array, *, seed: int, orders: int = ORDERS
) -> Deleted:
    """The deletion test of a map of cells [rows, columns]; highest values are deleted first."""
    from scipy import stats

    rng = np.random.RandomState(seed)
    # Equal values in an order of chance: by position they would be deleted as a block.
    tie = rng.permutation(cells.size).reshape(cells.shape)
    ranked = np.lexsort((tie.ravel(), cells.ravel())).argsort().reshape(cells.shape)
    maps = [ranked, *(elsewhere(ranked, rng) for _ in range(orders))]
    soft, where = blurred(image), cell_numbers(image)
    cuts = np.unique(np.rint(np.array([0, *STEPS, 1]) * cells.size).astype(int))
    between = [
        np.where((cells.size - 1 - ranks.ravel()[where] < cut)[:, :, None], soft, image)
        for ranks in maps
        for cut in cuts[1:-1]
    ]
    p = judge([image, soft, *between])
    inner = p[2:].reshape(len(maps), -1)
    ends = np.broadcast_to(p[:2], (len(maps), 2))
    curves = np.concatenate([ends[:, :1], inner, ends[:, 1:]], axis=1)
    areas = np.trapezoid(curves, cuts / cells.size, axis=1)
    own, others = float(areas[0]), areas[1:]
    reach = float(stats.t.ppf(0.975, orders - 1)) * float(others.std(ddof=1)) / math.sqrt(orders)
    mean = float(others.mean())
    # Rounding must not make one of two equal areas the smaller.
    p_value = (1 + int((others <= own + 1e-9).sum())) / (1 + orders)
    return Deleted(own, mean, mean - reach, mean + reach, p_value, orders)


def elsewhere(cells: npt.NDArray[Any], rng: np.random.RandomState) -> npt.NDArray[Any]:
    """A map moved round by any number of cells, and turned or mirrored at random."""
    rows, columns = cells.shape
    turned = np.rot90(cells, rng.randint(4) if rows == columns else 2 * rng.randint(2))
    turned = turned[:, ::-1] if rng.randint(2) else turned
    return np.roll(turned, (rng.randint(rows), rng.randint(columns)), (0, 1))


def grid_of(image: Pixels) -> tuple[int, int]:
    """How many cells the image is cut into, down and across: eight, or one a pixel where there are fewer."""
    return min(CELLS, image.shape[0]), min(CELLS, image.shape[1])


def cell_numbers(image: Pixels) -> npt.NDArray[np.int64]:
    """The number of the cell that each pixel [H, W] is in, row by row."""
    (height, width), (rows, columns) = image.shape[:2], grid_of(image)
    down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
    found: npt.NDArray[np.int64] = down[:, None] * columns + across
    return found


def blurred(image: Pixels) -> Pixels:
    """The image with everything finer than a cell blurred away: a Gaussian of the cell's side, at least 2 pixels."""
    from scipy.ndimage import gaussian_filter

    sigma = [max(2.0, side / cells) for side, cells in zip(image.shape[:2], grid_of(image), strict=True)]
    soft: Pixels = np.rint(gaussian_filter(image.astype(np.float64), (*sigma, 0), mode="reflect")).astype(np.uint8)
    return soft


def to_cells(fine: Array, grid: tuple[int, int]) -> Array:
    """The mean of a map [h, w] over each cell of a grid: every value counts by the area of it in the cell."""
    down, across = (_shares(n, cells) for n, cells in zip(fine.shape, grid, strict=True))
    found: Array = down @ fine @ across.T
    return found


def _shares(n: int, cells: int) -> Array:
    """[cells, n] how much of each cell each of n values fills; rows add up to 1."""
    edges, steps = np.arange(cells + 1) / cells, np.arange(n + 1) / n
    high = np.minimum(edges[1:, None], steps[None, 1:])
    low = np.maximum(edges[:-1, None], steps[None, :-1])
    found: Array = np.maximum(high - low, 0) * cells
    return found


def safe(name: str) -> str:
    """A detector's name as part of a file name: letters, digits, dash and underscore, at most 40."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40]


def _log_odds(p_fake: Array) -> Array:
    """Natural log-odds, kept finite: float32 has no number between 1 - 2^-24 and 1."""
    p = np.clip(p_fake, 1e-30, 1 - 2.0**-25)
    return np.log(p) - np.log1p(-p)
