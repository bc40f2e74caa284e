"""An audit from PATHs to a sealed folder: plan, list, examine, conclude, seal, show.

Each step leaves its result in the folder whole, so the same command goes on from wherever the last one ended, and does
nothing again that was acknowledged.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import registry
from ..cache import beside
from ..errors import BadSetting, BadSource, NothingToEvaluate, UnwritableOutput, UsageError
from ..hardware import environment
from ..isolation import Limits, Pool
from ..known import missing
from ..measurement import Bench
from ..types import READABLE, Dossier
from .concluding import Batch, Together, decided, gathered, records, statistics
from .configuring import Configuration, code
from .custody import AUDIT, DECISIONS, SEAL, STANDING
from .custody import records as sealed_records
from .deciding import current
from .dossier import build
from .engines import Spec, run
from .entries import Entry
from .exports import export
from .heat import with_heat
from .manifest import Listing, listed
from .previews import previews
from .requesting import CALIBRATION, CAPTIONS, HASHES, TRUST, Request, planned, ready
from .sealing import Seal, read_seal, seal
from .store import DATABASE, LOCK, Store, working_on

TABLE, PAGE, PAGES = "audit.csv", "index.html", "files"
OURS = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", LOCK, CALIBRATION, TRUST, AUDIT, SEAL}
OURS |= {CAPTIONS, DECISIONS, STANDING, TABLE, PAGE, PAGES}
# Drafts that a kill leaves here are cleared away; those of decisions may be another process's, at work just now.
DRAFTS = tuple(f".{name}." for name in sorted({*OURS, f"{HASHES}.csv", f"{HASHES}.txt"} - {DECISIONS, STANDING}))
EXPORTS = (".csv", ".jsonl", ".sarif", ".parquet")


@dataclass(frozen=True)
class Audited:
    """A finished audit: its folder, its seal, and what its dossier says first."""

    folder: Path
    seal: Seal
    findings: tuple[str, ...]
    undone: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def verdicts(self) -> dict[str, int]:
        """verdict -> files."""
        return {str(k): int(v) for k, v in self.seal.document["verdicts"].items()}

    def unreadable(self) -> int:
        """Inputs that should have been readable and were not; files of other kinds are no fault."""
        states = self.seal.document["states"]
        return sum(int(n) for state, n in states.items() if state not in (*READABLE, "unsupported"))


def audit(
    asked: Request,
    out: Path,
    *,
    engine: str = "local",
    devices: Sequence[str] = (),
    address: str | None = None,
    outputs: Sequence[Path] = (),
    resume: bool = False,
    bench: Bench | None = None,
    command: str = "evalkit audit",
) -> Audited:
    """One verdict a media file under asked.paths, with its evidence, in the folder `out`; what was begun goes on.

    engine: "local" or "ray", devices: where networks run, one process each (default: the bench's). resume: a folder
    that holds no audit is refused. outputs: files to export to besides. A request of nothing goes on with whatever was
    begun there. Raises UsageError and its kin before anything is opened, NothingToEvaluate when there is no input,
    RunFailed when the machine fails: the same command goes on.
    """
    bench = bench or Bench()
    if devices:
        bench = replace(bench, device=devices[0])
    _check_outputs(outputs, out)
    _check_folder(out)
    if resume and not (out / DATABASE).is_file():
        raise BadSource(f"{out} holds no audit to resume; give the folder of one, or leave --resume away")
    warnings: list[str] = []
    with working_on(out):
        _sweep(out)
        plan = _agreed(asked, out)
        begun = plan is not None
        if plan is None:
            if not asked.paths:
                raise UsageError("nothing to audit: give folders, files, archives, tables or URLs")
            _discard(out)
            plan = planned(asked, out, bench, warnings)
        with Store(out, None if begun else plan.plain()) as store:
            if not store.frozen:
                _list(store, plan, out, bench, warnings)
            _examine(store, plan, out, engine, devices, address, bench)
            bench.progress.start("concluding and sealing", 1)
            # What is sealed and drawn stays: only a reviewer's decision draws it again.
            is_done = _is_drawn(out)
            sealed = read_seal(out) if is_done else _sealed(store, plan, out, command)
            shown = dossier_of(out) if is_done else show(store, plan, out, bench.workers)
            bench.progress.finish()
    for file in (out / TABLE, *outputs):
        export(out, file)
    return Audited(out, sealed, shown.findings, shown.undone, tuple(warnings))


def show(store: Store, plan: Configuration, out: Path, workers: int) -> Dossier:
    """Draw the dossier of a sealed folder: `index.html` and `files/`, in place of what was there."""
    made = dossier_of(out)
    pages = frozenset(page.row.position for page in made.pages)
    pictures = previews(store, made.rows, pages, plan.limits, workers)
    made = replace(made, pictures=with_heat(pictures, store, made.rows, plan, workers))
    drawn: Mapping[str, bytes] = registry.reports.get("dossier")(made)
    _write(out, drawn)
    return made


def _is_drawn(out: Path) -> bool:
    """Whether the audit is sealed and its pages show the last decision on it."""
    page, decisions = out / PAGE, out / DECISIONS
    if not (out / SEAL).is_file() or not page.is_file():
        return False
    return not decisions.exists() or page.stat().st_mtime_ns >= decisions.stat().st_mtime_ns


def dossier_of(out: Path) -> Dossier:
    """The dossier of a sealed folder without its pictures."""
    decisions = [d for made in current(out).values() for d in made]
    return build(sealed_records(out), read_seal(out).document, decisions)


# ---------------------------------------------------------------------------------------------- steps


def _agreed(asked: Request, out: Path) -> Configuration | None:
    """The configuration of the audit that was begun here, where nothing else is asked now and the code is the same.

    None where none was begun. An audit begins with its frozen manifest: what a mistaken PATH or a kill left before
    that binds nobody, unless nothing is asked but to go on.
    """
    if not (out / DATABASE).is_file():
        return None
    with Store(out) as store:
        plain, frozen = store.configuration, store.frozen
    if not plain or (not frozen and asked != Request()):
        return None
    now, before = asked.asked(), dict(plain.get("asked", {}))
    if asked == Request():
        now = before  # --out alone: whatever it was
    for key in sorted({*now, *before}):
        if now.get(key) != before.get(key):
            raise BadSetting(
                f"{out} holds an audit with {key} = {before.get(key)!r}, now it is {now.get(key)!r}; ask for the same,"
                " or begin another with --out"
            )
    # What is sealed needs no code any more: it is shown as it is.
    if not (out / SEAL).is_file() and plain["code"] != code():
        raise BadSetting(
            f"the audit in {out} was begun by other code ({_versions(plain['code'])}), this is {_versions(code())}; go"
            " on with that, or begin another with --out"
        )
    return Configuration.read(plain)


def _discard(out: Path) -> None:
    """Take away the database of an audit that never began."""
    for name in (f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", DATABASE):
        (out / name).unlink(missing_ok=True)


def _versions(found: Mapping[str, Any]) -> str:
    state = " with changes" if found.get("dirty") else ""
    packages = ", ".join(f"{name} {version}" for name, version in found.get("packages", {}).items())
    return f"evalkit {found.get('evalkit')} {str(found.get('commit', ''))[:10]}{state}; {packages}"


def _list(store: Store, plan: Configuration, out: Path, bench: Bench, warnings: list[str]) -> None:
    """Freeze the manifest, and note when the audit began and what is in force."""
    asked = plan.asked
    bench.progress.start("listing", 1)
    found: Listing = listed(
        list(asked["paths"]), include=asked.get("include", ()), exclude=asked.get("exclude", ()), own=out
    )
    with Pool(1, Limits(**plan.limits), ready(plan.witnesses, out)) as pool:
        # Before the listing: witnesses that cannot be made are found out before an hour of hashing.
        store.note("protections", "\n".join(pool.protections))
        store.note("witnesses", "\n".join(f"{name} {digest}" for name, digest in pool.witnesses.items()))
        store.note("decoders", "\n".join(f"{name} {version}" for name, version in pool.decoders.items()))
    store.note("started", datetime.now(UTC).isoformat(timespec="seconds"))
    store.freeze(_some(found, asked["paths"]))
    bench.progress.finish()
    warnings.extend(f"{number:,} files left out {why}" for why, number in found.left_out.items() if number)
    store.note("left_out", "\n".join(warnings))


def _some(found: Iterable[Entry], paths: Sequence[str]) -> Iterator[Entry]:
    """The inputs, of which there must be one: raised inside of the freezing, so that no empty audit is begun."""
    entries = iter(found)
    first = next(entries, None)
    if first is None:
        raise NothingToEvaluate(f"no file under {', '.join(paths)}; check the PATHs, --include and --exclude")
    yield first
    yield from entries


def _examine(
    store: Store, plan: Configuration, out: Path, engine: str, devices: Sequence[str], address: str | None, bench: Bench
) -> None:
    """All that is left, on devices of the kind that the audit began on: another kind gives other last digits."""
    places = tuple(devices) or ((bench.device,) if bench.device.partition(":")[0] == plan.device else (plan.device,))
    if other := [place for place in places if place.partition(":")[0] != plan.device]:
        raise BadSetting(f"the audit in {out} is of {plan.device}, not {other[0]}; give --devices of that kind alone")
    arguments = {"configuration": plan.plain(), "folder": os.fspath(out.resolve()), "workers": bench.workers}
    spec = Spec("evalkit.auditing.examining:examiner", arguments)
    run(store, spec, engine=engine, devices=places, address=address, progress=bench.progress)


def _sealed(store: Store, plan: Configuration, out: Path, command: str) -> Seal:
    """Conclude and seal; a folder that is sealed already keeps its seal, and by other code is not concluded again."""
    if (out / SEAL).is_file() and store.configuration["code"] != code():
        return read_seal(out)
    batch = gathered(store, plan)
    together = decided(batch, plan)
    header = _header(store, plan, batch, together, command)
    return seal(out, header, records(store, plan, together))


def _header(store: Store, plan: Configuration, batch: Batch, together: Together, command: str) -> dict[str, Any]:
    plain = plan.plain()
    told = dict(plan.calibration or {})
    # What fakes were missed is a risk of files called authentic, which a detector that clears none does not carry.
    shown = ("reals", "fakes", "misses") if not _unclearing(plan) else ("reals",)
    facts: dict[str, Any] = {k: told[k] for k in shown if k in told}
    lines = {key: (store.note(key) or "").splitlines() for key in ("protections", "witnesses", "decoders", "left_out")}
    found = statistics(batch, plan, together, facts)
    found["not_done"] = [*lines["left_out"], *missing().values(), *_unclearing(plan)]
    return {
        "frozen": {
            "configuration": plain,
            "manifest": batch.manifest,
            "detectors": [{k: part[k] for k in ("name", "digest", "trained_on")} for part in plan.detectors],
            "calibration": told.get("digest"),
            "code": plain["code"],
            "witnesses": lines["witnesses"],
        },
        "command": command,
        "started": store.note("started"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(plan.device),
        "decoders": lines["decoders"],
        "protections": lines["protections"],
        "statistics": found,
    }


def _unclearing(plan: Configuration) -> list[str]:
    """Which detectors call no file authentic, and why."""
    clears = (plan.calibration or {}).get("clears", {})
    return [
        f"{part['name']} calls no file authentic: that takes calibration fakes (--fake) which it tells from the reals"
        for part in plan.detectors
        if part["digest"] in clears and not clears[part["digest"]]
    ]


# ---------------------------------------------------------------------------------------------- folder


def _check_folder(out: Path) -> None:
    """Refuse to begin in a folder that holds other things: an audit is never mixed with them."""
    if out.exists() and not out.is_dir():
        raise UnwritableOutput(f"{out} is a file; give a folder with --out")
    if (out / DATABASE).is_file():
        return
    names = (p.name for p in out.iterdir()) if out.is_dir() else ()
    strangers = sorted(n for n in names if n not in OURS and not n.startswith((HASHES, DATABASE, ".")))
    if strangers:
        raise UnwritableOutput(f"{out} holds other things ({strangers[0]!r}); give a new or empty folder with --out")


def _check_outputs(outputs: Sequence[Path], out: Path) -> None:
    for file in outputs:
        if file.suffix not in EXPORTS:
            raise BadSetting(f"-o {file}: the suffix picks the format; expected one of {' '.join(EXPORTS)}")
        inside = file.parent.resolve() == out.resolve()
        if inside and file.name in OURS - {TABLE}:
            raise BadSetting(f"-o {file} is a part of the audit itself; choose another name")
        if not inside and not file.parent.is_dir():
            raise UnwritableOutput(f"-o {file}: the folder {file.parent} does not exist; make it first")


def _sweep(out: Path) -> None:
    """Clear away drafts that a kill left; whoever holds the folder's lock has none under way."""
    for draft in (*out.glob(".*"), *(out / PAGES).glob(".*")):
        if draft.parent.name == PAGES or draft.name.startswith(DRAFTS):
            shutil.rmtree(draft, ignore_errors=True)


def _write(out: Path, drawn: Mapping[str, bytes]) -> None:
    """The pages and pictures before the page that shows them; those of an earlier drawing go last."""
    pages = out / PAGES
    for name in sorted(drawn, key=lambda n: n == PAGE):
        try:
            with beside(out / name) as draft:
                draft.write_bytes(drawn[name])
        except OSError as error:
            raise UnwritableOutput(f"cannot write {out / name}: {error.strerror or error}") from error
    for old in pages.iterdir() if pages.is_dir() else ():
        if f"{PAGES}/{old.name}" not in drawn:
            with suppress(OSError):
                old.unlink()
