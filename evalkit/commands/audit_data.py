"""`evalkit audit-data`: what trivial rules tell of real and machine texts, or containers of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import ExitCode
from ..options import Run, common
from .stress import print_study


@click.command("audit-data")
@click.argument("real")
@click.argument("fakes", nargs=-1, required=True, metavar="FAKE...")
@click.option("--train", metavar="SOURCE", multiple=True, help="What detectors learn from: copies of it are counted.")
@click.option("--groups", metavar="FIELD", help="Field that says which texts are of one source (default: the opening).")
@click.option("--limit", type=float, default=0.6, show_default=True, help="AUROC of a trivial rule that is too much.")
@click.option("--strict", is_flag=True, help="Exit 1 when a set is over the limit with its whole interval.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the page, JSON, CSV and Markdown.")
@click.option("--out-clean", type=click.Path(path_type=Path), metavar="DIR", help="New folder for the cleaned texts.")
@click.option(
    "-o", "outputs", type=click.Path(path_type=Path), multiple=True, metavar="FILE", help=".json .md .html .csv"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def audit_data(
    real: str,
    fakes: tuple[str, ...],
    train: tuple[str, ...],
    groups: str | None,
    limit: float,
    out: Path | None,
    out_clean: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Score every trivial rule on REAL and FAKE before a detector is: newline, length, punctuation, and more.

    Prints the best of them with its interval, cleans what can be cleaned and scores again. Of images: codec, quality,
    size and metadata, the same as `evalkit leaks`.
    """
    from ..cache import FileDigests
    from ..leakage import conclude
    from ..publishing import check_study_outputs, write_study
    from ..samples import open_samples
    from ..shortcuts.auditing import audited
    from ..shortcuts.keeping import check_folder, keep_clean

    check_study_outputs(outputs, out)
    check_folder(out_clean)
    with Run(options) as run:
        digests = FileDigests(run.bench.cache.root)
        sides = [open_samples(source, digests=digests) for source in (real, *fakes)]
        check_folder(out_clean, sides)
        lessons = [open_samples(source, digests=digests) for source in train]
        strict, seed = run.settings.strict, run.settings.seed
        study, pairs = audited(sides[0], sides[1:], train=lessons, groups=groups, limit=limit, seed=seed)
    write_study(study, outputs, out)
    if out_clean is not None:
        keep_clean(pairs, out_clean)
    print_study(study, as_json)
    if strict and study.data["over_limit"]:
        raise click.exceptions.Exit(int(ExitCode.FAILED_GATE))
    conclude(study)
