"""Untrusted JSON: objects out of texts, and what of them is a string, a number or a list; and readers kept quiet."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ._wording import visible

LONGEST_JSON = 4 << 20


def object_of(text: object) -> dict[str, Any] | None:
    """The JSON object that a text is; None for any other text, one too long, or one nested deeper than Python reads."""
    if not isinstance(text, str) or len(text) > LONGEST_JSON or not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def listed(value: object, most: int = 1_000) -> list[Any]:
    return value[:most] if isinstance(value, list) else []


def word(value: object, limit: int = 200) -> str:
    """A string or a number as text fit to be shown; "" for anything else. Numbers as text: seeds exceed 2^53."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    try:
        return visible(value, limit)
    except ValueError:  # an integer of more digits than Python writes
        return ""


@contextmanager
def quietly() -> Iterator[None]:
    """Pillow's warnings about malformed files left out: they would go to the screen, worded by the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
