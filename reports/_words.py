"""The words of a report: names made safe to look at, arrows, roles, and the level of each interval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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


def slug(text: str) -> str:
    """The text as a piece of an address: lower-case letters and digits with single dashes, at most 60."""
    return re.sub("[^a-z0-9]+", "-", text[:200].lower()).strip("-")[:60].rstrip("-") or "x"


def anchors(prefix: str, names: Iterable[str]) -> list[str]:
    """An id for each name, all different: its slug behind the prefix, numbered where two names have one slug."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        base, turn = f"{prefix}-{slug(name)}", 2
        chosen = base
        while chosen in taken:
            chosen, turn = f"{base}-{turn}", turn + 1
        taken.add(chosen)
        found.append(chosen)
    return found


def protocols(board: Leaderboard) -> dict[str, str]:
    """Protocol -> its terms in words, everything that must be equal for two numbers to share a column."""
    found: dict[str, str] = {}
    for result in (result for record in board.records for result in record.results):
        if result.protocol not in found:
            found[result.protocol] = _terms(result.terms)
    return found


def _terms(terms: Mapping[str, object]) -> str:
    parts = []
    for key, value in terms.items():
        said = ", ".join(f"{k} {_term(v)}" for k, v in value.items()) if isinstance(value, Mapping) else _term(value)
        parts.append(f"{key}: {said}")
    return one_line("; ".join(parts), 900)


def _term(value: object) -> str:
    text = str(value)
    return text[:19] if text.startswith("sha256:") else text


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
