"""Further signs of handing out training data: authenticity, the data-copying test C_T, and FID that punishes copies."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from ..errors import BadSetting, TooFewSamples
from ..resample import LEVEL, around, moves_of_mean
from ..types import Estimate, Features, metric
from ._distances import BLOCK, Cloud, checked, clouds
from ._guards import at_least_one
from ._nearest import SPARE, kth_nearest, neighbours_among, own_radii
from .detection import wilson
from .frechet import frechet_estimate
from .memorization import nearest

THRESHOLD = 0.1
EPS = 1e-15
TAU = 20  # generated samples that a cell needs

Rows = npt.NDArray[np.float64]


@metric(on={"image": "inception", "text": "char_ngrams"}, better="higher", unit="share", min_n=2)
def authenticity(fake: Features, train: Features) -> Estimate:
    """Share of the generated samples further from the training data than it lies from itself, in [0, 1]; 0: copies.

    Alaa et al. 2022. Interval: Wilson 1927, the training data taken as given.
    """
    return authentic_share(fake.rows, train.rows)


@metric(on={"image": "inception", "text": "char_ngrams"}, better="higher", unit="standard errors", min_n=20)
def ct(
    real: Features, fake: Features, train: Features, *, cells: int = 3, columns: int = 64, seed: int = 0
) -> Estimate:
    """Data-copying test C_T: how much further than held-out real samples generated ones lie from the training data.

    In standard errors of no difference; below about -2: copying somewhere; above 2: underfitting, not a merit.
    Meehan et al. 2020, "A non-parametric test to detect data-copying in generative models". Interval: DeLong et al.
    1988 within the cells.
    """
    return data_copying(real.rows, fake.rows, train.rows, cells=cells, columns=columns, seed=seed)


@metric(on={"image": "inception", "text": "char_ngrams"}, better="lower", unit="squared feature distance", min_n=2)
def mifid(real: Features, fake: Features, train: Features) -> Estimate:
    """FID over the mean cosine distance of generated samples to their nearest training sample, if that is below 0.1.

    Otherwise FID itself. Bai et al. 2021, "On training sample memorization". Interval: the intervals of both.
    """
    return memorization_informed_distance(real.rows, fake.rows, train.rows)


def authentic_share(fake_rows: Tensor, train_rows: Tensor) -> Estimate:
    """Share of generated rows further from their nearest training row than that is from its own nearest other one.

    fake_rows [M, D], M >= 1; train_rows [K, D], K >= 2. Equally far is not authentic, so that the copy of a training
    sample that is there twice is found out. per_sample: 1 where authentic. Raises TooFewSamples, BadRows. Alaa et al.
    2022, "How faithful is your synthetic data?"
    """
    checked("fake", fake_rows, 1)
    train, _ = clouds(2, train=train_rows, fake=fake_rows)
    distance, index = nearest(fake_rows, train_rows)
    homes, which = torch.unique(index, return_inverse=True)
    is_authentic = (distance > _spacing(train, homes)[which]).double()
    share = float(is_authentic.mean())
    low, high = wilson(share, len(is_authentic))
    moves = {"fake": moves_of_mean(is_authentic)}
    return Estimate(share, min(low, share), max(high, share), "wilson", LEVEL, is_authentic.cpu(), moves)


def _spacing(train: Cloud, homes: Tensor) -> Tensor:
    """Distance [H] of some training rows to the nearest other one."""
    if 2 * len(homes) > len(train):
        return own_radii(train, 1)[0][homes].sqrt()
    queries = Cloud(train.rows[homes], train.centre)
    near = neighbours_among(queries, train, 1 + SPARE, own=homes)
    return kth_nearest(queries, train, near, 1, own=homes)[0].sqrt()


def data_copying(
    real_rows: Tensor, fake_rows: Tensor, train_rows: Tensor, *, cells: int = 3, columns: int = 64, seed: int = 0
) -> Estimate:
    """C_T: the z-score of the Mann-Whitney test of both sides' distances to the training rows, averaged over cells.

    real_rows [N, D] that were not trained on, fake_rows [M, D], train_rows [K, D]. Wider rows are first projected on
    the `columns` principal axes of the training rows, whose k-means clusters are the cells; distances are to the
    training rows of the same cell; each cell counts by its real samples, and only with 20 generated ones. Negative:
    generated samples are nearer. Raises TooFewSamples when no cell is left, BadRows, BadSetting. Meehan et al. 2020.
    """
    from sklearn.cluster import KMeans

    at_least_one("columns", columns)
    train, real, fake = clouds(1, train=train_rows, real=real_rows, fake=fake_rows)
    if len(train) < at_least_one("cells", cells):
        raise TooFewSamples(f"{len(train)} train samples; {cells} cells need at least {cells}")
    T, P, Q = _projected((train, real, fake), columns)
    means = KMeans(cells, n_init=10, random_state=seed).fit(T)
    of_train, of_real, of_fake = (np.asarray(means.predict(side)) for side in (T, P, Q))
    chosen = [c for c in range(cells) if (of_fake == c).sum() >= TAU and (of_real == c).any()]
    found = [_cell_score(P[of_real == cell], Q[of_fake == cell], T[of_train == cell]) for cell in chosen]
    if not found:
        raise TooFewSamples(f"no cell of {cells} holds {TAU} generated samples and a real one; give more samples")
    weights = np.array([score.weight for score in found]) / sum(score.weight for score in found)
    value = float(weights @ [score.z for score in found])
    moves = {"real": np.zeros(len(P)), "fake": np.zeros(len(Q))}
    for cell, weight, score in zip(chosen, weights, found, strict=True):
        moves["real"][of_real == cell] = weight * score.real
        moves["fake"][of_fake == cell] = weight * score.fake
    interval = around(value, math.sqrt(float(weights**2 @ [score.variance for score in found])), "delong")
    return replace(interval, moves={side: torch.from_numpy(moved) for side, moved in moves.items()})


class _Score(NamedTuple):
    """Z of a cell, its variance, what the cell counts, and how far each real [n] and each fake row [m] moves Z."""

    z: float
    variance: float
    weight: int
    real: Rows
    fake: Rows


def _cell_score(real: Rows, fake: Rows, train: Rows) -> _Score:
    """Z of U, the pairs in which the generated row lies further away, with the variance of Z by DeLong et al. 1988."""
    held_out, made = (nearest(torch.from_numpy(rows), torch.from_numpy(train))[0].numpy() for rows in (real, fake))
    n, m = len(held_out), len(made)
    ranks = stats.rankdata(np.concatenate([held_out, made]))
    # The share of the other side below each distance, equal ones counted half.
    of_real = (ranks[:n] - stats.rankdata(held_out)) / m
    of_fake = (ranks[n:] - stats.rankdata(made)) / n
    _, repeats = np.unique(ranks, return_counts=True)
    ties = float((repeats.astype(np.float64) ** 3 - repeats).sum()) / ((n + m) * max(1, n + m - 1))
    null = (n + m + 1 - ties) / (12 * n * m)
    if null <= 0:
        return _Score(0.0, 1.0, n, np.zeros(n), np.zeros(m))
    variance = (of_real.var(ddof=1) / n if n > 1 else 0.0) + of_fake.var(ddof=1) / m
    # Where the sides separate completely nothing varies; that of equal sides is the honest stand-in.
    z, honest = (float(of_fake.mean()) - 0.5) / math.sqrt(null), float(variance) / null if variance > 0 else 1.0
    # Z rises with the real rows below a generated one and falls with the generated ones below a real one.
    moves = (sign * moves_of_mean(torch.from_numpy(x)).numpy() for sign, x in ((-1, of_real), (1, of_fake)))
    return _Score(z, honest, n, *(moved / math.sqrt(null) for moved in moves))


def _projected(sides: tuple[Cloud, ...], columns: int) -> list[Rows]:
    """The sides' centred rows on the principal axes of the first, or as they are when they have no more columns."""
    train = sides[0]
    if train.rows.shape[1] <= columns:
        return [np.concatenate([block.rows.cpu().numpy() for block in s.blocks(dtype=torch.float64)]) for s in sides]
    scatter = torch.zeros(train.rows.shape[1], train.rows.shape[1], dtype=torch.float64, device=train.rows.device)
    for block in train.blocks(dtype=torch.float64):
        scatter.addmm_(block.rows.T, block.rows)
    axes = torch.linalg.eigh(scatter).eigenvectors[:, -columns:]
    return [np.concatenate([(b.rows @ axes).cpu().numpy() for b in s.blocks(dtype=torch.float64)]) for s in sides]


