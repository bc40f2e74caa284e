"""What the files of two sets say before a number is believed: codecs, sizes, copies, alpha, profiles, grey in colour.

Each finding is one line, "lint CODE: what was counted, for example where, what it does to the numbers, what to do".
Shares of two sides count as different when they differ by more than LEAST and by more than three standard errors.
"""

from __future__ import annotations

import math
import os
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple, TypeVar

from .errors import UnreadableSample
from .samples.statistics import StatisticsSet
from .types import MediaFacts, Sample, SampleSet

MOST_PIXELS_READ = 200  # samples a side that are decoded, to look for grey pictures and for sizes no header tells
LEAST = 0.05  # a difference of shares below this is not worth a line
SMALL = 32  # pixels; the usual networks see images 7 to 10 times as large
CHUNK = 64  # headers a thread reads at a time

T = TypeVar("T")


class _Look(NamedTuple):
    """What one image's pixels showed."""

    width: int
    height: int
    is_grey: bool


@dataclass(frozen=True)
class _Side:
    """One set: all its samples, the headers of those looked at, and the pixels of a few."""

    word: str
    samples: tuple[Sample, ...]
    headers: tuple[tuple[Sample, MediaFacts], ...]
    looks: tuple[tuple[Sample, _Look], ...]

    @cached_property
    def sizes(self) -> list[tuple[Sample, int, int]]:
        """Width and height, from the headers where files have them, else of the few whose pixels were seen."""
        if self.headers:
            return [(s, f.width, f.height) for s, f in self.headers]
        return [(s, look.width, look.height) for s, look in self.looks]

    def of(self, found: int, total: int) -> str:
        """ "3 of 500 real images", or "of the 20,000 real images looked at" where not all were."""
        if total == len(self.samples):
            return f"{found:,} of {total:,} {self.word} images"
        return f"{found:,} of the {total:,} {self.word} images looked at"


def lint(
    real: SampleSet | None, fake: SampleSet, train: SampleSet | None = None, *, most: int = 20_000, seed: int = 0
) -> tuple[str, ...]:
    """One line for each thing about the sets that can move a number without being about the model; () when clean.

    Headers of at most `most` images a side are read and 200 are decoded, both chosen by `seed`; copies are found by
    content digest among all. Arrays and texts get what can be known of them, a statistics file nothing.
    """
    kind = "images" if fake.modality == "image" else "texts"
    given = (("real", real), ("fake", fake), ("training", train))
    sides = {
        word: _side(word, samples, most, seed)
        for word, samples in given
        if samples is not None and not isinstance(samples, StatisticsSet)
    }
    found: list[Iterable[str]] = [_copies_inside(side, kind) for side in sides.values()]
    if mine := sides.get("fake"):
        found += [_shared(sides[word], mine, kind) for word in ("real", "training") if word in sides]
        if other := sides.get("real"):
            found += [_groups(other, mine, kind)]
            found += [rule(other, mine) for rule in (_codec, _quality, _size, _shape, _colour)]
    found += [_small(tuple(sides.values())), *(rule(s) for rule in (_resolution, _flags) for s in sides.values())]
    return tuple(chain.from_iterable(found))


# Looking --------------------------------------------------------------------------------------------------------------


def _side(word: str, samples: SampleSet, most: int, seed: int) -> _Side:
    listed = tuple(samples)
    if samples.modality != "image":
        return _Side(word, listed, (), ())
    chosen = _drawn(listed, most, seed)
    headers = _headers([s for s in chosen if s.facts is not None])
    looks = tuple(_looks(_drawn(chosen, MOST_PIXELS_READ, seed)))
    return _Side(word, listed, headers, looks)


def _drawn(items: Sequence[T], most: int, seed: int) -> list[T]:
    every = range(len(items))
    return [items[i] for i in (every if len(items) <= most else sorted(random.Random(seed).sample(every, most)))]


