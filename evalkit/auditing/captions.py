"""Whether an image shows what its caption says, against pairs that are known to belong together.

A text-image instrument puts both into one space; their cosine has no scale of its own, so it is held against those of
the calibration reals with their own captions: p is the share of those that agree as little or less, counted as a
conformal p-value. It is evidence of kind "likelihood" that says nothing of who made the image; a low p becomes a
conflict (see `conflicts`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import registry
from ..errors import BadRecord, NothingToEvaluate, TooFewSamples, UsageError
from ..measurement import Bench, measure
from ..samples import ListedSet
from ..samples._set import loaded
from ..types import Evidence, Sample, SampleSet

SOURCE = "caption"
LEAST = 20  # pairs: with fewer no p-value is under 5 %


@dataclass(frozen=True)
class Captions:
    """A text-image instrument with the agreement, cosines in [-1, 1], of n pairs that belong together."""

    instrument: Any
    pairs: npt.NDArray[np.float64]

    def evidence(self, samples: Sequence[Sample], captions: Sequence[str], bench: Bench) -> dict[str, Evidence]:
        """By sample id: how well each image and its caption agree; a sample that the instrument refuses has none."""
        found, said_of = {}, dict(zip((s.id for s in samples), captions, strict=True))
        try:
            scores = agreement(self.instrument, samples, captions, bench)
        except NothingToEvaluate:  # The instrument can read none of them.
            return {}
        for sample_id, score in scores.items():
            p = float(1 + (self.pairs <= score).sum()) / (len(self.pairs) + 1)
            said = f"agreement of image and caption {score:.3g}; {p:.2g} of true pairs agree as little"
            facts = {"score": score, "p_value": p, "pairs": len(self.pairs), "instrument": self.instrument.name}
            facts["caption"] = caption_digest(said_of[sample_id])
            found[sample_id] = Evidence("likelihood", "unknown", "hint", SOURCE, said, facts)
        return found


def caption_digest(caption: str | None) -> str:
    """What tells one caption from another: a content is examined once, copies of it may have their own captions."""
    return hashlib.sha256((caption or "").encode("utf-8", "surrogatepass")).hexdigest()[:16]


def without_others(evidence: Sequence[Evidence], caption: str | None) -> tuple[Evidence, ...]:
    """The evidence that holds for a copy of a content: what was said of another caption does not."""
    other = {e.source for e in evidence if e.source == SOURCE and e.facts.get("caption") != caption_digest(caption)}
    return tuple(e for e in evidence if not other or (e.source != SOURCE and e.facts.get("rule") != SOURCE))


def agreement(instrument: Any, samples: Sequence[Sample], captions: Sequence[str], bench: Bench) -> dict[str, float]:
    """Cosine in [-1, 1] of each image with its caption, by sample id."""
    reader = instrument.texts()
    texts = [
        Sample(s.id, hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest(), loaded(words))
        for s, words in zip(samples, captions, strict=True)
    ]
    seen, said = (
        {s.id: row for s, row in zip(side.samples, side.features[part.name].rows.double(), strict=True)}
        for part, side in (
            (instrument, measure(ListedSet("images", "image", tuple(samples)), [instrument], bench)),
            (reader, measure(ListedSet("captions", "text", tuple(texts)), [reader], bench)),
        )
    )
    lengths = {i: float(seen[i].norm() * said[i].norm()) for i in seen if i in said}
    return {i: float(seen[i] @ said[i]) / length for i, length in lengths.items() if length}


def calibrated(name: str, reals: SampleSet | None, bench: Bench) -> dict[str, Any]:
    """What true pairs have: the captioned samples of the calibration reals. Raises UsageError, TooFewSamples."""
    instrument = registry.extractors.get(name)()
    if hasattr(instrument, "fetch"):
        instrument.fetch()
    if not hasattr(instrument, "texts"):
        raise UsageError(f"--captions {name}: it reads no texts; give a text-image instrument, such as clip")
    pairs = [s for s in reals or () if s.condition]
    if len(pairs) < LEAST:
        raise TooFewSamples(
            f"{len(pairs)} calibration reals with a caption; --captions needs {LEAST} (a table or a .txt beside each)"
        )
    named = [Sample(str(i), s.digest, s.load) for i, s in enumerate(pairs)]
    found = agreement(instrument, named, [str(s.condition) for s in pairs], bench)
    return {"instrument": name, "instrument_digest": instrument.digest, "pairs": list(found.values())}


def read(path: Path) -> Captions:
    """Captions as an audit's folder keeps them. Raises BadRecord."""
    try:
        body = json.loads(path.read_text("utf-8"))
        instrument = registry.extractors.get(str(body["instrument"]))()
        if instrument.digest != body["instrument_digest"]:
            raise BadRecord(f"{path}: {instrument.name} is another one than the audit began with")
        return Captions(instrument, np.array(body["pairs"], dtype=np.float64))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRecord(f"{path} is damaged: {error}") from error
