"""Reference generators with hardly any training, and sets in memory for them to learn from."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest

from evalkit.samples._set import ListedSet, loaded
from evalkit.samples.arrays import from_images
from evalkit.samples.embedded import open_embedded
from evalkit.types import Sample
from generators import BUILTIN
from generators._images import read_images, study

# Enough training to tell seeds apart, not enough to be good.
QUICK = {
    "gan": {"steps": 30},
    "vae": {"steps": 30},
    "beta_vae": {"steps": 30},
    "diffusion": {"training_steps": 30, "steps": 5},
    "flow_matching": {"training_steps": 30, "steps": 5},
    "latent_diffusion": {"autoencoder_steps": 30, "training_steps": 30, "steps": 5},
    "vanilla_gan": {"steps": 30},
    "dcgan": {"steps": 14, "width": 16, "learning_rate": 4e-3},
    "wgan_gp": {"steps": 8},
    "stylegan": {"steps": 3, "width": 16},
    "cyclegan": {"steps": 8, "width": 8},
    "realnvp": {"steps": 30, "couplings": 4, "width": 32},
    "pixelcnn": {"steps": 10, "width": 8, "layers": 2},
    "pixelrnn": {"steps": 10, "width": 8, "layers": 1},
    "lm": {"steps": 20, "width": 32, "layers": 2, "vocabulary": 200, "context": 32},
    "lstm": {"steps": 20, "width": 32, "vocabulary": 200, "context": 32},
    "masked_lm": {"steps": 20, "width": 32, "layers": 2, "vocabulary": 200, "context": 32, "sweeps": 1, "together": 8},
    "text_diffusion": {
        "training_steps": 20,
        "steps": 4,
        "width": 32,
        "layers": 2,
        "vocabulary": 200,
        "context": 32,
    },
    "text_to_image": {"training_steps": 30, "steps": 5, "width": 64},
    "captioner": {"steps": 30, "width": 32},
}
# What others made: they learn nothing and have tests of their own.
EXTERNAL = ("folder", "command", "diffusers", "transformers", "openai")
INSIDE = tuple(name for name in BUILTIN if name not in EXTERNAL)


def class_of(name: str):
    module, _, cls = BUILTIN[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def make(name: str, **controls: int | float | str):
    return class_of(name)(**{**QUICK.get(name, {}), **controls})


# Trained by gradient descent; what makes texts; what learns from texts.
LEARNING = tuple(n for n in INSIDE if any(c.name == "learning_rate" for c in class_of(n).controls))
TEXTUAL = tuple(n for n in INSIDE if class_of(n).modality == "text")
READERS = tuple(n for n in INSIDE if (class_of(n).learns_from or class_of(n).modality) == "text")


def image_set(pixels: np.ndarray, groups: Sequence[str] | None = None, name: str = "toy") -> ListedSet:
    """Images uint8 [N, H, W, 3] as a sample set."""
    labels = groups or [None] * len(pixels)
    return ListedSet(
        name,
        "image",
        tuple(
            Sample(f"{i}.png", hashlib.sha256(p.tobytes()).hexdigest(), loaded(p), g)
            for i, (p, g) in enumerate(zip(pixels, labels, strict=True))
        ),
    )


def text_set(texts: Sequence[str], name: str = "toy") -> ListedSet:
    return ListedSet(
        name,
        "text",
        tuple(Sample(f"{i}", hashlib.sha256(t.encode()).hexdigest(), loaded(t)) for i, t in enumerate(texts)),
    )


def data_for(name: str) -> ListedSet:
    return open_embedded("embedded:prose/train" if name in READERS else "embedded:digits/train")


@lru_cache
def fitted(name: str):
    generator = make(name)
    generator.fit(data_for(name), seed=0)
    return generator


def drawn(generator, n: int, seed: int = 1) -> tuple[list, list[str]]:
    items, groups = [], []
    for batch in generator.sample(n, seed):
        items.extend(i if isinstance(i, str) else i.tobytes() for i in batch.items)
        groups.extend(batch.groups or ())
    return items, groups


def pixels_of(generator, n: int, seed: int = 1) -> np.ndarray:
    return np.concatenate([batch.items for batch in generator.sample(n, seed)])


def make_from(name: str, **controls: int | float | str):
    """The fitted generator with other sampling controls."""
    generator = make(name, **controls)
    fit = fitted(name)
    generator._restore({k: v.clone() for k, v in fit._tensors().items()}, fit._facts())
    generator._trained_on = fit.trained_on
    return generator


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


def shaded(n: int = 64, shape: tuple[int, int] = (8, 8), colour: bool = False) -> ListedSet:
    """Images that are bright or dark, with prompts that say so."""
    rng = np.random.default_rng(0)
    bright = rng.random(n) < 0.5
    pixels = np.where(bright, 200, 40)[:, None, None, None] + rng.integers(-30, 30, (n, *shape, 3))
    pixels = pixels if colour else pixels[..., :1].repeat(3, 3)
    return from_images(pixels.astype(np.uint8), conditions=[f"very {'bright' if b else 'dark'} indeed" for b in bright])


@lru_cache
def captioned_digits():
    """Pixels, look and labels of the digits that captions are written of."""
    data = data_for("captioner")
    pixels = read_images(data, "test")
    look, labels = study(pixels, data, "test")
    return pixels, look, labels.tolist()
