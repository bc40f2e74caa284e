"""What one rater is shown, under names that say nothing: trials, their media, and what an answer to them means.

Every name is a keyed digest of the study's secret, different for each rater and place, so that neither names nor their
order nor a repeated name tell anything.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BadRecord
from .designing import order
from .store import Answer, Choice, Store

NAME_LENGTH = 60
_NONCE = re.compile(r"[A-Za-z0-9_-]{8,64}")
MOST_MS = 86_400_000.0


def opaque(secret: bytes, *parts: object) -> str:
    """A name of 20 letters and digits that only the holder of the secret can make or read."""
    return hmac.new(secret, "\n".join(map(str, parts)).encode(), hashlib.sha256).hexdigest()[:20]


@dataclass(frozen=True)
class Shown:
    """One trial of a sheet: its name, its item, and the names of its media from left to right."""

    name: str
    item: int
    position: int
    flipped: bool
    media: tuple[str, ...]
    stimuli: tuple[int, ...]

    def plain(self) -> dict[str, Any]:
        """What a rater's page is told of it."""
        return {"id": self.name, "media": list(self.media)}


def sheet_of(store: Store, key: str, *, shared_media: bool = False) -> tuple[Shown, ...]:
    """The trials of a rater's key in their order; shared_media: one name a stimulus, for a folder of files."""
    shown = []
    for place, trial in enumerate(order(store.sets, store.items, store.terms.seed, key)):
        stimuli = store.items[trial.item].stimuli
        stimuli = stimuli[::-1] if trial.flipped else stimuli
        media = tuple(
            opaque(store.secret, "media", s) if shared_media else opaque(store.secret, "media", key, place, side)
            for side, s in enumerate(stimuli)
        )
        name = opaque(store.secret, "trial", key, place)
        shown.append(Shown(name, trial.item, place, trial.flipped, media, stimuli))
    return tuple(shown)


def answer_to(trial: Shown, body: Mapping[str, Any], mode: str, server_ms: float | None = None) -> Answer:
    """What a posted or collected answer says; BadRecord in one line when it is not one."""
    said, sure, ms, nonce = (body.get(key) for key in ("answer", "confidence", "ms", "key"))
    allowed = ("real", "fake") if mode == "real-or-fake" else ("left", "right")
    if said not in allowed:
        raise BadRecord(f"answer {_cut(said)}; expected {' or '.join(allowed)}")
    if sure is not None and (type(sure) is not int or not 1 <= sure <= 4):
        raise BadRecord(f"confidence {_cut(sure)}; expected 1, 2, 3, 4 or null")
    if ms is not None and (isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 <= ms <= MOST_MS):
        raise BadRecord(f"ms {_cut(ms)}; expected milliseconds, 0 to {MOST_MS:.0f}")
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise BadRecord(f"key {_cut(nonce)}; expected 8 to 64 letters, digits, - or _")
    choice: Choice
    if mode == "real-or-fake":
        choice = "real" if said == "real" else "fake"
    else:
        choice = "first" if (said == "left") != trial.flipped else "second"
    taken = None if ms is None else float(ms)
    return Answer(trial.item, trial.position, trial.flipped, choice, sure, taken, server_ms, nonce)


def rater_name(given: object) -> str:
    """A rater's name, spaces trimmed; BadRecord when it is empty, too long, or holds characters nobody can see."""
    if not isinstance(given, str):
        raise BadRecord(f"rater {_cut(given)}; expected a name")
    name = " ".join(given.split())
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise BadRecord(f"rater {_cut(given)}; expected a name of 1 to {NAME_LENGTH} visible characters")
    return name


def _cut(value: object) -> str:
    return ascii(value)[:60]
