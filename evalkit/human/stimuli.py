"""What raters see: every sample made alike first, so that only what it shows can give it away.

Images: the central square, brought down with one kernel to one side for all sets (never enlarged), at most 512 pixels,
stored as bare RGB. They are served as PNG without compression and without any metadata, so that all have the same
number of bytes. Texts: one spelling of line ends and white space, cut at the same length.
"""

from __future__ import annotations

import random
import re
import struct
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import TooFewSamples, UnreadableSample
from ..normalising import normalised, plan_for
from ..samples import ListedSet, select, some

if TYPE_CHECKING:
    from ..types import Sample, SampleSet

LARGEST = 512  # pixels a side: what fits a screen beside another one
LONGEST = 1200  # characters of a text: about a minute of reading
SPARE = 8  # candidates drawn beyond twice what is needed, in place of those that cannot be read


@dataclass(frozen=True)
class Stimulus:
    """One sample as it is shown: `body` is bare RGB of width x height, or UTF-8 text where width is 0."""

    set: str
    sample: str
    digest: str
    width: int
    height: int
    body: bytes


@dataclass(frozen=True)
class Drawn:
    """Stimuli of each set, in the order of the sets; `words` say how they were made alike, `notes` what was odd."""

    stimuli: tuple[tuple[Stimulus, ...], ...]
    words: str
    notes: tuple[str, ...]


def draw(sets: Sequence[SampleSet], wanted: Sequence[int], seed: int) -> Drawn:
    """So many samples of each set, drawn by seed and content and made alike; unreadable ones are replaced and noted.

    Raises TooFewSamples when a set has not enough readable ones, NothingToEvaluate when it has none.
    """
    chosen = [select(s, some(s, 2 * n + SPARE, seed)) for s, n in zip(sets, wanted, strict=True)]
    words = f"white space and line ends made alike, cut at a word after {LONGEST} characters"
    if sets[0].modality == "image":
        plan = plan_for(chosen)
        plan = replace(plan, side=min(plan.side, LARGEST), quality=None)
        alike = normalised(*chosen, plan=plan)
        chosen, words = [alike.real, *alike.fakes], alike.words
    found, notes = [], []
    for samples, n in zip(chosen, wanted, strict=True):
        kept, odd = _read(samples, n, seed)
        found.append(kept)
        notes += odd
    return Drawn(tuple(found), words, tuple(notes))


def _read(samples: ListedSet, wanted: int, seed: int) -> tuple[tuple[Stimulus, ...], list[str]]:
    order = list(samples)
    random.Random(f"{seed}/{samples.name}").shuffle(order)
    kept: list[Stimulus] = []
    notes: list[str] = []
    for sample in order:
        if len(kept) == wanted:
            break
        try:
            kept.append(_stimulus(samples.name, sample))
        except UnreadableSample as error:
            notes.append(f"{samples.name}: {sample.id} could not be read ({error}); another one was drawn")
    if len(kept) < wanted:
        raise TooFewSamples(
            f"{samples.name!r} has {len(kept)} readable samples of a common size, {wanted} are needed; lower --items"
        )
    return tuple(kept), notes


def _stimulus(name: str, sample: Sample) -> Stimulus:
    media = sample.load()
    if isinstance(media, str):
        return Stimulus(name, sample.id, sample.digest, 0, 0, alike(media).encode("utf-8", "replace"))
    height, width = media.shape[:2]
    return Stimulus(name, sample.id, sample.digest, width, height, media.tobytes())


def alike(text: str) -> str:
    """The text as every rater sees it: NFC, plain line ends, no runs of white space, cut at LONGEST characters."""
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rsplit(None, 1)[0] + " …"


def shuffled(stimulus: Stimulus, seed: int) -> Stimulus:
    """The same pixels or letters in random order: what nobody who looks takes for a real sample."""
    rng = random.Random(f"{seed}/{stimulus.digest}")
    if stimulus.width:
        pixels = [stimulus.body[i : i + 3] for i in range(0, len(stimulus.body), 3)]
        rng.shuffle(pixels)
        body = b"".join(pixels)
    else:
        letters = list(stimulus.body.decode("utf-8"))
        rng.shuffle(letters)
        body = "".join(letters).encode()
    return replace(stimulus, set="", body=body)


def png(stimulus: Stimulus) -> bytes:
    """An image as PNG: header, stored pixels, end, nothing else; the length depends on width and height alone."""
    row = 3 * stimulus.width
    lines = b"".join(b"\0" + stimulus.body[i : i + row] for i in range(0, len(stimulus.body), row))
    header = struct.pack(">IIBBBBB", stimulus.width, stimulus.height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
