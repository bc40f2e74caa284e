"""A study of detectors or sets as a page, as Markdown, as CSV and as JSON: its sentences first, then its exhibits."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from evalkit.types import Curves, Excluded, Exhibit, Grid, Matrix, Pairs, Scatter, Study, Table

from ._numbers import decimals, interval, number, settled
from ._words import anchors, one_line
from .as_csv import safe
from .html import environment, policy, style_and_script
from .markdown import escape


@dataclass(frozen=True)
class _Candid:
    """What the page says beside the findings, in the shape the templates know."""

    warnings: tuple[str, ...]
    excluded: tuple[tuple[str, Excluded], ...]
    refused: tuple[str, ...] = ()


def as_html(study: Study) -> str:
    """The study as one HTML page that opens offline; same study, same bytes."""
    style, script = style_and_script()
    return (
        environment()
        .get_template("study.html.j2")
        .render(
            study=study,
            candid=_Candid(study.warnings, study.excluded),
            exhibits=list(zip(anchors("shown", (e.title for e in study.exhibits)), study.exhibits, strict=True)),
            terms={},
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script),
        )
    )


def as_json(study: Study) -> str:
    """The study as strict JSON: `schema`, `title`, `findings`, what `data` holds, `warnings`, `excluded`, `provenance`.

    No NaN or Infinity: ValueError when `data` holds one. Ends with a newline.
    """
    document = {
        "schema": study.schema,
        "title": study.title,
        "findings": list(study.findings),
        **study.data,
        "excluded": [{"set": name, "id": out.id, "reason": out.reason} for name, out in study.excluded],
        "warnings": list(study.warnings),
        "provenance": dict(study.provenance),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def as_markdown(study: Study) -> str:
    """The study as GitHub Markdown: findings, tables and matrices; curves are named, and drawn on the page only."""
    parts = [f"# {escape(study.title)}"]
    parts += [f"**{escape(words)}**" if i == 0 else escape(words) for i, words in enumerate(study.findings)]
    for title, lines in (
        ("Warnings", [escape(words) for words in study.warnings]),
        ("Excluded", [f"{escape(name)}: {escape(out.id)}: {escape(out.reason)}" for name, out in study.excluded[:50]]),
    ):
        parts += [f"### {title} ({len(lines)})", "\n".join(f"- {line}" for line in lines)] if lines else []
    for exhibit in study.exhibits:
        parts += _in_markdown(exhibit)
    if study.provenance:
        rows = [f"| {escape(key)} | {escape(value)} |" for key, value in study.provenance.items()]
        parts += ["## Provenance", "\n".join(["| what | value |", "|:--|:--|", *rows])]
    return "\n\n".join(parts) + "\n"


def _in_markdown(exhibit: Exhibit) -> list[str]:
    match exhibit:
        case Table():
            lines = _rows(exhibit.header, exhibit.rows)
        case Matrix():
            cells = [[settled(cell) for cell in line] for line in exhibit.cells]
            places = decimals(cell for line in cells for cell in line)
            shown = [
                [
                    f"– ({cell.why})"
                    if cell.value is None
                    else f"{number(cell.value, places)} {interval(cell, places)}"
                    for cell in line
                ]
                for line in cells
            ]
            header = (f"{exhibit.row_label} \\ {exhibit.column_label}", *exhibit.columns)
            lines = _rows(header, [(name, *line) for name, line in zip(exhibit.rows, shown, strict=True)])
        case Curves():
            lines = [f"- {escape(line.name)}: {escape(line.says)}" for line in exhibit.lines]
        case Scatter():
            lines = _rows(
                ("subject", exhibit.x_label, exhibit.y_label),
                [(p.name, f"{p.x:.4g}", f"{p.y:.4g} [{p.low:.4g}, {p.high:.4g}]") for p in exhibit.points],
            )
        case Grid() | Pairs():
            return [f"## {escape(exhibit.title)}", escape(exhibit.rule), "(on the page)"]
    return [f"## {escape(exhibit.title)}", *([escape(exhibit.note, 900)] if exhibit.note else []), "\n".join(lines)]


def _rows(header: tuple[str, ...], rows: object) -> list[str]:
    assert isinstance(rows, list | tuple)
    lines = ["| " + " | ".join(escape(text) for text in header) + " |", "|:--|" + "--:|" * (len(header) - 1)]
    return lines + ["| " + " | ".join(escape(str(text)) for text in row) + " |" for row in rows]


def as_csv(study: Study) -> str:
    """The study as CSV, one line a number or word; exhibit, row, column, value, low, high, text; no formulas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("exhibit", "row", "column", "value", "low", "high", "text"))
    for exhibit in study.exhibits:
        for row, column, value, low, high, text in _entries(exhibit):
            numbers = ["" if x is None else repr(x) for x in (value, low, high)]
            words = [safe(one_line(word)) for word in (exhibit.title, row, column)]
            writer.writerow([*words, *numbers, safe(one_line(text))])
    return out.getvalue()


_Entry = tuple[str, str, float | None, float | None, float | None, str]


def _entries(exhibit: Exhibit) -> Iterator[_Entry]:
    match exhibit:
        case Table():
            for row in exhibit.rows:
                for name, text in zip(exhibit.header[1:], row[1:], strict=True):
                    yield row[0], name, None, None, None, text
        case Matrix():
            for name, line in zip(exhibit.rows, exhibit.cells, strict=True):
                for column, raw in zip(exhibit.columns, line, strict=True):
                    cell = settled(raw)
                    yield name, column, cell.value, cell.low, cell.high, cell.why
        case Curves():
            for curve in exhibit.lines:
                for x, y in curve.points:
                    yield curve.name, exhibit.y_label, y, None, None, f"{exhibit.x_label} = {x:.6g}"
        case Scatter():
            for point in exhibit.points:
                yield point.name, exhibit.y_label, point.y, point.low, point.high, f"{exhibit.x_label} = {point.x:.6g}"
        case Grid() | Pairs():
            return
