"""False positives by group of writers: whose texts a detector takes for a machine's, and how sure that is.

One threshold for all, the operator that is applied to it said, because it is part of the metric: scores are often
rounded, and "above 0.5" and "at least 0.5" then flag different texts. Each group is held against one other: the
difference of the two shares with the interval of Newcombe 1998 (method 10, from both Wilson intervals) and the
two-sided p-value of Fisher's exact test, corrected over the groups of a detector by Holm 1979. Groups are taken for
independent writers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..calibration import Proportion, proportion
from ..errors import BadSetting, BadSource, UnknownName
from ..stressing.suites import holm
from ..types import Estimate
from .numbers import plain
from .recorded import Array, Mask, Recorded

Operator = Literal[">", ">="]
UNGROUPED = "(no group)"


@dataclass(frozen=True)
class Group:
    """One group under one detector: flagged of n; `at`: scores that equal the threshold; difference to the other."""

    name: str
    flagged: Proportion
    at: int
    difference: Estimate | None = None
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Together:
    """One group under several detectors that all scored it: the mean share flagged, by all of them, by at least one."""

    name: str
    detectors: int
    mean: Estimate
    by_all: Proportion
    by_any: Proportion


def flags_of(scores: Array, threshold: float, operator: Operator) -> Mask:
    """Which scores [N] are flagged. Raises BadSetting for an unknown operator."""
    if operator == ">":
        return np.asarray(scores > threshold, dtype=np.bool_)
    if operator == ">=":
        return np.asarray(scores >= threshold, dtype=np.bool_)
    raise BadSetting(f"--operator {operator!r}; expected > or >=")


def grouped(run: Recorded, by: str) -> dict[str, Mask]:
    """The rows of each group [N], by its word. Raises BadSource when the run does not say it of its texts."""
    if by not in run.fields:
        known = ", ".join(run.fields) or "no other column"
        raise BadSource(f"{run.name} has no column {by!r} to group by; it has {known}")
    words = np.array([word or UNGROUPED for word in run.fields[by]], dtype=object)
    return {name: np.asarray(words == name, dtype=np.bool_) for name in dict.fromkeys(words.tolist())}


def groups_of(
    run: Recorded, by: str, threshold: float, operator: Operator, against: str | None = None
) -> tuple[Group, ...]:
    """Every group's share above the threshold, in the file's order, each held against the group `against`.

    against: the largest group by default, the first of equal ones. Raises UnknownName for a group that is not there.
    """
    masks = grouped(run, by)
    flags = flags_of(run.scores, threshold, operator)
    shares = {name: proportion(int(flags[mask].sum()), int(mask.sum())) for name, mask in masks.items()}
    if against is not None and against not in shares:
        raise UnknownName("group", against, shares)
    base = against or max(shares, key=lambda name: shares[name].n)
    others = [name for name in shares if name != base]
    p = {name: fisher(shares[name], shares[base]) for name in others}
    corrected = dict(zip(others, holm(list(p.values())), strict=True))
    ties = {name: int((run.scores[mask] == threshold).sum()) for name, mask in masks.items()}
    return tuple(
        Group(name, share, ties[name])
        if name == base
        else Group(name, share, ties[name], newcombe(share, shares[base]), p[name], corrected[name])
        for name, share in shares.items()
    )


def newcombe(one: Proportion, other: Proportion) -> Estimate:
    """The difference of two independent shares, in [-1, 1], with its 95 % interval; Newcombe 1998, method 10."""
    from ..metrics.detection import wilson

    (low_1, high_1), (low_2, high_2) = (wilson(x.value, x.n) for x in (one, other))
    value = one.value - other.value
    low = value - math.hypot(one.value - low_1, high_2 - other.value)
    high = value + math.hypot(high_1 - one.value, other.value - low_2)
    return Estimate(value, max(-1.0, min(low, value)), min(1.0, max(high, value)), "newcombe")


def fisher(one: Proportion, other: Proportion) -> float:
    """Two-sided p-value of Fisher's exact test of two shares being equal, in (0, 1]."""
    from scipy.stats import fisher_exact

    table = np.array([[x.count, x.n - x.count] for x in (one, other)])
    return float(fisher_exact(table).pvalue)


def together(runs: Sequence[Recorded], by: str, threshold: Mapping[str, float], operator: Operator) -> list[Together]:
    """What detectors say of each group jointly, where at least two of them scored the very same texts of it.

    The mean is over detectors and texts; its 95 % interval is Student's over the texts, each with the share of
    detectors that flag it.
    """
    found = []
    names = dict.fromkeys(name for run in runs for name in grouped(run, by))
    for name in names:
        flagged: dict[tuple[str, ...], list[Mask]] = {}
        for run in runs:
            mask = grouped(run, by).get(name)
            if mask is not None:
                ids = tuple(run.ids[i] for i in np.flatnonzero(mask).tolist())
                flagged.setdefault(ids, []).append(flags_of(run.scores[mask], threshold[run.name], operator))
        # Detectors that saw other texts of the group have no say in "all of them".
        every = max(flagged.values(), key=len)
        if len(every) >= 2:
            found.append(_together(name, np.array(every)))
    return found


def _together(name: str, flags: Mask) -> Together:
    """flags [detectors, texts]."""
    from ..resample import around

    shares = flags.mean(axis=0)
    n = len(shares)
    error = float(shares.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.5
    mean = around(float(flags.mean()), error, "student", df=max(1, n - 1), low=0.0, high=1.0)
    return Together(
        name, len(flags), mean, proportion(int(flags.all(axis=0).sum()), n), proportion(int(flags.any(axis=0).sum()), n)
    )


def plain_group(group: Group) -> dict[str, Any]:
    """A group as plain JSON."""
    told: dict[str, Any] = {"group": group.name, "flagged": plain(group.flagged), "at_threshold": group.at}
    if group.difference is not None:
        told |= {"difference": plain(group.difference), "p": group.p, "p_holm": group.p_holm}
    return told


def plain_together(one: Together) -> dict[str, Any]:
    """A group under several detectors as plain JSON."""
    return {
        "group": one.name,
        "detectors": one.detectors,
        "mean": plain(one.mean),
        "by_all": plain(one.by_all),
        "by_at_least_one": plain(one.by_any),
    }
