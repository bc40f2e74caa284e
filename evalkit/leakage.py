"""What the files give away before a pixel is read: a classifier on container facts alone, real against fake.

Format, quantisation tables, chroma grid, size, bytes per pixel, profile, EXIF, metadata. Where these tell the sides
apart, a detector's number may be about them: PNG fakes beside JPEG reals are found by anything that hears a codec. The
audit is a number with its interval (0.5: the containers say nothing), the facts that make it, worst first, and the
same number behind one plan that re-encodes both sides alike (`normalising`).

The classifier is gradient boosting on at most a few dozen columns, cross-validated in five folds in which copies of one
content stay together. Only samples of one fold are compared with each other: pooled, equal facts would get a score of
their own in each fold, lowest where the judged fold has most fakes, and an AUC below what the facts say. The interval
is DeLong's for such stratified placements, on the logit scale. A set is called leaky when its lower end lies above the
limit: one interval decides, so that twenty samples are not enough to accuse. Where every comparison is a tie, DeLong's
variance is 0 although the next file may differ; then the interval is that of the share of files, unseen so far, that
would not tie (Clopper-Pearson, none of n).

`leaks` decodes each file that it reads, at most 4,000 a side: some 2 ms for 256 x 256 pixels,
on a thread of each core. A file cut off behind its header would count as a picture otherwise. `leak` alone reads
headers: those who call it have decoded their samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .containers import READ, SIZES, columns_of, looked_through, sides_of, words_of
from .errors import BadSetting, EvalkitError, Inconclusive, ModalityMismatch, NothingToEvaluate, TooFewSamples
from .hardware import environment
from .normalising import normalised
from .samples import select
from .samples.statistics import StatisticsSet
from .types import Estimate, Excluded, Exhibit, SampleSet, Study, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCHEMA = "evalkit.leakage/1"
LIMIT = 0.6
FEWEST = 10  # samples a side
FOLDS = 5
MOST_UNREADABLE = 0.01  # of a side, or the audit is inconclusive
TIES = "clopper-pearson"  # the interval where no comparison was anything but a tie


@dataclass(frozen=True)
class Fact:
    """One fact: how well it alone tells the sides apart, and what it is on each, in words.

    varies: whether it has more than one value in the files of both sides together.
    """

    name: str
    auc: Estimate
    real: str
    fake: str
    varies: bool


@dataclass(frozen=True)
class Leak:
    """What the containers of one fake set give away against the reals; facts worst first, n of each side.

    from_files False: neither codec nor metadata is known (arrays, embedded sets), sizes alone were compared.
    """

    name: str
    auc: Estimate
    facts: tuple[Fact, ...]
    n_real: int
    n_fake: int
    from_files: bool

    def is_over(self, limit: float) -> bool:
        """Whether even the lower end of the interval lies above the limit."""
        return self.auc.low > limit


def leak_auc(real: SampleSet, fake: SampleSet, seed: int) -> Estimate | None:
    """AUC in [0, 1] of container facts alone, 0.5 = they say nothing; to stand beside every detector's number.

    None where there is nothing to compare: texts, statistics files, fewer than 10 readable samples on a side.
    """
    try:
        return leak(real, fake, seed=seed, with_facts=False).auc
    except (ModalityMismatch, TooFewSamples):
        return None


def leak(real: SampleSet, fake: SampleSet, *, seed: int = 0, with_facts: bool = True) -> Leak:
    """The audit of one pair of sets, each fact by itself too unless `with_facts` is False.

    Raises ModalityMismatch for anything but images, TooFewSamples below 10 readable samples a side.
    """
    _check_images(real, fake)
    sides, from_files = sides_of(real, fake, seed)
    for samples, side in zip((real, fake), sides, strict=True):
        if len(side) < FEWEST:
            raise TooFewSamples(f"{samples.name!r} has {len(side)} readable samples; the audit needs {FEWEST} a side")
    names = tuple(READ) if from_files else SIZES
    both = [*sides[0], *sides[1]]
    n = len(sides[0])
    fold = _folds([digest for digest, _ in both], n, seed)
    columns = {name: columns_of([facts[name] for _, facts in both]) for name in names}
    facts = [_fact(name, [f[name] for _, f in both], columns[name], n, fold, seed) for name in names if with_facts]
    worst_first = tuple(sorted(facts, key=lambda fact: -fact.auc.value))
    auc = _auc([c for name in names for c in columns[name]], n, fold, seed)
    return Leak(fake.name, auc, worst_first, n, len(sides[1]), from_files)


def _check_images(*sets: SampleSet) -> None:
    for samples in sets:
        if samples.modality != "image" or isinstance(samples, StatisticsSet):
            raise ModalityMismatch(f"{samples.name!r} holds no images; the audit reads image files")


# Telling apart --------------------------------------------------------------------------------------------------------


def _folds(digests: Sequence[str], n_real: int, seed: int) -> npt.NDArray[np.int64]:
    """A fold of each sample: each side's contents are dealt out evenly by chance; copies go where the first went."""
    import numpy as np

    rng = np.random.default_rng(seed)
    place: dict[str, int] = {}
    for side in (digests[:n_real], digests[n_real:]):
        contents = [digest for digest in dict.fromkeys(side) if digest not in place]
        place |= dict(zip(contents, (rng.permutation(len(contents)) % FOLDS).tolist(), strict=True))
    return np.array([place[digest] for digest in digests])


