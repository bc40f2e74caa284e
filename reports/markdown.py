"""The leaderboard as Markdown for a pull request or a job summary: one table a modality, verdict first."""

from __future__ import annotations

import re

from evalkit.types import Comparison, Leaderboard

from ._board import Box, Layout, lay_out
from ._words import interval_words, one_line

MARKER = "<!-- evalkit:leaderboard -->"
# Emphasis underscores stand at a word's edge; inside fid@random_conv they are letters.
_SPECIAL = re.compile(r"[\\|`*~\[\]]|(?<!\w)_|_(?!\w)|(?<!\w)[@#]")


def render(board: Leaderboard) -> str:
    """The leaderboard as GitHub Markdown; begins with a hidden marker by which a bot finds its own comment again."""
    parts = [MARKER, f"# {escape(board.title)}"]
    for comparison in board.comparisons:
        parts += _section(board, comparison)
    if board.provenance:
        rows = [f"| {escape(key)} | {escape(value)} |" for key, value in board.provenance.items()]
        parts += ["## Provenance", "\n".join(["| what | value |", "|:--|:--|", *rows])]
    return "\n\n".join(parts) + "\n"


def escape(text: str, limit: int = 500) -> str:
    """One line of text in which Markdown, HTML, mentions and table pipes mean nothing."""
    plain = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda m: f"&#{ord(m[0])};" if m[0] in "@#" else "\\" + m[0], plain)


def _section(board: Leaderboard, comparison: Comparison) -> list[str]:
    layout = lay_out(comparison)
    parts = [f"## {escape(comparison.title)}"]
    parts += [f"**{escape(sentence)}**" for sentence in comparison.verdict[:1]]
    parts += [escape(sentence) for sentence in comparison.verdict[1:]]
    if layout.headings and layout.lines:
        legend = f"Brackets hold {interval_words(board, comparison)}; bold marks the best candidate."
        parts += [_table(layout), legend]
    notes = [f"<sup>{letter}</sup> {escape(why)}" for letter, why in layout.notes]
    parts += ["<br>".join(notes)] if notes else []
    refusals = [f"- {escape(words)}" for words in comparison.refused]
    warnings = [f"- {escape(words)}" for words in comparison.warnings]
    excluded = [f"- {escape(name)}: {escape(out.id)}: {escape(out.reason)}" for name, out in comparison.excluded]
    for title, lines in (("Refused", refusals), ("Warnings", warnings), ("Excluded", excluded)):
        parts += [f"### {title} ({len(lines)})", "\n".join(_capped(lines))] if lines else []
    return parts


def _table(layout: Layout) -> str:
    heads = [f"{escape(head.column.name)} {head.arrow}" for head in layout.headings]
    lines = ["| " + " | ".join(["subject", "n", *heads]) + " |", "|:--|" + "--:|" * (len(heads) + 1)]
    for line in layout.lines:
        role = "" if line.role == "candidate" else f" *({line.role})*"
        boxes = [_box(box) for box in line.boxes]
        lines.append("| " + " | ".join([escape(line.name, 60) + role, str(line.n), *boxes]) + " |")
    return "\n".join(lines)


def _box(box: Box) -> str:
    if box.note:
        return f"–<sup>{box.note}</sup>"
    value = f"**{box.text}**" if box.mark == "best" else box.text
    shown = f"{value} {box.interval}".rstrip()
    return f"{shown} tied" if box.mark == "tied" else shown


def _capped(lines: list[str], limit: int = 50) -> list[str]:
    """A job summary beyond its size limit is dropped whole, so long lists end with a count."""
    return lines if len(lines) <= limit else [*lines[:limit], f"- and {len(lines) - limit} more, in leaderboard.json"]
