"""Detectors on samples whose truth may be known: a score, a probability, a p-value and a verdict a sample.

Calibrated on the user's own reals (and fakes), a detector gets its threshold from them, and every sample a conformal
p-value against them; without, it keeps the thresholds it came with. What speaks against a verdict turns it to uncertain
(`verdicts`); no sample is dropped: one that a detector cannot score is uncertain with the reason.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import registry
from ..cache import FileDigests
from ..detection import load_detector, modality_of
from ..errors import BadSetting, Inconclusive, TooFewSamples, UsageError
from ..hardware import environment
from ..maps.deleting import explain as explained
from ..maps.deleting import over_all
from ..measurement import Bench, measure
from ..records import dumps, write_text
from ..samples import open_samples
from ..shortcuts.beside import cleaned_samples, shortcut_of
from ..thumbnails import thumbnail
from ..types import Detector, Picture, SampleSet
from .appearance import Appearance
from .gathering import Inputs, gathered
from .operating import Plan, keep, kept
from .study import study_of
from .truths import labels_of
from .verdicts import Judgement, combined
from .work import Work, counts, said

SCHEMA = "evalkit.detect/1"
SUFFIXES = (".json", ".csv", ".md", ".html")
EXPLAINED = 6
SHOWN = 12


def detect(
    source: Any,
    detectors: Sequence[Path | str],
    *,
    truth: str | None = None,
    calibrate: Any = None,
    fake: Sequence[Any] = (),
    calibration: Path | None = None,
    keep_calibration: Path | None = None,
    fpr: float | None = None,
    confidence: float | None = None,
    method: str | None = None,
    prevalence: float | None = None,
    flips: bool = False,
    least_characters: int | None = None,
    explain: Path | None = None,
    clean: bool = False,
    outputs: Sequence[Path] = (),
    bench: Bench | None = None,
    command: str = "",
) -> dict[str, Any]:
    """P(fake) and verdict of every sample under every detector: model folders, or names of published ones.

    truth: "real", "fake", or a .csv with columns id and label: adds AUROC, AP, EER, rates, calibration and risk.
    calibrate, fake: real and fake samples of the user's that set the threshold for an FPR of `fpr` (default 0.01) with
    `confidence` (default 0.95; 0: on average), and the map to probabilities; calibration: a file that keep_calibration
    wrote, instead. prevalence: the share of fakes expected. flips: judge four mild re-encodings too.
    least_characters: texts with fewer are uncertain, in place of what each detector of texts asks for; 0: none is.
    explain: a folder for maps of the six images that each detector finds most fake, each with its deletion test.
    clean: judge texts cleaned as `evalkit audit-data` does, which needs the truth of both sides.
    Where over 1 % of SOURCE, calibrate or fake is unreadable the document says so under `inconclusive` and in warnings.
    Raises UsageError when something given cannot be read or used, Inconclusive when the calibration reals are too few
    for the FPR, BadRows when a detector gives every sample the same score; unreadable samples are listed.
    """
    bench = bench or Bench()
    for file in outputs:
        if file.suffix not in SUFFIXES:
            raise BadSetting(f"-o {file}: expected {' '.join(SUFFIXES)}")
    asked = {"fpr": fpr, "confidence": confidence, "method": method, "prevalence": prevalence}
    given = {key: value for key, value in asked.items() if value is not None}
    _sensible(calibrate, fake, calibration, keep_calibration, given)
    # The samples first: whose names are hinted at, and who is refused before weights are fetched, depends on them.
    samples = open_samples(source, digests=FileDigests(bench.cache.root), modality=modality_of(detectors[0]))
    judges = [load_detector(folder, device=bench.device, modality=samples.modality) for folder in detectors]
    warnings: list[str] = []
    inputs = Inputs(warnings)
    if clean:
        samples, left = cleaned_samples(samples, [None] * len(samples) if truth is None else labels_of(truth, samples))
        warnings.append(left)
    try:
        if calibration is not None:
            found = kept(calibration, judges, given)
        else:
            found = [] if calibrate is None else gathered(judges, samples, calibrate, fake, given, bench, inputs)
    except TooFewSamples as error:
        raise Inconclusive(str(error)) from error
    if keep_calibration is not None:
        keep(found, keep_calibration)
    looks = Appearance(samples.modality)
    if least_characters is not None and (samples.modality != "text" or least_characters < 0):
        raise BadSetting(f"least_characters = {least_characters}; expected a whole number from 0 on, for texts")
    # How long a text is counts for its verdict with and without a calibration.
    looked = bool(found) or samples.modality == "text"
    side = measure(samples, [looks] if looked else [], bench)
    inputs.count("SOURCE", samples.name, len(side.excluded), len(samples))
    labels = None if truth is None else labels_of(truth, side.samples)
    known = 0 if labels is None else sum(label is not None for label in labels)
    if labels is not None and known < len(labels):
        warnings.append(f"the truth is known of {known} of {len(labels)} samples; the numbers are of those")
    seen = side.features[looks.name] if looked else None
    shortcut = None if labels is None else shortcut_of(side.samples, labels)
    work = Work(side, seen, labels, flips, bench, warnings, least_characters)
    names = _names(judges)
    every = [
        work.judge(judge, name, found[i] if found else None)
        for i, (judge, name) in enumerate(zip(judges, names, strict=True))
    ]
    if explain is not None:
        for (entry, _), judge in zip(every, judges, strict=True):
            entry["maps"] = _maps(judge, entry, side.samples, explain, bench)
    inconclusive = inputs.inconclusive()
    document = {
        "schema": SCHEMA,
        "source": {
            "name": samples.name,
            "modality": samples.modality,
            "n": len(side.samples),
            "digest": samples.digest,
        },
        **({} if shortcut is None else {"shortcut": shortcut}),
        "detectors": [entry for entry, _ in every],
        **(_together(names, [judgements for _, judgements in every], side.samples) if len(judges) > 1 else {}),
        "excluded": [{"id": e.id, "reason": e.reason} for e in side.excluded],
        "environment": environment(bench.device),
        **({"inconclusive": inconclusive} if inconclusive else {}),
        "warnings": [*(f"{why}: do not act on it" for why in inconclusive), *warnings],
    }
    pictures = _pictures(document, side.samples) if any(f.suffix == ".html" for f in outputs) else {}
    for file in outputs:
        write_text(file, _rendered(document, file.suffix, command, explain, pictures))
    return document


def _sensible(
    calibrate: Any, fake: Sequence[Any], calibration: Path | None, kept_at: Path | None, given: Mapping[str, Any]
) -> None:
    """Refuse what was asked for and would not be done."""
    if calibrate is not None and calibration is not None:
        raise UsageError("--calibrate and --calibration were given; take samples or a kept file, not both")
    if calibrate is None and calibration is None:
        idle = next(
            (option for option, value in {"--fake": fake, "--keep-calibration": kept_at, **given}.items() if value),
            None,
        )
        if idle is not None:
            raise UsageError(f"{idle if idle.startswith('--') else '--' + idle} needs --calibrate REAL")
    if calibration is not None and (fake or kept_at):
        raise UsageError(
            "--calibration brings its own fakes and is kept already; --fake and --keep-calibration go with --calibrate"
        )
    if calibrate is not None and not fake and {"method", "prevalence"} & set(given):
        raise UsageError("a map to probabilities is learnt from both sides: give --fake SOURCE beside --calibrate REAL")
    Plan(**given)


def _names(judges: Sequence[Detector]) -> list[str]:
    """Each detector's name, numbered where several share one."""
    seen: Counter[str] = Counter()
    names = []
    for judge in judges:
        seen[judge.name] += 1
        names.append(judge.name if seen[judge.name] == 1 else f"{judge.name}#{seen[judge.name]}")
    return names


