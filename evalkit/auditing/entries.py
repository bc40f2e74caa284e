"""One file of an audit's manifest: its name as bytes, a name that is safe to show, and where it is read again.

A name is what its source says it is, byte for byte, and is never used as a path to write to. What people and records
see is the display name: one to one with the bytes, and without a character that hides, reorders or controls anything.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from ..types.audit import State

# How the bytes lie in their container: a file below a folder, a stretch of a file, a deflated stretch of a file, a
# stretch of what a gzip file unpacks to.
Packing: TypeAlias = Literal["file", "range", "deflate", "gzip"]

# Printable by Unicode's own table, and yet not to be seen: fillers, blanks, joiners, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {chr(c) for c in range(0xFE00, 0xFE10)}
_VOWELS_AND_TAILS = range(0x1160, 0x1200)  # Hangul letters that a syllable falls apart into


LONGEST = 1000  # characters of a display name


class Fault(Exception):
    """The bytes of an entry cannot be had: the state that its record ends in, and why."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state: State = state
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """What a listing accepts: bytes of one file; members, ratio (unpacked to packed) and bytes of one archive."""

    bytes: int = 256 * 2**20
    members: int = 1_000_000
    ratio: int = 200
    total: int = 64 * 2**30


@dataclass(frozen=True)
class Entry:
    """One input: `position` in the manifest, `id` to show, `name` as its source has it, and where its bytes lie.

    container: the absolute path or the URL of a folder or of an archive. offset, packed: where in an archive, bytes.
    size in bytes; sha256: hex, of the content when it was listed, "" where it could not be read: then `state` and
    `reason` say why. copies: other entries of the same content, to read it from where this one is gone.
    """

    position: int
    id: str
    name: bytes
    container: bytes
    packing: Packing = "file"
    offset: int = 0
    packed: int = 0
    size: int = 0
    sha256: str = ""
    state: State = "ok"
    reason: str | None = None
    caption: str | None = None
    copies: tuple[Entry, ...] = ()

    def failed(self, fault: Fault) -> Entry:
        """The same input, which cannot be read."""
        return replace(self, sha256="", state=fault.state, reason=fault.reason)

    def plain(self) -> dict[str, Any]:
        """As JSON: bytes in hex, copies within."""
        told = {**self.__dict__, "name": self.name.hex(), "container": self.container.hex()}
        return {**told, "copies": [c.plain() for c in self.copies]}

    @staticmethod
    def read(plain: Mapping[str, Any]) -> Entry:
        """The entry that `plain` told."""
        body = {**plain, "name": bytes.fromhex(plain["name"]), "container": bytes.fromhex(plain["container"])}
        return Entry(**{**body, "copies": tuple(Entry.read(c) for c in plain["copies"])})


def display(name: bytes) -> str:
    """The name as printable text, different for different bytes.

    Backslash escapes stand for a backslash itself, bytes that are not UTF-8, and characters that control, hide or
    reorder (Unicode's non-printable ones, all spaces but the plain one, blanks). Of a name that is not in Unicode's
    composed form (NFC) the loose marks are escaped, so that it does not look like its composed twin. Of one longer than
    LONGEST characters the end is replaced by a digest: names in a .tar may have any length.
    """
    shown = _printable(name)
    if len(shown) <= LONGEST:
        return shown
    return f"{shown[: LONGEST - 40]}\u2026{hashlib.sha256(name).hexdigest()[:32]}"


def _printable(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    loose = unicodedata.normalize("NFC", text) != text
    return "".join(_shown(c, loose) for c in text)


def _shown(char: str, loose: bool) -> str:
    code = ord(char)
    if char == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable() and char not in _BLANK and not 0xE0100 <= code <= 0xE01EF and not (loose and _is_loose(char)):
        return char
    # \x is for raw bytes alone: U+0085 as \x85 would be one with the byte 85.
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_loose(char: str) -> bool:
    composed = unicodedata.normalize("NFC", char)
    return bool(unicodedata.combining(char)) or composed != char or ord(char) in _VOWELS_AND_TAILS
