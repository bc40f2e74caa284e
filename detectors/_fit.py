"""From two sample sets to training rows: prepared tensors, truth, folds, and the words for what was learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import ModalityMismatch, TooFewSamples, UnreadableSample
from evalkit.types import Modality, SampleSet

if TYPE_CHECKING:
    from evalkit.types import Media

FEWEST = 10


@dataclass(frozen=True)
class TrainingSet:
    """Prepared samples, real ones first; `is_fake` says which, 0 or 1; `words` says where they came from."""

    prepared: list[Tensor]
    is_fake: npt.NDArray[np.int64]
    words: str


def collect(
    name: str, modality: Modality, prepare: Callable[[Media], Tensor], real: SampleSet, fake: SampleSet
) -> TrainingSet:
    """Prepare both sides in their order; a sample that cannot be read is left out and counted in the words.

    Raises ModalityMismatch when a side is of another modality, TooFewSamples below ten readable samples a side.
    """
    sides, words = [], []
    for role, samples in (("real", real), ("fake", fake)):
        if samples.modality != modality:
            raise ModalityMismatch(f"detector {name!r} judges {modality}s; the {role} side holds {samples.modality}s")
        side, unreadable = _prepare_side(prepare, samples)
        if len(side) < FEWEST:
            raise TooFewSamples(
                f"detector {name!r} learns from at least {FEWEST} {role} samples; {samples.name!r} has {len(side)}"
            )
        note = f" ({unreadable} unreadable left out)" if unreadable else ""
        words.append(f"{role} {samples.digest} n={len(side)}{note}")
        sides.append(side)
    truth = np.repeat([0, 1], [len(side) for side in sides])
    return TrainingSet([*sides[0], *sides[1]], truth, "; ".join(words))


def _prepare_side(prepare: Callable[[Media], Tensor], samples: SampleSet) -> tuple[list[Tensor], int]:
    side, unreadable = [], 0
    for sample in samples:
        try:
            side.append(prepare(sample.load()))
        except UnreadableSample:
            unreadable += 1
    return side, unreadable


def folds(is_fake: npt.NDArray[np.int64], k: int, seed: int) -> npt.NDArray[np.int64]:
    """A fold number 0..k-1 for each sample: shuffled, with the same share of real and fake in each."""
    rng = np.random.RandomState(seed)
    fold = np.zeros(len(is_fake), dtype=np.int64)
    for label in (0, 1):
        where = np.flatnonzero(is_fake == label)
        fold[rng.permutation(where)] = np.arange(len(where)) % k
    return fold


def balanced_weights(is_fake: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A weight for each sample that gives both sides half of the total, however many each has; mean 1."""
    share = np.bincount(is_fake, minlength=2) / len(is_fake)
    weights: npt.NDArray[np.float64] = 0.5 / share[is_fake]
    return weights


def rows_of(instrument: Callable[[Tensor], Tensor], prepared: list[Tensor], device: str, size: int = 64) -> Tensor:
    """Rows [N, D] on the CPU of prepared samples of several shapes, in their order."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, tensor in enumerate(prepared):
        groups.setdefault(tuple(tensor.shape), []).append(i)
    rows: dict[int, Tensor] = {}
    for indices in groups.values():
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            batch = instrument(torch.stack([prepared[i] for i in chosen]).to(device))
            rows.update(zip(chosen, batch.cpu(), strict=True))
    return torch.stack([rows[i] for i in range(len(prepared))])


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """torch's generators set to `seed` inside and put back afterwards: the caller's random stream is untouched."""
    where = torch.device(device)
    devices = [where.index or 0] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would also reseed devices that are not put back.
        torch.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
