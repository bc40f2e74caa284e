"""An audit as a folder that opens offline: `index.html` with verdict, worklist and custody, and a page a file.

Thumbnails are files, so that a worklist of two thousand rows stays small and loads them as they scroll into view. Every
page carries its own style and script under a Content-Security-Policy that allows those and pictures of the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from markupsafe import Markup

from evalkit.types import CHIPS, Dossier

from . import _dossier_charts as charts
from . import _dossier_page as leaf
from ._dossier_files import FOLDER, Shots, excerpt, page_name, shots
from ._dossier_style import pruned
from .html import environment, policy, style_and_script

# How a verdict's badge looks; any other word looks like one that does not count.
LOOKS: Mapping[str, str] = {"synthetic": "fail", "authentic": "pass", "uncertain": "open"}
CHIP_SAYS: Mapping[str, str] = {
    "signed": "a trusted signature over intact content",
    "claim": "an unsigned or untrusted claim, which can be forged",
    "hint": "compatible with much else",
    "watermark": "a watermark was found",
    "detector": "a detector gave a score",
    "fingerprint": "resembles a known source",
    "known": "a match of known content",
    "conflict": "pieces of evidence contradict each other",
}


def render(dossier: Dossier) -> Mapping[str, bytes]:
    """The dossier as a folder, path -> content: `index.html`, pages and pictures; same dossier, same bytes."""
    names, pictures = shots(dossier)
    made = {f"{FOLDER}/{name}": content for name, content in pictures.items()}
    pages = {page.row.position: page_name(page.row.position) for page in dossier.pages}
    for turn in leaf.turns(dossier.pages):
        made[f"{FOLDER}/{page_name(turn[1].row.position)}"] = _leaf(dossier, names, pages, turn)
    size = sum(map(len, made.values()))
    return {"index.html": _index(dossier, names, pages, size, len(made)), **made}


def _index(dossier: Dossier, names: Mapping[str, Shots], pages: Mapping[int, str], size: int, count: int) -> bytes:
    style, script = _index_assets()
    verdicts = _totals(dossier)
    page = environment().get_template("dossier.html.j2")
    return page.render(
        dossier=dossier,
        pages={position: f"{FOLDER}/{name}" for position, name in pages.items()},
        shots={digest: f"{FOLDER}/{one.thumbnail}" for digest, one in names.items() if one.thumbnail},
        totals=verdicts,
        columns=[*charts.VERDICTS, *sorted(set(verdicts) - set(charts.VERDICTS))],
        choices={
            "verdict": _present((row.verdict for row in dossier.rows), charts.VERDICTS),
            "evidence": _present((chip for row in dossier.rows for chip in row.chips), CHIPS),
            "state": _present((row.state for row in dossier.rows), ()),
        },
        size=f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} bytes",
        count=count,
        charts=charts,
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script, "'self'"),
        **_words(),
    ).encode("utf-8", "backslashreplace")


def _leaf(dossier: Dossier, names: Mapping[str, Shots], pages: Mapping[int, str], turn: leaf.Turn) -> bytes:
    before, page, after = turn
    style, script = _leaf_assets()
    record, cut = leaf.as_json(page)
    template = environment().get_template("dossier_file.html.j2")
    return template.render(
        dossier=dossier,
        page=page,
        row=page.row,
        title=leaf.title(page),
        before=before and page_name(before.row.position),
        after=after and page_name(after.row.position),
        pages=pages,
        shots=names.get(page.row.sha256, Shots()),
        heat_says=(found.heat_says if (found := dossier.pictures.get(page.row.sha256)) else ""),
        excerpt=excerpt(dossier, page.row),
        evidence=leaf.evidence(page),
        judges=leaf.judges(page),
        reasons=leaf.sentences(page, "reasons") or leaf.sentences(page, "reason"),
        conflicts=leaf.sentences(page, "conflicts"),
        warnings=leaf.sentences(page, "warnings"),
        digests=leaf.told(page, "sha256"),
        facts=leaf.told(page, "bytes", "format", "modality", "width", "height", "state", "stage", "decoder"),
        hashes=[(name.removeprefix("hashes."), value) for name, value in leaf.told(page, "hashes")],
        digest=leaf.words(page.record.get("hash")),
        previous=leaf.words(page.record.get("previous")),
        record=record,
        cut=cut,
        strengths=leaf.STRENGTHS,
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script, "'self'"),
        **_words(),
    ).encode("utf-8", "backslashreplace")


def _words() -> dict[str, object]:
    return {"looks": LOOKS, "chip_says": CHIP_SAYS, "p_text": leaf.probability, "chance": leaf.chance}


def _totals(dossier: Dossier) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, counts in dossier.verdicts:
        for verdict, count in counts.items():
            found[verdict] = found.get(verdict, 0) + count
    return found


def _present(values: object, order: tuple[str, ...]) -> list[tuple[str, int]]:
    """(value, rows) of what the worklist holds: in the given order, then by name."""
    counts: dict[str, int] = {}
    assert hasattr(values, "__iter__")
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return [(v, counts[v]) for v in [*order, *sorted(set(counts) - set(order))] if v in counts]


@cache
def _index_assets() -> tuple[str, str]:
    style, script = style_and_script()
    return style + _asset("dossier.css"), script + _asset("dossier.js")


@cache
def _leaf_assets() -> tuple[str, str]:
    """Style and script of a file's page: the same sheet without what such a page does not use."""
    style, script = _index_assets()
    template = _asset("dossier_file.html.j2") + _asset("dossier_parts.html.j2")
    used = {word for found in re.findall(r'class="([^"]*)"', template) for word in re.findall(r"[\w-]+", found)}
    return pruned(style, frozenset(used | {"js", *LOOKS.values(), *(f"k-{chip}" for chip in CHIPS)})), script


def _asset(name: str) -> str:
    return files("reports").joinpath("templates", name).read_text(encoding="utf-8")
