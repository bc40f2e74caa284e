"""One file of a sealed audit examined again, for an appeal: the same plan, the same batch, and what differs now.

A file is examined with the others of its batch, because a network's last bits depend on what shares its batch; where
one of those is gone it is examined all the same, and a difference in the last digits says nothing then. What the batch
decided of it (p-value of all detectors, q-value, flag) stands as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadRecord, UnreadableSample
from ..measurement import Bench
from .concluding import Together, ruled
from .configuring import Configuration, code
from .deciding import find
from .examining import Examiner, finding_in
from .exports import export
from .reading import Reader
from .rerunning import Difference, difference
from .ruling import RulingSettings
from .running import TABLE, show
from .sealing import read_seal
from .store import Store, working_on


@dataclass(frozen=True)
class Repeated:
    """The record as it was sealed, as it is now, and every field that differs; notes: what to know of the rerun."""

    old: Mapping[str, Any]
    new: Mapping[str, Any]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "schema": "evalkit.rerun/1",
            "same": not self.differences,
            "differences": [asdict(d) for d in self.differences],
            "notes": list(self.notes),
            "old": dict(self.old),
            "new": dict(self.new),
        }

    def words(self) -> str:
        """For a terminal: whether it is the same, else one line a field."""
        shown = "".join(c if c.isprintable() else " " for c in str(self.old["id"]))
        if not self.differences:
            lines = [f"{shown}: the same in every field, {self.old['verdict']} by {self.old['rule']}"]
        else:
            lines = [f"{shown}: {len(self.differences)} fields differ", *(f"  {d.words}" for d in self.differences)]
        return "\n".join([*lines, *(f"note: {words}" for words in self.notes)])


def repeat(folder: Path, record: str, bench: Bench) -> Repeated:
    """Examine again the file of a record (its id, position, record hash or sha256) under the plan of the audit.

    Raises BadRecord when there is no such record, BadSource when a detector or a list is no longer what it was.
    """
    old = find(folder, record)
    sealed = read_seal(folder).document
    with Store(folder) as store:
        plan = Configuration.read(store.configuration)
        position = int(old["position"])
        entries = store.batch_of(position)
        own = [told for entry, told in store.findings() if entry.position == position] if not entries else []
        inputs = [entry for entry, _ in store.findings() if entry.position == position]
    if not inputs:
        raise BadRecord(f"{folder} has no input at position {position}; its database and its records do not agree")
    notes = [] if plan.plain()["code"] == sealed["frozen"]["code"] else ["examined by other code than the audit's"]
    if not entries:
        found = finding_in(inputs[0], own[0])
    else:
        notes += _gone(entries)
        device = bench.device if bench.device.partition(":")[0] == plan.device else plan.device
        with Examiner(plan, folder, device=device, workers=bench.workers) as examiner:
            documents = examiner.examine(entries)
        told = next(d for e, d in zip(entries, documents, strict=True) if e.sha256 == inputs[0].sha256)
        found = finding_in(inputs[0], told)
    settings = RulingSettings(watermark_alpha=plan.watermark_alpha, believe_claims=plan.believe_claims)
    new = ruled(found, _as_before(old), 0, settings)
    header = {"frozen": {**sealed["frozen"], "code": code()}}
    differences = difference(old, new, {"frozen": sealed["frozen"]}, header)
    return Repeated(old, new, tuple(differences), tuple(notes))


def _as_before(old: Mapping[str, Any]) -> Together:
    """What the batch decided of this file."""
    p, q = (np.array([np.nan if old.get(key) is None else float(old[key])]) for key in ("p_value", "q_value"))
    return Together(p, q, np.array([bool(old.get("flagged"))]), "bh")


def _gone(entries: Any) -> list[str]:
    lost = 0
    with Reader() as reader:
        for entry in entries:
            try:
                reader.read(entry)
            except UnreadableSample:
                lost += 1
    if not lost:
        return []
    return [
        f"{lost} of the {len(entries)} files of its batch can no longer be read as they were: last digits may differ"
    ]


def redraw(folder: Path, workers: int = 1) -> None:
    """Draw the dossier and write the table again, as after a decision."""
    with working_on(folder), Store(folder) as store:
        show(store, Configuration.read(store.configuration), folder, workers)
    export(folder, folder / TABLE)
