"""Nine edits of a text: each finds its places, draws a share of them with a seed, and counts what it changed.

An edit is pure: the same text, seed and share always give the same text, and no global state is read. Of P places
floor(share P) are changed, drawn without replacement (RAID's white space attack draws with replacement; one rule for
all nine is easier to read back). Default shares are those of RAID's code (Dugan et al. 2024); the rates with which its
released texts were made differ for some attacks, so numbers here are of this protocol and not of that data set.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ..errors import BadSetting, UnknownName
from .tables import AMERICAN_TO_BRITISH, ARTICLES, HOMOGLYPHS, MISSPELLINGS, ZERO_WIDTH_SPACE

VERSION = 1
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
DIGITS = "0123456789"
# The gap after a sentence: its end mark, perhaps closing quotes or brackets, white space on one line, then a capital,
# a digit or an opening quote. A newline in the gap is a paragraph already.
GAP = re.compile(r"(?<=[.!?])([\"'\u2019\u201d)\]]*)([^\S\n]+)(?=[\"'\u2018\u201c(\[]?[^\W_a-z])")


@dataclass(frozen=True)
class Edited:
    """A text after an attack, how many places it changed, and how many there were to change."""

    text: str
    changes: int
    places: int


@dataclass(frozen=True, slots=True)
class Change:
    """One place: text[start:end] becomes `new`."""

    start: int
    end: int
    new: str


Places = Callable[[str, random.Random], Iterator[Change]]


@dataclass(frozen=True)
class TextAttack:
    """A named edit of texts; called with a text and a seed it gives the attacked text."""

    name: str
    says: str
    share: float
    places: Places
    modality: Literal["text"] = "text"

    def __call__(self, text: str, seed: int) -> str:
        return self.edited(text, seed).text

    def edited(self, text: str, seed: int = 0, share: float | None = None) -> Edited:
        """The text with floor(share P) of its P places changed; share in [0, 1], this attack's own by default.

        A text without a place comes back as it was. Raises BadSetting for a share outside [0, 1].
        """
        share = self.share if share is None else share
        if not 0 <= share <= 1:
            raise BadSetting(f"a share of {share} of the places of {self.name}; expected 0 to 1")
        rng = random.Random(seed)
        found = list(self.places(text, rng))
        count = math.floor(share * len(found) + 1e-9)  # 0.3 * 10 must be 3 whatever binary makes of 0.3
        chosen = sorted(rng.sample(found, count), key=lambda one: one.start)
        return Edited(_spliced(text, chosen), count, len(found))

    @property
    def recipe(self) -> str:
        """Everything the attack does, in words: what the digest of an attacked sample covers."""
        return f"text attack/{VERSION} {self.name}: {self.says}, share {self.share:g}"


def _spliced(text: str, changes: Sequence[Change]) -> str:
    parts, at = [], 0
    for one in changes:
        parts += [text[at : one.start], one.new]
        at = one.end
    return "".join([*parts, text[at:]])


# Places ---------------------------------------------------------------------------------------------------------------


def _homoglyphs(text: str, _: random.Random) -> Iterator[Change]:
    for i, letter in enumerate(text):
        if letter in HOMOGLYPHS:
            yield Change(i, i + 1, HOMOGLYPHS[letter])


def _between_characters(text: str, _: random.Random) -> Iterator[Change]:
    for i in range(1, len(text)):
        yield Change(i, i, ZERO_WIDTH_SPACE)


def _spaces(text: str, _: random.Random) -> Iterator[Change]:
    for found in re.finditer(r" +", text):
        yield Change(found.end(), found.end(), " ")


def _first_letters(text: str, _: random.Random) -> Iterator[Change]:
    for found in WORD.finditer(text):
        letter = found[0][0]
        flipped = letter.swapcase()
        # Some letters have no other case, and some grow: a sharp s becomes two letters.
        if flipped != letter and len(flipped) == 1:
            yield Change(found.start(), found.start() + 1, flipped)


def _articles(text: str, _: random.Random) -> Iterator[Change]:
    for found in re.finditer(rf"\b(?:{'|'.join(ARTICLES)})\b[^\S\n]+", text, re.IGNORECASE):
        yield Change(found.start(), found.end(), "")


def _numbers(text: str, rng: random.Random) -> Iterator[Change]:
    for found in NUMBER.finditer(text):
        yield Change(found.start(), found.end(), _other_number(found[0], rng))


def _other_number(number: str, rng: random.Random) -> str:
    """Random digits in place of digits, separators kept: never the same number, and no zero in front of others."""
    first = number[0] != "0" and len(number) > 1
    while True:
        drawn = "".join(rng.choice(DIGITS) if c.isdigit() else c for c in number)
        if drawn != number and not (first and drawn[0] == "0"):
            return drawn


def _paragraphs(text: str, _: random.Random) -> Iterator[Change]:
    for found in GAP.finditer(text):
        yield Change(found.start(2), found.end(2), "\n\n")


def _by_table(table: Mapping[str, str]) -> Places:
    def places(text: str, _: random.Random) -> Iterator[Change]:
        for found in WORD.finditer(text):
            other = table.get(found[0].lower())
            if other is not None:
                yield Change(found.start(), found.end(), _cased(other, found[0]))

    return places


def _cased(word: str, like: str) -> str:
    """A word in lower, Upper or CAPITAL letters, as another one is written."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word


# British to American as well: an attacker changes whichever spelling is there.
_SPELLINGS = {**{british: american for american, british in AMERICAN_TO_BRITISH.items()}, **AMERICAN_TO_BRITISH}


def _all() -> Iterator[TextAttack]:
    yield TextAttack("homoglyph", "Latin letters become look-alikes of other alphabets", 1.0, _homoglyphs)
    yield TextAttack("zero_width_space", "a zero-width space between characters", 1.0, _between_characters)
    yield TextAttack("whitespace", "one space more in the gaps between words", 0.5, _spaces)
    yield TextAttack("upper_lower", "the case of first letters of words is flipped", 0.5, _first_letters)
    yield TextAttack("article_deletion", "a, an and the are deleted", 0.5, _articles)
    yield TextAttack("number", "numbers get other digits", 0.5, _numbers)
    yield TextAttack("insert_paragraphs", "an empty line between sentences", 0.5, _paragraphs)
    yield TextAttack("misspelling", "common words are misspelt", 0.5, _by_table(MISSPELLINGS))
    yield TextAttack("alternative_spelling", "American and British spellings change places", 1.0, _by_table(_SPELLINGS))


ATTACKS: Mapping[str, TextAttack] = MappingProxyType({attack.name: attack for attack in _all()})


def attack_of(name: str) -> TextAttack:
    """The attack of this name; UnknownName, with the nearest one, when there is none."""
    if name not in ATTACKS:
        raise UnknownName("text attack", name, ATTACKS)
    return ATTACKS[name]


def attacks_of(names: Sequence[str]) -> tuple[TextAttack, ...]:
    """Attacks by name, each once; the word "all" stands for every one. Raises UnknownName."""
    spelt = [known for name in names for known in (ATTACKS if name == "all" else (name,))]
    return tuple(attack_of(name) for name in dict.fromkeys(spelt))