def _auc(columns: Sequence[npt.NDArray[np.float64]], n_real: int, fold: npt.NDArray[np.int64], seed: int) -> Estimate:
    """The cross-validated AUC of some columns, the first `n_real` samples being real."""
    import numpy as np

    is_fake = np.arange(len(fold)) >= n_real
    scores = np.full(len(fold), 0.5)
    told = [c for c in columns if not _is_constant(c)]
    for k in range(FOLDS):
        learnt, judged = fold != k, fold == k
        if told and judged.any() and 0 < is_fake[learnt].sum() < learnt.sum():
            scores[judged] = _judged(np.stack(told, axis=1), is_fake, learnt, judged, seed)
    return stratified_auc(scores, is_fake, fold)


def stratified_auc(
    scores: npt.NDArray[np.float64], is_fake: npt.NDArray[np.bool_], fold: npt.NDArray[np.int64]
) -> Estimate:
    """P(fake score > real score) + half P(equal) of two samples of one fold, in [0, 1], with DeLong's 95 % interval.

    scores, is_fake, fold [N]; samples of a fold without the other side are not compared. Complete separation gets
    Wilson's interval, as in metrics.detection; nothing but ties 0.5 and what unseen scores could make of it. Raises
    TooFewSamples when no fold has both sides.
    """
    import numpy as np

    placed: dict[bool, list[npt.NDArray[np.float64]]] = {False: [], True: []}
    for k in np.unique(fold):
        fake, real = scores[(fold == k) & is_fake], scores[(fold == k) & ~is_fake]
        if len(fake) and len(real):
            wins = (np.sign(fake[:, None] - real[None]) + 1) / 2
            placed[True].append(wins.mean(axis=1))
            placed[False].append(wins.mean(axis=0))
    if not placed[True]:
        raise TooFewSamples(
            "no two samples, one of each side, that could be compared: copies of one content everywhere"
        )
    of_fake, of_real = np.concatenate(placed[True]), np.concatenate(placed[False])
    value = float(of_fake.mean())
    if bool((of_fake == 0.5).all() and (of_real == 0.5).all()):
        # With shares q of fakes and r of reals that do not tie, |AUC - 1/2| <= (1 - (1 - q)(1 - r)) / 2; none of n is
        # consistent at 97.5 % a side with a share up to 1 - 0.025^(1/n).
        reach = (1 - 0.025 ** (1 / len(of_fake) + 1 / len(of_real))) / 2
        return Estimate(value, 0.5 - reach, 0.5 + reach, TIES)
    low, high = _interval(value, of_fake, of_real)
    return Estimate(value, min(low, value), max(high, value), "delong")


