"""A floor for images: training images with their pixels in random order. Every histogram is right, all structure gone.

- One permutation a sample, the same for its three channels: each sample has exactly the colours of one real image.
- What tells images apart by brightness or palette alone is blind here: a metric or detector that ranks this above a
  trained model measures the histogram and not the image. `noise` is the floor below, which has not even that.
- The label of the image stays, so that whatever counts labels finds them all.
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


class ShuffledPixels(Family):
    """Training images drawn with replacement, the pixels of each one permuted."""

    name = "shuffled_pixels"
    modality = "image"
    role = "floor"
    controls: ClassVar[tuple[Control, ...]] = ()

    _look: Look
    # uint8 [N, H * W, 3] and int64 [N].
    _images: Tensor
    _labels: Tensor

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        pixels = read_images(samples, self.name, largest=None)
        self._look, self._labels = study(pixels, samples, self.name)
        self._images = torch.from_numpy(pixels).flatten(1, 2)
        return 0

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        chosen = torch.randint(len(self._images), (count,), generator=rng)
        images = self._images[chosen]
        order = torch.rand(images.shape[:2], generator=rng).argsort(1)
        images = images.gather(1, order[..., None].expand_as(images))
        items = images.view(count, self._look.height, self._look.width, 3).numpy()
        return Batch(items, self._look.names(self._labels[chosen]))

    def _tensors(self) -> dict[str, Tensor]:
        return {"images": self._images, "labels": self._labels}

    def _facts(self) -> dict[str, Any]:
        return asdict(self._look)

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._look, self._images, self._labels = Look.of(facts), tensors["images"], tensors["labels"]