def memorization_informed_distance(
    real_rows: Tensor, fake_rows: Tensor, train_rows: Tensor, *, threshold: float = THRESHOLD
) -> Estimate:
    """FID / (d + 1e-15) if d < `threshold`, else FID, in squared feature units, >= 0.

    d: the mean over the *generated* rows of their least 1 - |cos| to a training row; rows of zeros are left out. Taken
    over the training rows instead, as torchmetrics 1.9 does, copies of a few of them go unseen. real_rows [N, D],
    fake_rows [M, D], train_rows [K, D]; N, M >= 2, K >= 1. The interval joins the 95 % ends of both factors and is
    rather too wide. per_sample: the distance of each generated row. Raises TooFewSamples, BadRows, BadSetting.
    """
    if not threshold > 0:
        raise BadSetting(f"threshold is {threshold}; it must be above 0")
    frechet = frechet_estimate(real_rows, fake_rows)
    distance = cosine_distances(fake_rows, train_rows)
    given = distance[distance.isfinite()]
    if len(given) < 2:
        raise TooFewSamples(f"{len(given)} fake samples that are not all zeros; this metric needs at least 2")
    mean = around(float(given.mean()), float(given.std()) / math.sqrt(len(given)), "normal", low=0.0, high=1.0)

    def penalty(d: float) -> float:
        return d + EPS if d < threshold else 1.0

    least = penalty(mean.value)
    moves = {side: moved / least for side, moved in (frechet.moves or {}).items()}
    if mean.value < threshold:
        # The second factor: a farther generated sample lowers the punishment.
        moves["fake"][distance.isfinite()] -= frechet.value / least**2 * moves_of_mean(given)
    return Estimate(
        frechet.value / least,
        frechet.low / penalty(mean.high),
        frechet.high / penalty(mean.low),
        frechet.method,
        LEVEL,
        per_sample=distance.nan_to_num(nan=1.0).cpu(),
        moves=moves,
    )


