"""Train the classifier that judges digits: `python scripts/train_digits_net.py`, about three minutes on one core.

Reads embedded:digits/train only. The temperature comes from five networks that each judge the fifth they did not see:
the classifier errs so rarely that a small part kept aside would hold no error to learn it from. heldout is looked at
once, for the card.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from evalkit.extractors.digits_net import CLASSES, SIDE, DigitsCNN
from evalkit.samples.embedded import open_embedded
from evalkit.types import SampleSet
from evalkit.weights import PACKAGE, SHIPPED

SEED, FOLDS = 0, 5
EPOCHS, BATCH, PEAK_RATE, DROPOUT, DECAY, SMOOTHING = 45, 32, 3e-3, 0.3, 0.01, 0.05


def tensors(samples: SampleSet) -> tuple[Tensor, Tensor]:
    images = np.stack([np.asarray(s.load())[:, :, 0] for s in samples])
    labels = [int(s.group or -1) for s in samples]
    return torch.from_numpy(images)[:, None].float() / 255, torch.tensor(labels)


def augment(images: Tensor) -> Tensor:
    """Up to half a pixel of shift, 8 degrees, 10 % of size and of shear, and a little grey noise."""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * math.radians(8)
    size = 1 + (torch.rand(n, 2) * 2 - 1) * 0.1
    shear, shift = (torch.rand(n) * 2 - 1) * 0.1, (torch.rand(n, 2) * 2 - 1) * (1.0 / SIDE)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([cos * size[:, 0], -sin + shear, shift[:, 0]], dim=1),
        torch.stack([sin, cos * size[:, 1], shift[:, 1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    return (moved + 0.03 * torch.randn_like(moved)).clamp(0, 1)


def train(images: Tensor, labels: Tensor) -> DigitsCNN:
    model = DigitsCNN(DROPOUT)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(images)).split(BATCH):
            _, logits = model(augment(images[index]))
            loss = F.cross_entropy(logits, labels[index], label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def unseen_logits(images: Tensor, labels: Tensor) -> Tensor:
    """Logits of each image by a network that was trained without its fifth."""
    fold = torch.randperm(len(images)) % FOLDS
    logits = torch.zeros(len(images), CLASSES)
    for k in range(FOLDS):
        model = train(images[fold != k], labels[fold != k])
        with torch.no_grad():
            logits[fold == k] = model(images[fold == k])[1]
    return logits


def temperature_of(logits: Tensor, labels: Tensor) -> float:
    """The divisor of the logits that gives the labels the highest likelihood."""
    grid = torch.linspace(0.2, 3.0, 281)
    losses = torch.stack([F.cross_entropy(logits / t, labels) for t in grid])
    return grid[losses.argmin()].item()


@torch.no_grad()
def scores(model: DigitsCNN, images: Tensor, labels: Tensor) -> dict[str, float]:
    p = model(images)[1].softmax(1)
    confidence, guess = p.max(1)
    return {
        "accuracy": round((guess == labels).float().mean().item(), 6),
        "mean_confidence": round(confidence.mean().item(), 4),
        "nats": round(F.nll_loss(p.log(), labels).item(), 4),
    }


def main() -> None:
    torch.manual_seed(SEED)
    source, heldout = open_embedded("embedded:digits/train"), open_embedded("embedded:digits/heldout")
    images, labels = tensors(source)
    temperature = temperature_of(unseen_logits(images, labels), labels)
    model = train(images, labels)
    model.head.weight.data /= temperature
    model.head.bias.data /= temperature
    record = SHIPPED["digits_net"]
    stored = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    content = save(stored)
    card = {
        "name": "digits_net",
        "what": f"convolutional classifier of {CLASSES} handwritten digits, {SIDE} x {SIDE} grey",
        "parameters": sum(t.numel() for t in stored.values()),
        "stored_as": "float32",
        "licence": record.licence,
        "data": {"source": record.trained_on, "digest": source.digest, "n": len(source)},
        "temperature": round(temperature, 3),
        "heldout": {"digest": heldout.digest, "n": len(heldout), **scores(model, *tensors(heldout))},
        "sha256": hashlib.sha256(content).hexdigest(),
        "script": "scripts/train_digits_net.py",
        "seed": SEED,
        "torch": torch.__version__,
    }
    record.path.write_bytes(content)
    (PACKAGE / record.card).write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
