"""`evalkit judge`: people say what is real; a local page asks them, a study file keeps it, records sum it up."""

from __future__ import annotations

import shlex
import sys
import webbrowser
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BadSetting, UnwritableOutput

if TYPE_CHECKING:
    from ..human.store import Store


@click.command()
@click.argument("subjects", nargs=-1, metavar="[[NAME=]SOURCE]...")
@click.option("--real", metavar="SOURCE", help="Real samples.")
@click.option(
    "--mode",
    type=click.Choice(["real-or-fake", "2afc"]),
    default="real-or-fake",
    show_default=True,
    help="One sample at a time, or two of which the realer one is chosen.",
)
@click.option("--items", type=int, default=60, show_default=True, help="Items that every rater judges.")
@click.option("--catch", type=float, default=0.1, show_default=True, help="Catch trials and repeats, a share of items.")
@click.option("--out", type=click.Path(path_type=Path), help="The study file (default study.sqlite), or with --summary"
              " the folder, or with --into the new record.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1 (default: a free one).")
@click.option("--seed", type=int, default=0, show_default=True, help="Which samples are drawn, and every order.")
@click.option("--rater", metavar="NAME", help="Who judges; without it the page asks.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option(
    "--static", type=click.Path(path_type=Path), metavar="DIR", help="Write a page for elsewhere, serve none."
)
@click.option(
    "--collect", type=click.Path(path_type=Path), multiple=True, metavar="JSON",
    help="Add an answers file of such a page to the study; repeatable, more files may follow as arguments.",
)  # fmt: skip
@click.option("--summary", type=click.Path(path_type=Path), metavar="STUDY", help="Sum up a study file.")
@click.option("--into", type=click.Path(path_type=Path), metavar="RECORD", help="A run record to add the numbers to.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else (with --summary).")
def judge(subjects: tuple[str, ...], **options: Any) -> None:
    """Ask people which samples are real, on a page that this machine serves to itself.

    The same command goes on where a study was left. Ctrl-C ends the server, and that is a clean end.
    """
    out: Path | None = options["out"]
    if options["summary"] is not None:
        _summary(options["summary"], out, options["into"], options["as_json"])
    elif options["into"] is not None or options["as_json"]:
        raise BadSetting("--into and --json belong to --summary STUDY")
    elif options["collect"]:
        _collect((*options["collect"], *map(Path, subjects)), out or Path("study.sqlite"))
    else:
        _conduct(subjects, out or Path("study.sqlite"), options)


def _conduct(subjects: tuple[str, ...], out: Path, options: dict[str, Any]) -> None:
    from ..cache import FileDigests, default_root
    from ..human.conducting import open_study
    from ..human.sheets import export
    from .matrix import named

    if not subjects or options["real"] is None:
        raise BadSetting("nothing to judge; expected evalkit judge SOURCE ... --real SOURCE, or --summary STUDY")
    keys = ("mode", "items", "catch", "seed")
    chosen = {key: options[key] for key in keys}
    with closing(
        open_study(named(subjects), options["real"], out, digests=FileDigests(default_root()), **chosen)
    ) as store:
        if options["static"] is not None:
            export(store, options["static"])
            click.echo(str(options["static"] / "index.html"))
            click.echo(f"the key is in {out}: keep it, and do not give it to raters", err=True)
            return
        _serve(store, options)


def _serve(store: Store, options: dict[str, Any]) -> None:
    from ..human.conducting import judge as judging

    server = judging(store, port=options["port"], rater=options["rater"])
    click.echo(server.url)
    click.echo(f"study: {store.path}; open the address in a browser, end with Ctrl-C", err=True)
    if not options["no_browser"] and sys.stderr.isatty():
        webbrowser.open(server.url)
    try:
        server.serve()
    except KeyboardInterrupt:
        # Whoever ends a server has what they came for: 0, unlike an interrupted run.
        click.echo(f"ended; every answer is in {store.path}, the same command goes on", err=True)


def _collect(files: tuple[Path, ...], study: Path) -> None:
    from ..human.sheets import collect
    from ..human.store import Store

    with closing(Store(study)) as store:
        for file in files:
            name, added = collect(store, file)
            click.echo(f"{name}: {added} answers added from {file}")


def _summary(study: Path, out: Path | None, into: Path | None, as_json: bool) -> None:
    from .. import registry
    from ..human.summary import check_folder, summarise, write_summary

    if into is not None:
        _merge(study, into, out)
        return
    folder = out or study.with_name(f"{study.stem}-summary")
    check_folder(folder)
    found, records = summarise(study, shlex.join(["evalkit", *sys.argv[1:]]))
    write_summary(found, records, folder)
    if as_json:
        click.echo(registry.reports.get("study_json")(found), nl=False)
    else:
        click.echo("\n".join(found.findings))
        for warning in found.warnings:
            click.echo(f"warning: {warning}", err=True)
    click.echo(f"page: {folder / 'index.html'}; run records: {folder / 'records'}", err=True)


def _merge(study: Path, into: Path, out: Path | None) -> None:
    from ..human.summary import merged, summarise
    from ..records import read_record, write_record

    if out is None or out.suffix != ".json":
        raise BadSetting("--into RECORD needs --out NEW.json; a record is never edited")
    if out.exists():
        raise UnwritableOutput(f"{out} exists already; give a new file with --out")
    record = read_record(into)
    _, humans = summarise(study, "")
    own = next((h for h in humans if h.subject.name == record.subject.name), None)
    if own is None:
        judged = ", ".join(h.subject.name for h in humans)
        raise BadSetting(f"{into} is of {record.subject.name!r}; the study judged {judged}")
    write_record(merged(record, own), out)
    click.echo(str(out))
