"""What image-watermark witnesses share: payloads, the chance of so many matching bits, and what is said of a match.

The binomial null takes the decoded bits of an unmarked image for independent fair coins. They are not where the image
is flat: neighbouring blocks then decode alike. So a payload can carry a null of its own, the matched bits of n real
images, and its p-value is then conformal, (1 + reals with at least as many matches) / (n + 1) (Vovk et al. 2005,
"Algorithmic Learning in a Random World"): valid whatever the bits do, and never below 1 / (n + 1).

A payload is public or known to whoever embeds it: a match shows that the mark is present, not who put it there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.errors import BadSetting
from evalkit.types import Evidence

Bits = npt.NDArray[np.bool_]

# Below STRONG the binomial p-value lets a mark be called present, between the two it is a hint.
STRONG, HINT = 1e-6, 1e-4
LONGEST = 1024


@dataclass(frozen=True)
class Payload:
    """A known message: its bits, and in which readings of an image it is looked for."""

    name: str
    bits: tuple[int, ...]
    readings: tuple[str, ...]

    def p_binomial(self, matched: int) -> float:
        """Chance that n fair coins match at least so often in the best of the readings (Bonferroni), in (0, 1]."""
        return min(1.0, len(self.readings) * _tail(matched, len(self.bits)))

    def least(self, alpha: float) -> int:
        """The fewest matches whose binomial p-value is below alpha; n + 1 where no number is."""
        n = len(self.bits)
        return next((m for m in range(n // 2, n + 1) if self.p_binomial(m) < alpha), n + 1)


def _tail(matched: int, n: int) -> float:
    """P(X >= matched), X ~ Binomial(n, 1/2); exact integers, one division."""
    return float(Fraction(sum(math.comb(n, k) for k in range(max(matched, 0), n + 1)), 2**n))


def given(name: str, digits: object, readings: Sequence[str], length: int | None = None) -> Payload:
    """A user's payload of hex digits, 4 bits each; BadSetting when it is none or could not be told from chance."""
    try:
        number = int(str(digits).strip(), 16)
        if not str(digits).strip().isalnum():
            raise ValueError
    except ValueError:
        raise BadSetting(
            f"watermark payload {name!r}: {str(digits)[:40]!r}; expected hex digits, 4 bits each"
        ) from None
    n = 4 * len(str(digits).strip().lower().removeprefix("0x"))
    if length not in (None, n):
        raise BadSetting(f"watermark payload {name!r} has {n} bits; expected {length} ({length // 4} hex digits)")
    if n > LONGEST:
        raise BadSetting(f"watermark payload {name!r} has {n} bits; expected at most {LONGEST}")
    payload = Payload(name, tuple(int(b) for b in f"{number:0{n}b}"), tuple(readings))
    if payload.least(STRONG) > n:
        raise BadSetting(
            f"watermark payload {name!r} has {n} bits, too few to be told from chance; expected 24 or more"
        )
    ones = sum(payload.bits)
    if max(ones, n - ones) >= payload.least(HINT):
        # A flat image decodes to one bit throughout, and would match.
        raise BadSetting(f"watermark payload {name!r} is nearly all {int(2 * ones > n)}s; flat images would match it")
    return payload


# ---------------------------------------------------------------------------------------------- the null of reals


def histogram(counts: Iterable[int], n: int) -> list[int]:
    """How many images had 0, 1, ..., n matched bits."""
    found: list[int] = np.bincount(np.fromiter(counts, dtype=np.int64), minlength=n + 1).tolist()
    return found


def p_conformal(matched: int, null: Sequence[int]) -> float:
    """(1 + reals with at least as many matches) / (n + 1), in [1 / (n + 1), 1]; null: histogram of the reals."""
    return (1 + sum(null[matched:])) / (sum(null) + 1)


def read_null(null: Mapping[str, object] | None, payloads: Sequence[Payload]) -> dict[str, tuple[int, ...]]:
    """The nulls of settings, checked: name -> histogram of n + 1 counts. BadSetting, one line."""
    known = {p.name: len(p.bits) for p in payloads}
    found = {}
    for name, counts in (null or {}).items():
        if name not in known:
            raise BadSetting(f"watermark null of {name!r}: no such payload; known: {', '.join(known) or 'none'}")
        if not (
            isinstance(counts, list | tuple)
            and len(counts) == known[name] + 1
            and all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in counts)
            and sum(counts)
        ):
            raise BadSetting(
                f"watermark null of {name!r}: expected {known[name] + 1} counts of real images by matched bits,"
                f" as calibrate_null gives them"
            )
        found[name] = tuple(counts)
    return found


# ---------------------------------------------------------------------------------------------- what is said


def matches(payload: Payload, decoded: Mapping[str, Bits]) -> tuple[int, str]:
    """The most matched bits over the payload's readings, and the first reading that has them."""
    bits = np.array(payload.bits, dtype=bool)
    counts = {reading: int((decoded[reading] == bits).sum()) for reading in payload.readings}
    best = max(counts, key=lambda reading: counts[reading])
    return counts[best], best


def testimony(
    source: str, payload: Payload, matched: int, reading: str, null: Sequence[int] | None
) -> tuple[Evidence, ...]:
    """What so many matches of one payload are worth: nothing above HINT, a hint, or strong.

    strong: binomial p-value below STRONG and, where there is a null, no real image with as many matches.
    """
    chance = payload.p_binomial(matched)
    if chance >= HINT:
        return ()
    n = len(payload.bits)
    facts: dict[str, Any] = {
        "payload": payload.name,
        "matched": matched,
        "bits": n,
        "reading": reading,
        "readings": len(payload.readings),
        "p_binomial": chance,
        "reals": sum(null) if null else 0,
    }
    p_value = p_conformal(matched, null) if null else chance
    strong = chance < STRONG and (null is None or not sum(null[matched:]))
    detail = (
        f"{matched} of {n} bits of the {source} watermark {payload.name!r} match; "
        + (f"{sum(null[matched:])} of {sum(null)} real images match as often" if null else f"by chance {chance:.1g}")
        + ("; shows that the mark is present, not who put it there" if strong else "; too few to call it present")
    )
    return (Evidence("watermark", "synthetic", "strong" if strong else "hint", source, detail, facts, p_value),)
