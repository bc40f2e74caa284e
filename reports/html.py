"""The leaderboard as one page that opens offline, with nothing to fetch and nothing to install."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evalkit.types import (
    Comparison,
    Curves,
    Exhibit,
    Grid,
    Leaderboard,
    Marked,
    Matrix,
    Pairs,
    Picture,
    Scatter,
    Table,
)

from . import svg
from ._board import Layout, lay_out, note_letters
from ._differences import ADJUSTED, Differences, difference_tables
from ._numbers import decimals, interval, number, settled
from ._pictures import beside, picture
from ._slices import Slices, slice_tables
from ._texts import brief, marked, soft
from ._words import MODALITIES, anchors, interval_words, protocols, short_digest, shorten, visible

_NUMERIC = re.compile(r"[+−-]?[\d.,\u202f ]+(?:e[−-]?\d+)?\s?%?(?:\s*\[.*\])?|[–-]?")
# What one page shows of a long list; the rest is counted and stands in leaderboard.csv and leaderboard.json.
LIMITS = {"LEADERS": 12, "MOST_LINES": 1000, "LISTED": 200}


@dataclass(frozen=True)
class Chapter:
    """One comparison as the page shows it; prefix: how the ids of its parts begin."""

    comparison: Comparison
    prefix: str
    layout: Layout
    differences: tuple[Differences, ...]
    slices: tuple[Slices, ...]
    exhibits: tuple[tuple[str, Exhibit], ...]


def render(board: Leaderboard) -> str:
    """The leaderboard as one HTML page: verdict, boards, exhibits, provenance; same board, same bytes.

    The page carries its style, script and pictures; its Content-Security-Policy allows those and nothing else.
    """
    return _page(board, "data:")


def render_folder(board: Leaderboard) -> Mapping[str, bytes]:
    """The same page as a folder, path -> content: `index.html`, and its pictures as files under `pictures/`.

    For boards whose single page would be too large to open: a browser then loads pictures as they scroll into view.
    """
    moved, pictures = beside(board)
    return {"index.html": _page(moved, "'self' data:").encode(), **pictures}


def _page(board: Leaderboard, pictures: str) -> str:
    style, script = style_and_script()
    page = environment().get_template("report.html.j2")
    return page.render(
        board=board,
        chapters=_chapters(board),
        terms=protocols(board),
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script, pictures),
    )


def _chapters(board: Leaderboard) -> list[Chapter]:
    found = []
    prefixes = anchors("", (comparison.modality for comparison in board.comparisons))
    for comparison, name in zip(board.comparisons, prefixes, strict=True):
        prefix = name.removeprefix("-")
        layout = lay_out(comparison, prefix)
        names = anchors(f"{prefix}-shown", (exhibit.title for exhibit in comparison.exhibits))
        found.append(
            Chapter(
                comparison,
                prefix,
                layout,
                difference_tables(comparison, layout.headings),
                slice_tables(comparison),
                tuple(zip(names, comparison.exhibits, strict=True)),
            )
        )
    return found


def policy(style: str, script: str, pictures: str = "data:") -> str:
    """The page's Content-Security-Policy: its own style and script by digest, pictures only from the page itself."""
    sources = {
        "default-src": "'none'",
        "img-src": pictures,
        "style-src": _digest(style),
        "script-src": _digest(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{key} {value}" for key, value in sources.items())


def style_and_script() -> tuple[str, str]:
    """The style sheet and the script that every page carries."""
    return _asset("style.css"), _asset("report.js")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("reports").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """The templates with every filter and function they use; any text is escaped."""
    made = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"brief": brief, "cut": shorten, "soft": soft, "short_digest": short_digest}
    made.globals |= LIMITS
    made.globals |= {
        "modalities": MODALITIES,
        "adjusted": ADJUSTED,
        "interval_words": interval_words,
        "kind": kind,
        "is_wide": is_wide,
        "is_image": lambda item: isinstance(item, Picture),
        "is_marked": lambda item: isinstance(item, Marked),
        "picture": picture,
        "marked": marked,
        "heat_table": heat_table,
        "looks_numeric": lambda text: bool(_NUMERIC.fullmatch(text)),
        "is_command": lambda key: "command" in key.lower() or "reproduce" in key.lower(),
        "svg": svg,
    }
    return made


def _seen(value: object) -> object:
    """What every `{{ }}` of the page passes through: own markup as it is, any other text with unseen characters shown.

    str(value): a str subclass could bring its own __html__.
    """
    return visible(str(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def kind(exhibit: Exhibit) -> str:
    """The template's block that draws this exhibit."""
    return type(exhibit).__name__.lower()


def is_wide(exhibit: Exhibit) -> bool:
    """Whether the exhibit takes the page's whole width; charts and slim tables stand side by side."""
    match exhibit:
        case Grid() | Pairs():
            return True
        case Matrix():
            return len(exhibit.columns) > 4
        case Table():
            widest = [max(map(len, texts)) for texts in zip(exhibit.header, *exhibit.rows, strict=False)]
            return sum(widest) + 2 * len(widest) > 72
        case Curves() | Scatter():
            return False


def heat_table(matrix: Matrix) -> dict[str, object]:
    """A matrix in words: per cell (value, interval, colour class, mark, note letter), then the notes."""
    cells = [[settled(cell) for cell in line] for line in matrix.cells]
    places = decimals(cell for line in cells for cell in line)
    letters: dict[str, str] = {}
    fresh = note_letters()
    lines = []
    for line in cells:
        boxes = []
        for cell in line:
            if cell.value is None:
                if cell.why not in letters:
                    letters[cell.why] = next(fresh)
                boxes.append(("–", "", "empty", letters[cell.why]))
            else:
                colour = svg.heat(cell, matrix.neutral, matrix.extreme)
                boxes.append((number(cell.value, places), interval(cell, places), colour, ""))
        lines.append(boxes)
    return {"lines": lines, "notes": [(letter, why) for why, letter in letters.items()]}
