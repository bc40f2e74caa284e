"""Heat maps of the first discoveries: where a score comes from, with a test of whether the map is true of the detector.

A map costs some three hundred scored copies of its image, so only a few are drawn, after the records are sealed: they
are for people to look at, no part of a verdict.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..detection import load_detector
from ..errors import EvalkitError, UnreadableSample
from ..isolation import Limits, Pool
from ..maps.deleting import explain
from ..measurement import Bench
from ..samples import ListedSet
from ..types import FileRow, Preview, Sample
from .configuring import Configuration
from .reading import Reader
from .store import Store

MOST = 4


def with_heat(
    pictures: Mapping[str, Preview], store: Store, rows: Sequence[FileRow], plan: Configuration, workers: int
) -> dict[str, Preview]:
    """The pictures, those of the first MOST discoveries with a heat map of the first image detector."""
    made = dict(pictures)
    part = next((p for p in plan.detectors if p["modality"] == "image" and not p.get("watermark")), None)
    chosen = [row for row in rows if row.flagged and row.modality == "image" and row.sha256 in made][:MOST]
    if part is None or not chosen:
        return made
    with Reader() as reader, Pool(1, Limits(**plan.limits), hashes=False) as pool:
        samples = [Sample(row.id, row.sha256, partial(_pixels, store, row.sha256, reader, pool)) for row in chosen]
        for row, told, picture in _maps(part, samples, Bench(device=plan.device, workers=workers), chosen):
            made[row.sha256] = replace(made[row.sha256], heat=picture, heat_says=_says(part, told))
    return made


def _maps(part: Mapping[str, Any], samples: Sequence[Sample], bench: Bench, rows: Sequence[FileRow]) -> Any:
    place = str(part["place"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            judge = load_detector(Path(place) if Path(place).is_dir() else place, device=bench.device)
            if judge.digest != part["digest"]:
                return []  # Another detector than the one that judged has nothing to say of its verdicts.
            listed = ListedSet("discoveries", "image", tuple(samples))
            found = explain(judge, listed, range(len(samples)), Path(folder), seed=0, bench=bench)
        except EvalkitError:
            return []  # A picture for people: without it the dossier is whole.
        files = [Path(folder) / str(told["file"]) for told in found]
        return [(row, told, file.read_bytes()) for row, told, file in zip(rows, found, files, strict=True)]


def _pixels(store: Store, sha256: str, reader: Reader, pool: Pool) -> Any:
    entry = store.content(sha256)
    if entry is None:
        raise UnreadableSample("not in the manifest")
    opened, media = pool.open(reader.read(entry), "pixels")
    if media is None:
        raise UnreadableSample(f"{opened.state}: {opened.reason}")
    return media


def _says(part: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    kind = "a location" if told.get("location") else "what the score is made of, no location"
    test = f"deletion test: {told['verdict']}, p = {told['p_value']:.2g}"
    return f"{part['name']}: {told['what']}; {kind}; {test}."
