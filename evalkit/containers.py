"""What is known of image files without their pixels, as a table: codec, sizes, chroma, metadata, one row a file."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import UnreadableSample
from .types import Excluded, MediaFacts, Sample, SampleSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Files looked at a side, and images measured a side where there are no headers.
MOST, MOST_DECODED = 4_000, 400
# Values of one fact that get a column of their own; each must occur twice to be learnt from.
MOST_VALUES = 30
SIZES = ("width", "height", "aspect")
READ: dict[str, Callable[[MediaFacts], float | str]] = {
    "format": lambda f: f.format,
    "mode": lambda f: f.mode,
    "quality": lambda f: float("nan") if f.quality is None else float(f.quality),
    "quantisation tables": lambda f: f.tables or "none",
    "subsampling": lambda f: f.subsampling or "none",
    "progressive": lambda f: str(f.progressive),
    "width": lambda f: float(f.width),
    "height": lambda f: float(f.height),
    "aspect": lambda f: f.width / f.height,
    "bytes per pixel": lambda f: float("nan") if f.bytes is None else f.bytes / (f.width * f.height),
    "frames": lambda f: float(f.frames),
    "orientation": lambda f: str(f.orientation),
    "ICC profile": lambda f: str(f.profile),
    "EXIF": lambda f: str(f.exif),
    "camera": lambda f: f.camera or "none",
    "metadata": lambda f: " ".join(f.chunks) or "none",
}

Known = tuple[str, dict[str, "float | str"]]  # content digest, facts by name


def looked_through(samples: SampleSet, seed: int) -> tuple[list[int], tuple[Excluded, ...]]:
    """Positions, in order, of the readable ones among at most 4,000 samples drawn by the seed, and the others.

    Each is decoded: a file cut off behind its header has facts but no picture, so no header can say that it is whole.
    """
    listed = tuple(samples)
    drawn = _drawn(len(listed), MOST, seed)

    def reason(i: int) -> str | None:
        try:
            listed[i].load()
        except UnreadableSample as error:
            return str(error)
        return None

    # Pillow lets go of the interpreter lock while it decodes.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(zip(drawn, pool.map(reason, drawn), strict=True))
    excluded = tuple(Excluded(listed[i].id, why) for i, why in found if why is not None)
    return [i for i, why in found if why is None], excluded


def _drawn(n: int, most: int, seed: int) -> Sequence[int]:
    return range(n) if n <= most else sorted(random.Random(seed).sample(range(n), most))


def sides_of(real: SampleSet, fake: SampleSet, seed: int) -> tuple[list[list[Known]], bool]:
    """Facts of both sides; sizes alone unless both have files."""
    listed = [tuple(samples) for samples in (real, fake)]
    if all(any(s.facts is not None for s in side) for side in listed):
        return [_known(side, _from_header, MOST, seed) for side in listed], True
    return [_known(side, _from_pixels, MOST_DECODED, seed) for side in listed], False


def _known(
    side: Sequence[Sample], read: Callable[[Sample], dict[str, float | str] | None], most: int, seed: int
) -> list[Known]:
    found = []
    for i in _drawn(len(side), most, seed):
        with suppress(UnreadableSample):
            if (facts := read(side[i])) is not None:
                found.append((side[i].digest, facts))
    return found


def _from_header(sample: Sample) -> dict[str, float | str] | None:
    if sample.facts is None:
        return None
    facts = sample.facts()
    return {name: read(facts) for name, read in READ.items()}


def _from_pixels(sample: Sample) -> dict[str, float | str]:
    image = sample.load()
    assert not isinstance(image, str)
    height, width = image.shape[:2]
    return {"width": float(width), "height": float(height), "aspect": width / height}


def columns_of(values: Sequence[float | str]) -> list[npt.NDArray[np.float64]]:
    """Numbers as they are, NaN where there is none; words as one column of 0 and 1 for each that occurs twice."""
    import numpy as np

    if isinstance(values[0], float):
        return [np.array(values, dtype=np.float64)]
    common = [value for value, times in Counter(values).most_common(MOST_VALUES) if times > 1]
    return [np.array([value == word for value in values], dtype=np.float64) for word in common]


def words_of(values: Sequence[float | str]) -> str:
    """The commonest three values with their shares, or the median with the range of the middle eighty per cent."""
    if isinstance(values[0], str):
        return ", ".join(f"{value} ({times / len(values):.0%})" for value, times in Counter(values).most_common(3))
    numbers = sorted(float(v) for v in values if v == v)
    if not numbers:
        return "none"
    low, middle, high = (numbers[round(share * (len(numbers) - 1))] for share in (0.1, 0.5, 0.9))
    return f"{middle:.4g}" if low == high else f"{middle:.4g} ({low:.4g} to {high:.4g})"
