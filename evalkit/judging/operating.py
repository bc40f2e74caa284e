"""A detector put to work on the user's own samples: what it was calibrated on, and the thresholds that follow.

The evidence is kept, not the conclusion: a calibration file holds the scores of every calibration sample with the
sample's digest, and thresholds, maps and p-values are worked out of them each time. So a file can be read again at
another FPR, and no number in it can contradict another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..calibration import (
    LEVEL,
    METHODS,
    PREVALENCES,
    Array,
    Map,
    OperatingPoint,
    Proportion,
    enough_reals,
    fitted_map,
    log_odds,
    low_threshold,
    operating_point,
    predictive_interval,
    predictive_value,
    proportion,
)
from ..errors import BadRecord, BadSetting, BadSource
from ..records import dumps, write_text
from ..types import Detector, Features

SCHEMA = "evalkit.calibration/1"
MISSES = 0.05
# Each rate's interval at 97.5 %, so that both hold at once in at least 95 % of cases.
JOINT = 1 - (1 - LEVEL) / 2


@dataclass(frozen=True)
class Plan:
    """What is asked of a calibration; None leaves it to the file or the default."""

    fpr: float = 0.01
    confidence: float = LEVEL
    method: str = "venn_abers"
    prevalence: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fpr < 1:
            raise BadSetting(f"--fpr {self.fpr}; it must lie between 0 and 1")
        if self.method not in METHODS:
            raise BadSetting(f"--method {self.method!r}; expected one of {', '.join(METHODS)}")
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise BadSetting(f"--prevalence {self.prevalence}; expected a share of fakes between 0 and 1")


@dataclass(frozen=True)
class Side:
    """One detector's scores of one calibration set: P(fake) [N], what the samples look like [N, D], their digests."""

    name: str
    digest: str
    scores: Array
    looks: Array
    samples: tuple[str, ...]

    @property
    def least_size(self) -> int:
        """The smallest size among the samples: pixels of the smaller side, or characters."""
        return int(self.looks[:, 0].min())


@dataclass(frozen=True)
class Calibration:
    """Everything known of one detector on the user's reals, and on fakes where there are some."""

    name: str
    digest: str
    real: Side
    fake: Side | None
    plan: Plan

    @cached_property
    def point(self) -> OperatingPoint:
        return operating_point(self.real.scores, self.plan.fpr, self.plan.confidence)

    @cached_property
    def map(self) -> Map | None:
        """From log-odds to P(fake) at even prior odds; None without fakes."""
        if self.fake is None:
            return None
        return fitted_map(self.plan.method, log_odds(self.real.scores), log_odds(self.fake.scores))

    @cached_property
    def caught(self) -> Proportion | None:
        """The calibration fakes above the threshold: of other fakes it says nothing."""
        return None if self.fake is None else self._above(LEVEL)

    def _above(self, level: float) -> Proportion:
        assert self.fake is not None
        scores = self.fake.scores
        return proportion(int((scores > self.point.threshold).sum()), len(scores), level)

    def threshold(self, own: tuple[float, float]) -> tuple[float, float]:
        """(low, high): high keeps the FPR; below low lie at most 5 % of the fakes, or the detector's own low bound.

        Never low above high: what is flagged stays flagged.
        """
        low = own[0] if self.fake is None else low_threshold(self.fake.scores, MISSES)
        return min(low, self.point.threshold), self.point.threshold

    def predictive(self) -> list[dict[str, Any]]:
        """PPV of the calibration fakes at the declared prevalence, or at three where none was declared.

        Empty without fakes, and where nothing at all lies above the threshold: of no flags no share is a fake's.
        """
        if self.caught is None or not self.caught.count + self.point.above.count:
            return []
        alarms = proportion(self.point.above.count, self.point.n, JOINT)
        caught = self._above(JOINT)
        rows = []
        for prevalence in PREVALENCES if self.plan.prevalence is None else (self.plan.prevalence,):
            # The rank's mean, not the observed share: no alarm among n reals is no rate of zero.
            value = predictive_value(caught.value, self.point.expected_fpr, prevalence)
            low, high = predictive_interval(caught, alarms, prevalence)
            ends = {"low": min(low, value), "high": max(high, value), "level": LEVEL}
            rows.append({"prevalence": prevalence, "value": value, **ends})
        return rows


def scores_of(features: Features) -> Array:
    """P(fake) [N], float64."""
    return np.asarray(features.head("p_fake").rows[:, 0].double().cpu().numpy())


# ---------------------------------------------------------------------------------------------- kept


def keep(calibrations: Sequence[Calibration], path: Path) -> None:
    """Write a calibration file, whole or not at all."""
    body = [
        {
            "name": c.name,
            "digest": c.digest,
            "plan": {k: v for k, v in asdict(c.plan).items() if v is not None},
            "real": _plain(c.real),
            **({} if c.fake is None else {"fake": _plain(c.fake)}),
        }
        for c in calibrations
    ]
    write_text(path, dumps({"schema": SCHEMA, "detectors": body}))


def _plain(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "digest": side.digest,
        "n": len(side.scores),
        "scores": side.scores.tolist(),
        "looks": side.looks.tolist(),
        "samples": list(side.samples),
    }


def kept(path: Path, judges: Sequence[Detector], given: Mapping[str, Any]) -> list[Calibration]:
    """The calibrations of these detectors from a file, with what is `given` of a plan over what the file says.

    Raises BadSource when the file cannot be read, BadRecord when it is none or holds no calibration of a detector.
    """
    try:
        body = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadSource(f"cannot read calibration file {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise BadRecord(f"{path} is not JSON; expected a file that --keep-calibration wrote") from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise BadRecord(f"{path} is not a calibration ({SCHEMA}); expected a file that --keep-calibration wrote")
    try:
        entries = {e["digest"]: e for e in body["detectors"]}
        missing = next((j for j in judges if j.digest not in entries), None)
        if missing is not None:
            names = ", ".join(sorted(e["name"] for e in entries.values()))
            raise BadRecord(f"{path} holds no calibration of this {missing.name}, but of {names}; calibrate it again")
        return [_entry(entries[j.digest], given) for j in judges]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadRecord(f"{path} is a damaged calibration: {type(error).__name__} {error}; calibrate again") from error


def _entry(entry: Mapping[str, Any], given: Mapping[str, Any]) -> Calibration:
    plan = Plan(**{**entry["plan"], **given})
    fake = _read(entry["fake"]) if "fake" in entry else None
    found = Calibration(str(entry["name"]), str(entry["digest"]), _read(entry["real"]), fake, plan)
    enough_reals(len(found.real.scores), plan.fpr, plan.confidence)
    return found


def _read(side: Mapping[str, Any]) -> Side:
    scores, looks = (np.asarray(side[key], dtype=np.float64) for key in ("scores", "looks"))
    samples = tuple(str(s) for s in side["samples"])
    if not (scores.ndim == 1 and looks.ndim == 2 and len(scores) == len(looks) == len(samples) == side["n"] > 0):
        raise ValueError("its scores, looks and samples are not of one length")
    log_odds(scores)
    if not np.isfinite(looks).all():
        raise ValueError("its looks are not finite")
    return Side(str(side["name"]), str(side["digest"]), scores, looks, samples)
