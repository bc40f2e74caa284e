"""What a gate asks, read from tables: limits, changes that are let through, least n, and what must be there.

The tables are those of the configuration, `[gate."fid@inception"]`, or of a Python call. Nothing is guessed: an unknown
key, a limit of another kind and a table that asks nothing are errors in words, because a rule that silently asks
nothing lets every model through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import BadSetting, UnknownName
from ..types import Floor, Rule

ALPHA = 0.05
ADJUSTMENTS = ("holm", "none")
KEYS = tuple(f.name for f in fields(Rule) if f.name != "metric")
TOP_KEYS = ("alpha", "adjust", "require")
ASKING = ("min", "max", "max_increase", "max_decrease", "min_n")

Named = Callable[[str], str]


@dataclass(frozen=True)
class Gate:
    """All that is asked of one run.

    alpha: of one run, the chance of calling an unchanged model changed, over both directions. adjust: "holm" shares it
    among the regressions tested in the run, "none" gives each the whole of it.
    """

    rules: tuple[Rule, ...]
    alpha: float = ALPHA
    adjust: str = "holm"

    def plain(self) -> dict[str, Any]:
        """As a report keeps it: every rule under its full name, without what is default."""
        found: dict[str, Any] = {"alpha": self.alpha, "adjust": self.adjust}
        for rule in self.rules:
            own = {key: getattr(rule, key) for key in KEYS if getattr(rule, key) != getattr(Rule(""), key)}
            found[rule.metric] = {key: floor_words(v) if isinstance(v, Floor) else v for key, v in own.items()}
        return found


def floor_words(floor: Floor) -> str:
    """A floor as it is written: 5% or 0.5."""
    return f"{100 * floor.amount:.10g}%" if floor.relative else f"{floor.amount:.10g}"


def gate_of(table: Mapping[str, Any], over: Mapping[str, Mapping[str, Any]], named: Named) -> Gate:
    """The gate of a [gate] table with `over`, tables by metric, laid over its rules key by key.

    named: what a metric's name stands for in full, such as fid@inception for fid. Raises UnknownName for an unknown
    key, BadSetting for a value of the wrong kind, a metric asked twice, a table that asks nothing, or no rule at all.
    """
    table = dict(table)
    alpha, adjust = _alpha(table.pop("alpha", ALPHA)), _adjust(table.pop("adjust", "holm"))
    listed = _names(table.pop("require", []))
    merged = _tables(table, named)
    for name, own in over.items():
        full = named(name)
        merged[full] = {**merged.get(full, {}), **own}
    for full in dict.fromkeys(named(name) for name in listed):
        own = merged.setdefault(full, {})
        if own.get("require") is False:
            raise BadSetting(f"gate: {full} is in the list require, and its own table says require = false; keep one")
        own["require"] = True
    if not merged:
        raise BadSetting(
            'no rules to judge by; write [gate."fid@inception"] with max = 20 or max_increase = "5%" into evalkit.toml,'
            " or give --max fid@inception=20"
        )
    return Gate(tuple(_rule(full, own) for full, own in merged.items()), alpha, adjust)


def _tables(table: Mapping[str, Any], named: Named) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    written: dict[str, str] = {}
    for name, own in table.items():
        if not isinstance(own, Mapping):
            if "@" in name or "." in name:
                raise BadSetting(f'gate.{name!r} = {own!r}; expected a table, such as [gate."{name}"] with max = 20')
            raise UnknownName("key in [gate]", name, [*TOP_KEYS, *KEYS])
        _check_keys(name, own)
        full = named(name)
        if full in merged:
            raise BadSetting(f"gate: {written[full]!r} and {name!r} are both {full}; write one table")
        merged[full], written[full] = dict(own), name
    return merged


def _check_keys(name: str, own: Mapping[str, Any]) -> None:
    for key, value in own.items():
        if key in KEYS:
            continue
        if isinstance(value, Mapping):
            raise BadSetting(f'gate.{name}.{key}: a name with dots stands in quotes: [gate."{name}.{key}"]')
        raise UnknownName(f'key in [gate."{name}"]', key, KEYS)


def rule_of(metric: str, own: Mapping[str, Any]) -> Rule:
    """One rule of its table; raises UnknownName for an unknown key, BadSetting for a value of the wrong kind."""
    _check_keys(metric, own)
    return _rule(metric, own)


def _rule(metric: str, own: Mapping[str, Any]) -> Rule:
    where = f'gate."{metric}"'
    rule = Rule(metric)
    for key, value in own.items():
        rule = replace(rule, **{key: _READ[key](f"{where}: {key}", value)})
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        raise BadSetting(f"{where}: min = {rule.min:g} is above max = {rule.max:g}; no value passes")
    if rule.confident and rule.min is None and rule.max is None:
        raise BadSetting(f"{where}: confident speaks of min and max, and neither is given")
    if not any(key in own for key in ASKING) and own.get("require") is not True:
        raise BadSetting(f"{where} asks nothing; give max, min, max_increase, max_decrease, min_n or require = true")
    return rule


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise BadSetting(f"{where} = {_shown(value)}; expected a number")
    return float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # A whole number beyond what a float can hold.
        return False


def _floor(where: str, value: Any) -> Floor:
    if isinstance(value, Floor):
        amount, relative = value.amount, value.relative
    elif isinstance(value, str):
        found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*%\s*", value, re.ASCII)
        if found is None:
            raise BadSetting(f'{where} = {_shown(value)}; expected a number, or a share of the baseline such as "5%"')
        amount, relative = float(found[1]) / 100, True
    else:
        amount, relative = _number(where, value), False
    if not (math.isfinite(amount) and amount >= 0):
        raise BadSetting(f"{where} = {_shown(value)}; expected 0 or more: it is how much is let through")
    return Floor(amount, relative)


def _whole(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**63:
        raise BadSetting(f"{where} = {_shown(value)}; expected a whole number, at least 1")
    return value


def _switch(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadSetting(f"{where} = {_shown(value)}; expected true or false")
    return value


def _shown(value: Any) -> str:
    return repr(value)[:60]


_READ: Mapping[str, Callable[[str, Any], Any]] = {
    "min": _number,
    "max": _number,
    "max_increase": _floor,
    "max_decrease": _floor,
    "min_n": _whole,
    "require": _switch,
    "confident": _switch,
}


def _alpha(value: Any) -> float:
    number = _number("gate: alpha", value)
    if not 1e-9 <= number <= 0.5:
        raise BadSetting(f"gate: alpha = {value!r}; expected a chance of false alarms between 0 and 0.5, such as 0.05")
    return number


def _adjust(value: Any) -> str:
    if value not in ADJUSTMENTS:
        raise UnknownName("adjust in [gate]", str(value), ADJUSTMENTS)
    return str(value)


def _names(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise BadSetting(f"gate: require = {_shown(value)}; expected a list of metric names")
    return list(value)
