"""Known content: perceptual hashes of images, a user's hash list, near-duplicates within a batch.

PDQ (256 bits, Facebook 2019, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm") and pHash (64
bits, Zauner 2010) come from their libraries, pdqhash and ImageHash. Two images are near-duplicates where their PDQ
differ in at most 31 bits and both have a quality of 50 or more (PDQ's own figures), or their pHash in at most 8.

A perceptual match says that two pictures look alike, not that they are one: a face exchanged in a photograph stays
within these distances. So only an equal SHA-256 is strong evidence; a perceptual match is a hint with its distance.

Near-duplicates are leader clusters, in the order given: an image joins the first earlier leader within the distance,
else it leads. So every member is within the distance of its leader, where connected components would chain unlike
images together, and a flood of variants of one image costs one comparison each, not one a pair. Pairs are found by
bands of 16 bits (Norouzi et al. 2012, "Fast search in Hamming space with multi-index hashing"): of 16 bands that
differ in 31 bits together, some band differs in at most one. Nothing is missed.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import BadSetting
from .hashlists import Entry, read_entries
from .types import Evidence

if TYPE_CHECKING:
    from .types.audit import Says

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

# Bits of each hash, and the largest distance of a match.
BITS: Mapping[str, int] = {"pdq": 256, "phash": 64}
WITHIN: Mapping[str, int] = {"pdq": 31, "phash": 8}
# PDQ's measure of detail, 0 to 100: below, hashes of unlike flat images fall together.
LEAST_QUALITY = 50
BAND = 16
# Images whose leaders are settled together, and leaders that claim together: bound memory, change nothing.
BLOCK, AT_ONCE = 256, 256
# Larger images are shrunk by a whole factor first: PDQ keeps several floating-point copies of what it is given.
MOST_PIXELS = 2_000_000
# Module and what installs it. pdqhash is an extra because on Linux it has to be compiled.
PACKAGES: Mapping[str, tuple[str, str]] = {"pdq": ("pdqhash", "'evalkit[hashes]'"), "phash": ("imagehash", "ImageHash")}


# ---------------------------------------------------------------------------------------------- hashes


def hashes(pixels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """{"pdq": 64 hex digits, "pdq_quality": 0..100, "phash": 16 hex digits} of an image uint8 [H, W, 3].

    A hash whose library is not installed is left out: `missing` says which. Nothing but the pixels decides.
    """
    found: dict[str, Any] = {}
    pixels = _shrunk(pixels)
    if "pdq" not in missing():
        bits, quality = importlib.import_module("pdqhash").compute(np.ascontiguousarray(pixels))
        found |= {"pdq": np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes().hex(), "pdq_quality": int(quality)}
    if "phash" not in missing():
        from PIL import Image

        bits = importlib.import_module("imagehash").phash(Image.fromarray(pixels)).hash
        found["phash"] = np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes().hex()
    return found


def _shrunk(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    from PIL import Image

    factor = math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / MOST_PIXELS))
    return pixels if factor < 2 else np.asarray(Image.fromarray(pixels).reduce(factor))


@cache
def missing() -> dict[str, str]:
    """Hash -> why it is not computed here; empty where both libraries are installed."""
    return {
        name: f"{name} is not computed: it needs the package {module}; pip install {what}"
        for name, (module, what) in PACKAGES.items()
        if importlib.util.find_spec(module) is None
    }


# ---------------------------------------------------------------------------------------------- a user's list


@dataclass(frozen=True)
class Match:
    """One entry of a list that a file matches: kind "sha256", "pdq" or "phash"; distance in bits, 0 for sha256."""

    kind: str
    distance: int
    entry: Entry


class HashList:
    """A user's list of known content, in memory; `digest` is of its file's bytes."""

    def __init__(self, entries: Sequence[Entry], name: str = "", digest: str = "") -> None:
        self.entries, self.name, self.digest = tuple(entries), name, digest
        self._exact: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if "sha256" in entry.kinds:
                self._exact.setdefault(entry.value, []).append(entry)
        self._near = {kind: tuple(e for e in self.entries if kind in e.kinds) for kind in BITS}
        self._words = {kind: _words([e.value for e in found], kind) for kind, found in self._near.items()}

    @staticmethod
    def read(path: Path) -> HashList:
        """The list in a file (hashlists.py says the forms); BadSource, with the line, for a bad one."""
        entries, digest = read_entries(path)
        return HashList(entries, path.name, digest)

    def __len__(self) -> int:
        return len(self.entries)

    def match(self, sha256: str, hashes: Mapping[str, Any]) -> tuple[Evidence, ...]:
        """What the list says of a file, as evidence of kind "known", one piece for each label, by its nearest match.

        strong for an equal SHA-256, else a hint; it says what the label says where that is synthetic, authentic or
        edited, and "unknown" under any other label.
        """
        matches = self.matches(sha256, hashes)
        best: dict[str, Match] = {}
        for match in matches:
            best.setdefault(match.entry.label, match)
        return tuple(
            _evidence(match, sum(m.entry.label == label for m in matches), self.name) for label, match in best.items()
        )

    def matches(self, sha256: str, hashes: Mapping[str, Any]) -> tuple[Match, ...]:
        """Entries that a file matches, nearest first: equal SHA-256, PDQ within 31 bits, pHash within 8.

        hashes: what `hashes` gave. Below a PDQ quality of 50 nothing perceptual is compared.
        """
        found = [Match("sha256", 0, entry) for entry in self._exact.get(sha256.lower(), ())]
        for kind in BITS if detailed(hashes) else ():
            if kind in hashes:
                near, distances = _near(self._words[kind], _words([hashes[kind]], kind)[:, 0], WITHIN[kind])
                found += [Match(kind, d, self._near[kind][i]) for i, d in zip(near, distances.tolist(), strict=True)]
        return tuple(sorted(found, key=lambda m: (m.kind != "sha256", m.distance / BITS.get(m.kind, 1), m.entry.line)))


def detailed(hashes: Mapping[str, Any]) -> bool:
    """Whether an image has detail enough to be told from others by its hash; true where PDQ did not measure it."""
    return int(hashes.get("pdq_quality", 100)) >= LEAST_QUALITY


def _evidence(match: Match, count: int, source: str) -> Evidence:
    exact, label = match.kind == "sha256", match.entry.label
    says: Says = label if label in ("synthetic", "authentic", "edited") else "unknown"  # type: ignore[assignment]
    how = (
        "the same bytes as"
        if exact
        else f"{match.kind} differs in {match.distance} of {BITS[match.kind]} bits (at most {WITHIN[match.kind]}) from"
    )
    detail = f"{how} line {match.entry.line} of the list, labelled {label or 'nothing'}"
    if not exact:
        detail += "; it looks alike, and may have been changed in part"
    facts = {
        "match": match.kind,
        "distance": match.distance,
        "label": label,
        "hash": match.entry.value,
        "line": match.entry.line,
        "matches": count,
    }
    return Evidence("known", says, "strong" if exact else "hint", source, detail, facts)


# ---------------------------------------------------------------------------------------------- near-duplicates


def groups(hashes: Sequence[Mapping[str, Any]], within: int | None = None) -> list[tuple[int, ...]]:
    """Clusters of two or more near-duplicates: indices into `hashes`, the leader first, the others in order.

    By PDQ where any image has one, else by pHash; within: the largest distance in bits (31, of pHash 8). Images
    without the hash or without detail (PDQ quality below 50) are in no cluster. Raises BadSetting for a distance that
    the bands cannot find (over 3 bits a band).
    """
    kind = "pdq" if any("pdq" in h for h in hashes) else "phash"
    limit = WITHIN[kind] if within is None else within
    if not 0 <= limit < 4 * BITS[kind] // BAND:
        raise BadSetting(f"near-duplicates of {kind} within {limit} bits; expected 0 to {4 * BITS[kind] // BAND - 1}")
    usable = [i for i, h in enumerate(hashes) if kind in h and detailed(h)]
    if len(usable) < 2:
        return []
    words, first, which = _distinct(_words([hashes[i][kind] for i in usable], kind))
    leader = first[_leaders(_Bands(words), limit)][which]
    members: dict[int, list[int]] = {}
    for place, lead in enumerate(leader.tolist()):
        members.setdefault(lead, []).append(usable[place])
    return [tuple(found) for found in members.values() if len(found) > 1]


def _distinct(words: Words) -> tuple[Words, Indices, Indices]:
    """Distinct hashes in order of first appearance, where each first appears, and which of them each hash is."""
    _, first, inverse = np.unique(words, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return words[:, first[order]], first[order].astype(np.int64), rank[inverse.reshape(-1)].astype(np.int64)


def _leaders(bands: _Bands, limit: int) -> Indices:
    """The leader of each row, in order: the first earlier leader within the limit, else the row itself."""
    leader = np.full(bands.n, -1, dtype=np.int64)
    start = 0
    while start < bands.n:
        block = start + np.flatnonzero(leader[start : start + 16 * BLOCK] < 0)[:BLOCK]
        start = int(block[-1]) + 1 if len(block) else start + 16 * BLOCK
        leader[block] = block[_settled(bands.words[:, block], limit)]
        # Ascending leaders claim what comes later and is free: the earliest has it.
        leads = np.unique(leader[block])
        for begin in range(0, len(leads), AT_ONCE):
            _claim(bands, leads[begin : begin + AT_ONCE], start, leader, limit)
    return leader


def _settled(words: Words, limit: int) -> Indices:
    """Leader clusters of a few rows, each compared with each: the place of each row's leader."""
    near = np.sum([_ones(column[:, None] ^ column) for column in words], axis=0) <= limit
    lead = np.arange(words.shape[1])
    paired = np.flatnonzero(near.sum(axis=1) > 1)
    lead[paired] = -1
    for i in paired.tolist():
        if lead[i] < 0:
            lead[near[i] & (lead < 0)] = i
    return lead


