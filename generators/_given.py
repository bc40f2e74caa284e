"""Images that a generator is given one by one, checked against the ones it learned from and put into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import BadSource, ModalityMismatch, TooFewSamples, UnreadableSample
from evalkit.types import Batch, Sample, SampleSet

from ._family import BATCH
from ._images import Look


@dataclass(frozen=True)
class GivenImages:
    """One batch of inputs: `pixels` uint8 [B, H, W, 3], `x` in 0..1 [B, C, H, W], the class of each, -1 if unknown."""

    pixels: npt.NDArray[np.uint8]
    x: Tensor
    labels: Tensor


def check_images(inputs: SampleSet, family: str) -> None:
    """Raises ModalityMismatch for inputs that are no images, TooFewSamples for none at all."""
    if inputs.modality != "image":
        raise ModalityMismatch(f"{family} is given images, {inputs.name!r} holds {inputs.modality}s")
    if len(inputs) == 0:
        raise TooFewSamples(f"{inputs.name!r} is empty; give {family} at least 1 image")


def answer_images(
    inputs: SampleSet,
    look: Look,
    family: str,
    seed: int,
    answer: Callable[[GivenImages, torch.Generator], npt.NDArray[np.uint8] | Sequence[str]],
) -> Iterator[Batch]:
    """Batches of what `answer` makes of each batch of inputs, gradients off; groups are the inputs' where all have one.

    Raises BadSource for an image that cannot be read or is not of the size that was learned.
    """
    rng = torch.Generator().manual_seed(seed)
    listed = list(inputs)
    grouped = all(s.group is not None for s in listed)
    for start in range(0, len(listed), BATCH):
        samples = listed[start : start + BATCH]
        # No context manager around the yield: what it sets would leak into the caller between two batches.
        with torch.inference_mode():
            items = answer(_given(samples, look, family), rng)
        yield Batch(items, [str(s.group) for s in samples] if grouped else None)


def _given(samples: Sequence[Sample], look: Look, family: str) -> GivenImages:
    position = {name: i for i, name in enumerate(look.classes)}
    pixels = np.stack([_read(s, look, family) for s in samples])
    return GivenImages(pixels, as_input(pixels, look), torch.tensor([position.get(s.group or "", -1) for s in samples]))


def as_input(pixels: npt.NDArray[np.uint8], look: Look) -> Tensor:
    """uint8 [B, H, W, 3] -> values in 0..1 [B, C, H, W]; colours are averaged where the training images had none."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return x if look.channels == 3 else x.mean(1, keepdim=True)


def _read(sample: Sample, look: Look, family: str) -> npt.NDArray[np.uint8]:
    try:
        image = cast("npt.NDArray[np.uint8]", sample.load())
    except UnreadableSample as e:
        raise BadSource(f"image {sample.id!r} cannot be read ({e}); remove it from the set") from e
    if image.shape[:2] != look.shape[1:]:
        raise BadSource(
            f"{family} learned {look.width}x{look.height} images, {sample.id!r} is {image.shape[1]}x{image.shape[0]}; "
            "scale it to that size"
        )
    return image
