"""The run browser over HTTP: the list, the page of one record, a metric over time, and the reports as they lie there.

Pages are drawn by the wing from plain data; nothing here writes markup. A stored report is shown under a policy that
runs no script but the one this version's reports carry, and only files beside an index.html of the list are served.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .. import registry
from ..comparison import shown_term
from ..errors import BadSource, RunFailed
from ..serving import LocalServer, Reply, Request, page, refusal
from .found import Entry, Folder

PER_PAGE = 100
MOST_POINTS = 2000  # newest points of a history that are drawn
MOST_SERIES = 40
# What a report folder may hold, and what it is served as.
SERVED = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
}


def view(folder: Path | str, *, port: int = 0) -> LocalServer:
    """A server of the reports and records under a folder, ready to `serve`; its `url` is the list.

    Raises BadSource when it is no folder, RunFailed when the port is taken.
    """
    root = Path(folder)
    if not root.is_dir():
        raise BadSource(f"no such folder {str(root)!r}; expected a folder with reports or run records")
    try:
        return LocalServer(Browser(Folder(root)), port=port)
    except (OSError, OverflowError) as error:
        raise RunFailed(f"cannot listen on port {port}: {error}; give another --port, 0 takes a free one") from error


class Browser:
    """The application that a LocalServer runs over one folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._draw = registry.reports.get("history_html")

    def __call__(self, request: Request) -> Reply:
        if request.method != "GET":
            return refusal(405, "this page is only read")
        if request.path == "":
            return page(self._draw(self._list(request.query)))
        if request.path == "run":
            return self._run(request.query.get("file", ""))
        if request.path == "metric":
            name = request.query.get("name", "")[:300]
            return page(self._draw(self._history(name, request.query.get("q", "")[:300])))
        if request.path.startswith("files/"):
            return self._file(os.fsdecode(unquote_to_bytes(request.path.removeprefix("files/"))))
        return refusal(404, "there is nothing here")

    # The list -------------------------------------------------------------------------------------------

    def _list(self, query: Mapping[str, str]) -> dict[str, Any]:
        words = query.get("q", "")[:300]
        kind = query.get("kind", "")[:20]
        entries = self.folder.entries()
        kept = [e for e in entries if _fits(e, words) and kind in ("", e.kind)]
        pages = max(1, math.ceil(len(kept) / PER_PAGE))
        number = min(pages, max(1, int(given) if (given := query.get("page", "1")[:6]).isdecimal() else 1))
        shown = kept[(number - 1) * PER_PAGE : number * PER_PAGE]
        return {
            "page": "list",
            "folder": str(self.folder.root),
            "q": words,
            "kind": kind,
            "kinds": sorted(Counter(e.kind for e in entries).items()),
            "number": number,
            "pages": pages,
            "total": len(entries),
            "matching": len(kept),
            "truncated": self.folder.truncated,
            "entries": [_line(e) for e in shown],
            "metrics": self._metrics(shown),
        }

    def _metrics(self, shown: Sequence[Entry]) -> list[dict[str, str]]:
        """Names of the numbers of the newest records shown; so many as a reader may want to follow."""
        names: dict[str, None] = {}
        for entry in [e for e in shown if e.kind == "run"][:20]:
            try:
                body = self.folder.document(entry.path)
            except (KeyError, ValueError):
                continue
            names.update(dict.fromkeys(str(r["name"]) for r in _results(body)))
        return [{"name": name, "link": _history_link(name)} for name in names if ".group=" not in name][:60]

    # One record -----------------------------------------------------------------------------------------

    def _run(self, relative: str) -> Reply:
        entry = next((e for e in self.folder.entries() if _key(e.path) == _key(relative)), None)
        if entry is None:
            return refusal(404, "there is no such record under this folder")
        facts: dict[str, Any] = {"page": "run", "entry": _line(entry), "results": [], "checks": [], "facts": []}
        facts |= {"warnings": [], "excluded": 0, "findings": [], "why": entry.why}
        if not entry.why:
            try:
                facts |= _body_facts(self.folder.document(entry.path))
            except (KeyError, ValueError) as error:
                facts["why"] = str(error)
        return page(self._draw(facts))

    # A metric over time ---------------------------------------------------------------------------------

    def _history(self, name: str, words: str) -> dict[str, Any]:
        points, broken = [], []
        # As JSON writes it; a name that was written with other escapes is found by the slower way.
        needle = name.encode("ascii", "ignore").partition(b'"')[0].partition(b"\\")[0]
        for entry in self.folder.entries():
            if entry.kind != "run" or not _fits(entry, words) or not self.folder.mentions(entry.path, needle):
                continue
            try:
                body = self.folder.document(entry.path)
            except (KeyError, ValueError) as error:
                broken.append({**_line(entry), "why": str(error)})
                continue
            points += [_point(entry, body, r) for r in _results(body) if r["name"] == name]
        cut = len(points) - MOST_POINTS
        points = sorted(points[:MOST_POINTS], key=lambda p: (p["time"], p["path"]))
        series = _series(points)
        return {
            "page": "metric",
            "name": name,
            "q": words,
            "better": Counter(p["better"] for p in points).most_common(1)[0][0] if points else "",
            "unit": Counter(p["unit"] for p in points).most_common(1)[0][0] if points else "",
            "runs": [{"label": p["label"], "when": p["when"]} for p in points],
            "series": series[:MOST_SERIES],
            "left_out": max(0, len(series) - MOST_SERIES),
            "older": max(0, cut),
            "unlike": _unlike(points),
            "broken": broken,
        }

    # Files of a report ----------------------------------------------------------------------------------

    def _file(self, relative: str) -> Reply:
        path = Path(os.path.normpath(relative.replace("\0", "/")))
        homes = {Path(e.page).parent for e in self.folder.entries() if e.page}
        home = next((h for h in homes if path.is_relative_to(h)), None)
        kind = SERVED.get(path.suffix)
        real = (self.folder.root / path).resolve()
        inside = home is not None and real.is_relative_to((self.folder.root / home).resolve())
        if path.is_absolute() or ".." in path.parts or not inside or kind is None or not real.is_file():
            return refusal(404, "there is no such file in a report of this folder")
        try:
            data = real.read_bytes()
        except OSError:
            return refusal(404, "this file cannot be read")
        if path.suffix == ".html":
            return Reply(200, data, kind, registry.reports.get("report_policy")())
        return Reply(200, data, kind)


