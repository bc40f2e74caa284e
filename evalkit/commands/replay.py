"""`evalkit replay`, `raid` and `subgroups`: recorded scores, texts under attack, and who is falsely accused."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import BadSetting
from ..options import Run, common
from .stress import print_study

Command = Callable[..., Any]


def _outputs(command: Command) -> Command:
    """Where a study goes."""
    options = [
        click.option("--out", type=click.Path(path_type=Path), help="Folder for the page, JSON, CSV and Markdown."),
        click.option(
            "-o",
            "outputs",
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="FILE",
            help=".json .md .html .csv",
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _columns(command: Command) -> Command:
    """How a file of rows is read."""
    options = [
        click.option(
            "--truth", metavar="real|fake|FILE", help="What unlabelled texts are: a word, or rows with an id."
        ),
        click.option(
            "--column",
            "columns",
            metavar="ROLE=NAME",
            multiple=True,
            help="A column that is called otherwise: domain=source.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _scores(command: Command) -> Command:
    """How recorded scores are read."""
    options = [
        click.option(
            "--higher",
            type=click.Choice(["fake", "real", "auto"]),
            default="fake",
            show_default=True,
            help="Which side's texts have the higher scores; auto decides by AUROC and says so.",
        ),
        click.option(
            "--nan",
            type=click.Choice(["refuse", "exclude"]),
            default="refuse",
            show_default=True,
            help="What to do with missing scores.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SCORES...")
@_scores
@_columns
@_outputs
def replay(
    sources: tuple[str, ...],
    higher: Any,
    nan: Any,
    truth: str | None,
    columns: tuple[str, ...],
    out: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Scores that a detector recorded elsewhere: AUROC, AP, EER, TPR at 5 and 1 % FPR, and RAID's table.

    SCORES: .csv .jsonl .json .parquet with columns score, label (human or machine) and perhaps id, domain, model,
    decoding, repetition_penalty, attack, detector; or a run as Fast-DetectGPT records it.
    """
    from ..publishing import check_study_outputs, write_study
    from ..scorefiles.replaying import replay as replayed

    check_study_outputs(outputs, out)
    study = replayed(sources, higher=higher, nan=nan, truth=truth, columns=_roles(columns), command=_command_line())
    write_study(study, outputs, out)
    print_study(study, as_json)


@click.command()
@click.argument("source")
@click.option(
    "--with", "detectors", metavar="DETECTOR", multiple=True, required=True, help="Detector folder or name; repeatable."
)
@click.option("--attacks", metavar="A,B|all", help="Score every text again behind each of these attacks.")
@_columns
@_outputs
@common
def raid(
    source: str,
    detectors: tuple[str, ...],
    attacks: str | None,
    truth: str | None,
    columns: tuple[str, ...],
    out: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """RAID's table of detectors on the texts of SOURCE: one threshold a domain, every condition, every attack.

    SOURCE: .csv .jsonl .json .parquet with columns text, label (or a model called human), and perhaps domain, model,
    decoding, repetition_penalty, attack.
    """
    from ..publishing import check_study_outputs, write_study
    from ..scorefiles.replaying import raid as measured

    check_study_outputs(outputs, out)
    roles = _roles(columns)
    with Run(options) as run:
        study = measured(
            source,
            detectors,
            attacks=[word.strip() for word in (attacks or "").split(",") if word.strip()],
            truth=truth,
            columns=roles,
            bench=run.bench,
            seed=run.settings.seed,
            command=_command_line(),
        )
    write_study(study, outputs, out)
    print_study(study, as_json)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SCORES...")
@click.option("--by", default="group", show_default=True, metavar="FIELD", help="The column that names the group.")
@click.option("--threshold", type=float, help="In the recorded scores (default: the exact one for --fpr).")
@click.option(
    "--operator", type=click.Choice([">", ">="]), default=">", show_default=True, help="What flags a score at it."
)
@click.option("--fpr", type=float, default=0.05, show_default=True, help="False positive rate of the exact threshold.")
@click.option("--against", metavar="GROUP", help="The group that others are held against (default: the largest).")
@click.option("--with", "detectors", metavar="DETECTOR", multiple=True, help="SCORES is a file of texts; judge them.")
@_scores
@_columns
@_outputs
@common
def subgroups(
    sources: tuple[str, ...],
    by: str,
    threshold: float | None,
    operator: Any,
    fpr: float,
    against: str | None,
    detectors: tuple[str, ...],
    higher: Any,
    nan: Any,
    truth: str | None,
    columns: tuple[str, ...],
    out: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """False positives of each group of writers at one threshold, with intervals, differences and p-values."""
    from ..publishing import check_study_outputs, write_study
    from ..scorefiles.subgrouping import subgroups as compared

    check_study_outputs(outputs, out)
    roles = _roles(columns)
    with Run(options) as run:
        study = compared(
            sources,
            by=by,
            threshold=threshold,
            operator=operator,
            fpr=fpr,
            against=against,
            higher=higher,
            nan=nan,
            truth=truth,
            columns=roles,
            detectors=detectors,
            bench=run.bench,
            command=_command_line(),
        )
    write_study(study, outputs, out)
    print_study(study, as_json)


def _roles(pairs: Sequence[str]) -> dict[str, str]:
    """ROLE=NAME pairs of --column."""
    from ..scorefiles.reading import ROLES

    found = {}
    for pair in pairs:
        role, _, name = pair.partition("=")
        if role not in ROLES or not name:
            raise BadSetting(f"--column {pair!r}; expected ROLE=NAME with a role of {', '.join(ROLES)}")
        found[role] = name
    return found


def _command_line() -> str:
    return shlex.join(["evalkit", *sys.argv[1:]])
