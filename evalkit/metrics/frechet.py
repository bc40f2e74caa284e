"""How far the generated features lie from the real ones, both seen as Gaussians: the Frechet distance (FID, sFID)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import TooFewSamples, UsageError
from ..resample import around
from ..types import Estimate, Features, Moments, Part, metric
from ._coupling import Influence, coupled, fitted_trace, influence, pair_variance
from ._moments import Side, both_sides, side_of


@metric(
    on={"image": "inception", "text": "char_ngrams"},
    better="lower",
    unit="squared feature distance",
    min_n=2,
    moments=True,
)
def fid(real: Features, fake: Features, *, seed: int = 0) -> Mapping[str, Part]:
    """Frechet distance of the real and the generated features, in squared feature units, >= 0.

    Biased upward at small n; the part `unbiased`, made when asked for by name, takes the bias of order 1/n away.
    seed: of the two halves that `unbiased` cuts each side into. A side may be a statistics file. Heusel et al. 2017,
    eq. 6. Interval: jackknife over samples.
    """
    sides = _given(real), _given(fake)
    return {"": frechet_estimate(*sides), "unbiased": lambda: frechet_unbiased(*sides, seed=seed)}


@metric(on={"image": "inception:spatial"}, better="lower", unit="squared feature distance", min_n=2, moments=True)
def sfid(real: Features, fake: Features) -> Estimate:
    """Frechet distance of spatial features, which keep where in the image something is, in squared units, >= 0.

    Biased upward at small n. Nash et al. 2021, "Generating images with sparse representations".
    """
    return frechet_estimate(_given(real), _given(fake))


def _given(side: Features) -> Tensor | Moments:
    return side.rows if side.moments is None else side.moments


def frechet_distance(real: Tensor | Moments, fake: Tensor | Moments) -> float:
    """Squared 2-Wasserstein distance of the two fitted Gaussians, in squared feature units, >= 0.

    real [N, D], fake [M, D]: rows of any float dtype, N, M >= 2, which may be mapped from a file and are read block by
    block; or the moments of either. Covariances with N - 1 below the line. Raises TooFewSamples and BadRows.
    Dowson & Landau 1982; Heusel et al. 2017, eq. 6.
    """
    one, other = both_sides(real, fake)
    return _distance(one, other, fitted_trace(one, other))


def frechet_estimate(real: Tensor | Moments, fake: Tensor | Moments) -> Estimate:
    """`frechet_distance` with its 95 % interval, and in `per_sample` the influence of every generated sample.

    The influence, float64 [M] with mean zero, is by how much the distance grows per unit of weight moved onto that
    sample, in squared feature units: positive = the sample costs, and leaving it out would lower the distance by about
    influence / M. The interval is the jackknife's, leaving out each sample in turn, less half of the variance it counts
    twice (Efron & Stein 1981), with Student's t of the smaller side; a side given as moments is taken as fixed. Raises
    UsageError when both are moments.
    """
    one, other = both_sides(real, fake)
    value, found, pairs = _measured(one, other)
    twice = sum(side.variance for side in found.values())
    # Without all that is counted twice the error is right on average and covers 90-94 %, the distance being skewed;
    # with all of it, 97-99 %. Half of it covers about 95 % (docs/intervals.md).
    variance = twice - min(pairs, twice / 2) / 2
    return _around(value, variance, found, low=0.0)


def frechet_unbiased(real: Tensor | Moments, fake: Tensor | Moments, *, seed: int = 0) -> Estimate:
    """The Frechet distance without its bias of order 1/n, in squared feature units; may come out below zero.

    2 F(all) - mean of F(first halves) and F(second halves): both sides are cut in two at random, so a bias in
    proportion to 1/n cancels (Richardson extrapolation). Below n = 2 D the bias falls more slowly than 1/n, and some of
    it stays. Raises TooFewSamples under 4 rows a side, UsageError when both sides are moments.
    """
    one, other = both_sides(real, fake)
    cuts = _halves("real", real, seed), _halves("fake", fake, seed + 1)
    value, found, _ = _measured(one, other)
    half = [_distance(a, b, fitted_trace(a, b)) for a, b in zip(*cuts, strict=True)]
    # Pairs within a half cancel and pairs across count double: it is what the jackknife sees of the whole.
    variance = sum(side.variance for side in found.values())
    return _around(2 * value - sum(half) / 2, variance, found)


def _halves(word: str, given: Tensor | Moments, seed: int) -> list[Side]:
    """Two random halves of the rows; a side that is fixed has no bias to take away and stays whole."""
    if isinstance(given, Moments):
        return [side_of(word, given)] * 2
    if len(given) < 4:
        raise TooFewSamples(f"{len(given)} {word} samples; two halves of them need at least 4")
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(seed))
    return [side_of(word, given, take=part.sort().values) for part in order.tensor_split(2)]


def _distance(real: Side, fake: Side, trace: float) -> float:
    gap = fake.mean - real.mean
    return max(0.0, float(gap @ gap) + real.trace + fake.trace - 2 * trace)


def _measured(real: Side, fake: Side) -> tuple[float, dict[bool, Influence], float]:
    """The distance, what the rows of each side that has any do to it, and the variance due to pairs of them."""
    if real.rows is None and fake.rows is None:
        raise UsageError("both sides are statistics files, which give no error bar; give the samples of one side")
    coupling = coupled(real, fake)
    value = _distance(real, fake, float(coupling.s.sum()))
    found = {}
    if real.rows is not None:
        found[False] = influence(real, fake, coupling.real, coupling.s, generated=False)
    if fake.rows is not None:
        found[True] = influence(fake, real, coupling.fake, coupling.s, generated=True)
    sides = {False: real, True: fake}
    return value, found, pair_variance(coupling.s, {k: (sides[k], v) for k, v in found.items()})


def _around(value: float, variance: float, found: Mapping[bool, Influence], low: float = -math.inf) -> Estimate:
    method = "jackknife" if len(found) == 2 else f"jackknife, {'real' if True in found else 'fake'} side fixed"
    fewest = min(len(side.psi) for side in found.values())
    interval = around(value, math.sqrt(variance), method, df=fewest - 1, low=low)
    per_sample = found[True].psi if True in found else None
    moves = {"fake" if generated else "real": side.moves for generated, side in found.items()}
    return Estimate(value, interval.low, interval.high, method, interval.level, per_sample, moves)
