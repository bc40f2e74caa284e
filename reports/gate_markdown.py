"""A gate as Markdown for a job summary or a pull request: the verdict first, then a table of which rows may be cut."""

from __future__ import annotations

import re

from evalkit.types import Cell, Check, GateReport, Reading

from ._numbers import decimals, interval, number, settled
from ._words import ARROWS, one_line
from .gate_files import verdict
from .markdown import escape

ORDER = ("fail", "inconclusive", "pass", "skipped")
WORDS = {"fail": "**FAIL**", "inconclusive": "**INCONCLUSIVE**", "pass": "pass", "skipped": "skipped"}


def as_markdown(report: GateReport, limit: int | None = None) -> str:
    """The gate as GitHub Markdown of at most `limit` bytes of UTF-8; begins with a hidden marker for a bot.

    Failed metrics come first and passed ones last, so what a limit cuts off are passes first; a note says how many rows
    were left out. Empty where not even the verdict has room.
    """
    head = [marker(report), f"## {escape(report.verdict, 300)}", _about(report)]
    found = sorted(report.checks, key=lambda check: ORDER.index(verdict(check)))
    tail = _tail(report)
    for parts in (tail, []):
        text = _fitted(head, found, parts, limit)
        if text:
            return text
    short = f"{head[0]}\n\n{head[1]}\n"
    return short if limit is None or len(short.encode()) <= limit else ""


def marker(report: GateReport) -> str:
    """The hidden line by which a bot finds its own comment again: `<!-- evalkit:gate:NAME -->`."""
    name = report.provenance.get("name") or report.subject.name
    # Two dashes would end the comment.
    return f"<!-- evalkit:gate:{re.sub(r'[^A-Za-z0-9._]+', '-', name).strip('-')[:80] or 'run'} -->"


def _about(report: GateReport) -> str:
    subject, baseline, reference = report.subject, report.baseline, report.reference
    parts = [f"{escape(subject.name, 120)}, n = {subject.n}"]
    parts += [f"against {escape(reference.name, 120)}, n = {reference.n}"] if reference is not None else []
    parts += [f"baseline {escape(baseline.name, 120)}, n = {baseline.n}"] if baseline is not None else ["no baseline"]
    return "; ".join(parts)


def _fitted(head: list[str], found: list[Check], tail: list[str], limit: int | None) -> str:
    """The whole with as many rows as fit; empty where not one does though there are some."""
    table = ["| verdict | metric | value | baseline | change | asked |", "|:--|:--|--:|--:|--:|:--|"]
    if limit is None:
        return _joined(head, [*table, *map(_row, found)] if found else [], "", tail)
    # The note is at its longest when it counts every row.
    room = limit - len(_joined(head, table, _left_out(found), tail).encode())
    rows: list[str] = []
    for check in found:
        row = _row(check)
        room -= len(row.encode()) + 1
        if room < 0:
            break
        rows.append(row)
    if found and not rows:
        return ""
    note = _left_out(found[len(rows) :]) if len(rows) < len(found) else ""
    text = _joined(head, [*table, *rows] if rows else [], note, tail)
    return text if len(text.encode()) <= limit else ""


def _joined(head: list[str], table: list[str], note: str, tail: list[str]) -> str:
    return "\n\n".join(part for part in (*head, "\n".join(table), note, *tail) if part) + "\n"


def _left_out(found: list[Check]) -> str:
    counts = {kind: sum(verdict(check) == kind for check in found) for kind in ORDER}
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"{len(found)} more rows are left out here for their length: {listed}."


def _row(check: Check) -> str:
    arrow = f" {ARROWS[check.better]}" if check.better else ""
    said = escape(check.says, 600) + (f"<br><sub>{escape(check.advice, 500)}</sub>" if check.advice else "")
    cells = (
        WORDS[verdict(check)],
        escape(check.metric, 200) + arrow,
        _reading(check.found),
        _reading(check.baseline),
        _reading(check.difference, sign=True),
        f"{escape(check.asked, 400)}<br>{said}",
    )
    return "| " + " | ".join(cells) + " |"


def _reading(own: Reading | None, *, sign: bool = False) -> str:
    value, ends = shown(own, sign=sign)
    return f"{value}<br>{escape(ends)}" if ends else value


def shown(own: Reading | None, *, sign: bool = False) -> tuple[str, str]:
    """A number and its interval as text."""
    if own is None:
        return "–", ""
    cell = settled(Cell(own.value, *((own.low, own.high) if own.level is not None else (None, None))))
    if cell.value is None:
        return "–", ""
    places = decimals([cell])
    return number(cell.value, places, sign=sign), interval(cell, places, sign=sign)


def _tail(report: GateReport) -> list[str]:
    parts = []
    if report.warnings:
        shown = [f"- {escape(words)}" for words in report.warnings[:50]]
        shown += [f"- and {len(report.warnings) - 50} more"] if len(report.warnings) > 50 else []
        parts += [f"### Warnings ({len(report.warnings)})", "\n".join(shown)]
    if report.provenance:
        rows = [f"| {escape(key)} | {escape(one_line(value), 500)} |" for key, value in report.provenance.items()]
        table = "\n".join(["| what | value |", "|:--|:--|", *rows])
        parts.append(f"<details><summary>Provenance</summary>\n\n{table}\n\n</details>")
    return parts
