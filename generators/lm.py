"""Texts from a small language model: a decoder-only transformer over byte-pair tokens, sampled with a key-value cache.

- Pre-norm blocks with RMSNorm (Zhang & Sennrich 2019) and rotary positions (Su et al. 2021); the output head shares the
  embedding's weights (Press & Wolf 2017), because most parameters of a small model are its vocabulary.
- A training text is one sequence between two end tokens, so beginning and length are learnt; longer ones continue in
  windows of `context` tokens. Batches hold texts of like length, so little is padding.
- Small sets overfit within a few passes: dropout, weight decay, and the averaged weights of the step that was best on
  the 5 % of the texts held out for it.
- Sampling: temperature, then the `top_k` most likely tokens, then the fewest that hold `top_p` of the mass (Holtzman
  et al. 2020). Sixty-four texts advance together; finished ones leave the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Batch, Control, Progress, SampleSet

from ._bpe import END, Bpe, learn
from ._family import Family
from ._texts import pack, read_texts, unpack
from ._training import Ema, announced, count_parameters, descend, isolated

HEADS = 4
BATCH = 16
EMA_DECAY = 0.98
VALIDATION_SHARE = 0.05
VALIDATIONS = 20
# As the target of padding: cross_entropy leaves it out.
NOTHING = -100


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """x [B, H, S, E] turned by its positions [S]: pairs of coordinates as angles, so that q.k sees distances only."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = positions[:, None] * rates
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Block(nn.Module):
    """Attention and a feed-forward layer, each on normalised input and added back."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, past: Cache | None) -> tuple[Tensor, Cache]:
        b, s, d = x.shape
        qkv: Tensor = self.qkv(self.norm1(x))
        q, k, v = qkv.view(b, s, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, positions), rotate(k, positions)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        # One new token may see everything before it; several are the start of a text, where no cache exists yet.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=s > 1)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(b, s, d)))
        return x + self.drop(self.feed(self.norm2(x))), (k, v)


Cache = tuple[Tensor, Tensor]


class Transformer(nn.Module):
    """Tokens [B, S] -> logits of the next token [B, S, V]."""

    def __init__(self, vocabulary: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, tokens: Tensor, cache: list[Cache] | None = None) -> tuple[Tensor, list[Cache]]:
        """Logits, and the keys and values of every layer: give them back with the one token that follows."""
        start = cache[0][0].shape[2] if cache else 0
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        # Tied weights are small for the head's sake; the residual path wants unit scale.
        x = self.drop(self.embed(tokens) * math.sqrt(self.embed.embedding_dim))
        kept: list[Cache] = []
        for i, block in enumerate(self.blocks):
            x, layer = block(x, positions, cache[i] if cache else None)
            kept.append(layer)
        return F.linear(self.norm(x), self.embed.weight), kept


def choose(logits: Tensor, temperature: float, top_k: int, top_p: float, rng: torch.Generator) -> Tensor:
    """One token [B] drawn from logits [B, V]; top_k = 0 and top_p = 1 leave the distribution whole."""
    logits = logits.float().cpu() / temperature
    if 0 < top_k < logits.shape[1]:
        kth = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p < 1:
        ordered, order = logits.sort(descending=True)
        mass = ordered.softmax(-1)
        # The token that crosses top_p still belongs, so at least one is always left.
        beyond = mass.cumsum(-1) - mass >= top_p
        logits = logits.scatter(1, order, ordered.masked_fill(beyond, -math.inf))
    return torch.multinomial(logits.softmax(-1), 1, generator=rng).squeeze(1)


class Lm(Family):
    """Transformer language model over byte-pair tokens learned on the training texts."""

    name = "lm"
    modality = "text"
    role = "candidate"
    version = 2  # 1 weighed the tokens of short texts more
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 1.0, "below 1 draws likelier tokens, above 1 rarer ones", 0.01, 10),
        Control("top_k", 0, "draw from the k most likely tokens; 0 is all", 0, 100_000),
        Control("top_p", 0.95, "draw from the fewest tokens that hold this share of the probability", 0.01, 1),
        Control("steps", 500, "training steps", 1, 1_000_000),
        Control("learning_rate", 5e-3, "highest step size of AdamW", 1e-7, 1000),
        Control("width", 128, "size of a token's vector, in multiples of 8", 8, 1024),
        Control("layers", 3, "transformer blocks", 1, 24),
        Control("dropout", 0.2, "share of activations left out in training", 0, 0.9),
        Control("vocabulary", 1536, "most tokens the byte-pair encoding may have", 64, 50_000),
        Control("context", 256, "longest sequence, in tokens", 16, 4096),
    )
    at_sampling = frozenset({"temperature", "top_k", "top_p"})

    _bpe: Bpe
    _net: Transformer
    _longest: int
    _device: str = "cpu"

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        # Heads share the width, and rotary positions need pairs in each.
        self._settings["width"] = int(self._settings["width"]) // (2 * HEADS) * 2 * HEADS

    def _build(self, vocabulary: int) -> Transformer:
        s = self._settings
        return Transformer(vocabulary, int(s["width"]), int(s["layers"]), float(s["dropout"]))

    def to(self, device: str) -> None:
        """Sample on `device` from now on."""
        self._net, self._device = self._net.to(device), device

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        texts = read_texts(samples, self.name)
        bpe = learn(texts, int(self._settings["vocabulary"]))
        sequences = [[END, *bpe.encode(t), END] for t in texts]
        net = self._train(sequences, len(bpe), seed, device, progress)
        self._bpe, self._net, self._device = bpe, net, device
        self._longest = min(max(map(len, sequences)), int(self._settings["context"]))
        return count_parameters(net)

    def _train(
        self, sequences: list[list[int]], vocabulary: int, seed: int, device: str, progress: Progress | None
    ) -> Transformer:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            order = torch.randperm(len(sequences), generator=rng).tolist()
            held = max(1, round(VALIDATION_SHARE * len(sequences)))
            validation = self._windows([sequences[i] for i in order[:held]])
            training = self._windows([sequences[i] for i in order[held:]])
            net = self._build(vocabulary).to(device)
            ema, best, best_nats = Ema(net, EMA_DECAY), net.state_dict(), math.inf
            adam = torch.optim.AdamW(net.parameters(), rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
            falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: pace(step, steps))
            # Every token weighs the same. A mean over each batch would give the tokens of short texts more weight than
            # those of long ones, and their ends with them: samples would end too soon.
            tokens_per_batch = BATCH * sum(len(s) - 1 for s in training) / len(training)
            batches: list[list[int]] = []
            for step in range(steps):
                batches = batches or like_lengths(training, rng)
                loss = nats(net, [training[i] for i in batches.pop()], device) / tokens_per_batch
                descend(loss, adam, self.name, step)
                falling.step()
                ema.update(net)
                advance(1)
                if (step + 1) % max(1, steps // VALIDATIONS) == 0 or step + 1 == steps:
                    now = held_out_nats(ema.net, validation, device)
                    if now < best_nats:
                        best_nats = now
                        best = {k: v.clone() for k, v in ema.net.state_dict().items()}
        ema.net.load_state_dict(best)
        return ema.net

    def _windows(self, sequences: list[list[int]]) -> list[list[int]]:
        """Sequences of at most context + 1 tokens; each window starts with the token that the last one ended with."""
        c = int(self._settings["context"])
        return [s[i : i + c + 1] for s in sequences for i in range(0, len(s) - 1, c)]

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        s = self._settings
        temperature, top_k, top_p = float(s["temperature"]), int(s["top_k"]), float(s["top_p"])
        # A text may not begin with its end or with blanks, so none is empty.
        barred = torch.tensor([not t.strip() for t in self._bpe.tokens])
        texts: list[list[int]] = [[] for _ in range(count)]
        alive, tokens = list(range(count)), torch.full((count,), END)
        cache: list[Cache] | None = None
        for at in range(self._longest):
            logits, cache = self._net(tokens[:, None].to(self._device), cache)
            last = logits[:, -1].masked_fill(barred.to(self._device), -math.inf) if at == 0 else logits[:, -1]
            tokens = choose(last, temperature, top_k, top_p, rng)
            going = tokens != END
            for i, token in zip(alive, tokens.tolist(), strict=True):
                if token != END:
                    texts[i].append(token)
            if not going.all():
                alive = [i for i, goes in zip(alive, going.tolist(), strict=True) if goes]
                if not alive:
                    break
                tokens, keep = tokens[going], going.to(self._device)
                cache = [(k[keep], v[keep]) for k, v in cache]
        cut = set(alive)
        return Batch([self._finished(t, i in cut) for i, t in enumerate(texts)])

    def _finished(self, tokens: list[int], is_cut: bool) -> str:
        """The text of drawn tokens; one that ran into the length limit loses its last, perhaps broken, word."""
        text = self._bpe.decode(tokens).strip()
        whole = text.rsplit(None, 1)[0] if is_cut else text
        return whole or text

    def _tensors(self) -> dict[str, Tensor]:
        merges = torch.tensor(self._bpe.merges, dtype=torch.int32).view(-1, 2)
        return {"alphabet": pack(self._bpe.alphabet), "merges": merges, **self._net.state_dict()}

    def _facts(self) -> dict[str, Any]:
        return {"longest": self._longest}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        bpe = Bpe(unpack(tensors.pop("alphabet")), [(a, b) for a, b in tensors.pop("merges").tolist()])
        net = self._build(len(bpe))
        net.load_state_dict(tensors)
        self._bpe, self._net, self._device = bpe, net.eval(), "cpu"
        self._longest = int(facts["longest"])


def pace(step: int, steps: int) -> float:
    """Share of the highest learning rate: up over the first twentieth, then down a cosine to a tenth."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def like_lengths(sequences: list[list[int]], rng: torch.Generator) -> list[list[int]]:
    """One pass over the sequences as batches of positions, in random order, each of sequences of like length."""
    # Jitter, so that the same texts do not always meet.
    jitter = torch.rand(len(sequences), generator=rng).tolist()
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]) * (1 + 0.1 * jitter[i]))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    return [batches[i] for i in torch.randperm(len(batches), generator=rng).tolist()]


def nats(net: Transformer, sequences: list[list[int]], device: str) -> Tensor:
    """Cross-entropy in nats, summed over every token but the first of each sequence."""
    longest = max(map(len, sequences)) - 1
    inputs = torch.tensor([s[:-1] + [END] * (longest - len(s) + 1) for s in sequences])
    targets = torch.tensor([s[1:] + [NOTHING] * (longest - len(s) + 1) for s in sequences])
    logits, _ = net(inputs.to(device))
    return F.cross_entropy(logits.flatten(0, 1), targets.to(device).flatten(), reduction="sum")


@torch.no_grad()
def held_out_nats(net: Transformer, sequences: list[list[int]], device: str) -> float:
    """Cross-entropy in nats a token over all sequences."""
    batches = [sequences[i : i + BATCH] for i in range(0, len(sequences), BATCH)]
    total = sum(float(nats(net, batch, device)) for batch in batches)
    return total / sum(len(s) - 1 for s in sequences)
