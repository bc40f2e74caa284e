"""Text as a page shows it: cut where long, whole in the title, broken after dots, its marked pieces marked."""

from __future__ import annotations

import re

from markupsafe import Markup

from evalkit.types import Marked

from ._words import shorten, visible

# Characters of a text with marked pieces that a page shows; a longer one is shown around its first mark.
MARKED = 900
_BEFORE = 150


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


def marked(item: Marked) -> Markup:
    """The text with its spans as <mark>; what reaches over an end or into another span is left unmarked."""
    spans = sorted((a, b) for a, b in item.spans if 0 <= a < b <= len(item.text))
    start = max(0, spans[0][0] - _BEFORE) if spans and spans[0][1] > MARKED else 0
    stop = min(len(item.text), start + MARKED)
    parts, at = [Markup("…") if start else Markup("")], start
    for a, b in spans:
        if a < at or a >= stop:
            continue
        b = min(b, stop)
        parts += [Markup("{}<mark>{}</mark>").format(visible(item.text[at:a]), visible(item.text[a:b]))]
        at = b
    end = "…" if stop < len(item.text) else ""
    return Markup("").join([*parts, Markup("{}{}").format(visible(item.text[at:stop]), end)])
