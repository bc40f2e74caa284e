"""One batch of files examined: opened in isolation, read by witnesses, judged by detectors; nothing is concluded here.

What comes out depends on the contents of the batch and the frozen configuration alone, never on the worker, the time or
what was examined before: that is what lets a killed audit go on, and several machines share one, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..calibration import log_odds
from ..detection import load_detector
from ..errors import BadRows, BadSource, NothingToEvaluate, UnreadableSample
from ..isolation import Limits, Pool
from ..judging.appearance import Appearance
from ..judging.operating import Calibration, kept
from ..judging.work import Work
from ..known import HashList
from ..measurement import Bench, measure
from ..samples import ListedSet
from ..types import Detector, Evidence, Finding, MediaFacts, Modality, Opened, Opinion, Sample
from ..types.audit import Strength
from . import captions
from .configuring import Configuration, file_digest
from .conflicts import conflicts
from .documents import document, finding_of
from .entries import Entry
from .reading import Reader
from .requesting import ready

# Decoded pictures of one batch that are held at once; beyond it a picture is decoded again for each detector.
MOST_HELD = 1 << 30
# Reasons of a detector that only say where its score lies: the rule reads that from the thresholds.
POSITION = "between_thresholds"
# A text watermark's p-value at which it is called present, and from which it is mentioned.
PRESENT, SUGGESTIVE = 1e-6, 1e-3


@dataclass
class _Desk:
    """One batch on the table: what each file said when it was opened, and the media that fit into memory."""

    reader: Reader
    pool: Pool
    opened: dict[int, Opened] = field(default_factory=dict)
    media: dict[int, Any] = field(default_factory=dict)
    held: int = 0

    def open(self, entry: Entry) -> Any:
        """The media of a file, opened in isolation; raises UnreadableSample with the state it ended in."""
        if entry.position in self.media:
            return self.media[entry.position]
        try:
            data = self.reader.read(entry)
        except UnreadableSample as error:
            self.opened[entry.position] = Opened("io_error", "read", str(error))
            raise
        found, media = self.pool.open(data)
        self.opened.setdefault(entry.position, found)
        if media is None:
            raise UnreadableSample(f"{found.state}: {found.reason or found.stage}")
        size = len(media) if isinstance(media, str) else int(media.nbytes)
        if self.held + size <= MOST_HELD:
            self.media[entry.position], self.held = media, self.held + size
        return media


class Examiner:
    """Detectors, witnesses and lists of one configuration, loaded once; `examine` turns a batch into findings.

    folder: the audit's own, which holds the calibration and the hash list. Used as a context manager, because it owns
    worker processes. Raises BadSource when a part is not what the configuration froze.
    """

    def __init__(self, plan: Configuration, folder: Path, *, device: str, workers: int) -> None:
        self.plan, self.folder, self.reader = plan, folder, Reader()
        # On a CPU one at a time: the last digits of a matrix product depend on how many rows it has, and so a file's
        # score would on which others of its batch could be read.
        bench = Bench(device=device, workers=workers)
        self.bench = replace(bench, batch_size=1) if device == "cpu" else bench
        self.judges = [_loaded(part, device) for part in plan.detectors]
        self.calibrations = _calibrations(plan, folder, self.judges)
        self.list = None if plan.hash_list is None else HashList.read(_frozen(folder, plan.hash_list))
        self.captions = None if plan.captions is None else captions.read(_frozen(folder, plan.captions))
        self.pool = Pool(workers=workers, limits=Limits(**plan.limits), witnesses=ready(plan.witnesses, folder))

    def __enter__(self) -> Examiner:
        self.pool.__enter__()
        self.reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reader.__exit__(kind, error, trace)
        self.pool.__exit__(kind, error, trace)

    @cached_property
    def attributor(self) -> Any:
        """The fitted attributor, or None."""
        part = self.plan.attributor
        if part is None:
            return None
        from ..sourcing.attributing import load_attributor

        found = load_attributor(str(part["place"]), device=self.bench.device)
        _same(found.digest, part)
        return found

    def examine(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """The document of each entry's finding, in order."""
        return [document(found) for found in self.findings(entries)]

    def crashed(self, entry: Entry) -> dict[str, Any]:
        """The document of a content that ended every process that examined it, isolated as it was."""
        why = "it ended the process that examined it each time, outside of the isolated decoder"
        return document(self._finding(entry, Opened("crash", "examine", why), (), ()))

    def findings(self, entries: Sequence[Entry]) -> list[Finding]:
        """What is found of each entry, in order."""
        desk = _Desk(self.reader, self.pool)
        # Everything is opened first: which files are images and which are texts is known only then.
        with ThreadPoolExecutor(self.bench.workers) as threads:
            list(threads.map(partial(_opened, desk), entries))
        opinions: dict[int, list[Opinion]] = {e.position: [] for e in entries}
        traces: dict[int, list[Evidence]] = {e.position: [] for e in entries}
        for modality in ("image", "text"):
            of_kind = [e for e in entries if _is(desk.opened[e.position], modality)]
            judges = [(j, c) for j, c in zip(self.judges, self.calibrations, strict=True) if j.modality == modality]
            if of_kind and judges:
                self._judge(modality, of_kind, desk, judges, opinions, traces)
            captioned = [e for e in of_kind if e.caption]
            if modality == "image" and captioned and self.captions is not None:
                found = self.captions.evidence(
                    _samples(modality, captioned, desk).samples, [str(e.caption) for e in captioned], self.bench
                )
                for at, said in found.items():
                    traces[int(at)].append(said)
            if of_kind and self.attributor is not None and self.attributor.modality == modality:
                self._attribute(_samples(modality, of_kind, desk), traces)
        return [self._finding(e, desk.opened[e.position], opinions[e.position], traces[e.position]) for e in entries]

    def _judge(
        self,
        modality: Modality,
        entries: Sequence[Entry],
        desk: _Desk,
        judges: Sequence[tuple[Detector, Calibration | None]],
        opinions: Mapping[int, list[Opinion]],
        traces: Mapping[int, list[Evidence]],
    ) -> None:
        """Add each detector's opinion of each readable file of one modality, or why it has none."""
        samples = _samples(modality, entries, desk)
        looks = Appearance(modality)
        side = measure(samples, [looks], self.bench)
        names: dict[str, int] = {}
        for judge, calibration in judges:
            names[judge.name] = names.get(judge.name, 0) + 1
            name = judge.name if names[judge.name] == 1 else f"{judge.name}#{names[judge.name]}"
            work = Work(side, side.features[looks.name], None, False, self.bench, [])
            try:
                entry, _ = work.judge(judge, name, calibration)
            except NothingToEvaluate:  # The detector could score none of them, as where all are too small for it.
                for e, sample in zip(entries, samples, strict=True):
                    refused = {"reasons": [{"detail": _refusal(judge, sample)}]}
                    traces[e.position].append(_unscored(name, {"digest": judge.digest}, refused))
                continue
            for row in entry["samples"]:
                at = int(row["id"])
                if "watermark_p" in row:
                    traces[at] += _marked(name, entry, row)
                elif "p_fake" in row:
                    opinions[at].append(_opinion(name, entry, row, self._clears(judge)))
                else:
                    traces[at].append(_unscored(name, entry, row))

    def _clears(self, judge: Detector) -> bool:
        """Whether a low score of this detector may speak for authentic."""
        return bool((self.plan.calibration or {}).get("clears", {}).get(judge.digest))

    def _attribute(self, samples: ListedSet, traces: Mapping[int, list[Evidence]]) -> None:
        """Add which known source each file resembles, where it resembles one."""
        attributor = self.attributor
        try:
            found = measure(samples, [attributor], self.bench).features[attributor.name]
        except NothingToEvaluate:  # It can read none of them.
            return
        scores = found.head("sources").rows
        usual = found.head("typicality").rows
        for i, sample in enumerate(found.samples):
            best = int(scores[i].argmax())
            p, name = float(usual[i, best]), attributor.sources[best]
            if p < attributor.reject:
                continue
            traces[int(sample.id)].append(
                Evidence(
                    "fingerprint",
                    "unknown" if name == "real" else "synthetic",
                    "hint",
                    attributor.name,
                    f"resembles the known samples of {name}; a likeness, not a proof of origin",
                    {"source": name, "typicality": p, "digest": attributor.digest},
                )
            )

    def _finding(
        self, entry: Entry, opened: Opened, opinions: Sequence[Opinion], traces: Sequence[Evidence]
    ) -> Finding:
        known = () if self.list is None else tuple(self.list.match(entry.sha256, opened.hashes))
        found = Finding(
            entry.position, entry.id, entry.name, entry.sha256, entry.size,
            opened, tuple(opinions), (*opened.evidence, *known, *traces),
        )  # fmt: skip
        return replace(found, evidence=(*found.evidence, *conflicts(found)))


