"""False positives by group of writers, from score files or from texts and detectors, as a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import BadSetting, TooFewSamples
from ..hardware import environment
from ..measurement import Bench
from ..types import Excluded, Exhibit, Study, Table
from .groups import Group, Operator, Together, flags_of, groups_of, plain_group, plain_together, together
from .joining import runs_from, told
from .numbers import Threshold, exact_threshold, said
from .recorded import HUMAN, UNKNOWN, Higher, NanPolicy, Recorded, checked, oriented
from .texts import scored_texts

SCHEMA = "evalkit.subgroups/1"
ALPHA = 0.05


def subgroups(
    sources: Sequence[Path | str],
    *,
    by: str = "group",
    threshold: float | None = None,
    operator: Operator = ">",
    fpr: float = 0.05,
    against: str | None = None,
    higher: Higher = "fake",
    nan: NanPolicy = "refuse",
    truth: str | None = None,
    columns: Mapping[str, str] | None = None,
    detectors: Sequence[Path | str] = (),
    bench: Bench | None = None,
    command: str = "evalkit subgroups",
) -> Study:
    """The share of each group's human texts that a detector flags, and its difference to the group `against`.

    sources: score files, or with `detectors` one file of texts. by: the column that names the group. threshold: in the
    recorded scores; by default the exact one of each run for `fpr` over all its humans. operator: what flags a score
    at the threshold. Where no text is labelled, all are taken as given and the shares are called flagged. Raises
    BadSetting, BadSource, BadRows, TooFewSamples, UnknownName, NothingToEvaluate.
    """
    if higher == "auto":
        raise BadSetting("--higher auto needs two sides; give fake or real")
    if threshold is None and operator != ">":
        raise BadSetting("--operator >= goes with --threshold; the exact threshold is made for scores above it")
    runs, excluded, provenance = _gathered(sources, detectors, columns or {}, truth, bench)
    ready = [oriented(_humans(checked(run, "exclude" if detectors else nan)), higher)[0] for run in runs]
    limits = {run.name: _limit(run, threshold, fpr) for run in ready}
    found = {run.name: groups_of(run, by, limits[run.name][0], operator, against) for run in ready}
    joint = (
        together(ready, by, {name: limit for name, (limit, _) in limits.items()}, operator) if len(ready) > 1 else []
    )
    labelled = all(bool((run.truth == HUMAN).all()) for run in ready)
    what = "false positives" if labelled else "flagged"
    findings = [*_joint_findings(joint, what), *(_finding(name, groups, what) for name, groups in found.items())]
    rules = {run.name: _rule(run, limits[run.name][0], operator) for run in ready}
    exhibits: list[Exhibit] = [*_joint_table(joint, rules, what)]
    exhibits += [_table(name, groups, rules[name], limits[name][1], what) for name, groups in found.items()]
    data = {
        "by": by,
        "operator": operator,
        "labelled": labelled,
        "detectors": [
            {
                "name": run.name,
                "threshold": -limits[run.name][0] if run.flipped else limits[run.name][0],
                "flagged_when": rules[run.name],
                "groups": [plain_group(group) for group in found[run.name]],
            }
            for run in ready
        ],
        "together": [plain_together(one) for one in joint],
    }
    provenance = {"command": command, **provenance, **{k: str(v) for k, v in environment("cpu").items()}}
    title = f"{what.capitalize()} by {by}: {', '.join(Path(source).name for source in sources)}"
    warnings = (*_warnings(ready, labelled), *_ties(ready, found, limits, operator))
    return Study(SCHEMA, title, tuple(findings), tuple(exhibits), data, provenance, warnings, tuple(excluded))


def _gathered(
    sources: Sequence[Path | str],
    detectors: Sequence[Path | str],
    columns: Mapping[str, str],
    truth: str | None,
    bench: Bench | None,
) -> tuple[list[Recorded], list[tuple[str, Excluded]], dict[str, str]]:
    paths = [Path(source) for source in sources]
    if not detectors:
        runs = runs_from(paths, columns, truth)
        return runs, [], {"scores": ", ".join(dict.fromkeys(run.digest for run in runs))}
    if len(paths) != 1:
        raise BadSetting(f"{len(paths)} sources with --with; give one file of texts")
    runs, excluded, digests = scored_texts(paths[0], detectors, columns=columns, bench=bench)
    return told(runs, truth), excluded, digests


def _humans(run: Recorded) -> Recorded:
    """The human texts of a run, or all of them where it is not told which are; TooFewSamples where none is human."""
    if bool((run.truth == UNKNOWN).all()):
        return run
    kept = run.only(run.truth == HUMAN)
    if not len(kept):
        raise TooFewSamples(f"{run.name}: none of {len(run):,} texts is labelled human; false positives need some")
    return kept


def _limit(run: Recorded, threshold: float | None, fpr: float) -> tuple[float, Threshold | None]:
    """The threshold in the direction in which higher means machine, and the exact one where none was given."""
    if threshold is not None:
        return (-threshold if run.flipped else threshold), None
    if bool((run.truth == UNKNOWN).all()):
        raise BadSetting(f"{run.name} says of no text who wrote it; give --threshold, or --truth real")
    found = exact_threshold(run.scores, fpr)
    if found.score is None:
        raise TooFewSamples(f"{run.name}: {found.why}; give more, a higher --fpr, or --threshold")
    return found.score, found


def _rule(run: Recorded, limit: float, operator: Operator) -> str:
    if run.flipped:
        return f"score {'<' if operator == '>' else '<='} {-limit:.6g}"
    return f"score {operator} {limit:.6g}"


def _finding(name: str, groups: Sequence[Group], what: str) -> str:
    odd = [g.name for g in groups if g.p_holm is not None and g.p_holm < ALPHA]
    highest = max(groups, key=lambda g: g.flagged.value)
    base = next(g.name for g in groups if g.p is None)
    differ = f"differ from {base}: {', '.join(odd)} (Holm, 5 %)" if odd else f"no group differs from {base} (Holm, 5 %)"
    return f"{name}: {what} {differ}; highest {highest.name} {said(highest.flagged)}"


def _joint_findings(joint: Sequence[Together], what: str) -> list[str]:
    if not joint:
        return []
    worst = max(joint, key=lambda one: one.mean.value)
    return [
        f"{worst.name}: on average {worst.mean.value:.2%} {what} over {worst.detectors} detectors"
        f" [{worst.mean.low:.2%}, {worst.mean.high:.2%}]; {worst.by_all.count} of {worst.by_all.n} texts by all of"
        f" them, {worst.by_any.count} by at least one"
    ]


def _joint_table(joint: Sequence[Together], rules: Mapping[str, str], what: str) -> list[Table]:
    if not joint:
        return []
    rows = tuple(
        (one.name, str(one.detectors), f"{one.by_all.n}", said(one.mean), *map(_counted, (one.by_all, one.by_any)))
        for one in joint
    )
    rule = next(iter(rules.values())) if len(set(rules.values())) == 1 else "each at its own threshold"
    note = f"Flagged when {rule}. Mean over detectors and texts, Student's interval over texts; counts Clopper-Pearson."
    header = ("group", "detectors", "n", f"mean {what}", "by all", "by at least one")
    return [Table("All detectors together", note, header, rows)]


def _counted(share: object) -> str:
    from ..calibration import Proportion

    assert isinstance(share, Proportion)
    return f"{share.count} of {share.n} [{share.low:.4f}, {share.high:.4f}]"


def _table(name: str, groups: Sequence[Group], rule: str, exact: Threshold | None, what: str) -> Table:
    base = next(g.name for g in groups if g.p is None)
    rows = tuple(
        (
            g.name,
            f"{g.flagged.count} of {g.flagged.n}",
            said(g.flagged),
            "–" if g.difference is None else said(g.difference),
            "–" if g.p is None else f"{g.p:.3g}",
            "–" if g.p_holm is None else f"{g.p_holm:.3g}",
        )
        for g in groups
    )
    made = "" if exact is None else f", the exact threshold of {exact.fpr:.0%} over all {exact.n:,} humans"
    note = (
        f"Flagged when {rule}{made}. Shares Clopper-Pearson; difference to {base} with Newcombe's interval; p Fisher's"
        " exact, two-sided."
    )
    return Table(f"{name}: {what} by group", note, ("group", "flagged", "share", "difference", "p", "p (Holm)"), rows)


def _warnings(runs: Sequence[Recorded], labelled: bool) -> list[str]:
    lines = [f"{run.name}: {run.excluded:,} missing scores were left out" for run in runs if run.excluded]
    if not labelled:
        lines.append(
            "no label says who wrote these texts: a share is a false positive rate for groups of human writers and a"
            " detection rate for groups of machine texts (--truth real says that all are human)"
        )
    return lines


def _ties(
    runs: Sequence[Recorded],
    found: Mapping[str, Sequence[Group]],
    limits: Mapping[str, tuple[float, Threshold | None]],
    operator: Operator,
) -> list[str]:
    """What the other operator would have said, where scores lie exactly at a threshold that was given."""
    lines = []
    for run in runs:
        limit, exact = limits[run.name]
        at = sum(group.at for group in found[run.name])
        if at and exact is None:
            other: Operator = ">=" if operator == ">" else ">"
            counts = (int(flags_of(run.scores, limit, one).sum()) for one in (operator, other))
            now, then = counts
            lines.append(
                f"{run.name}: {at} of {len(run)} scores equal the threshold: {now} are flagged by {operator}, {then}"
                f" would be by {other}"
            )
    return lines
