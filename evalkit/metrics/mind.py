"""How far the generated features lie from the real ones seen from all sides: the Monge distance of shadows (MIND)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import BadRows, TooFewSamples
from ..resample import around, moves_of_mean
from ..types import Estimate, Features, metric
from ._guards import at_least_one

BLOCK = 4096  # rows projected at once
HELD = 2**24  # projections of one side held at once: 64 MB


@metric(on={"image": "inception", "text": "char_ngrams"}, better="lower", unit="squared feature distance", min_n=3)
def mind(real: Features, fake: Features, *, directions: int = 1000, seed: int = 2020) -> Estimate:
    """Monge distance of the real and the generated features, >= 0: 3 D times their sliced squared Wasserstein distance.

    Biased upward at small n, of the order 1 / n. Of unequal sides the larger is cut to the size of the smaller at
    random. Berthet et al. 2026, "MIND: Monge Inception Distance". Interval: delta method on every sample's potential.
    """
    return sliced_estimate(real.rows, fake.rows, directions=directions, seed=seed)


def sliced_distance(real_rows: Tensor, fake_rows: Tensor, *, directions: int = 1000, seed: int = 2020) -> float:
    """3 D times the mean squared 2-Wasserstein distance of the rows' projections on random directions, >= 0.

    real_rows [N, D], fake_rows [M, D], any float dtype, used as float32 and also mapped from a file; N, M >= 3. The
    factor makes a shift of every column by s cost 3 D s^2. The same seed draws the rows and directions that
    torch-fidelity's MIND draws. Raises TooFewSamples, BadRows, BadSetting. Berthet et al. 2026.
    """
    drawn = _drawn(real_rows, fake_rows, directions, seed)
    squared = sum(float((_ordered(x) - _ordered(y)).double().square().sum()) for x, y in _shadow_pairs(drawn))
    return drawn.scale * squared / drawn.n


def sliced_estimate(real_rows: Tensor, fake_rows: Tensor, *, directions: int = 1000, seed: int = 2020) -> Estimate:
    """`sliced_distance` with its 95 % interval for the expected value at this n, directions held fixed.

    The derivative of W2^2 along one direction in the weight of a sample is its Kantorovich potential (del Barrio &
    Loubes 2019, theorem 4.1); the mean potential over the directions is the sample's influence.
    """
    drawn = _drawn(real_rows, fake_rows, directions, seed)
    n, squared = drawn.n, 0.0
    of_real, of_fake = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for real_shadows, fake_shadows in _shadow_pairs(drawn):
        x, x_order = _ordered_with_places(real_shadows)
        y, y_order = _ordered_with_places(fake_shadows)
        gap = x - y
        squared += float(gap.double().square().sum())
        of_real += _sum_of_potentials(x, gap, x_order)
        of_fake += _sum_of_potentials(y, -gap, y_order)
    of_real, of_fake = drawn.scale * of_real, drawn.scale * of_fake
    variance = of_real.var() / n + of_fake.var() / n
    found = around(drawn.scale * squared / n, float(variance.sqrt()), "delta", low=0.0)
    # What the samples that were not drawn would have added is not known.
    shares = of_fake - of_fake.mean() if n == len(fake_rows) else None
    return replace(found, per_sample=shares, moves={"real": moves_of_mean(of_real), "fake": moves_of_mean(of_fake)})


class _Drawn(NamedTuple):
    """What the seed decides: the rows of each side that take part, and directions [M, D] of length 1, float32."""

    real_rows: Tensor
    fake_rows: Tensor
    real_kept: Tensor
    fake_kept: Tensor
    directions: Tensor

    @property
    def n(self) -> int:
        return len(self.real_kept)

    @property
    def scale(self) -> float:
        """3 D / M: the paper's alpha, and the mean over the directions."""
        directions, width = self.directions.shape
        return 3.0 * width / directions


