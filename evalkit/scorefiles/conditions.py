"""RAID's table: what one threshold a domain catches of every generator, decoding, repetition penalty and attack.

Dugan et al. 2024, section 5: the human texts of a domain that nobody attacked set one threshold for the domain, which
then serves every condition; a score file or a set of texts says of each text which condition it is of. Two things are
done otherwise: thresholds are exact order statistics where RAID steps towards one and can end far from it, and every
cell has its n and its interval. A row "all" pools what the column tells apart, each text at its own domain's threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration import Proportion, proportion
from ..types import Estimate
from .numbers import FPRS, Threshold, area, exact_threshold, plain
from .recorded import HUMAN, MACHINE, Recorded, attack_of

FIELDS = ("domain", "model", "decoding", "repetition_penalty", "attack")
ALL = "all"
HUMAN_MODEL = "human"


@dataclass(frozen=True)
class Row:
    """One condition: a word a field, "all" where it pools; n machine texts, and at each FPR the share caught.

    caught: None where a domain has too few humans for that FPR, with the reason in `why`. auroc: against the untouched
    humans of the domain; None with fewer than two texts of a side.
    """

    where: tuple[str, ...]
    n: int
    n_human: int
    caught: tuple[Proportion | None, ...]
    auroc: Estimate | None
    why: str = ""


@dataclass(frozen=True)
class Alarms:
    """Human texts of one domain under one attack: the share above the domain's threshold, at each FPR."""

    domain: str
    attack: str
    n: int
    flagged: tuple[Proportion | None, ...]


@dataclass(frozen=True)
class Conditions:
    """The whole table of one run: fields that vary, thresholds by domain and FPR, rows and false alarms."""

    fields: tuple[str, ...]
    thresholds: Mapping[str, tuple[Threshold, ...]]
    rows: tuple[Row, ...]
    alarms: tuple[Alarms, ...]


def has_conditions(run: Recorded) -> bool:
    """Whether a run says of its texts what RAID's table tells apart, in at least one field that varies."""
    return any(len(set(_machine_words(run, name))) > 1 for name in FIELDS if name in run.fields)


def _machine_words(run: Recorded, name: str) -> list[str]:
    words = run.fields[name]
    return [words[i] for i in np.flatnonzero(run.truth == MACHINE).tolist()]


def conditions(run: Recorded) -> Conditions:
    """The table of a run whose scores are finite and higher for machine texts.

    A field that does not vary among the machine texts is left out of the rows. Cells follow the order of the words.
    """
    n = len(run)
    domains = np.array(run.fields["domain"] if "domain" in run.fields else [ALL] * n, dtype=object)
    attacks = np.array([attack_of(word) for word in run.fields.get("attack", [""] * n)], dtype=object)
    human, machine = run.truth == HUMAN, run.truth == MACHINE
    untouched = human & (attacks == "none")
    names = sorted(set(domains[machine].tolist()) | set(domains[untouched].tolist()))
    thresholds = {
        name: tuple(exact_threshold(run.scores[untouched & (domains == name)], fpr) for fpr in FPRS) for name in names
    }
    flags = np.full((len(FPRS), n), np.nan)
    for name, own in thresholds.items():
        here = domains == name
        for k, threshold in enumerate(own):
            if threshold.score is not None:
                flags[k, here] = run.scores[here] > threshold.score
    words = {name: np.array(run.fields[name], dtype=object) for name in FIELDS if name in run.fields}
    if "attack" in words:
        words["attack"] = attacks
    fields = tuple(name for name in FIELDS if name in words and len(set(words[name][machine].tolist())) > 1)
    rows = _rows(run, fields, words, domains, untouched, flags)
    return Conditions(fields, thresholds, rows, _alarms(domains, attacks, human, flags))