def _fits(entry: Entry, words: str) -> bool:
    """Whether every word is in the entry's path, title or detail, whatever the case."""
    text = f"{entry.path} {entry.title} {entry.detail} {entry.kind}".casefold()
    return all(word in text for word in words.casefold().split())


def _key(path: str) -> bytes:
    return os.fsencode(path)


def link(path: str) -> str:
    """A path as part of an address, its bytes percent-encoded: names that are no UTF-8 come back as they were."""
    return quote_from_bytes(os.fsencode(path))


def _history_link(name: str) -> str:
    return f"metric?name={quote_from_bytes(name.encode('utf-8', 'replace'))}"


def _line(entry: Entry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "kind": entry.kind,
        "title": entry.title,
        "detail": entry.detail,
        "when": when(entry.time),
        "why": entry.why,
        "link": f"run?file={link(entry.path)}",
        "report": f"files/{link(entry.page)}" if entry.page else "",
    }


def when(time: float) -> str:
    """A time as 2030-01-31 17:05, UTC; empty where no calendar has it."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return ""


def _results(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of a record that have a name and a finite value; whatever else stands there is passed over."""
    results = body.get("results")
    kept = []
    for r in results if isinstance(results, list) else ():
        if isinstance(r, dict) and isinstance(r.get("name"), str) and _finite(r.get("value")):
            kept.append(r)
    return kept


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _ends(result: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = result.get("low"), result.get("high")
    return (float(low), float(high)) if _finite(low) and _finite(high) and low <= high else None  # type: ignore[arg-type,operator]


def _point(entry: Entry, body: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    facts = body.get("environment")
    commit = facts.get("commit") if isinstance(facts, Mapping) else None
    ends = _ends(result)
    terms = result.get("terms")
    return {
        "path": entry.path,
        "link": f"run?file={link(entry.path)}",
        "subject": entry.title,
        "time": entry.time,
        "when": when(entry.time),
        "label": str(commit)[:8] if commit else when(entry.time)[:10],
        "value": float(result["value"]),
        "low": ends and ends[0],
        "high": ends and ends[1],
        "protocol": str(result.get("protocol", "")),
        "terms": terms if isinstance(terms, Mapping) else {},
        "better": str(result.get("better", "")),
        "unit": str(result.get("unit", "")),
    }


def _series(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a subject and protocol, in the order of their newest point; places count all runs of the page."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for place, p in enumerate(points):
        shown = ("value", "low", "high", "when", "label", "link", "path")
        found.setdefault((p["subject"], p["protocol"]), []).append({"at": place, **{key: p[key] for key in shown}})
    lines = [{"subject": s, "protocol": p, "points": of} for (s, p), of in found.items()]
    return sorted(lines, key=lambda line: -line["points"][-1]["at"])


def _unlike(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why points of one metric are not joined: which terms the newest protocol has otherwise than each other one."""
    newest = points[-1] if points else None
    said: dict[str, str] = {}
    for p in points:
        if newest is not None and p["protocol"] not in (newest["protocol"], *said):
            own, other = p["terms"], newest["terms"]
            odd = [
                f"{key} is {shown_term(own.get(key))}, now {shown_term(other.get(key))}"
                for key in sorted({*own, *other}, key=str)
                if own.get(key) != other.get(key)
            ]
            said[p["protocol"]] = f"{p['protocol'][:19]}: {'; '.join(odd[:6]) or 'its terms were not recorded'}"
    return list(said.values())


def _body_facts(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of one document shows, from whatever it holds."""
    results = [
        {
            **{key: str(r.get(key, "")) for key in ("name", "better", "unit", "interval", "protocol")},
            "value": float(r["value"]),
            "ends": _ends(r),
            "n": ", ".join(f"{v} {k}" for k, v in r["n"].items()) if isinstance(r.get("n"), Mapping) else "",
            "link": _history_link(str(r["name"])),
        }
        for r in _results(body)
    ]
    checks = [
        {key: str(c.get(key, "")) for key in ("metric", "outcome", "says", "asked")}
        for c in _listed(body, "checks")
        if isinstance(c, Mapping)
    ]
    environment = body.get("environment", body.get("provenance"))
    facts = list(environment.items()) if isinstance(environment, Mapping) else []
    return {
        "results": results,
        "checks": checks,
        "facts": [(str(key), shown_term(value)) for key, value in facts[:40]],
        "warnings": [str(w) for w in _listed(body, "warnings")[:200]],
        "excluded": len(_listed(body, "excluded")),
        "findings": [str(f) for f in _listed(body, "findings")[:50]],
    }


def _listed(body: Mapping[str, Any], key: str) -> list[Any]:
    value = body.get(key)
    return value if isinstance(value, list) else []
