"""A linear judge's tensors from rows: standardised columns, calibrated logistic regression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._calibrate import calibrated_logistic


def linear_tensors(rows: Tensor, is_fake: npt.NDArray[np.int64], C: float, seed: int) -> dict[str, Tensor]:
    """`mean`, `scale`, `coefficients` [D] and `intercept` [1], float32, of rows [N, D]; as `LinearJudge` keeps them."""
    X = rows.double().numpy()
    mean, scale = X.mean(0), X.std(0)
    # A column that never varies says nothing: divided by 1 it stays at zero.
    scale[scale < 1e-9] = 1.0
    coefficients, intercept = calibrated_logistic((X - mean) / scale, is_fake, C, seed)
    learnt = {"mean": mean, "scale": scale, "coefficients": coefficients, "intercept": [intercept]}
    return {key: torch.as_tensor(value, dtype=torch.float32) for key, value in learnt.items()}
