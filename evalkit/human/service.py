"""The pages and answers of a study over HTTP: who judges, what is shown next, and an answer that is kept at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from ..errors import BadRecord
from ..serving import Reply, Request, page, refusal
from .stimuli import png
from .store import Store
from .trials import Shown, answer_to, opaque, rater_name, sheet_of

MOST_RATERS = 1000


@dataclass
class _Session:
    number: int
    trials: Mapping[str, Shown]
    done: set[int]
    seen: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Judging:
    """The application that a LocalServer runs; rater: the only one who judges here, else the page asks for a name."""

    def __init__(self, store: Store, rater: str | None = None) -> None:
        self.store, self.only = store, rater
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}
        self._media: dict[str, int] = {}
        for known in store.raters():
            self._open(known.name)
        facts = page_facts(store)
        self._page = page(registry.reports.get("judge_html")({**facts, "static": False, "rater": rater or ""}))

    def __call__(self, request: Request) -> Reply:
        match request.method, request.path.split("/"):
            case "GET", [""]:
                return self._page
            case "GET", ["media", name]:
                return self._show(name)
            case "POST", ["begin" | "answer" as what]:
                return self._post(what, request.body)
            case _:
                return refusal(404, "there is nothing here")

    def _show(self, name: str) -> Reply:
        number = self._media.get(name)
        if number is None:
            return refusal(404, "there is no such picture or text")
        stimulus = self.store.stimulus(number)
        if stimulus.width:
            return Reply(200, png(stimulus), "image/png")
        return Reply(200, stimulus.body)

    def _post(self, what: str, raw: bytes) -> Reply:
        try:
            body = json.loads(raw, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return refusal(400, "the body is not JSON")
        if not isinstance(body, dict):
            return refusal(400, "the body is not a JSON object")
        try:
            return self._begin(body) if what == "begin" else self._answer(body)
        except BadRecord as error:
            return refusal(400, str(error))

    def _begin(self, body: Mapping[str, Any]) -> Reply:
        name = rater_name(self.only if self.only is not None else body.get("rater"))
        if len(self._sessions) >= MOST_RATERS and self._key(name) not in self._sessions:
            return refusal(429, f"there are {MOST_RATERS} raters already")
        key, session = self._open(name)
        session.seen = time.monotonic()
        left = [trial.plain() for trial in session.trials.values() if trial.item not in session.done]
        return _json({"session": key, "trials": left, **_progress(session)})

    def _answer(self, body: Mapping[str, Any]) -> Reply:
        session = self._sessions.get(str(body.get("session")))
        trial = None if session is None else session.trials.get(str(body.get("trial")))
        if session is None or trial is None:
            return refusal(404, "there is no such trial for this rater")
        with session.lock:
            now = time.monotonic()
            waited = None if session.seen is None else 1000 * (now - session.seen)
            added = self.store.add(session.number, [answer_to(trial, body, self.store.terms.mode, waited)])
            session.done.add(trial.item)
            session.seen = now if added else session.seen
        return _json(_progress(session))

    def _key(self, name: str) -> str:
        return opaque(self.store.secret, "session", name)

    def _open(self, name: str) -> tuple[str, _Session]:
        """The session of a rater, new or as it was left, in this run of the server or in an earlier one."""
        with self._lock:
            key = self._key(name)
            if key not in self._sessions:
                rater = self.store.rater(name)
                trials = sheet_of(self.store, rater.sheet, shared_media=rater.sheet.startswith("sheet "))
                self._media.update({m: s for t in trials for m, s in zip(t.media, t.stimuli, strict=True)})
                self._sessions[key] = _Session(rater.number, {t.name: t for t in trials}, set(rater.answers))
            return key, self._sessions[key]


def page_facts(store: Store) -> dict[str, Any]:
    """What the judging page may know of its study: nothing of the sets."""
    kinds = [item.kind for item in store.items]
    return {
        "mode": store.terms.mode,
        "modality": store.terms.modality,
        "total": len(kinds),
        "catches": kinds.count("catch"),
        "repeats": kinds.count("repeat"),
        "side": max(store.stimulus(0).width, store.stimulus(0).height),
    }


def _progress(session: _Session) -> dict[str, int]:
    return {"done": len(session.done), "total": len(session.trials)}


def _json(document: Mapping[str, Any]) -> Reply:
    return Reply(200, json.dumps(document).encode(), "application/json")


def _no_constant(word: str) -> Any:
    raise ValueError(word)
