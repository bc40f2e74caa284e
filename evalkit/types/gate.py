"""What a gate asks of a run, and what it found: one object that exit code, words, JUnit and pages are all made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .metrics import Better
from .records import Reference, Subject

Outcome: TypeAlias = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Floor:
    """A change that is let through: so much, in the metric's unit or as a share of the baseline's value."""

    amount: float
    relative: bool = False


@dataclass(frozen=True)
class Rule:
    """What is asked of one number; a table `[gate."fid@inception"]` of the configuration.

    min, max: absolute limits on the value. max_increase, max_decrease: against the baseline; a regression is more than
    this *and* an interval of the difference that excludes zero. min_n: fewest samples a side. require: whether a number
    that is missing makes the gate inconclusive. confident: the limits hold for the whole interval, not for the value;
    an interval on both sides of a limit is inconclusive.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    max_increase: Floor | None = None
    max_decrease: Floor | None = None
    min_n: int | None = None
    require: bool = True
    confident: bool = False


@dataclass(frozen=True)
class Reading:
    """A number with the ends of its interval, or a difference of two."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Check:
    """One metric's verdict: `says` is the printed line without its name, `asked` the rule in words."""

    metric: str
    outcome: Outcome
    says: str
    asked: str
    better: Better | None = None
    unit: str = ""
    n: Mapping[str, int] = field(default_factory=dict)
    protocol: str = ""
    found: Reading | None = None
    baseline: Reading | None = None
    difference: Reading | None = None
    p: float | None = None
    advice: str = ""


@dataclass(frozen=True)
class GateReport:
    """What a gate found of one run: `outcome` is fail before inconclusive before pass, over all checks.

    An empty gate, with no rule at all, is inconclusive: a gate that asks nothing must not read as a pass.
    """

    subject: Subject
    reference: Reference | None
    baseline: Subject | None
    outcome: Outcome
    checks: tuple[Check, ...]
    provenance: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    schema: str = "evalkit.gate/1"
