"""Fitted detectors on samples whose truth may be known: a score and a verdict a sample, and how well they did."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import registry
from .cache import FileDigests
from .detection import load_detector
from .errors import BadSetting, BadSource, UsageError
from .hardware import environment
from .measurement import Bench, Measured, measure
from .records import dumps, write_text
from .samples import open_samples, select
from .types import Detector, Estimate, Features

SCHEMA = "evalkit.detect/1"
MEASURES = ("auroc", "average_precision", "eer", "tpr_at_fpr")
LABELS = {
    "real": "real",
    "human": "real",
    "authentic": "real",
    "0": "real",
    "fake": "fake",
    "synthetic": "fake",
    "1": "fake",
}
CALIBRATION_BINS = 10


def detect(
    source: Any,
    detectors: Sequence[Path | str],
    *,
    truth: str | None = None,
    outputs: Sequence[Path] = (),
    bench: Bench | None = None,
) -> dict[str, Any]:
    """P(fake) and verdict of every sample under every fitted detector (model folders), and, where `truth` is known,
    AUROC, AP, EER, TPR at FPR, expected calibration error.

    truth: "real", "fake", or a .csv with columns id and label (real / fake).
    Raises UsageError when a detector folder or the truth cannot be read; unreadable samples are listed.
    """
    bench = bench or Bench()
    for file in outputs:
        if file.suffix not in (".json", ".csv"):
            raise BadSetting(f"-o {file}: expected .json or .csv")
    judges = [load_detector(Path(folder)) for folder in detectors]
    samples = open_samples(source, digests=FileDigests(bench.cache.root), modality=judges[0].modality)
    side = measure(samples, [], bench)
    labels = None if truth is None else _labels(truth, side)
    warnings: list[str] = []
    known = 0 if labels is None else sum(label is not None for label in labels)
    if labels is not None and known < len(labels):
        warnings.append(f"the truth is known of {known} of {len(labels)} samples; the numbers are of those")
    judged = [_judged(judge, side, labels, bench, warnings) for judge in judges]
    document = {
        "schema": SCHEMA,
        "source": {
            "name": samples.name,
            "modality": samples.modality,
            "n": len(side.samples),
            "digest": samples.digest,
        },
        "detectors": judged,
        "excluded": [{"id": e.id, "reason": e.reason} for e in side.excluded],
        "environment": environment(bench.device),
        "warnings": warnings,
    }
    for file in outputs:
        write_text(file, dumps(document) if file.suffix == ".json" else _as_csv(judged))
    return document


def _judged(
    judge: Detector, side: Measured, labels: list[str | None] | None, bench: Bench, warnings: list[str]
) -> dict[str, Any]:
    features = measure(side.samples, [judge], bench).features[judge.name]
    low, high = judge.threshold
    scores = [float(p) for p in features.rows[:, 0]]
    verdicts = ["synthetic" if p > high else "authentic" if p < low else "uncertain" for p in scores]
    return {
        "name": judge.name,
        "digest": judge.digest,
        "trained_on": judge.trained_on,
        "threshold": [low, high],
        "verdicts": dict(sorted(Counter(verdicts).items())),
        "results": [] if labels is None else _results(judge.name, features, labels, warnings),
        "samples": [
            {"id": s.id, "sha256": s.digest, "p_fake": p, "verdict": v}
            for s, p, v in zip(side.samples, scores, verdicts, strict=True)
        ],
    }


def _results(name: str, features: Features, labels: list[str | None], warnings: list[str]) -> list[dict[str, Any]]:
    """How well one detector did; what cannot be said of one class alone is a warning."""
    at = {word: [i for i, label in enumerate(labels) if label == word] for word in ("real", "fake")}
    if min(len(at["real"]), len(at["fake"])) < 2:
        counts = f"{len(at['real'])} samples known to be real and {len(at['fake'])} known to be fake"
        warnings.append(f"{name}: {counts}, so no AUROC, AP, EER or TPR at FPR")
        return []
    real, fake = (
        Features(features.rows[at[word]], features.extractor, select(features.samples, at[word]))
        for word in ("real", "fake")
    )
    found: list[dict[str, Any]] = []
    n = {"real": len(real), "fake": len(fake)}
    for measure_name in MEASURES:
        value = registry.metrics.get(measure_name).fn(real, fake)
        assert isinstance(value, Estimate)
        ends = {"low": value.low, "high": value.high, "level": value.level, "interval": value.method}
        found.append({"name": f"{measure_name}@{name}", "value": value.value, **ends, "n": n})
    # No interval: binned calibration error is biased by its bins, and an interval around it would hide that.
    found.append({"name": f"ece@{name}", "value": _calibration_error(real, fake), "n": n})
    return found


def _calibration_error(real: Features, fake: Features) -> float:
    """Expected calibration error in [0, 1]: 10 equal-width bins of P(fake), each class weighing one half."""
    import torch

    scores = torch.cat([real.rows[:, 0], fake.rows[:, 0]]).double()
    truth = torch.cat([torch.zeros(len(real)), torch.ones(len(fake))]).double()
    weight = torch.cat([torch.full((len(real),), 0.5 / len(real)), torch.full((len(fake),), 0.5 / len(fake))]).double()
    bins = (scores * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)
    total = 0.0
    for b in range(CALIBRATION_BINS):
        inside = weight * (bins == b)
        total += abs(float((inside * (scores - truth)).sum()))
    return total


def _labels(truth: str, side: Measured) -> list[str | None]:
    if truth in ("real", "fake"):
        return [truth] * len(side.samples)
    path = Path(truth)
    if not path.is_file():
        raise UsageError(f"--truth {truth!r}; expected real, fake, or a .csv file with columns id and label")
    try:
        rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
        wrong = next((row for row in rows if row["label"].strip().lower() not in LABELS), None)
        if wrong is not None:
            raise BadSource(f"truth file {truth!r}: label {wrong['label']!r} of {wrong['id']!r}; expected real or fake")
        known = {row["id"]: LABELS[row["label"].strip().lower()] for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadSource(f"cannot read truth file {truth!r}: {error}") from error
    except KeyError as error:
        raise BadSource(f"truth file {truth!r} has no column {error}; expected id and label") from error
    labels = [known.get(s.id) for s in side.samples]
    if not any(labels):
        raise BadSource(
            f"truth file {truth!r} names none of the {len(labels)} samples, such as {next(iter(side.samples)).id!r}"
        )
    return labels


def _as_csv(judged: Sequence[dict[str, Any]]) -> str:
    """One line a sample and detector; a text that a spreadsheet would take for a formula gets a leading apostrophe."""
    lines = [["detector", "id", "sha256", "p_fake", "verdict"]]
    for judge in judged:
        for s in judge["samples"]:
            safe = f"'{s['id']}" if s["id"].startswith(("=", "+", "-", "@", "\t", "\r")) else s["id"]
            lines.append([judge["name"], safe, s["sha256"], repr(s["p_fake"]), s["verdict"]])
    return "\n".join(",".join(_quoted(cell) for cell in line) for line in lines) + "\n"


def _quoted(cell: str) -> str:
    needs = any(c in cell for c in ',"\r\n')
    return '"' + cell.replace('"', '""') + '"' if needs else cell
