"""`evalkit view`: a folder of reports and records in the browser, and each metric over time."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1 (default: a free one).")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def view(folder: Path, port: int, no_browser: bool) -> None:
    """Browse the run records, gate reports, studies and report folders under DIR, newest first.

    Only this machine can open the printed address. Ctrl-C ends the server, and that is a clean end.
    """
    from ..viewing.browser import view as viewing

    server = viewing(folder, port=port)
    click.echo(server.url)
    click.echo("open the address in a browser, end with Ctrl-C", err=True)
    if not no_browser and sys.stderr.isatty():
        webbrowser.open(server.url)
    try:
        server.serve()
    except KeyboardInterrupt:
        click.echo("ended", err=True)
