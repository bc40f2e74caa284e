"""How many unlike samples the generator really makes: the Vendi score, an effective number of directions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import BadRows, BadSetting, TooFewSamples
from ..resample import around, jackknife, moves_of_mean, partition
from ..types import Estimate, Features, metric

BLOCK = 4096  # rows added to the covariance at once
MOST_PAIRED = 10_000  # rows whose N x N kernel is decomposed: 0.8 GB and minutes


@metric(on={"image": "inception", "text": "char_ngrams"}, better="higher", unit="effective samples", min_n=3)
def vendi(
    fake: Features, *, q: float = 1.0, kernel: Literal["cosine", "rbf"] = "cosine", sigma: float = 0.5
) -> Estimate:
    """Effective number of unlike generated samples, in [1, n]; the exponential of the entropy of their similarities.

    q: order of the entropy; below 1 rare samples weigh more, above 1 the common ones. Grows with n. Friedman & Dieng
    2023, definition 3.1; Pasarkar & Dieng 2024. Interval: delta method on every sample's influence.
    """
    return vendi_estimate(fake.rows, q=q, kernel=kernel, sigma=sigma)


def vendi_score(
    rows: Tensor, *, q: float = 1.0, kernel: Literal["cosine", "rbf"] = "cosine", sigma: float = 0.5
) -> float:
    """exp(entropy of order q of the eigenvalues of K / N) in [1, N]; K the similarities of the rows' directions.

    rows [N, D], any float dtype, any length but 0; N >= 3. cosine: K = x.y of rows divided by their length, by way of
    the D x D matrix where N > D. rbf: exp(-|x - y|^2 / 2 sigma^2) of the same; N at most 10000. q in [0, inf].
    Raises TooFewSamples, BadRows, BadSetting. Friedman & Dieng 2023, definition 3.1.
    """
    return vendi_estimate(rows, q=q, kernel=kernel, sigma=sigma).value


def vendi_of_kernel(K: Tensor, *, q: float = 1.0) -> float:
    """The Vendi score in [1, N] of a similarity matrix K [N, N], symmetric, positive semi-definite, diagonal 1."""
    if K.ndim != 2 or K.shape[0] != K.shape[1] or len(K) < 1:
        raise BadRows(f"the similarity matrix has shape {tuple(K.shape)}; expected [N, N]")
    if not bool(K.isfinite().all()) or not torch.allclose(K.diagonal().double(), torch.ones(len(K)).to(K).double()):
        raise BadRows("the similarity matrix must be finite, with 1 on its diagonal")
    return math.exp(entropy(torch.linalg.eigvalsh(K.double() / len(K)), _order(q)))


def vendi_estimate(
    rows: Tensor, *, q: float = 1.0, kernel: Literal["cosine", "rbf"] = "cosine", sigma: float = 0.5
) -> Estimate:
    """`vendi_score` with its 95 % interval for the expected value at this N, and the influence of each sample.

    The entropy of the matrix C moves by -tr(log C dC) for q = 1 and by q / (1 - q) tr(C^(q-1) dC) / tr C^q else; the
    weight of a sample x adds xx' - C to it, so one decomposition gives the influence of every sample. Where most
    samples have a direction to themselves that is too small a step to judge by; then 20 groups are left out in turn.
    """
    _order(q)
    if kernel not in ("cosine", "rbf"):
        raise BadSetting(f"kernel is {kernel!r}; it must be 'cosine' or 'rbf'")
    lengths = _lengths(rows)
    n = len(rows)
    by_columns = kernel == "cosine" and n > rows.shape[1]
    matrix = _covariance(rows, lengths) if by_columns else _similarities(rows, lengths, kernel, sigma)
    values, V = torch.linalg.eigh(matrix / n)
    influence = _onto_columns(rows, lengths, values, V, q) if by_columns else _onto_rows(values, V, q)
    score = _score(values, q, n)
    influence = score * (influence - influence.mean())
    if n >= (10 if q >= 1 else 20) * score:
        found = around(score, float(influence.std()) / math.sqrt(n), "delta", low=1.0, high=float(n))
    else:
        parts = partition(n)
        left = [_without(matrix, rows, lengths, part, by_columns) for part in parts]
        deleted = torch.tensor([_score(torch.linalg.eigvalsh(C), q, n) for C in left], dtype=torch.float64)
        shares = torch.tensor([len(part) / n for part in parts], dtype=torch.float64)
        found = jackknife(score, [deleted], [shares], low=1.0, high=float(n))
    return replace(found, per_sample=influence, moves={"fake": moves_of_mean(influence)})


def _score(values: Tensor, q: float, n: int) -> float:
    # Rounding must not carry it past its range.
    return min(max(math.exp(entropy(values, q)), 1.0), float(n))


def _without(matrix: Tensor, rows: Tensor, lengths: Tensor, part: Tensor, by_columns: bool) -> Tensor:
    """The matrix of shares with some rows left out."""
    n = len(rows)
    if by_columns:
        unit = rows[part].double() / lengths[part, None]
        return (matrix - unit.T @ unit) / (n - len(part))
    keep = torch.ones(n, dtype=torch.bool)
    keep[part] = False
    return matrix[keep][:, keep] / (n - len(part))


def entropy(shares: Tensor, q: float = 1.0) -> float:
    """Renyi entropy of order q in nats of shares that add up to 1; 0 log 0 = 0, and tiny negative shares are 0."""
    p = shares[shares > _noise(shares)]
    if q == 1:
        return float(torch.special.entr(p).sum())
    if math.isinf(q):
        return -math.log(float(p.max()))
    return math.log(float(p.pow(q).sum())) / (1 - q)


def _order(q: float) -> float:
    if not q >= 0:
        raise BadSetting(f"q is {q}; it must be 0 or more, or inf")
    return q


def _noise(values: Tensor) -> float:
    """Below this an eigenvalue is rounding; orders under 1 would count it as a sample."""
    return len(values) * torch.finfo(torch.float64).eps * float(values.max())


def _lengths(rows: Tensor) -> Tensor:
    """The length [N] of each row, float64; refuses what has no direction."""
    if rows.ndim != 2:
        raise BadRows(f"fake rows have shape {tuple(rows.shape)}; expected [N, D]")
    if len(rows) < 3:
        raise TooFewSamples(f"{len(rows)} fake samples; this metric needs at least 3")
    lengths = torch.cat([block.double().norm(dim=1) for block in torch.split(rows, BLOCK)])
    for wrong, what in ((~lengths.isfinite(), "holds NaN or infinity"), (lengths == 0, "is all zeros")):
        if bool(wrong.any()):
            raise BadRows(f"fake row {int(wrong.nonzero()[0])} {what}; check the instrument and the sample")
    return lengths


def _similarities(rows: Tensor, lengths: Tensor, kernel: str, sigma: float) -> Tensor:
    """K [N, N] with 1 on the diagonal."""
    unit = rows.double() / lengths[:, None]
    if kernel == "cosine":
        return unit @ unit.T
    if not 0 < sigma < math.inf:
        raise BadSetting(f"sigma is {sigma}; it must be above 0")
    if len(unit) > MOST_PAIRED:
        raise BadSetting(f"kernel rbf bears {MOST_PAIRED} samples, not {len(unit)}; use cosine or fewer samples")
    return ((unit @ unit.T).clamp_max_(1.0) - 1).div_(sigma**2).exp_()


def _covariance(rows: Tensor, lengths: Tensor) -> Tensor:
    """X'X [D, D] of the unit rows, which has the eigenvalues of their K."""
    found = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for block, length in zip(torch.split(rows, BLOCK), torch.split(lengths, BLOCK), strict=True):
        unit = block.double() / length[:, None]
        found += unit.T @ unit
    return found


