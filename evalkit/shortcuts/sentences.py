"""A text cut into whole sentences, by marks and white space alone: the same for every language that ends them so.

A sentence ends at . ! ? or … (with the quotes and brackets that close after it) before white space or the end, unless a
lower-case letter follows (`"Why?" he said`), or the full stop belongs to a known abbreviation, an initial (J. Smith) or
a dotted one (U.S.). At 。！？ it ends without white space. What follows the last end is no whole sentence: left out.
"""

from __future__ import annotations

import re

ABBREVIATIONS = frozenset(
    (
        "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "etc", "e.g", "i.e", "cf", "no", "nos", "fig", "figs",
        "eq", "al", "inc", "ltd", "co", "corp", "approx", "dept", "gen", "col", "sgt", "capt", "lt", "rev", "hon",
        "gov", "sen", "rep", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
    )
)  # fmt: skip
# The look behind lets a run of marks be tried once and not from each of its marks; ++ gives nothing back.
END = re.compile(r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s|$)|[。！？]++[」』”’"]*+""")
FIRST = re.compile(r"[^\s\"'“‘«(\[]")
LONGEST_WORD = 20


def sentences(text: str) -> list[str]:
    """The whole sentences of a text in order, without the white space around them."""
    found, start = [], 0
    for mark in END.finditer(text):
        if _ends(text, mark):
            found.append(text[start : mark.end()].strip())
            start = mark.end()
    return [sentence for sentence in found if sentence]


def _ends(text: str, mark: re.Match[str]) -> bool:
    after = FIRST.search(text, mark.end())
    if after is not None and after.group().islower():
        return False
    if not mark.group().startswith(".") or mark.group().startswith(".."):
        return True
    # Only as far back as the longest abbreviation: a megabyte without a space is no word.
    words = text[max(0, mark.start() - LONGEST_WORD) : mark.start()].split()
    word = words[-1].lstrip("\"'“‘«([") if words else ""
    is_initial = len(word) == 1 and word.isupper() and word != "I"
    is_dotted = re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word) is not None and word.lower() not in ("a.m", "p.m")
    return not (is_initial or is_dotted or word.lower() in ABBREVIATIONS)
