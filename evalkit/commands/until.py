"""`evalkit score --until-decided`: its options, and what it prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from ..options import Run
from ..types import Rule

Command = Callable[..., Any]


def until_options(command: Command) -> Command:
    """Options of `evalkit score` that stop it once limits are settled."""
    options = [
        click.option(
            "--until-decided",
            is_flag=True,
            help="Draw samples in steps, --n at most (10,000 of a generator), until every limit is settled. Passed and"
            " failed exit with 0, the words say which; undecided exits with 4.",
        ),
        click.option("--max", "most", metavar="NAME=VALUE", multiple=True, help="A limit (default: those of [gate])."),
        click.option(
            "--min", "least", metavar="NAME=VALUE", multiple=True, help="A limit: at least so much; repeatable."
        ),
        click.option(
            "--batch",
            "block",
            type=click.IntRange(min=3),
            help="Samples a block (50); mind and coverage are then values at this n a side.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def taken_apart(options: dict[str, Any]) -> dict[str, Any] | None:
    """The options of `until_options` out of all options: None without --until-decided; UsageError for limits alone."""
    given = {key: options.pop(key) for key in ("until_decided", "most", "least", "block")}
    if given.pop("until_decided"):
        return given
    if given["most"] or given["least"] or given["block"]:
        raise UsageError(
            "--max, --min and --batch belong to --until-decided; limits of a gate go into its configuration"
        )
    return None


def rules(least: tuple[str, ...], most: tuple[str, ...], config: Path | None) -> tuple[Rule, ...]:
    """The limits of --min and --max, read as `evalkit gate` reads its own; without any, those of the [gate] tables."""
    from ..gating.rules import gate_of
    from ..settings import gate_table
    from .gate import rules_of

    if least or most:
        return gate_of({}, rules_of({"min": least, "max": most}), str).rules
    if not (table := gate_table(file=config)):
        raise UsageError("nothing to decide: give limits with --max NAME=VALUE, --min NAME=VALUE or in [gate] tables")
    return gate_of(table, {}, str).rules


def score_until_decided(
    subject: str, given: Mapping[str, Any], outputs: tuple[Path, ...], options: dict[str, Any], command: str
) -> None:
    """Decide, print the verdict of every limit and the table, and raise Inconclusive where one is left open."""
    from ..deciding import conclude, decide
    from ..records import dumps, to_json
    from ..tables import board_table

    if options["metrics"]:
        raise UsageError("--until-decided follows the numbers that have a limit; leave --metrics out")
    limits = rules(given["least"], given["most"], options["config"])
    with Run(options) as run:
        decision = decide(
            subject,
            real=options["real"],
            train=options["train"],
            limits=limits,
            outputs=outputs,
            settings=run.settings,
            bench=run.bench,
            block=given["block"],
            command=command,
        )
    if options["as_json"]:
        click.echo(dumps(to_json(decision.board.records[0])), nl=False)
    else:
        for comparison in decision.board.comparisons:
            click.echo(board_table(comparison))
        click.echo("\n".join(decision.lines))
    conclude(decision)
