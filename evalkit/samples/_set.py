"""The one sample set every kind of source ends in: listed first, decoded when read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import BadSource
from ..types import Modality, Sample, SampleSet

if TYPE_CHECKING:
    from ..types import Media


@dataclass(frozen=True)
class ListedSet:
    """Samples of one modality in a fixed order; decoding happens in `Sample.load`.

    origins: names of the sets it was pooled from, where each sample's group is the name of its own.
    """

    name: str
    modality: Modality
    samples: tuple[Sample, ...]
    source: str = ""
    origins: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """sha256 over the samples' content digests in order: renaming a file does not change it, reordering does."""
        total = hashlib.sha256(self.modality.encode())
        for sample in self.samples:
            total.update(bytes.fromhex(sample.digest))
        return f"sha256:{total.hexdigest()}"

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def select(samples: SampleSet, keep: Iterable[int], name: str | None = None) -> ListedSet:
    """The samples at the positions `keep`, in that order."""
    listed = tuple(samples)
    source, origins = getattr(samples, "source", ""), getattr(samples, "origins", ())
    return ListedSet(name or samples.name, samples.modality, tuple(listed[i] for i in keep), source, origins)


def some(samples: SampleSet, n: int, seed: int) -> list[int]:
    """Positions, in order, of n of the samples chosen by content and seed; of all where there are no more than n."""
    listed = tuple(samples)

    def draw(i: int) -> str:
        return hashlib.sha256(f"{seed}/{listed[i].digest}/{i}".encode()).hexdigest()

    return sorted(sorted(range(len(listed)), key=draw)[:n])


def bucket(digest: str, buckets: int) -> int:
    """Which of `buckets` a content digest falls in: the same content always the same one, on every machine."""
    return int(digest[:8], 16) % buckets


def halves(samples: SampleSet) -> tuple[ListedSet, ListedSet]:
    """A fitting part and a testing part of a set, cut by content: copies of one sample are never on both sides.

    The testing part has exactly len // 2 samples whatever the content, so that numbers from it share one protocol;
    where copies straddle the cut it is the fitting part that gives way.
    """
    listed = tuple(samples)
    # By the last digits, because the embedded splits already use the first ones.
    order = sorted(range(len(listed)), key=lambda i: (listed[i].digest[::-1], i))
    size = len(listed) // 2
    cut = len(listed) - size
    while cut > 0 and size and listed[order[cut - 1]].digest == listed[order[cut]].digest:
        cut -= 1
    return select(samples, sorted(order[:cut])), select(samples, sorted(order[cut : cut + size]))


def check_apart(real: SampleSet, fakes: Mapping[str, SampleSet]) -> None:
    """Raise BadSource when reals are among the fakes, or when two generators have a sample in common."""
    owner = {s.digest: "" for s in real}
    for name, samples in fakes.items():
        shared = [s for s in samples if owner.get(s.digest, name) != name]
        if shared:
            other = owner[shared[0].digest]
            count = sum(owner[s.digest] == other for s in shared)
            where = f"of generator {other!r}" if other else "of the reals"
            raise BadSource(
                f"{count} of the {len(samples)} samples of {name!r} are also samples {where} (first:"
                f" {shared[0].id!r}); give sets that share none"
            )
        owner.update((s.digest, name) for s in samples)


THE_REALS = "the reals"


def learnt_from(words: str, real: Sequence[SampleSet], fakes: Mapping[str, Sequence[SampleSet]]) -> list[str]:
    """Names of the sets, THE_REALS first, that the words of what a detector was trained on hold the digest of.

    Of every set its versions (whole, drawn, a half), in the same order for all; a pool of all fakes is all of them.
    """
    found = [name for name, versions in fakes.items() if any(one.digest in words for one in versions)]
    for parts in zip(*fakes.values(), strict=True):
        if ListedSet("", parts[0].modality, tuple(s for part in parts for s in part)).digest in words:
            found = list(fakes)
    return [*([THE_REALS] if any(one.digest in words for one in real) else []), *found]


def loaded(value: Media) -> Callable[[], Media]:
    """A `load` for a sample that is already in memory."""
    return lambda: value
