"""The floor for images: uniform noise of the training images' size and grey levels; nothing may score below it.

It learns nothing but how an image looks from outside, so a metric or detector that prefers it to anything is broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from evalkit.types import Batch, Control, Progress, SampleSet

from ._family import Family
from ._images import Look, read_images, study


class Noise(Family):
    """Independent uniform pixels over the training set's grey levels, one channel where the images are grey."""

    name = "noise"
    modality = "image"
    role = "floor"
    controls: ClassVar[tuple[Control, ...]] = ()

    _look: Look

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        self._look, _ = study(read_images(samples, self.name, largest=None), samples, self.name)
        return 0

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        levels = torch.tensor(self._look.levels or range(256), dtype=torch.uint8)
        c, h, w = self._look.shape
        pixels = levels[torch.randint(len(levels), (count, h, w, c), generator=rng)]
        return Batch(pixels.expand(-1, -1, -1, 3).numpy().copy())

    def _tensors(self) -> dict[str, Tensor]:
        return {"levels": torch.tensor(self._look.levels or range(256), dtype=torch.uint8)}

    def _facts(self) -> dict[str, Any]:
        return asdict(self._look)

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._look = Look.of(facts)
