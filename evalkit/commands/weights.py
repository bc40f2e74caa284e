"""`evalkit weights`: which weight files there are, what is known of them, and whether they are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BadSetting, ExitCode, RunFailed, UnknownName

if TYPE_CHECKING:
    from ..weights import Weights


@click.group()
def weights() -> None:
    """The weight files of the networks: list, fetch, verify."""


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_(as_json: bool) -> None:
    """Every weight file: what it is, its licence, and where it lies on this machine."""
    rows = [_row(name, record) for name, record in _records().items()]
    if as_json:
        from ..records import dumps

        click.echo(dumps({"weights": rows}), nl=False)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        size = f"{row['bytes'] / 1e6:,.1f} MB" if "bytes" in row else "size unknown"
        click.echo(f"{row['name']:<{width}}  {row['file']}, {size}: {row.get('found') or row['why']}")
        click.echo(f"{'':<{width}}  {row['licence']}; trained on {row['trained_on']}")
        click.echo(f"{'':<{width}}  {row['pinned']}")


@weights.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="FILE", help="A local copy to take it from.")
def fetch(names: tuple[str, ...], source: Path | None) -> None:
    """Make sure weight files are on this machine: found, copied from a local FILE, or downloaded."""
    from ..progress import TerminalProgress
    from ..weights import keep, obtain

    chosen = _chosen(names)
    if source is not None and len(chosen) != 1:
        raise BadSetting(f"--from gives one file and {len(chosen)} names were given; fetch them one by one")
    if source is not None and not chosen[names[0]].url:
        raise BadSetting(f"the weights {names[0]} travel with the package; --from is for published files")
    progress = TerminalProgress()
    try:
        for name, record in chosen.items():
            path = obtain(record, progress=progress) if source is None else keep(record, source)
            click.echo(f"{name}  {path}")
    finally:
        progress.close()


@weights.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: tuple[str, ...]) -> None:
    """Read weight files again and compare their digests: exit 3 when one is another file, 4 when one is absent.

    Without a NAME every file on this machine is read, and the ones that were never fetched do not count as absent.
    """
    from ..weights import verify as verified

    codes = []
    for name, record in _chosen(names or tuple(_records())).items():
        try:
            path = verified(record)
        except RunFailed as error:
            codes.append(ExitCode.RUN_FAILED)
            click.echo(f"BAD    {name}  {error}")
            continue
        if path is None and names:
            codes.append(ExitCode.INCONCLUSIVE)
        # Without a published digest there is nothing to compare the file with.
        mark = "ok    " if record.sha256 else "no pin"
        click.echo(f"absent {name}  {record.name}" if path is None else f"{mark} {name}  {path}")
    if (code := ExitCode.worst(codes)) != ExitCode.DONE:
        raise click.exceptions.Exit(int(code))


def _records() -> Mapping[str, Weights]:
    from ..weights import DETECTORS, HUB, SHIPPED

    return {**HUB, **DETECTORS, **SHIPPED}


def _chosen(names: tuple[str, ...]) -> Mapping[str, Weights]:
    known = _records()
    for name in names:
        if name not in known:
            raise UnknownName("weights", name, known)
    return {name: known[name] for name in names}


def _row(name: str, record: Weights) -> dict[str, Any]:
    """What is known of one file; where it was `found`, or `why` it was not."""
    from ..weights import find

    try:
        path, why = find(record), "absent"
    except RunFailed as error:
        path, why = None, str(error)
    size = record.size or (path.stat().st_size if path else 0)
    facts = {"licence": record.licence, "trained_on": record.trained_on, "preprocessing": record.preprocessing}
    identity = {"sha256": record.sha256, "pinned": record.pinned, "url": record.url, "card": record.card}
    place = {"found": str(path)} if path else {"why": why}
    known = {"bytes": size} if size else {}
    return {"name": name, "file": record.name, **known, **place, **facts, **identity}
