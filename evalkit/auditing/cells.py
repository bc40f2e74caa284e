"""Text of untrusted origin as one cell of a CSV file: nothing unseen in it, and no formula for a spreadsheet."""

from __future__ import annotations

import re

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\x00", "＝", "＋", "－", "＠")
# C0 and C1 controls but tab and newline, soft hyphen, marks of direction and of no width, line separators, surrogates,
# non-characters, tags.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def cell(text: str) -> str:
    """The text with unseen characters as backslash escapes; one that begins like a formula gets an apostrophe."""
    return ("'" if text.startswith(_FORMULA) else "") + _UNSEEN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
