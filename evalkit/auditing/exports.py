"""A sealed audit for other tools: CSV, the chain itself, SARIF, Parquet; one pass over the records, memory flat.

Every record is checked against its hash while it is read, so that nothing edited leaves the folder in another format.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..cache import beside
from ..errors import BadSetting, UnwritableOutput
from .cells import cell
from .custody import AUDIT, DECISIONS, SEAL, STANDING, checked, records
from .deciding import current
from .parquet import LISTS, write_parquet
from .sarif import write_sarif
from .sealing import read_seal

Decisions = Mapping[str, tuple[Mapping[str, Any], ...]]
# A name ends in ":text" where its cells come from outside or are words: those are made safe against formulas.
COLUMNS = (
    "position", "id:text", "name_hex", "sha256", "modality", "format", "bytes", "width", "height", "state", "verdict",
    "rule:text", "p_fake", "p_value", "q_value", "flagged", "threshold_low", "threshold_high", "detectors:text",
    "evidence:text", "conflicts:text", "reasons:text", "reason:text", "warnings:text", "decision", "decided_verdict",
    "record",
)  # fmt: skip
# An export never takes the place of what it is made of.
OWN = (AUDIT, SEAL, DECISIONS, STANDING)


def export(folder: Path, file: Path) -> None:
    """Write a sealed audit as the suffix of `file` says: .csv, .jsonl (the chain), .sarif or .parquet.

    Written beside and renamed. Raises BadSetting on another suffix or a missing extra, BadRecord on an edited record.
    """
    writers: dict[str, Callable[[Path, Path], None]] = {
        ".csv": _csv, ".jsonl": _jsonl, ".sarif": _sarif, ".parquet": _parquet,
    }  # fmt: skip
    write = writers.get(file.suffix.lower())
    if write is None:
        raise BadSetting(f"cannot export to {file.name!r}; expected a file ending in {', '.join(writers)}")
    if file.name in OWN and file.parent.resolve() == folder.resolve():
        raise BadSetting(f"{file} is part of the sealed audit itself; choose another name")
    try:
        with beside(file) as draft:
            write(folder, draft)
    except OSError as error:
        raise UnwritableOutput(f"cannot write {file}: {error.strerror or error}; choose another place") from error


# ---------------------------------------------------------------------------------------------- formats


def _csv(folder: Path, draft: Path) -> None:
    decided = current(folder)
    with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        names = [name.partition(":") for name in COLUMNS]
        rows.writerow([name for name, _, _ in names])
        for record in records(folder):
            told = flat(record, decided)
            rows.writerow([_cell(told.get(name), bool(kind)) for name, _, kind in names])


def _cell(value: Any, is_text: bool) -> str:
    """Numbers in full, absent values empty, yes and no as true and false."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return cell(str(value))


def flat(record: Mapping[str, Any], decided: Decisions) -> dict[str, Any]:
    """A record as one row: lists as words, the decision that stands, its hash as `record`."""
    threshold = record.get("threshold") or (None, None)
    made = decided.get(str(record.get("hash")), ())
    return {
        **record,
        "threshold_low": threshold[0],
        "threshold_high": threshold[1],
        "detectors": "; ".join(f"{d['name']} {_number(d['p_fake'])}" for d in record.get("detectors", ())),
        "evidence": "; ".join(f"{e['kind']} ({e['strength']}): {e['detail']}" for e in record.get("evidence", ())),
        "conflicts": "; ".join(record.get("conflicts", ())),
        "reasons": "; ".join(f"{kind}: {said}" for kind, said in (record.get("reasons") or {}).items()),
        "warnings": "; ".join(record.get("warnings", ())),
        "decision": made[-1]["decision"] if made else None,
        "decided_verdict": made[-1]["verdict"] if made else None,
        "record": record.get("hash"),
    }


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _jsonl(folder: Path, draft: Path) -> None:
    """The chain, byte for byte: what it is checked against stays true of the copy."""
    with draft.open("wb") as file:
        file.writelines(line for line, _ in checked(folder))


def _sarif(folder: Path, draft: Path) -> None:
    with draft.open("wb") as file:
        write_sarif(records(folder), read_seal(folder), file)


def _parquet(folder: Path, draft: Path) -> None:
    decided = current(folder)
    write_parquet(({**flat(r, decided), **{key: r[key] for key in LISTS}} for r in records(folder)), draft)
