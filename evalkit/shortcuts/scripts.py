"""Which script a letter belongs to, by its Unicode name: what a look-alike letter cannot hide."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# Several scripts in one word of these languages are no forgery: Japanese mixes all of them.
TOGETHER = frozenset(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"))


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """The first word of a letter's Unicode name (LATIN, GREEK, CYRILLIC, CJK, ...); "" of what is not a letter.

    Full-width and mathematical Latin letters answer FULLWIDTH and MATHEMATICAL: they are no plain Latin either.
    """
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "")
    script = name.split(" ", 1)[0].split("-", 1)[0]
    return "" if script in ("MODIFIER", "FEMININE", "MASCULINE", "MICRO") else script


def is_mixed(word: str) -> bool:
    """Whether a word has letters of two scripts that are not written together, such as a Cyrillic a among Latin."""
    if word.isascii():
        return False
    scripts = {script for script in map(script_of, set(word)) if script}
    return len(scripts) > 1 and not scripts <= TOGETHER
