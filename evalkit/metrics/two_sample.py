"""Whether a classifier trained for it can tell generated from real features it has not seen: the two-sample test."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import BadSetting, TooFewSamples
from ..resample import moves_of_mean
from ..types import Estimate, Features, metric
from ._guards import two_sides
from .detection import area_under_roc, wilson

Rows = npt.NDArray[np.float64]
TREES = 100
LEAF = 3  # samples; single ones give scores too coarse to rank


@metric(on={"image": "random_conv", "text": "char_ngrams"}, better="lower", unit="share", min_n=10)
def c2st(real: Features, fake: Features, *, folds: int = 5, seed: int = 0) -> dict[str, Estimate]:
    """Classifier two-sample test, cross-fitted: accuracy and AUROC in [0, 1] on unseen rows; 0.5 is indistinguishable.

    Lopez-Paz & Oquab 2017, section 3. Intervals: Wilson for accuracy, DeLong for auroc, both widened for the
    training rows that the folds have in common (Nadeau & Bengio 2003). Clearly below 0.5 means that the two sides share
    samples: the copy of an unseen sample was learnt under the other label.
    """
    return two_sample_test(real.rows, fake.rows, folds=folds, seed=seed)


def two_sample_test(real_rows: Tensor, fake_rows: Tensor, *, folds: int = 5, seed: int = 0) -> dict[str, Estimate]:
    """`accuracy` and `auroc` in [0, 1] of out-of-fold scores, each with its 95 % interval; 0.5 is chance.

    real_rows [N, D], fake_rows [M, D], any float dtype; N, M >= 2 folds. The larger side is cut to the smaller one's
    size at random, so that chance is 0.5. A score of exactly 0.5 counts as half right. Raises TooFewSamples, BadRows,
    BadSetting. Lopez-Paz & Oquab 2017, section 3.
    """
    if folds < 2:
        raise BadSetting(f"folds is {folds}; it must be 2 or more")
    real, fake = two_sides(real_rows, fake_rows, least=2 * folds)
    if real.shape[1] == 0:
        raise TooFewSamples("rows of no columns; the two-sample test needs at least one")
    generator = torch.Generator().manual_seed(seed)
    n = min(len(real), len(fake))
    # Shuffled and then dealt: every fold holds as many real as fake rows. Folds cut from rows in order of label or
    # class would test on what was never trained on.
    sides = [rows.cpu()[torch.randperm(len(rows), generator=generator)[:n]].numpy() for rows in (real, fake)]
    X = np.concatenate(sides)
    is_fake = np.repeat([0, 1], n)
    fold = np.concatenate([np.arange(n) % folds] * 2)
    scores = np.empty(2 * n)
    for k in range(folds):
        scores[fold == k] = _unseen_scores(X[fold != k], is_fake[fold != k], X[fold == k], seed)
    right = np.where(scores == 0.5, 0.5, (scores > 0.5) == is_fake)
    share = float(right.mean())
    # The folds are trained on rows in common, so their errors are not independent: the variance of a mean over k folds
    # is not 1 / k of one fold's but 1 / k + test / train (Nadeau & Bengio 2003, eq. 9). Without this they under-cover.
    inflation = 1 + folds / (folds - 1)
    low, high = wilson(share, 2 * n / inflation)
    by_side = torch.from_numpy(scores)
    terms = torch.from_numpy(right)
    moves = {
        side: math.sqrt(inflation) / 2 * moves_of_mean(own) for side, own in (("real", terms[:n]), ("fake", terms[n:]))
    }
    return {
        "accuracy": Estimate(share, min(low, share), max(high, share), "wilson", moves=moves),
        "auroc": area_under_roc(by_side[:n], by_side[n:], inflation=inflation),
    }


def _unseen_scores(X: Rows, is_fake: npt.NDArray[np.int64], unseen: Rows, seed: int) -> Rows:
    """P(fake) of unseen rows by extremely randomised trees (Geurts et al. 2006).

    Trees, because they see differences of place, of spread and of dependence alike, where a hyperplane sees only the
    first; they take columns of any scale and need no tuning. Randomised splits cost half of a random forest's.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(TREES, min_samples_leaf=LEAF, random_state=seed, n_jobs=1).fit(X, is_fake)
    scores: Rows = trees.predict_proba(unseen)[:, 1]
    return scores