def examiner(arguments: Mapping[str, Any], device: str) -> Examiner:
    """The examiner of one device, as the engines make it: {"configuration", "folder", "workers"}, plain JSON."""
    plan = Configuration.read(arguments["configuration"])
    return Examiner(plan, Path(arguments["folder"]), device=device, workers=int(arguments["workers"]))


def finding_in(entry: Entry, told: Mapping[str, Any] | None) -> Finding:
    """The finding of one input: of its content's document, under its own name; of its reason where it has none."""
    if told is None:
        opened = Opened(entry.state, "read", entry.reason)
        return Finding(entry.position, entry.id, entry.name, entry.sha256, entry.size, opened)
    found = finding_of(told)
    said = captions.without_others(found.evidence, entry.caption)
    return replace(found, position=entry.position, id=entry.id, name=entry.name, evidence=said)


# ---------------------------------------------------------------------------------------------- parts


def _opened(desk: _Desk, entry: Entry) -> None:
    try:
        desk.open(entry)
    except UnreadableSample:
        return  # its state is on the desk


def _is(opened: Opened, modality: Modality) -> bool:
    return opened.readable and opened.modality == modality


def _samples(modality: Modality, entries: Sequence[Entry], desk: _Desk) -> ListedSet:
    """The readable files of a batch as a sample set; a sample's id is its position in the manifest."""
    return ListedSet(
        "batch",
        modality,
        tuple(
            Sample(str(e.position), e.sha256, partial(desk.open, e), facts=_facts(desk.opened[e.position]))
            for e in entries
        ),
    )