def _interval(value: float, of_fake: npt.NDArray[np.float64], of_real: npt.NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import norm

    from .metrics.detection import wilson

    if not 0 < value < 1:
        return wilson(value, min(len(of_fake), len(of_real)))
    error = math.sqrt(sum(side.var(ddof=1) / len(side) for side in (of_fake, of_real) if len(side) > 1))
    centre, reach = math.log(value / (1 - value)), float(norm.ppf(0.975)) * error / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, x)))) for x in (centre - reach, centre + reach))
    return low, high


def _is_constant(column: npt.NDArray[np.float64]) -> bool:
    import numpy as np

    return bool(np.array_equal(column, np.full_like(column, column[0]), equal_nan=True))


def _judged(X: Any, is_fake: Any, learnt: Any, judged: Any, seed: int) -> npt.NDArray[np.float64]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.utils.class_weight import compute_sample_weight

    model = HistGradientBoostingClassifier(
        max_iter=40, learning_rate=0.2, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False, random_state=seed
    )
    model.fit(X[learnt], is_fake[learnt], sample_weight=compute_sample_weight("balanced", is_fake[learnt]))
    scores: npt.NDArray[np.float64] = model.predict_proba(X[judged])[:, 1]
    return scores


def _fact(
    name: str,
    values: Sequence[float | str],
    columns: Sequence[npt.NDArray[np.float64]],
    n: int,
    fold: npt.NDArray[np.int64],
    seed: int,
) -> Fact:
    # As words, in which one missing number is like another.
    varies = len({repr(value) for value in values}) > 1
    return Fact(name, _auc(columns, n, fold, seed), words_of(values[:n]), words_of(values[n:]), varies)


# Saying ---------------------------------------------------------------------------------------------------------------


def leaks(real: SampleSet, fakes: Sequence[SampleSet], *, limit: float = LIMIT, seed: int = 0) -> Study:
    """The audit of every fake set against the reals, before and after one plan for all: `data["over_limit"]` names
    those whose AUC is above `limit` with the lower end of its interval.

    At most 4,000 samples a side are read, drawn by the seed; those that cannot be decoded are under `excluded`, and
    `conclude` says whether they are too many. Raises BadSetting when limit is not in [0.5, 1), ModalityMismatch,
    TooFewSamples, NothingToEvaluate when no sample of a set can be read.
    """
    if not 0.5 <= limit < 1:
        raise BadSetting(f"limit {limit}; an AUC of chance is 0.5, of certainty 1: give 0.5 <= limit < 1")
    _check_images(real, *fakes)
    provenance = {"real": f"{real.name} {real.digest}", **{f"fake {f.name}": f.digest for f in fakes}}
    (real, *fakes), excluded, read = _readable([real, *fakes], seed)
    found = [leak(real, fake, seed=seed) for fake in fakes]
    over = [one.name for one in found if one.is_over(limit)]
    findings, warnings, exhibits = [], [], []
    for one in found:
        findings.append(_finding(one, limit))
        exhibits.append(_table(one, real.name))
        if one.is_over(limit):
            warnings.append(f"leak: {findings[-1]}")
    data: dict[str, Any] = {"limit": limit, "over_limit": over, "fakes": [_plain(one) for one in found], "read": read}
    try:
        alike = normalised(real, *fakes)
        again = [leak(alike.real, fake, seed=seed, with_facts=False) for fake in alike.fakes]
    except EvalkitError as error:
        warnings.append(f"not normalised: {error}")
    else:
        findings += [f"{alike.words}.", *(_again(one) for one in again)]
        data["plan"] = alike.words
        for plain, one in zip(data["fakes"], again, strict=True):
            plain["normalised"] = _estimate(one.auc, one.n_real, one.n_fake)
    provenance |= {key: str(value) for key, value in environment("cpu").items()}
    title = f"Leak audit: {real.name} against {', '.join(fake.name for fake in fakes)}"
    return Study(SCHEMA, title, tuple(findings), tuple(exhibits), data, provenance, tuple(warnings), excluded)


