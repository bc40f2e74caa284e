"""`evalkit matrix`: detectors fitted on some generators and tested on each, as one study."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import BadSetting
from ..options import Run, common

RULES = ("each", "pairs", "leave-one-out", "leave-family-out", "all", "all-rules")


@click.command()
@click.argument("detectors", nargs=-1, required=True, metavar="DETECTOR...")
@click.option("--real", metavar="SOURCE", required=True, help="Real samples.")
@click.option(
    "--fake",
    "fakes",
    metavar="[NAME=]SOURCE",
    multiple=True,
    required=True,
    help="Samples of a generator; two or more.",
)
@click.option(
    "--rule",
    "rules",
    type=click.Choice(RULES),
    multiple=True,
    default=("each", "leave-one-out"),
    help="What a detector learns from; repeatable (default: each, leave-one-out).",
)
@click.option("--family", "families", metavar="NAME=FAMILY", multiple=True, help="The family of a generator.")
@click.option("--normalise", is_flag=True, help="All sets through one size and codec first.")
@click.option("--n", type=int, help="At most so many samples of every set.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the page, JSON, CSV and Markdown.")
@click.option("-o", "outputs", type=click.Path(path_type=Path), multiple=True, help="File: .json .csv .md .html")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def matrix(
    detectors: tuple[str, ...],
    real: str,
    fakes: tuple[str, ...],
    rules: tuple[str, ...],
    families: tuple[str, ...],
    normalise: bool,
    out: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Fit every DETECTOR on some generators and test it on each, above all on those it never saw.

    A DETECTOR is a name, trained here, or the folder of a trained one or the name of a published one, which is scored
    as it is.
    """
    from .. import registry
    from ..matrices.crossing import cross_matrix

    with Run(options) as run:
        study = cross_matrix(
            detectors,
            real=real,
            fakes=named(fakes),
            rules=rules,
            families=_pairs("--family", families),
            normalise=normalise,
            n=run.settings.n,
            seed=run.settings.seed,
            out=out,
            outputs=outputs,
            bench=run.bench,
            command=shlex.join(["evalkit", *sys.argv[1:]]),
        )
    if as_json:
        click.echo(registry.reports.get("study_json")(study), nl=False)
        return
    if not out and not outputs:
        click.echo(registry.reports.get("study_markdown")(study), nl=False)
        return
    click.echo("\n".join(study.findings))
    for warning in study.warnings:
        click.echo(f"warning: {warning}", err=True)
    for path in (*outputs, *([out / "index.html"] if out else [])):
        click.echo(f"study: {path}", err=True)


def named(sources: tuple[str, ...]) -> dict[str, str]:
    """`NAME=SOURCE` pairs; a source without a name is called as its last part is. BadSetting for a name given twice."""
    found: dict[str, str] = {}
    for given in sources:
        name, equals, source = given.partition("=")
        # A path may hold an equals sign: what stands before it in a path has a separator, or is there as a whole.
        if not equals or "/" in name or ":" in name or Path(given).exists():
            name, source = Path(given).stem if Path(given).is_file() else Path(given).name, given
        if not name or not source:
            raise BadSetting(f"--fake {given!r}; expected SOURCE or NAME=SOURCE")
        if name in found:
            raise BadSetting(f"--fake names {name!r} twice; give each set its own name: NAME=SOURCE")
        found[name] = source
    return found


def _pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or not equals or not value:
            raise BadSetting(f"{option} {pair!r}; expected NAME=FAMILY")
        if found.get(name, value) != value:
            raise BadSetting(f"{option} gives {name!r} two families, {found[name]!r} and {value!r}; give one")
        found[name] = value
    return found