def _facts(opened: Opened) -> Callable[[], MediaFacts] | None:
    if not opened.facts:
        return None
    body: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in opened.facts.items()}
    return lambda: MediaFacts(**body)


def _opinion(name: str, entry: Mapping[str, Any], row: Mapping[str, Any], clears: bool) -> Opinion:
    """One row of a detector's work as an opinion; the low threshold of a detector that may not clear is 0."""
    low, high = entry["threshold"] if clears else (0.0, entry["threshold"][1])
    reasons = {r["kind"]: r["detail"] for r in row.get("reasons", ()) if r["kind"] != POSITION}
    p_fake = float(row["p_fake"])
    if row.get("in_calibration"):
        reasons["in_calibration"] = "it is in the calibration set: no p-value"
    return Opinion(
        name, entry["digest"], entry["trained_on"], p_fake, float(log_odds(np.array(p_fake))), float(low), float(high),
        row.get("p_calibrated"), row.get("p_value"), reasons,
    )  # fmt: skip


def _marked(name: str, entry: Mapping[str, Any], row: Mapping[str, Any]) -> list[Evidence]:
    """A text watermark's exact p-value as evidence; [] where it is nothing unusual."""
    p, reasons = float(row["watermark_p"]), [r["detail"] for r in row.get("reasons", ())]
    if p > SUGGESTIVE:
        return []
    told = f"the watermark of this key: p = {p:.2g}" + (f" ({'; '.join(reasons)})" if reasons else "")
    facts = {"digest": entry["digest"], **{k: row[k] for k in ("watermark_z", "tokens_scored") if k in row}}
    strength: Strength = "strong" if p <= PRESENT else "hint"
    return [Evidence("watermark", "synthetic", strength, name, told, facts, p)]


def _unscored(name: str, entry: Mapping[str, Any], row: Mapping[str, Any]) -> Evidence:
    why = "; ".join(r["detail"] for r in row.get("reasons", ()))
    return Evidence("likelihood", "unknown", "hint", name, f"could not be scored: {why}", {"digest": entry["digest"]})


def _refusal(judge: Detector, sample: Sample) -> str:
    try:
        judge.prepare(sample.load())
    except UnreadableSample as error:
        return str(error)
    return "the detector could score none of the files examined with it"


def _loaded(part: Mapping[str, Any], device: str) -> Detector:
    place = str(part["place"])
    judge = load_detector(Path(place) if Path(place).is_dir() else place, device=device)
    judge.to(device)
    _same(judge.digest, part)
    return judge


def _same(digest: str, part: Mapping[str, Any]) -> None:
    if digest != part["digest"]:
        raise BadSource(
            f"{part['place']} is {digest[:19]}..., the audit began with {str(part['digest'])[:19]}...; bring back the"
            " one it began with, or begin another audit"
        )


def _frozen(folder: Path, part: Mapping[str, Any]) -> Path:
    """A file of the audit's own folder, unless it was changed since it was frozen."""
    path = folder / str(part["file"])
    if file_digest(path) != part["digest"]:
        raise BadSource(f"{path} was changed since the audit began; begin another audit")
    return path


def _calibrations(plan: Configuration, folder: Path, judges: Sequence[Detector]) -> list[Calibration | None]:
    if plan.calibration is None:
        return [None] * len(judges)
    path = _frozen(folder, plan.calibration)
    modalities = set(plan.calibration["modalities"])
    calibrated = [j for j in judges if j.modality in modalities]
    found = dict(zip(map(id, calibrated), kept(path, calibrated, {}), strict=True))
    for one in found.values():
        if len(set(one.real.scores.tolist())) == 1:
            raise BadRows(f"{one.name} gives all {len(one.real.scores)} calibration reals one score: it knows nothing")
    return [found.get(id(j)) for j in judges]