def _drawn(real_rows: Tensor, fake_rows: Tensor, directions: int, seed: int) -> _Drawn:
    """Drawn in the order of torch-fidelity: the rows kept of the larger side first, then the directions."""
    at_least_one("directions", directions)
    _check("real", real_rows)
    _check("fake", fake_rows)
    width = real_rows.shape[1]
    if width != fake_rows.shape[1]:
        raise BadRows(f"real rows have {width} columns, fake rows {fake_rows.shape[1]}; measure both alike")
    generator, least = torch.Generator().manual_seed(seed), min(len(real_rows), len(fake_rows))
    real_kept, fake_kept = (
        torch.arange(least) if len(rows) == least else torch.randperm(len(rows), generator=generator)[:least]
        for rows in (real_rows, fake_rows)
    )
    normal = torch.randn(directions, width, generator=generator)
    unit = normal / normal.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return _Drawn(real_rows, fake_rows, real_kept, fake_kept, unit)


def _check(side: str, rows: Tensor) -> None:
    """Refuse fewer than 3 rows, or rows not finite; block by block, since they may be mapped from a file."""
    if rows.ndim != 2:
        raise BadRows(f"{side} rows have shape {tuple(rows.shape)}; expected [N, D]")
    if len(rows) < 3:
        raise TooFewSamples(f"{len(rows)} {side} samples; this metric needs at least 3")
    for start, block in zip(range(0, len(rows), BLOCK), torch.split(rows, BLOCK), strict=True):
        wrong = ~block.isfinite().all(dim=1)
        if bool(wrong.any()):
            first = start + int(wrong.nonzero()[0])
            raise BadRows(f"{side} row {first} holds NaN or infinity; check the instrument and the sample")


def _shadow_pairs(drawn: _Drawn) -> Iterator[tuple[Tensor, Tensor]]:
    """Projections [m, n] of both sides on all directions, as many at a time as may be held."""
    for block in torch.split(drawn.directions, max(1, HELD // drawn.n)):
        yield (
            _shadows(drawn.real_rows, drawn.real_kept, block),
            _shadows(drawn.fake_rows, drawn.fake_kept, block),
        )


def _shadows(rows: Tensor, kept: Tensor, directions: Tensor) -> Tensor:
    """Projections [m, n] float32 of the kept rows."""
    all_kept = len(kept) == len(rows)
    found = torch.empty(len(directions), len(kept))
    for start in range(0, len(kept), BLOCK):
        stop = min(start + BLOCK, len(kept))
        part = rows[start:stop] if all_kept else rows[kept[start:stop]]
        found[:, start:stop] = directions @ part.to("cpu", torch.float32).T
    return found


def _ordered(shadows: Tensor) -> Tensor:
    """Each direction's projections in order; numpy's sort takes a tenth of torch's time."""
    return torch.from_numpy(np.sort(shadows.numpy(), axis=1))


def _ordered_with_places(shadows: Tensor) -> tuple[Tensor, Tensor]:
    """The same, with where each was."""
    places = torch.from_numpy(np.argsort(shadows.numpy(), axis=1))
    return shadows.gather(1, places), places


def _sum_of_potentials(ordered: Tensor, gap: Tensor, places: Tensor) -> Tensor:
    """Sum over the directions [m, n] of each sample's potential, [n] float64, up to a constant.

    Its slope at x is 2 (x - T x), here by the trapezoid rule between neighbours, which keeps the sum of a pair's two
    potentials equal to its squared distance.
    """
    rise = (ordered[:, 1:] - ordered[:, :-1]) * (gap[:, 1:] + gap[:, :-1])
    potential = torch.zeros_like(ordered)
    torch.cumsum(rise, dim=1, out=potential[:, 1:])
    # Each direction knows its potential up to a constant; a common mean of 0 keeps the sums small.
    potential -= potential.mean(dim=1, keepdim=True)
    return torch.empty_like(potential).scatter_(1, places, potential).sum(dim=0, dtype=torch.float64)
