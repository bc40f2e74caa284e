"""`evalkit audit`: one verdict a media file with its evidence; verifying, repeating, deciding on and exporting it.

`evalkit audit PATH ...` audits; a first word that names one of the commands beneath it is that command, so a folder of
that name is written ./verify.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ..errors import BadRecord, BadSetting, EvalkitError, ExitCode
from ..options import Run, common

if TYPE_CHECKING:
    from ..auditing.running import Audited
    from ..auditing.verifying import Report

VERDICTS = ("synthetic", "authentic", "uncertain", "unreadable")


class _Audit(click.Group):
    """A group whose words are PATHs where they name no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            raise click.UsageError("nothing to audit: give folders, files, archives, tables or URLs (--help says more)")
        if args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("evalkit audit", "PATH ... --out DIR [OPTIONS]  (evalkit audit run --help)")


@click.group(cls=_Audit)
def audit() -> None:
    """One verdict a media file, with evidence, calibrated uncertainty and a chain of custody."""


@audit.command()
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The audit's folder.")
@click.option(
    "--with", "detectors", metavar="DETECTOR", multiple=True, help="Detector folder, or a published one; repeatable."
)
@click.option("--calibrate", metavar="SOURCE", multiple=True, help="Real samples of yours: p-values are against them.")
@click.option("--fake", metavar="SOURCE", multiple=True, help="Fakes that P(fake) is calibrated on.")
@click.option("--calibration", metavar="FILE", help="A calibration that `detect --keep-calibration` kept, instead.")
@click.option("--fpr", type=float, help="Share of reals above a detector's own threshold (default 0.01).")
@click.option("--confidence", type=float, help="How sure to be of that share (default 0.95; 0: on average).")
@click.option("--fdr", type=float, default=0.05, show_default=True, help="Expected share of reals among discoveries.")
@click.option(
    "--fdr-method",
    type=click.Choice(["bh", "by"]),
    default="bh",
    show_default=True,
    help="Benjamini-Hochberg; Benjamini-Yekutieli holds under any dependence and finds less.",
)
@click.option("--attributor", metavar="DIR", help="A fitted attributor: which source a file resembles.")
@click.option("--known", "hashes", metavar="FILE", help="Known content: SHA-256, PDQ or pHash with labels.")
@click.option("--trust", metavar="FILE", help="C2PA signers to trust (PEM).")
@click.option("--trust-date", metavar="DATE", default="", help="The date of that list, for the record.")
@click.option("--as-of", metavar="TIME", default="", help="When certificates must be valid (ISO; default: now).")
@click.option("--payload", "payloads", metavar="NAME=HEX", multiple=True, help="A dwtDct watermark to look for.")
@click.option("--rivagan", metavar="NAME=HEX", multiple=True, help="A RivaGAN watermark to look for (8 hex digits).")
@click.option(
    "--captions", metavar="INSTRUMENT", help="Hold images against their captions (clip); needs captioned reals."
)
@click.option("--watermark-alpha", type=float, default=1e-6, show_default=True, help="p-value that decides.")
@click.option("--believe-claims", is_flag=True, help="An unsigned claim of generation is a verdict.")
@click.option("--include", metavar="GLOB", multiple=True, help="Only these names.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Not these names; wins over --include.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--devices", metavar="D,D", default="", help="Devices to share the work: cuda:0,cuda:1.")
@click.option("--address", metavar="HOST:PORT", help="A Ray cluster (default: start Ray on this machine).")
@click.option("--resume", is_flag=True, help="Refuse to begin: only go on.")
@click.option("--fail-on", type=click.Choice(VERDICTS), multiple=True, help="Exit 1 when a file has this verdict.")
@click.option(
    "--most-unreadable", type=float, default=0.01, show_default=True, help="Share of unreadable files before exit 4."
)
@click.option("-o", "outputs", type=click.Path(path_type=Path), multiple=True, help="File: .csv .jsonl .sarif .parquet")
@click.option("--json", "as_json", is_flag=True, help="The seal as one JSON document on stdout and nothing else.")
@common
def run(
    paths: tuple[str, ...],
    out: Path,
    payloads: tuple[str, ...],
    rivagan: tuple[str, ...],
    engine: str,
    devices: str,
    address: str | None,
    resume: bool,
    fail_on: tuple[str, ...],
    most_unreadable: float,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Audit PATHs: folders, files, archives, tables of paths, URLs. The same command goes on where one ended."""
    from ..auditing.requesting import Request
    from ..auditing.running import audit as audited
    from ..records import dumps

    asked = {key: options.pop(key) for key in _ASKED}
    request = Request(
        paths=paths, payloads=_pairs("--payload", payloads), rivagan=_pairs("--rivagan", rivagan), **asked
    )
    if not 0 <= most_unreadable <= 1:
        raise BadSetting(f"--most-unreadable {most_unreadable}; expected a share between 0 and 1")
    with Run(options) as bench:
        done = audited(
            request, out, engine=engine, devices=tuple(filter(None, devices.split(","))), address=address,
            outputs=outputs, resume=resume, bench=bench.bench, command=shlex.join(["evalkit", *sys.argv[1:]]),
        )  # fmt: skip
    for words in done.warnings:
        click.echo(f"warning: {words}", err=True)
    click.echo(dumps(dict(done.seal.document)) if as_json else _words(done), nl=not as_json)
    _conclude(done, fail_on, most_unreadable)


_ASKED = (
    "detectors", "calibrate", "fake", "calibration", "fpr", "confidence", "fdr", "fdr_method", "attributor", "hashes",
    "captions", "trust", "trust_date", "as_of", "watermark_alpha", "believe_claims", "include", "exclude",
)  # fmt: skip


def _pairs(option: str, given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=")[::2] for text in given]
    if wrong := next((t for t, (name, value) in zip(given, pairs, strict=True) if not name or not value), None):
        raise BadSetting(f"{option} {wrong!r}; expected NAME=HEX, such as ours=c0ffee")
    return tuple(pairs)


def _words(done: Audited) -> str:
    lines = [*done.findings, *(f"not done: {words}" for words in done.undone)]
    lines += [f"dossier: {done.folder / 'index.html'}", f"records: {done.folder / 'audit.jsonl'}", done.seal.line]
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)


def _conclude(done: Audited, fail_on: tuple[str, ...], most_unreadable: float) -> None:
    """Leave with the code that says what was found: 1 before 4."""
    counts = done.verdicts()
    found = [f"{counts[name]:,} {name}" for name in fail_on if counts.get(name)]
    codes = [ExitCode.FAILED_GATE] if found else []
    if found:
        click.echo(f"evalkit: findings at --fail-on: {', '.join(found)}", err=True)
    lost, total = done.unreadable(), done.seal.count
    if lost > most_unreadable * total:
        codes.append(ExitCode.INCONCLUSIVE)
        click.echo(
            f"evalkit: {lost:,} of {total:,} files could not be read, more than {most_unreadable:.3g} of them;"
            " the rest is judged, look at the others (--most-unreadable sets the share)",
            err=True,
        )
    if codes:
        raise click.exceptions.Exit(int(ExitCode.worst(codes)))


FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


@audit.command()
@FOLDER
@click.option("--head", metavar="HASH", help="The head that was kept elsewhere: finds a chain rewritten as a whole.")
@click.option(
    "--inputs", type=click.Path(path_type=Path, file_okay=False), help="Compare the files under this folder too."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
def verify(folder: Path, head: str | None, inputs: Path | None, as_json: bool) -> None:
    """Find any edit, removal, insertion or reordering of the records of DIR; exit 1 when there is one."""
    from ..auditing.verifying import verify as verified
    from ..records import dumps

    if (folder / "audit.db").is_file() and not (folder / "audit.json").is_file():
        raise BadRecord(f"the audit in {folder} is not finished; give its command again, then verify")
    report = verified(folder, head, inputs)
    click.echo(dumps({**_told(report), "ok": report.ok}) if as_json else _verified(report), nl=not as_json)
    if not report.ok:
        raise click.exceptions.Exit(int(ExitCode.FAILED_GATE))


def _told(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return {"schema": "evalkit.verify/1", **asdict(report), "folder": str(report.folder)}


def _verified(report: Report) -> str:
    """The report as lines: sound or not, what is wrong, what was compared."""
    state = "sound" if report.ok else f"NOT sound, {report.count:,} problems"
    lines = [f"{report.folder}: {state}; {report.records:,} records, {report.decisions:,} decisions"]
    lines += [*report.problems, *(f"note: {words}" for words in report.notes)]
    if report.inputs is not None:
        lines.append(
            f"inputs: {report.inputs.same:,} the same, {len(report.inputs.changed):,} changed,"
            f" {len(report.inputs.missing):,} missing, {report.inputs.unchecked:,} not checked"
        )
    lines += [f"the hash given is that of the {report.anchored}"] if report.anchored else []
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in [*lines, report.line])


@audit.command()
@FOLDER
@click.argument("record", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def rerun(folder: Path, record: str, as_json: bool, **options: Any) -> None:
    """Examine one file of DIR again and show what differs; ID is its name, position, record hash or sha256."""
    from ..auditing.repeating import repeat
    from ..records import dumps

    with Run(options) as bench:
        again = repeat(folder, record, bench.bench)
    if as_json:
        click.echo(dumps(again.plain()), nl=False)
        return
    click.echo(again.words())


@audit.command()
@FOLDER
@click.argument("record", metavar="ID")
@click.option("--decision", type=click.Choice(["upheld", "overturned", "noted"]), required=True)
@click.option("--verdict", type=click.Choice(VERDICTS[:3]), help="What stands instead, of an overturned one.")
@click.option("--reviewer", required=True, help="Who decides.")
@click.option("--reason", required=True, help="Why, in a sentence.")
def decide(folder: Path, record: str, decision: str, verdict: str | None, reviewer: str, reason: str) -> None:
    """Append a reviewer's decision on one file of DIR; nothing that was written is changed."""
    from ..auditing.deciding import decide as decided
    from ..auditing.repeating import redraw

    made = decided(folder, record, cast(Any, decision), reviewer=reviewer, reason=reason, verdict=cast(Any, verdict))
    to = f" to {made['verdict']}" if decision == "overturned" else ""
    shown = "".join(c if c.isprintable() else " " for c in str(made.get("id", record)))
    click.echo(f"decision {made['hash']} on {shown}: {decision}{to}")
    try:
        redraw(folder)
    except EvalkitError as error:
        # The decision stands; to fail would have it made twice.
        click.echo(f"warning: the pages do not show it yet, the next command on {folder} draws them: {error}", err=True)


@audit.command()
@FOLDER
@click.option(
    "-o", "outputs", type=click.Path(path_type=Path), multiple=True, required=True,
    help="File: .csv .jsonl .sarif .parquet",
)  # fmt: skip
@click.option("--cases", is_flag=True, help="Only files whose verdict was overturned, as .csv: a regression set.")
def export(folder: Path, outputs: tuple[Path, ...], cases: bool) -> None:
    """Write the records of DIR in other formats, or the overturned ones as a regression set."""
    from ..auditing.deciding import cases as overturned
    from ..auditing.exports import export as exported
    from ..records import write_text

    for file in outputs:
        if not cases:
            exported(folder, file)
        elif file.suffix != ".csv":
            raise BadSetting(f"-o {file}; --cases is written as .csv")
        else:
            write_text(file, overturned(folder))
        click.echo(str(file))
