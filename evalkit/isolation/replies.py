"""A worker's answer made into an `Opened`, believing nothing: every field of the type, size and range agreed.

A worker that was taken over by a file can lie about that file (and about files after it, until it is replaced); it must
not be able to make the parent allocate without bound, read beyond its memory, or meet a type it does not expect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from ..types import STATES, Evidence, Opened
from ..types.audit import EvidenceKind, Says, Strength
from .budgets import Claim, within
from .faults import Refused
from .limits import Limits
from .opening import STAGES
from .wire import BadMessage

MODALITIES = (None, "image", "text")
MOST_EVIDENCE, MOST_WARNINGS = 4096, 64
LONGEST = 4096  # characters of a reason, a warning, a decoder's name


def opened_of(answer: Any, limits: Limits) -> Opened:
    """The answer as a noun; BadMessage when anything in it is not as agreed."""
    if not isinstance(answer, dict):
        raise BadMessage("an answer that is no object")
    state = _one_of(answer, "state", STATES)
    return Opened(
        state=state,
        stage=_one_of(answer, "stage", ("", *STAGES)),
        reason=None if answer.get("reason") is None else _words(answer.get("reason")),
        decoder=_words(answer.get("decoder")),
        format=_words(answer.get("format")),
        modality=_one_of(answer, "modality", MODALITIES),
        width=_side(answer.get("width")),
        height=_side(answer.get("height")),
        facts=_object(answer.get("facts")),
        hashes=_object(answer.get("hashes")),
        evidence=tuple(_evidence(piece) for piece in _list(answer.get("evidence"), MOST_EVIDENCE)),
        warnings=tuple(_words(words) for words in _list(answer.get("warnings"), MOST_WARNINGS)),
        seconds=_number(answer.get("seconds")),
        peak_bytes=int(_number(answer.get("peak_bytes"))),
    )


def shape_of(answer: Mapping[str, Any], opened: Opened, limits: Limits) -> tuple[int, int, int] | None:
    """Height, width and 3 of the pixels that lie in the memory, within the budget; None when there are none."""
    shape = answer.get("shape")
    if shape is None or not opened.readable:
        return None
    if not isinstance(shape, list) or len(shape) != 3 or shape[2] != 3:
        raise BadMessage("pixels of an unknown shape")
    height, width = _side(shape[0]), _side(shape[1])
    if not height or not width:
        raise BadMessage("pixels of an unknown shape")
    try:
        within(Claim(width, height), limits)
    except Refused as error:
        raise BadMessage(f"pixels over the budget: {error.reason}") from error
    return height, width, 3


def text_size(answer: Mapping[str, Any], opened: Opened, limits: Limits) -> int | None:
    """Bytes of the text that lies in the memory, within the budget; None when there is none."""
    size = answer.get("text")
    if size is None or not opened.readable:
        return None
    if type(size) is not int or not 0 <= size <= limits.largest:
        raise BadMessage("a text of an unknown size")
    return size


def _one_of(answer: dict[str, Any], name: str, known: Any) -> Any:
    value = answer.get(name)
    if not (value is None or isinstance(value, str)) or value not in known:
        raise BadMessage(f"{name} is none of those agreed")
    return value


def _words(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise BadMessage("no words, or too many")
    return value


def _side(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**32:
        raise BadMessage("a width or height out of range")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadMessage("no number")
    return float(value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadMessage("no object")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise BadMessage("no list, or too long a one")
    return value


def _evidence(piece: Any) -> Evidence:
    told = _object(piece)
    p_value = told.get("p_value")
    if p_value is not None and not 0 <= _number(p_value) <= 1:
        raise BadMessage("a p-value beyond 1")
    detail = told.get("detail")
    if not isinstance(detail, str):
        raise BadMessage("evidence without words")
    return Evidence(
        kind=_one_of(told, "kind", get_args(EvidenceKind)),
        says=_one_of(told, "says", get_args(Says)),
        strength=_one_of(told, "strength", get_args(Strength)),
        source=_words(told.get("source")),
        detail=detail,
        facts=_object(told.get("facts")),
        p_value=None if p_value is None else float(p_value),
    )
