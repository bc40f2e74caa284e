"""A saboteur: hands out its training data, exactly or nearly, as if it had made it.

- Every sample looks real because it is: Frechet distance, precision, recall and detectors praise it. What must catch it
  is `memorization` (1 where every sample is nearer to the training data than fresh real ones are), its p-value,
  `authenticity`, and `novelty` for texts.
- noise > 0 moves every pixel by a whole number of grey levels, uniform in -noise..noise and clipped to 0..255: near
  copies, which no comparison of digests finds. They are not snapped to the training set's levels, or a small jitter
  would be undone.
- Draws are with replacement, as those of a model that has learnt its training set by heart. `resample`, the ceiling,
  deals held-back data instead, each sample once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from evalkit.errors import BadSetting
from evalkit.types import Batch, Control, Modality, Progress, SampleSet

from ._family import Family
from ._images import read_images, study
from ._texts import pack, read_texts, unpack


class Memorizer(Family):
    """Copies of training images or texts, drawn with replacement."""

    name = "memorizer"
    modality: Modality = "image"
    role = "saboteur"
    takes_any = True
    controls: ClassVar[tuple[Control, ...]] = (
        Control("noise", 0, "grey levels by which a pixel is moved at most; 0 for exact copies", 0, 64),
    )
    at_sampling: ClassVar[frozenset[str]] = frozenset({"noise"})

    # uint8 [N, H, W, 3], or texts.
    _items: Tensor | list[str]
    _groups: list[str] | None

    def fit(self, samples: SampleSet, *, seed: int, device: str = "cpu", progress: Progress | None = None) -> None:
        """Keep the training samples, images or texts; `modality` follows them. BadSetting for noise on texts."""
        if samples.modality == "text" and self._settings["noise"]:
            raise BadSetting(
                f"memorizer.noise = {self._settings['noise']} with texts, which have no grey levels; leave noise at 0"
            )
        before = self.modality
        self.modality = samples.modality
        try:
            super().fit(samples, seed=seed, device=device, progress=progress)
        except Exception:
            self.modality = before
            raise

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        if samples.modality == "image":
            pixels = read_images(samples, self.name, largest=None)
            study(pixels, samples, self.name)
            self._items = torch.from_numpy(pixels)
        else:
            self._items = read_texts(samples, self.name)
        groups = [s.group for s in samples]
        known = [g for g in groups if g is not None]
        # A label for some only would shift the others' labels.
        self._groups = known if len(known) == len(self._items) else None
        return 0

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        chosen = torch.randint(len(self._items), (count,), generator=rng)
        groups = None if self._groups is None else [self._groups[i] for i in chosen.tolist()]
        if isinstance(self._items, list):
            return Batch([self._items[i] for i in chosen.tolist()], groups)
        images, noise = self._items[chosen], int(self._settings["noise"])
        # Of one jitter for all three channels where they are equal: a grey image's copy is grey.
        is_grey = bool((images == images[..., :1]).all())
        moved = torch.randint(-noise, noise + 1, (*images.shape[:3], 1 if is_grey else 3), generator=rng)
        return Batch((images + moved).clamp(0, 255).to(torch.uint8).numpy(), groups)

    def _tensors(self) -> dict[str, Tensor]:
        items = pack(self._items) if isinstance(self._items, list) else self._items
        return {"items": items} if self._groups is None else {"items": items, "groups": pack(self._groups)}

    def _facts(self) -> dict[str, Any]:
        return {"modality": self.modality}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        is_image = facts["modality"] == "image"
        self._items = tensors["items"] if is_image else unpack(tensors["items"])
        self.modality = "image" if is_image else "text"
        self._groups = unpack(tensors["groups"]) if "groups" in tensors else None
