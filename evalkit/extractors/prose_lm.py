"""How surprising a text is: a small recurrent byte-level language model of English reference prose.

Row = [nats, tokens, bytes]. A token is one byte of the UTF-8 text, and every byte is predicted, the first one from the
begin-of-text symbol alone; so tokens = bytes and bits per byte = nats / bytes / ln 2. The end of a text is not scored.

Design: one GRU, recurrent so that the judge is of another family than the transformers and n-gram models it judges.
The state is carried through the text in chunks, so a text of any length is scored exactly, in constant memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModalityMismatch, UnreadableSample
from ..weights import SHIPPED, load_weights
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

# One symbol for everything outside the text: what comes before it (begin) and what follows it (padding).
OUTSIDE = 256
WIDTH = 256  # numbers in a state
MULTIPLE = 64  # texts are padded to a multiple of this, so that few shapes occur and batches are full
LONGEST = 1 << 20  # bytes
CHUNK = 256  # bytes whose next-byte distributions are held at once


class ByteGRU(nn.Module):
    """Next-byte logits [B, T, 256] from symbols [B, T] (0..255 a byte, 256 outside the text) and a carried state."""

    def __init__(self, width: int = WIDTH, embedding: int = 48, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, embedding)
        self.gru = nn.GRU(embedding, width, batch_first=True)
        self.head = nn.Linear(width, 256)
        self.dropout = nn.Dropout(dropout)

    def forward(self, symbols: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden, state = self.read(symbols, state)
        return self.head(self.dropout(hidden)), state

    def read(self, symbols: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The state after every symbol [B, T, width], and the last one to carry on from."""
        hidden, state = self.gru(self.dropout(self.embedding(symbols)), state)
        return hidden, state


class TokenStatistics(NamedTuple):
    """Per byte, float32 [B, T], zero outside the text (`mask` is 1.0 inside it, 0.0 outside).

    nats: -ln p of the byte that came. entropy and variance: mean and variance of -ln p under the model itself.
    log_rank: ln of the byte's 1-based rank, ties counted in its favour.
    """

    nats: Tensor
    entropy: Tensor
    variance: Tensor
    log_rank: Tensor
    mask: Tensor


class ProseLM:
    """Nats, tokens and bytes of a text under a small recurrent language model of English reference prose."""

    name = "prose_lm"
    modality: Literal["text"] = "text"
    version = 1

    def __init__(self) -> None:
        weights = {key: tensor.float() for key, tensor in load_weights(SHIPPED[self.name]).items()}
        embedding, width = weights["embedding.weight"].shape[1], weights["head.weight"].shape[1]
        # Built on meta, so that no first weights are drawn from the caller's random stream.
        with torch.device("meta"):
            self._model = ByteGRU(width, embedding)
        self._model.load_state_dict(weights, assign=True)
        self._model.eval().requires_grad_(False)

    @property
    def digest(self) -> str:
        return identity(self.name, self.version, {"weights": SHIPPED[self.name].sha256, "tokens": "utf-8 bytes"})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"likelihood": slice(0, 3)})

    def prepare(self, sample: Media) -> Tensor:
        """UTF-8 bytes as int16 [T], padded to a multiple of 64; UnreadableSample when empty or over 1 MiB."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        content = np.frombuffer(sample.encode("utf-8", errors="surrogatepass"), dtype=np.uint8)
        if not content.size:
            raise UnreadableSample("the text is empty")
        if content.size > LONGEST:
            raise UnreadableSample(f"the text has {content.size} bytes; {self.name} reads up to {LONGEST}: split it")
        padded = np.full(-(-content.size // MULTIPLE) * MULTIPLE, OUTSIDE, dtype=np.int16)
        padded[: content.size] = content
        return torch.from_numpy(padded)

    def to(self, device: str) -> None:
        self._model.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 3]: nats, tokens (bytes predicted), bytes."""
        nats = torch.zeros(len(batch), dtype=torch.float64 if batch.device.type != "mps" else torch.float32)
        nats = nats.to(batch.device)
        for log_p, targets, inside in self._chunks(batch):
            nats += (_nats(log_p, targets) * inside).sum(1)
        count = (batch != OUTSIDE).sum(1)
        return torch.stack([nats, count, count], dim=1).float()

    @torch.no_grad()
    def token_nats(self, batch: Tensor) -> Tensor:
        """-ln p of each byte, float32 [B, T], zero at padding."""
        return torch.cat([_nats(log_p, targets) * inside for log_p, targets, inside in self._chunks(batch)], dim=1)

    @torch.no_grad()
    def token_statistics(self, batch: Tensor) -> TokenStatistics:
        """Surprise of each byte, beside what the model expected it to be (Gehrmann et al. 2019; Bao et al. 2024)."""
        parts = [_statistics(log_p, targets, inside) for log_p, targets, inside in self._chunks(batch)]
        return TokenStatistics(*(torch.cat(columns, dim=1) for columns in zip(*parts, strict=True)))

    @torch.no_grad()
    def next_log_probabilities(self, batch: Tensor) -> Tensor:
        """ln p of every next byte, float32 [B, T, 256], given the begin symbol and the bytes before."""
        return torch.cat([log_p for log_p, _, _ in self._chunks(batch)], dim=1)

    @torch.no_grad()
    def states(self, batch: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Stretch by stretch: the state [B, C, 256] that predicted each byte, and its -ln p [B, C], zero at padding."""
        for hidden, targets, inside in self._stretches(batch):
            yield hidden, _nats(self._predict(hidden), targets) * inside

    def _chunks(self, batch: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Log-probabilities [B, C, 256], targets [B, C] and mask [B, C] of each stretch."""
        for hidden, targets, inside in self._stretches(batch):
            yield self._predict(hidden), targets, inside

    def _predict(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._model.head(hidden)
        return logits.log_softmax(-1)

    def _stretches(self, batch: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """States [B, C, 256], targets [B, C] and mask [B, C] of each stretch, the state carried along."""
        symbols = batch.long()
        before = torch.cat([torch.full_like(symbols[:, :1], OUTSIDE), symbols[:, :-1]], dim=1)
        state = None
        for start in range(0, symbols.shape[1], CHUNK):
            hidden, state = self._model.read(before[:, start : start + CHUNK], state)
            targets = symbols[:, start : start + CHUNK]
            yield hidden, targets.clamp(max=255), (targets != OUTSIDE).float()


def _nats(log_p: Tensor, targets: Tensor) -> Tensor:
    return -log_p.gather(-1, targets[..., None]).squeeze(-1)


def _statistics(log_p: Tensor, targets: Tensor, inside: Tensor) -> TokenStatistics:
    p, nats = log_p.exp(), _nats(log_p, targets)
    entropy = -(p * log_p).sum(-1)
    variance = ((p * log_p.square()).sum(-1) - entropy.square()).clamp_min(0)
    rank = 1 + (log_p > -nats[..., None]).sum(-1)
    return TokenStatistics(nats * inside, entropy * inside, variance * inside, rank.float().log() * inside, inside)
