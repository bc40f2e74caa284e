"""Train the language model that judges prose: `python scripts/train_prose_lm.py`, about seven minutes on one core.

Reads embedded:prose/train only. One block of pieces in ten is kept aside to choose the epoch; heldout is looked at
once, for the card. Weights are stored as float16 and computed with as float32.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from evalkit.extractors.prose_lm import OUTSIDE, ByteGRU
from evalkit.samples.embedded import open_embedded
from evalkit.types import SampleSet
from evalkit.weights import SHIPPED

SEED = 0
EPOCHS, BATCH, PEAK_RATE, DROPOUT, DECAY = 45, 16, 4e-3, 0.35, 0.02


def encode(samples: SampleSet) -> list[np.ndarray]:
    return [np.frombuffer(str(s.load()).encode(), dtype=np.uint8) for s in samples]


def padded(texts: list[np.ndarray]) -> Tensor:
    batch = np.full((len(texts), max(map(len, texts))), OUTSIDE)
    for row, text in zip(batch, texts, strict=True):
        row[: len(text)] = text
    return torch.from_numpy(batch)


def nats(model: nn.Module, batch: Tensor) -> Tensor:
    before = torch.cat([torch.full_like(batch[:, :1], OUTSIDE), batch[:, :-1]], dim=1)
    logits, _ = model(before)
    # Padding has no class among the 256 bytes: it is ignored, not predicted.
    return nn.functional.cross_entropy(logits.transpose(1, 2), batch, ignore_index=OUTSIDE, reduction="sum")


@torch.no_grad()
def bits_per_byte(model: nn.Module, texts: list[np.ndarray]) -> float:
    model.eval()
    total = sum(nats(model, padded(texts[i : i + 32])).item() for i in range(0, len(texts), 32))
    model.train()
    return total / sum(map(len, texts)) / math.log(2)


def batches(texts: list[np.ndarray], rng: np.random.RandomState) -> list[Tensor]:
    """Texts of about equal length together, so that little padding is computed; batches in random order."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]) + rng.uniform(0, 60))
    groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    rng.shuffle(groups)
    return [padded([texts[i] for i in group]) for group in groups]


def train(texts: list[np.ndarray], aside: list[np.ndarray]) -> ByteGRU:
    rng = np.random.RandomState(SEED)
    model = ByteGRU(dropout=DROPOUT)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=DECAY, betas=(0.9, 0.99))
    steps = EPOCHS * math.ceil(len(texts) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps, pct_start=0.1)
    best, kept = math.inf, copy.deepcopy(model)
    for epoch in range(EPOCHS):
        for batch in batches(texts, rng):
            optimiser.zero_grad()
            loss = nats(model, batch) / (batch != OUTSIDE).sum()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        score = bits_per_byte(model, aside)
        if score < best:
            best, kept = score, copy.deepcopy(model)
        print(f"epoch {epoch:2d}  train {loss.item() / math.log(2):.3f}  aside {score:.3f} bits per byte", flush=True)
    return kept


def main() -> None:
    torch.manual_seed(SEED)
    source = open_embedded("embedded:prose/train")
    texts = encode(source)
    # Whole blocks, because neighbouring pieces come from one paragraph.
    is_aside = [i // 20 % 10 == 9 for i in range(len(texts))]
    model = train(
        [t for t, a in zip(texts, is_aside, strict=True) if not a],
        [t for t, a in zip(texts, is_aside, strict=True) if a],
    )
    stored = {key: tensor.half().contiguous() for key, tensor in model.state_dict().items()}
    model.load_state_dict({key: tensor.float() for key, tensor in stored.items()})
    heldout = open_embedded("embedded:prose/heldout")
    record = SHIPPED["prose_lm"]
    content = save(stored)
    card = {
        "name": "prose_lm",
        "what": "byte-level GRU language model of English reference prose",
        "parameters": sum(t.numel() for t in stored.values()),
        "stored_as": "float16",
        "licence": record.licence,
        "data": {"source": record.trained_on, "digest": source.digest, "n": len(source)},
        "heldout": {
            "digest": heldout.digest,
            "n": len(heldout),
            "bits_per_byte": round(bits_per_byte(model, encode(heldout)), 4),
        },
        "sha256": hashlib.sha256(content).hexdigest(),
        "script": "scripts/train_prose_lm.py",
        "seed": SEED,
        "torch": torch.__version__,
    }
    record.path.write_bytes(content)
    Path(record.path.parents[2] / record.card).write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
