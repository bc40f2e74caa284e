"""The trivial rules: each turns one text into one number without knowing what it says.

A rule is not a detector that anybody wants; it is what a detector may have learnt instead of what it is sold for. A
newline that one side kept and the other lost is worth more than a language model on a released benchmark, and nobody
sees it who does not look. Where a rule is a share, its number does not grow with the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from .scripts import is_mixed, script_of

TERMINALS = ".!?…。！？"
CLOSERS = "\"'”’»)]」』"
CURLY = "‘’‚‛“”„‟"
DASHES = "‐‑‒–—―−"
# Each starts at a line's begin or stops at the next mark of its kind: linear in the text, whatever it holds.
MARKDOWN = re.compile(
    r"^#{1,6} |^[ \t]*+(?:[-*+]|\d++[.)]) |^>|^```|\*\*[^*\n]+\*\*|`[^`\n]+`|\[[^\[\]\n]+\]\(", re.MULTILINE
)
RUNS = re.compile(r"\s{2,}")
DOUBLE = re.compile(r"(?<=\S) {2,}(?=\S)")


class Seen:
    """One text with what several rules ask of it, counted once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def characters(self) -> Counter[str]:
        return Counter(self.text)

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def end(self) -> str:
        """The last character that is not white space."""
        return self.text.rstrip()[-1:] or " "

    def count(self, wanted: Callable[[str], bool]) -> int:
        return sum(n for character, n in self.characters.items() if wanted(character))

    def share(self, wanted: Callable[[str], bool]) -> float:
        """Share of the characters."""
        return self.count(wanted) / max(1, len(self.text))


@dataclass(frozen=True)
class Rule:
    """One rule: its name, what its number is, and how a text gets it; binary: the number is 0 or 1."""

    name: str
    says: str
    of: Callable[[Seen], float]
    binary: bool = False


def _yes(name: str, says: str, of: Callable[[Seen], bool]) -> Rule:
    return Rule(name, says, lambda seen: float(of(seen)), binary=True)


def _word_length(seen: Seen) -> float:
    return sum(map(len, seen.words)) / max(1, len(seen.words))


def _not_latin(seen: Seen) -> float:
    letters = seen.count(lambda c: bool(script_of(c)))
    return seen.count(lambda c: script_of(c) not in ("", "LATIN")) / max(1, letters)


def _ends_of_lines(seen: Seen) -> float:
    # split and not a pattern: ` +$` tries every space of a megabyte of them again.
    return sum(line.endswith((" ", "\t")) for line in seen.text.split("\n"))


def _bytes(seen: Seen) -> float:
    return len(seen.text.encode("utf-8", "surrogatepass"))


RULES: tuple[Rule, ...] = (
    _yes("newline", "contains a newline", lambda s: "\n" in s.text),
    Rule("newlines", "newlines", lambda s: s.characters["\n"]),
    _yes("final_punctuation", "ends with . ! ? … or a closer (quote, bracket)", lambda s: s.end in TERMINALS + CLOSERS),
    _yes("ends_in_letter", "last character is a letter", lambda s: s.end.isalpha()),
    _yes("ends_in_digit", "last character is a digit", lambda s: s.end.isdigit()),
    _yes("ends_in_closer", "last character is a closer (quote, bracket)", lambda s: s.end in CLOSERS),
    _yes("ends_in_comma", "last character is , ; : or a dash", lambda s: s.end in ",;:-" + DASHES),
    Rule("characters", "length in characters", lambda s: len(s.text)),
    Rule("words", "length in words", lambda s: len(s.words)),
    Rule("bytes", "length in bytes of UTF-8", _bytes),
    Rule("word_length", "mean characters a word", _word_length),
    _yes("starts_upper", "first character is an upper-case letter", lambda s: s.text.lstrip()[:1].isupper()),
    Rule("non_ascii", "share of characters outside ASCII", lambda s: s.share(lambda c: not c.isascii())),
    Rule("curly_quotes", "share of curly quotes", lambda s: s.share(lambda c: c in CURLY)),
    Rule("dashes", "share of typographic dashes", lambda s: s.share(lambda c: c in DASHES)),
    Rule(
        "invisible",
        "share of zero-width characters and direction marks",
        lambda s: s.share(lambda c: unicodedata.category(c) == "Cf"),
    ),
    Rule("mixed_script", "words with letters of two scripts", lambda s: sum(map(is_mixed, s.words))),
    Rule("not_latin", "share of letters of another script than Latin", _not_latin),
    Rule("white_space_runs", "runs of two or more white spaces", lambda s: len(RUNS.findall(s.text))),
    Rule("double_spaces", "runs of two or more spaces between words", lambda s: len(DOUBLE.findall(s.text))),
    Rule("trailing_space", "lines that end in a space or a tab", _ends_of_lines),
    _yes("outer_space", "begins or ends with white space", lambda s: s.text != s.text.strip()),
    Rule("tabs", "tabs", lambda s: s.characters["\t"]),
    Rule("odd_spaces", "white space that is no space, tab or newline",
         lambda s: s.count(lambda c: c.isspace() and c not in " \t\n")),
    Rule("markdown", "markdown marks", lambda s: len(MARKDOWN.findall(s.text))),
)  # fmt: skip


def numbers_of(text: str) -> list[float]:
    """The number of every rule of RULES, in their order."""
    seen = Seen(text)
    return [float(rule.of(seen)) for rule in RULES]
