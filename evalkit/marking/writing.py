"""Marked copies of a set of images: dwtDct in the pixels, an IPTC source type beside them: two layers."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import registry
from ..cache import beside
from ..errors import BadSetting, ModalityMismatch, NothingToEvaluate, UnreadableSample, UnwritableOutput
from ..measurement import Bench
from ..records import dumps
from ..types import Excluded, SampleSet
from .embedding import embedded, labelled_png, payload_of
from .marks import OWN

WRITABLE = ("dwtdct",)


def embed(
    samples: SampleSet, marks: Mapping[str, str], out: Path, provenance: Mapping[str, str], bench: Bench
) -> dict[str, Any]:
    """Write each image of a set as a marked PNG into the new folder `out` with set.json; what set.json says.

    marks: payload in hexadecimal digits by the name of the mark; dwtdct is the one that can be written. Images that
    cannot be read or are too small to be marked are left out and named. The folder appears whole or not at all. Raises
    BadSetting, ModalityMismatch, UnwritableOutput, NothingToEvaluate when no image could be marked.
    """
    if strangers := [name for name in marks if name not in WRITABLE]:
        raise BadSetting(f"--embed {strangers[0]}=...: expected one of {', '.join(WRITABLE)}; the others are only read")
    payload = payload_of(marks["dwtdct"])
    # What the reader of this mark would refuse, such as a payload of zeros, is refused before it is written.
    registry.detectors.get("dwtdct")(payloads={OWN: payload.hex()})
    if samples.modality != "image":
        raise ModalityMismatch(f"{samples.name!r} holds {samples.modality}s; dwtdct is a mark of images")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UnwritableOutput(f"{out} is not an empty folder; give a new one with --out")
    excluded: list[Excluded] = []
    written = 0
    bench.progress.start(f"marking {samples.name}", len(samples))
    with beside(out) as draft:
        draft.mkdir()
        for i, sample in enumerate(samples):
            bench.progress.advance()
            try:
                media = sample.load()
                assert not isinstance(media, str)
                content = labelled_png(embedded(media, payload))
            except UnreadableSample as error:
                excluded.append(Excluded(sample.id, str(error)))
                continue
            home = draft / _folder(sample.group)
            home.mkdir(exist_ok=True)
            (home / f"{i:06d}.png").write_bytes(content)
            written += 1
        if not written:
            raise NothingToEvaluate(f"no image of {samples.name!r} could be marked; first: {excluded[0].reason}")
        about = {
            "schema": "evalkit.set/1",
            "generator": f"{samples.name}, marked",
            "made_of": {"name": samples.name, "digest": samples.digest, "n": len(samples)},
            "marks": {"dwtdct": payload.hex()},
            "metadata": ["IPTC DigitalSourceType trainedAlgorithmicMedia (XMP)"],
            "n": written,
            "excluded": [{"id": one.id, "reason": one.reason} for one in excluded],
            "provenance": dict(provenance),
        }
        (draft / "set.json").write_text(dumps(about), "utf-8")
    bench.progress.finish()
    return about


def _folder(group: str | None) -> str:
    """A group as the name of one folder: groups come with the data and may hold anything."""
    name = posixpath.basename((group or "").replace("\\", "/").replace("\0", "_"))
    return name if name.strip(".") else "."
