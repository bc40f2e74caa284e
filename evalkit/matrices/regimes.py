"""Who learns from what: reals and generators cut in two once, and the rules by which a detector is shown some of them.

Every set is cut by content into a part that detectors may learn from and a part they are tested on, before any rule is
applied: what one cell of a matrix trains on, no cell tests on. Sets that share a sample are refused, because the cut of
each set alone could not keep it apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ..errors import BadSetting, TooFewSamples
from ..samples import ListedSet, halves
from ..types import SampleSet

RULES = ("each", "pairs", "leave-one-out", "leave-family-out", "all")
FEWEST = 20


@dataclass(frozen=True)
class Cut:
    """One set in two parts that share no content; `distinct` counts its different samples, `family` is its maker's."""

    name: str
    digest: str
    fit: ListedSet
    test: ListedSet
    distinct: int
    family: str = ""

    def __len__(self) -> int:
        return len(self.fit) + len(self.test)


@dataclass(frozen=True)
class Regime:
    """One row of a matrix: the rule, what it is called, and the generators that the detector learns from."""

    rule: str
    label: str
    seen: tuple[str, ...]


def cut(samples: SampleSet, name: str, family: str = "") -> Cut:
    """A set under a name, halved by content; TooFewSamples below 20 samples, or where copies leave under 10 to fit."""
    if len(samples) < FEWEST:
        raise TooFewSamples(f"{name!r} has {len(samples)} samples; a matrix needs at least {FEWEST} of every set")
    fit, test = halves(samples)
    if len(fit) < FEWEST // 2:
        distinct = len({s.digest for s in samples})
        raise TooFewSamples(
            f"{name!r} has {len(samples)} samples but {distinct} different ones: {len(fit)} are left to learn from,"
            f" {FEWEST // 2} are needed; give more different samples"
        )
    return Cut(name, samples.digest, fit, test, len({s.digest for s in samples}), family or name)


def expanded(rules: Sequence[str], families: Mapping[str, str]) -> tuple[str, ...]:
    """The rules asked for, each once, in their usual order; `all-rules` means every one that can be applied.

    families: of every generator. Raises BadSetting for an unknown rule, and for leave-family-out where it is no rule
    of its own: with one family, or with one generator in each.
    """
    unknown = [rule for rule in rules if rule not in (*RULES, "all-rules")]
    if unknown:
        raise BadSetting(f"rule {unknown[0]!r}; expected one of {', '.join(RULES)}, all-rules")
    can = 1 < len(set(families.values())) < len(families)
    if "leave-family-out" in rules and not can:
        raise BadSetting(
            "leave-family-out needs two families or more, one of them with two generators: give --family NAME=FAMILY"
        )
    every = "all-rules" in rules
    return tuple(r for r in RULES if r in rules or (every and (r != "leave-family-out" or can)))


def regimes(rules: Sequence[str], fakes: Sequence[Cut]) -> tuple[Regime, ...]:
    """The rows that the rules ask for, in order; a row that would learn from nothing is not made.

    each: one row a generator. pairs: one a pair. leave-one-out and leave-family-out: one a generator or family, which
    learns from all others. all: one row that learns from every generator.
    """
    names = [f.name for f in fakes]
    found: list[Regime] = []
    for rule in rules:
        if rule == "each":
            found += [Regime(rule, name, (name,)) for name in names]
        elif rule == "pairs":
            found += [Regime(rule, " + ".join(pair), pair) for pair in combinations(names, 2)]
        elif rule == "leave-one-out":
            found += [Regime(rule, f"all but {out}", tuple(n for n in names if n != out)) for out in names]
        elif rule == "leave-family-out":
            for family in dict.fromkeys(f.family for f in fakes):
                seen = tuple(f.name for f in fakes if f.family != family)
                found.append(Regime(rule, f"all but family {family}", seen))
        else:
            found.append(Regime(rule, "all", tuple(names)))
    return tuple(found)


# Which of two rules with the same rows is shown: the one that says what was left out.
SHOWN = ("leave-one-out", "leave-family-out", "all", "each", "pairs")


def without_doubles(rows: Sequence[Regime]) -> tuple[tuple[Regime, ...], tuple[str, ...]]:
    """The rows without rules that learn from the same generators as another one's, and a sentence for each such rule.

    With two generators, to learn from each is to leave the other one out, and the one pair is all; with three, pairs
    leave one out.
    """
    learns: dict[str, set[frozenset[str]]] = {}
    for row in rows:
        learns.setdefault(row.rule, set()).add(frozenset(row.seen))
    said: dict[str, str] = {}
    for rule in sorted(learns, key=SHOWN.index):
        twin = next((r for r in learns if r not in (rule, *said) and learns[r] == learns[rule]), None)
        if twin is not None:
            kept, gone = sorted((rule, twin), key=SHOWN.index)
            said[gone] = f"{gone} is the same as {kept} here, its rows learn from the same generators: shown once."
    return tuple(row for row in rows if row.rule not in said), tuple(said.values())