def _claim(bands: _Bands, leads: Indices, start: int, leader: Indices, limit: int) -> None:
    """Give each free row from `start` on to the first of these leaders within the limit."""
    free = start + np.flatnonzero(leader[start:] < 0)
    flips = _flips(limit // bands.keys.shape[0])
    if bands.expected(leads, flips) < len(leads) * len(free):
        is_free = np.zeros(bands.n, dtype=bool)
        is_free[free] = True
        for row, other in bands.candidates(leads, flips):
            row, other = _pairs_near(bands.words, row[is_free[other]], other[is_free[other]], limit)
            order = np.argsort(-row, kind="stable")
            # The last assignment stays, so the smallest leader comes last; what another band gave may be improved on.
            row, other = row[order], other[order]
            better = (leader[other] < 0) | (leader[other] > row)
            leader[other[better]] = row[better]
        return
    # Many variants of few images share their bands, which then exclude nothing.
    for lead in leads.tolist():
        near = free[_near(bands.words[:, free], bands.words[:, lead], limit)[0]]
        leader[near] = lead
        free = free[leader[free] < 0]


class _Bands:
    """Hashes, words [W, N], by the value of each 16-bit band: finds rows near one without comparing it with each."""

    def __init__(self, words: Words) -> None:
        self.words, self.n = words, words.shape[1]
        self.keys = np.ascontiguousarray(np.ascontiguousarray(words.T).view(np.uint16).T)

    @cached_property
    def _tables(self) -> list[tuple[Indices, Indices]]:
        """Of each band: rows ordered by its value, and where each of the 65,536 values begins."""
        found = []
        for key in self.keys:
            starts = np.zeros((1 << BAND) + 1, dtype=np.int64)
            np.cumsum(np.bincount(key, minlength=1 << BAND), out=starts[1:])
            found.append((np.argsort(key, kind="stable").astype(np.int64), starts))
        return found

    def expected(self, rows: Indices, flips: npt.NDArray[np.uint16]) -> int:
        """How many candidates the rows have in all bands together."""
        return sum(
            int(self._counts(starts, key[rows], flips)[1].sum())
            for key, (_, starts) in zip(self.keys, self._tables, strict=True)
        )

    def candidates(self, rows: Indices, flips: npt.NDArray[np.uint16]) -> Iterator[tuple[Indices, Indices]]:
        """Band by band, pairs (row, other) where the other's band is one of the flipped values of the row's."""
        for key, (ordered, starts) in zip(self.keys, self._tables, strict=True):
            begins, counts = self._counts(starts, key[rows], flips)
            ends = np.cumsum(counts)
            places = np.arange(ends[-1]) + np.repeat(begins - ends + counts, counts)
            yield np.repeat(np.repeat(rows, len(flips)), counts), ordered[places]

    @staticmethod
    def _counts(
        starts: Indices, keys: npt.NDArray[np.uint16], flips: npt.NDArray[np.uint16]
    ) -> tuple[Indices, Indices]:
        values = (keys[:, None] ^ flips).astype(np.int64).reshape(-1)
        begins = starts[values]
        return begins, starts[values + 1] - begins


def _flips(radius: int) -> npt.NDArray[np.uint16]:
    """All 16-bit words of at most `radius` ones."""
    chosen = [bits for k in range(radius + 1) for bits in combinations(range(BAND), k)]
    return np.array([sum(1 << bit for bit in bits) for bits in chosen], dtype=np.uint16)


# ---------------------------------------------------------------------------------------------- bits


def _words(digits: Sequence[str], kind: str) -> Words:
    """uint64 [W, N] of N hex hashes, W = bits / 64."""
    rows = np.frombuffer(bytes.fromhex("".join(digits)), dtype=np.uint64).reshape(len(digits), BITS[kind] // 64)
    return np.ascontiguousarray(rows.T)


def _near(words: Words, word: Words, limit: int) -> tuple[Indices, Indices]:
    """Which hashes of words [W, N] are within the limit of word [W], and their distances.

    Word by word: of two unlike hashes the first two words differ too much already.
    """
    distance = _ones(words[0] ^ word[0])
    near = np.flatnonzero(distance <= limit)
    distance = distance[near]
    for column, one in zip(words[1:], word[1:], strict=True):
        distance = distance + _ones(column[near] ^ one)
        kept = distance <= limit
        near, distance = near[kept], distance[kept]
    return near, distance


def _pairs_near(words: Words, row: Indices, other: Indices, limit: int) -> tuple[Indices, Indices]:
    """Those of the pairs that are within the limit; word by word as well."""
    distance = np.zeros(len(row), dtype=np.int64)
    for column in words:
        distance = distance + _ones(column[row] ^ column[other])
        kept = distance <= limit
        row, other, distance = row[kept], other[kept], distance[kept]
    return row, other


def _ones(words: Words) -> Indices:
    """Ones of each word."""
    count: Any = getattr(np, "bitwise_count", None)  # numpy 2
    if count is not None:
        return np.asarray(count(words), dtype=np.int64)
    return np.asarray(np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64))
