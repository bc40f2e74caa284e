"""From what a user asks to a frozen configuration: every part is loaded, calibrated and pinned before a file is opened.

What the audit will need again (the calibration's scores, the hash list, the trust list) is copied into its folder: a
configuration that points at files which others may change would freeze nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import registry
from ..cache import FileDigests, beside
from ..detection import load_detector
from ..errors import (
    BadSetting,
    BadSource,
    Inconclusive,
    ModalityMismatch,
    NothingToEvaluate,
    TooFewSamples,
    UnreadableSample,
    UsageError,
)
from ..isolation import Limits
from ..judging.gathering import Inputs, gathered
from ..judging.operating import Calibration, keep, kept
from ..known import HashList
from ..measurement import Bench
from ..metrics.detection import area_under_roc
from ..records import dumps, write_text
from ..samples import ListedSet, open_samples
from ..sourcing.attributing import load_attributor
from ..types import Detector, Modality
from . import captions
from .configuring import Configuration, file_digest
from .discovering import METHODS

CALIBRATION, HASHES, CAPTIONS, TRUST = "calibration.json", "hashes", "captions.json", "trust.pem"
# Reals that a watermark's null is counted on: beyond them its p-value hardly gets finer for what they cost.
MOST_NULL = 2000


@dataclass(frozen=True)
class Request:
    """What is asked of an audit, as given; `plan` freezes it.

    detectors, attributor: model folders or names of published ones. calibrate, fake: sources of real and fake samples;
    calibration: a kept file instead. hashes: a list of known content. trust: a PEM file of signers to trust, trust_date
    its date. captions: a text-image instrument that holds images against their captions. payloads, rivagan: watermark
    payloads, name -> hex. fdr_method: "bh" or "by". as_of: ISO date-time that
    certificates are held against.
    """

    paths: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    calibrate: tuple[str, ...] = ()
    fake: tuple[str, ...] = ()
    calibration: str | None = None
    fpr: float | None = None
    confidence: float | None = None
    attributor: str | None = None
    hashes: str | None = None
    captions: str | None = None
    trust: str | None = None
    trust_date: str = ""
    payloads: tuple[tuple[str, str], ...] = ()
    rivagan: tuple[tuple[str, str], ...] = ()
    fdr: float = 0.05
    fdr_method: str = "bh"
    watermark_alpha: float = 1e-6
    believe_claims: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    as_of: str = ""

    def __post_init__(self) -> None:
        if self.fdr_method not in METHODS:
            raise BadSetting(f"--fdr-method {self.fdr_method!r}; expected one of {', '.join(METHODS)}")
        if not 0 < self.watermark_alpha < 1:
            raise BadSetting(f"--watermark-alpha {self.watermark_alpha}; expected a p-value between 0 and 1, as 1e-6")
        if self.calibration and (self.calibrate or self.fake):
            raise UsageError("--calibration brings its own reals and fakes; leave --calibrate and --fake away")
        if (self.fake or self.fpr is not None or self.confidence is not None) and not (
            self.calibrate or self.calibration
        ):
            raise UsageError("--fake, --fpr and --confidence belong to a calibration: give --calibrate REAL")
        if (self.calibration or (self.calibrate and not self.captions)) and not self.detectors:
            raise UsageError("a calibration is of detectors: give one or more as --with DETECTOR")

    def asked(self) -> dict[str, Any]:
        """As plain JSON, local places absolute: what a later command on the same folder is compared with."""
        return {
            key: _plain(_absolute(value) if key in _PLACES else value)
            for key, value in asdict(self).items()
            if value not in (None, (), "")
        }


_PLACES = ("paths", "detectors", "calibrate", "fake", "calibration", "attributor", "hashes", "trust")


def _absolute(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_absolute, value))
    return os.path.abspath(value) if os.path.exists(value) else value  # noqa: PTH100, PTH110 (a name stays a name)


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def planned(asked: Request, folder: Path, bench: Bench, warnings: list[str]) -> Configuration:
    """The configuration frozen: detectors loaded, calibrated on the user's samples, lists copied into the folder.

    Raises UsageError and its kin when a part cannot be read or used, Inconclusive when there are too few calibration
    reals for the FPR.
    """
    folder.mkdir(parents=True, exist_ok=True)
    judges = [load_detector(_place(d), device=bench.device) for d in asked.detectors]
    parts = [_part(place, judge) for place, judge in zip(asked.detectors, judges, strict=True)]
    calibration = _calibration(asked, judges, folder, bench, warnings)
    attributor = None
    if asked.attributor is not None:
        found = load_attributor(asked.attributor, bench.device)
        attributor = _part(asked.attributor, found)
    as_of = asked.as_of or datetime.now(UTC).replace(microsecond=0).isoformat()
    return Configuration(
        detectors=tuple(parts),
        attributor=attributor,
        witnesses=_witnesses(asked, folder, as_of, bench, warnings),
        calibration=calibration,
        hash_list=_copied(asked.hashes, folder, HASHES, HashList.read),
        captions=_captions(asked, folder, bench),
        fdr=asked.fdr,
        method=asked.fdr_method,
        watermark_alpha=asked.watermark_alpha,
        believe_claims=asked.believe_claims,
        limits=Limits().as_json(),
        as_of=as_of,
        device=bench.device.partition(":")[0],
        asked=asked.asked(),
    )


def _place(detector: str) -> Path | str:
    return Path(detector) if Path(detector).is_dir() else detector


def _part(place: str, part: Any) -> dict[str, Any]:
    where = os.path.abspath(place) if Path(place).is_dir() else place  # noqa: PTH100
    return {
        "place": where,
        "name": part.name,
        "modality": part.modality,
        "digest": part.digest,
        "trained_on": part.trained_on,
        # Its p-value is exact and stays apart as evidence: it is no part of the batch's false-discovery rate.
        **({"watermark": True} if "log10_p" in part.heads else {}),
    }


def _calibration(
    asked: Request, judges: Sequence[Detector], folder: Path, bench: Bench, warnings: list[str]
) -> dict[str, Any] | None:
    """The calibrations of all detectors that there are samples for, in one file of the folder."""
    given = {k: v for k, v in (("fpr", asked.fpr), ("confidence", asked.confidence)) if v is not None}
    if asked.calibration is not None:
        found = kept(Path(asked.calibration), judges, given)
    else:
        found = []
        for modality in ("image", "text"):
            of_kind = [j for j in judges if j.modality == modality]
            reals, fakes = (_of_kind(sources, modality, bench) for sources in (asked.calibrate, asked.fake))
            if not of_kind or not reals:
                continue
            if len(reals) > 1:
                raise UsageError(f"{len(reals)} calibration sets of {modality}s; give one --calibrate for each kind")
            try:
                # What is audited and stands in the calibration too gets no p-value: see `in_calibration`.
                none = ListedSet("audit", modality, ())
                found += gathered(of_kind, none, reals[0], fakes, given, bench, Inputs(warnings))
            except TooFewSamples as error:
                # `detect` has another word for it.
                said = str(error).replace("--fpr-in-expectation", "--confidence 0")
                raise Inconclusive(said) from error
        if asked.calibrate and judges and not found:
            kinds = ", ".join(sorted({j.modality for j in judges}))
            raise ModalityMismatch(f"--calibrate holds no {kinds} samples, which is what the detectors judge")
    if not found:
        return None
    keep(found, folder / CALIBRATION)
    known = {c.digest for c in found}
    return {
        "file": CALIBRATION,
        "digest": file_digest(folder / CALIBRATION),
        "modalities": sorted({j.modality for j in judges if j.digest in known}),
        **facts_of(found, {j.digest: j.threshold[0] for j in judges}),
    }


def facts_of(found: Sequence[Calibration], own_low: Mapping[str, float]) -> dict[str, Any]:
    """reals: of the smallest calibration set; fakes and misses: of the worst, the share below the low threshold.

    clears: by digest, whether a score below the low threshold may speak for authentic. That takes fakes, because the
    low threshold is set on them, and an AUROC whose 95 % interval lies above one half: below the low threshold of a
    detector that guesses lie as many fakes as reals.
    """
    facts: dict[str, Any] = {"reals": min(len(c.real.scores) for c in found)}
    facts["clears"] = {c.digest: _separates(c) for c in found}
    shares = []
    for c in found:
        if c.fake is not None:
            low, _ = c.threshold((own_low.get(c.digest, 0.0), 1.0))
            shares.append((float((c.fake.scores < low).mean()), len(c.fake.scores)))
    if len(shares) == len(found):
        facts["misses"], facts["fakes"] = max(shares)
    return facts


def _separates(c: Calibration) -> bool:
    if c.fake is None or min(len(c.fake.scores), len(c.real.scores)) < 2:
        return False
    import torch

    area = area_under_roc(torch.from_numpy(c.real.scores), torch.from_numpy(c.fake.scores))
    return area.low is not None and area.low > 0.5


def _of_kind(sources: Sequence[str], modality: Modality, bench: Bench) -> list[Any]:
    """Those of the sources that hold samples of a modality."""
    found = []
    for source in sources:
        try:
            found.append(open_samples(source, digests=FileDigests(bench.cache.root), modality=modality))
        except (ModalityMismatch, NothingToEvaluate):
            continue
    return found


def _copied(place: str | None, folder: Path, name: str, check: Any) -> dict[str, Any] | None:
    """A file of the user's copied into the folder, once it was found readable."""
    if place is None:
        return None
    source = Path(place)
    check(source)
    target = folder / f"{name}{source.suffix.lower() if name != TRUST else ''}"
    try:
        with beside(target) as draft:
            shutil.copyfile(source, draft)
    except OSError as error:
        raise BadSource(f"cannot read {place!r}: {error.strerror or error}") from error
    return {"file": target.name, "digest": file_digest(target), "name": source.name}


