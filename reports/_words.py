"""The words of a report: names made safe to look at, arrows, roles, and the level of each interval."""

from __future__ import annotations

import re
from collections.abc import Mapping

from evalkit.types import Comparison, Leaderboard

ARROWS: Mapping[str, str] = {"lower": "↓", "higher": "↑"}
MODALITIES: Mapping[str, str] = {"image": "Images", "text": "Texts", "audio": "Audio", "video": "Video"}

# Characters a reader cannot see or that reorder the line: C0 and C1 controls but tab and newline, soft hyphen, zero
# width and bidi marks, line separators, lone surrogates, non-characters, tags. The joiners U+200C/D stay: scripts and
# emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str) -> str:
    """The text with each unseen character written as its backslash escape; tabs and newlines stay."""
    return _UNSEEN.sub(_escape, text.replace("\r\n", "\n"))


def shorten(text: str, limit: int) -> str:
    """At most `limit` visible characters, the last of them an ellipsis where something was cut."""
    seen = visible(text)
    return seen if len(seen) <= limit else seen[: limit - 1].rstrip() + "…"


def one_line(text: str, limit: int = 500) -> str:
    """The text on one line: every run of white space is one space."""
    return shorten(" ".join(visible(text).split()), limit)


def short_digest(digest: str) -> str:
    """The first twelve digits of a digest, without the name of its algorithm."""
    return shorten(digest.rpartition(":")[2][:12], 40)


def levels(board: Leaderboard) -> dict[tuple[str, str, str, str], float]:
    """(modality, subject, metric, protocol) -> confidence level of the interval, as the records have it."""
    return {
        (record.subject.modality, record.subject.name, result.name, result.protocol): result.level
        for record in board.records
        for result in record.results
    }


def interval_words(board: Leaderboard, comparison: Comparison) -> str:
    """What the brackets hold, such as "95 % intervals"; the level is left out where the records do not say one."""
    found = {
        level
        for (modality, _, name, _), level in levels(board).items()
        if modality == comparison.modality and any(column.name == name for column in comparison.columns)
    }
    return " / ".join(f"{100 * level:.4g} %" for level in sorted(found)) + (" intervals" if found else "intervals")
