"""`evalkit leaks` and `evalkit stress`: what the files give away, and what is left of detectors under stress."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BadSetting, ExitCode
from ..options import Run, common

if TYPE_CHECKING:
    from ..cache import Cache
    from ..types import Detector, Modality, SampleSet, Study, Table


@click.command()
@click.option("--real", metavar="SOURCE", required=True, help="Real images.")
@click.option("--fake", "fakes", metavar="SOURCE", multiple=True, required=True, help="Generated images; repeatable.")
@click.option("--limit", type=float, default=0.6, show_default=True, help="AUC of container facts that is too much.")
@click.option("--strict", is_flag=True, help="Exit 1 when a set is over the limit with its whole interval.")
@click.option(
    "-o", "outputs", type=click.Path(path_type=Path), multiple=True, metavar="FILE", help=".json .md .html .csv"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def leaks(
    real: str, fakes: tuple[str, ...], limit: float, outputs: tuple[Path, ...], as_json: bool, **options: Any
) -> None:
    """What codecs, sizes and metadata alone tell of real and generated images, before and after normalising."""
    from ..leakage import conclude
    from ..leakage import leaks as audited
    from ..publishing import check_study_outputs, write_study

    check_study_outputs(outputs)
    with Run(options) as run:
        cache = run.bench.cache
        named = _named(fakes, cache)
        seed = run.settings.seed
        study = audited(_opened(real, cache), list(named.values()), limit=limit, seed=seed)
    write_study(study, outputs)
    print_study(study, as_json)
    if run.settings.strict and study.data["over_limit"]:
        raise click.exceptions.Exit(int(ExitCode.FAILED_GATE))
    conclude(study)


@click.command()
@click.argument("detectors", nargs=-1, required=True, metavar="DETECTOR...")
@click.option("--real", metavar="SOURCE", required=True, help="Real samples; the threshold is set on them, untouched.")
@click.option(
    "--fake", "fakes", metavar="[NAME=]SOURCE", multiple=True, required=True, help="Generated samples; repeatable."
)
@click.option(
    "--suite",
    "suites",
    metavar="SUITE",
    multiple=True,
    help="laundering (images), text-attacks (texts), sizes, subgroups, windows, attacks; repeat or separate by commas.",
)
@click.option("--fpr", type=float, default=0.05, show_default=True, help="False positive rate of the clean threshold.")
@click.option("--chains", metavar="A,B", help="Laundering chains, or text attacks (default: all).")
@click.option("--released", metavar="NAME=YYYY-MM-DD", multiple=True, help="When a fake set's generator came out.")
@click.option("--n", type=int, help="At most so many samples a side, drawn by the seed.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the page, JSON, CSV and Markdown.")
@click.option(
    "-o", "outputs", type=click.Path(path_type=Path), multiple=True, metavar="FILE", help=".json .md .html .csv"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def stress(
    detectors: tuple[str, ...],
    real: str,
    fakes: tuple[str, ...],
    suites: tuple[str, ...],
    chains: str | None,
    fpr: float,
    released: tuple[str, ...],
    out: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """What is left of fitted (folder) or published (name) detectors after re-encoding, misspelling and worse."""
    from ..publishing import check_study_outputs, write_study
    from ..stressing.suites import stress as stressed

    check_study_outputs(outputs, out)
    dates = _dates(released)
    with Run(options) as run:
        n, cache = run.settings.n, run.bench.cache
        judges = _loaded(detectors, run.bench.device)
        kind = next(iter(judges.values())).modality
        study = stressed(
            judges,
            _opened(real, cache, modality=kind),
            _named(fakes, cache, kind),
            suites=_words(suites) or None,
            fpr=fpr,
            chains=_words((chains or "",)),
            released=dates,
            n=n,
            bench=run.bench,
            seed=run.settings.seed,
            command=shlex.join(["evalkit", *sys.argv[1:]]),
        )
    write_study(study, outputs, out)
    print_study(study, as_json)


def _words(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.strip() for text in given for word in text.split(",") if word.strip())


def _opened(source: str, cache: Cache, name: str | None = None, modality: Modality = "image") -> SampleSet:
    from ..cache import FileDigests
    from ..samples import open_samples

    return open_samples(source, digests=FileDigests(cache.root), name=name, modality=modality)


def _named(given: Sequence[str], cache: Cache, modality: Modality = "image") -> dict[str, SampleSet]:
    """Sets by the names given as NAME=SOURCE, else by their own."""
    found: dict[str, SampleSet] = {}
    for text in given:
        name, equals, source = text.partition("=")
        # A path may hold a sign of equality itself.
        named = bool(equals and name and source) and not Path(text).exists()
        samples = _opened(source if named else text, cache, name if named else None, modality)
        if samples.name in found:
            raise BadSetting(f"two fake sets are called {samples.name!r}; give them names: --fake NAME={text}")
        found[samples.name] = samples
    return found


def _dates(given: Sequence[str]) -> dict[str, date]:
    found = {}
    for text in given:
        name, _, day = text.partition("=")
        try:
            found[name] = date.fromisoformat(day)
        except ValueError as error:
            raise BadSetting(f"--released {text!r}; expected NAME=YYYY-MM-DD") from error
    return found


def _loaded(given: Sequence[str], device: str) -> dict[str, Detector]:
    """Detectors by name; by folder too where two of one name were given."""
    from ..detection import load_detector

    loaded = [load_detector(place, device=device) for place in given]
    names = [detector.name for detector in loaded]
    found: dict[str, Detector] = {}
    for place, detector in zip(given, loaded, strict=True):
        label = detector.name if names.count(detector.name) == 1 else f"{detector.name} ({Path(place).name})"
        if label in found:
            raise BadSetting(f"two detectors are called {label!r}; give each once, from folders of different names")
        found[label] = detector
    return found


def print_study(study: Study, as_json: bool) -> None:
    """A study on stdout: one JSON document, or its sentences and tables."""
    from .. import registry
    from ..types import Table

    if as_json:
        click.echo(registry.reports.get("study_json")(study), nl=False)
        return
    click.echo(study.title)
    for words in study.findings:
        click.echo(f"- {words}")
    for exhibit in study.exhibits:
        if isinstance(exhibit, Table):
            click.echo(_table(exhibit))
    for words in study.warnings:
        click.echo(f"warning: {words}")
    for name, out in study.excluded:
        click.echo(f"excluded: {name}: {out.id}: {out.reason}")


def _table(exhibit: Table) -> str:
    lines = [exhibit.header, *exhibit.rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(exhibit.header))]
    laid = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(["", exhibit.title, *laid, exhibit.note])
