"""Whether a generator hands out its training data: are its samples nearer to them than fresh real samples are?"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ..errors import BadSetting
from ..resample import LEVEL
from ..types import Estimate, Features, metric
from ._distances import checked, clouds
from ._nearest import SPARE, kth_nearest, neighbours_among
from .detection import area_under_roc

PERMUTATIONS = 9999
DEALT = 50_000_000  # ranks dealt in all, a second or two; more samples make do with fewer permutations, 999 at least
SHUFFLED = 1 << 22  # ranks held at once while labels are dealt anew


@metric(on={"image": "inception", "text": "char_ngrams"}, better="lower", unit="probability", min_n=2)
def memorization(real: Features, fake: Features, train: Features) -> Estimate:
    """Chance that a generated sample lies nearer to the training data than a held-out real one does; 1 means copies.

    0.5: as far as fresh real data. Below 0.5: further away than real data, which is no sign of copying. In the spirit
    of Meehan et al. 2020, C_T. Interval: DeLong et al. 1988.
    """
    return memorization_estimate(real.rows, fake.rows, train.rows)


@metric(on={"image": "inception", "text": "char_ngrams"}, better="higher", unit="probability", min_n=2)
def memorization_p(real: Features, fake: Features, train: Features, *, seed: int = 0) -> Estimate:
    """P-value of the generated samples being no nearer to the training data than held-out real ones, in (0, 1].

    Small: copies, beyond what chance explains. A metric of its own beside `memorization`, because less is worse. By
    permutation of who was generated; interval: the error that the number of permutations leaves.
    """
    return memorization_p_value(real.rows, fake.rows, train.rows, seed=seed)


def memorization_estimate(real_rows: Tensor, fake_rows: Tensor, train_rows: Tensor) -> Estimate:
    """P(d(fake) < d(real)) + half P(equal) in [0, 1], d the distance to the nearest training row, with its interval.

    real_rows [N, D] that were not trained on, fake_rows [M, D], train_rows [K, D]; N, M >= 2, K >= 1. The training
    rows are taken as given, the other two as draws. Raises TooFewSamples, BadRows. Meehan et al. 2020, section 3.
    """
    held_out, made = both_nearest(real_rows, fake_rows, train_rows)
    return area_under_roc(-held_out, -made)


def memorization_p_value(
    real_rows: Tensor, fake_rows: Tensor, train_rows: Tensor, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Estimate:
    """One-sided permutation p-value in (0, 1] of the rank sum of the distances to the nearest training row.

    Rows as in `memorization_estimate`; permutations: at most, fewer above 5000 samples. (1 + dealings of the labels at
    least as extreme) / (1 + permutations), Phipson & Smyth 2010; the interval is Clopper & Pearson's for that
    count. With at most 20 samples a side and no equal distances the chance is exact (Mann & Whitney 1947), and its
    interval the value itself. Raises TooFewSamples, BadRows, BadSetting.
    """
    if permutations < 1:
        raise BadSetting(f"permutations is {permutations}; it must be 1 or more")
    held_out, made = (distance.cpu().numpy() for distance in both_nearest(real_rows, fake_rows, train_rows))
    pooled = np.concatenate([made, held_out])
    if max(len(made), len(held_out)) <= 20 and len(np.unique(pooled)) == len(pooled):
        p = float(stats.mannwhitneyu(made, held_out, alternative="less", method="exact").pvalue)
        return Estimate(p, p, p, "exact", LEVEL)
    # Doubled ranks are whole numbers, so that equal sums compare as equal.
    ranks = torch.from_numpy(np.round(2 * stats.rankdata(pooled)).astype(np.int64))
    permutations = min(permutations, max(999, DEALT // len(pooled)))
    extreme = _as_extreme(ranks, len(made), permutations, seed)
    value = (extreme + 1) / (permutations + 1)
    found = stats.binomtest(extreme, permutations).proportion_ci(LEVEL, method="exact")
    return Estimate(value, min(value, float(found.low)), max(value, float(found.high)), "permutation", LEVEL)


def _as_extreme(ranks: Tensor, m: int, permutations: int, seed: int) -> int:
    """In how many random dealings the first m places get a rank sum no larger than they have."""
    generator = torch.Generator().manual_seed(seed)
    observed = ranks[:m].sum()
    # The smaller side is drawn; the sum of the other is what is left.
    drawn = min(m, len(ranks) - m)
    step = max(1, SHUFFLED // len(ranks))
    extreme = 0
    for start in range(0, permutations, step):
        keys = torch.rand(min(step, permutations - start), len(ranks), generator=generator)
        sums = ranks[keys.topk(drawn, dim=1, sorted=False).indices].sum(dim=1)
        sums = sums if drawn == m else ranks.sum() - sums
        extreme += int((sums <= observed).sum())
    return extreme


def both_nearest(real_rows: Tensor, fake_rows: Tensor, train_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [N] and [M] of held-out and of generated rows to their nearest training row."""
    clouds(2, real=real_rows, fake=fake_rows)
    return nearest(real_rows, train_rows)[0], nearest(fake_rows, train_rows)[0]


def nearest(rows: Tensor, train_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distance [N] (float64, >= 0) of each row to its nearest training row, and that row's index [N].

    rows [N, D], train_rows [K, D], K >= 1, memory-mapped or not. Exact: an exact copy lies at exactly 0. Memory
    O(block * D). Raises TooFewSamples, BadRows.
    """
    checked("query", rows, 1)
    train, queries = clouds(1, train=train_rows, query=rows)
    squared, index = kth_nearest(queries, train, neighbours_among(queries, train, 1 + SPARE), 1)
    return squared.sqrt(), index