def _headers(samples: Sequence[Sample]) -> tuple[tuple[Sample, MediaFacts], ...]:
    """Headers in order, read in a few threads; a file that cannot be read is for the measurement to exclude."""

    def read(chunk: Sequence[Sample]) -> list[tuple[Sample, MediaFacts]]:
        found = []
        for sample in chunk:
            with suppress(UnreadableSample):
                if sample.facts is not None:
                    found.append((sample, sample.facts()))
        return found

    chunks = [samples[i : i + CHUNK] for i in range(0, len(samples), CHUNK)]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="evalkit-lint") as pool:
        return tuple(chain.from_iterable(pool.map(read, chunks)))


def _looks(samples: Sequence[Sample]) -> Iterator[tuple[Sample, _Look]]:
    for sample in samples:
        try:
            pixels = sample.load()
        except UnreadableSample:
            continue
        if not isinstance(pixels, str):
            is_grey = bool((pixels == pixels[..., :1]).all())
            yield sample, _Look(pixels.shape[1], pixels.shape[0], is_grey)


def _differ(a: int, of_a: int, b: int, of_b: int, least: float = LEAST, errors: float = 3.0) -> bool:
    """Whether a of of_a and b of of_b are other shares: apart by more than `least` and by that many standard errors."""
    p = (a + b) / (of_a + of_b)
    error = math.sqrt(p * (1 - p) * (1 / of_a + 1 / of_b))
    return abs(a / of_a - b / of_b) > max(least, errors * error)


# Copies and groups: of images and texts -------------------------------------------------------------------------------


def _copies_inside(side: _Side, kind: str) -> Iterator[str]:
    counts = Counter(s.digest for s in side.samples)
    surplus = len(side.samples) - len(counts)
    if not surplus:
        return
    digest, times = counts.most_common(1)[0]
    first = next(s.id for s in side.samples if s.digest == digest)
    if len(counts) == 1:
        yield (
            f"lint repeated: all {times:,} {side.word} {kind} are copies of one ({first!r}); "
            "no number of spread means anything; check how they were written"
        )
        return
    yield (
        f"lint duplicates: {surplus:,} of {len(side.samples):,} {side.word} {kind} are exact copies of others "
        f"(most often {first!r}, {times:,} times); error bars become too narrow; remove the copies"
    )


def _shared(other: _Side, fake: _Side, kind: str) -> Iterator[str]:
    known = {s.digest: s.id for s in reversed(other.samples)}
    copies = [s for s in fake.samples if s.digest in known]
    if copies:
        what = "a memorizing model, or" if other.word == "training" else "samples that are not generated, or"
        yield (
            f"lint copies: {len(copies):,} of {len(fake.samples):,} fake {kind} are exact copies of {other.word} ones "
            f"(for example {copies[0].id!r} of {known[copies[0].digest]!r}): {what} a mixed-up folder; "
            "every distance comes out too small; check where they came from"
        )


def _groups(real: _Side, fake: _Side, kind: str) -> Iterator[str]:
    """Groups on both sides whose shares differ at least twofold and beyond chance, and groups only one side has."""
    counts = [Counter(s.group for s in side.samples if s.group is not None) for side in (real, fake)]
    both = sorted(counts[0].keys() & counts[1].keys())
    if not both:
        return
    n, m = counts[0].total(), counts[1].total()

    def ratio(group: str) -> float:
        return abs(math.log(counts[0][group] / n) - math.log(counts[1][group] / m))

    # The widest of many harmless differences is wider: sqrt(2 ln K) for K groups.
    errors = math.sqrt(9 + 2 * math.log(len(both)))
    uneven = [g for g in both if ratio(g) > math.log(2) and _differ(counts[0][g], n, counts[1][g], m, 0.0, errors)]
    if uneven:
        worst = max(uneven, key=ratio)
        yield (
            f"lint groups: {len(uneven):,} of {len(both):,} groups have very different shares, most of all {worst!r}: "
            f"{counts[0][worst]:,} of {n:,} real {kind}, {counts[1][worst]:,} of {m:,} fake; "
            "a distance measures this too; draw both sides alike or score per group"
        )
    for mine, other, a, b in ((0, 1, "real", "fake"), (1, 0, "fake", "real")):
        lone = sorted(counts[mine].keys() - counts[other].keys())
        if lone:
            yield (
                f"lint groups: {len(lone):,} of {len(counts[mine]):,} groups of the {a} {kind} have no {b} one "
                f"(for example {lone[0]!r}); a distance measures this too; draw both sides from the same groups"
            )


