"""Families of samples whose distribution is known: features, logits, likelihoods and texts, drawn with a generator."""

from __future__ import annotations

import torch
from torch import Tensor

MODES = 10


def gaussian(n: int, d: int, g: torch.Generator, shift: float = 0.0, scale: float = 1.0, decay: float = 0.0) -> Tensor:
    """Rows [n, d] of independent columns; the spread of column i falls as (i + 1) ** -decay."""
    spread = torch.arange(1, d + 1, dtype=torch.float64) ** -decay
    return shift + scale * spread * torch.randn(n, d, generator=g, dtype=torch.float64)


def mixture(n: int, d: int, g: torch.Generator, modes: int = MODES) -> Tensor:
    """Rows [n, d] around the first `modes` of ten fixed centres, as features of ten classes."""
    centres = 2 * torch.randn(MODES, d, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return centres[torch.randint(modes, (n,), generator=g)] + gaussian(n, d, g)


def logits(n: int, g: torch.Generator) -> Tensor:
    """Class scores [n, 10] of a classifier that is more or less sure of ten unequally frequent classes."""
    labels = torch.multinomial(torch.arange(1.0, 11.0), n, replacement=True, generator=g)
    sure = 6 * torch.rand(n, 1, generator=g)
    return sure * torch.nn.functional.one_hot(labels, 10) + torch.randn(n, 10, generator=g)


def likelihoods(n: int, g: torch.Generator) -> Tensor:
    """Rows [n, 3] of nats, tokens and bytes of texts of unequal lengths."""
    size = torch.randint(20, 400, (n,), generator=g).double()
    rate = 1.5 + 0.3 * torch.randn(n, generator=g, dtype=torch.float64)
    return torch.stack([size * rate.clamp_min(0.1), size, size], dim=1)


def texts(n: int, g: torch.Generator, power: float = 1.0) -> list[str]:
    """Texts of 20 to 60 words whose frequencies fall as rank ** -power in a vocabulary of 300."""
    weights = torch.arange(1, 301, dtype=torch.float64) ** -power
    sizes = torch.randint(20, 61, (n,), generator=g).tolist()
    words = torch.multinomial(weights, sum(sizes), replacement=True, generator=g).tolist()
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [" ".join(f"w{w}" for w in words[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def near_copies(n: int, d: int, g: torch.Generator, train: Tensor, noise: float) -> Tensor:
    """Rows [n, d] that lie `noise` away from training rows [K, d] drawn at random."""
    return train[torch.randint(len(train), (n,), generator=g)] + noise * gaussian(n, d, g)
