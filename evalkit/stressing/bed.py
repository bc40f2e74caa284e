"""Detectors under stress: one threshold fixed on clean reals, then everything measured again behind a change.

A suite (`stress_suites`) is given a `Bed` and gives back a `Part` of the study. Here are the bed, the scores, and the
numbers that all suites share: AUROC (DeLong), shares flagged at the clean threshold (Clopper-Pearson, the threshold
held fixed) and their change against clean on the same samples (paired bootstrap: real and fake samples are redrawn,
each with its score before and after).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from ..attacking import ATTACKS, TextAttack
from ..errors import BadSetting, ModalityMismatch, NothingToEvaluate, TooFewSamples
from ..laundering import CHAINS, Chain
from ..measurement import Bench, measure
from ..samples import ListedSet, select
from ..samples._set import check_apart, learnt_from
from ..samples._transformed import transformed
from ..types import Detector, Estimate, Excluded, Exhibit, SampleSet

if TYPE_CHECKING:
    from torch import Tensor

FEWEST = 20  # samples a side
Scores = Mapping[str, float]  # P(fake) by sample id
Link = Chain | TextAttack  # what images, what texts go through


@dataclass(frozen=True)
class Bed:
    """What a suite works on: fitted detectors by label, the reals, the fakes by name, and what holds for all of them.

    thresholds: of each detector the score above which at most `fpr` of the clean reals lie. clean: (detector, set) ->
    scores of the untouched samples, the reals under the name "".
    """

    detectors: Mapping[str, Detector]
    real: ListedSet
    fakes: Mapping[str, ListedSet]
    fpr: float
    thresholds: Mapping[str, float]
    clean: Mapping[tuple[str, str], Scores]
    bench: Bench
    chains: tuple[Link, ...] = tuple(CHAINS.values())
    released: Mapping[str, date] = field(default_factory=dict)
    seed: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def sets(self) -> dict[str, ListedSet]:
        """The reals under the name "", then the fakes."""
        return {"": self.real, **self.fakes}

    def clean_pair(self, label: str, names: Sequence[str] | None = None) -> Pair:
        """The untouched scores of one detector: reals, and the fakes of these names together (all by default)."""
        return _pair({name: self.clean[label, name] for name in self.sets}, names)

    def changed_pairs(self, label: str, chain: Link) -> Changed:
        """The same samples behind a chain, both sides, under one detector."""
        scores, gone = {}, []
        for name, samples in self.sets.items():
            behind = transformed(samples, chain, chain.recipe, seed=self.seed, modality=samples.modality)
            try:
                scores[name], excluded = scored(self.detectors[label], behind, self.bench)
            except NothingToEvaluate as error:
                return Changed({}, f"{samples.name}: {error}", ())
            # What could not be read untouched is among the excluded, and not the chain's doing.
            known = self.clean[label, name]
            if lost := [out for out in excluded if out.id in known]:
                gone.append(f"{len(lost)} of {len(known)} of {samples.name} ({_reasons(lost)})")
        return Changed(scores, "", tuple(gone))


@dataclass(frozen=True)
class Pair:
    """Scores of real and of fake samples, each by an id that is the same before and after a change."""

    real: Scores
    fake: Scores


@dataclass(frozen=True)
class Changed:
    """Scores by set behind a change, or why there are none; `gone` says in words what could not be read any more."""

    scores: Mapping[str, Scores]
    why: str
    gone: tuple[str, ...]

    def pair(self, names: Sequence[str] | None = None) -> Pair:
        """Reals, and the fakes of these names together (all by default)."""
        return _pair(self.scores, names)


@dataclass(frozen=True)
class Part:
    """What one suite found: sentences, exhibits, the same as plain JSON, and what went wrong on the way."""

    findings: tuple[str, ...]
    exhibits: tuple[Exhibit, ...]
    data: Any
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """A detector at work on one pair of sides; changes are against clean, None where this is clean."""

    auroc: Estimate
    tpr: Estimate
    fpr: Estimate
    n_real: int
    n_fake: int
    auroc_change: Estimate | None = None
    tpr_change: Estimate | None = None
    fpr_change: Estimate | None = None


def made_bed(
    detectors: Mapping[str, Detector],
    real: SampleSet,
    fakes: Mapping[str, SampleSet],
    *,
    fpr: float,
    bench: Bench,
    chains: tuple[Link, ...] = (),
    released: Mapping[str, date] | None = None,
    n: int | None = None,
    seed: int = 0,
) -> tuple[Bed, tuple[tuple[str, Excluded], ...]]:
    """The bed with clean scores and thresholds, and what could not be read; of each side at most n samples.

    chains: all of the modality by default. Raises BadSetting, ModalityMismatch for two modalities, BadSource for sets
    that share a sample, TooFewSamples where a side has fewer than 20 samples or the reals are too few for a threshold
    at this fpr (1 / fpr are needed).
    """
    if not 0 < fpr < 1:
        raise BadSetting(f"fpr is {fpr}; it must lie between 0 and 1")
    given = {"": real, **fakes}
    if not fakes or not detectors:
        raise BadSetting("stress needs at least one detector and one fake set")
    parts: list[SampleSet | Detector] = [*fakes.values(), *detectors.values()]
    for one in parts:
        if one.modality != real.modality:
            told = f"{one.name!r} is of {one.modality}s, the reals {real.name!r} of {real.modality}s"
            raise ModalityMismatch(f"{told}; give sets and detectors of one kind")
    sets = {name: _distinct(_drawn(samples, n, seed)) for name, samples in given.items()}
    clean: dict[tuple[str, str], Scores] = {}
    excluded: dict[tuple[str, str], tuple[str, Excluded]] = {}
    for label, detector in detectors.items():
        for name, samples in sets.items():
            clean[label, name], gone = scored(detector, samples, bench)
            excluded |= {(name, out.id): (name or samples.name, out) for out in gone}
            if len(clean[label, name]) < FEWEST:
                found = len(clean[label, name])
                raise TooFewSamples(f"{samples.name!r} has {found} samples that {label} can read; give {FEWEST}")
    # Of what can be read: two broken files, both empty, are no sample in common.
    read = {
        k: select(v, [i for i, s in enumerate(v) if any(s.id in clean[d, k] for d in detectors)])
        for k, v in sets.items()
    }
    check_apart(read[""], {name: samples for name, samples in read.items() if name})
    thresholds = {label: threshold_at(list(clean[label, ""].values()), fpr) for label in detectors}
    listed = {name: samples for name, samples in sets.items() if name}
    links = chains or tuple(CHAINS.values() if real.modality == "image" else ATTACKS.values())
    warnings = _knowing(detectors, given, sets, clean)
    dates = dict(released or {})
    bed = Bed(dict(detectors), sets[""], listed, fpr, thresholds, clean, bench, links, dates, seed, warnings)
    return bed, tuple(excluded.values())


def _knowing(
    detectors: Mapping[str, Detector],
    given: Mapping[str, SampleSet],
    drawn: Mapping[str, ListedSet],
    clean: Mapping[tuple[str, str], Scores],
) -> tuple[str, ...]:
    """A warning for every detector that was trained on one of the sets, as it was given, drawn or could be read."""
    warnings = []
    for label, detector in detectors.items():
        known: dict[str, tuple[SampleSet, ...]] = {}
        for name, samples in drawn.items():
            read = [i for i, s in enumerate(samples) if s.id in clean[label, name]]
            known[name] = (given[name], samples, select(samples, read))
        own = learnt_from(detector.trained_on, known[""], {name: known[name] for name in known if name})
        if own:
            warnings.append(
                f"{label} was trained on these very samples ({', '.join(own)}): its scores there say nothing of fresh"
                " ones"
            )
    return tuple(warnings)


def _reasons(excluded: Sequence[Excluded]) -> str:
    """Every reason once, and how many it holds for where there are several."""
    counts = Counter(out.reason for out in excluded)
    return "; ".join(reason if len(counts) == 1 else f"{n}: {reason}" for reason, n in counts.most_common())


def _drawn(samples: SampleSet, n: int | None, seed: int) -> ListedSet:
    if n is not None and n < FEWEST:
        raise BadSetting(f"n is {n}; a side needs at least {FEWEST} samples")
    every = range(len(samples))
    return select(samples, every if n is None or n >= len(samples) else sorted(random.Random(seed).sample(every, n)))


def _distinct(samples: ListedSet) -> ListedSet:
    """Ids that tell the samples apart, which an archive's need not do: pairs are made by id."""
    if len({s.id for s in samples}) == len(samples):
        return samples
    return replace(samples, samples=tuple(replace(s, id=f"{s.id}#{i}") for i, s in enumerate(samples)))


