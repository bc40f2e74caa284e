"""Texts from a small language model: a decoder-only transformer over byte-pair tokens, sampled with a key-value cache.

- Pre-norm blocks with RMSNorm (Zhang & Sennrich 2019) and rotary positions (Su et al. 2021); the output head shares the
  embedding's weights (Press & Wolf 2017), because most parameters of a small model are its vocabulary.
- Sampling keeps the keys and values of every layer, so that a token costs one position and not the whole text again;
  the cache doubles its room when it is full.
- Texts longer than `context` were learnt in windows, and are scored in windows.
- A watermark (`evalkit.watermarking`) may be left in what is drawn; training and likelihood know nothing of it.
- Encoding, training and tuning are those of `_tokens`; loss, likelihood, escape and the drawing loop of `_causal`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Control
from evalkit.watermarking import Scheme, described, scheme_of

from ._causal import CausalFamily, NextToken
from ._sampling import choose
from ._transformer import HEADS, Block, Cache, rotate

__all__ = ["Lm", "Transformer", "choose", "rotate"]


class Transformer(NextToken):
    """Tokens [B, S] -> logits of the next token [B, S, V]."""

    def __init__(self, vocabulary: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, tokens: Tensor, state: list[Cache] | None = None) -> tuple[Tensor, list[Cache]]:
        """Logits, and the keys and values of every layer: give them back with the one token that follows."""
        start = state[0].length if state else 0
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        # Tied weights are small for the head's sake; the residual path wants unit scale.
        x = self.drop(self.embed(tokens) * math.sqrt(self.embed.embedding_dim))
        kept: list[Cache] = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, positions, state[i] if state else None)
            kept.append(layer)
        return F.linear(self.norm(x), self.embed.weight), kept

    def keep(self, state: list[Cache], rows: Tensor) -> list[Cache]:
        """The caches without the texts that `rows`, a mask [B], leaves out."""
        for layer in state:
            layer.keep(rows)
        return state


class Lm(CausalFamily):
    """Transformer language model over byte-pair tokens learned on the training texts."""

    name = "lm"
    modality = "text"
    role = "candidate"
    version = 2  # 1 weighed the tokens of short texts more
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 1.0, "below 1 draws likelier tokens, above 1 rarer ones", 0.01, 10),
        Control("top_k", 0, "draw from the k most likely tokens; 0 is all", 0, 100_000),
        Control("top_p", 0.95, "draw from the fewest tokens that hold this share of the probability", 0.01, 1),
        Control("repetition_penalty", 1.0, "above 1 makes tokens that a text already has less likely", 1, 10),
        Control("steps", 500, "training steps", 1, 1_000_000),
        Control("learning_rate", 5e-3, "highest step size of AdamW", 1e-7, 1000),
        Control("width", 128, "size of a token's vector, in multiples of 8", 8, 1024),
        Control("layers", 3, "transformer blocks", 1, 24),
        Control("dropout", 0.2, "share of activations left out in training", 0, 0.9),
        Control("vocabulary", 1536, "most tokens the byte-pair encoding may have", 64, 50_000),
        Control("context", 256, "longest sequence, in tokens", 16, 4096),
        Control("watermark", "none", "the mark it leaves", choices=("none", "kgw", "kgw_selfhash", "synthid", "exp")),
        Control("watermark_key", 15485863, "the watermark's key; SynthID's thirty are spread from it", 1, 2**53),
        Control("gamma", 0.25, "green share of the vocabulary (kgw, kgw_selfhash)", 0.01, 0.99),
        Control("delta", 2.0, "what the logits of green tokens gain (kgw, kgw_selfhash)", 0, 100),
    )
    at_sampling = frozenset(
        {"temperature", "top_k", "top_p", "repetition_penalty", "watermark", "watermark_key", "gamma", "delta"}
    )

    _net: Transformer

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        # Heads share the width, and rotary positions need pairs in each.
        self._settings["width"] = int(self._settings["width"]) // (2 * HEADS) * 2 * HEADS

    def _build(self, vocabulary: int) -> Transformer:
        s = self._settings
        return Transformer(vocabulary, int(s["width"]), int(s["layers"]), float(s["dropout"]))

    def _scheme(self) -> Scheme | None:
        if self._settings["watermark"] == "none":
            return None
        name, (key, gamma, delta) = str(self._settings["watermark"]), self._mark
        return scheme_of(name, len(self._bpe), key, gamma, delta)

    @property
    def _mark(self) -> tuple[int, float, float]:
        s = self._settings
        return int(s["watermark_key"]), float(s["gamma"]), float(s["delta"])

    @property
    def watermark(self) -> dict[str, Any] | None:
        """The key file of what is drawn, with the encoding in it; None for a generator that leaves no mark."""
        if self._settings["watermark"] == "none" or not self._trained_on:
            return None
        encoding = {"kind": "character_pairs", "alphabet": self._bpe.alphabet, "merges": self._bpe.merges}
        return described(str(self._settings["watermark"]), len(self._bpe), *self._mark, encoding)