def _rows(
    run: Recorded,
    fields: tuple[str, ...],
    words: Mapping[str, Any],
    domains: npt.NDArray[Any],
    untouched: npt.NDArray[np.bool_],
    flags: npt.NDArray[np.float64],
) -> tuple[Row, ...]:
    """A row for every set of words that some machine text has, each field's own word or "all"."""
    at = np.flatnonzero(run.truth == MACHINE)
    codes, levels = [], []
    for name in fields:
        found, code = np.unique(words[name][at].astype(str), return_inverse=True)
        levels.append([ALL, *found.tolist()])
        codes.append(code + 1)
    coded = np.array(codes, dtype=np.int64).reshape(len(fields), len(at))
    humans = {name: run.scores[untouched & (domains == name)] for name in set(domains.tolist())}
    pooled = run.scores[untouched]
    rows = []
    for kept in product((False, True), repeat=len(fields)):
        keys = coded * np.array(kept, dtype=np.int64)[:, None]
        distinct, group = np.unique(keys, axis=1, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        parts = np.split(at[order], np.cumsum(np.bincount(group.ravel(), minlength=distinct.shape[1]))[:-1])
        for key, part in zip(distinct.T.tolist(), parts, strict=True):
            where = tuple(level[code] for level, code in zip(levels, key, strict=True))
            one = "domain" in fields and where[fields.index("domain")] != ALL
            against = humans[where[fields.index("domain")]] if one else pooled
            rows.append(_row(where, run.scores[part], against, flags[:, part]))
    return tuple(sorted(rows, key=lambda row: tuple((word != ALL, word) for word in row.where)))


def _row(
    where: tuple[str, ...],
    scores: npt.NDArray[np.float64],
    human: npt.NDArray[np.float64],
    flags: npt.NDArray[np.float64],
) -> Row:
    n = len(scores)
    caught = tuple(None if np.isnan(line).any() else proportion(int(line.sum()), n) for line in flags)
    lacking = [f"{fpr:g}" for fpr, one in zip(FPRS, caught, strict=True) if one is None]
    why = f"a domain has too few humans for an FPR of {', '.join(lacking)}" if lacking else ""
    return Row(where, n, len(human), caught, area(human, scores) if min(n, len(human)) >= 2 else None, why)


def _alarms(
    domains: npt.NDArray[Any], attacks: npt.NDArray[Any], human: npt.NDArray[np.bool_], flags: npt.NDArray[np.float64]
) -> tuple[Alarms, ...]:
    found = []
    for domain, attack in sorted({(str(d), str(a)) for d, a in zip(domains[human], attacks[human], strict=True)}):
        here = flags[:, human & (domains == domain) & (attacks == attack)]
        shares = (None if np.isnan(line).any() else proportion(int(line.sum()), len(line)) for line in here)
        found.append(Alarms(domain, attack, here.shape[1], tuple(shares)))
    return tuple(found)


def plain_conditions(found: Conditions) -> dict[str, Any]:
    """The table as plain JSON: what could not be measured is absent, with its reason."""
    thresholds = [
        {"domain": name, **plain_threshold(threshold)} for name, own in found.thresholds.items() for threshold in own
    ]
    rows = []
    for row in found.rows:
        numbers: dict[str, Any] = {f"tpr_at_{fpr:g}": plain(x) for fpr, x in zip(FPRS, row.caught, strict=True) if x}
        if row.auroc is not None:
            numbers["auroc"] = plain(row.auroc)
        why = {"why": row.why} if row.why else {}
        n = {"machine": row.n, "human": row.n_human}
        rows.append({**dict(zip(found.fields, row.where, strict=True)), "n": n, **numbers, **why})
    alarms = [
        {"domain": a.domain, "attack": a.attack, "n": a.n}
        | {f"fpr_at_{fpr:g}": plain(x) for fpr, x in zip(FPRS, a.flagged, strict=True) if x}
        for a in found.alarms
    ]
    return {"fields": list(found.fields), "thresholds": thresholds, "rows": rows, "human": alarms}


def plain_threshold(threshold: Threshold) -> dict[str, Any]:
    """A threshold as plain JSON: texts are called machine above `score`."""
    told = {"fpr": threshold.fpr, "n": threshold.n}
    if threshold.score is None:
        return {**told, "why": threshold.why}
    return {**told, "score": threshold.score, "flagged": "above", "realised_fpr": plain(threshold.realised)}


def pick(found: Conditions, **words: str) -> Sequence[Row]:
    """The rows with these words in these fields and "all" in every other; a field that does not vary is ignored."""
    wanted = tuple(words.get(name, ALL) for name in found.fields)
    return [row for row in found.rows if row.where == wanted]
