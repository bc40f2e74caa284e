"""Judge by several detectors side by side: each member fitted on the same samples, each saying its own P(fake).

A panel does not weigh its members: it is for whoever asks which detector finds a generator best, or whether they agree.
`ensemble` builds on it and makes one number of them. `panel:spectrum+cnn` chooses the members.

Members prepare a sample in their own ways; what they prepared travels as one tensor of bytes behind a header of shapes,
so that all of it is done once, in the loader's threads, and images of one size still share a batch.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from evalkit.errors import BadSetting, UnknownName
from evalkit.extractors.area import image_of
from evalkit.extractors.identity import identity
from evalkit.types import Detector, Published, Reconstructing, Resumable, Sample, SampleSet

from . import BUILTIN
from ._fit import TrainingSet, collect
from ._judge import Judge

if TYPE_CHECKING:
    from evalkit.types import Media

MEMBERS = ("spectrum", "residual", "npr", "patch", "cnn")
DTYPES = (torch.float32, torch.uint8, torch.int64)
# Of each member's tensor: which of DTYPES, how many dimensions, and up to six of them.
HEADER = 8


class Member(Detector, Protocol):
    """A detector whose learnt tensors and facts can be kept among those of others."""

    _tensors: dict[str, Tensor]
    _facts: dict[str, Any]

    def _learn(self, tensors: dict[str, Tensor], facts: dict[str, Any], trained_on: str) -> None: ...


class Panel(Judge):
    """Several detectors fitted side by side: one column of P(fake) for each, in the order of their names."""

    name: str = "panel"  # type: ignore[misc]  # A choice of members has a name of its own.
    modality: ClassVar[Literal["image"]] = "image"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"members": MEMBERS})

    def __init__(self, variant: str = "") -> None:
        """variant: names of detectors of images joined by +; BadSetting for one that cannot be a member."""
        super().__init__()
        self.members = tuple(variant.split("+")) if variant else MEMBERS
        if len(set(self.members)) < len(self.members) or len(self.members) < 2:
            raise BadSetting(f"{self.name}:{variant}: expected two or more different detectors, such as spectrum+cnn")
        if variant:
            self.name = f"{self.name}:{variant}"
        self._folder: Path | None = None
        self._judges = self._unfitted()

    @property
    def recipe(self) -> str:
        """The digest of the members' recipes and of how they are put together, before any fitting."""
        kind = self.name.partition(":")[0]
        return identity(kind, self.version, {**self.settings, "members": [j.recipe for j in self._judges]})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"panel": slice(0, len(self.members))})

    @property
    def levelled(self) -> bool:
        """Whether it is to be fitted and asked behind one normalising plan: a panel is, what is built on it is not."""
        return type(self) is Panel

    def keep_in(self, folder: Path) -> None:
        """Let every member that can go on with a training keep its state in a folder of this folder."""
        self._folder = folder

    def prepare(self, sample: Media) -> Tensor:
        """uint8 [bytes], what every member prepared; UnreadableSample where one of them cannot read the image."""
        self._fitted()
        return packed([judge.prepare(sample) for judge in self._judges])

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """P(fake) of every member, float32 [B, members]."""
        self._fitted()
        return rows_of_members(self._judges, batch)

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Fit each member on at least ten samples a side; all are given the same seed."""
        data = self._collected(real, fake)
        judges = self._trained(data, range(len(data.is_fake)), seed, device, "whole")
        self.to(device)
        self._learn(*together(judges, {}, {"seed": seed}), data.words)

    # ------------------------------------------------------------------ for the kinds of panels

    def _unfitted(self) -> list[Member]:
        return [_member(name, self.name) for name in self.members]

    def _collected(self, real: SampleSet, fake: SampleSet) -> TrainingSet:
        """Both sides decoded once, as uint8 [H, W, 3]: members read them several times."""
        return collect(self.name, self.modality, lambda sample: _whole(sample, self.name), real, fake)

    def _trained(self, data: TrainingSet, which: Sequence[int], seed: int, device: str, part: str) -> list[Member]:
        """New members fitted on the samples `which`; `part` names the folder of what they keep meanwhile."""
        sides = [
            Held(role, tuple(_sample(data, i) for i in which if data.is_fake[i] == k))
            for k, role in enumerate(("real", "fake"))
        ]
        judges = self._unfitted()
        for judge in judges:
            if self._folder is not None and isinstance(judge, Resumable):
                judge.keep_in(self._folder / part / judge.name.replace(":", "-"))
            judge.fit(*sides, seed=seed, device=device)
        return judges

    def _ready(self) -> None:
        judges = self._unfitted()
        for judge in judges:
            prefix, about = f"{judge.name}/", self._facts["members"][judge.name]
            tensors = {key.removeprefix(prefix): t for key, t in self._tensors.items() if key.startswith(prefix)}
            judge.to(self._device)
            judge._learn(tensors, dict(about["facts"]), str(about["trained_on"]))
        self._judges = judges


@dataclass(frozen=True)
class Held:
    """Samples that are in memory; `digest` as every sample set has it: of the content in order.

    Their groups are the sets that the fakes were pooled from, where they were.
    """

    name: str
    samples: tuple[Sample, ...]
    modality: Literal["image"] = "image"

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(sorted({s.group for s in self.samples if s.group is not None}))

    @cached_property
    def digest(self) -> str:
        total = hashlib.sha256(self.modality.encode())
        for sample in self.samples:
            total.update(bytes.fromhex(sample.digest))
        return f"sha256:{total.hexdigest()}"

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def together(
    judges: Sequence[Member], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What fitted members learnt, under their names, with what the panel itself learnt: tensors and facts."""
    found = {f"{judge.name}/{key}": t for judge in judges for key, t in judge._tensors.items()}
    about = {judge.name: {"facts": judge._facts, "trained_on": judge.trained_on} for judge in judges}
    return {**found, **tensors}, {**facts, "members": about}


