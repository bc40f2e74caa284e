"""The five doors: metrics, extractors, detectors, generators, reports.

Built-in parts and parts of third parties come through the same door: a name and "module:attribute". The line knows each
wing by one string, here. A third party adds an entry point in the group `evalkit.<door>`; a notebook calls
`registry.metrics.add("mine", mine)`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .errors import BadSetting, EvalkitError, RunFailed, UnknownName


@dataclass(frozen=True)
class Listing:
    """What a door can say of one of its parts without loading it."""

    name: str
    origin: str
    summary: str
    facts: Mapping[str, Any]


class Door:
    """Names -> parts of one kind, loaded when first asked for."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._added: dict[str, Any] = {}

    @cached_property
    def _targets(self) -> dict[str, str]:
        targets = {point.name: point.value for point in _installed().select(group=f"evalkit.{self.kind}s")}
        # Built-ins win: a third party cannot silently replace what a record's number means.
        targets.update(importlib.import_module(self.package).BUILTIN)
        return targets

    def names(self) -> list[str]:
        """Every known name, sorted."""
        return sorted({*self._targets, *self._added})

    def __contains__(self, name: object) -> bool:
        return name in self._added or str(name).partition(":")[0] in self._targets

    def add(self, name: str, part: Any) -> None:
        """Make `part` known as `name` in this process; EvalkitError when the name is taken."""
        if name in self:
            raise EvalkitError(f"the {self.kind} {name!r} exists already; choose another name")
        self._added[name] = part

    def get(self, name: str) -> Any:
        """The part called `name`; UnknownName with the nearest one when there is none.

        `inception:tf1` is the part `inception`, made with the variant "tf1".
        """
        if name in self._added:
            return self._added[name]
        stem, colon, variant = name.partition(":")
        if stem not in self._targets:
            raise UnknownName(self.kind, name, self.names())
        module, _, attribute = self._targets[stem].partition(":")
        try:
            part = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise RunFailed(f"the {self.kind} {stem!r} ({self._targets[stem]}) cannot be loaded: {error}") from error
        if colon and not isinstance(part, type):
            raise UnknownName(self.kind, name, self.names())
        if colon and not inspect.signature(part).parameters:
            raise BadSetting(f"the {self.kind} {stem!r} has no variants; write {stem!r} for {name!r}")
        return partial(part, variant) if colon else part

    def listings(self) -> Iterator[Listing]:
        """Each part with its first sentence and declared facts, read from its source without importing it."""
        for name in self.names():
            if name in self._added:
                summary = " ".join((self._added[name].__doc__ or "").split("\n\n")[0].split())
                yield Listing(name, "added in this process", summary, {})
            else:
                target = self._targets[name]
                origin = "built in" if target.startswith(f"{self.package}.") else target
                yield Listing(name, origin, *_describe(target))


@cache
def _installed() -> Any:
    """Entry points of everything installed: one scan serves the five doors."""
    return entry_points()


@cache
def _parsed(module: str) -> ast.Module | None:
    """The syntax tree of a module that is not imported; None when it has no source."""
    spec = importlib.util.find_spec(module)
    return None if spec is None or spec.origin is None else ast.parse(Path(spec.origin).read_text("utf-8"))


def _describe(target: str) -> tuple[str, dict[str, Any]]:
    """First docstring sentence and literal facts (decorator keywords, class attributes) of "module:attribute"."""
    module, _, attribute = target.partition(":")
    try:
        tree = _parsed(module)
    except (ImportError, OSError, SyntaxError):
        return "(cannot be read)", {}
    if tree is None:
        return "(not installed)", {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            doc = ast.get_docstring(node) or (ast.get_docstring(tree) or "")
            return " ".join(doc.split("\n\n")[0].split()), _facts(node)
    return "", {}


def _facts(node: ast.ClassDef | ast.FunctionDef) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    pairs: list[tuple[str, ast.expr]] = []
    for call in node.decorator_list:
        if isinstance(call, ast.Call):
            pairs += [(k.arg, k.value) for k in call.keywords if k.arg]
    if isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
                pairs.append((line.targets[0].id, line.value))
            elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
                pairs.append((line.target.id, line.value))
    for name, value in pairs:
        if name == "controls":
            facts[name] = [_control(c) for c in ast.walk(value) if isinstance(c, ast.Call)]
            continue
        try:
            facts[name] = ast.literal_eval(value)
        except ValueError:
            continue
    return facts


def _control(call: ast.Call) -> str:
    """`name=default (low..high)` or `name=default (this|that)` of a declared control."""
    order = ("name", "default", "says", "low", "high", "choices")
    values: dict[str, Any] = {}
    for key, node in [*zip(order, call.args, strict=False), *((k.arg or "", k.value) for k in call.keywords)]:
        try:
            values[key] = ast.literal_eval(node)
        except ValueError:
            continue
    span = f" ({values['low']}..{values['high']})" if "low" in values and "high" in values else ""
    span = f" ({'|'.join(values['choices'])})" if values.get("choices") else span
    return f"{values.get('name', '?')}={values.get('default', '?')}{span}"


metrics = Door("metric", "evalkit.metrics")
extractors = Door("extractor", "evalkit.extractors")
detectors = Door("detector", "detectors")
generators = Door("generator", "generators")
reports = Door("report", "reports")

DOORS = {
    "metrics": metrics,
    "extractors": extractors,
    "detectors": detectors,
    "generators": generators,
    "reports": reports,
}