def scored(detector: Detector, samples: SampleSet, bench: Bench) -> tuple[Scores, tuple[Excluded, ...]]:
    """P(fake) of every readable sample by its id, and the unreadable ones."""
    # One detector at a time: what one cannot read, such as an image too small for it, another can.
    found = measure(samples, [detector], bench)
    rows = found.features[detector.name].head("p_fake").rows[:, 0].tolist()
    return dict(zip((s.id for s in found.samples), rows, strict=True)), found.excluded


def _pair(scores: Mapping[str, Scores], names: Sequence[str] | None) -> Pair:
    chosen = [name for name in scores if name] if names is None else names
    return Pair(scores[""], {f"{name}/{key}": value for name in chosen for key, value in scores[name].items()})


# Numbers --------------------------------------------------------------------------------------------------------------


def threshold_at(real_scores: Sequence[float], fpr: float) -> float:
    """The (floor(fpr N) + 1)-th largest score: at most fpr N reals lie above it. TooFewSamples where fpr N < 1."""
    allowed = math.floor(fpr * len(real_scores) + 1e-9)  # 0.05 * 20 must be 1 whatever binary makes of 0.05
    if allowed < 1:
        raise TooFewSamples(f"{len(real_scores)} real samples; an FPR of {fpr:g} needs at least {math.ceil(1 / fpr)}")
    return sorted(real_scores, reverse=True)[allowed]


