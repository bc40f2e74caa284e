"""From scores to honest probabilities: Platt's logistic map, learnt on scores of samples the scorer did not see.

P(fake) is at even prior odds: both sides count half, however many samples each has. Who expects one fake in a hundred
must weigh it down accordingly.

Thresholds are fixed at 0.2 and 0.8 of the calibrated probability: at even odds, a verdict is then wrong at most one
time in five, and what lies between is called uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, issparse

from ._fit import balanced_weights, folds

FOLDS = 5
THRESHOLD = (0.2, 0.8)

# A slope of zero would tie all samples: kept this high, hopeless scores give P close to 0.5 and keep their order.
LEAST_SLOPE = 1e-3


@dataclass(frozen=True)
class Platt:
    """P(fake) = 1 / (1 + exp(-(slope * score + offset)))."""

    slope: float
    offset: float


def platt(scores: npt.NDArray[np.float64], is_fake: npt.NDArray[np.int64]) -> Platt:
    """The logistic map of highest likelihood, targets drawn in from 0 and 1 as in Platt 1999, section 2.2.

    Raises nothing: scores that do not separate, or separate the wrong way round, give P near 0.5.
    """
    counts = np.bincount(is_fake, minlength=2)
    targets = np.where(is_fake == 1, (counts[1] + 1) / (counts[1] + 2), 1 / (counts[0] + 2))
    weights = balanced_weights(is_fake)
    spread = max(float(scores.std()), 1e-12)
    X = np.stack([scores / spread, np.ones_like(scores)], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-X @ beta))
        gradient = X.T @ (weights * (targets - p))
        # The ridge keeps the step finite when all scores are equal.
        hessian = (X * (weights * p * (1 - p))[:, None]).T @ X + 1e-6 * len(scores) * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Newton can overshoot on nearly separated scores; bounded steps still arrive.
        beta += step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    slope = float(beta[0] / spread)
    if slope < LEAST_SLOPE:
        mean = sum(scores[is_fake == label].mean() for label in (0, 1)) / 2
        return Platt(LEAST_SLOPE, float(-LEAST_SLOPE * mean))
    return Platt(slope, float(beta[1]))


def calibrated_logistic(
    X: npt.NDArray[np.float64] | csr_matrix, is_fake: npt.NDArray[np.int64], C: float, seed: int
) -> tuple[npt.NDArray[np.float64], float]:
    """Coefficients [D] and intercept of a logistic regression whose output is the calibrated log-odds of fake.

    X [N, D] dense or sparse. Both sides weigh the same. The Platt map is learnt on cross-fitted scores (five shuffled
    folds) and folded into the coefficients of the regression on all samples.
    """
    columns = X.shape[1]
    # A column of zeros has a coefficient of zero; hashed n-grams have more of them than of others, and the optimiser's
    # steps cost as much as there are columns.
    used = np.unique(X.nonzero()[1]) if issparse(X) else np.arange(columns)
    X = X[:, used] if issparse(X) else X
    fold = folds(is_fake, FOLDS, seed)
    unseen = np.zeros(len(is_fake))
    for k in range(FOLDS):
        coefficients, intercept = _logistic(X[fold != k], is_fake[fold != k], C)
        unseen[fold == k] = X[fold == k] @ coefficients + intercept
    calibration = platt(unseen, is_fake)
    coefficients, intercept = _logistic(X, is_fake, C)
    whole = np.zeros(columns)
    whole[used] = calibration.slope * coefficients
    return whole, calibration.slope * intercept + calibration.offset


def _logistic(X: object, is_fake: npt.NDArray[np.int64], C: float) -> tuple[npt.NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, class_weight="balanced", max_iter=2000).fit(X, is_fake)
    return model.coef_[0], float(model.intercept_[0])
