"""Witnesses inside a worker: made once from plain settings, asked about each file, their words made plain JSON.

What a witness raises is a warning of that file and nothing more; what it says is bounded, because the file it read may
have chosen the words.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import BadSetting
from ..types import Evidence, MediaFile, Witness
from .wire import LARGEST

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Wanted = Sequence[tuple[str, Mapping[str, Any]]]  # names and settings
MOST_EVIDENCE = 64  # pieces a witness may give of one file
LONGEST = 20_000  # characters of one string of it
DEEPEST, MOST_ITEMS = 8, 2000


def load(name: str) -> Any:
    """The class of a witness: a name of the registry, or "package.module:Class"; UnknownName or RunFailed."""
    module, colon, attribute = name.partition(":")
    if colon and name not in registry.detectors and "." in module:
        return getattr(import_module(module), attribute)
    return registry.detectors.get(name)


def preload(wanted: Wanted) -> None:
    """Import the modules of witnesses once, before workers are forked; what fails will fail again and be told then."""
    for name, _ in wanted:
        try:
            load(name)
        except Exception:
            continue


def make(wanted: Wanted) -> list[Witness]:
    """The witnesses, ready; BadSetting for one that is no witness, and whatever they raise themselves."""
    made = []
    for name, settings in wanted:
        witness = load(name)(**settings)
        if not isinstance(witness, Witness):
            raise BadSetting(f"{name!r} reads no evidence from files; expected a witness (name, digest, testify)")
        made.append(witness)
    return made


def ask(witness: Witness, file: MediaFile, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """What the witness says of the file as plain JSON; [] and a warning when it fails. MemoryError is not caught."""
    try:
        said = list(witness.testify(file))
        if len(said) > MOST_EVIDENCE:
            warn(f"witness {witness.name}: {len(said)} pieces of evidence, the first {MOST_EVIDENCE} are kept")
        return [_told(piece) for piece in said[:MOST_EVIDENCE]]
    except MemoryError:
        raise
    except BaseException as error:
        warn(f"witness {witness.name}: {type(error).__name__}: {error}")
        return []


def hashes_of(pixels: npt.NDArray[np.uint8], warn: Callable[[str], None]) -> dict[str, Any]:
    """Perceptual hashes by name; {} where the libraries are absent, {} and a warning when they fail."""
    try:
        known = import_module("evalkit.known")
    except ImportError:
        return {}
    try:
        return {str(name): plain(value) for name, value in known.hashes(pixels).items()}
    except MemoryError:
        raise
    except BaseException as error:
        warn(f"hashes: {type(error).__name__}: {error}")
        return {}


def _told(piece: Evidence) -> dict[str, Any]:
    if not isinstance(piece, Evidence):
        raise TypeError(f"evidence of type {type(piece).__name__}")
    return {field.name: plain(getattr(piece, field.name)) for field in dataclasses.fields(piece)}


def plain(value: Any, depth: int = 0) -> Any:
    """Bounded, strict JSON of a value: long strings cut, what is too deep or no JSON written as text, NaN as null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else str(value)[:LONGEST]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value[:LONGEST].encode("utf-8", "backslashreplace").decode("utf-8")
    if depth < DEEPEST and isinstance(value, Mapping):
        items = list(value.items())[:MOST_ITEMS]
        return {plain(str(key)): plain(item, depth + 1) for key, item in items}
    if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in list(value)[:MOST_ITEMS]]
    if isinstance(value, bytes):
        return value[: LONGEST // 2].hex()
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of numpy's
        return plain(value.item(), depth + 1) if depth <= DEEPEST else None
    return str(value)[:LONGEST]
