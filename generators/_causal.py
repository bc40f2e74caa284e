"""What language models that write from left to right share: their loss, how probable a text is, how one is drawn.

- `likelihood` is the chance of a text's tokens as the encoding cuts it, both its length and its end included, at
  temperature 1 and with every token allowed. The same text in other tokens adds to its probability what is left out
  here, so the nats are an upper bound, a close one. What the alphabet lacks costs an escape (see `_escape`).
- Blanks around a text are no part of it, as in training; a text longer than `context` is read in windows, as there.
- With a watermark the draw is the scheme's: it may change the logits first, and it sees what truncation left.
- Sampling: the price on what was drawn before (Keskar et al. 2019), temperature, then the `top_k` most likely tokens,
  then the fewest that hold `top_p` of the mass (Holtzman et al. 2020). Sixty-four texts advance together; finished
  ones leave the batch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource
from evalkit.types import Batch
from evalkit.watermarking import Scheme

from ._bpe import END
from ._escape import encode, escape_nats
from ._sampling import allowed, choose, penalised
from ._tokens import BATCH, TokenFamily

if TYPE_CHECKING:
    from evalkit.types import Media

# As the target of padding: cross_entropy leaves it out.
NOTHING = -100


class NextToken(nn.Module):
    """A network from tokens [B, S] to logits of the next token [B, S, V], and a state to go on from."""

    @abstractmethod
    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits, and the state: give it back with the one token that follows."""

    @abstractmethod
    def keep(self, state: Any, rows: Tensor) -> Any:
        """The state without any text but those of `rows`, a mask [B]."""


