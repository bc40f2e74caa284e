"""A set whose samples are changed on the way out of their decoder: images laundered, texts attacked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ModalityMismatch
from ..types import Modality, Sample, SampleSet
from ._set import ListedSet

if TYPE_CHECKING:
    from ..types import Media

    # From what a sample of the modality holds to the same kind, and a seed: uint8 [H, W, 3] or str.
    Change = Callable[[Any, int], Media]


def transformed(
    samples: SampleSet,
    change: Change,
    recipe: str,
    *,
    name: str | None = None,
    seed: int = 0,
    modality: Modality = "image",
) -> ListedSet:
    """The samples of `samples`, each through `change(sample, seed)` when it is loaded: uint8 [H, W, 3] or str.

    modality: what `change` can change. The seed of a sample is made of `seed` and its content, so the same sample is
    changed the same way in any set. The digest of each sample covers `recipe`, which must say everything that `change`
    does. Header facts are dropped: they are of the file, not of what is handed out. Raises ModalityMismatch.
    """
    if samples.modality != modality:
        kind = f"only {modality}s can be changed so ({recipe})"
        raise ModalityMismatch(f"{samples.name!r} holds {samples.modality}s; {kind}")
    changed = tuple(_changed(sample, change, recipe, seed) for sample in samples)
    source, origins = getattr(samples, "source", ""), getattr(samples, "origins", ())
    return ListedSet(name or f"{samples.name} ({recipe})", modality, changed, source, origins)


def _changed(sample: Sample, change: Change, recipe: str, seed: int) -> Sample:
    digest = hashlib.sha256(f"{sample.digest}\n{recipe}\n{seed}".encode()).hexdigest()
    own = int(hashlib.sha256(f"{sample.digest}\n{seed}".encode()).hexdigest()[:8], 16)

    def load() -> Media:
        return change(sample.load(), own)

    return replace(sample, digest=digest, load=load, facts=None)
