"""How far two distributions are apart, both ways at once: MAUVE and the frontier integral of quantised features.

Both sides are quantised by one k-means of their pooled rows and compared as histograms p (real) and q (generated).

- Rows are scaled to length 1 and projected on the principal components that hold 90 % of the variance, unwhitened;
  k = a tenth of the smaller side (Pillutla et al. 2021, section 4 and appendix).
- One k-means is one draw: its starting points alone move the number by as much as models differ. So the value is the
  mean over several seeds, and their scatter is part of the interval.
- Resampling goes over the histograms of a fixed quantisation, in closed form: a sample left out takes one count out of
  its bucket. k-means on what is left would start anew, and the jackknife multiplies that noise by the number of
  deletions. The two variances add; the degrees of freedom are Satterthwaite's, the ends those of the logit scale: the
  number is skewed towards the middle of its range.
- So the interval is of another draw of both sides and of other k-means seeds, at this n and k. It is not of another
  instrument or k, nor of the limit for endless samples, which lies higher (docs/text-metrics.md).
- A mixture weight runs from r = q to r = p, so the divergence curve is monotone, and the areas under it along either
  axis are one number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..errors import BadRows, BadSetting
from ..resample import jackknife, moves_of_mean
from ..types import Estimate, Features, metric
from ._bounded import on_logit_scale, unvaried, variance
from ._guards import at_least_one, two_sides

SCALING = 5.0
EXPLAINED = 0.9
REDOS = 5
SEEDS = 5
STEPS = 25
CLOSEST = 1e-6  # of the mixture weights to 0 and 1
ITERATIONS = 500
HELD = 1 << 22  # numbers of histograms times mixtures that are held at once

# Of the real and the generated histogram [..., k], the number [...].
Number = Callable[[Tensor, Tensor], Tensor]
# For each k-means seed the buckets of the real [N] and of the generated [M] rows.
Parts = list[tuple[Tensor, Tensor]]


@metric(on={"image": "inception", "text": "prose_states"}, better="higher", unit="area", min_n=20)
def mauve(
    real: Features,
    fake: Features,
    *,
    buckets: int = 0,
    scaling: float = SCALING,
    explained: float = EXPLAINED,
    redos: int = REDOS,
    seeds: int = SEEDS,
) -> dict[str, Estimate]:
    """Area under the divergence curve of generated and real samples, in (0, 1]; 1: the same distribution.

    Pillutla et al. 2021; `star` smooths both histograms by half a count (Pillutla et al. 2023, section 4). buckets: of
    k-means, 0 for a tenth of the smaller side. Falls with fewer samples. Interval: of another draw of both sides and
    other k-means seeds at this n, jackknife plus the scatter over seeds, on the logit scale.
    """
    parts = quantised(real.rows, fake.rows, buckets=buckets, explained=explained, redos=redos, seeds=seeds)
    if not scaling > 0:
        raise BadSetting(f"scaling is {scaling}; it must be above 0")
    return {
        "": estimate_of(parts, lambda p, q: area_of_frontier(p, q, scaling=scaling), 0.0),
        "star": estimate_of(parts, lambda p, q: area_of_frontier(p, q, scaling=scaling), 0.5),
    }


# A metric of its own, because less of it is better.
@metric(on={"image": "inception", "text": "prose_states"}, better="lower", unit="nats", min_n=20)
def frontier_integral(
    real: Features,
    fake: Features,
    *,
    buckets: int = 0,
    explained: float = EXPLAINED,
    redos: int = REDOS,
    seeds: int = SEEDS,
) -> dict[str, Estimate]:
    """Mean divergence along the frontier between real and generated samples, in [0, 1]; 0: the same distribution.

    Liu et al. 2021, "Divergence frontiers for generative models"; `star` smooths both histograms by half a count.
    Quantised as `mauve`. Interval: as `mauve`.
    """
    parts = quantised(real.rows, fake.rows, buckets=buckets, explained=explained, redos=redos, seeds=seeds)
    return {
        "": estimate_of(parts, integral_of_frontier, 0.0),
        "star": estimate_of(parts, integral_of_frontier, 0.5),
    }


def divergence_curve(real_hist: Tensor, fake_hist: Tensor, *, scaling: float = SCALING) -> Tensor:
    """Points (x, y) of the divergence curve, float64 [..., 27, 2] in [0, 1], from (1, 0) to (0, 1).

    x = exp(-c KL(q || r)), y = exp(-c KL(p || r)), r = w p + (1 - w) q for 25 weights w; histograms [..., k] that add
    up to 1, p real and q generated. Pillutla et al. 2021, eq. 1. Raises BadRows.
    """
    p, q = _shares("real", real_hist)[..., None, :], _shares("fake", fake_hist)[..., None, :]
    if p.shape[-1] != q.shape[-1]:
        raise BadRows(f"histograms of {p.shape[-1]} and {q.shape[-1]} buckets; both sides need the same")
    w = torch.linspace(CLOSEST, 1 - CLOSEST, STEPS, dtype=torch.float64, device=p.device)[:, None]
    r = w * p + (1 - w) * q
    inside = torch.stack([torch.exp(-scaling * _kl(side, r)) for side in (q, p)], dim=-1)
    ends = inside.new_tensor([[1.0, 0.0], [0.0, 1.0]]).expand(*inside.shape[:-2], 2, 2)
    return torch.cat([ends[..., :1, :], inside, ends[..., 1:, :]], dim=-2)


def area_of_frontier(real_hist: Tensor, fake_hist: Tensor, *, scaling: float = SCALING) -> Tensor:
    """MAUVE of two histograms [..., k], float64 [...] in (0, 1]: the area under their divergence curve."""
    x, y = divergence_curve(real_hist, fake_hist, scaling=scaling).unbind(-1)
    return ((x[..., :-1] - x[..., 1:]) * (y[..., :-1] + y[..., 1:]) / 2).sum(-1).clamp(0, 1)


def integral_of_frontier(real_hist: Tensor, fake_hist: Tensor) -> Tensor:
    """The frontier integral of two histograms [..., k], float64 [...] in [0, 1]; 1 where they share no bucket.

    2 sum over buckets of (p + q) / 4 - p q (ln p - ln q) / (2 (p - q)). Liu et al. 2021, property 3.
    """
    p, q = _shares("real", real_hist), _shares("fake", fake_hist)
    # p q / logarithmic mean of p and q: 0 where either is 0, and p where they are equal.
    apart = (p > 0) & (q > 0) & (p != q)
    a, b = torch.where(apart, p, torch.ones_like(p)), torch.where(apart, q, torch.full_like(q, 2.0))
    harmonic = torch.where(apart, a * b * (a / b).log() / (a - b), torch.where(p == q, p, torch.zeros_like(p)))
    return (2 * ((p + q) / 4 - harmonic / 2)).sum(-1).clamp(0, 1)


def smoothed(counts: Tensor, half: float = 0.5) -> Tensor:
    """Shares [..., k] of counts [..., k] with `half` added to each; 0.5 is Krichevsky & Trofimov 1981's estimate."""
    raised = counts.double() + half
    return raised / raised.sum(-1, keepdim=True)