def share_above(scores: Sequence[float], threshold: float) -> Estimate:
    """The share of scores above a threshold that is held fixed, with Clopper and Pearson's 95 % interval."""
    return proportion(sum(score > threshold for score in scores), len(scores))


def proportion(hits: int, n: int) -> Estimate:
    """hits of n with the 95 % interval of Clopper & Pearson 1934, which covers at least that often."""
    from scipy.stats import binomtest

    ends = binomtest(hits, n).proportion_ci(0.95, method="exact")
    return Estimate(hits / n, float(ends.low), float(ends.high), "clopper-pearson")


def numbers_of(pair: Pair, threshold: float) -> Numbers:
    """One detector on one pair of sides: AUROC, and the shares of fakes and of reals above the threshold."""
    import torch

    from ..metrics.detection import area_under_roc

    real, fake = list(pair.real.values()), list(pair.fake.values())
    auroc = area_under_roc(torch.tensor(real).double(), torch.tensor(fake).double())
    return Numbers(auroc, share_above(fake, threshold), share_above(real, threshold), len(real), len(fake))


def numbers_against(clean: Pair, changed: Pair, threshold: float, seed: int) -> Numbers | None:
    """The changed pair's numbers with their change against clean, on the samples that both have; None below two a side.

    Changes are changed less clean; their intervals are paired percentile bootstraps, the threshold held fixed.
    """
    import torch

    from ..resample import bootstrap

    ids = [
        [i for i in after if i in before] for before, after in ((clean.real, changed.real), (clean.fake, changed.fake))
    ]
    if min(map(len, ids)) < 2:
        return None
    before = [
        torch.tensor([side[i] for i in keep]).double() for side, keep in zip((clean.real, clean.fake), ids, strict=True)
    ]
    after = [
        torch.tensor([side[i] for i in keep]).double()
        for side, keep in zip((changed.real, changed.fake), ids, strict=True)
    ]
    area_before, area_after = _area(before), _area(after)
    moved = [(a > threshold).double() - (b > threshold).double() for b, a in zip(before, after, strict=True)]

    def statistic(keeps: Sequence[Tensor]) -> dict[str, Tensor]:
        fpr, tpr = (side[keep].mean(dim=1) for side, keep in zip(moved, keeps, strict=True))
        return {"auroc": area_after(keeps) - area_before(keeps), "tpr": tpr, "fpr": fpr}

    change = bootstrap(statistic, [len(keep) for keep in ids], seed=seed)
    kept = Pair({i: changed.real[i] for i in ids[0]}, {i: changed.fake[i] for i in ids[1]})
    return replace(
        numbers_of(kept, threshold),
        auroc_change=change["auroc"],
        tpr_change=change["tpr"],
        fpr_change=change["fpr"],
    )


def _area(sides: Sequence[Tensor]) -> Any:
    """From row indices [B, N] and [B, M] to the AUROC [B] of the scores redrawn so; ties count half."""
    from ..metrics.curves import curve_of_ranks, descending_ranks

    ranks, count = descending_ranks(sides[0], sides[1])
    real, fake = ranks[: len(sides[0])], ranks[len(sides[0]) :]

    def area(keeps: Sequence[Tensor]) -> Tensor:
        curve = curve_of_ranks(real[keeps[0]], fake[keeps[1]], count)
        alarms, catches = curve.false_alarms.double(), curve.catches.double()
        under = (alarms.diff(dim=1) * (catches[:, 1:] + catches[:, :-1]) / 2).sum(dim=1)
        return under / (alarms[:, -1] * catches[:, -1])

    return area


# Saying ---------------------------------------------------------------------------------------------------------------


def said(value: Estimate | None, sign: str = "") -> str:
    """An estimate in words: 0.912 [0.890, 0.931], or with a sign before a change; a dash for none."""
    return "–" if value is None else f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


def plain(value: Estimate | None) -> dict[str, Any] | None:
    """An estimate as plain JSON."""
    if value is None:
        return None
    return {"value": value.value, "low": value.low, "high": value.high, "level": value.level, "interval": value.method}


def plain_numbers(numbers: Numbers) -> dict[str, Any]:
    """Numbers as plain JSON, what is not there left out."""
    found: dict[str, Any] = {"n": {"real": numbers.n_real, "fake": numbers.n_fake}}
    for key in ("auroc", "tpr", "fpr", "auroc_change", "tpr_change", "fpr_change"):
        value = plain(getattr(numbers, key))
        found.update({} if value is None else {key: value})
    return found
