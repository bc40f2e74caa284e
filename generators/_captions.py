"""Captions of small images, written from what is measured in them: what it shows, how bold it is, which way it leans.

- One grammar: "a bold seven slanting left". Three facts, each a few words, so that every caption can be listed and
  parsed back, and whether an image shows what its caption says can be measured instead of judged.
- Ink is the distance from the ground, the middle grey of the training images' borders: dark on light reads as light on
  dark does.
- Thickness is ink per stroke length. A stroke's outline is twice its length, and the outline of a grey image is its
  total variation (co-area formula, Fleming & Rishel 1960), so no threshold decides what is stroke.
- Slant is how far the ink moves right on its way up, in pixels a pixel: -mu_11 / mu_02 of the second moments, y down.
  0 is upright, 1 leans right by 45 degrees, as "/" does.
- "thin" and "bold", "left" and "right" are the outer thirds of the training images of the class; the thresholds are
  kept. Against one threshold for all, nearly every six would slant left and every seven right, and the caption would
  say its class thrice.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import BadSource
from evalkit.types import SampleSet

from ._images import Look

THICKNESS = ("thin", "medium", "bold")
SLANT = ("slanting left", "standing upright", "slanting right")
SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# What an image shows that nobody labelled.
UNLABELLED = "picture"

PATTERN = re.compile(rf"a ({'|'.join(THICKNESS)}) (.+) ({'|'.join(SLANT)})")
MOST_WORDS = 5000
# Classes with fewer training images are measured by the thirds of all: a third of theirs would be a chance.
FEWEST_OF_CLASS = 9

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


class Facts(NamedTuple):
    """What a caption says of an image."""

    kind: str
    thickness: str
    slant: str

    @property
    def pieces(self) -> tuple[str, ...]:
        """The caption in the pieces a decoder writes; the class is one piece, however many words it has."""
        return ("a", self.thickness, self.kind, *self.slant.split())

    @property
    def caption(self) -> str:
        return " ".join(self.pieces)


def facts_of(caption: str) -> Facts:
    """What a templated caption says; BadSource for any other text."""
    found = PATTERN.fullmatch(caption)
    if found is None:
        raise BadSource(f"{_shown(caption)} is not a caption of the grammar; expected 'a THICKNESS CLASS SLANT'")
    thickness, kind, slant = found.groups()
    return Facts(kind, thickness, slant)


def ink_of(pixels: Pixels, ground: float) -> Floats:
    """How far every pixel of images [N, H, W, C] is from the ground, in 0..1: [N, H, W]."""
    ink: Floats = np.abs(pixels.mean(3) - ground) / 255
    return ink


def thickness_of(ink: Floats) -> Floats:
    """Ink per stroke length, in pixels, of each image [N, H, W]; 0 for one without ink."""
    framed = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    across, down = np.diff(framed, axis=2)[:, :-1], np.diff(framed, axis=1)[:, :, :-1]
    length = np.hypot(across, down).sum((1, 2)) / 2
    thickness: Floats = ink.sum((1, 2)) / np.maximum(length, 1e-12)
    return thickness


def slant_of(ink: Floats) -> Floats:
    """Pixels to the right for each pixel up, of each image [N, H, W]; 0 for one without height."""
    y, x = np.mgrid[: ink.shape[1], : ink.shape[2]]
    share = ink / np.maximum(ink.sum((1, 2), keepdims=True), 1e-12)
    dx = x - (share * x).sum((1, 2), keepdims=True)
    dy = y - (share * y).sum((1, 2), keepdims=True)
    mu11, mu02 = (share * dx * dy).sum((1, 2)), (share * dy * dy).sum((1, 2))
    slant: Floats = np.where(mu02 > 1e-9, -mu11 / np.maximum(mu02, 1e-9), 0.0)
    return slant


@dataclass(frozen=True)
class Grammar:
    """The words for the classes, and below and above what an image of each is thin or bold, slants left or right."""

    kinds: tuple[str, ...]
    ground: float
    thickness: tuple[tuple[float, float], ...]
    slant: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, pixels: Pixels, labels: Sequence[int], classes: Sequence[str]) -> Grammar:
        """The grammar of training images [N, H, W, C] of these classes; without class names all are pictures."""
        border = np.ones(pixels.shape[1:3], bool)
        border[1:-1, 1:-1] = False
        ground = float(np.median(pixels.mean(3)[:, border]))
        ink = ink_of(pixels, ground)
        kinds = tuple(SPELLED[int(c)] if c in tuple("0123456789") else c for c in classes)
        kinds = kinds or (UNLABELLED,)
        thickness, slant = (_thirds(v, np.asarray(labels), len(kinds)) for v in (thickness_of(ink), slant_of(ink)))
        return cls(kinds, ground, thickness, slant)

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> Grammar:
        """The grammar that `asdict` turned into JSON."""
        thickness, slant = (tuple((float(a), float(b)) for a, b in facts[k]) for k in ("thickness", "slant"))
        return cls(tuple(facts["kinds"]), float(facts["ground"]), thickness, slant)

    def facts(self, pixels: Pixels, labels: Iterable[int]) -> list[Facts]:
        """The facts of each image [N, H, W, C], measured, with its class."""
        ink = ink_of(pixels, self.ground)
        return [
            Facts(self.kinds[k], THICKNESS[_third(t, self.thickness[k])], SLANT[_third(s, self.slant[k])])
            for k, t, s in zip(labels, thickness_of(ink).tolist(), slant_of(ink).tolist(), strict=True)
        ]

    def caption_of(self, image: Pixels, label: int) -> str:
        """The caption of one image [H, W, C] of class `label`."""
        return self.facts(image[None], [label])[0].caption

    def captions(self) -> list[str]:
        """Every caption there is: 9 for each class."""
        return [Facts(k, t, s).caption for k in self.kinds for t in THICKNESS for s in SLANT]


def _thirds(values: Floats, labels: npt.NDArray[np.int64], kinds: int) -> tuple[tuple[float, float], ...]:
    """Where the middle third of each class begins and ends."""
    found = []
    for k in range(kinds):
        own = values[labels == k]
        low, high = np.quantile(own if len(own) >= FEWEST_OF_CLASS else values, [1 / 3, 2 / 3]).tolist()
        found.append((low, high))
    return tuple(found)


def _third(value: float, bounds: tuple[float, float]) -> int:
    """0 below the bounds, 1 within them, 2 above."""
    return int(value > bounds[1]) + int(value >= bounds[0])


def described(
    samples: SampleSet, pixels: Pixels, look: Look, labels: Tensor
) -> tuple[Grammar, list[tuple[str, ...]], bool]:
    """The grammar of a training set, the caption of each image in pieces, and whether the captions are its own.

    A set is taken at its word only where every image has a prompt; otherwise all captions are templated, so that a
    few prompts of another manner do not stand beside them.
    """
    grammar = Grammar.of(pixels, labels.tolist(), look.classes)
    own = [tuple((s.condition or "").split()) for s in samples]
    if all(own):
        return grammar, own, True
    return grammar, [f.pieces for f in grammar.facts(pixels, labels.tolist())], False


# ---------------------------------------------------------------------------------------------- prompts as numbers


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The words a training set's prompts use; word i is token i + 1, because 0 is no word at all."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, prompts: Iterable[str]) -> Vocabulary:
        """The words of the prompts, the most frequent 5,000 where there are more."""
        counts = Counter(w for p in prompts for w in words_of(p))
        return cls(tuple(sorted(w for w, _ in counts.most_common(MOST_WORDS))))

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """int64 [B, L] of prompts, 0 where one is shorter than the longest; words that are not known are left out."""
        position = {w: i + 1 for i, w in enumerate(self.words)}
        rows = [[position[w] for w in words_of(p) if w in position] for p in prompts]
        longest = max(1, *(len(r) for r in rows))
        return torch.tensor([r + [0] * (longest - len(r)) for r in rows])

    def check(self, prompt: str, reader: str) -> None:
        """Refuse a prompt with a word that is not known, with the nearest that is, or without any word; BadSource."""
        words, known = words_of(prompt), set(self.words)
        if not words:
            raise BadSource(f"prompt {_shown(prompt)} holds no word; give {reader} words such as {self._some()}")
        for word in words:
            if word not in known:
                near = difflib.get_close_matches(word, self.words, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"it knows {self._some()}"
                raise BadSource(f"prompt {_shown(prompt)}: {reader} never saw the word {word!r} in training; {hint}")

    def _some(self) -> str:
        return ", ".join(self.words[:20]) + (", ..." if len(self.words) > 20 else "")


def _shown(text: str) -> str:
    """A text as an error quotes it: on one line, and not all of a long one."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