def quantised(
    real_rows: Tensor,
    fake_rows: Tensor,
    *,
    buckets: int = 0,
    explained: float = EXPLAINED,
    redos: int = REDOS,
    seeds: int = SEEDS,
) -> list[tuple[Tensor, Tensor]]:
    """For each k-means seed the bucket of every real [N] and every generated [M] row, int64 on the CPU.

    Rows [N, D] and [M, D], any float dtype; N, M >= 2. explained: share of the variance to keep, in (0, 1]. redos:
    starts of one k-means, of which the best counts. Raises TooFewSamples, BadRows, BadSetting.
    """
    real, fake = two_sides(real_rows, fake_rows)
    if not 0 < explained <= 1:
        raise BadSetting(f"explained is {explained}; it must be above 0 and at most 1")
    if buckets < 0 or buckets == 1:
        raise BadSetting(f"buckets is {buckets}; it must be 2 or more, or 0 for a tenth of the smaller side")
    at_least_one("redos", redos)
    points = _projected(torch.cat([real, fake]), explained)
    k = buckets or max(2, round(min(len(real), len(fake)) / 10))
    found = [_kmeans(points, k, redos, seed) for seed in range(at_least_one("seeds", seeds))]
    return [(labels[: len(real)], labels[len(real) :]) for labels in found]


def _projected(rows: Tensor, explained: float) -> Tensor:
    """Directions of the rows on the fewest principal components that hold that share of their variance, float32."""
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    centred = unit - unit.mean(0)
    variances, axes = torch.linalg.eigh(centred.T @ centred)
    held = variances.flip(0).clamp_min(0).cumsum(0)
    kept = int((held < explained * held[-1]).sum()) + 1
    projected: Tensor = centred @ axes.flip(1)[:, :kept]
    return projected.float().cpu()


