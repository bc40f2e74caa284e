"""Options that commands share, and the settings and bench they make."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import BadSetting

if TYPE_CHECKING:
    from .settings import Settings

Command = Callable[..., Any]


def common(command: Command) -> Command:
    """Options that every measuring command has."""
    options = [
        click.option("--seed", type=int, help="Seed of everything random (default 0)."),
        click.option("--device", help="cpu, cuda, cuda:1, mps (default: the fastest there is)."),
        click.option("--batch-size", type=int, help="Samples a forward pass (halved when memory runs out)."),
        click.option("--workers", type=int, help="Loader threads (default: one a core, at most 8)."),
        click.option("--config", type=click.Path(path_type=Path), help="Configuration file (default: evalkit.toml)."),
        click.option("--no-cache", is_flag=True, help="Remember nothing and look nothing up."),
        click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def scoring(command: Command) -> Command:
    """Options of the commands that score."""
    options = [
        click.option("--real", metavar="SOURCE", help="Real samples to score against."),
        click.option("--train", metavar="SOURCE", help="What the models learned from (for memorization, novelty)."),
        click.option(
            "--metrics", "-m", metavar="M", multiple=True, help="metric@instrument; repeat or separate by commas."
        ),
        click.option("--n", type=int, help="Samples a subject (default: as many as the real ones, at most 10,000)."),
        click.option("--set", "given", metavar="METRIC.KEY=VALUE", multiple=True, help="A metric's setting: prdc.k=3."),
        click.option("--per-group", is_flag=True, help="Every number again for each group (class folder, label)."),
        click.option("--attribution", is_flag=True, help="What each sample adds to the numbers that know it (fid)."),
        click.option("--strict", is_flag=True, help="What is odd about the files of a set is an error."),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


class Run:
    """Settings and bench of one command, made of its options.

    shared: whether processes started together share the measuring; of other commands only the first goes on.
    """

    def __init__(self, options: dict[str, Any], *, shared: bool = False) -> None:
        from .cache import Cache, default_root
        from .hardware import resolve_device
        from .measurement import Bench
        from .progress import TerminalProgress
        from .settings import resolve
        from .sharing import alone, team

        names = [part.strip() for given in options.pop("metrics", ()) for part in given.split(",") if part.strip()]
        quiet, no_cache, config = options.pop("quiet"), options.pop("no_cache"), options.pop("config")
        keys = ("seed", "device", "batch_size", "workers", "n", "train_seeds", "sample_seeds", "adjust")
        given: dict[str, Any] = {"metrics": tuple(names), **{k: options.pop(k, None) for k in keys}}
        given.update({k: options.pop(k, False) or None for k in ("per_group", "attribution", "strict")})
        self.settings = resolve(given, file=config)
        self.settings = with_metric_settings(self.settings, options.pop("given", ()))
        self.progress = TerminalProgress(quiet=quiet or int(os.environ.get("RANK", "0")) > 0)
        extra = {} if self.settings.workers is None else {"workers": self.settings.workers}
        self.bench = Bench(
            device=resolve_device(self.settings.device),
            cache=Cache(None if no_cache else default_root()),
            progress=self.progress,
            batch_size=self.settings.batch_size,
            team=team() if shared else alone(),
            **extra,
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.close()


def with_metric_settings(settings: Settings, pairs: tuple[str, ...]) -> Settings:
    """Settings of metrics given as METRIC.KEY=VALUE, over those of the configuration."""
    tables = {name: dict(table) for name, table in settings.metric.items()}
    for path, value in controls_of(pairs).items():
        name, dot, key = path.partition(".")
        if not dot or not key:
            raise BadSetting(f"--set {path}={value}; expected METRIC.KEY=VALUE, such as prdc.k=3")
        tables.setdefault(name, {})[key] = value
    return replace(settings, metric=tables)


def controls_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`key=value` pairs with numbers read as numbers."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise BadSetting(f"--set {pair!r}; expected KEY=VALUE")
        value: Any = {"true": True, "false": False}.get(text.lower(), text)
        for kind in (int, float):
            try:
                value = kind(text)
                break
            except ValueError:
                continue
        found[key] = value
    return found
