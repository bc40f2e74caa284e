"""The ceiling: real samples that no generator was trained on, dealt like cards. Nothing may score above it.

`fit` takes the held-back real data, never the training set. A draw is without replacement: a perfect generator would
not repeat itself either. It takes images or texts, so its modality is that of the data it was fitted on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import TooFewSamples
from evalkit.types import Batch, Control, Modality, Progress, SampleSet

from ._family import Family
from ._images import read_images
from ._texts import pack, read_texts, unpack


class Resample(Family):
    """Held-back real samples in a seeded order, each at most once."""

    name = "resample"
    modality: Modality = "image"
    role = "ceiling"
    takes_any = True
    controls: ClassVar[tuple[Control, ...]] = ()

    _items: npt.NDArray[np.uint8] | list[str]
    _groups: list[str] | None

    def fit(self, samples: SampleSet, *, seed: int, device: str = "cpu", progress: Progress | None = None) -> None:
        """Keep the held-back real samples, images or texts; `modality` follows them."""
        before = self.modality
        self.modality = samples.modality
        try:
            super().fit(samples, seed=seed, device=device, progress=progress)
        except Exception:
            self.modality = before
            raise

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        if samples.modality == "image":
            self._items = read_images(samples, self.name, fewest=1, largest=None)
        else:
            self._items = read_texts(samples, self.name, fewest=1)
        groups = [s.group for s in samples]
        self._groups = [g for g in groups if g is not None]
        # A label for some only would shift the others' labels.
        if len(self._groups) != len(self._items):
            self._groups = None
        return 0

    def sample(self, n: int, seed: int) -> Iterator[Batch]:
        """n different real samples; raises TooFewSamples when it holds fewer."""
        held = len(self._items) if self._trained_on else n
        if n > held:
            raise TooFewSamples(
                f"{n} samples asked of {self.name}, which holds {held} real ones; ask for {held} or fewer"
            )
        return super().sample(n, seed)

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        # One order for the whole call, whichever batch asks for it.
        same = torch.Generator().manual_seed(rng.initial_seed())
        chosen = torch.randperm(len(self._items), generator=same)[start : start + count].tolist()
        groups = None if self._groups is None else [self._groups[i] for i in chosen]
        if isinstance(self._items, list):
            return Batch([self._items[i] for i in chosen], groups)
        return Batch(self._items[chosen], groups)

    def _tensors(self) -> dict[str, Tensor]:
        items = pack(self._items) if isinstance(self._items, list) else torch.from_numpy(self._items)
        return {"items": items} if self._groups is None else {"items": items, "groups": pack(self._groups)}

    def _facts(self) -> dict[str, Any]:
        return {"modality": self.modality}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        is_image = facts["modality"] == "image"
        self._items = tensors["items"].numpy() if is_image else unpack(tensors["items"])
        self._groups = unpack(tensors["groups"]) if "groups" in tensors else None
        self.modality = "image" if is_image else "text"
