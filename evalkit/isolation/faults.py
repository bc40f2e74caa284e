"""Which state an exception of a decoder means: one table, and nothing stays unclassified.

Pillow raises a dozen unrelated classes on malformed files (OSError, UnidentifiedImageError, ValueError, SyntaxError,
IndexError, TypeError, struct.error and others), so the class alone says little and its words count too.
"""

from __future__ import annotations

import re

from ..errors import UnreadableSample
from ..types import State

LONGEST = 300  # characters of a reason


class Refused(Exception):
    """The file is not opened further: its state, where that was found, and why."""

    def __init__(self, state: State, stage: str, reason: str) -> None:
        super().__init__(state, stage, reason)
        self.state, self.stage, self.reason = state, stage, reason


# The first that is found in "ClassName: words" (lower case) decides.
WORDS: tuple[tuple[str, State], ...] = (
    (r"^memoryerror|out of memory|cannot allocate", "oom"),
    (r"^decompressionbomb|too large|exceeds limit|too much memory", "too_large"),
    (r"truncat|^eoferror|unexpected end|premature|not enough data|ran out of|file too short", "truncated"),
    (r"^notimplementederror|unsupported|not supported", "unsupported"),
    (r"unknown (?:data org|image mode|pixel mode|photometric|mode)", "unsupported"),
    (r"decoder \S+ not available|32-bit pixels have no declared white", "unsupported"),
)  # fmt: skip


def classify(error: BaseException, stage: str) -> Refused:
    """The state an exception means at this stage, with its words; whatever is not in the table is "corrupt"."""
    if isinstance(error, Refused):
        return error
    said = " ".join(str(error).split())
    name = type(error).__name__
    told = f"{name}: {said}".lower()
    state: State = next((state for pattern, state in WORDS if re.search(pattern, told)), "corrupt")
    if name == "UnidentifiedImageError":
        return Refused(state, stage, "the header cannot be read")
    # An UnreadableSample is our own sentence; of a decoder's, the class is half of what is known.
    own = isinstance(error, UnreadableSample)
    return Refused(state, stage, (said if own and said else f"{name}: {said}" if said else name)[:LONGEST])
