"""`evalkit plan`: how many samples show a difference of a wanted size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..options import Run, common

if TYPE_CHECKING:
    from ..sizing import SamplePlan

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("subject", required=False)
@click.option("--pilot", type=_FILE, metavar="RECORD", help="A run record, in place of SUBJECT and --real.")
@click.option("--real", metavar="SOURCE", help="Real samples to score SUBJECT against.")
@click.option("--train", metavar="SOURCE", help="What the models learned from.")
@click.option("--metric", "-m", "metrics_", metavar="M", multiple=True, required=True, help="Which number; repeatable.")
@click.option("--detect", metavar="D", multiple=True, required=True, help="The difference: 0.5, or 5% of the value.")
@click.option("--power", type=float, default=0.8, show_default=True, help="How surely it is to be found.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Two-sided level of the test.")
@click.option("--against", type=_FILE, metavar="RECORD", help="The record of the subject it is to be told from.")
@click.option("--paired", is_flag=True, help="The other subject is moved by the shared real samples as this one is.")
@click.option("--limit", is_flag=True, help="Tell it from a fixed number, such as a gate's, not from a subject.")
@click.option("--n", type=int, help="Samples of SUBJECT in the pilot.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def plan(
    subject: str | None,
    pilot: Path | None,
    metrics_: tuple[str, ...],
    as_json: bool,
    real: str | None,
    train: str | None,
    detect: tuple[str, ...],
    power: float,
    alpha: float,
    against: Path | None,
    paired: bool,
    limit: bool,
    **options: Any,
) -> None:
    """How many samples a side show a difference of D: from a pilot RECORD, or from SUBJECT measured at several n."""
    from ..records import dumps
    from ..sizing import plan as sized

    if (pilot is None) == (subject is None):
        raise UsageError("give one pilot: SUBJECT with --real SOURCE, or --pilot RECORD")
    names = [part.strip() for given in metrics_ for part in given.split(",") if part.strip()]
    with Run(options) as run:
        found = sized(
            str(pilot) if pilot is not None else subject,
            metrics=names,
            detect=detect,
            real=real,
            against=against,
            train=train,
            power=power,
            alpha=alpha,
            paired=paired,
            limit=limit,
            settings=run.settings,
            bench=run.bench,
        )
    if as_json:
        document = {"schema": "evalkit.plan/1", "plans": [one.plain() for one in found]}
        click.echo(dumps(document), nl=False)
        return
    click.echo("\n\n".join(in_words(one) for one in found))


def in_words(plan: SamplePlan) -> str:
    """The sentences and the table of one plan."""
    rows = [("n a side", "smallest difference"), *((str(n), f"{size:.3g}") for n, size in plan.table)]
    width = max(len(n) for n, _ in rows)
    marks = {str(plan.n): "  <- asked for", str(plan.noise.n): "  <- the pilot"}
    return "\n".join([*plan.says, "", *(f"  {n:>{width}}  {size}{marks.get(n, '')}" for n, size in rows)])
