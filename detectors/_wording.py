"""What a piece of provenance may be said to mean: one table of sentences, and untrusted words made fit to be shown.

The three rules of the table: a signed and trusted statement is strong; an unsigned one can be forged; absence means
unknown. Every `detail` ends in one of these sentences, so that no reader words a finding on its own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from evalkit.types import Evidence
from evalkit.types.audit import EvidenceKind, Says, Strength

LONGEST_NAME, LONGEST_PROMPT = 200, 500

SENTENCES: Mapping[str, str] = {
    "trusted": "Signed, intact, and the signer is on the trust list given: strong, as far as that signer is believed.",
    "signed": "Signed and intact, but {why}: a claim that whoever holds some certificate can make.",
    "broken": "The manifest or its tie to this file is broken ({why}): what it says is no evidence of this content, and"
    " that it is broken is no evidence of intent.",
    "unchecked": "Whether it fits this file was not checked: unknown.",
    "remote": "It is kept elsewhere; remote, not fetched: unknown.",
    "reader": "It was not looked at: install evalkit[provenance] (c2pa-python) to read it.",
    "unsigned": "Not signed: anyone can write or copy it.",
    "hint": "Not signed, anyone can write it, and it fits much else: a hint.",
    "unread": "Not read: unknown.",
    "absent": "No signal: unknown. Absence speaks for nothing: re-encoding can remove every such mark.",
}

# C0 and C1 controls, format characters (bidi marks, zero width, tags), surrogates, line and paragraph separators,
# characters without a meaning.
UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def visible(text: object, limit: int = LONGEST_NAME) -> str:
    """The text on one line, at most `limit` characters of it, whatever cannot be seen as its backslash escape."""
    # What is cut off is not looked at: a text may have megabytes. Twice the limit, because white space is squeezed.
    line = " ".join(str(text)[: 2 * limit].split())
    return "".join(_escaped(c) for c in line[:limit])


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in UNSEEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def evidence(
    says: Says,
    source: str,
    found: str,
    sentence: str = "unsigned",
    *,
    facts: Mapping[str, Any] | None = None,
    strength: Strength = "claim",
    kind: EvidenceKind = "metadata",
    why: str = "",
) -> Evidence:
    """One piece of evidence: `found`, what the file holds, and after it the fixed sentence of what that means."""
    return Evidence(kind, says, strength, source, f"{found}. {SENTENCES[sentence].format(why=why)}", dict(facts or {}))


def unread(source: str, why: str) -> Evidence:
    """Something that may hold provenance and was left unread, with the reason: never silently passed over."""
    return evidence("unknown", source, why, "unread", strength="hint", facts={"unread": why})
