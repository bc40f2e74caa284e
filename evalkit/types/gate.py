"""What a gate asks of a run, and what it found: one object that exit code, words, JUnit and pages are all made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..errors import ExitCode
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
    """A number with the ends of its interval, or a difference of two; level: of the interval, None without one."""

    value: float
    low: float
    high: float
    level: float | None = None


@dataclass(frozen=True)
class Check:
    """One metric's verdict: `says` is the printed line without its name, `asked` the rule in words.

    difference: run less baseline; its interval excludes zero on the worse side exactly where a regression is proven.
    p: of no change in the direction that is limited, two-sided and adjusted for all regressions tested in the run.
    advice: what would settle a doubt. counts: whether the check decides the outcome; a number that is missing and not
    required does not. rule: what was asked, as numbers.
    """

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
    counts: bool = True
    rule: Rule | None = None


@dataclass(frozen=True)
class GateReport:
    """What a gate found of one run: `outcome` is fail before inconclusive before pass, over the checks that count.

    A gate of which no check counts is inconclusive: a gate that asks nothing must not read as a pass.
    """

    subject: Subject
    reference: Reference | None
    baseline: Subject | None
    outcome: Outcome
    checks: tuple[Check, ...]
    provenance: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    schema: str = "evalkit.gate/1"

    @property
    def exit_code(self) -> ExitCode:
        """0 pass, 1 fail, 4 inconclusive."""
        codes = {"pass": ExitCode.DONE, "fail": ExitCode.FAILED_GATE, "inconclusive": ExitCode.INCONCLUSIVE}
        return codes[self.outcome]

    @property
    def totals(self) -> dict[str, int]:
        """How many checks failed, are inconclusive, pass, and were skipped because they do not count."""
        found = dict.fromkeys(("fail", "inconclusive", "pass", "skipped"), 0)
        for check in self.checks:
            found[check.outcome if check.counts else "skipped"] += 1
        return found

    @property
    def verdict(self) -> str:
        """The gate in one sentence, without the name of the run."""
        said = {"fail": "failed", "inconclusive": "inconclusive", "pass": "passed"}[self.outcome]
        totals = self.totals
        if not any(check.counts for check in self.checks):
            return f"gate {said}: nothing that was asked for is in the record"
        parts = [f"{totals[kind]} {kind}" for kind in ("fail", "inconclusive", "pass") if totals[kind]]
        left_out = f"; {totals['skipped']} missing and not required" if totals["skipped"] else ""
        return f"gate {said}: {', '.join(parts)}{left_out}"
