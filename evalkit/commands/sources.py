"""`evalkit attribute`: which source samples come from, or none of those known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BadSetting
from ..options import Run, common

if TYPE_CHECKING:
    from ..types import Study


@click.command()
@click.argument("source", required=False)
@click.option("--among", metavar="NAME=SOURCE", multiple=True, help="A source it may be, with samples; repeatable.")
@click.option("--real", metavar="SOURCE", help='Real samples: one more source, called "real".')
@click.option(
    "--with",
    "by",
    metavar="ATTRIBUTOR",
    default="fingerprint",
    show_default=True,
    help="fingerprint, source_probe, source_probe:EXTRACTOR, or the folder of a kept one.",
)
@click.option("--truth", metavar="NAME|group|FILE", help="What they are: a name, their labels, a .csv.")
@click.option("--leave-out", is_flag=True, help="Without SOURCE: each source in turn must come out as unknown.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to keep the fitted attributor in.")
@click.option("-o", "outputs", type=click.Path(path_type=Path), multiple=True, help="File: .json .csv .md .html")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def attribute(
    source: str | None,
    among: tuple[str, ...],
    real: str | None,
    by: str,
    truth: str | None,
    leave_out: bool,
    keep: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Name the source of each sample of SOURCE among the given ones, or `unknown`.

    Without SOURCE, every source is judged by what was learnt from its other half; --leave-out tries each as unknown.
    """
    from .. import registry
    from ..sourcing.attributing import attribute as attributed

    pairs = [_pair(text) for text in among]
    given: dict[str, Any] = {"real": real, "by": by, "truth": truth, "keep": keep, "leave_out": leave_out}
    with Run(options) as run:
        study = attributed(source, pairs, **given, outputs=outputs, seed=run.settings.seed, bench=run.bench)
    click.echo(registry.reports.get("study_json")(study) if as_json else in_words(study), nl=not as_json)


def _pair(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not equals or not name or not place:
        raise BadSetting(f"--among {text!r}; expected NAME=SOURCE")
    return name, place


def in_words(study: Study) -> str:
    """The study as a few lines for a terminal: findings, and the confusion matrix where the truth is known.

    What marks each source is statistics by number or autocorrelation peaks: for the files, which hold it.
    """
    lines = list(study.findings)
    table = study.data["confusion"]
    if table["rows"]:
        corner = "true | verdict"
        width = max(map(len, (*table["rows"], corner)))
        columns = [max(len(name), 5) for name in table["columns"]]
        heads = [f"{name:>{w}}" for name, w in zip(table["columns"], columns, strict=True)]
        lines.append("  ".join([f"{corner:<{width}}", *heads]))
        for name, counts in zip(table["rows"], table["counts"], strict=True):
            cells = [f"{count:>{w}}" for count, w in zip(counts, columns, strict=True)]
            lines.append("  ".join([f"{name:<{width}}", *cells]))
    for left in study.data["leave_out"]:
        found = {x["name"]: x["value"] for x in left["results"]}
        lines.append(
            f"left out {left['left_out']}: {found['rejected_unknown']:.3f} called unknown"
            f" (known: {found['rejected_known']:.3f}), open-set AUROC {found['open_auroc']:.3f}"
        )
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
