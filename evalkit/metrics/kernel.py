"""How far the generated features lie from the real ones with no Gaussian assumed: the kernel distance (KID)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import BadSetting, TooFewSamples, UnknownName
from ..resample import around
from ..types import Estimate, Features, metric
from ._guards import at_least_one
from .mmd import BLOCK, Kernel, PairSums, Panel, Tile, pair_sums, panels, tiles, unbiased_estimate


class Dialect(NamedTuple):
    """How a library draws its subsets: which generator of random numbers, its seed, which side first."""

    by: str
    seed: int
    fake_first: bool
    shrinks: bool  # whether subsets larger than a side are cut to the side instead of refused
    has_std: bool


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "torch_fidelity": Dialect("numpy", 2020, fake_first=True, shrinks=False, has_std=True),
        "clean_fid": Dialect("numpy", 0, fake_first=True, shrinks=True, has_std=False),
        "torchmetrics": Dialect("torch", 0, fake_first=False, shrinks=False, has_std=True),
    }
)


@metric(on={"image": "inception", "text": "char_ngrams"}, better="lower", unit="squared MMD", min_n=3)
def kid(
    real: Features,
    fake: Features,
    *,
    subsets: int = 0,
    subset_size: int = 1000,
    dialect: str = "",
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    seed: int | None = None,
) -> Estimate | dict[str, Estimate]:
    """Kernel distance of the real and the generated features; unbiased, so it may fall below 0; not multiplied by 1000.

    All pairs are used. With subsets or a dialect it is the mean over random subsets, as other libraries have it, and
    `subset_std` is how far the subsets differ, which is not an error of the mean. Binkowski et al. 2018, section 4.
    Interval: leave-one-out jackknife in closed form, plus the variance that drawing subsets adds.
    """
    if not subsets and not dialect:
        return kernel_estimate(real.rows, fake.rows, degree=degree, gamma=gamma, coef=coef)
    return subset_estimates(
        real.rows,
        fake.rows,
        subsets=subsets or 100,
        subset_size=subset_size,
        dialect=dialect or "torch_fidelity",
        degree=degree,
        gamma=gamma,
        coef=coef,
        seed=seed,
    )


def kernel_distance(
    real_rows: Tensor, fake_rows: Tensor, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0
) -> float:
    """Unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, unbounded below 0, without x1000.

    real_rows [N, D], fake_rows [M, D], any float dtype, also mapped from a file; N, M >= 3. All pairs, no subsets
    drawn, each inner product computed once; memory O(block^2). Of float32 rows the products are float32 and all else
    float64: within 1e-7 of float64 throughout. Kernel: (gamma x.y + coef)^degree, gamma 1 / D when not given.
    Raises TooFewSamples, BadRows and BadSetting. Gretton et al. 2012, eq. 3; Binkowski et al. 2018, section 4.
    """
    return kernel_estimate(real_rows, fake_rows, degree=degree, gamma=gamma, coef=coef).value


def kernel_estimate(
    real_rows: Tensor, fake_rows: Tensor, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0
) -> Estimate:
    """`kernel_distance` with its 95 % interval, and the influence of each generated sample on it."""
    real, fake = panels(real_rows, fake_rows, least=3)
    kernel = polynomial(real_rows.shape[1], degree, gamma, coef)
    (sums,) = pair_sums(real, fake, kernel, block=BLOCK)
    return unbiased_estimate(sums)


def polynomial(width: int, degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> Kernel:
    """The kernel (gamma x.y + coef)^degree as a function of x.y, gamma 1 / width when not given; raises BadSetting."""
    at_least_one("degree", degree)
    if gamma is not None and not 0 < gamma < math.inf:
        raise BadSetting(f"gamma is {gamma}; it must be above 0, or left out for 1 / {width}")
    if not 0 <= coef < math.inf:
        raise BadSetting(f"coef is {coef}; it must be 0 or more")
    slope = 1 / max(1, width) if gamma is None else gamma
    return lambda products: (products * slope).add_(coef).pow_(degree)


def subset_estimates(
    real_rows: Tensor,
    fake_rows: Tensor,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    dialect: str = "torch_fidelity",
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    seed: int | None = None,
) -> dict[str, Estimate]:
    """Mean kernel distance "" over random subsets of `subset_size` rows a side, drawn exactly as the dialect does.

    `subset_std`, for dialects that report it: standard deviation over the subsets, N below the line, no interval.
    seed: the dialect's own when not given (torch-fidelity 2020; the others draw unseeded, here from 0). Raises
    TooFewSamples, BadRows, BadSetting, UnknownName.
    """
    if dialect not in DIALECTS:
        raise UnknownName("kid dialect", dialect, DIALECTS)
    own = DIALECTS[dialect]
    real, fake = panels(real_rows, fake_rows, least=3)
    kernel = polynomial(real_rows.shape[1], degree, gamma, coef)
    size = _size(subset_size, len(real), len(fake), own)
    drawn = _draws(
        len(real), len(fake), at_least_one("subsets", subsets), size, own, own.seed if seed is None else seed
    )
    # Multiplications of a pass over all pairs against those of every subset by itself.
    whole = (len(real) ** 2 + len(fake) ** 2) / 2 + len(real) * len(fake)
    ways = _in_one_pass if whole < 2 * subsets * size**2 else _one_by_one
    found, variance, influence, moves = ways(real, fake, kernel, *drawn)
    spread = float(found.var(correction=1)) / subsets if subsets > 1 else 0.0
    value = float(found.mean())
    # Mean over the draws: the U-statistic of all pairs. Its own variance and that of drawing subsets add.
    mean = around(value, math.sqrt(variance + spread), "jackknife", df=min(len(real), len(fake)) - 1)
    parts = {"": replace(mean, per_sample=influence, moves=moves)}
    if own.has_std:
        std = float(found.std(correction=0))
        parts["subset_std"] = Estimate(std, std, std, "no interval")
    return parts


def _size(asked: int, n: int, m: int, dialect: Dialect) -> int:
    if asked < 3:
        raise BadSetting(f"subset_size is {asked}; it must be 3 or more")
    if min(n, m) < asked and not dialect.shrinks:
        raise TooFewSamples(f"subsets of {asked} cannot be drawn from {n} real and {m} fake samples; set subset_size")
    return min(asked, n, m)


def _draws(n: int, m: int, subsets: int, size: int, dialect: Dialect, seed: int) -> tuple[Tensor, Tensor]:
    """Row indices [B, size] of the real and of the fake side, number by number as the library draws them."""
    state, generator = np.random.RandomState(seed), torch.Generator().manual_seed(seed)

    def draw(side: int) -> Tensor:
        if dialect.by == "torch":
            return torch.randperm(side, generator=generator)[:size]
        return torch.from_numpy(state.choice(side, size, replace=False))

    first, second = (m, n) if dialect.fake_first else (n, m)
    pairs = [(draw(first), draw(second)) for _ in range(subsets)]
    one, other = (torch.stack(side) for side in zip(*pairs, strict=True))
    return (other, one) if dialect.fake_first else (one, other)


class _Subsets(NamedTuple):
    """Distances [B] of the subsets, the variance of the distance over all pairs, each fake sample's influence, and how
    far the samples of each side move it."""

    distances: Tensor
    variance: float
    influence: Tensor | None
    moves: Mapping[str, Tensor]


class _SubsetSums:
    """Kernel values [B] added up over the pairs of each subset, a tile at a time: no kernel matrix is kept."""

    def __init__(self, real: Panel, fake: Panel, real_drawn: Tensor, fake_drawn: Tensor) -> None:
        self.size = real_drawn.shape[1]
        self.real, self.fake = _membership(real_drawn, real), _membership(fake_drawn, fake)
        self.within = self.real.new_zeros(len(real_drawn))
        self.between = self.real.new_zeros(len(real_drawn))

    def add(self, tile: Tile, values: Tensor) -> None:
        """values [a, b]: the kernel of the tile's products, 0 for a row with itself."""
        left = self.fake if tile.side == "fake" else self.real
        right = self.real if tile.side == "real" else self.fake
        sums = torch.einsum("sb,sb->s", left[:, tile.rows] @ values, right[:, tile.columns])
        if tile.side == "cross":
            self.between += sums
        else:
            self.within += sums if tile.is_diagonal else 2 * sums

    def distances(self) -> Tensor:
        return self.within / (self.size * (self.size - 1)) - 2 * self.between / self.size**2


