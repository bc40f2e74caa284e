"""Configuration: command line > EVALKIT_* > evalkit.toml or [tool.evalkit] in pyproject.toml > defaults.

Keys: device, seed, n, batch_size, workers, train_seeds, sample_seeds, metrics (a list), per_group, attribution, strict
(true or false), adjust (holm, bh or none: how p-values of differences are adjusted on a board), and tables
[metric.NAME] with a metric's settings, such as `[metric.kid] degree = 3`. The table [gate] belongs to the gate. An
unknown key is an error with the nearest name.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import BadSetting, UnknownName


@dataclass(frozen=True)
class Settings:
    """The resolved configuration; None means that the default of the moment applies."""

    device: str | None = None
    seed: int = 0
    n: int | None = None
    batch_size: int = 64
    workers: int | None = None
    metrics: tuple[str, ...] = ()
    metric: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    per_group: bool = False
    attribution: bool = False
    strict: bool = False
    train_seeds: int = 1
    sample_seeds: int = 1
    adjust: str = "holm"

    def plain(self) -> dict[str, Any]:
        """As it is stored in a record: only what decides numbers, and only where it is set."""
        kept = {"seed": self.seed, "n": self.n, "metrics": list(self.metrics), "metric": dict(self.metric)}
        kept.update(per_group=self.per_group or None, strict=self.strict or None)
        if self.train_seeds * self.sample_seeds > 1:
            kept.update(train_seeds=self.train_seeds, sample_seeds=self.sample_seeds)
        return {k: v for k, v in kept.items() if v not in (None, [], {})}


_ADJUSTMENTS = ("holm", "bh", "none")
_SWITCHES = ("per_group", "attribution", "strict")
_INTEGERS = {"seed": 0, "n": 1, "batch_size": 1, "workers": 1, "train_seeds": 1, "sample_seeds": 1}
# Read elsewhere: an endpoint's key (into no setting and no record), where the cache lies, whether downloads are
# allowed, whether errors show their traceback, who does a network's arithmetic on a CPU (auto, torch, openvino, onnx).
_OTHER_ENVIRONMENT = {
    "EVALKIT_API_KEY",
    "EVALKIT_BACKEND",
    "EVALKIT_CACHE",
    "EVALKIT_OFFLINE",
    "EVALKIT_TEST_DATA",
    "EVALKIT_TRACEBACK",
    "EVALKIT_WEIGHTS",
}


def resolve(given: Mapping[str, Any], folder: Path | None = None, file: Path | None = None) -> Settings:
    """Settings from what was given on the call, the environment, a file, and defaults, in this order.

    file: the configuration file to read; otherwise evalkit.toml, else pyproject.toml, of `folder` (default: here).
    Raises UnknownName for an unknown key, BadSetting for a value of the wrong type or out of range.
    """
    merged = _from_file(folder or Path.cwd(), file)
    merged.update(_from_environment())
    merged.update({k: v for k, v in given.items() if v is not None and v != ()})
    return Settings(**{key: _checked(key, value) for key, value in merged.items()})


def gate_table(folder: Path | None = None, file: Path | None = None) -> dict[str, Any]:
    """The table [gate] of the configuration, unchecked; empty where there is none.

    Raises BadSetting for a file that cannot be read, or whose `gate` is no table; UnknownName for an unknown key beside
    it.
    """
    found = _from_file(folder or Path.cwd(), file, gate=True).get("gate", {})
    if not isinstance(found, dict):
        raise BadSetting(f'gate = {found!r}; expected tables such as [gate."fid@inception"] with max = 20')
    return found


def _from_file(folder: Path, file: Path | None, *, gate: bool = False) -> dict[str, Any]:
    """What the file sets, and only with `gate` its table of that name, which is no setting of a run."""
    source, body = file or folder / "evalkit.toml", None
    try:
        if source.is_file():
            body = tomllib.loads(source.read_text("utf-8"))
            if source.name == "pyproject.toml":
                body = _ours(body)
        elif file is not None:
            raise BadSetting(f"no configuration file {file}")
        elif (folder / "pyproject.toml").is_file():
            source = folder / "pyproject.toml"
            body = _ours(tomllib.loads(source.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadSetting(f"cannot read configuration {source}: {error}") from error
    known = [f.name for f in fields(Settings)]
    body = dict(body or {})
    for key in body:
        if key not in (*known, "gate"):
            raise UnknownName(f"key in {source.name}", key, [*known, "gate"])
    return body if gate else {key: value for key, value in body.items() if key != "gate"}


def _ours(body: Mapping[str, Any]) -> dict[str, Any]:
    """The table [tool.evalkit] of a pyproject.toml."""
    for key in ("tool", "evalkit"):
        body = body.get(key, {})
        if not isinstance(body, Mapping):
            raise BadSetting(f"pyproject.toml: {key} = {body!r}; expected a table [tool.evalkit]")
    return dict(body)


def _from_environment() -> dict[str, Any]:
    known = {f"EVALKIT_{f.name.upper()}": f.name for f in fields(Settings) if f.name != "metric"}
    found: dict[str, Any] = {}
    for variable, value in os.environ.items():
        if not variable.startswith("EVALKIT_") or variable in _OTHER_ENVIRONMENT:
            continue
        if variable not in known:
            raise UnknownName("environment variable", variable, [*known, *_OTHER_ENVIRONMENT])
        found[known[variable]] = value.split(",") if known[variable] == "metrics" else value
    return found


def _checked(key: str, value: Any) -> Any:
    if key in _INTEGERS:
        try:
            number = int(value)
        except (TypeError, ValueError) as error:
            raise BadSetting(f"{key} = {value!r}; expected a whole number") from error
        if isinstance(value, float | bool) or number < _INTEGERS[key]:
            raise BadSetting(f"{key} = {value!r}; expected a whole number, at least {_INTEGERS[key]}")
        return number
    if key in _SWITCHES:
        if str(value).lower() not in ("true", "false", "1", "0"):
            raise BadSetting(f"{key} = {value!r}; expected true or false")
        return str(value).lower() in ("true", "1")
    if key == "metrics":
        if isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise BadSetting(f"metrics = {value!r}; expected a list of names")
        return tuple(v.strip() for v in value)
    if key == "metric":
        if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
            raise BadSetting("metric: expected tables [metric.NAME] of settings")
        return value
    if not isinstance(value, str):
        raise BadSetting(f"{key} = {value!r}; expected text")
    if key == "adjust" and value not in _ADJUSTMENTS:
        raise BadSetting(f"adjust = {value!r}; expected {', '.join(_ADJUSTMENTS)}")
    return value
