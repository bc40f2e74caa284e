"""One detector's work on one set: scores, what they mean against the user's own samples, verdicts, how well it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..calibration import (
    PREVALENCES,
    Calibrated,
    Proportion,
    at_prevalence,
    conformal_p_values,
    log_odds,
    novelty_p_values,
)
from ..errors import BadRows, NothingToEvaluate
from ..laundering import MILD, chain_of
from ..measurement import Bench, Measured, measure, taken
from ..samples._transformed import transformed
from ..types import Detector, Features, Sample
from .operating import Calibration, scores_of
from .scores import Known, as_scores, measure_known
from .verdicts import Judgement, Reason, Seen, judged

MANY = 20
# What some detectors say beside P(fake), by head of their row: a watermark's own p-value is exact and stays apart from
# the conformal one.
TOLD = {"log10_p": "watermark_p", "z": "watermark_z", "tokens": "tokens_scored"}


@dataclass(frozen=True)
class Scored:
    """One detector's rows of the readable samples it could score: `at` are their positions among all readable ones."""

    features: Features
    at: list[int]
    refused: Mapping[int, str]


@dataclass(frozen=True)
class Work:
    """What all detectors share: the readable samples, what they look like, and what is known of them."""

    side: Measured
    looks: Features | None
    labels: list[str | None] | None
    flips: bool
    bench: Bench
    warnings: list[str]
    least_characters: int | None = None

    def judge(
        self, judge: Detector, name: str, calibration: Calibration | None
    ) -> tuple[dict[str, Any], list[Judgement]]:
        """One detector's entry of the document, and its judgement of every readable sample in order."""
        scored = self._scored(judge, name)
        low, high = judge.threshold if calibration is None else calibration.threshold(judge.threshold)
        seen, facts = self._seen(judge, scored, (low, high), calibration)
        judgements: list[Judgement] = [Judgement("uncertain")] * len(self.side.samples)
        rows: list[dict[str, Any]] = [{} for _ in judgements]
        for i, one, fact in zip(scored.at, seen, facts, strict=True):
            judgements[i], rows[i] = judged(one), {"p_fake": one.score, **fact}
        for i, why in scored.refused.items():
            judgements[i] = Judgement("uncertain", (Reason("not_scored", why),))
        expected = None if calibration is None else calibration.plan.prevalence
        known, curves = self._measured(name, scored, (high, expected), judgements, rows)
        entry = {
            "name": name,
            "digest": judge.digest,
            "trained_on": judge.trained_on,
            "threshold": [low, high],
            **({} if calibration is None else {"operating_point": _point(calibration)}),
            "verdicts": counts(judgements),
            "reasons": dict(sorted(Counter(r.kind for j in judgements for r in j.reasons).items())),
            "results": known,
            **({"curves": curves} if curves else {}),
            "samples": [
                {"id": s.id, "sha256": s.digest, **row, **said(j)}
                for s, row, j in zip(self.side.samples, rows, judgements, strict=True)
            ],
        }
        return entry, judgements

    def _scored(self, judge: Detector, name: str) -> Scored:
        found = measure(self.side.samples, [judge], self.bench)
        features = found.features[judge.name]
        if found.samples.digest in judge.trained_on or self.side.samples.digest in judge.trained_on:
            self.warnings.append(f"{name} was trained on these very samples: its scores say nothing of fresh ones")
        scored = {id(s) for s in features.samples}
        at = [i for i, s in enumerate(self.side.samples) if id(s) in scored]
        others = (i for i in range(len(self.side.samples)) if i not in set(at))
        refused = dict(zip(others, (e.reason for e in found.excluded), strict=True))
        if refused:
            self.warnings.append(f"{name} could not score {len(refused)} readable samples; they are uncertain")
        return Scored(features, at, refused)

    def _seen(
        self, judge: Detector, scored: Scored, ends: tuple[float, float], calibration: Calibration | None
    ) -> tuple[list[Seen], list[dict[str, Any]]]:
        """What is known of each scored sample, for its verdict and for the document."""
        scores, samples = scores_of(scored.features), list(scored.features.samples)
        plain = [Seen(float(s), *ends) for s in scores]
        facts: list[dict[str, Any]] = [{} for _ in plain]
        if len(set(scores.tolist())) == 1 and len({s.digest for s in samples}) >= MANY:
            if calibration is not None and set(calibration.real.scores.tolist()) == {scores[0]}:
                raise BadRows(
                    f"{judge.name} gives every sample the score {scores[0]:.3g}, judged or real: it knows nothing"
                )
            plain = [replace(s, constant=calibration is None) for s in plain]
        members = scored.features.heads.get("members")
        if members is not None:
            said = scored.features.rows[:, members].double().tolist()
            plain = [replace(s, members=tuple(m)) for s, m in zip(plain, said, strict=True)]
        for head, word in TOLD.items():
            if (column := scored.features.heads.get(head)) is not None:
                for fact, value in zip(facts, scored.features.rows[:, column].double().flatten().tolist(), strict=True):
                    fact[word] = 10.0**value if head == "log10_p" else value
        if calibration is not None:
            plain = self._against(calibration, judge, scored, plain, facts)
        if judge.modality == "text" and self.looks is not None:
            plain = self._long_enough(judge, scored, plain)
        if self.flips:
            plain = self._again(judge, samples, plain)
        return plain, facts

    def _against(
        self, calibration: Calibration, judge: Detector, scored: Scored, seen: list[Seen], facts: list[dict[str, Any]]
    ) -> list[Seen]:
        """Add what the calibration set says: p-value, probability, size, novelty."""
        assert self.looks is not None
        rows = self.looks.rows[scored.at].double().numpy()
        scores = scores_of(scored.features)
        p_values = conformal_p_values(calibration.real.scores, scores)
        novelty = novelty_p_values(calibration.real.looks[:, 1:], rows[:, 1:])
        own = {*calibration.real.samples, *(calibration.fake.samples if calibration.fake else ())}
        inside = [s.digest in own for s in scored.features.samples]
        if any(inside):
            self.warnings.append(
                f"{sum(inside)} judged samples are in the calibration set: no p-values, and no part in the numbers"
            )
        for i, fact in enumerate(facts):
            fact.update({"in_calibration": True} if inside[i] else {"p_value": float(p_values[i])})
            fact["novelty_p_value"] = float(novelty[i])
        if calibration.map is not None:
            _probabilities(calibration.map(log_odds(scores)), calibration.plan.prevalence, facts)
        crop, least = int(getattr(judge, "smallest_side", 0)), calibration.real.least_size
        whose = "the detector looks at" if crop >= least else "the calibration reals have at least"
        unit = "pixels" if judge.modality == "image" else "characters"
        return [
            replace(s, size=int(row[0]), least_size=max(least, crop), least_of=whose, unit=unit, novelty=float(p))
            for s, row, p in zip(seen, rows, novelty, strict=True)
        ]

    def _long_enough(self, judge: Detector, scored: Scored, seen: list[Seen]) -> list[Seen]:
        """Add the length of each text, and the least its detector decides on where calibration asks for no more."""
        assert self.looks is not None
        asked = self.least_characters
        least = int(getattr(judge, "least_characters", 0)) if asked is None else asked
        sizes = self.looks.rows[scored.at, 0].tolist()
        whose = "the detector decides from" if asked is None else "least_characters is"
        return [
            replace(s, size=int(size), unit="characters", least_size=least, least_of=whose)
            if s.least_size is None or s.least_size < least
            else s
            for s, size in zip(seen, sizes, strict=True)
        ]

    def _again(self, judge: Detector, samples: Sequence[Sample], seen: list[Seen]) -> list[Seen]:
        """Add the scores after each mild re-encoding; an image too small for one has none."""
        again: list[dict[str, float]] = [{} for _ in seen]
        for name in MILD:
            chain = chain_of(name)
            changed = transformed(self.side.samples, chain, chain.recipe)
            own = {id(s): i for i, s in enumerate(samples)}
            back = {id(c): own[id(s)] for c, s in zip(changed, self.side.samples, strict=True) if id(s) in own}
            try:
                features = measure(changed, [judge], self.bench).features[judge.name]
            except NothingToEvaluate as error:
                self.warnings.append(f"no image could be re-encoded to see whether verdicts flip: {error}")
                continue
            for sample, p in zip(features.samples, scores_of(features), strict=True):
                if id(sample) in back:
                    again[back[id(sample)]][name] = float(p)
        return [replace(s, again=found) for s, found in zip(seen, again, strict=True)]

    def _measured(
        self,
        name: str,
        scored: Scored,
        use: tuple[float, float | None],
        judgements: list[Judgement],
        rows: list[dict[str, Any]],
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """How well the detector did on the samples whose truth is known."""
        if self.labels is None:
            return [], {}
        at = {
            word: [k for k, i in enumerate(scored.at) if self.labels[i] == word and "in_calibration" not in rows[i]]
            for word in ("real", "fake")
        }
        scores, (high, expected) = scores_of(scored.features), use
        raw = {word: as_scores([float(scores[k]) for k in found]) for word, found in at.items()}
        even = {
            word: as_scores([rows[scored.at[k]]["p_calibrated"] for k in found])
            if all("p_calibrated" in rows[scored.at[k]] for k in found) and at["real"] and at["fake"]
            else None
            for word, found in at.items()
        }
        verdicts = [(word, judgements[scored.at[k]].verdict) for word, found in at.items() for k in found]
        parts = {word: taken(scored.features.head("p_fake"), found) for word, found in at.items()}
        known = Known(
            name, raw["real"], raw["fake"], even["real"], even["fake"], verdicts, high, (parts["real"], parts["fake"]),
            PREVALENCES if expected is None else (expected,),
        )  # fmt: skip
        curves = measure_known(known, self.warnings)
        return known.results, curves


def _probabilities(moved: Calibrated, prevalence: float | None, facts: list[dict[str, Any]]) -> None:
    """Add P(fake) at even prior odds, its two ends where there are two, and P at the declared prevalence."""
    shown = {"p_calibrated": moved.p_fake, "p_low": moved.low, "p_high": moved.high}
    if prevalence is not None:
        shown["p_at_prevalence"] = at_prevalence(moved.p_fake, prevalence)
    for key, values in shown.items():
        if values is not None:
            for fact, p in zip(facts, values, strict=True):
                fact[key] = float(p)


def _point(calibration: Calibration) -> dict[str, Any]:
    """The threshold, what it promises, and what it was set on, as plain JSON."""
    point, above = calibration.point, calibration.point.above
    found: dict[str, Any] = {
        "fpr": point.fpr,
        "confidence": point.confidence,
        "threshold": point.threshold,
        "rank": point.rank,
        "expected_fpr": point.expected_fpr,
        "attained_confidence": point.attained,
        "realised_fpr": _share(above),
        "real": {"name": calibration.real.name, "n": point.n, "digest": calibration.real.digest},
    }
    if calibration.fake is not None and calibration.caught is not None:
        fake = calibration.fake
        found["fake"] = {"name": fake.name, "n": len(fake.scores), "digest": fake.digest}
        found["method"] = calibration.plan.method
        found["tpr"] = _share(calibration.caught)
        found["ppv"] = calibration.predictive()
        if not found["ppv"]:
            found["ppv_note"] = "not measurable: no calibration sample lies above the threshold"
    if calibration.plan.prevalence is not None:
        found["prevalence"] = calibration.plan.prevalence
    return found


def _share(found: Proportion) -> dict[str, Any]:
    return {
        "value": found.value, "low": found.low, "high": found.high, "level": found.level,
        "interval": "clopper-pearson", "count": found.count, "n": found.n,
    }  # fmt: skip


def said(judgement: Judgement) -> dict[str, Any]:
    reasons = {"reasons": [asdict(r) for r in judgement.reasons]} if judgement.reasons else {}
    return {"verdict": judgement.verdict, **reasons}


def counts(judgements: Sequence[Judgement]) -> dict[str, int]:
    return dict(sorted(Counter(j.verdict for j in judgements).items()))