def _pem(path: Path) -> None:
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSource(f"cannot read the trust list {str(path)!r}: {error}; expected certificates in PEM") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise BadSource(f"{path} holds no certificate; expected a trust list in PEM")


def _captions(asked: Request, folder: Path, bench: Bench) -> dict[str, Any] | None:
    """What true pairs of image and caption have, in a file of the folder."""
    if asked.captions is None:
        return None
    reals = _of_kind(asked.calibrate, "image", bench)
    write_text(folder / CAPTIONS, dumps(captions.calibrated(asked.captions, reals[0] if reals else None, bench)))
    return {"file": CAPTIONS, "digest": file_digest(folder / CAPTIONS), "instrument": asked.captions}


def _witnesses(
    asked: Request, folder: Path, as_of: str, bench: Bench, warnings: list[str]
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The readers of evidence with their settings, the trust list by its copy and digest."""
    trust = _copied(asked.trust, folder, TRUST, _pem)
    settings: dict[str, Any] = {"at": as_of}
    if trust is not None:
        settings |= {"trust_list": trust["name"], "trust_file": trust["file"], "trust_digest": trust["digest"]}
        settings |= {"trust_date": asked.trust_date} if asked.trust_date else {}
    marks: dict[str, Any] = {"payloads": dict(asked.payloads)} if asked.payloads else {}
    reals = _of_kind(asked.calibrate, "image", bench)
    reader: Any = registry.detectors.get("dwtdct")
    if reals and asked.detectors:
        try:
            marks["null"] = reader.null_of(_pixels(reals[0]), payloads=dict(asked.payloads))
        except BadSetting as error:  # A payload that cannot be is refused when the witness itself is made.
            warnings.append(f"watermarks are read without a null of real files: {error}")
    made: list[tuple[str, Mapping[str, Any]]] = [("provenance", settings), ("dwtdct", marks)]
    if asked.rivagan:
        made.append(("rivagan", {"payloads": dict(asked.rivagan)}))
    for name, given in ready(made, folder):
        registry.detectors.get(name)(**given)  # settings that cannot be are refused here, before a worker is asked
    return tuple(made)


def _pixels(samples: Any) -> Any:
    for sample in list(samples)[:MOST_NULL]:
        try:
            yield sample.load()
        except UnreadableSample:
            continue


def ready(witnesses: Sequence[tuple[str, Mapping[str, Any]]], folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The witnesses' settings as they take them: the trust list's text in the place of its name and digest."""
    made = []
    for name, settings in witnesses:
        given = {k: v for k, v in settings.items() if not k.startswith("trust_")}
        if "trust_file" in settings:
            path = folder / str(settings["trust_file"])
            if file_digest(path) != settings["trust_digest"]:
                raise BadSource(f"{path} was changed since the audit began; begin another audit")
            given["anchors"] = path.read_text("ascii")
            given["anchors_name"] = str(settings["trust_list"])
            given["anchors_date"] = str(settings.get("trust_date", ""))
        made.append((name, given))
    return made
