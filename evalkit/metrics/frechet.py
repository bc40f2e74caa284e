"""How far the generated features lie from the real ones, both seen as Gaussians: the Frechet distance (FID)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..resample import around
from ..types import Estimate, Features, metric
from ._guards import two_sides


@metric(on={"image": "random_conv", "text": "char_ngrams"}, better="lower", unit="squared feature distance", min_n=2)
def fid(real: Features, fake: Features) -> Estimate:
    """Frechet distance of the real and the generated features, in squared feature units, >= 0.

    Biased upward at small n. Heusel et al. 2017, eq. 6. Interval: delta method on the influence of every sample.
    """
    return frechet_estimate(real.rows, fake.rows)


def frechet_distance(real_rows: Tensor, fake_rows: Tensor) -> float:
    """Squared 2-Wasserstein distance of the two fitted Gaussians, in squared feature units, >= 0.

    real_rows [N, D], fake_rows [M, D], any float dtype; N, M >= 2; covariances with N - 1 below the line.
    Raises TooFewSamples and BadRows. Dowson & Landau 1982; Heusel et al. 2017, eq. 6.
    """
    real, fake = two_sides(real_rows, fake_rows)
    mean_gap, X, Y = _centred(real, fake)
    coupling = _by_rows(X, Y, False) if min(len(X), len(Y)) <= X.shape[1] else _by_columns(X, Y, False)
    return _distance(mean_gap, X, Y, coupling)


def frechet_estimate(real_rows: Tensor, fake_rows: Tensor) -> Estimate:
    """`frechet_distance` with its 95 % interval by the delta method.

    The influence of a generated sample y on the distance is 2 dmu.(y - mu2) + (y - mu2)'(I - T)(y - mu2) less its
    mean, with T the optimal map from the fake to the real Gaussian; of a real sample the mirror image.
    """
    real, fake = two_sides(real_rows, fake_rows)
    mean_gap, X, Y = _centred(real, fake)
    coupling = _by_rows(X, Y, True) if min(len(X), len(Y)) <= X.shape[1] else _by_columns(X, Y, True)
    value = _distance(mean_gap, X, Y, coupling)
    # Row i of X and of Y is centred and divided by sqrt(n - 1); the influences are of the rows as they were.
    n, m = len(X) - 1, len(Y) - 1
    of_real = -2 * n**0.5 * (X @ mean_gap) + n * (X.square().sum(dim=1) - coupling.real)
    of_fake = 2 * m**0.5 * (Y @ mean_gap) + m * (Y.square().sum(dim=1) - coupling.fake)
    variance = of_real.var() / len(X) + of_fake.var() / len(Y)
    return around(value, float(variance.sqrt()), "delta", low=0.0)


class _Coupling(NamedTuple):
    """tr (S1 S2)^(1/2), and for each row z its z'Tz under the optimal map T from its own side to the other."""

    trace: float
    real: Tensor
    fake: Tensor


def _centred(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """mu2 - mu1, and factors X, Y of the covariances: S1 = X'X, S2 = Y'Y."""
    mu1, mu2 = real.mean(dim=0), fake.mean(dim=0)
    return mu2 - mu1, (real - mu1) / (len(real) - 1) ** 0.5, (fake - mu2) / (len(fake) - 1) ** 0.5


def _distance(mean_gap: Tensor, X: Tensor, Y: Tensor, coupling: _Coupling) -> float:
    value = float(mean_gap.square().sum() + X.square().sum() + Y.square().sum()) - 2 * coupling.trace
    return max(0.0, value)


def _by_rows(X: Tensor, Y: Tensor, with_maps: bool) -> _Coupling:
    """For few rows: tr (S1 S2)^(1/2) is the nuclear norm of X Y', whatever the rank; no D x D matrix is formed.

    With X Y' = U s V', the optimal map T of the fake side satisfies Y T Y' = V s V' on the range of S2.
    """
    cross = X @ Y.T
    if not with_maps:
        return _Coupling(float(torch.linalg.svdvals(cross).sum()), X[:, 0], Y[:, 0])
    U, s, Vh = torch.linalg.svd(cross, full_matrices=False)
    return _Coupling(float(s.sum()), U.square() @ s, Vh.T.square() @ s)


def _by_columns(X: Tensor, Y: Tensor, with_maps: bool) -> _Coupling:
    """For many rows: with S1 = F F', the trace is the sum of the roots of the eigenvalues of F' S2 F.

    scipy's sqrtm is ten times slower and was wrong for singular products in several releases.
    """
    F, inverse = _factor(X.T @ X)
    moved = Y @ F
    inner = moved.T @ moved
    if not with_maps:
        return _Coupling(float(torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum()), X[:, 0], Y[:, 0])
    squares, V = torch.linalg.eigh(inner)
    s = squares.clamp_min(0).sqrt()
    # Below this a root is rounding noise of its square, and dividing by it would blow the noise up.
    kept = s > 1e-7 * moved.norm()
    safe = torch.where(kept, s, torch.ones_like(s))
    of_real = (X @ inverse.T @ V).square() @ s
    of_fake = (moved @ V).square() @ torch.where(kept, 1 / safe, torch.zeros_like(s))
    return _Coupling(float(s.sum()), of_real, of_fake)


def _factor(S: Tensor) -> tuple[Tensor, Tensor]:
    """F with S = F F', and its (pseudo-)inverse: Cholesky, or eigenvectors where S is singular (constant columns)."""
    L, failed = torch.linalg.cholesky_ex(S)
    diagonal = L.diagonal()
    if not int(failed) and float(diagonal.min()) > 1e-7 * float(diagonal.max()):
        return L, torch.linalg.solve_triangular(L, torch.eye(len(S)).to(S), upper=False)
    values, Q = torch.linalg.eigh(S)
    kept = values > len(S) * torch.finfo(S.dtype).eps * values.max()
    root = values[kept].sqrt()
    return Q[:, kept] * root, Q[:, kept].T / root[:, None]
