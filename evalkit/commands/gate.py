"""`evalkit gate`: pass, fail or inconclusive for a pipeline, by the rules of the configuration and the command line."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import BadSetting

_FILE = click.Path(path_type=Path)
_LIMITS = ("max", "min", "max_increase", "max_decrease", "min_n")


@click.command()
@click.argument("record", type=_FILE)
@click.option("--baseline", type=_FILE, metavar="RECORD", help="Run record or report folder to compare with.")
@click.option("--config", type=_FILE, metavar="FILE", help="Where the [gate] tables stand (default: evalkit.toml).")
@click.option("--max", "max_", metavar="NAME=X", multiple=True, help="The value is at most X; repeatable.")
@click.option("--min", "min_", metavar="NAME=X", multiple=True, help="The value is at least X.")
@click.option("--max-increase", metavar="NAME=X", multiple=True, help="It rises by at most X, or 5%, on the baseline.")
@click.option("--max-decrease", metavar="NAME=X", multiple=True, help="It falls by at most X, or 5%, on the baseline.")
@click.option("--min-n", metavar="NAME=N", multiple=True, help="It rests on at least N samples a side.")
@click.option("--junit", type=_FILE, metavar="FILE", help="JUnit XML, one test case a metric.")
@click.option("--summary", type=_FILE, metavar="FILE", help="Markdown, at most 900 KiB.")
@click.option("--pr-body", type=_FILE, metavar="FILE", help="Markdown for a comment that is updated, at most 60 KiB.")
@click.option("--name", default="", help="What the gate is called in the comment's marker (default: the subject).")
@click.option("-o", "outputs", type=_FILE, multiple=True, metavar="FILE", help=".json .md .html .xml .csv")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
def gate(
    record: Path,
    baseline: Path | None,
    config: Path | None,
    junit: Path | None,
    summary: Path | None,
    pr_body: Path | None,
    name: str,
    outputs: tuple[Path, ...],
    as_json: bool,
    **limits: tuple[str, ...],
) -> None:
    """Judge a run RECORD: exit 0 pass, 1 fail, 4 inconclusive, 2 rules that cannot be read, 5 nothing measured."""
    from .. import registry
    from ..gating.outputs import append_summary, check_files, lines, workflow_commands, write_files
    from ..gating.running import judged
    from ..settings import gate_table

    check_files(outputs, junit, summary, pr_body)
    over = rules_of({key: limits.get(key) or limits.get(f"{key}_") or () for key in _LIMITS})
    command = shlex.join(["evalkit", *sys.argv[1:]])
    report = judged(record, baseline, gate_table(file=config), over, command=command, name=name)
    document = registry.reports.get("gate_json")(report) if as_json else ""
    write_files(report, outputs, junit=junit, summary=summary, body=pr_body)
    if trouble := append_summary(report, written=summary):
        click.echo(f"evalkit: {trouble}", err=True)
    click.echo(document if as_json else "\n".join(lines(report)), nl=not as_json)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # On stderr, where a runner reads commands as well: stdout stays the result.
        for line in workflow_commands(report):
            click.echo(line, err=True)
    raise click.exceptions.Exit(int(report.exit_code))


def rules_of(given: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Tables by metric of options such as --max fid@inception=20; a metric may be given once for each."""
    tables: dict[str, dict[str, Any]] = {}
    for key, pairs in given.items():
        option = f"--{key.replace('_', '-')}"
        for pair in pairs:
            # A name may hold a sign of equality itself, as in .group=cat.
            name, equals, text = pair.rpartition("=")
            if not equals or not name.strip() or not text.strip():
                raise BadSetting(f"{option} {pair!r}; expected NAME=VALUE, such as {option} fid@inception=20")
            table = tables.setdefault(name.strip(), {})
            if key in table:
                raise BadSetting(f"{option} is given twice for {name.strip()!r}; give it once")
            table[key] = _value(text.strip(), whole=key == "min_n", option=f"{option} {pair}")
    return tables


def _value(text: str, *, whole: bool, option: str) -> Any:
    if text.endswith("%") and not whole:
        return text
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        expected = "a whole number" if whole else "a number"
        raise BadSetting(f"{option}; expected {expected}, got {text!r}") from error
