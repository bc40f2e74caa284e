"""A detector in the loop: watches a generator in training, learns to tell its samples, and says so with gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import registry
from .errors import UsageError
from .hardware import derive_seed
from .samples import select
from .samples.arrays import from_images
from .types import Detector, Differentiable, SampleSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

# Real samples shown at a time: a detector learns from as many as there are generated ones.
SHOWN = 384


class DetectorCritic:
    """The detector `name` as a critic that learns from `real` and from what it is shown.

    Raises UnknownName for an unknown detector, UsageError for one whose verdict has no gradients.
    """

    def __init__(self, name: str, real: SampleSet, *, seed: int, device: str) -> None:
        self._make: Any = registry.detectors.get(name)
        if not isinstance(self._make(), Differentiable):
            raise UsageError(f"the detector {name!r} cannot be a critic: its verdict has no gradients; use cnn")
        self.name = name
        self.rounds = 0
        self._real, self._seed, self._device = real, seed, device
        self._judge: Any = None

    def watch(self, images: npt.NDArray[np.uint8]) -> None:
        """Learn anew to tell these images [N, H, W, 3] from as many real ones; TooFewSamples for fewer than ten."""
        import torch

        own = derive_seed(self._seed, "critic", str(self.rounds))
        order = torch.randperm(len(self._real), generator=torch.Generator().manual_seed(own))
        shown = select(self._real, sorted(order[: min(SHOWN, len(images))].tolist()))
        judge: Detector = self._make()
        judge.fit(shown, from_images(images[: len(shown)], "watched"), seed=own, device=self._device)
        self._judge, self.rounds = judge, self.rounds + 1

    def __call__(self, images: Tensor) -> Tensor:
        """Log-odds of fake [B] of float images [B, 3, H, W] in 0..255."""
        assert isinstance(self._judge, Differentiable)
        return self._judge.log_odds(images)
