"""The verb `gate`: a record, a baseline and rules, as objects or files -> one GateReport; all else is made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadSetting, UsageError
from ..records import read_record
from ..settings import gate_table
from ..types import GateReport, Rule, RunRecord
from .names import full_name
from .rules import KEYS, gate_of
from .verdicts import checks, outcome_of

Rules = Mapping[str, Any] | Sequence[Rule]


def gate(
    record: RunRecord | Path | str,
    baseline: RunRecord | Path | str | None = None,
    rules: Rules | None = None,
    config: Path | str | None = None,
) -> GateReport:
    """Judge a run by limits and against a baseline: pass, fail or inconclusive, with a check a metric.

    record, baseline: run records, their files, or folders that hold one. rules: tables as in the configuration,
    {"fid@inception": {"max": 20, "max_increase": "5%"}}, with alpha, adjust and require beside them; or Rules. config:
    a file with [gate] tables, over which `rules` are laid; without both, that of the working folder is read.
    Raises BadRecord for what is not a record, BadSetting or UnknownName for rules that ask nothing or nothing known,
    ModalityMismatch for a baseline of another modality, NothingToEvaluate for a record without a number.
    """
    over, top = _tables(rules)
    table: dict[str, Any] = {}
    if config is not None or rules is None:
        table = gate_table(file=None if config is None else Path(config))
    return judged(record, baseline, {**table, **top}, over)


def judged(
    record: RunRecord | Path | str,
    baseline: RunRecord | Path | str | None,
    table: Mapping[str, Any],
    over: Mapping[str, Mapping[str, Any]],
    *,
    command: str = "evalkit.gate",
    name: str = "",
) -> GateReport:
    """`gate` by a [gate] table with the tables of `over` laid over it; name: what the gate is called."""
    run, run_from = _opened(record, "")
    base, base_from = (None, "") if baseline is None else _opened(baseline, run.subject.name)
    known = dict.fromkeys(name for one in (run, base) if one is not None for name in _names(one))
    asked = gate_of(table, over, lambda metric: full_name(metric, run.subject.modality, known))
    found = checks(run, base, asked)
    provenance = {"command": command, "gate": json.dumps(asked.plain(), ensure_ascii=True)}
    provenance |= {"name": name} if name else {}
    provenance |= _origin("run", run, run_from)
    provenance |= {} if base is None else _origin("baseline", base, base_from)
    return GateReport(
        subject=run.subject,
        reference=run.reference,
        baseline=None if base is None else base.subject,
        outcome=outcome_of(found),
        checks=found,
        provenance=provenance,
        warnings=(*run.warnings, *_of_baseline(base, run)),
    )


def _of_baseline(base: RunRecord | None, run: RunRecord) -> list[str]:
    """What the baseline's record warns of and the run's does not."""
    return [] if base is None else [f"baseline: {w}" for w in base.warnings if w not in run.warnings]


def _names(record: RunRecord) -> list[str]:
    """The numbers a record holds, and those it says are missing."""
    return [r.name for r in record.results] + [
        w.split(" is missing: ")[0] for w in record.warnings if " is missing: " in w
    ]


def _tables(rules: Rules | None) -> tuple[dict[str, Mapping[str, Any]], dict[str, Any]]:
    """Tables by metric, and what stands beside them."""
    if rules is None:
        return {}, {}
    if not isinstance(rules, Mapping):
        over: dict[str, Mapping[str, Any]] = {}
        for rule in rules:
            if not isinstance(rule, Rule):
                raise BadSetting(f"rules: {rule!r}; expected a table by metric, or a list of Rules")
            if rule.metric in over:
                raise BadSetting(f"rules: two of them speak of {rule.metric!r}; join them")
            own = {key: getattr(rule, key) for key in KEYS}
            # In a Rule every field is set; what is at its default was not asked for, but for `require`.
            over[rule.metric] = {k: v for k, v in own.items() if v is not None and not (k == "confident" and not v)}
        return over, {}
    return (
        {name: own for name, own in rules.items() if isinstance(own, Mapping)},
        {name: own for name, own in rules.items() if not isinstance(own, Mapping)},
    )


def _opened(given: RunRecord | Path | str, like: str) -> tuple[RunRecord, str]:
    """A record and where it came from; of a report folder the one record, or the one of the subject called `like`."""
    if isinstance(given, RunRecord):
        return given, ""
    path = Path(given)
    if not path.is_dir():
        return read_record(path), str(path)
    files = sorted((path / "records" if (path / "records").is_dir() else path).glob("*.json"))
    if not files:
        raise UsageError(f"{path} holds no run record; give a record (.json) or a report folder")
    if len(files) == 1:
        return read_record(files[0]), str(files[0])
    fitting = [(r, str(f)) for f in files if (r := read_record(f)).subject.name == like] if like else []
    if len(fitting) != 1:
        wanted = f" and {len(fitting)} of them of {like!r}" if like else ""
        raise UsageError(f"{path} holds {len(files)} run records{wanted}; give one of them, such as {files[0]}")
    return fitting[0]


def _origin(word: str, record: RunRecord, source: str) -> dict[str, str]:
    subject, commit = record.subject, record.environment.get("commit")
    found = {word: f"{subject.name}, n = {subject.n}, {subject.digest}"}
    found |= {f"{word} record": source} if source else {}
    found |= {f"{word} commit": f"{commit}{', dirty' if record.environment.get('dirty') else ''}"} if commit else {}
    if record.reference is not None:
        found[f"{word} reference"] = f"{record.reference.name}, n = {record.reference.n}, {record.reference.digest}"
    return found
