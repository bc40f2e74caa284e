"""A set whose images are changed on the way out of their decoder: re-encoded, resized, laundered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ModalityMismatch
from ..types import Sample, SampleSet
from ._set import ListedSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Change = Callable[["npt.NDArray[np.uint8]", int], "npt.NDArray[np.uint8]"]


def transformed(
    samples: SampleSet, change: Change, recipe: str, *, name: str | None = None, seed: int = 0
) -> ListedSet:
    """The images of `samples`, each through `change(image, seed)`: uint8 [H, W, 3] in and out, when it is loaded.

    The seed of a sample is made of `seed` and its content, so the same image is changed the same way in any set. The
    digest of each sample covers `recipe`, which must say everything that `change` does. Header facts are dropped: they
    are of the file, not of what is handed out. Raises ModalityMismatch for texts.
    """
    if samples.modality != "image":
        raise ModalityMismatch(f"{samples.name!r} holds {samples.modality}s; only images can be changed so ({recipe})")
    changed = tuple(_changed(sample, change, recipe, seed) for sample in samples)
    source, origins = getattr(samples, "source", ""), getattr(samples, "origins", ())
    return ListedSet(name or f"{samples.name} ({recipe})", "image", changed, source, origins)


def _changed(sample: Sample, change: Change, recipe: str, seed: int) -> Sample:
    digest = hashlib.sha256(f"{sample.digest}\n{recipe}\n{seed}".encode()).hexdigest()
    own = int(hashlib.sha256(f"{sample.digest}\n{seed}".encode()).hexdigest()[:8], 16)

    def load() -> npt.NDArray[np.uint8]:
        image = sample.load()
        assert not isinstance(image, str)
        return change(image, own)

    return replace(sample, digest=digest, load=load, facts=None)
