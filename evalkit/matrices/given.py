"""What a matrix is given: detectors by name, generators and their families, every set opened, their sizes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .. import registry
from ..cache import FileDigests
from ..errors import BadSetting, TooFewSamples, UsageError
from ..measurement import Bench, measure
from ..samples import open_samples, select, some
from ..types import Excluded, SampleSet
from .regimes import FEWEST

REAL = "real"
LOOKED_AT = 200  # headers a set, for its usual size


def labelled(detectors: Sequence[Path | str]) -> dict[str, Path | str]:
    """Detectors by the name they have in tables: their own, or that of their folder.

    Raises BadSetting for none, or one given twice, UnknownName, UsageError for a name that is a folder here as well.
    """
    if not detectors:
        raise BadSetting("no detector given; name at least one, see `evalkit list detectors`")
    found: dict[str, Path | str] = {}
    for given in detectors:
        is_folder = Path(given).is_dir()
        if is_folder and isinstance(given, str) and given in registry.detectors:
            # In the words of `load_detector`: which of the two is meant cannot be guessed.
            raise UsageError(f"{given} is a detector's name and a folder here; write ./{given} for the folder")
        label = Path(given).name if is_folder else str(given)
        if label in found:
            raise BadSetting(f"the detector {label!r} is given twice; give each once, and folders other names")
        if not is_folder:
            registry.detectors.get(str(given))
        found[label] = given
    return found


def families_of(fakes: Mapping[str, Any], families: Mapping[str, str]) -> dict[str, str]:
    """The family of every generator, its own name where none is given; BadSetting below two generators."""
    if len(fakes) < 2:
        raise BadSetting(f"{len(fakes)} generator given; a matrix across generators needs at least 2 (--fake)")
    if REAL in fakes:
        raise BadSetting(f"a generator is called {REAL!r}, as the reals are; give it another name")
    strangers = [name for name in families if name not in fakes]
    if strangers:
        raise BadSetting(f"--family {strangers[0]}=...: no such generator; there are {', '.join(fakes)}")
    return {name: families.get(name, name) for name in fakes}


def opened(
    real: Any, fakes: Mapping[str, Any], n: int | None, seed: int, bench: Bench
) -> tuple[dict[str, tuple[SampleSet, ...]], tuple[tuple[str, Excluded], ...]]:
    """Every set as it was given, its readable samples, and at most n of these; and the unreadable ones."""
    if n is not None and n < FEWEST:
        raise TooFewSamples(f"--n {n}; a matrix needs at least {FEWEST} samples of every set")
    digests = FileDigests(bench.cache.root)
    given: dict[str, SampleSet] = {REAL: open_samples(real, digests=digests)}
    for name, source in fakes.items():
        given[name] = open_samples(source, modality=given[REAL].modality, digests=digests)
    versions: dict[str, tuple[SampleSet, ...]] = {}
    excluded: list[tuple[str, Excluded]] = []
    for name, samples in given.items():
        side = measure(samples, [], bench)
        excluded += [(name, one) for one in side.excluded]
        drawn = side.samples if n is None else select(side.samples, some(side.samples, n, seed))
        versions[name] = (samples, side.samples, drawn)
    return versions, tuple(excluded)


def unlike_sizes(sets: Mapping[str, SampleSet]) -> list[str]:
    """One sentence naming the sizes of the sets where they differ; none for texts and where all are of one size."""
    if any(samples.modality != "image" for samples in sets.values()):
        return []
    sizes = {name: _usual_size(samples) for name, samples in sets.items()}
    if len(set(sizes.values())) == 1:
        return []
    words = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return [f"the sets differ in size ({words}), which alone may tell them apart: give --normalise"]


def _usual_size(samples: SampleSet) -> str:
    """The median width and height of the first samples, marked as such where they are not all of one size."""
    shapes = []
    for sample in islice(samples, LOOKED_AT):
        if sample.facts is not None:
            facts = sample.facts()
            shapes.append((facts.width, facts.height))
        else:
            image = sample.load()
            assert not isinstance(image, str)
            shapes.append((image.shape[1], image.shape[0]))
    width, height = (round(statistics.median(side)) for side in zip(*shapes, strict=True))
    return f"{width} x {height}" + (" (median)" if len(set(shapes)) > 1 else "")