def rows_of_members(judges: Sequence[Member], batch: Tensor) -> Tensor:
    """P(fake) float32 [B, members] of a batch of packed samples, uint8 [B, bytes]."""
    rows = torch.empty(len(batch), len(judges), device=batch.device)
    for where, parts in unpacked(batch, len(judges)):
        rows[where] = torch.cat([judge(part)[:, :1] for judge, part in zip(judges, parts, strict=True)], dim=1)
    return rows


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of any shapes and of a known dtype as one, uint8 [bytes]: a header of their shapes, then their bytes."""
    header = torch.zeros(len(tensors), HEADER, dtype=torch.int64)
    for line, tensor in zip(header, tensors, strict=True):
        line[: 2 + tensor.dim()] = torch.tensor([DTYPES.index(tensor.dtype), tensor.dim(), *tensor.shape])
    return torch.cat([t.contiguous().flatten().view(torch.uint8) for t in (header, *tensors)])


def unpacked(batch: Tensor, count: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """The `count` tensors in each row of a batch [B, bytes] of `packed`: (positions, one batch of each) by shapes."""
    length = count * HEADER * 8
    header = batch[:, :length].cpu().contiguous().view(torch.int64)
    layouts, kind = torch.unique(header, dim=0, return_inverse=True)
    for k, layout in enumerate(layouts.view(-1, count, HEADER).tolist()):
        where = torch.nonzero(kind == k).flatten().to(batch.device)
        parts, start = [], length
        for code, dimensions, *sizes in layout:
            dtype, shape = DTYPES[code], sizes[:dimensions]
            stop = start + int(np.prod(shape)) * dtype.itemsize
            # A copy of its own, because only the beginning of a storage is sure to be aligned for the wider dtype.
            parts.append(batch[where, start:stop].contiguous().view(dtype).view(-1, *shape))
            start = stop
        yield where, parts


def _member(name: str, panel: str) -> Member:
    stem, _, variant = name.partition(":")
    if stem not in BUILTIN:
        raise UnknownName(f"member of {panel}", name, sorted(BUILTIN))
    module, _, attribute = BUILTIN[stem].partition(":")
    make = getattr(importlib.import_module(module), attribute)
    judge: Member = make(variant) if variant else make()
    if judge.modality != "image":
        raise BadSetting(f"{panel}: {name!r} judges {judge.modality}s; a panel is of detectors of images")
    # Published judges learn nothing, reconstructing ones want a generator first, attributors say no P(fake).
    alike = isinstance(judge, Judge) and not isinstance(judge, Panel | Published | Reconstructing)
    if not alike or judge.heads.get("p_fake") != slice(0, 1):
        raise BadSetting(f"{panel}: {name!r} cannot be a member: it is not fitted on real and fake alone; leave it out")
    return judge


def _whole(sample: Media, reader: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image_of(sample, f"detector {reader!r}")))


def _sample(data: TrainingSet, i: int) -> Sample:
    return Sample(str(i), data.digests[i], partial(Tensor.numpy, data.prepared[i]), data.groups[i])