class CausalFamily(TokenFamily):
    """A family whose network says what comes next."""

    _net: NextToken

    def _nats(self, net: nn.Module, sequences: list[list[int]], device: str, rng: torch.Generator) -> Tensor:
        logits, targets = following(cast("NextToken", net), sequences, device)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")

    def prepare(self, sample: Media) -> Tensor:
        """int64 [S] token numbers between two ends, escapes negative; BadSource for an image, BadSetting before fit."""
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before likelihood")
        if not isinstance(sample, str):
            raise BadSource(f"{self.name} learned texts, this is an image; give it a text")
        return torch.tensor([END, *encode(self._bpe, sample.strip()), END])

    @torch.no_grad()
    def likelihood(self, batch: Tensor, token_nats: Tensor | None = None) -> Tensor:
        """float32 [B, 3] of (nats, tokens with the end, bytes in UTF-8) of texts as `prepare` made them, [B, S].

        token_nats: what the tokens cost [B], where it is known already; no network runs then.
        """
        batch = batch.cpu()
        nats, rows = escape_nats(batch), batch.tolist()
        if token_nats is None:
            found = [F.cross_entropy(logits, tokens, reduction="sum") for logits, tokens in self.next_tokens(batch)]
            token_nats = torch.stack(found)
        lengths = [len(t.encode()) for t in self._bpe.tokens]
        sizes = [sum(lengths[t] if t >= 0 else -t for t in ids) for ids in rows]
        units = torch.full_like(nats, batch.shape[1] - 1)
        return torch.stack([nats + token_nats.double().cpu(), units, torch.tensor(sizes).double()], 1).float()

    @torch.no_grad()
    def next_tokens(self, batch: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each text [S] its logits [T, V] and what came [T], the end included, escapes left out; on the device."""
        windows: list[list[int]] = []
        counts: list[int] = []
        for ids in batch.cpu().tolist():
            cut = self._windows([[t for t in ids if t >= 0]])
            windows += cut
            counts.append(len(cut))
        pieces = self._each_window(windows)
        for count in counts:
            parts = [next(pieces) for _ in range(count)]
            logits, tokens = (torch.cat(side) for side in zip(*parts, strict=True))
            yield logits, tokens

    def _each_window(self, windows: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each window [S + 1] its logits [S, V] and what follows [S], a batch of windows at a time."""
        for i in range(0, len(windows), BATCH):
            logits, targets = following(self._net, windows[i : i + BATCH], self._device)
            for row, window in enumerate(windows[i : i + BATCH]):
                yield logits[row, : len(window) - 1], targets[row, : len(window) - 1]

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        texts: list[list[int]] = [[] for _ in range(count)]
        *_, cut = self._advancing(texts, rng)
        return Batch([self._finished(t, i in cut) for i, t in enumerate(texts)])

    def stream(self, seed: int) -> Iterator[str]:
        """The text of `sample(1, seed)` before it is trimmed, piece by piece as its tokens are drawn."""
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before stream")
        return self._pieces(seed)

    def _pieces(self, seed: int) -> Iterator[str]:
        texts: list[list[int]] = [[]]
        steps = self._advancing(texts, torch.Generator().manual_seed(seed))
        handed = 0
        while True:
            # No context manager around the yield: what it sets would leak into the caller between two tokens.
            with torch.inference_mode():
                goes_on = next(steps, None)
            if len(texts[0]) > handed:
                handed += 1
                yield self._bpe.tokens[texts[0][-1]]
            if not goes_on:
                return

    def _advancing(self, texts: list[list[int]], rng: torch.Generator) -> Iterator[set[int]]:
        """Grow all texts by a token a step, in place; yields which of them have not ended."""
        s, count = self._settings, len(texts)
        temperature, top_k, top_p = float(s["temperature"]), int(s["top_k"]), float(s["top_p"])
        penalty, scheme = float(s["repetition_penalty"]), self._scheme()
        # A text may not begin with its end or with blanks, so none is empty.
        barred = torch.tensor([not t.strip() for t in self._bpe.tokens])
        drawn = torch.zeros(count, len(self._bpe), dtype=torch.bool)
        alive, tokens = list(range(count)), torch.full((count,), END)
        state: Any = None
        for at in range(self._longest):
            logits, state = self._net(tokens[:, None].to(self._device), state)
            last = logits[:, -1].float().cpu()
            last = last.masked_fill(barred, -math.inf) if at == 0 else penalised(last, drawn, penalty)
            if scheme is None:
                tokens = choose(last, temperature, top_k, top_p, rng)
            else:
                before = [texts[i] for i in alive]
                left = allowed(scheme.biased(last, before), temperature, top_k, top_p)
                tokens = scheme.choose(left, before, rng)
            going = tokens != END
            for i, token in zip(alive, tokens.tolist(), strict=True):
                if token != END:
                    texts[i].append(token)
            if not going.all():
                alive = [i for i, goes in zip(alive, going.tolist(), strict=True) if goes]
                if not alive:
                    yield set()
                    return
                tokens, drawn = tokens[going], drawn[going]
                state = self._net.keep(state, going.to(self._device))
            drawn.scatter_(1, tokens[:, None], True)
            yield set(alive)

    def _scheme(self) -> Scheme | None:
        """The watermark to draw with; None for an ordinary draw."""
        return None

    def _finished(self, tokens: list[int], is_cut: bool) -> str:
        """The text of drawn tokens; one that ran into the length limit loses its last, perhaps broken, word."""
        text = self._bpe.decode(tokens).strip()
        whole = text.rsplit(None, 1)[0] if is_cut else text
        return whole or text


def following(net: NextToken, sequences: list[list[int]], device: str) -> tuple[Tensor, Tensor]:
    """Logits [B, S, V] and the token that follows [B, S], for sequences padded on the right to one length."""
    longest = max(map(len, sequences)) - 1
    inputs = torch.tensor([s[:-1] + [END] * (longest - len(s) + 1) for s in sequences])
    targets = torch.tensor([s[1:] + [NOTHING] * (longest - len(s) + 1) for s in sequences])
    logits, _ = net(inputs.to(device))
    return logits, targets.to(device)
