"""Arguments -> verb -> output: the command line, and the face's first customer.

stdout carries the result, stderr progress and messages. Exit codes are `evalkit.errors.ExitCode`.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from . import __version__
from .commands.audit import audit
from .commands.audit_data import audit_data
from .commands.detectors import detect, train
from .commands.export import export
from .commands.gate import gate
from .commands.judge import judge
from .commands.marking import marking
from .commands.matrix import matrix
from .commands.plan import plan
from .commands.replay import raid, replay, subgroups
from .commands.sources import attribute
from .commands.stress import leaks, stress
from .commands.until import score_until_decided, taken_apart, until_options
from .commands.view import view
from .commands.weights import weights
from .errors import EvalkitError, ExitCode
from .interrupts import Terminated, heed
from .options import Run, common, controls_of, scoring


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with the exit code that says what happened."""
    heed()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error ends as one line on stderr."""
    try:
        # Outside standalone mode click catches its own Exit and returns the code; commands themselves return nothing.
        left = evalkit.main(arguments or ["--help"], standalone_mode=False, prog_name="evalkit")
    except EvalkitError as error:
        if error.exit_code is ExitCode.DONE:
            return int(ExitCode.DONE)
        return _fail(str(error), error.exit_code)
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        return _fail(f"interrupted; {KEPT}", ExitCode.SIGINT)
    except Terminated:
        return _fail(f"terminated; {KEPT}", ExitCode.SIGTERM)
    except SystemExit:
        # click's answer to a pipe whose reader has left, with a 1 that would read as a failed gate.
        return int(ExitCode.DONE)
    except Exception as error:  # A bug of ours, or a machine that failed: still one line, and the way to the rest.
        return _fail(f"{type(error).__name__}: {error} (EVALKIT_TRACEBACK=1 shows where)", ExitCode.RUN_FAILED)
    return left if isinstance(left, int) else int(ExitCode.DONE)


KEPT = "what was finished is kept; the same command goes on from there"


def _fail(message: str, code: ExitCode) -> int:
    if os.environ.get("EVALKIT_TRACEBACK") == "1":
        traceback.print_exc()
    line = "".join(c if c.isprintable() else " " for c in " ".join(message.split()))
    # A GitHub runner takes `##[` for a command wherever it stands, and names in messages are not ours.
    line = line.replace("##[", "##\\[")
    click.echo(f"evalkit: {line}", err=True)
    return int(code)


def _command_line() -> str:
    return shlex.join(["evalkit", *sys.argv[1:]])


def _document(found: Any) -> str:
    from .records import dumps

    return dumps(found).rstrip("\n")


def _print_board(board: Any, as_json: bool, document: Any = None) -> None:
    from . import registry
    from .attribution import attribution_lines
    from .records import dumps
    from .tables import board_table

    if as_json:
        click.echo(dumps(document) if document is not None else registry.reports.get("json")(board), nl=False)
        return
    for comparison in board.comparisons:
        click.echo(board_table(comparison))
    for record in board.records:
        for line in attribution_lines(record):
            click.echo(line)


# ---------------------------------------------------------------------------------------------- commands


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="evalkit")
def evalkit() -> None:
    """How good, diverse, original, fast and detectable a generative model is, with error bars."""


@evalkit.command()
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@scoring
@click.option("--out", type=click.Path(path_type=Path), default=Path("evalkit-report"), help="Report folder.")
@click.option(
    "--baseline", type=click.Path(path_type=Path), metavar="RECORD", help="A run record to stand beside them."
)
@click.option("--train-seeds", type=int, help="Train each generator with so many seeds and say how far they move it.")
@click.option("--sample-seeds", type=int, help="Draw from each trained generator with so many seeds.")
@click.option(
    "--adjust",
    type=click.Choice(["holm", "bh", "none"]),
    help="How the p-values of all differences are adjusted (default holm).",
)
@click.option("--explain", is_flag=True, help="Say in words why the numbers of two run records differ; no report.")
@common
def compare(subjects: tuple[str, ...], explain: bool, **options: Any) -> None:
    """Score each SUBJECT and write one leaderboard report.

    A SUBJECT is a folder, archive, file, run record (.json), or the name of a generator. Without any, the embedded
    suite runs: reference generators are trained on embedded data, scored, and judged by trained detectors.
    """
    from . import verbs

    if explain:
        lines = verbs.explain(subjects)
        click.echo(
            _document({"schema": "evalkit.explain/1", "lines": list(lines)}) if options["as_json"] else "\n".join(lines)
        )
        return
    with Run(options, shared=not all(s.endswith(".json") for s in subjects)) as run:
        out, as_json = options["out"], options["as_json"]
        board = verbs.compare(
            subjects,
            real=options["real"],
            train=options["train"],
            out=out,
            baseline=options["baseline"],
            settings=run.settings,
            bench=run.bench,
            command=_command_line(),
        )
    _print_board(board, as_json)
    click.echo(f"report: {out / 'index.html'}", err=True)
    verbs.conclude(board)


@evalkit.command()
@click.argument("subject")
@scoring
@until_options
@click.option("-o", "outputs", type=click.Path(path_type=Path), multiple=True, help="File: .json .csv .md .html .xml")
@common
def score(subject: str, outputs: tuple[Path, ...], **options: Any) -> None:
    """Score one SUBJECT against real samples: one run record and its table."""
    from . import verbs
    from .records import to_json

    if (until := taken_apart(options)) is not None:
        score_until_decided(subject, until, outputs, options, _command_line())
        return
    with Run(options, shared=True) as run:
        board = verbs.scored(
            subject,
            real=options["real"],
            train=options["train"],
            outputs=outputs,
            settings=run.settings,
            bench=run.bench,
            command=_command_line(),
        )
    _print_board(board, options["as_json"], to_json(board.records[0]))
    verbs.conclude(board)


@evalkit.command()
@click.argument("name")
@click.option("--n", type=int, help="How many samples.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for samples and set.json.")
@click.option("--data", metavar="SOURCE", help="What it learns from (default: the embedded data of its modality).")
@click.option("--input", "given", metavar="SOURCE", help="What to translate, caption or make images of: one each.")
@click.option("--set", "controls", metavar="KEY=VALUE", multiple=True, help="A control of the generator.")
@common
def generate(
    name: str,
    n: int | None,
    out: Path,
    data: str | None,
    given: str | None,
    controls: tuple[str, ...],
    **options: Any,
) -> None:
    """Train (or find trained) the generator NAME, or load a model folder, and write samples."""
    from . import verbs

    with Run(options) as run:
        settings = controls_of(controls)
        seed = run.settings.seed
        sources: dict[str, Any] = {"data": data, "given": given}
        folder = verbs.generate(name, n=n, out=out, seed=seed, controls=settings, bench=run.bench, **sources)
    click.echo(str(folder / "set.json"))


for command in (
    train,
    detect,
    leaks,
    audit,
    audit_data,
    matrix,
    stress,
    attribute,
    export,
    gate,
    judge,
    marking,
    view,
    plan,
    replay,
    raid,
    subgroups,
):
    evalkit.add_command(command)


@evalkit.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--on", default="", metavar="INSTRUMENT", help="What measures the samples (default: inception).")
@click.option("-o", "output", type=click.Path(path_type=Path), required=True, help="The .npz to write.")
@click.option(
    "--layout",
    type=click.Choice(["evalkit", "pytorch-fid", "clean-fid", "adm"]),
    default="evalkit",
    help="evalkit (merges with others) or a layout other tools read.",
)
@click.option("--shard", default="", metavar="I/N", help="Only the I-th of N parts; merge the files afterwards.")
@click.option("--keep-rows", is_flag=True, help="Keep the feature rows in the file too.")
@common
def stats(
    sources: tuple[str, ...], output: Path, on: str, layout: Any, shard: str, keep_rows: bool, **options: Any
) -> None:
    """Write a statistics file of SOURCE to score against with --real, or merge the files of several shards."""
    from .summarising import stats as summed

    with Run(options) as run:
        summed(sources, output=output, on=on, layout=layout, shard=shard, keep_rows=keep_rows, bench=run.bench)
    click.echo(str(output))


@evalkit.command("list")
@click.argument("what", required=False, metavar="[metrics|extractors|detectors|generators|reports]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_(what: str | None, as_json: bool) -> None:
    """What there is: name, default, direction, origin, and one sentence each."""
    from . import registry
    from .errors import UnknownName
    from .tables import listing_table

    if what is not None and what not in registry.DOORS:
        raise UnknownName("list", what, registry.DOORS)
    chosen = {what: registry.DOORS[what]} if what else registry.DOORS
    if as_json:
        from .records import dumps

        plain = {
            kind: [{"name": x.name, "origin": x.origin, "summary": x.summary, **x.facts} for x in door.listings()]
            for kind, door in chosen.items()
        }
        click.echo(dumps(plain), nl=False)
        return
    for kind, door in chosen.items():
        click.echo(listing_table(kind, list(door.listings())))


@evalkit.group()
def cache() -> None:
    """What was computed before and is kept: rows, models, samples."""


@cache.command()
def info() -> None:
    """Where the cache is and how much it holds."""
    from .cache import Cache, default_root

    click.echo(f"{default_root()}")
    for kind, (files, size) in Cache(default_root()).info().items():
        click.echo(f"  {kind:<16} {files:>7} files {size / 2**20:>9.1f} MiB")


@cache.command()
def clear() -> None:
    """Remove everything evalkit keeps; what is removed will be computed again."""
    from .cache import Cache, default_root

    click.echo(f"removed {Cache(default_root()).clear()} files from {default_root()}")


evalkit.add_command(weights)


@evalkit.command()
def doctor() -> None:
    """What this machine can do, and what is broken on it."""
    from .doctor import checks

    findings = list(checks())
    for ok, line in findings:
        click.echo(f"{'ok ' if ok else 'BAD'} {line}")
    if not all(ok for ok, _ in findings):
        raise click.exceptions.Exit(int(ExitCode.RUN_FAILED))


if __name__ == "__main__":
    main()
