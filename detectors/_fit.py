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

# Origins of fakes are held apart from here on; of two, setting one aside would leave one to learn from.
FEWEST_ORIGINS = 3


@dataclass(frozen=True)
class TrainingSet:
    """Prepared samples, real ones first; `is_fake` says which, 0 or 1; `words` says where they came from.

    digests and groups: of each sample, its content and, of fakes pooled from several sets, the name of its set.
    """

    prepared: list[Tensor]
    is_fake: npt.NDArray[np.int64]
    words: str
    digests: tuple[str, ...] = ()
    groups: tuple[str | None, ...] = ()

    @property
    def origins(self) -> frozenset[str]:
        """The sets that the fakes were pooled from; none where they are of one set."""
        return frozenset(g for g in self.groups if g is not None)


def collect(
    name: str, modality: Modality, prepare: Callable[[Media], Tensor], real: SampleSet, fake: SampleSet
) -> TrainingSet:
    """Prepare both sides in their order; a sample that cannot be read is left out and counted in the words.

    Raises ModalityMismatch when a side is of another modality, TooFewSamples below ten readable samples a side.
    """
    sides, words = [], []
    digests: list[str] = []
    groups: list[str | None] = []
    for role, samples in (("real", real), ("fake", fake)):
        if samples.modality != modality:
            raise ModalityMismatch(f"detector {name!r} judges {modality}s; the {role} side holds {samples.modality}s")
        side, unreadable = [], 0
        # A group may also be a class of what is shown, which says nothing of who made it.
        made_by = role == "fake" and bool(getattr(samples, "origins", ()))
        for sample in samples:
            try:
                side.append(prepare(sample.load()))
            except UnreadableSample:
                unreadable += 1
            else:
                digests.append(sample.digest)
                groups.append(sample.group if made_by else None)
        if len(side) < FEWEST:
            raise TooFewSamples(
                f"detector {name!r} learns from at least {FEWEST} {role} samples; {samples.name!r} has {len(side)}"
            )
        note = f" ({unreadable} unreadable left out)" if unreadable else ""
        words.append(f"{role} {samples.digest} n={len(side)}{note}")
        sides.append(side)
    truth = np.repeat([0, 1], [len(side) for side in sides])
    return TrainingSet([*sides[0], *sides[1]], truth, "; ".join(words), tuple(digests), tuple(groups))


def folds(is_fake: npt.NDArray[np.int64], k: int, seed: int) -> npt.NDArray[np.int64]:
    """A fold number 0..k-1 for each sample: shuffled, with the same share of real and fake in each."""
    rng = np.random.RandomState(seed)
    fold = np.zeros(len(is_fake), dtype=np.int64)
    for label in (0, 1):
        where = np.flatnonzero(is_fake == label)
        fold[rng.permutation(where)] = np.arange(len(where)) % k
    return fold


def grouped_folds(data: TrainingSet, k: int, seed: int) -> npt.NDArray[np.int64]:
    """A fold number 0..k-1 for each sample, shuffled and even where it can be; equal content is never in two folds.

    Fakes of one origin stay together where the fake side has at least three, so that what is set aside comes from
    generators the network has not seen.
    Raises TooFewSamples when a side has fewer than k different samples.
    """
    # Where copies tie the origins together until a fold has none, content alone decides.
    for whole in [data.origins, frozenset[str]()] if len(data.origins) >= FEWEST_ORIGINS else [frozenset[str]()]:
        fold = _spread(data, whole, k, seed)
        if all(set(fold[data.is_fake == side]) == set(range(k)) for side in (0, 1)):
            return fold
    raise TooFewSamples(f"{k} parts without a copy in common need {k} different samples a side; these sets have fewer")


def _spread(data: TrainingSet, whole: frozenset[str], k: int, seed: int) -> npt.NDArray[np.int64]:
    """Units that must stay together, largest first, each to the fold that has least of its side."""
    unit = _units(data, whole)
    rng = np.random.RandomState(seed)
    members: dict[int, list[int]] = {}
    for i in rng.permutation(len(unit)):
        members.setdefault(unit[i], []).append(i)
    count = np.zeros((k, 2), dtype=np.int64)
    fold = np.zeros(len(unit), dtype=np.int64)
    for inside in sorted(members.values(), key=len, reverse=True):
        have = np.bincount(data.is_fake[inside], minlength=2)
        main = int(have.argmax())
        chosen = min(range(k), key=lambda j: (count[j, main], count[j].sum()))
        fold[inside] = chosen
        count[chosen] += have
    return fold


def _units(data: TrainingSet, whole: frozenset[str]) -> list[int]:
    """The number of the unit of each sample: joined by content, and fakes by an origin in `whole`."""
    parent = list(range(len(data.is_fake)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, (digest, group, fake) in enumerate(zip(data.digests, data.groups, data.is_fake, strict=True)):
        keys = [("content", digest)] + ([("origin", str(group))] if fake and group in whole else [])
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    return [root(i) for i in range(len(parent))]


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
