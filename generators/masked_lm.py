"""Texts from a masked language model by Gibbs sampling: BERT speaks, and shows that filling gaps is not writing.

- A transformer that sees both sides learns the tokens hidden from it (Devlin et al. 2019, sec. 3.1): of the places
  chosen, 80 % show the mask, 10 % a random token and 10 % the true one, so that what is shown is not always right -
  which sampling relies on, as there all that is shown was drawn by the model itself.
- Sampling is that of Wang & Cho 2019, sec. 3: a text of a drawn length starts as masks; in each of `sweeps` rounds
  every place is hidden once more, in random order, and drawn from what the network says of it. With `together` = 1
  that is a Gibbs sampler of the pseudo-likelihoods; with more, places hidden at once are drawn as if independent,
  which is faster by as much.
- The conditionals of such a network belong to no one joint distribution, so there is no likelihood, and samples are
  weak: words that fit their neighbours, sentences that go nowhere. That is the family's signature, not a fault here.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from evalkit.types import Batch, Control

from ._masked import MaskedFamily, gap_nats, hidden, padded
from ._transformer import Filler

SHOWN_AS_MASK, SHOWN_AS_NOISE = 0.8, 0.1


class MaskedLm(MaskedFamily):
    """Bidirectional transformer that fills masks, sampled by Gibbs rounds over all places."""

    name = "masked_lm"
    modality = "text"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 0.8, "below 1 draws likelier tokens, above 1 rarer ones", 0.01, 10),
        Control("top_k", 0, "draw from the k most likely tokens; 0 is all", 0, 100_000),
        Control("top_p", 0.95, "draw from the fewest tokens that hold this share of the probability", 0.01, 1),
        Control("sweeps", 4, "rounds in which every place is drawn anew", 1, 1000),
        Control("together", 8, "places drawn at once; 1 is exact Gibbs sampling, and slowest", 1, 4096),
        Control("masked", 0.3, "share of a text's tokens hidden in training", 0.01, 1),
        Control("steps", 800, "training steps", 1, 1_000_000),
        Control("learning_rate", 3e-3, "highest step size of AdamW", 1e-7, 1000),
        Control("width", 128, "size of a token's vector, in multiples of 8", 8, 1024),
        Control("layers", 3, "transformer blocks", 1, 24),
        Control("dropout", 0.1, "share of activations left out in training", 0, 0.9),
        Control("vocabulary", 1536, "most tokens the byte-pair encoding may have", 64, 50_000),
        Control("context", 256, "longest sequence, in tokens", 16, 4096),
    )
    at_sampling = frozenset({"temperature", "top_k", "top_p", "sweeps", "together"})

    def _nats(self, net: nn.Module, sequences: list[list[int]], device: str, rng: torch.Generator) -> Tensor:
        filler = cast("Filler", net)
        tokens, visible, places = padded(sequences)
        sizes, share = places.sum(1), float(self._settings["masked"])
        asked = hidden(places, (share * sizes).round().clamp_min(1), rng)
        fate = torch.rand(tokens.shape, generator=rng)
        noise = torch.randint(1, filler.mask, tokens.shape, generator=rng)
        wrong = torch.where(fate < SHOWN_AS_MASK + SHOWN_AS_NOISE, noise, tokens)
        shown = torch.where(asked, torch.where(fate < SHOWN_AS_MASK, filler.mask, wrong), tokens)
        # As if every token had been asked for, so that the loss does not shrink with the share.
        scale = int(sizes.sum()) / max(1, int(asked.sum()))
        return gap_nats(filler, shown, tokens, asked, visible, device).sum() * scale

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        canvas, barred, chance = self._canvas(count, rng), self._barred(), self._chance(rng)
        together, longest = int(self._settings["together"]), int(canvas.lengths.max())
        for _ in range(int(self._settings["sweeps"])):
            rank = canvas.order(rng)
            for at in range(0, longest, together):
                canvas.fill(self._net, (rank >= at) & (rank < min(at + together, longest)), barred, chance)
        return self._written(canvas)
