"""The words of a gate: numbers with as many digits as their comparison needs, rules and findings in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..comparison import shown_term
from ..types import Better, MetricResult, Reading, Rule
from .rules import floor_words


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def apart(value: float, limit: float) -> tuple[str, str]:
    """Both numbers with so many digits that they read differently where they differ."""
    for digits in range(4, 18):
        one, other = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if one != other or value == limit:
            return one, f"{limit:.10g}" if float(f"{limit:.10g}") == limit else other
    return repr(value), repr(limit)


def reading(found: Reading | None) -> str:
    """A number with its interval, such as 12.3 [11.9, 12.8]; the number alone where it has none."""
    if found is None:
        return ""
    if found.level is None:
        return number(found.value)
    value, low, high = rounded(found.value, found.low, found.high)
    return f"{value} [{low}, {high}]"


def rounded(value: float, low: float, high: float) -> tuple[str, str, str]:
    """A number and the ends of its interval with one count of decimals: two or three digits of the interval's width."""
    width = high - low
    if not 1e-7 < width < 1e6:
        return number(value), number(low), number(high)
    places = max(0, 1 - math.floor(math.log10(width)))
    # An end beside zero keeps its sign: on which side it lies is the verdict.
    while places < 12 and any(end != 0 and float(f"{end:.{places}f}") == 0 for end in (low, high)):
        places += 1
    return f"{value:.{places}f}", f"{low:.{places}f}", f"{high:.{places}f}"


def level_words(level: float | None) -> str:
    return "" if level is None else f"{100 * level:.4g} %"


def asked(rule: Rule, better: Better | None) -> str:
    """A rule in words; it says so where a limit stops an improvement."""
    whole = " with its whole interval" if rule.confident else ""
    parts = []
    if rule.max is not None:
        parts.append(f"at most {rule.max:.10g}{whole}")
    if rule.min is not None:
        parts.append(f"at least {rule.min:.10g}{whole}")
    for verb, floor, good in (("rise", rule.max_increase, "higher"), ("fall", rule.max_decrease, "lower")):
        if floor is not None:
            noted = f" ({good} is better here: this limits an improvement)" if better == good else ""
            share = floor_words(floor).replace("%", " %")
            parts.append(f"may {verb} by at most {share} against the baseline{noted}")
    if rule.min_n is not None:
        parts.append(f"n of at least {rule.min_n} a side")
    if not parts:
        parts.append("is in the record")
    return "; ".join(parts) + ("" if rule.require else "; not required")


def unlike(own: MetricResult, base: MetricResult) -> str:
    """What differs between two protocols, in words; empty where they are one."""
    if own.protocol == base.protocol and (not own.terms or not base.terms or own.terms == base.terms):
        return "" if own.better == base.better else f"better is {own.better}, the baseline's {base.better}"
    parts = []
    for key in sorted({*own.terms, *base.terms}):
        a, b = own.terms.get(key), base.terms.get(key)
        if a != b and isinstance(a, Mapping) and isinstance(b, Mapping):
            a, b = _apart(a, b), _apart(b, a)
        if a != b:
            parts.append(f"{shown_term(key)} is {_term(a)}, the baseline's is {_term(b)}")
    return "; ".join(parts) or "the protocols differ, and the records do not say in what"


def _apart(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in a.items() if key not in b or b[key] != value}


def _term(value: Any) -> str:
    return "not there" if value is None or value == {} else shown_term(value)


def few_lines(name: str, limit: int = 200) -> str:
    """A name on one line of a terminal or a log, at most `limit` characters, in which nothing is a command.

    Characters that do not print are escaped; `##[`, which a GitHub runner reads as a command wherever it stands, is
    broken up.
    """
    seen = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return (seen if len(seen) <= limit else seen[: limit - 1] + "…").replace("##[", "##\\[")
