"""A set of which only a statistics file is there: mean and covariance of its features, no samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..cache import FileDigests
from ..errors import UsageError
from ..statistics import Statistics, holds_statistics, read_statistics
from ..types import Modality, Sample

__all__ = ["StatisticsSet", "holds_statistics", "open_statistics"]


@dataclass(frozen=True)
class StatisticsSet:
    """A SampleSet that holds no samples: `statistics` is all that is known of them, `digest` that of the file."""

    name: str
    modality: Modality
    digest: str
    statistics: Statistics = field(compare=False, repr=False)
    source: str = ""

    def __len__(self) -> int:
        """How many samples the statistics are of; 0 when the file does not say."""
        return self.statistics.n or 0

    def __iter__(self) -> Iterator[Sample]:
        raise UsageError(
            f"{self.source or self.name} is a statistics file and holds no samples; for anything but Frechet distances"
            " give the samples it was made of"
        )


def open_statistics(path: Path, modality: Modality | None, digests: FileDigests) -> StatisticsSet:
    """The set behind a statistics file, which does not say its modality: the one asked for, else image."""
    digest = f"sha256:{digests.of([path])[0]}"
    return StatisticsSet(path.stem, modality or "image", digest, read_statistics(path), str(path))
