"""The batch as a whole: which files are discoveries, which show nearly the same, and the ruling on each, in order.

Read from the store twice, so that a million findings are never held together: once for what the batch needs of each (a
p-value a detector, a perceptual hash), once for the records.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..known import groups
from ..types import Finding
from .configuring import Configuration
from .discovering import combined, discover, least_flagged
from .documents import record_of
from .examining import finding_in
from .ruling import RulingSettings, counted, rule
from .store import Store

Array = npt.NDArray[np.float64]
# Groups of near-duplicates, and members of each, that the seal names; it counts all of them.
MOST_GROUPS, MOST_MEMBERS = 200, 50


@dataclass
class Batch:
    """What one pass over the findings leaves: a p-value a file and detector, hashes, the digest of the manifest."""

    names: tuple[str, ...]
    modality: Mapping[str, str]
    p_values: list[Array] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    hashes: list[Mapping[str, Any]] = field(default_factory=list)
    hashed: list[int] = field(default_factory=list)
    modalities: list[str | None] = field(default_factory=list)
    manifest: str = ""
    inputs: int = 0

    def table(self) -> Array:
        """[K, M]; NaN where a detector has no p-value of a file."""
        if not self.names:
            return np.full((0, self.inputs), np.nan)
        return np.stack(self.p_values, axis=1) if self.p_values else np.full((len(self.names), 0), np.nan)


def judges_of(plan: Configuration) -> dict[str, str]:
    """Each detector's name in the records, numbered where several of a modality share one, and its modality.

    Watermark tests are left out: their p-values are evidence of their own, under no false-discovery rate.
    """
    found: dict[str, str] = {}
    for part in plan.detectors:
        if part.get("watermark"):
            continue
        name, turn = str(part["name"]), 2
        chosen = name
        while chosen in found:
            chosen, turn = f"{name}#{turn}", turn + 1
        found[chosen] = str(part["modality"])
    return found


def gathered(store: Store, plan: Configuration) -> Batch:
    """The first pass."""
    modality = judges_of(plan)
    batch = Batch(tuple(modality), modality)
    manifest = hashlib.sha256()
    for entry, told in store.findings():
        found = finding_in(entry, told)
        for part in (entry.container, entry.name, entry.sha256.encode(), str(entry.size).encode()):
            manifest.update(len(part).to_bytes(8, "big") + part)
        if batch.names:
            given = {o.name: counted(o) for o in found.opinions}
            row = [given.get(name) for name in batch.names]
            batch.p_values.append(np.array([math.nan if p is None else p for p in row]))
        if found.opened.hashes:
            batch.hashes.append(dict(found.opened.hashes))
            batch.hashed.append(found.position)
            batch.ids.append(found.id)
        batch.modalities.append(found.opened.modality)
        batch.inputs += 1
    batch.manifest = f"sha256:{manifest.hexdigest()}"
    return batch


@dataclass(frozen=True)
class Together:
    """The batch's decision: p [M] and q [M] (NaN: none), flags [M], and how they were made."""

    p_values: Array
    q_values: Array
    flags: npt.NDArray[np.bool_]
    method: str


def decided(batch: Batch, plan: Configuration) -> Together:
    """One p-value a file, of the detectors of its kind, and the discoveries among all files at once."""
    table = batch.table()
    one = np.full(batch.inputs, np.nan)
    for kind in sorted(set(batch.modality.values())):
        rows = [i for i, name in enumerate(batch.names) if batch.modality[name] == kind]
        one = np.where(np.isnan(one), combined(table[rows]), one)
    if np.isnan(one).all():
        return Together(one, one.copy(), np.zeros(batch.inputs, dtype=bool), plan.method)
    found = discover(one[None, :], plan.fdr, method=plan.method)
    return Together(found.p_values, found.q_values, found.flagged, plan.method)


def records(store: Store, plan: Configuration, together: Together) -> Iterator[dict[str, Any]]:
    """The second pass: a record an input, in manifest order."""
    settings = RulingSettings(watermark_alpha=plan.watermark_alpha, believe_claims=plan.believe_claims)
    for i, (entry, told) in enumerate(store.findings()):
        yield ruled(finding_in(entry, told), together, i, settings)


def ruled(found: Finding, together: Together, i: int, settings: RulingSettings) -> dict[str, Any]:
    """The record of the i-th input."""
    p, q = (None if math.isnan(v) else float(v) for v in (together.p_values[i], together.q_values[i]))
    return record_of(found, rule(found, bool(together.flags[i]), settings, p_value=p, q_value=q))


def statistics(batch: Batch, plan: Configuration, together: Together, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What the seal says of the batch: how many were tested and flagged, what could be found, near-duplicates."""
    tested = int((~np.isnan(together.p_values)).sum())
    found: dict[str, Any] = {
        "method": together.method,
        "tested": tested,
        "flagged": int(together.flags.sum()),
        "calibration": dict(calibration),
    }
    if tested and (reals := calibration.get("reals")):
        most = max(sum(batch.modality[name] == kind for name in batch.names) for kind in set(batch.modality.values()))
        least = least_flagged(int(reals), tested, plan.fdr, method=together.method, detectors=most)
        found["least_flagged"] = "no number of them" if least is None else least
    clusters = groups(batch.hashes) if batch.hashes else []
    found["near_duplicate_groups"] = len(clusters)
    found["near_duplicates"] = [_group(batch, members) for members in clusters[:MOST_GROUPS]]
    return found


def _group(batch: Batch, members: tuple[int, ...]) -> dict[str, Any]:
    listed = [{"id": batch.ids[i], "position": batch.hashed[i], "says": ""} for i in members[:MOST_MEMBERS]]
    return {"says": f"{len(members)} files that show nearly the same", "size": len(members), "members": listed}
