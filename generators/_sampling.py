"""One token from a row of scores: temperature, the likeliest few, and a price on what was drawn before."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def choose(logits: Tensor, temperature: float, top_k: int, top_p: float, rng: torch.Generator) -> Tensor:
    """One token [B] drawn from logits [B, V]; top_k = 0 and top_p = 1 leave the distribution whole."""
    kept = allowed(logits.float().cpu(), temperature, top_k, top_p)
    return torch.multinomial(kept.softmax(-1), 1, generator=rng).squeeze(1)


def allowed(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Logits [B, V] over temperature, with those of all tokens that are never drawn at minus infinity."""
    logits = logits / temperature
    if 0 < top_k < logits.shape[1]:
        kth = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p < 1:
        ordered, order = logits.sort(descending=True)
        mass = ordered.softmax(-1)
        # The token that crosses top_p still belongs, so at least one is always left.
        beyond = mass.cumsum(-1) - mass >= top_p
        logits = logits.scatter(1, order, ordered.masked_fill(beyond, -math.inf))
    return logits


def penalised(logits: Tensor, drawn: Tensor, penalty: float) -> Tensor:
    """Logits [B, V] with those of the tokens `drawn` [B, V] (bool) made less likely; a penalty of 1 changes nothing.

    Keskar et al. 2019, sec. 4.1, divide every logit; a negative one would become likelier, so it is multiplied.
    """
    if penalty == 1:
        return logits
    return torch.where(drawn, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