def _onto_columns(rows: Tensor, lengths: Tensor, values: Tensor, V: Tensor, q: float) -> Tensor:
    """Influence [N] of each row on the entropy, from the eigenvectors V of X'X."""
    slopes = _slopes(values, q)
    blocks = zip(torch.split(rows, BLOCK), torch.split(lengths, BLOCK), strict=True)
    return torch.cat([(block.double() @ V).square() @ slopes / length**2 for block, length in blocks])


def _onto_rows(values: Tensor, U: Tensor, q: float) -> Tensor:
    """The same from those of K: the square of row i along the k-th eigenvector of X'X / N is N s_k U_ik^2."""
    return U.square() @ (_slopes(values, q) * values * len(values))


def _slopes(values: Tensor, q: float) -> Tensor:
    """Derivative of the entropy of order q in each eigenvalue; 0 where the eigenvalue is rounding."""
    kept = values > _noise(values)
    p = torch.where(kept, values, torch.ones_like(values))
    if q == 1:
        slopes = -p.log()
    elif math.isinf(q):
        # A sample moves the mean of the largest eigenvalues where several are equal.
        top = values > (1 - 1e-9) * values.max()
        slopes = -top.to(values) / (top.sum() * values.max())
    else:
        slopes = q / (1 - q) * p.pow(q - 1) / values[kept].pow(q).sum()
    return torch.where(kept, slopes, torch.zeros_like(slopes))
