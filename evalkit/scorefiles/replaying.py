"""Recorded scores replayed, and RAID's table: from score files, or from texts and detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..attacking import attacks_of
from ..errors import NothingToEvaluate
from ..hardware import environment
from ..measurement import Bench
from ..types import Excluded, Exhibit, Study
from .conditions import conditions, has_conditions, plain_conditions, plain_threshold
from .joining import runs_from
from .numbers import FPRS, MOST_RESAMPLED, Replayed, plain, replayed, said
from .recorded import Higher, NanPolicy, Recorded, attack_of, both_sides, checked, oriented, unattacked
from .shown import condition_findings, condition_tables, run_tables
from .texts import scored_texts

SCHEMA = "evalkit.replay/1"
EQUAL = 1e-12
# Above this many runs a sentence speaks of all of them together.
FEW_RUNS = 6


def replay(
    sources: Sequence[Path | str],
    *,
    higher: Higher = "fake",
    nan: NanPolicy = "refuse",
    truth: str | None = None,
    columns: Mapping[str, str] | None = None,
    command: str = "evalkit replay",
) -> Study:
    """What recorded scores say: AUROC, AP, EER and TPR at 5 and 1 % FPR of every run, and RAID's table where told.

    sources: score files (.csv .jsonl .json .parquet). higher: which side's texts the scores are higher for. nan: what
    to do with missing scores. truth: real, fake or a file joined by id. columns: role -> a file's own column name.
    Raises BadSource, BadRows, TooFewSamples, NothingToEvaluate, UsageError: each for a file that cannot be read so.
    """
    if not sources:
        raise NothingToEvaluate("no score file was given")
    paths = [Path(source) for source in sources]
    runs = runs_from(paths, columns or {}, truth)
    provenance = {"command": command, **_files(runs), **_environment()}
    names = ", ".join(path.name for path in paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return _study(runs, f"Replay of {names}", provenance, (), higher=higher, nan=nan)


def raid(
    source: Path | str,
    detectors: Sequence[Path | str],
    *,
    attacks: Sequence[str] = (),
    truth: str | None = None,
    columns: Mapping[str, str] | None = None,
    bench: Bench | None = None,
    seed: int = 0,
    command: str = "evalkit raid",
) -> Study:
    """RAID's table of detectors on the texts of a file, whose columns say domain, model, decoding and attack of each.

    attacks: names of `attacking.ATTACKS`, or "all": every text is scored again behind each. Raises UnknownName for an
    attack, and what `replay` raises.
    """
    path = Path(source)
    chosen = attacks_of(attacks)
    runs, excluded, digests = scored_texts(
        path, detectors, attacks=chosen, columns=columns, truth=truth, labelled=True, bench=bench, seed=seed
    )
    device = {} if bench is None else {"device": bench.device}
    provenance = {"command": command, **digests, **{f"attack {a.name}": a.recipe for a in chosen}}
    provenance |= {"seed": str(seed), **_environment(), **device}
    # A text that could not be read is listed with its reason, so a missing score is no surprise here.
    return _study(runs, f"Detectors on {path.name}", provenance, tuple(excluded), higher="fake", nan="exclude")


def _study(
    runs: Sequence[Recorded],
    title: str,
    provenance: Mapping[str, str],
    excluded: tuple[tuple[str, Excluded], ...],
    *,
    higher: Higher,
    nan: NanPolicy,
) -> Study:
    directed = [oriented(both_sides(checked(run, nan)), higher) for run in runs]
    ready, said_so = [run for run, _ in directed], [words for _, words in directed if words]
    plain_runs = [unattacked(run) for run in ready]
    resample = sum(map(len, plain_runs)) <= MOST_RESAMPLED
    found = [
        replace(replayed(one, resample=resample), apart=len(run) - len(one))
        for run, one in zip(ready, plain_runs, strict=True)
    ]
    tables = {run.name: conditions(run) for run in ready if has_conditions(run)}
    exhibits: list[Exhibit] = [*run_tables(found, resample)]
    findings = [*_findings(found)]
    for name, table in tables.items():
        findings += condition_findings(name, table)
        exhibits += condition_tables(name, table)
    data = {
        "higher": higher,
        "nan": nan,
        "runs": [
            _plain(one) | ({"table": plain_conditions(tables[one.run.name])} if one.run.name in tables else {})
            for one in found
        ],
    }
    warnings = (*said_so, *_warnings(found))
    return Study(SCHEMA, title, tuple(findings), tuple(exhibits), data, provenance, warnings, excluded)


def _findings(found: Sequence[Replayed]) -> list[str]:
    claimed = [one for one in found if one.claimed is not None]
    lines = []
    if len(found) <= FEW_RUNS:
        for one in found:
            rates = "; ".join(
                f"TPR at {fpr:.0%} FPR {said(x, threshold.why)}"
                for fpr, x, threshold in zip(FPRS, one.caught, one.thresholds, strict=True)
            )
            sizes = f"{len(one.run.human):,} human and {len(one.run.machine):,} machine texts"
            sizes += f" that nobody attacked ({one.apart:,} under attack are told apart)" if one.apart else ""
            lines.append(f"{one.run.name}: AUROC {said(one.auroc)} on {sizes}; {rates}")
    else:
        areas = sorted(found, key=lambda one: one.auroc.value)
        mean = sum(one.auroc.value for one in found) / len(found)
        low, high = areas[0], areas[-1]
        lines.append(
            f"{len(found)} runs: AUROC from {low.auroc.value:.4f} ({low.run.name}) to {high.auroc.value:.4f}"
            f" ({high.run.name}), mean {mean:.4f}"
            + ("; on texts that nobody attacked" if any(one.apart for one in found) else "")
        )
    if claimed:
        worst = max(abs(one.claimed or 0.0) for one in claimed)
        met = sum(abs(one.claimed or 0.0) <= EQUAL for one in claimed)
        lines.append(
            f"The AUROC that the files record is met within {EQUAL:g} by {met} of {len(claimed)} runs; largest"
            f" difference {worst:.2g}"
        )
    return lines


def _warnings(found: Sequence[Replayed]) -> list[str]:
    lines = [
        f"{one.run.name}: every score is {one.constant:g}: the detector tells nothing apart, and AUROC 0.5 is ties"
        for one in found
        if one.constant is not None
    ]
    lines += [
        f"{one.run.name}: {one.run.excluded:,} missing scores were left out; if hard texts are missing, every number"
        " here flatters"
        for one in found
        if one.run.excluded
    ]
    lines += [
        f"{one.run.name}: fewer than two texts of a side are unattacked, so the pooled numbers take attacked texts too;"
        " copies of one text are not independent"
        for one in found
        if not one.apart and any(attack_of(word) != "none" for word in one.run.fields.get("attack", ()))
    ]
    below = [one for one in found if one.auroc.high < 0.5]
    if below:
        names = ", ".join(f"{one.run.name} ({one.auroc.value:.4f})" for one in below[:FEW_RUNS])
        more = f" and {len(below) - FEW_RUNS} more" if len(below) > FEW_RUNS else ""
        lines.append(
            f"AUROC below 0.5 with the whole interval: {names}{more}; if these scores are higher for human texts, say"
            " --higher real (--higher auto would turn them round)"
        )
    return lines


def _plain(one: Replayed) -> dict[str, object]:
    """A run as plain JSON; thresholds are in the direction in which higher means machine."""
    rates = [
        plain_threshold(threshold) | ({} if caught is None else {"tpr": plain(caught)})
        for threshold, caught in zip(one.thresholds, one.caught, strict=True)
    ]
    told: dict[str, object] = {
        "name": one.run.name,
        "n": {"human": len(one.run.human), "machine": len(one.run.machine)},
        "scores_negated": one.run.flipped,
        "missing_left_out": one.run.excluded,
        "auroc": plain(one.auroc),
        "average_precision": plain(one.average_precision),
        "eer": plain(one.eer),
        "rates": rates,
    }
    if one.apart:
        told["attacked_left_to_the_table"] = one.apart
    if one.constant is not None:
        told["constant_score"] = one.constant
    if one.claimed is not None:
        told["recorded"] = {"auroc": one.run.claims["roc_auc"], "recorded_less_found": one.claimed}
    return told


def _files(runs: Sequence[Recorded]) -> dict[str, str]:
    digests = dict.fromkeys(run.digest for run in runs)
    return {f"scores {i}" if len(digests) > 1 else "scores": digest for i, digest in enumerate(digests, 1)}


def _environment() -> dict[str, str]:
    return {key: str(value) for key, value in environment("cpu").items()}
