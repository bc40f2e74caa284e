"""A saboteur: good images of every class, a share of them under the wrong label.

- The images come from one Gaussian a class with full covariance, nearly real where the classes are simple. Their labels
  do not change a pixel: Frechet distance, precision, recall and detectors see nothing. What must catch it is whatever
  compares a sample with its label: the agreement of the table "Per class", and every score per group.
- C_y = D ((1 - a) R + a I) D with the correlations R of the pixels of class y and their standard deviations D. a is the
  intensity of Ledoit & Wolf 2004 (eq. 14) on the standardised pixels. It shrinks correlations to 0 and leaves the
  variances alone (the target of Schaefer & Strimmer 2005, table 2, D): a pixel that is always black must stay black.
- C_y is never formed. With the n standardised images Z, R = Z^T Z / n, so x = mu + D (sqrt((1 - a) / n) Z^T w +
  sqrt(a) epsilon), w ~ N(0, I_n), epsilon ~ N(0, I). A 64x64 colour image would ask for 12,288^2 numbers a class.
- The wrong label is uniform over the other classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from evalkit.errors import BadSource
from evalkit.types import Batch, Control, Progress, SampleSet

from ._family import Family
from ._images import Look, read_images, study

# Images of a class that its Gaussian is fitted to; beyond, memory grows with their square and nothing is won.
MOST_ROWS = 2048


class ClassGaussian(NamedTuple):
    """mu [D], the standard deviations [D], the standardised images Z [n, D] and the shrinkage a."""

    mu: Tensor
    sigma: Tensor
    Z: Tensor
    a: float

    def draw(self, w: Tensor, epsilon: Tensor) -> Tensor:
        """Images [B, D] of standard normal w [B, >= n] and epsilon [B, D]."""
        n = len(self.Z)
        structure = w[:, :n] @ self.Z * math.sqrt((1 - self.a) / n)
        return self.mu + self.sigma * (structure + math.sqrt(self.a) * epsilon)


def class_gaussian(x: Tensor, spread: Tensor) -> ClassGaussian:
    """The Gaussian of images x [n, D]; `spread` [D] stands in for the deviations of images that do not differ."""
    x = x.double()
    mu, sigma = x.mean(0), x.std(0, correction=0)
    Z = torch.where(sigma > 0, (x - mu) / sigma.clamp_min(1e-12), 0.0)
    a = shrinkage(Z[:, sigma > 0])
    # Of one image, or of copies of one, the Gaussian would be that image: an exact copy.
    sigma = sigma if bool(sigma.any()) else spread.double()
    return ClassGaussian(mu.float(), sigma.float(), Z.float(), a)


def shrinkage(Z: Tensor) -> float:
    """Ledoit & Wolf's intensity in [0, 1] for centred rows Z [n, D], from their Gram matrix [n, n]."""
    n, D = Z.shape
    if D == 0:
        return 1.0
    G = Z @ Z.T
    squared_norm = float((G**2).sum()) / n**2
    m = float(G.trace()) / (n * D)
    d2 = squared_norm / D - m**2
    b2 = (float((G.diagonal() ** 2).sum()) / n**2 - squared_norm / n) / D
    return 1.0 if d2 <= 0 else min(max(b2, 0.0), d2) / d2


class ClassGaussians:
    """One Gaussian a class, drawn from by class index."""

    def __init__(self, rows: Tensor, labels: Tensor, shape: tuple[int, int, int]) -> None:
        """rows: uint8 [N, C * H * W] with class indices [N], every one from 0 on present."""
        # Kept as they were learnt: the rest follows from them, here and after loading.
        self.rows, self.labels, self.shape = rows, labels, shape
        spread = (rows.float() / 255).std(0, correction=0)
        kinds = int(labels.max()) + 1
        self.classes = [class_gaussian(rows[labels == y].float() / 255, spread) for y in range(kinds)]

    @classmethod
    def fitted(cls, rows: Tensor, labels: Tensor, shape: tuple[int, int, int]) -> ClassGaussians:
        """Fitted to the first MOST_ROWS images of each class."""
        kept = [torch.nonzero(labels == y)[:MOST_ROWS, 0] for y in range(int(labels.max()) + 1)]
        chosen = torch.cat(kept)
        return cls(rows[chosen], labels[chosen], shape)

    def draw(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """Images in about 0..1 [B, C, H, W] of the classes y [B]."""
        w = torch.randn(len(y), max(len(c.Z) for c in self.classes), generator=rng)
        epsilon = torch.randn(len(y), self.rows.shape[1], generator=rng)
        x = torch.empty_like(epsilon)
        for kind, gaussian in enumerate(self.classes):
            mine = y == kind
            x[mine] = gaussian.draw(w[mine], epsilon[mine])
        return x.view(len(y), *self.shape)


class LabelNoise(Family):
    """Images from one Gaussian a class, with wrong labels for a share of them."""

    name = "label_noise"
    modality = "image"
    role = "saboteur"
    controls: ClassVar[tuple[Control, ...]] = (Control("rate", 0.5, "chance that a sample's label is wrong", 0, 1),)
    at_sampling: ClassVar[frozenset[str]] = frozenset({"rate"})

    _look: Look
    _model: ClassGaussians

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        pixels = read_images(samples, self.name)
        look, labels = study(pixels, samples, self.name)
        if look.kinds < 2:
            raise BadSource(
                f"{self.name} needs labels of 2 to 64 classes on every image, {samples.name!r} does not have them; "
                "put each class in a folder of its own"
            )
        rows = torch.from_numpy(pixels[..., : look.channels]).permute(0, 3, 1, 2).flatten(1)
        self._look, self._model = look, ClassGaussians.fitted(rows, labels, look.shape)
        return self._model.rows.numel()

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        y = self._look.cycle(start, count)
        x = self._model.draw(y, rng)
        # Both are drawn whatever the rate, so that it changes labels only.
        chance = torch.rand(count, generator=rng)
        other = torch.randint(1, self._look.kinds, (count,), generator=rng)
        told = torch.where(chance < float(self._settings["rate"]), (y + other) % self._look.kinds, y)
        return Batch(self._look.render(x), self._look.names(told))

    def _tensors(self) -> dict[str, Tensor]:
        return {"rows": self._model.rows, "labels": self._model.labels}

    def _facts(self) -> dict[str, Any]:
        return asdict(self._look)

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        look = Look.of(facts)
        self._look, self._model = look, ClassGaussians(tensors["rows"], tensors["labels"], look.shape)
