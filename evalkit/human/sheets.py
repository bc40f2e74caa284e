"""A study without a server: a folder with one page that opens anywhere, and the answers read back from JSON files.

The folder holds the pictures under names that say nothing, prepared orders ("sheets", one drawn for each rater by the
page) and no key: which sample is real stands in the study file alone. Answer files are untrusted: size, shape and every
field are checked before anything is kept, and a file is taken whole or not at all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import registry
from ..cache import beside
from ..errors import BadRecord, UnwritableOutput
from .service import page_facts
from .stimuli import png
from .store import Store
from .trials import answer_to, opaque, rater_name, sheet_of

SCHEMA = "evalkit.answers/1"
SHEETS = 24
MOST_BYTES = 4 * 1024 * 1024


def export(store: Store, folder: Path) -> None:
    """Write the page and its pictures to a new folder; UnwritableOutput when it holds other things."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnwritableOutput(f"{folder} exists and is not empty; give a new folder with --static")
    keys = [f"sheet {i + 1}" for i in range(SHEETS)]
    sheets = {key: sheet_of(store, key, shared_media=True) for key in keys}
    # In the order of their names, so that not even the time a file was written tells where it came from.
    media = sorted({pair for sheet in sheets.values() for t in sheet for pair in zip(t.media, t.stimuli, strict=True)})
    texts = {}
    with beside(folder) as draft:
        draft.mkdir()
        for name, number in media:
            stimulus = store.stimulus(number)
            if stimulus.width:
                (draft / "media").mkdir(exist_ok=True)
                (draft / "media" / f"{name}.png").write_bytes(png(stimulus))
            else:
                texts[name] = stimulus.body.decode("utf-8")
        facts = {
            **page_facts(store),
            "static": True,
            "rater": "",
            "study": opaque(store.secret, "study"),
            "sheets": {key: [t.plain() for t in sheet] for key, sheet in sheets.items()},
            "texts": texts,
        }
        text = registry.reports.get("judge_html")(facts)
        (draft / "index.html").write_text(text, "utf-8", newline="\n")


def collect(store: Store, path: Path) -> tuple[str, int]:
    """Add the answers of one file to the study: (rater, how many were new). BadRecord when anything in it is wrong."""
    body = _document(path)
    if body.get("schema") != SCHEMA:
        raise BadRecord(f"{path} has schema {ascii(body.get('schema'))[:60]}; expected {SCHEMA!r}")
    if body.get("study") != opaque(store.secret, "study"):
        raise BadRecord(f"{path} answers another study than {store.path}")
    sheet, given = body.get("sheet"), body.get("answers")
    if not isinstance(sheet, str) or sheet not in {f"sheet {i + 1}" for i in range(SHEETS)}:
        raise BadRecord(f"{path} names sheet {ascii(sheet)[:40]}; expected 'sheet 1' to 'sheet {SHEETS}'")
    trials = {t.name: t for t in sheet_of(store, sheet, shared_media=True)}
    if not isinstance(given, list) or not all(isinstance(a, dict) for a in given) or len(given) > 10 * len(trials):
        raise BadRecord(f"{path} holds no list of answers to {len(trials)} trials")
    try:
        name = rater_name(body.get("rater"))
        unknown = [a for a in given if not isinstance(a.get("trial"), str) or a["trial"] not in trials]
        if unknown:
            raise BadRecord(f"answers a trial that is not on {sheet!r}")
        answers = [answer_to(trials[a["trial"]], a, store.terms.mode) for a in given]
    except BadRecord as error:
        raise BadRecord(f"{path}: {error}") from error
    known = next((r for r in store.raters() if r.name == name), None)
    if known is not None and known.sheet != sheet:
        raise BadRecord(f"{path}: there is another rater called {name!r} in this study; rename one of them")
    rater = store.rater(name, sheet)
    return name, store.add(rater.number, answers)


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadRecord(f"{path} is larger than {MOST_BYTES // 2**20} MiB; no study has so many answers")
        body = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise BadRecord(f"cannot read answers {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{path} is not strict JSON; expected the file that the page saved") from error
    if not isinstance(body, dict):
        raise BadRecord(f"{path} is not a JSON object; expected the file that the page saved")
    return body


def _no_constant(word: str) -> Any:
    raise ValueError(word)
