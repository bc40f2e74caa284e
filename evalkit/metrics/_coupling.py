"""How two Gaussians fit onto each other: the optimal map between them, and what each sample does to their distance.

With S1 = X'X and S2 = Y'Y, X [n, D] and Y [m, D] centred and scaled, all is in X Y' = U diag(s) V': the trace of
(S1 S2)^(1/2) is the sum of s, the optimal map T satisfies X T X' = U s U' (real) and Y T Y' = V s V' (fake), and how
the trace changes when rows are taken away is an integral of a few entries of U and V. Sides of few rows give U and V as
they are; of sides with many rows only D x D matrices are held, and the rows of U and V are made block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from ..resample import moves_of_mean
from ._moments import Side, blocks, mirrored

# Below this share of the largest, a singular value is rounding noise: exact ones, and roots of noisy squares.
NOISE, ROOT_NOISE = 1e-9, 1e-7
# The trapezoid rule in log t is off by exp(-pi^2 / step) of the integral, and by exp(-margin) at each end.
STEP, MARGIN = 0.5, 12.0
# Rows of a side that stand for all in its variance (about 1 % of it), and in the variance of its pairs.
STANDING, PAIRED = 16_384, 96


class Coupling(NamedTuple):
    """s [r]; for each side U or V [n, r] itself, or B [D, r] that makes it of the side's centred, scaled rows."""

    s: Tensor
    real: Tensor
    fake: Tensor


class Influence(NamedTuple):
    """What each row of a side does to the distance, in squared feature units: `psi` per unit of its weight; how far it
    moves the distance by being there, `moves`, of which the variance is the sum of squares; and some rows with their
    rows of U, for their pairs."""

    psi: Tensor
    moves: Tensor
    variance: float
    some: tuple[Tensor, Tensor]


def fitted_trace(real: Side, fake: Side) -> float:
    """tr (S1 S2)^(1/2), in squared feature units.

    Of few rows it is the nuclear norm of X Y', exact whatever the rank. Of many, with S1 = F F', the sum of the roots
    of the eigenvalues of F' S2 F: scipy's sqrtm is ten times slower and was wrong for singular products in several
    releases.
    """
    if real.S is not None and fake.S is not None:
        inner = _congruent(*_factor(real.S), fake.S)
        return float(torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum())
    return float(torch.linalg.svdvals(_left(real) @ _left(fake).T).sum())


def coupled(real: Side, fake: Side) -> Coupling:
    """The singular values of X Y', and what makes the rows of U and V."""
    if real.S is not None and fake.S is not None:
        F, triangular = _factor(real.S)
        squares, P = _eigh(_congruent(F, triangular, fake.S))
        s = squares.clamp_min(0).sqrt()
        kept = s > ROOT_NOISE * s.norm()
        s, P = s[kept], P[:, kept]
        # F^-1', of eigenvectors by their lengths.
        moved = torch.linalg.solve_triangular(F.T, P, upper=True) if triangular else F / F.square().sum(dim=0) @ P
        return Coupling(s, moved, F @ P / s)
    X, Y = _left(real), _left(fake)
    P, s, Qh = torch.linalg.svd(X @ Y.T, full_matrices=False)
    kept = s > NOISE * s[:1].sum()
    s, P, Q = s[kept], P[:, kept], Qh.T[:, kept]
    of_real = P if real.S is None else Y.T @ Q / s
    of_fake = Q if fake.S is None else X.T @ P / s
    return Coupling(s, of_real, of_fake)


def _left(side: Side) -> Tensor:
    """X itself, or for many rows any F' with S = F F'."""
    if side.X is not None:
        return side.X
    assert side.S is not None  # a side is one or the other
    return _factor(side.S)[0].T


def _factor(S: Tensor) -> tuple[Tensor, bool]:
    """F with S = F F', and whether it is triangular: by Cholesky, or where S is singular by its eigenvectors."""
    L, failed = torch.linalg.cholesky_ex(S)
    diagonal = L.diagonal()
    if not int(failed) and float(diagonal.min()) > 1e-7 * float(diagonal.max()):
        return L, True
    values, Q = torch.linalg.eigh(S)
    kept = values > len(S) * torch.finfo(S.dtype).eps * values.max()
    return Q[:, kept] * values[kept].sqrt(), False


