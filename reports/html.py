"""The leaderboard as one page that opens offline, with nothing to fetch and nothing to install."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evalkit.types import Curves, Exhibit, Grid, Leaderboard, Matrix, Pairs, Picture, Scatter, Table

from . import svg
from ._board import lay_out, note_letters
from ._numbers import decimals, interval, number, settled
from ._words import MODALITIES, interval_words, short_digest, shorten, visible

_IMAGE = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/=]+")
_NUMERIC = re.compile(r"[+−-]?[\d.,\u202f ]+(?:e[−-]?\d+)?\s?%?(?:\s*\[.*\])?|[–-]?")
# A picture with an edge of at most this many pixels is enlarged with hard pixels; a larger one is a photograph.
_PIXEL_ART = 32


def render(board: Leaderboard) -> str:
    """The leaderboard as one HTML page: verdict, boards, exhibits, provenance; same board, same bytes.

    The page carries its style, script and pictures; its Content-Security-Policy allows those and nothing else.
    """
    style, script = style_and_script()
    page = environment().get_template("report.html.j2")
    return page.render(
        board=board,
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
    )


def policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy: its own style and script by digest, pictures only from the page itself."""
    sources = {
        "default-src": "'none'",
        "img-src": "data:",
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
    made.globals |= {
        "modalities": MODALITIES,
        "interval_words": interval_words,
        "lay_out": lay_out,
        "kind": kind,
        "is_wide": is_wide,
        "is_image": lambda item: isinstance(item, Picture),
        "picture": picture,
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


def brief(text: str, limit: int = 48) -> Markup:
    """The text, cut with an ellipsis where long; then the whole of it is in the title."""
    short = shorten(text, limit)
    if len(visible(text)) <= limit:
        return Markup("{}").format(short)
    return Markup('<span title="{}">{}</span>').format(shorten(text, 20_000), short)


def soft(text: str, limit: int = 40) -> Markup:
    """A dotted name that may break after its dots and underscores."""
    pieces = re.split(r"(?<=[._/-])", shorten(text, limit))
    return Markup("<wbr>").join(pieces)


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


def picture(item: Picture) -> Markup:
    """The picture as an <img>; anything but an embedded picture is replaced by its words, so nothing is fetched."""
    if not _IMAGE.fullmatch(item.uri):
        return Markup('<span class="no-picture">{}</span>').format(shorten(item.alt or "no picture", 80))
    kinds = "pixels" if _edge(item.uri) <= _PIXEL_ART else "photo"
    return Markup('<img class="{}" src="{}" alt="{}">').format(kinds, item.uri, shorten(item.alt, 200))


def _edge(uri: str) -> int:
    """The longer edge of an embedded PNG in pixels, from its header; large for other formats."""
    head = base64.b64decode(uri.partition(",")[2][:32].ljust(32, "A"))
    if head[12:16] != b"IHDR":
        return 10_000
    return max(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))


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
