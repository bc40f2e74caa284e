"""Detectors across generators: fitted on some, tested on each, the ones they never saw above all.

What a detector scores on the generator it was trained on says little about the next one. `cross_matrix` cuts the reals
and every generator's samples in two once (`regimes`), fits every detector on the fitting halves by the rules asked for,
and reads every testing half (`readings`): the same reals and the same fakes in every cell. A published detector, or a
model folder, is fitted on nothing here and has one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..detection import fitted, load_detector, pooled
from ..errors import BadSource, ModalityMismatch
from ..hardware import environment
from ..leakage import leak_auc
from ..measurement import Bench, measure
from ..normalising import normalised
from ..publishing import check_study_outputs, write_study
from ..samples import ListedSet, halves
from ..samples._set import THE_REALS, check_apart, learnt_from
from ..types import Detector, Published, SampleSet, Study
from .cells import GIVEN, Found, Lesson
from .given import REAL, families_of, labelled, opened, unlike_sizes
from .readings import Reading, drawings, read
from .regimes import FEWEST, Cut, Regime, cut, expanded, regimes, without_doubles
from .study import as_study

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_RULES = ("each", "leave-one-out")
ELSEWHERE = Regime(GIVEN, "nothing here", ())


def cross_matrix(
    detectors: Sequence[Path | str],
    *,
    real: Any,
    fakes: Mapping[str, Any],
    rules: Sequence[str] = DEFAULT_RULES,
    families: Mapping[str, str] | None = None,
    normalise: bool = False,
    n: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    outputs: Sequence[Path] = (),
    bench: Bench | None = None,
    command: str = "evalkit matrix",
) -> Study:
    """Every detector fitted on some generators and tested on each: AUROC with interval in every cell, means, gaps.

    detectors: names, or folders of fitted ones. real, fakes: sources as `open_samples` takes them, at least two fakes.
    rules: of `regimes.RULES`, or all-rules. families: generator -> family, for leave-family-out. normalise: every set
    through one plan first. n: at most so many samples of every set, chosen by content and seed.
    Raises BadSetting for names given twice or unknown, UsageError for a name that is a folder here too,
    TooFewSamples below 20 samples of a set, BadSource for sets that share a sample, BadRows for
    a score that is not a finite number; constant scores are a warning.
    """
    bench = bench or Bench()
    check_study_outputs(outputs, out)
    labels = labelled(detectors)
    family = families_of(fakes, families or {})
    chosen = expanded(rules, family)
    versions, excluded = opened(real, fakes, n, seed, bench)
    whole_real, whole_fakes = versions[REAL][-1], {name: versions[name][-1] for name in fakes}
    check_apart(whole_real, whole_fakes)
    leaks = {name: leak_auc(whole_real, samples, seed) for name, samples in whole_fakes.items()}
    words = "as they are stored"
    warnings = [] if normalise else unlike_sizes({REAL: whole_real, **whole_fakes})
    if normalise:
        alike = normalised(whole_real, *whole_fakes.values())
        whole_real, words = alike.real, alike.words
        whole_fakes = dict(zip(whole_fakes, alike.fakes, strict=True))
    real_cut = cut(whole_real, REAL)
    cuts = tuple(cut(samples, name, family[name]) for name, samples in whole_fakes.items())
    # What a detector may have been fitted to elsewhere: a set, what was drawn of it, or a half, normalised or not.
    wholes = {REAL: whole_real, **whole_fakes}
    known = {
        c.name: (*versions[c.name], *halves(versions[c.name][-1]), wholes[c.name], c.fit, c.test)
        for c in (real_cut, *cuts)
    }
    rows, notes = without_doubles(regimes(chosen, cuts))
    if "all-rules" in rules and "leave-family-out" not in chosen:
        notes += ("leave-family-out was left out: it needs two generators of one family (--family NAME=FAMILY).",)
    lessons, scores = _judged(labels, real_cut, cuts, rows, known, seed, bench, warnings)
    readings = _read(lessons, scores, real_cut, cuts, seed, warnings)
    provenance = {"command": command, "seed": str(seed), **{k: str(v) for k, v in environment(bench.device).items()}}
    source = getattr(whole_real, "source", "") or whole_real.name
    found = Found(source, real_cut, cuts, tuple(lessons), readings, leaks, words, tuple(warnings), excluded, notes)
    study = as_study(found, provenance)
    write_study(study, outputs, out)
    return study


# Fitting and scoring --------------------------------------------------------------------------------------------------

Scores = dict[str, dict[str, float]]


def _judged(
    labels: Mapping[str, Path | str],
    real: Cut,
    fakes: Sequence[Cut],
    rows: Sequence[Regime],
    known: Mapping[str, Sequence[SampleSet]],
    seed: int,
    bench: Bench,
    warnings: list[str],
) -> tuple[list[Lesson], list[Scores]]:
    """Every detector fitted by every row that applies to it, and its scores of every testing half: set -> id -> P."""
    lessons, scores = [], []
    for label, given in labels.items():
        is_given = Path(given).is_dir() or isinstance(registry.detectors.get(str(given))(), Published)
        for row in [ELSEWHERE] if is_given else rows:
            if is_given:
                judge = load_detector(given, device=bench.device)
                own = learnt_from(judge.trained_on, known[REAL], {f.name: known[f.name] for f in fakes})
                seen = replace(row, seen=tuple(name for name in own if name != THE_REALS))
                lesson = Lesson(label, seen, judge.digest, judge.trained_on, 0, 0, "", "")
                warnings.append(
                    f"{label} was trained on samples of {', '.join(own)}: its scores there say nothing of fresh ones"
                    if own
                    else f"{label} was trained elsewhere ({judge.trained_on}): whether it saw samples of these tests,"
                    " or their generators, cannot be told here"
                )
            else:
                shown = [f.fit for f in fakes if f.name in row.seen]
                fake = shown[0] if len(shown) == 1 else pooled(shown)
                judge = fitted(str(given), real.fit, fake, seed=seed, bench=bench)
                lesson = Lesson(
                    label, row, judge.digest, judge.trained_on, len(real.fit), len(fake), real.fit.digest, fake.digest
                )
            lessons.append(lesson)
            scores.append(_scores(judge, label, real, fakes, bench))
    return lessons, scores


def _scores(judge: Detector, label: str, real: Cut, fakes: Sequence[Cut], bench: Bench) -> Scores:
    """P(fake) of every testing half by set and sample; all halves in one pass."""
    if judge.modality != real.test.modality:
        raise ModalityMismatch(f"detector {label!r} judges {judge.modality}s; the sets hold {real.test.modality}s")
    cuts = (real, *fakes)
    # Places tell samples apart, ids need not: an archive may hold two of one name.
    listed = tuple(replace(s, id=f"{c.name}/{i}", group=c.name) for c in cuts for i, s in enumerate(c.test))
    every = ListedSet("+".join(c.name for c in cuts), real.test.modality, listed)
    features = measure(every, [judge], bench).features[judge.name].head("p_fake")
    found: Scores = {c.name: {} for c in cuts}
    for sample, p in zip(features.samples, features.rows[:, 0].tolist(), strict=True):
        found[str(sample.group)][sample.id] = p
    return found


def _read(
    lessons: Sequence[Lesson],
    scores: Sequence[Scores],
    real: Cut,
    fakes: Sequence[Cut],
    seed: int,
    warnings: list[str],
) -> dict[tuple[int, str], Reading]:
    """(number of the lesson, generator) -> readings, all on the samples that every detector could read."""
    import torch

    ids = {c.name: _common(c, lessons, scores, warnings) for c in (real, *fakes)}
    draws = drawings({name: len(keep) for name, keep in ids.items()}, seed)
    found: dict[tuple[int, str], Reading] = {}
    for i, (lesson, by_set) in enumerate(zip(lessons, scores, strict=True)):
        of: dict[str, Tensor] = {
            name: torch.tensor([by_set[name][key] for key in keep]).double() for name, keep in ids.items()
        }
        constant = []
        for c in fakes:
            found[i, c.name] = read(of[REAL], of[c.name], draws[REAL], draws[c.name])
            constant += [c.name] if found[i, c.name].is_constant else []
        if constant:
            warnings.append(
                f"{lesson.detector} ({lesson.regime.label}) gives every real sample and every sample of"
                f" {', '.join(constant)} one and the same score: its AUROC of 0.5 says that it learnt nothing"
            )
    return found


def _common(one: Cut, lessons: Sequence[Lesson], scores: Sequence[Scores], warnings: list[str]) -> list[str]:
    """The testing samples that every detector could read; those that one could not are said."""
    keep = [f"{one.name}/{i}" for i in range(len(one.test))]
    for lesson, by_set in zip(lessons, scores, strict=True):
        left = [key for key in keep if key in by_set[one.name]]
        if len(left) < len(keep):
            warnings.append(
                f"{lesson.detector} cannot read {len(keep) - len(left)} of the {len(keep)} test samples of"
                f" {one.name}: they are left out for every detector, so that all are compared on the same samples"
            )
        if len(left) < FEWEST // 2:
            raise BadSource(
                f"{lesson.detector} can read {len(left)} of the {len(keep)} test samples of {one.name}, fewer than"
                f" {FEWEST // 2}; leave the detector out or give other samples"
            )
        keep = left
    return keep
