"""`evalkit export`: a run record in the form another tool reads."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import BadSetting, UnwritableOutput

FILE = click.Path(path_type=Path)
METRICS = click.option("--metrics", "-m", metavar="M", multiple=True, help="Only these results; all by default.")


@click.group()
def export() -> None:
    """A run record for Hugging Face, DVC or MLflow."""


@export.command()
@click.argument("record", type=FILE)
@click.option("--out", type=FILE, required=True, help="Folder, such as a clone of the model's repository.")
@click.option("--dataset", metavar="ID", help="A benchmark dataset on the Hub: also writes .eval_results/.")
@click.option("--task", "tasks", metavar="METRIC=TASK", multiple=True, help="The metric's task in that benchmark.")
@click.option("--revision", metavar="SHA", help="Commit of the dataset.")
@click.option("--url", help="Where the evaluation can be looked at.")
@click.option("--card", type=FILE, help="A model card to copy with its model-index brought up to date.")
@METRICS
def hf(
    record: Path,
    out: Path,
    dataset: str | None,
    tasks: tuple[str, ...],
    revision: str | None,
    url: str | None,
    card: Path | None,
    metrics: tuple[str, ...],
) -> None:
    """Files for a model repository on the Hugging Face Hub: model-index, .eval_results, card. Nothing is uploaded."""
    from ..exporting import write_hub
    from ..records import read_record

    pairs = {}
    for given in tasks:
        metric, equals, task = given.rpartition("=")
        if not (metric and equals and task):
            raise BadSetting(f"--task {given!r}; expected METRIC=TASK, such as fid@inception=fid_50k")
        pairs[metric] = task
    options = {"dataset": dataset, "revision": revision, "url": url}
    for file in write_hub(read_record(record), out, tasks=pairs, metrics=metrics, card=card, **options):
        click.echo(str(file))


@export.command()
@click.argument("record", type=FILE)
@click.option("-o", "output", type=FILE, default=Path("metrics.json"), help="The file (default: metrics.json).")
@METRICS
def dvc(record: Path, output: Path, metrics: tuple[str, ...]) -> None:
    """A flat metrics.json: names and numbers, as `dvc metrics diff` reads them."""
    from ..exporting import flat
    from ..records import dumps, read_record, write_text

    numbers = flat(read_record(record), metrics)
    if output.is_dir():
        raise UnwritableOutput(f"-o {output} is a folder; give a file name")
    write_text(output, dumps(numbers))
    click.echo(str(output))


@export.command()
@click.argument("record", type=FILE)
@click.option("--uri", help="Tracking server or folder (default: MLFLOW_TRACKING_URI).")
@click.option("--experiment", help="Name of the experiment.")
@METRICS
def mlflow(record: Path, uri: str | None, experiment: str | None, metrics: tuple[str, ...]) -> None:
    """Log the record as one MLflow run; prints its id."""
    from ..exporting import log_to_mlflow
    from ..records import read_record

    click.echo(log_to_mlflow(read_record(record), uri=uri, experiment=experiment, metrics=metrics))