def cosine_distances(rows: Tensor, train_rows: Tensor) -> Tensor:
    """Least 1 - |cos| [N] of each row to a training row, float64 in [0, 1]: 0 for exact copies, NaN for rows of zeros.

    rows [N, D], train_rows [K, D], K >= 1. Raises TooFewSamples, BadRows.
    """
    clouds(1, train=train_rows, fake=rows)
    found = []
    for start in range(0, len(rows), BLOCK):
        own = torch.nn.functional.normalize(rows[start : start + BLOCK].double(), dim=1)
        candidates, best = own.new_zeros(len(own), 0), own.new_zeros(len(own), 0, dtype=torch.int64)
        for base in range(0, len(train_rows), BLOCK):
            likeness = (
                own.float() @ torch.nn.functional.normalize(train_rows[base : base + BLOCK].float(), dim=1).T
            ).abs()
            candidates = torch.cat([candidates, likeness.double()], dim=1)
            best = torch.cat(
                [best, torch.arange(base, base + likeness.shape[1], device=own.device).expand(len(own), -1)], dim=1
            )
            candidates, place = candidates.topk(min(1 + SPARE, candidates.shape[1]), dim=1)
            best = best.gather(1, place)
        found.append(_least(own, train_rows, best).where(own.any(dim=1), torch.nan))
    return torch.cat(found)


def _least(own: Tensor, train_rows: Tensor, places: Tensor) -> Tensor:
    """1 - |cos| as half the squared difference of unit rows, which is exactly 0 for copies."""
    found = []
    for place in places.T:
        other = torch.nn.functional.normalize(train_rows[place].double(), dim=1)
        apart, joined = (own - other).square().sum(dim=1), (own + other).square().sum(dim=1)
        # A training row of zeros has no direction to share.
        found.append(torch.where(other.any(dim=1), torch.minimum(apart, joined) / 2, 1.0))
    return torch.stack(found).amin(dim=0)
