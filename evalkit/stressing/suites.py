"""A stress study: its suites by name, and two of them, false positives by subgroup and windows of release.

SUITES is the only list: a further suite is a function from Bed to Part, in a file of its own, and one line there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from ..attacking import attacks_of
from ..errors import BadSetting, UnknownName
from ..hardware import environment
from ..laundering import chain_of
from ..measurement import Bench
from ..types import Curves, Detector, Exhibit, Line, SampleSet, Study, Table
from .attack_suite import attacks
from .bed import Bed, Link, Part, made_bed, numbers_of, plain, plain_numbers, proportion, said
from .chains import laundering, sizes, text_attacks

SCHEMA = "evalkit.stress/1"
ALPHA = 0.05
UNGROUPED = "(no group)"


def stress(
    detectors: Mapping[str, Detector],
    real: SampleSet,
    fakes: Mapping[str, SampleSet],
    *,
    suites: Sequence[str] | None = None,
    fpr: float = 0.05,
    chains: Sequence[str] = (),
    released: Mapping[str, date] | None = None,
    n: int | None = None,
    bench: Bench | None = None,
    seed: int = 0,
    command: str = "evalkit stress",
) -> Study:
    """What is left of fitted detectors (by label) under each suite, the threshold fixed on clean reals at `fpr`.

    suites: laundering for images, text-attacks for texts by default. fakes: sets by name; released: their release
    dates, for windows. chains: names of `laundering.CHAINS`, or of `attacking.ATTACKS`, all by default. n: the most
    samples a side. command: what is put into the provenance. Raises UnknownName for a suite, chain
    or released name that does not exist, BadSetting, ModalityMismatch, TooFewSamples, BadSource for sets that share a
    sample.
    """
    suites = DEFAULTS[real.modality] if suites is None else suites
    if not suites:
        raise BadSetting(f"no suite was chosen; expected some of {', '.join(SUITES)}")
    for suite in suites:
        if suite not in SUITES:
            raise UnknownName("suite", suite, SUITES)
        if suite in ONLY and ONLY[suite] != real.modality:
            also = [name for name in SUITES if ONLY.get(name, real.modality) == real.modality]
            raise BadSetting(
                f"the suite {suite} is for {ONLY[suite]}s, {real.name!r} holds {real.modality}s; expected some of"
                f" {', '.join(also)}"
            )
    for name in released or ():
        if name not in fakes:
            raise UnknownName("released fake set", name, fakes)
    if "windows" in suites and not released:
        raise BadSetting("the suite windows needs release dates; give --released NAME=YYYY-MM-DD for each fake set")
    chosen: tuple[Link, ...] = (
        tuple(chain_of(name) for name in chains) if real.modality == "image" else attacks_of(chains)
    )
    bench = bench or Bench()
    bed, excluded = made_bed(
        detectors, real, fakes, fpr=fpr, bench=bench, chains=chosen, released=released, n=n, seed=seed
    )
    parts = {suite: SUITES[suite](bed) for suite in dict.fromkeys(suites)}
    start = _clean(bed)
    # What a study of damage has to say first is the damage.
    together = [*parts.values(), start]
    thresholds = {label: {"value": bed.thresholds[label], "n_real": len(bed.clean[label, ""])} for label in detectors}
    data = {"fpr": fpr, "thresholds": thresholds, "clean": start.data, "suites": {k: p.data for k, p in parts.items()}}
    return Study(
        SCHEMA,
        f"Stress of {', '.join(detectors)}",
        tuple(words for part in together for words in part.findings),
        tuple(exhibit for part in together for exhibit in part.exhibits),
        data,
        _provenance(bed, command),
        (*bed.warnings, *(words for part in together for words in part.warnings)),
        excluded,
    )


def _provenance(bed: Bed, command: str) -> dict[str, str]:
    found = {f"detector {label}": f"{d.digest}, trained on {d.trained_on}" for label, d in bed.detectors.items()}
    found |= {f"{name or 'real'}": f"{s.name} {s.digest} n={len(s)}" for name, s in bed.sets.items()}
    return (
        {"command": command}
        | found
        | {"seed": str(bed.seed), **{key: str(v) for key, v in environment(bed.bench.device).items()}}
    )


def _clean(bed: Bed) -> Part:
    """Where every suite starts from: untouched samples. The FPR is at most the nominal one by construction."""
    numbers = {label: numbers_of(bed.clean_pair(label), bed.thresholds[label]) for label in bed.detectors}
    findings = tuple(
        f"{label}: clean AUROC {said(x.auroc)}, TPR {said(x.tpr)} at a threshold of {bed.thresholds[label]:.4g} that"
        f" flags {x.fpr.value:.1%} of the {x.n_real} clean reals it was set on"
        for label, x in numbers.items()
    )
    return Part(findings, (), {label: plain_numbers(x) for label, x in numbers.items()})


# Subgroups of the reals -----------------------------------------------------------------------------------------------


def subgroups(bed: Bed) -> Part:
    """False positives of each group of the reals at the common threshold, each tested against the rest.

    Fisher's exact test, two-sided, of a group against all others; p-values of one detector corrected by Holm 1979.
    """
    groups = {sample.id: sample.group or UNGROUPED for sample in bed.real}
    if len(set(groups.values())) < 2:
        return Part((), (), {}, ("subgroups: the reals have no groups (folders, labels) to compare",))
    findings, exhibits = [], []
    data: dict[str, Any] = {}
    for label in bed.detectors:
        rows = _groups(bed, label, groups)
        odd = [row["group"] for row in rows if row["p_holm"] < ALPHA]
        worst = rows[0]
        findings.append(
            f"{label}: false positives of {len(rows)} groups of reals "
            + (f"differ: {', '.join(odd)} (Holm, 5 %)" if odd else "do not differ by more than chance (Holm, 5 %)")
            + f"; highest {worst['group']} {said(worst['estimate'])}"
        )
        shown = tuple(
            (r["group"], str(r["n"]), said(r["estimate"]), f"{r['p']:.3g}", f"{r['p_holm']:.3g}") for r in rows
        )
        note = f"At the one threshold that flags at most {bed.fpr:.1%} of all reals. p: group against the rest, Fisher."
        exhibits.append(
            Table(f"{label}: false positives by group", note, ("group", "n", "FPR", "p", "p (Holm)"), shown)
        )
        data[label] = [{k: v for k, v in r.items() if k != "estimate"} | {"fpr": plain(r["estimate"])} for r in rows]
    return Part(tuple(findings), tuple(exhibits), data)


def _groups(bed: Bed, label: str, groups: Mapping[str, str]) -> list[dict[str, Any]]:
    import numpy as np
    from scipy.stats import fisher_exact

    hits: dict[str, int] = defaultdict(int)
    n: dict[str, int] = defaultdict(int)
    for key, score in bed.clean[label, ""].items():
        n[groups[key]] += 1
        hits[groups[key]] += score > bed.thresholds[label]
    flagged, total = sum(hits.values()), sum(n.values())
    rows: list[dict[str, Any]] = []
    for name in n:
        rest = (flagged - hits[name], total - n[name] - flagged + hits[name])
        p = float(fisher_exact(np.array([[hits[name], n[name] - hits[name]], rest])).pvalue)
        rows.append({"group": name, "n": n[name], "estimate": proportion(hits[name], n[name]), "p": p})
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
    return sorted(rows, key=lambda row: (-row["estimate"].value, row["group"]))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down p-values, in the order given: reject those under alpha and the family errs at most alpha."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected


# Windows of release ---------------------------------------------------------------------------------------------------


def windows(bed: Bed) -> Part:
    """AUROC and TPR on the fakes released in each quarter, against all reals."""
    dated: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, day in bed.released.items():
        dated[day.year, (day.month - 1) // 3].append(name)
    undated = [name for name in bed.fakes if name not in bed.released]
    warnings = (f"windows: no release date of {', '.join(undated)}; left out of them",) if undated else ()
    findings, lines, rows = [], [], []
    data: dict[str, Any] = {}
    for label in bed.detectors:
        oldest_first = sorted(dated.items())
        found = {w: numbers_of(bed.clean_pair(label, names), bed.thresholds[label]) for w, names in oldest_first}
        lines.append(Line(label, tuple((year + (q + 0.5) / 4, x.auroc.value) for (year, q), x in found.items())))
        for when, x in found.items():
            names = ", ".join(dated[when])
            rows.append((label, _quarter(when), names, said(x.auroc), said(x.tpr), f"{x.n_real} + {x.n_fake}"))
        worst = min(found, key=lambda when: found[when].auroc.value)
        findings.append(f"{label}: hardest window {_quarter(worst)}, AUROC {said(found[worst].auroc)}")
        data[label] = [{"window": _quarter(w), "fakes": dated[w], **plain_numbers(x)} for w, x in found.items()]
    curve = Curves("AUROC by release", "Fakes of one quarter against all reals.", "year", "AUROC", tuple(lines))
    header = ("detector", "window", "fakes", "AUROC", "TPR at the clean threshold", "n real + fake")
    table = Table("Windows of release", "Quarters by the release dates given; 95 % intervals.", header, tuple(rows))
    exhibits: tuple[Exhibit, ...] = (curve, table) if len(dated) > 1 else (table,)
    return Part(tuple(findings), exhibits, data, warnings)


def _quarter(when: tuple[int, int]) -> str:
    return f"{when[0]} Q{when[1] + 1}"


Suite = Callable[[Bed], Part]

SUITES: Mapping[str, Suite] = {
    "laundering": laundering,
    "text-attacks": text_attacks,
    "sizes": sizes,
    "subgroups": subgroups,
    "windows": windows,
    "attacks": attacks,
}
# What a suite can only be run on, and which one is run where none is asked for.
ONLY: Mapping[str, str] = {"laundering": "image", "sizes": "image", "attacks": "image", "text-attacks": "text"}
DEFAULTS: Mapping[str, tuple[str, ...]] = {"image": ("laundering",), "text": ("text-attacks",)}
