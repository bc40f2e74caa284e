"""Real data that every installation already carries: handwritten digits and English reference prose.

`embedded:digits`  1,797 handwritten digits of 8x8 pixels and 17 grey levels, labels as groups (scikit-learn's copy of
                   the UCI optical digits test set, Alpaydin & Kaynak 1998).
`embedded:prose`   the English reference topics that CPython carries in `pydoc_data.topics`, cut into pieces of whole
                   sentences; its content differs a little between Python versions, so its digest is in every record.

Splits, fixed by content so that copies never straddle them: sha256(content) mod 5 = 0, 1, 2 -> `train`, 3 -> `heldout`
(what samples are scored against), 4 -> `ceiling` (held back: the draw of a perfect generator). A piece of prose follows
the paragraph it was cut from.
"""

from __future__ import annotations

import hashlib
import re

from ..errors import UnknownName
from ..types import Sample
from ._set import ListedSet, bucket, loaded, select

SPLITS = {"train": (0, 1, 2), "heldout": (3,), "ceiling": (4,)}
PREFIX = "embedded:"
NAMES = ("digits", "prose")

# Shorter pieces say little, longer ones make one sample outweigh the rest.
SHORTEST, LONGEST = 60, 200


def open_embedded(source: str) -> ListedSet:
    """The set called `embedded:NAME` or one split of it, `embedded:NAME/SPLIT`; UnknownName for any other."""
    name, _, split = source.removeprefix(PREFIX).partition("/")
    if name not in NAMES:
        raise UnknownName("embedded set", name, NAMES)
    if split and split not in SPLITS:
        raise UnknownName(f"split of {PREFIX}{name}", split, SPLITS)
    whole, homes = _digits() if name == "digits" else _prose()
    if not split:
        return whole
    keep = [i for i, home in enumerate(homes) if home in SPLITS[split]]
    chosen = select(whole, keep, f"{name}/{split}")
    return ListedSet(chosen.name, chosen.modality, chosen.samples, source)


def _digits() -> tuple[ListedSet, list[int]]:
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    samples = []
    for i, (grey, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        # 17 levels, 0..16, spread over 0..255 so that any image viewer shows them.
        pixels = np.repeat(np.rint(grey * (255 / 16)).astype(np.uint8)[:, :, None], 3, axis=2)
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        samples.append(Sample(f"digit-{i:04d}", digest, loaded(pixels), str(label)))
    homes = [bucket(s.digest, 5) for s in samples]
    return ListedSet("digits", "image", tuple(samples), f"{PREFIX}digits"), homes


def _prose() -> tuple[ListedSet, list[int]]:
    from pydoc_data.topics import topics

    paragraphs: dict[str, None] = {}
    for topic in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[topic]):
            paragraphs.setdefault(re.sub(r"\s+", " ", block).strip())
    samples: list[Sample] = []
    homes: list[int] = []
    seen: set[str] = set()
    for paragraph in paragraphs:
        if not _is_prose(paragraph):
            continue
        home = bucket(hashlib.sha256(paragraph.encode()).hexdigest(), 5)
        for piece in _pieces(paragraph):
            if piece not in seen:
                seen.add(piece)
                digest = hashlib.sha256(piece.encode()).hexdigest()
                samples.append(Sample(f"prose-{len(samples):04d}", digest, loaded(piece)))
                homes.append(home)
    return ListedSet("prose", "text", tuple(samples), f"{PREFIX}prose"), homes


def _is_prose(paragraph: str) -> bool:
    """Sentences, not code, grammar productions or rulers."""
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    is_code = ">>>" in paragraph or "::=" in paragraph or " = " in paragraph
    return letters >= 0.85 * len(paragraph) and not is_code and " the " in f" {paragraph.lower()} "


def _pieces(paragraph: str) -> list[str]:
    """Whole sentences gathered up to LONGEST characters; under SHORTEST or over twice LONGEST is left out."""
    pieces, piece = [], ""
    for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z\"*])", paragraph):
        if piece and len(piece) + 1 + len(sentence) > LONGEST:
            pieces.append(piece)
            piece = ""
        piece = f"{piece} {sentence}".strip()
    return [p for p in [*pieces, piece] if SHORTEST <= len(p) <= 2 * LONGEST]
