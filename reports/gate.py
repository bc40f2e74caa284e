"""A gate as one page that opens offline: the verdict in words, then a row a metric with limit and baseline drawn."""

from __future__ import annotations

from markupsafe import Markup

from evalkit.types import Check, GateReport

from ._words import ARROWS
from .gate_bars import bar
from .gate_files import verdict
from .gate_markdown import ORDER, shown
from .html import environment, policy, style_and_script


def as_html(report: GateReport) -> str:
    """The gate as one HTML page, failed metrics first; same report, same bytes, nothing to fetch."""
    style, script = style_and_script()
    found = sorted(report.checks, key=lambda check: ORDER.index(verdict(check)))
    return (
        environment()
        .get_template("gate.html.j2")
        .render(
            report=report,
            rows=[_Row(check) for check in found],
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script),
        )
    )


class _Row:
    """One check as the template prints it."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.verdict = verdict(check)
        self.arrow = ARROWS.get(check.better or "", "")
        self.drawn = bar(check)
        self.found, self.baseline = shown(check.found), shown(check.baseline)
        self.change = shown(check.difference, sign=True)
        self.sides = ", ".join(f"{n} {side}" for side, n in check.n.items())