# Between the sides ----------------------------------------------------------------------------------------------------


def _codec(real: _Side, fake: _Side) -> Iterator[str]:
    counts = [Counter(facts.format for _, facts in side.headers) for side in (real, fake)]
    n, m = counts[0].total(), counts[1].total()
    if not n or not m:
        return
    odd = [f for f in sorted({*counts[0], *counts[1]}) if _differ(counts[0][f], n, counts[1][f], m)]
    if odd:
        worst = max(odd, key=lambda f: abs(counts[0][f] / n - counts[1][f] / m))
        side = real if counts[0][worst] / n > counts[1][worst] / m else fake
        example = next(s.id for s, facts in side.headers if facts.format == worst)
        yield (
            f"lint codec: real images are {_mix(counts[0])}, fake ones {_mix(counts[1])} ({worst} for example "
            f"{example!r}); a distance or detector sees the codec; save both sides in one format with the same settings"
        )


def _mix(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({n:,} of {counts.total():,})" for name, n in counts.most_common(4))


def _quality(real: _Side, fake: _Side) -> Iterator[str]:
    found = [sorted(f.quality for _, f in side.headers if f.quality is not None) for side in (real, fake)]
    if not found[0] or not found[1]:
        return
    medians = [statistics.median(q) for q in found]
    ends = [(_at(q, 0.1), _at(q, 0.9)) for q in found]
    spread = [high - low for low, high in ends]
    if abs(medians[0] - medians[1]) > 2 or abs(spread[0] - spread[1]) > 5:
        example = next(s.id for s, f in fake.headers if f.quality is not None)
        said = [f"{mid:g} ({low} to {high})" for mid, (low, high) in zip(medians, ends, strict=True)]
        yield (
            f"lint quality: JPEG quality is {said[0]} in the {len(found[0]):,} real JPEGs and {said[1]} in the "
            f"{len(found[1]):,} fake ones (median, 10 % to 90 %; for example {example!r}); a distance or detector sees "
            "the compression; encode both sides alike, or compare before encoding"
        )


def _at(ordered: Sequence[T], share: float) -> T:
    return ordered[round(share * (len(ordered) - 1))]


def _size(real: _Side, fake: _Side) -> Iterator[str]:
    if not real.sizes or not fake.sizes:
        return
    edges = [statistics.median(math.sqrt(w * h) for _, w, h in side.sizes) for side in (real, fake)]
    counts = [Counter((w, h) for _, w, h in side.sizes) for side in (real, fake)]
    common = [c.most_common(1)[0][0] for c in counts]
    n, m = len(real.sizes), len(fake.sizes)
    shares_differ = any(_differ(counts[0][size], n, counts[1][size], m, 0.25) for size in common)
    if max(edges) > 1.1 * min(edges) or shares_differ:
        said = [f"{w}x{h} ({c[w, h]:,} of {c.total():,})" for c, (w, h) in zip(counts, common, strict=True)]
        example = next(s.id for s, w, h in fake.sizes if (w, h) == common[1])
        yield (
            f"lint size: real images are mostly {said[0]}, fake ones {said[1]}, for example {example!r}; resizing them "
            "to a network's input blurs one side more; bring both sides to one size with one filter"
        )


def _shape(real: _Side, fake: _Side) -> Iterator[str]:
    oblong = [[s.id for s, w, h in side.sizes if max(w, h) > 1.05 * min(w, h)] for side in (real, fake)]
    then = "a network's input squashes them; crop both sides to one shape"
    yield from _more_of(real, fake, oblong, [len(real.sizes), len(fake.sizes)], "aspect", "are not square", then)


def _colour(real: _Side, fake: _Side) -> Iterator[str]:
    grey = [[s.id for s, look in side.looks if look.is_grey] for side in (real, fake)]
    then = "colour alone tells the sides apart; convert both sides alike"
    yield from _more_of(real, fake, grey, [len(real.looks), len(fake.looks)], "grey", "hold no colour", then)


def _more_of(
    real: _Side, fake: _Side, ids: Sequence[Sequence[str]], of: Sequence[int], code: str, have: str, then: str
) -> Iterator[str]:
    """A line when the images that `have` something, ids[0] of of[0] real and ids[1] of of[1] fake, differ in share."""
    a, b = len(ids[0]), len(ids[1])
    if min(of) and _differ(a, of[0], b, of[1]):
        example = ids[0][0] if a / of[0] > b / of[1] else ids[1][0]
        yield (f"lint {code}: {real.of(a, of[0])} {have} and {fake.of(b, of[1])} (for example {example!r}); {then}")


# Inside one side ------------------------------------------------------------------------------------------------------


def _resolution(side: _Side) -> Iterator[str]:
    counts = Counter((w, h) for _, w, h in side.sizes)
    if len(counts) < 2:
        return
    small, large = (f"{w}x{h}" for w, h in (min(counts, key=math.prod), max(counts, key=math.prod)))
    (w, h), most = counts.most_common(1)[0]
    odd = next(s.id for s, *size in side.sizes if tuple(size) != (w, h))
    shapes = sorted(w / h for _, w, h in side.sizes)
    aspects = f", aspects {_at(shapes, 0.05):.2f} to {_at(shapes, 0.95):.2f}" if shapes[-1] > 1.05 * shapes[0] else ""
    yield (
        f"lint resolution: the {side.word} images have {len(counts):,} sizes from {small} to {large}{aspects}; only "
        f"{side.of(most, len(side.sizes))} are {w}x{h} (not so {odd!r}); each is resized by another factor; "
        "bring them to one size"
    )


def _small(sides: Sequence[_Side]) -> Iterator[str]:
    small = [[s.id for s, w, h in side.sizes if min(w, h) < SMALL] for side in sides]
    said = [side.of(len(ids), len(side.sizes)) for side, ids in zip(sides, small, strict=True) if ids]
    if said:
        example = next(ids[0] for ids in small if ids)
        yield (
            f"lint small: {' and '.join(said)} have an edge under {SMALL} pixels (for example {example!r}); where "
            "a network made for 224 or more is used, it sees mostly the upsampling; compare its numbers only at the "
            "same size, or use an instrument for small images"
        )


# code -> (what such images have, what it does and what to do)
ODD = {
    "alpha": ("have an alpha channel", "it is dropped and hidden colours show; flatten them as meant"),
    "depth": ("have more than 8 bits a channel", "they are scaled to 8; save both sides with 8 bits"),
    "mode": ("are CMYK, LAB, palette or 1-bit", "their colours are converted or coarse; save them as RGB"),
    "profile": ("carry an ICC profile", "it is ignored; convert those that are not sRGB to sRGB"),
    "orientation": ("are turned by their EXIF", "pixels are read unturned; apply the turn and save them"),
    "animated": ("have several frames or pages", "only the first is read; save the one you mean"),
}


def _odd(facts: MediaFacts) -> set[str]:
    """What of ODD an image is."""
    colours = facts.mode.split(";")[0]
    found = {
        "alpha": colours in ("RGBA", "LA", "PA", "RGBa", "La"),
        "depth": "16" in facts.mode or facts.mode in ("I", "F"),
        "mode": colours in ("CMYK", "LAB", "P", "PA", "1"),
        "profile": facts.profile,
        "orientation": facts.orientation != 1 and facts.format != "TIFF",  # Pillow turns a TIFF itself
        "animated": facts.frames > 1,
    }
    return {code for code, holds in found.items() if holds}


def _flags(side: _Side) -> Iterator[str]:
    odd = [(sample, _odd(facts)) for sample, facts in side.headers]
    for code, (have, then) in ODD.items():
        ids = [sample.id for sample, codes in odd if code in codes]
        if ids:
            yield f"lint {code}: {side.of(len(ids), len(odd))} {have} (for example {ids[0]!r}); {then}"