def _kmeans(points: Tensor, k: int, redos: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        # Where samples repeat themselves some buckets stay empty: they weigh nothing.
        warnings.simplefilter("ignore")
        # Starting points drawn from the rows, as the published implementation has them, and not k-means++.
        means = KMeans(min(k, len(points)), init="random", n_init=redos, max_iter=ITERATIONS, random_state=seed)
        labels = means.fit_predict(points.numpy())
    return torch.from_numpy(labels).long()


def value_of(parts: Parts, number: Number, half: float = 0.0) -> float:
    """The mean over the quantisations of a number of both histograms, `half` a count added to every bucket."""
    return _mean_of(number, half, list(map(_histograms, parts)))


def estimate_of(parts: Parts, number: Number, half: float = 0.0) -> Estimate:
    """`value_of` with the 95 % interval of samples and seeds together; the number lies in [0, 1]."""
    values, without = [], []
    for real, fake in parts:
        p, q = _histograms((real, fake))
        values.append(float(_of_counts(number, half, p, other=q, is_real=True)))
        less_real = _without(p, partial(_of_counts, number, half, other=q, is_real=True))
        less_fake = _without(q, partial(_of_counts, number, half, other=p, is_real=False))
        without.append((less_real[real], less_fake[fake]))
    each = torch.tensor(values, dtype=torch.float64)
    deleted = [torch.stack(side).mean(0) for side in zip(*without, strict=True)]
    found = jackknife(float(each.mean()), deleted, low=0.0, high=1.0, sides=("real", "fake"))
    least = min(map(len, deleted)) - 1
    by_sample, by_seed = variance(found), float(each.var() / len(each)) if len(each) > 1 else 0.0
    if by_seed > 0:
        moves = {**(found.moves or {}), "seeds": moves_of_mean(each)}
        found = replace(found, method="jackknife and seeds", moves=moves)
    found = unvaried(found, least + 1, lambda share: _furthest(parts, number, half, share))
    degrees = by_sample**2 / least + by_seed**2 / max(1, len(each) - 1)
    return on_logit_scale(found, (by_sample + by_seed) ** 2 / degrees) if degrees > 0 else found


def _furthest(parts: Parts, number: Number, half: float, share: float) -> tuple[float, float]:
    """The number were that share of each side in a bucket of its own, and were it spread as the other side; sorted."""
    far, near = [], []
    for p, q in map(_histograms, parts):
        n, m = p.sum(), q.sum()
        own, other = p.new_tensor([share, 0.0]) * n, q.new_tensor([0.0, share]) * m
        far.append((torch.cat([(1 - share) * p, own]), torch.cat([(1 - share) * q, other])))
        near.append((torch.lerp(p, q * n / m, share), torch.lerp(q, p * m / n, share)))
    low, high = sorted(_mean_of(number, half, counts) for counts in (far, near))
    return low, high


def _mean_of(number: Number, half: float, counts: list[tuple[Tensor, Tensor]]) -> float:
    """The mean of a number over pairs of counts [k] of both sides."""
    return sum(float(number(smoothed(p, half), smoothed(q, half))) for p, q in counts) / len(counts)


def _histograms(labels: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Counts [k] of both sides' buckets, float64."""
    real, fake = labels
    k = int(max(real.max(), fake.max())) + 1
    return torch.bincount(real, minlength=k).double(), torch.bincount(fake, minlength=k).double()


def _of_counts(number: Number, half: float, counts: Tensor, *, other: Tensor, is_real: bool) -> Tensor:
    own, fixed = smoothed(counts, half), smoothed(other, half)
    return number(own, fixed) if is_real else number(fixed, own)


def _without(counts: Tensor, number: Callable[[Tensor], Tensor]) -> Tensor:
    """The number [k] with one sample of each bucket left out; of an empty bucket there is none to leave out."""
    k = len(counts)
    step = max(1, HELD // (k * STEPS))
    found = []
    for start in range(0, k, step):
        less = counts.repeat(min(step, k - start), 1)
        rows = torch.arange(len(less))
        less[rows, rows + start] -= 1
        found.append(number(less.clamp_min(0)))
    return torch.cat(found)


def _shares(side: str, hist: Tensor) -> Tensor:
    given = hist.double()
    sums_to_one = torch.allclose(given.sum(-1), torch.ones_like(given.sum(-1)), atol=1e-6)
    if given.ndim < 1 or not sums_to_one or not bool((given >= 0).all()):
        raise BadRows(f"the {side} histogram must hold shares of 0 or more that add up to 1")
    return given


def _kl(of: Tensor, to: Tensor) -> Tensor:
    """KL(of || to) in nats over the last dimension; buckets that `of` lacks add nothing."""
    # Where both lack a bucket `to` is 0 as well: 0 * log(0 / 1).
    terms: Tensor = torch.special.xlogy(of, of / torch.where(of > 0, to, torch.ones_like(to)))
    return terms.sum(-1).clamp_min(0)
