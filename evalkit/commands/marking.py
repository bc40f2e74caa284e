"""`evalkit marking`: which machine-readable marks a generator's outputs carry, and which chains they survive."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BadSetting, ExitCode
from ..options import Run, common

if TYPE_CHECKING:
    from ..measurement import Bench
    from ..types import Matrix, Study, Table


# What a terminal has no room for; the files of -o show it.
ON_THE_PAGE = ("Chains",)


@click.command()
@click.argument("source", metavar="GENERATOR_OUTPUTS")
@click.option(
    "--marks", metavar="A,B", multiple=True, help="What to look for (default: provenance, dwtdct, set.json's)."
)
@click.option("--payload", "payloads", metavar="NAME=HEX", multiple=True, help="The payload of a watermark.")
@click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Trust list of C2PA signers (PEM).")
@click.option("--chains", metavar="A,B", multiple=True, help="Laundering chains, or text attacks; `all` for all.")
@click.option("--real", metavar="SOURCE", help="Real files: how often each layer is found where there is none.")
@click.option("--require", "requires", metavar="LAYER[:SHARE]", multiple=True, help="Exit 1 when it is not there.")
@click.option(
    "--survive", "survives", metavar="LAYER=CHAIN[:SHARE]", multiple=True, help="Exit 1 when it does not outlive it."
)
@click.option("--n", type=int, help="At most so many files a side, drawn by the seed.")
@click.option("--embed", "embeds", metavar="dwtdct=HEX", multiple=True, help="Write marked copies to --out instead.")
@click.option("--out", type=click.Path(path_type=Path), help="New folder of the marked copies.")
@click.option(
    "-o", "outputs", type=click.Path(path_type=Path), multiple=True, metavar="FILE", help=".json .md .html .csv"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def marking(
    source: str,
    marks: tuple[str, ...],
    payloads: tuple[str, ...],
    trust: Path | None,
    chains: tuple[str, ...],
    real: str | None,
    requires: tuple[str, ...],
    survives: tuple[str, ...],
    embeds: tuple[str, ...],
    out: Path | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Which machine-readable marks GENERATOR_OUTPUTS carry, and after which chains they are still found.

    Layers: trusted, signed, unsigned, metadata (signed or unsigned), watermark, both (metadata and a watermark), and
    each watermark by its name. Exit 1 when something required failed, 4 when so few files cannot tell.
    """
    from ..publishing import check_study_outputs, write_study

    check_study_outputs(outputs)
    if bool(embeds) != (out is not None):
        raise BadSetting("--embed dwtdct=HEX and --out DIR belong together: marked copies need a place")
    command = shlex.join(["evalkit", *sys.argv[1:]])
    with Run(options) as run:
        if out is not None:
            _embed(source, _pairs("--embed", embeds), out, command, run.bench, as_json)
            return
        study = _surveyed(
            source,
            real,
            marks=_words(marks),
            payloads=_pairs("--payload", payloads),
            settings={} if trust is None else {"provenance": _trusted(trust)},
            chains=_words(chains),
            requires=_words(requires),
            survives=_words(survives),
            run=run,
            command=command,
        )
    write_study(study, outputs)
    _print(study, as_json)
    conclude(study)


def _surveyed(
    source: str,
    real: str | None,
    *,
    marks: Sequence[str],
    payloads: dict[str, str],
    settings: dict[str, dict[str, str]],
    chains: Sequence[str],
    requires: Sequence[str],
    survives: Sequence[str],
    run: Run,
    command: str,
) -> Study:
    from ..marking.checking import checked

    samples = _opened(source, run.bench)
    return checked(
        samples,
        None if real is None else _opened(real, run.bench, samples.modality),
        marks=marks,
        payloads=payloads,
        settings=settings,
        chains=chains,
        requires=requires,
        survives=survives,
        n=run.settings.n,
        seed=run.settings.seed,
        bench=run.bench,
        command=command,
    )


def _embed(source: str, marks: dict[str, str], out: Path, command: str, bench: Bench, as_json: bool) -> None:
    from ..hardware import environment
    from ..marking.writing import embed
    from ..records import dumps

    provenance = {"command": command, **{key: str(v) for key, v in environment(bench.device).items()}}
    about = embed(_opened(source, bench, "image"), marks, out, provenance, bench)
    for one in about["excluded"]:
        click.echo(f"excluded: {one['id']}: {one['reason']}", err=True)
    click.echo(dumps(about).rstrip("\n") if as_json else str(out / "set.json"))


def _opened(source: str, bench: Bench, modality: Any = None) -> Any:
    from ..cache import FileDigests
    from ..samples import open_samples

    return open_samples(source, digests=FileDigests(bench.cache.root), modality=modality)


def _trusted(file: Path) -> dict[str, str]:
    """The settings of `provenance` that a trust list makes."""
    try:
        return {"anchors": file.read_text("utf-8"), "anchors_name": file.name}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadSetting(f"--trust {file}: cannot be read ({why}); expected certificates in PEM") from error


def _words(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.strip() for text in given for word in text.split(",") if word.strip())


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadSetting(f"{option} {text!r}; expected NAME=HEX, such as dwtdct=b3ec907bb19e")
        found[name] = value
    return found


def _print(study: Study, as_json: bool) -> None:
    """The study on stdout; at a terminal a matrix is a table of its numbers."""
    from ..types import Matrix
    from .stress import print_study

    shown = tuple(_table(e) if isinstance(e, Matrix) else e for e in study.exhibits if e.title not in ON_THE_PAGE)
    print_study(study if as_json else replace(study, exhibits=shown), as_json)


def _table(matrix: Matrix) -> Table:
    from ..types import Table

    def words(cell: Any) -> str:
        return "–" if cell.value is None else f"{cell.value:.2f} [{cell.low:.2f}, {cell.high:.2f}]"

    rows = tuple((name, *map(words, line)) for name, line in zip(matrix.rows, matrix.cells, strict=True))
    return Table(matrix.title, matrix.note, (matrix.row_label, *matrix.columns), rows)


def conclude(study: Study) -> None:
    """Leave with the exit code of the worst answer: 1 failed, 4 inconclusive; nothing when all passed."""
    answers = {one["answer"] for one in study.data["asked"]}
    codes = {"failed": ExitCode.FAILED_GATE, "inconclusive": ExitCode.INCONCLUSIVE}
    worst = ExitCode.worst(code for answer, code in codes.items() if answer in answers)
    if worst is not ExitCode.DONE:
        raise click.exceptions.Exit(int(worst))
