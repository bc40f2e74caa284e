"""Error bars: how far a number would move if the samples were drawn again.

Two methods. The jackknife deletes a part of one side at a time and needs the statistic on what is left; it is the
default, because a statistic that is biased at small n (FID, coverage) stays centred. The bootstrap draws with
replacement; it serves thresholds and quantiles, where the jackknife fails. Both treat the sides as independent draws
and both aim at the statistic's expected value at this n, not at its limit for endless samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from scipy import stats
from torch import Tensor

from .errors import BadRows, TooFewSamples
from .types import Estimate

GROUPS = 20
DRAWS = 1000
LEVEL = 0.95

# Indices held at once by the bootstrap: 64 MB.
BOOTSTRAP_BLOCK = 8_000_000


def around(
    value: float, error: float, method: str, *, df: float = math.inf, low: float = -math.inf, high: float = math.inf
) -> Estimate:
    """The 95 % Student interval `value` +- t `error`, cut to the range [low, high] the statistic can take.

    error: standard error, >= 0. df: degrees of freedom behind it; infinite means the normal quantile.
    """
    reach = error * float(stats.t.ppf(0.5 + LEVEL / 2, df))
    return Estimate(value, min(value, max(low, value - reach)), max(value, min(high, value + reach)), method, LEVEL)


def jackknife(
    value: float,
    deleted: Sequence[Tensor],
    shares: Sequence[Tensor] | None = None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    sides: Sequence[str] = (),
) -> Estimate:
    """The 95 % interval of `value` from the values the statistic takes with a part of one side deleted.

    deleted: per side, [G] values; shares: per side, [G] the share of that side's samples each deletion took, adding
    up to 1 (equal shares when not given: G = n is leave-one-out). low, high: the range the statistic can take. sides:
    what each side is called ("real", "fake"); then `moves` says how far each deletion moved the value.
    The variances of the sides add; Student's t has as many degrees of freedom as the smaller side has deletions, less
    one. Unequal parts are weighted as in Busing et al. 1999, "Delete-m jackknife for unequal m", eq. 9.
    """
    variance = 0.0
    moves = {}
    for i, side in enumerate(deleted):
        theta = side.double()
        share = torch.full_like(theta, 1 / len(theta)) if shares is None else shares[i].to(theta)
        pseudo = value / share - (1 / share - 1) * theta
        centre = len(theta) * value - ((1 - share) * theta).sum()
        moved = (pseudo - centre) / ((1 / share - 1) * len(theta)).sqrt()
        variance += float(moved.square().sum())
        if sides:
            moves[sides[i]] = moved
    found = around(value, math.sqrt(variance), "jackknife", df=min(map(len, deleted)) - 1, low=low, high=high)
    return replace(found, moves=moves or None)


def moves_of_mean(terms: Tensor) -> Tensor:
    """How far each of n independent terms [n] moves their mean: centred, their squares adding up to its variance."""
    n = len(terms)
    return (terms.double() - terms.double().mean()) / math.sqrt(n * max(1, n - 1))


def partition(n: int, groups: int = GROUPS, seed: int = 0) -> list[Tensor]:
    """The indices 0..n-1 dealt at random into `groups` parts of nearly equal size; single ones when n < 2 groups.

    At random, because any rule on the position fails on some order: with labels that cycle, index modulo groups would
    delete half a class at once, and with sorted labels it would hide the differences between classes.
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return list(order.tensor_split(n if n < 2 * groups else groups))


def group_jackknife(
    statistic: Callable[[Sequence[Tensor]], Mapping[str, float]],
    sizes: Sequence[int],
    groups: int = GROUPS,
    seed: int = 0,
    names: Sequence[str] = (),
) -> dict[str, Estimate]:
    """95 % intervals of a statistic of several sides by deleting one of `groups` random parts of one side at a time.

    statistic: given the sorted kept row indices of each side, the values by part. sizes: rows of each side, >= 2.
    names: what the sides are called, as `sides` of `jackknife`.
    Costs 1 + groups * sides calls. Raises TooFewSamples, or BadRows when a deletion leaves no finite value.
    """
    if min(sizes) < 2:
        raise TooFewSamples(f"an interval by deleting samples needs at least 2 on every side; got {list(sizes)}")
    whole = [torch.arange(n) for n in sizes]
    values = statistic(whole)
    deleted: dict[str, list[Tensor]] = {part: [] for part in values}
    shares = []
    for side, n in enumerate(sizes):
        parts = partition(n, groups, seed + side)
        kept = [_without(whole, side, part) for part in parts]
        again = [statistic(indices) for indices in kept]
        shares.append(torch.tensor([len(part) / n for part in parts], dtype=torch.float64))
        for name in values:
            deleted[name].append(torch.tensor([found[name] for found in again], dtype=torch.float64))
    for name, columns in deleted.items():
        if not all(bool(column.isfinite().all()) for column in columns):
            raise BadRows(f"{name or 'the statistic'} is not finite on part of the samples; no interval can be made")
    return {name: jackknife(float(value), deleted[name], shares, sides=names) for name, value in values.items()}


def _without(whole: Sequence[Tensor], side: int, part: Tensor) -> list[Tensor]:
    keep = torch.ones(len(whole[side]), dtype=torch.bool)
    keep[part] = False
    return [indices[keep] if i == side else indices for i, indices in enumerate(whole)]


def bootstrap(
    statistic: Callable[[Sequence[Tensor]], Mapping[str, Tensor]],
    sizes: Sequence[int],
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """95 % percentile intervals of a statistic of several sides, each side redrawn with replacement at its own size.

    statistic: given row indices [B, n] of each side, the values [B] by part, for all B at once. The value itself is
    the statistic of the undisturbed rows, and always lies inside. `moves`: how far each draw moved it, as "draws";
    sides of equal sizes are drawn alike under one seed. Raises TooFewSamples when a side has no rows.
    Efron & Tibshirani 1993, section 13.3.
    """
    if min(sizes) < 1:
        raise TooFewSamples(f"drawing samples again needs at least 1 on every side; got {list(sizes)}")
    generator = torch.Generator().manual_seed(seed)
    values = statistic([torch.arange(n)[None] for n in sizes])
    block = max(1, min(draws, BOOTSTRAP_BLOCK // sum(sizes)))
    found: dict[str, list[Tensor]] = {part: [] for part in values}
    for start in range(0, draws, block):
        count = min(block, draws - start)
        again = statistic([torch.randint(n, (count, n), generator=generator) for n in sizes])
        for name in values:
            found[name].append(again[name].double())
    tails = torch.tensor([0.5 - LEVEL / 2, 0.5 + LEVEL / 2], dtype=torch.float64)
    estimates = {}
    for name, tensor in values.items():
        value = float(tensor[0])
        drawn = torch.cat(found[name])
        low, high = torch.quantile(drawn, tails).tolist()
        moves = {"draws": (drawn - drawn.mean()) / math.sqrt(max(1, len(drawn) - 1))}
        estimates[name] = Estimate(value, min(low, value), max(high, value), "bootstrap", LEVEL, moves=moves)
    return estimates
