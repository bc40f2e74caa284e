"""Train the pair of encoders that judges captions of digits: `python scripts/train_digits_captions.py`, a minute.

Reads embedded:digits/train only: its images, and the captions that are measured in them. heldout is looked at once, for
the card, against the thresholds of train: how often an image's nearest caption of all ninety is its own.
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

from evalkit.extractors.digits_captions import DualEncoder, bag
from evalkit.samples.embedded import open_embedded
from evalkit.types import SampleSet
from evalkit.weights import PACKAGE, SHIPPED
from generators._captions import Facts, Grammar, facts_of

SEED = 0
EPOCHS, BATCH, PEAK_RATE, DROPOUT, DECAY = 90, 64, 3e-3, 0.2, 0.02
# A cosine of 1 has then e^3 = 20 times the odds of a cosine of 0.9 at most: rows stay apart by angle, not by sharpness.
SHARPEST = math.log(30)
SLOTS = len(Facts._fields)


def pixels_of(samples: SampleSet) -> np.ndarray:
    return np.stack([np.asarray(s.load()) for s in samples])


def as_input(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels[..., 0])[:, None].float() / 255


def captions_keeping(grammar: Grammar, slots: Tensor) -> tuple[Tensor, dict[str, int]]:
    """The bags of all captions of which only some slots are kept, each once, and the place of every whole caption."""
    places: dict[tuple[float, ...], int] = {}
    own: dict[str, int] = {}
    for caption in grammar.captions():
        kept = " ".join(part for part, stays in zip(facts_of(caption), slots.tolist(), strict=True) if stays)
        own[caption] = places.setdefault(tuple(bag(kept).tolist()), len(places))
    return torch.tensor(list(places)), own


def symmetric(logits: Tensor, own: Tensor) -> Tensor:
    """-ln of the softmax share of each image's own caption among all, and of each caption's own images in the batch.

    The second half makes cosines comparable between images, which a mean of cosines asks for. logits [B, K], own [B].
    """
    is_own = F.one_hot(own, logits.shape[1]).bool()
    of_captions = logits.logsumexp(0) - logits.masked_fill(~is_own, -torch.inf).logsumexp(0)
    return (F.cross_entropy(logits, own) + of_captions[is_own.any(0)].mean()) / 2


def train(images: Tensor, captions: list[str], grammar: Grammar) -> DualEncoder:
    model = DualEncoder(DROPOUT)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    some = [torch.tensor([(k >> i) & 1 for i in range(SLOTS)]) for k in range(1, 2**SLOTS)]
    tables = [captions_keeping(grammar, slots) for slots in some]
    targets = [torch.tensor([own[c] for c in captions]) for _, own in tables]
    for _ in range(EPOCHS):
        for index in torch.randperm(len(images)).split(BATCH):
            # The whole caption half of the time, else any part of it.
            k = -1 if torch.rand(()) < 0.5 else int(torch.randint(len(some), ()))
            noisy = (images[index] + 0.03 * torch.randn(len(index), 1, *images.shape[2:])).clamp(0, 1)
            cosines = model.images(noisy) @ model.texts(tables[k][0]).T
            loss = symmetric(model.sharpness.clamp(max=SHARPEST).exp() * cosines, targets[k][index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def scores(model: DualEncoder, images: Tensor, captions: list[str], grammar: Grammar) -> dict[str, float]:
    every = grammar.captions()
    cosines = model.images(images) @ model.texts(torch.stack([bag(c) for c in every])).T
    own = torch.tensor([every.index(c) for c in captions])
    best = [facts_of(every[i]) for i in cosines.argmax(1).tolist()]
    truth = [facts_of(c) for c in captions]
    found = {"retrieval": float((cosines.argmax(1) == own).float().mean()), "captions": len(every)}
    found["retrieval_in_3"] = float((cosines.topk(3, 1).indices == own[:, None]).any(1).float().mean())
    for field in Facts._fields:
        equal = [getattr(a, field) == getattr(b, field) for a, b in zip(best, truth, strict=True)]
        found[field] = float(np.mean(equal))
    is_own = F.one_hot(own, len(every)).bool()
    found["cosine"], found["cosine_of_others"] = cosines[is_own].mean().item(), cosines[~is_own].mean().item()
    return {key: round(value, 4) for key, value in found.items()}


def main() -> None:
    torch.manual_seed(SEED)
    source, heldout = open_embedded("embedded:digits/train"), open_embedded("embedded:digits/heldout")
    classes = sorted({str(s.group) for s in source})
    labels, held_labels = ([classes.index(str(s.group)) for s in samples] for samples in (source, heldout))
    pixels, held_pixels = pixels_of(source), pixels_of(heldout)
    grammar = Grammar.of(pixels, labels, classes)
    captions = [f.caption for f in grammar.facts(pixels, labels)]
    held = [f.caption for f in grammar.facts(held_pixels, held_labels)]
    model = train(as_input(pixels), captions, grammar)
    record = SHIPPED["digits_captions"]
    stored = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    content = save(stored)
    card = {
        "name": "digits_captions",
        "what": "dual encoder of handwritten digits, 8 x 8 grey, and of captions of 16 words",
        "parameters": sum(t.numel() for t in stored.values()),
        "stored_as": "float32",
        "licence": record.licence,
        "data": {"source": record.trained_on, "digest": source.digest, "n": len(source)},
        "heldout": {"digest": heldout.digest, "n": len(heldout), **scores(model, as_input(held_pixels), held, grammar)},
        "sha256": hashlib.sha256(content).hexdigest(),
        "script": "scripts/train_digits_captions.py",
        "seed": SEED,
        "torch": torch.__version__,
    }
    record.path.write_bytes(content)
    (PACKAGE / record.card).write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
