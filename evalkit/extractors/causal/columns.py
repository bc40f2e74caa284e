"""The numbers of a row by name: what the columns of each head of a language model's row mean.

All sums run over the scored tokens of one text, natural logarithms throughout. A detector reads a head through `named`,
never by position: `named(side.head("zero_shot").rows, ZERO_SHOT)["log_rank"]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .streaming import TokenStatistics

Floats = npt.NDArray[np.float64]

# nats: minus the sum of ln p of the scored tokens; bytes: of the text in UTF-8.
LIKELIHOOD = ("nats", "tokens", "bytes")

# Sums over the scored tokens t, l_t = ln p(x_t | x_<t), r_t = 1 + how many tokens are strictly likelier than x_t.
ZERO_SHOT = (
    "tokens",  # how many there are
    "log_p",  # l_t
    "rank",  # r_t
    "log_rank",  # ln r_t
    "entropy",  # H_t of the next-token distribution
    "top_10",  # r_t <= 10 (Gehrmann et al. 2019, GLTR)
    "top_100",  # 10 < r_t <= 100
    "top_1000",  # 100 < r_t <= 1000
    "rest",  # r_t > 1000
    "mu",  # mean of ln p of a token drawn from the model itself: -H_t (Bao et al. 2024, eq. 5)
    "variance",  # its variance (eq. 6)
)

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
# Of the surprisals x_t = -l_t in order: steps d_t = x_t+1 - x_t, bends e_t = d_t+1 - d_t; population moments. 0 where a
# text has too few tokens for the number, or no spread to divide by.
SURPRISAL = (
    "mean",
    "deviation",
    "skewness",
    "kurtosis",  # excess: 0 for a normal distribution
    "autocorrelation_1",
    "autocorrelation_2",
    "autocorrelation_3",
    "step_mean",
    "step_deviation",
    "step_size",  # mean of |d_t|
    "bend_deviation",
    "bend_size",
    "bend_autocorrelation",  # at lag 1
    "entropy_deviation",  # of H_t
    *(f"quantile_{round(100 * q):02d}" for q in QUANTILES),  # linear between order statistics
)

# Of two models: q samples (the observer), p scores (the performer).
PAIR = (
    "tokens",
    "positions",  # tokens, and the place after the last one, where a token is predicted that never comes
    "log_p",
    "log_q",
    "mu",  # sum over the tokens of E_q[ln p]
    "variance",  # sum over the tokens of Var_q[ln p]
    "cross_entropy",  # sum over the positions of -E_q[ln p] (Hans et al. 2024, as its code sums)
)

SINGLE_HEADS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"likelihood": LIKELIHOOD, "zero_shot": ZERO_SHOT, "surprisal": SURPRISAL}
)
PAIR_HEADS: Mapping[str, tuple[str, ...]] = MappingProxyType({"likelihood": LIKELIHOOD, "pair": PAIR})


def slices(heads: Mapping[str, Sequence[str]]) -> Mapping[str, slice]:
    """Where each head lies in a row that has all of them side by side."""
    ends = list(accumulate(map(len, heads.values())))
    starts = [0, *ends[:-1]]
    return MappingProxyType({name: slice(a, b) for name, a, b in zip(heads, starts, ends, strict=True)})


def with_features(heads: Mapping[str, slice], width: int) -> Mapping[str, slice]:
    """These heads and, behind them, `features`: a pooled state of `width` columns."""
    end = max(columns.stop for columns in heads.values())
    return MappingProxyType({**heads, "features": slice(end, end + width)})


def named(rows: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The columns [N] of rows [N, D] by name; ValueError when there are not as many as names."""
    return dict(zip(names, rows.unbind(1), strict=True))


def single_row(series: TokenStatistics, size: int) -> Tensor:
    """One row float32 [36] of a text's statistics, [T] each, T >= 1, and its bytes in UTF-8."""
    log_p, rank, entropy = (part.double() for part in (series.log_p, series.rank, series.entropy))
    bins = [float(((rank > low) & (rank <= high)).sum()) for low, high in ((0, 10), (10, 100), (100, 1000))]
    tokens, nats = float(len(log_p)), -float(log_p.sum())
    zero_shot = [
        tokens,
        -nats,
        float(rank.sum()),
        float(rank.log().sum()),
        float(entropy.sum()),
        *bins,
        tokens - sum(bins),
        float(series.mu.double().sum()),
        float(series.variance.double().sum()),
    ]
    shape = surprisal_statistics(-log_p.numpy(), entropy.numpy())
    return torch.tensor([nats, tokens, size, *zero_shot, *shape], dtype=torch.float32)


def surprisal_statistics(x: Floats, entropy: Floats) -> list[float]:
    """The numbers SURPRISAL names, of surprisals [T] and entropies [T] of one text in nats, T >= 1."""
    step = np.diff(x)
    bend = np.diff(step)
    mean, deviation = float(x.mean()), float(x.std())
    unit = (x - mean) / deviation if deviation > 0 else np.zeros_like(x)
    return [
        mean,
        deviation,
        float((unit**3).mean()),
        float((unit**4).mean()) - 3 if deviation > 0 else 0.0,
        *(autocorrelation(x, lag) for lag in (1, 2, 3)),
        _mean(step),
        float(step.std()) if len(step) else 0.0,
        _mean(np.abs(step)),
        float(bend.std()) if len(bend) else 0.0,
        _mean(np.abs(bend)),
        autocorrelation(bend, 1),
        float(entropy.std()),
        *np.quantile(x, QUANTILES).tolist(),
    ]


def autocorrelation(x: Floats, lag: int) -> float:
    """Sum of (x_t - m)(x_t+lag - m) over sum of (x_t - m)^2, in [-1, 1]; 0 for constant or too short series."""
    centred = x - x.mean() if len(x) > lag else np.zeros(0)
    power = float((centred**2).sum())
    return float((centred[lag:] * centred[:-lag]).sum()) / power if power > 0 else 0.0


def _mean(x: Floats) -> float:
    return float(x.mean()) if len(x) else 0.0