def _together(names: Sequence[str], every: Sequence[Sequence[Judgement]], samples: SampleSet) -> dict[str, Any]:
    """One verdict a sample of all detectors."""
    joined = [combined(dict(zip(names, of_one, strict=True))) for of_one in zip(*every, strict=True)]
    rows = [{"id": s.id, "sha256": s.digest, **said(j)} for s, j in zip(samples, joined, strict=True)]
    return {"combined": {"rule": "all detectors agree", "verdicts": counts(joined), "samples": rows}}


def _maps(judge: Detector, entry: Mapping[str, Any], samples: SampleSet, folder: Path, bench: Bench) -> dict[str, Any]:
    """Maps of the images this detector finds most fake, and what the deletion test says over all of them."""
    maps = explained(judge, samples, _ranked(entry)[:EXPLAINED], folder, seed=0, bench=bench)
    return {"samples": maps, **({"over_all": over_all(maps)} if len(maps) > 1 else {})}


def _ranked(entry: Mapping[str, Any]) -> list[int]:
    """Positions of the scored samples, the highest P(fake) first, equal ones in order."""
    scored = [(row["p_fake"], i) for i, row in enumerate(entry["samples"]) if "p_fake" in row]
    return [i for _, i in sorted(scored, key=lambda one: (-one[0], one[1]))]


def _pictures(document: Mapping[str, Any], samples: SampleSet) -> dict[str, tuple[Picture, ...]]:
    """Thumbnails of the images with the highest P(fake) under each detector, by its name; none of texts."""
    if samples.modality != "image":
        return {}
    listed, found = tuple(samples), {}
    for entry in document["detectors"]:
        shown = []
        for i in _ranked(entry)[:SHOWN]:
            row, pixels = entry["samples"][i], listed[i].load()
            assert not isinstance(pixels, str)
            shown.append(thumbnail(pixels, f"{row['id']}: P(fake) {row['p_fake']:.3g}, {row['verdict']}"))
        found[entry["name"]] = tuple(shown)
    return found


def _rendered(
    document: Mapping[str, Any],
    suffix: str,
    command: str,
    maps: Path | None,
    pictures: Mapping[str, tuple[Picture, ...]],
) -> str:
    if suffix == ".json":
        return dumps(document)
    if suffix == ".csv":
        return as_csv(document)
    report = registry.reports.get({".md": "study_markdown", ".html": "study_html"}[suffix])
    return str(report(study_of(document, command, maps, pictures if suffix == ".html" else {})))


COLUMNS = (
    "detector", "id", "sha256", "p_fake", "verdict", "p_calibrated", "p_low", "p_high", "p_at_prevalence", "p_value",
    "novelty_p_value", "reasons",
)  # fmt: skip


def as_csv(document: Mapping[str, Any]) -> str:
    """One line a sample and detector; a text that a spreadsheet would take for a formula gets a leading apostrophe."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(COLUMNS)
    together = [{"name": "combined", **document["combined"]}] if "combined" in document else []
    for judge in [*document["detectors"], *together]:
        for s in judge["samples"]:
            row = {**s, "detector": judge["name"], "id": _safe(s["id"])}
            row["reasons"] = "; ".join(r["kind"] for r in s.get("reasons", ()))
            lines.writerow([repr(v) if isinstance(v := row.get(c, ""), float) else v for c in COLUMNS])
    return out.getvalue()


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
