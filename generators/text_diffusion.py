"""Texts from a masked diffusion: tokens turn into masks one after the other, and the network learns the way back.

- The forward process hides each token by itself, with probability t at time t in 0..1, and never shows it again: the
  absorbing state of Austin et al. 2021, sec. 3.1, with the linear schedule alpha_t = 1 - t.
- Its bound on -ln p is the integral over t of 1/t times the nats of the hidden tokens (Sahoo et al. 2024, eq. 10; the
  network needs no t, because the number of masks tells it). Training takes t = k/n, k of 1..n with equal chance, and
  hides exactly k of n tokens: the same mean with less noise (Hoogeboom et al. 2022, sec. 3).
- The way back starts with masks only, and what is shown stays. Each of `steps` steps shows the share of tokens that
  the schedule asks for, drawn at once as if they were independent. With at least as many steps as a text has tokens,
  each is drawn alone; the default does so for texts of up to 64, with fewer steps neighbours do not agree.
- `order` = random is the reverse process itself: words appear far apart before anything joins them, and a small
  network cannot join them any more. `order` = sure shows the places of which the network is surest first (in the
  spirit of Chang et al. 2022, sec. 3.2), so texts grow outwards from what there is. That is no sampler of the bound
  above: it prefers frequent turns of phrase.
- What to expect: the default training on a thousand short texts takes the bound from the 6.2 nats a token of plain
  frequencies to 4.8 on held-out ones. Texts are clauses of three to eight words with sound grammar, joined without
  sense; verbs come twice, quotes and brackets stay open, some words are in pieces. In random order it is word salad
  with a sound pair here and there.
- The likelihood is known only as a bound with chance in it, so this family has none.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from evalkit.types import Batch, Control

from ._masked import MaskedFamily, gap_nats, hidden, padded
from ._transformer import Filler


class TextDiffusion(MaskedFamily):
    """Absorbing-state diffusion over byte-pair tokens, unmasked in parallel steps."""

    name = "text_diffusion"
    modality = "text"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 0.8, "below 1 draws likelier tokens, above 1 rarer ones", 0.01, 10),
        Control("top_k", 0, "draw from the k most likely tokens; 0 is all", 0, 100_000),
        Control("top_p", 0.95, "draw from the fewest tokens that hold this share of the probability", 0.01, 1),
        Control("steps", 64, "steps from masks to text; as many as a text has tokens draws them one by one", 1, 4096),
        Control("order", "sure", "which masks give way first: 'sure' or 'random'", choices=("sure", "random")),
        Control("training_steps", 900, "training steps", 1, 1_000_000),
        Control("learning_rate", 3e-3, "highest step size of AdamW", 1e-7, 1000),
        Control("width", 128, "size of a token's vector, in multiples of 8", 8, 1024),
        Control("layers", 3, "transformer blocks", 1, 24),
        Control("dropout", 0.1, "share of activations left out in training", 0, 0.9),
        Control("vocabulary", 1536, "most tokens the byte-pair encoding may have", 64, 50_000),
        Control("context", 256, "longest sequence, in tokens", 16, 4096),
    )
    at_sampling = frozenset({"temperature", "top_k", "top_p", "steps", "order"})

    @property
    def _steps(self) -> int:
        return int(self._settings["training_steps"])

    def _nats(self, net: nn.Module, sequences: list[list[int]], device: str, rng: torch.Generator) -> Tensor:
        filler = cast("Filler", net)
        tokens, visible, places = padded(sequences)
        n = places.sum(1)
        # Stratified over the batch: every batch has texts with few masks and texts with many.
        u = (torch.rand((), generator=rng) + torch.randperm(len(n), generator=rng) / len(n)) % 1
        k = 1 + (u * n).long().clamp_max(n - 1)
        asked = hidden(places, k, rng)
        shown = tokens.masked_fill(asked, filler.mask)
        weight = (n / k)[:, None].expand_as(tokens)[asked].to(device)
        return (weight * gap_nats(filler, shown, tokens, asked, visible, device)).sum()

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        canvas, barred, chance = self._canvas(count, rng), self._barred(), self._chance(rng)
        steps, rank = int(self._settings["steps"]), canvas.order(rng)
        shown = torch.zeros(count, dtype=torch.long)
        for step in range(steps):
            # alpha at the end of the step, times n, in whole tokens: so many are to be seen.
            due = (canvas.lengths * ((step + 1) / steps)).round().long()
            if bool((due > shown).any()):
                if self._settings["order"] == "sure":
                    canvas.fill_surest(self._net, due - shown, barred, chance)
                else:
                    canvas.fill(self._net, (rank >= shown[:, None]) & (rank < due[:, None]), barred, chance)
            shown = due
        return self._written(canvas)
