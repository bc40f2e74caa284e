"""A saboteur: good images of a few classes only, as a GAN makes them whose generator has collapsed.

- It draws from the Gaussians of the `modes` classes with the most training images, equally often. Without labels the
  classes are ten k-means clusters of the pixels.
- Each sample looks like real ones: precision stays what it is for all classes. What must catch it is what counts what
  is missing: `prdc` recall and coverage, and the balance of `classes`. None of it is a copy: `memorization` is quiet.
- The labels given are right. With as many modes as there are classes nothing is broken: the sweep from 1 to all of them
  is the dose a diversity metric must answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from evalkit.errors import BadSetting
from evalkit.types import Batch, Control, Progress, SampleSet

from ._family import Family
from ._images import Look, read_images, study
from .label_noise import ClassGaussians

CLUSTERS = 10
# Images that clusters are made of; more do not move their centres.
MOST_CLUSTERED = 5000


class ModeCollapse(Family):
    """Images of a few classes or clusters, from one Gaussian each."""

    name = "mode_collapse"
    modality = "image"
    role = "saboteur"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("modes", 1, "classes that are left, or clusters where there are no labels", 1, 64),
    )

    _look: Look
    _model: ClassGaussians
    # Class index of each mode in the look's classes, [modes].
    _modes: Tensor

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        pixels = read_images(samples, self.name)
        look, labels = study(pixels, samples, self.name)
        rows = torch.from_numpy(pixels[..., : look.channels]).permute(0, 3, 1, 2).flatten(1)
        if not look.classes:
            rows, labels = rows[:MOST_CLUSTERED], _clusters(rows[:MOST_CLUSTERED], seed)
        sizes, modes = labels.bincount(), int(self._settings["modes"])
        if modes > len(sizes):
            raise BadSetting(
                f"mode_collapse.modes = {modes}; {samples.name!r} has {len(sizes)} "
                f"{'classes' if look.classes else 'clusters'}, expected at most that many"
            )
        # Stable, so that of equal classes the first ones are left.
        kept = sizes.argsort(descending=True, stable=True)[:modes]
        place = torch.full((len(sizes),), -1).scatter(0, kept, torch.arange(modes))[labels]
        self._model = ClassGaussians.fitted(rows[place >= 0], place[place >= 0], look.shape)
        self._look, self._modes = look, kept
        return self._model.rows.numel()

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        mode = torch.arange(start, start + count) % len(self._modes)
        return Batch(self._look.render(self._model.draw(mode, rng)), self._look.names(self._modes[mode]))

    def _tensors(self) -> dict[str, Tensor]:
        return {"rows": self._model.rows, "labels": self._model.labels, "modes": self._modes}

    def _facts(self) -> dict[str, Any]:
        return asdict(self._look)

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        look = Look.of(facts)
        self._model = ClassGaussians(tensors["rows"], tensors["labels"], look.shape)
        self._look, self._modes = look, tensors["modes"]


def _clusters(rows: Tensor, seed: int) -> Tensor:
    """Cluster index [N] of images uint8 [N, D], numbered without gaps."""
    from sklearn.cluster import KMeans

    means = KMeans(min(CLUSTERS, len(rows)), n_init=3, random_state=seed).fit(rows.numpy().astype(np.float32))
    # Fewer different images than clusters leave some clusters empty.
    return torch.from_numpy(np.unique(means.labels_, return_inverse=True)[1]).long()