def _congruent(F: Tensor, triangular: bool, S: Tensor) -> Tensor:
    """F' S F; for a triangular F by LAPACK's own routine, which does a third of the work of two products."""
    if triangular and S.device.type == "cpu":
        lower, _ = scipy.linalg.lapack.dsygst(S.numpy().T, F.numpy(), itype=2, lower=1)
        return mirrored(torch.from_numpy(np.ascontiguousarray(lower)))
    inner = F.T @ S @ F
    return (inner + inner.T) / 2


def _eigh(S: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors; on the CPU by scipy's divide and conquer, 1.5 times as fast as torch's here."""
    if S.device.type != "cpu":
        values, vectors = torch.linalg.eigh(S)
        return values, vectors
    found = scipy.linalg.eigh(S.numpy(), driver="evd", check_finite=False)
    return torch.from_numpy(np.ascontiguousarray(found[0])), torch.from_numpy(np.ascontiguousarray(found[1]))


# What a sample does --------------------------------------------------------------------------------------


def influence(side: Side, other: Side, projection: Tensor, s: Tensor, generated: bool) -> Influence:
    """What the rows of a side do to the distance; the values of a real side of many rows from STANDING of them.

    psi(y) = 2 dmu.(y - mu2) + (y - mu2)'(I - T)(y - mu2) less its mean, for a generated row; for a real one its mirror
    image. The variance is that of the jackknife, (n - 1)/n sum (F_-i - mean)^2, with each F_-i exact: without row i
    the trace is less by -1/pi int log(1 - n/(n-1) h_i(t)) dr, t = r^2, h_i(t) = sum_j U_ij^2 s_j^2 / (s_j^2 + t).
    """
    assert side.n is not None and side.rows is not None  # the caller has rows
    n, gap = side.n, (side.mean - other.mean)
    near, total, nuclear = float(gap @ gap), side.trace, float(s.sum())
    psi, without = [], []
    take = None if generated or n <= STANDING else _some(n, STANDING)
    for x, U in _scores(side, projection, take):
        along, square = (x @ gap.to(x)).double(), x.square().sum(dim=1).double()
        weights = U.square().double()
        psi.append(2 * math.sqrt(n - 1) * along + (n - 1) * (square - weights @ s))
        if n > 2:
            # F without row i: its mean moves by -x / (n - 1), its scatter loses n / (n - 1) xx'.
            gaps = near - 2 * along / math.sqrt(n - 1) + square / (n - 1)
            traces = (total - n / (n - 1) * square) * (n - 1) / (n - 2)
            fits = (nuclear + _trace_without(weights, s, n)) * math.sqrt((n - 1) / (n - 2))
            without.append(gaps + traces - 2 * fits)
    values = torch.cat(psi)
    if n > 2:
        left = torch.cat(without)
        variance = (n - 1) ** 2 / n * left.var()
        # The few that stand for all move it as much as all do.
        moves = (left.mean() - left) * ((n - 1) / math.sqrt(n * (len(left) - 1)))
    else:
        variance, moves = values.var() / n, moves_of_mean(values)
    return Influence(values - values.mean(), moves, float(variance), _paired(side, projection))


def _some(n: int, size: int) -> Tensor:
    """Positions of `size` rows drawn at random, the same ones every time: any rule on the order fails on some order."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(n))[:size].sort().values


def _scores(side: Side, projection: Tensor, take: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of the centred, scaled rows with their rows of U; `take`: the positions of those that are wanted."""
    assert side.n is not None and side.rows is not None
    if side.X is not None:
        yield (side.X, projection) if take is None else (side.X[take], projection[take])
        return
    B = projection if _is_delicate(side, projection) else projection.float()
    for _, block in blocks(side.rows, take):
        x = ((block.double() - side.mean) / math.sqrt(side.n - 1)).to(B)
        yield x, x @ B


def _is_delicate(side: Side, B: Tensor) -> bool:
    """Whether products in float32, which take half the time, would be off by more than a thousandth on some rows."""
    x, U = _paired(side, B)
    return (
        side.rows is None
        or side.rows.dtype == torch.float64
        or float((x.float() @ B.float() - U).norm()) > (1e-3 * float(U.norm()))
    )


def _paired(side: Side, projection: Tensor) -> tuple[Tensor, Tensor]:
    """PAIRED rows, centred and scaled, with their rows of U, float64."""
    assert side.n is not None and side.rows is not None
    take = _some(side.n, PAIRED)
    if side.X is not None:
        return side.X[take], projection[take]
    x = (side.rows[take].double() - side.mean) / math.sqrt(side.n - 1)
    return x, x @ projection


def _nodes(s: Tensor) -> Tensor:
    """r of the integrals over r > 0, evenly in log r, as far as the integrands count."""
    low, high = math.log(float(s.min())) - MARGIN, math.log(float(s.max())) + MARGIN
    return torch.arange(low, high, STEP, dtype=torch.float64, device=s.device).exp()


def _trace_without(weights: Tensor, s: Tensor, n: int) -> Tensor:
    """How the sum of s changes when one row is left out, for rows with the squares `weights` [b, r] of their U, <= 0.

    From the integral of log det(X Y'Y X' + t), of which Jacobi's identity gives every principal minor at once.
    """
    if len(s) == 0:
        return weights.new_zeros(len(weights))
    r = _nodes(s)
    t = r.square()
    rest = (1 - 1 / n - weights.sum(dim=1)).clamp_min(0)
    left = rest[:, None] + weights @ (t / (s.square()[:, None] + t))
    return ((left * n / (n - 1)).clamp(1e-300, 1).log() * r).sum(dim=1) * STEP / math.pi


def pair_variance(s: Tensor, sides: dict[bool, tuple[Side, Influence]]) -> float:
    """The part of the distance's variance that is due to pairs of samples, from a few rows of each side.

    The jackknife counts it twice: what two samples do together it sees in each of them. Efron & Stein 1981, section 4.
    sides: by whether they are generated; one of them alone when the other is fixed.
    """
    if len(s) == 0:
        return 0.0
    chosen = {k: (side.n or 0, *found.some) for k, (side, found) in sides.items() if (side.n or 0) >= 4}
    inner = {k: torch.zeros(len(x), len(x)).to(x) for k, (_, x, _) in chosen.items()}
    # What is left where t = 0; no difference of near equals inside the loop, which would go below zero.
    outside = {k: torch.eye(len(U)).to(U) - 1 / n - U @ U.T for k, (n, _, U) in chosen.items()}
    for left in outside.values():
        left.diagonal().clamp_(min=1e-30)
    across = torch.zeros(*(len(x) for _, x, _ in chosen.values())).to(s) if len(chosen) == 2 else None
    for r in _nodes(s):
        shrunk = r.square() / (s.square() + r.square())
        diagonals = []
        for k, (_, _, U) in chosen.items():
            left = outside[k] + (U * shrunk) @ U.T
            d = left.diagonal()
            inner[k] += torch.log1p(-(left.square() / d[:, None] / d).clamp_max(1 - 1e-15)) * r
            diagonals.append(d)
        if across is not None:
            U, V = (U for _, _, U in chosen.values())
            tie = (U * (s * r / (s.square() + r.square()))) @ V.T
            across += torch.log1p(tie.square() / diagonals[0][:, None] / diagonals[1]) * r
    scale, total = -2 * STEP / math.pi, 0.0
    for k, (n, x, _) in chosen.items():
        total += _within(scale * inner[k] + 2 * (x @ x.T) / (n - 1), n)
    if across is not None:
        (n, x, _), (m, y, _) = chosen.values()
        total += _between(scale * across - 2 * (x @ y.T) / math.sqrt((n - 1) * (m - 1)), n, m)
    return total


def _within(Q: Tensor, n: int) -> float:
    """Variance due to all pairs of n samples of one side, from Q [a, a] of some: what a pair does beyond its two."""
    a = len(Q)
    off = 1 - torch.eye(a).to(Q)
    rows = (Q * off).sum(dim=1) / (a - 2)
    pure = (Q - rows[:, None] - rows + rows.sum() / (a - 1)) * off
    return float(pure.square().sum()) / (a * (a - 3)) * n * (n - 1) / 2


def _between(Q: Tensor, n: int, m: int) -> float:
    """The same of all pairs of a real and a generated sample, from Q [a, b] of some."""
    a, b = Q.shape
    pure = Q - Q.mean(dim=1, keepdim=True) - Q.mean(dim=0) + Q.mean()
    return float(pure.square().sum()) / ((a - 1) * (b - 1)) * n * m
