"""What a sample looks like in a few numbers, so that a detector can say when one is unlike what it was calibrated on.

No network: size, brightness, contrast, detail, colour and blocks of an image; length and kind of a text. They are the
things that move a detector's score without saying anything about real or fake. The container (PNG, JPEG) is not among
them, because a detector is handed pixels; what a codec did to the pixels is, as detail and as blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..types import Modality

if TYPE_CHECKING:
    from torch import Tensor

    from ..types import Media

VERSION = 1
BLOCK = 8  # pixels: the grid of JPEG
ROUNDING = 1 / 12  # squared grey levels: the variance that rounding to whole levels leaves, so that no logarithm ends
IMAGE = ("luma", "contrast", "detail", "saturation", "blocks", "area", "aspect")
TEXT = ("length", "word_length", "letters")


class Appearance:
    """An instrument: row = [size, statistics ...], float32; `size` is the smaller side in pixels or the characters.

    Images: mean luma in 0..1, log deviation of luma, log variance of its Laplacian, mean saturation in 0..1, log ratio
    of steps across the 8 x 8 grid to those inside it, log area, log aspect. Texts: log characters, mean letters a word,
    share of letters.
    """

    heads: Mapping[str, slice] = MappingProxyType({"size": slice(0, 1), "features": slice(1, None)})

    def __init__(self, modality: Modality) -> None:
        self.name, self.modality = "appearance", modality

    @property
    def digest(self) -> str:
        return f"appearance:{self.modality}:{VERSION}"

    def prepare(self, sample: Media) -> Tensor:
        import torch

        row = text_statistics(sample) if isinstance(sample, str) else image_statistics(sample)
        return torch.from_numpy(row)

    def to(self, device: str) -> None: ...

    def __call__(self, batch: Tensor) -> Tensor:
        return batch


def image_statistics(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """[8] of an image uint8 [H, W, 3]: its smaller side, then the seven of `IMAGE`."""
    height, width = image.shape[:2]
    luma = image @ np.array([0.299, 0.587, 0.114])
    most = image.max(axis=2).astype(np.float64)
    saturation = ((most - image.min(axis=2)) / np.maximum(most, 1)).mean()
    inner = luma[1:-1, 1:-1]
    laplacian = 4 * inner - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    detail = float((laplacian**2).mean()) if laplacian.size else 0.0
    return np.array(
        [
            min(height, width),
            luma.mean() / 255,
            0.5 * np.log(luma.var() + ROUNDING),
            np.log(detail + ROUNDING),
            saturation,
            _blocks(luma),
            np.log(height * width),
            np.log(width / height),
        ],
        dtype=np.float32,
    )


def _blocks(luma: npt.NDArray[np.float64]) -> float:
    """Log of the mean squared step across the edges of the 8 x 8 grid over that of all others; 0 without a grid."""
    across, within = [], []
    for steps in (np.diff(luma, axis=1), np.diff(luma, axis=0).T):
        on_grid = np.arange(1, steps.shape[1] + 1) % BLOCK == 0
        across.append((steps[:, on_grid] ** 2).ravel())
        within.append((steps[:, ~on_grid] ** 2).ravel())
    edges, others = np.concatenate(across), np.concatenate(within)
    if not edges.size or not others.size:
        return 0.0
    return float(np.log((edges.mean() + ROUNDING) / (others.mean() + ROUNDING)))


def text_statistics(text: str) -> npt.NDArray[np.float32]:
    """[4] of a text: its characters, then the three of `TEXT`."""
    words = text.split()
    letters = sum(c.isalpha() for c in text)
    length = sum(map(len, words)) / max(1, len(words))
    return np.array([len(text), np.log(len(text) + 1), length, letters / max(1, len(text))], dtype=np.float32)