def conclude(study: Study) -> None:
    """Raise Inconclusive when more than 1 % of what was read of a set was unreadable."""
    for side in study.data["read"]:
        if side["unreadable"] > MOST_UNREADABLE * side["n"]:
            raise Inconclusive(
                f"{side['unreadable']} of {side['n']} samples of {side['set']!r} could not be read, listed under"
                " excluded; what was measured is written, but do not act on it"
            )


def _readable(
    sets: Sequence[SampleSet], seed: int
) -> tuple[list[SampleSet], tuple[tuple[str, Excluded], ...], list[dict[str, Any]]]:
    """Of each set what can be decoded, what cannot, and how many that is of how many."""
    whole, excluded, read = [], [], []
    for samples in sets:
        keep, out = looked_through(samples, seed)
        if not keep:
            first = f" (first: {out[0].id}: {out[0].reason})" if out else ""
            raise NothingToEvaluate(f"no readable sample among the {len(samples)} of {samples.name!r}{first}")
        whole.append(samples if len(keep) == len(samples) else select(samples, keep))
        excluded += [(samples.name, one) for one in out]
        read.append({"set": samples.name, "n": len(keep) + len(out), "unreadable": len(out)})
    return whole, tuple(excluded), read


def _said(auc: Estimate) -> str:
    return f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"


def _finding(one: Leak, limit: float) -> str:
    what = "container facts" if one.from_files else "sizes (no container facts: a side is not made of files)"
    told = [fact.name for fact in one.facts if fact.auc.low > limit]
    verdict = f"above the limit of {limit:g}" if one.is_over(limit) else f"not above the limit of {limit:g}"
    why = f"; given away by {', '.join(told)}" if told else ""
    if one.facts and not any(fact.varies for fact in one.facts):
        why = "; each fact is the same in every file of both sides"
    return f"{one.name}: AUC of {what} {_said(one.auc)} ({one.n_real} real, {one.n_fake} fake), {verdict}{why}"


def _again(one: Leak) -> str:
    return f"{one.name}, normalised: AUC of what is left to a container {_said(one.auc)}"


def _table(one: Leak, real: str) -> Exhibit:
    same = [fact.name for fact in one.facts if not fact.varies]
    tied = [f.name for f in one.facts if f.varies and f.real == f.fake and f.auc.method == TIES]
    rows = tuple((f.name, _said(f.auc), f.real, f.fake) for f in one.facts if f.name not in (*same, *tied))
    note = "AUC of each fact by itself, cross-validated, with its 95 % interval; 0.5 says nothing. Worst first."
    note += f" The same in every file: {', '.join(same)}." if same else ""
    note += f" Not the same in every file, yet no help in telling the sides apart: {', '.join(tied)}." if tied else ""
    return Table(f"What gives {one.name} away", note, ("fact", "AUC", f"real: {real}", f"fake: {one.name}"), rows)


def _plain(one: Leak) -> dict[str, Any]:
    facts = [
        {"name": f.name, **_estimate(f.auc, one.n_real, one.n_fake), "real": f.real, "fake": f.fake} for f in one.facts
    ]
    whole = _estimate(one.auc, one.n_real, one.n_fake)
    return {"name": one.name, **whole, "reads": "files" if one.from_files else "sizes", "facts": facts}


def _estimate(auc: Estimate, n_real: int, n_fake: int) -> dict[str, Any]:
    ends = {"low": auc.low, "high": auc.high, "level": auc.level, "interval": auc.method}
    return {"auc": auc.value, **ends, "n": {"real": n_real, "fake": n_fake}}
