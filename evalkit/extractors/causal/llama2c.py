"""A llama2.c checkpoint: seven numbers, then float32 weights, and a tokenizer file beside it.

`llama2c:FOLDER` holds both files; `llama2c:MODEL.bin+TOKENIZER.bin` names them. Version 0 of the format: width,
width of the feed-forward layer, layers, heads, heads of keys and values, vocabulary (negative when the output has
weights of its own), context. The tables of angles that follow the weights are skipped; they are computed.

The network is Llama's (Touvron et al. 2023): RMSNorm, rotary positions on neighbouring coordinates, grouped queries,
SwiGLU. A file whose size is not exactly that of its header is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import BadSetting, BadSource, RunFailed
from ...weights import digest_of_file
from .instrument import CausalLM, Opened
from .llama2c_tokens import BOS, read_pieces
from .streaming import Head

EPSILON = 1e-5
BASE = 10_000.0
HEADER = struct.Struct("<7i")
# Numbers of a header are sizes of arrays; larger ones are not those of a checkpoint.
MOST = 1 << 20


class Llama2c(CausalLM):
    """llama2.c checkpoint with its tokenizer: `llama2c:FOLDER`; nats and per-token statistics of texts."""

    name = "llama2c"
    kind = "llama2c"
    place_says = "FOLDER, or MODEL.bin+TOKENIZER.bin"

    def _open(self, place: str) -> Opened:
        model, tokenizer = _files(place)
        shape = read_shape(model)
        pieces = read_pieces(tokenizer, shape.vocabulary)
        files = {"model": digest_of_file(model), "tokenizer": digest_of_file(tokenizer)}
        return Opened(
            files=files,
            encode=pieces.encode,
            prefix=BOS,
            prefix_says=f"the token for the beginning of a text, number {BOS}",
            tokens=files["tokenizer"],
            context=shape.context,
            width=shape.width,
            load=lambda: Llama(shape, read_weights(model, shape)),
            about={
                "network": f"llama2.c checkpoint, {shape.layers} layers of {shape.width}, {shape.vocabulary} tokens"
            },
        )

    def greedy(self, tokens: int, text: str = "") -> str:
        """A text and the likeliest token after it, again and again, at most `tokens` of them (Python's str).

        Ends where a text would end or begin anew. BadSetting when that is more than the context.
        """
        model, tokenizer = _files(self._asked[0])
        shape = read_shape(model)
        pieces = read_pieces(tokenizer, shape.vocabulary)
        found = [BOS, *pieces.encode(text)]
        if len(found) + tokens > shape.context + 1:
            raise BadSetting(f"{tokens} tokens after {len(found)} are more than the context of {shape.context}")
        network, cache = self.network, Cache()
        assert isinstance(network, Llama)
        fresh = found
        for _ in range(tokens):
            token = int(network.next_logits(fresh, cache).argmax())
            if token <= 2:  # unknown, beginning, end
                break
            found, fresh = [*found, token], [token]
        return pieces.decode(found[1:])


class Shape(NamedTuple):
    """The numbers of a header, and whether the output has weights of its own."""

    width: int
    feed: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    own_output: bool

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Every array of the file in order."""
        n, d, kv = self.layers, self.width, self.width // self.heads * self.kv_heads
        half = self.width // self.heads // 2
        return {
            "embed": (self.vocabulary, d),
            "norm1": (n, d),
            "q": (n, d, d),
            "k": (n, kv, d),
            "v": (n, kv, d),
            "o": (n, d, d),
            "norm2": (n, d),
            "gate": (n, self.feed, d),
            "down": (n, d, self.feed),
            "up": (n, self.feed, d),
            "norm": (d,),
            "cosines": (self.context, half),
            "sines": (self.context, half),
            **({"output": (self.vocabulary, d)} if self.own_output else {}),
        }

    @property
    def bytes(self) -> int:
        return HEADER.size + 4 * sum(int(np.prod(shape)) for shape in self.arrays.values())


class Cache:
    """Keys and values [1, H, T, E] of every layer so far, for drawing token by token."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    @property
    def length(self) -> int:
        return self.kept[0][0].shape[2] if self.kept else 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, the new ones last."""
        if layer == len(self.kept):
            self.kept.append((k, v))
        else:
            before = self.kept[layer]
            self.kept[layer] = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
        return self.kept[layer]


class Llama:
    """The network of a checkpoint; weights float32 by name, one row a layer."""

    def __init__(self, shape: Shape, weights: dict[str, Tensor]) -> None:
        self._shape, self._weights = shape, weights
        self.vocabulary, self.context = shape.vocabulary, shape.context

    @property
    def head(self) -> Head:
        return Head(self._weights["output" if self._shape.own_output else "embed"])

    def to(self, device: str) -> None:
        self._weights = {key: tensor.to(device) for key, tensor in self._weights.items()}

    def states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """float32 [B, S, D] of tokens [B, S]; what follows a token does not matter to it, so padding needs no mask."""
        return self._states(tokens, None)

    def blocks(self, tokens: Tensor, size: int) -> Iterator[Tensor]:
        """Logits float32 [n, V] of one window, `size` positions at a time."""
        for part in torch.split(self._states(tokens[None], None)[0], size):
            yield F.linear(part, self.head.weight)

    @torch.no_grad()
    def next_logits(self, tokens: list[int], cache: Cache) -> Tensor:
        """Logits [V] of what follows new tokens, after those of the cache."""
        ids = torch.tensor([tokens], device=self.head.weight.device)
        return F.linear(self._states(ids, cache)[0, -1], self.head.weight)

    @torch.no_grad()
    def _states(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        w, s = self._weights, self._shape
        start = 0 if cache is None else cache.length
        angles = _angles(start, tokens.shape[1], s.width // s.heads, tokens.device)
        x = w["embed"][tokens]
        for i in range(s.layers):
            x = x + self._attend(_normed(x, w["norm1"][i]), i, angles, cache)
            h = _normed(x, w["norm2"][i])
            x = x + F.linear(F.silu(F.linear(h, w["gate"][i])) * F.linear(h, w["up"][i]), w["down"][i])
        return _normed(x, w["norm"])

    def _attend(self, x: Tensor, i: int, angles: tuple[Tensor, Tensor], cache: Cache | None) -> Tensor:
        w, s, (b, length, d) = self._weights, self._shape, x.shape

        def heads(name: str, count: int) -> Tensor:
            return F.linear(x, w[name][i]).view(b, length, count, d // s.heads).transpose(1, 2)

        q, k = _turned(heads("q", s.heads), angles), _turned(heads("k", s.kv_heads), angles)
        v = heads("v", s.kv_heads)
        if cache is not None:
            k, v = cache.extend(i, k, v)
        # Each head of keys and values serves a run of query heads.
        k, v = (t.repeat_interleave(s.heads // s.kv_heads, 1) for t in (k, v))
        # One new token sees all before it; several are the start of a text.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        return F.linear(mixed.transpose(1, 2).reshape(b, length, d), w["o"][i])


def read_shape(path: Path) -> Shape:
    """The header of a checkpoint; BadSource when there is no file, BadSetting when it is none or of another length."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
        size = path.stat().st_size
    except OSError as error:
        raise BadSource(f"{path} cannot be read ({error.strerror}); expected a llama2.c checkpoint") from error
    shape = _shape(header)
    if shape is None or shape.bytes != size:
        expected = "" if shape is None else f", which by its header has {shape.bytes:,} bytes"
        raise BadSetting(f"{path} ({size:,} bytes) is no whole llama2.c checkpoint of version 0{expected}")
    return shape


def read_weights(path: Path, shape: Shape) -> dict[str, Tensor]:
    """The arrays of a checkpoint by name, without the tables of angles; RunFailed when a weight is not finite."""
    numbers = np.fromfile(path, dtype="<f4", offset=HEADER.size)
    found, at = {}, 0
    for name, dimensions in shape.arrays.items():
        count = int(np.prod(dimensions))
        found[name] = torch.from_numpy(numbers[at : at + count].astype(np.float32)).view(dimensions)
        at += count
    kept = {name: t for name, t in found.items() if name not in ("cosines", "sines")}
    if not all(bool(torch.isfinite(t).all()) for t in kept.values()):
        raise RunFailed(f"{path} holds weights that are not finite numbers; get the file again")
    return kept


def _shape(header: bytes) -> Shape | None:
    if len(header) < HEADER.size:
        return None
    d, feed, layers, heads, kv, vocabulary, context = HEADER.unpack(header)
    shape = Shape(d, feed, layers, heads, kv, abs(vocabulary), context, vocabulary < 0)
    fits = all(0 < size <= MOST for size in shape[:7]) and d % (2 * heads) == 0 and heads % kv == 0
    return shape if fits else None


def _files(place: str) -> tuple[Path, Path]:
    """Model and tokenizer: two files named, or the two that a folder holds."""
    folder = Path(place).expanduser()
    if not folder.is_dir():
        model, plus, tokenizer = place.rpartition("+")
        if not plus:
            raise BadSource(f"{place!r} is no folder; expected llama2c:{Llama2c.place_says}")
        return Path(model).expanduser(), Path(tokenizer).expanduser()
    found = sorted(folder.glob("*.bin"))
    models = [path for path in found if not path.name.startswith("tok")]
    tokenizers = [path for path in found if path.name.startswith("tok")]
    if len(models) != 1 or len(tokenizers) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise BadSetting(
            f"{place} needs one tok*.bin, the tokenizer, and one other .bin, the model (it has {names}); or name both:"
            f" llama2c:MODEL.bin+TOKENIZER.bin"
        )
    return models[0], tokenizers[0]


def _normed(x: Tensor, gain: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], gain, EPSILON)


def _angles(start: int, length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, E / 2] of positions from `start`."""
    rates = BASE ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * rates
    return angle.cos().float().to(device), angle.sin().float().to(device)


def _turned(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """x [B, H, T, E] turned by its positions: neighbouring coordinates are a pair."""
    cos, sin = angles
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
