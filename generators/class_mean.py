"""A floor for images: the mean image of a class plus independent noise of each pixel's own standard deviation.

- x = mu_y + sigma_y * epsilon, epsilon ~ N(0, I): the best Gaussian without any correlation between pixels.
- Its classes are right and every pixel has, up to clipping, the right mean and spread; no stroke or edge
  hangs together. What a classifier rewards alone (confidence, agreement with the label) it gets; what looks at
  structure must object.
- Without labels there is one class, and its mean image is the mean of everything.
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


class ClassMean(Family):
    """Class means with independent Gaussian pixels around them."""

    name = "class_mean"
    modality = "image"
    role = "floor"
    controls: ClassVar[tuple[Control, ...]] = ()

    _look: Look
    # float32 [K, C, H, W] in 0..1.
    _mean: Tensor
    _sigma: Tensor

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        pixels = read_images(samples, self.name, largest=None)
        look, labels = study(pixels, samples, self.name)
        # Of a class at a time: all images as float64 would be eight times the set.
        of_class = [torch.from_numpy(pixels[(labels == y).numpy(), ..., : look.channels]) for y in range(look.kinds)]
        x = [rows.permute(0, 3, 1, 2).double() / 255 for rows in of_class]
        self._look = look
        self._mean = torch.stack([rows.mean(0) for rows in x]).float()
        self._sigma = torch.stack([rows.std(0, correction=0) for rows in x]).float()
        return 2 * self._mean.numel()

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        y = self._look.cycle(start, count)
        epsilon = torch.randn(count, *self._look.shape, generator=rng)
        return Batch(self._look.render(self._mean[y] + self._sigma[y] * epsilon), self._look.names(y))

    def _tensors(self) -> dict[str, Tensor]:
        return {"mean": self._mean, "sigma": self._sigma}

    def _facts(self) -> dict[str, Any]:
        return asdict(self._look)

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        self._look, self._mean, self._sigma = Look.of(facts), tensors["mean"], tensors["sigma"]
