"""What a parity table holds: claims of agreement, differences on purpose, and the rows that both are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._peer_networks import version_of


@dataclass(frozen=True)
class Claim:
    """One agreement: the largest relative difference between evalkit and a peer, and the most that is allowed."""

    what: str
    ours: str
    peer: str
    difference: float
    target: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        return self.difference <= self.target


@dataclass(frozen=True)
class Difference:
    """One disagreement on purpose: evalkit's number, the peer's, and what is true."""

    what: str
    ours: str
    peer: str
    truth: str
    is_shown: bool


def named(package: str) -> str:
    """A peer with its version."""
    return f"{package} {version_of(package)}"


def apart(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest of the peer's values."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (ours, theirs))
    return float(np.abs(a - b).max() / np.abs(b).max())


def rows(n: int, d: int, seed: int, scale: float = 1.0) -> Tensor:
    """Rows [n, d] float64, at least 0, with a spectrum that falls as that of pooled activations does."""
    rng = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q
    spread = torch.arange(1, d + 1, dtype=torch.float64) ** -0.5
    return torch.relu(scale * (torch.randn(n, d, generator=rng, dtype=torch.float64) * spread) @ turn * d**0.25 + 0.1)


class Same(torch.nn.Module):
    """What torchmetrics takes for a network: rows are their own features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, given: Tensor) -> Tensor:
        return given