def _membership(drawn: Tensor, side: Panel) -> Tensor:
    """[B, N] float64: 1 where the subset holds the row."""
    found = side.own.new_zeros(len(drawn), len(side))
    return found.scatter_(1, drawn.to(found.device), 1.0)


def _in_one_pass(real: Panel, fake: Panel, kernel: Kernel, real_drawn: Tensor, fake_drawn: Tensor) -> _Subsets:
    subsets, sums = _SubsetSums(real, fake, real_drawn, fake_drawn), PairSums(real, fake, kernel)
    for tile in tiles(real, fake, BLOCK):
        values = kernel(tile.products)
        sums.add(tile, values)
        subsets.add(tile, values)
    whole = unbiased_estimate(sums)
    return _Subsets(
        subsets.distances(), _variance(whole, min(len(real), len(fake))), whole.per_sample, whole.moves or {}
    )


def _one_by_one(real: Panel, fake: Panel, kernel: Kernel, real_drawn: Tensor, fake_drawn: Tensor) -> _Subsets:
    """The same for sides so large that the subsets are the smaller work; the influence is not known then.

    The variance at n is that at the subsets' size times size / n, exact to first order and too large where it vanishes.
    """
    found = []
    for of_real, of_fake in zip(real_drawn, fake_drawn, strict=True):
        pair = panels(real.rows[of_real], fake.rows[of_fake], least=3)
        (sums,) = pair_sums(*pair, kernel, block=BLOCK)
        found.append(unbiased_estimate(sums))
    size = real_drawn.shape[1]
    variances = torch.tensor([_variance(one, size) for one in found], dtype=torch.float64)
    distances = torch.tensor([one.value for one in found], dtype=torch.float64)
    moves = {
        side: _gathered(drawn, torch.stack([(one.moves or {})[side] for one in found]), len(panel))
        for side, drawn, panel in (("real", real_drawn, real), ("fake", fake_drawn, fake))
    }
    return _Subsets(distances, float(variances.mean()) * size / min(len(real), len(fake)), None, moves)


def _gathered(drawn: Tensor, moved: Tensor, n: int) -> Tensor:
    """How far each of n rows moves the distance, [n], from what it did in the subsets [B, size] it was drawn into.

    What a row does falls as 1 / rows; a row that was never drawn is taken to do nothing.
    """
    where = drawn.flatten().to(moved.device)
    total = moved.new_zeros(n).index_add_(0, where, moved.flatten())
    times = moved.new_zeros(n).index_add_(0, where, torch.ones_like(moved).flatten())
    return total / times.clamp_min(1) * (drawn.shape[1] / n)


def _variance(estimate: Estimate, n: int) -> float:
    """The squared standard error behind a Student interval of n - 1 degrees of freedom."""
    unit = around(0.0, 1.0, "", df=n - 1)
    return ((estimate.high - estimate.low) / (unit.high - unit.low)) ** 2
