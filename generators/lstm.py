"""Texts from a recurrent network: a two-layer LSTM over byte-pair tokens, its state carried from token to token.

- The cells of Hochreiter & Schmidhuber 1997 with a forget gate (Gers et al. 2000), stacked, with dropout between the
  layers and never across time (Zaremba et al. 2014, sec. 3.2); the forget gate starts open, as memories must survive
  the first steps of training (Jozefowicz et al. 2015, sec. 4).
- The output head shares the embedding's weights (Press & Wolf 2017).
- A drawn token costs one step whatever came before: the state (h, c) is all that is remembered. It starts at zero, in
  training at the head of each window of a long text too.
- Encoding, training and tuning are those of `_tokens`; loss, likelihood, escape and the drawing loop of `_causal`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Control

from ._causal import CausalFamily, NextToken

# What the cells remember of all texts: (h, c), each [layers, B, D].
State = tuple[Tensor, Tensor]


class Recurrent(NextToken):
    """Tokens [B, S] -> logits of the next token [B, S, V]."""

    def __init__(self, vocabulary: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.drop = nn.Dropout(dropout)
        self.cells = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        with torch.no_grad():
            for layer in range(layers):
                # Gates lie as (input, forget, cell, output).
                getattr(self.cells, f"bias_ih_l{layer}")[width : 2 * width] += 1.0
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits, and the state: give it back with the tokens that follow."""
        # Tied weights are small for the head's sake; the cells want unit scale.
        x = self.drop(self.embed(tokens) * self.embed.embedding_dim**0.5)
        x, state = self.cells(x, state)
        return F.linear(self.out(self.drop(x)), self.embed.weight), state

    def keep(self, state: State, rows: Tensor) -> State:
        """The state without the texts that `rows`, a mask [B], leaves out."""
        h, c = state
        return h[:, rows], c[:, rows]


class Lstm(CausalFamily):
    """Recurrent language model over byte-pair tokens learned on the training texts."""

    name = "lstm"
    modality = "text"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 1.0, "below 1 draws likelier tokens, above 1 rarer ones", 0.01, 10),
        Control("top_k", 0, "draw from the k most likely tokens; 0 is all", 0, 100_000),
        Control("top_p", 0.95, "draw from the fewest tokens that hold this share of the probability", 0.01, 1),
        Control("repetition_penalty", 1.0, "above 1 makes tokens that a text already has less likely", 1, 10),
        Control("steps", 800, "training steps", 1, 1_000_000),
        Control("learning_rate", 5e-3, "highest step size of AdamW", 1e-7, 1000),
        Control("width", 160, "size of a token's vector and of each layer's state", 8, 1024),
        Control("layers", 2, "LSTM layers", 1, 8),
        Control("dropout", 0.3, "share of activations left out in training", 0, 0.9),
        Control("vocabulary", 1536, "most tokens the byte-pair encoding may have", 64, 50_000),
        Control("context", 256, "longest sequence, in tokens", 16, 4096),
    )
    at_sampling = frozenset({"temperature", "top_k", "top_p", "repetition_penalty"})

    _net: Recurrent

    def _build(self, vocabulary: int) -> Recurrent:
        s = self._settings
        return Recurrent(vocabulary, int(s["width"]), int(s["layers"]), float(s["dropout"]))
