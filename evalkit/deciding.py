"""`evalkit score --until-decided`: samples in growing steps, until confidence sequences have settled every limit.

Each step is measured once and its rows are kept by content, so that the same command goes on from there. The looks cost
nothing: the intervals hold at all of them together (`evalkit.sequences`), one interval a number, each with 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .blocks import Follower, followable
from .comparison import compare_records
from .detection import is_levelled, made
from .entrants import open_source, training_data
from .errors import BadSetting, Inconclusive, UsageError
from .evaluation import is_inconclusive
from .measurement import Bench
from .planning import Task, plan
from .publishing import check_outputs, write_outputs
from .samples.statistics import StatisticsSet
from .sequences import LEAST_BLOCKS
from .settings import Settings
from .sharing import Alone
from .stepping import Line, Source, label_of
from .types import Leaderboard, Outcome, Rule, SampleSet

BLOCK = 50


@dataclass
class Settled:
    """One limit: its rule, the number it is about, and what has come of it; `n` samples were taken when it was told."""

    rule: Rule
    follower: Follower
    outcome: Outcome = "inconclusive"
    n: int | None = None

    def look(self, n: int) -> bool:
        """Whether the sequence lies on one side of the limits by now; what was once told stays told."""
        if self.outcome != "inconclusive":
            return True
        if self.follower.sequence.is_empty or n < (self.rule.min_n or 0):
            return False
        _, low, high = self.follower.interval
        least, most = (
            math.copysign(math.inf, s) if x is None else x for s, x in ((-1, self.rule.min), (1, self.rule.max))
        )
        if low > most or high < least:
            self.outcome, self.n = "fail", n
        elif low >= least and high <= most:
            self.outcome, self.n = "pass", n
        return self.n is not None

    @property
    def says(self) -> str:
        """The limit, the interval and the verdict in one line."""
        value, low, high = self.follower.interval
        found = f"{value:.4g} [{low:.4g}, {high:.4g}]" if math.isfinite(high - low) else "no interval yet"
        asked = [
            f"{word} {x:g}" for word, x in (("at least", self.rule.min), ("at most", self.rule.max)) if x is not None
        ]
        end = f"settled at n = {self.n}" if self.n is not None else "not settled"
        if self.follower.sequence.is_empty:
            end = "not settled: it contradicts itself, so the samples do not come in random order"
        word = "undecided" if self.outcome == "inconclusive" else self.outcome
        return f"{self.follower.name}: {found}, asked for {' and '.join(asked)}: {word}, {end}"


@dataclass(frozen=True)
class Decision:
    """What was found of every limit: `n` samples were taken of at most `most`."""

    board: Leaderboard
    limits: tuple[Settled, ...]
    n: int
    most: int

    @property
    def outcome(self) -> Outcome:
        """fail before inconclusive before pass, over all limits."""
        found: set[Outcome] = {s.outcome for s in self.limits}
        order: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
        return next(outcome for outcome in order if outcome in found)

    @property
    def lines(self) -> tuple[str, ...]:
        """A line a limit, and what stopping saved."""
        if all(s.n is not None for s in self.limits):
            left = self.most - self.n
            end = f"stopped at n = {self.n} of {self.most}: {left} samples ({left / self.most:.0%}) not needed"
        else:
            end = f"undecided after all {self.n} samples; give more with --n, or a limit further from the value"
        return (*(s.says for s in self.limits), end)


def decide(
    subject: Any,
    *,
    real: Any,
    limits: Sequence[Rule],
    train: Any = None,
    outputs: Sequence[Any] = (),
    settings: Settings | None = None,
    bench: Bench | None = None,
    block: int | None = None,
    command: str = "evalkit score --until-decided",
) -> Decision:
    """Draw samples of one subject until every limit is settled by an anytime-valid 95 % interval, or none are left.

    limits: rules with `min` or `max` for kid, mind, prdc.coverage, perplexity, bits_per_byte, bits_per_dim or auroc.
    settings.n: the most samples to take (10,000 of a generator, all of a set). block: samples a block (50, fewer where
    there are few); mind and coverage are values at this n a side. Raises UsageError for a metric without a sequence.
    """
    settings, bench = settings or Settings(), bench or Bench()
    check_outputs(outputs)
    _check_limits(limits, bench)
    reference = open_source(real, bench, split="heldout")
    training = training_data(real, train, reference.modality, bench)
    tasks = [_task(rule, reference, training is not None, settings) for rule in limits]
    if len(set(map(label_of, tasks))) < len(tasks):
        raise BadSetting("two limits for one number; give --min and --max of it under one name")
    source = Source(subject, real, training, reference.modality, settings, bench)
    chosen = block or min(BLOCK, max(10, source.most // (2 * LEAST_BLOCKS)))
    line = Line(tasks, reference, training, chosen, settings, bench)
    found = tuple(Settled(rule, line.followers[label_of(task)]) for rule, task in zip(limits, tasks, strict=True))
    for step in source.steps(chosen):
        line.take(step)
        # Every limit is looked at: one that is settled keeps the n at which it was.
        told = [s.look(line.n) for s in found]
        if all(told):
            break
    record = line.record(source.entrant, _plain(found, line.n, source.most))
    comparison = compare_records([record])
    words = tuple(s.says for s in found)
    about = {"command": command, "seed": str(settings.seed), **{f"limit {i}": w for i, w in enumerate(words, 1)}}
    board = Leaderboard(f"Score of {record.subject.name}, until decided", (comparison,), (record,), about)
    write_outputs(record, board, outputs)
    return Decision(board, found, record.subject.n, source.most)


def conclude(decision: Decision) -> None:
    """Raise Inconclusive where a limit is not settled; a limit that is certainly missed is an answer."""
    open_ = [s.says for s in decision.limits if s.n is None]
    if open_:
        raise Inconclusive(f"{open_[0]} ({len(open_)} of {len(decision.limits)} limits undecided, n = {decision.n})")
    [record] = decision.board.records
    if is_inconclusive(record):
        why = next(
            (w for w in record.warnings if " is missing: " in w), f"{len(record.excluded)} samples are unreadable"
        )
        raise Inconclusive(f"{record.subject.name}: {why}; do not act on it")


def _check_limits(limits: Sequence[Rule], bench: Bench) -> None:
    if not limits:
        raise UsageError("nothing to decide: give limits with --max NAME=VALUE or --min NAME=VALUE")
    if not isinstance(bench.team, Alone):
        raise UsageError("several processes cannot decide together; start one")
    for rule in limits:
        if rule.min is None and rule.max is None:
            raise BadSetting(f"{rule.metric}: nothing to decide; give it a limit, min or max")
        if rule.max_increase is not None or rule.max_decrease is not None:
            raise BadSetting(f"{rule.metric}: a change against a baseline is not followed; give min or max")
        if not all(x is None or math.isfinite(x) for x in (rule.min, rule.max)):
            raise BadSetting(f"{rule.metric}: limits {rule.min}, {rule.max}; expected numbers")
        if rule.min is not None and rule.max is not None and rule.min > rule.max:
            raise BadSetting(f"{rule.metric}: at least {rule.min:g} and at most {rule.max:g} cannot both hold")


def _task(rule: Rule, reference: SampleSet, with_train: bool, settings: Settings) -> Task:
    moments = isinstance(reference, StatisticsSet) and reference.statistics.rows is None
    (task,) = plan(
        [rule.metric],
        reference.modality,
        with_train=with_train,
        with_timing=False,
        only_moments=moments,
        settings=settings.metric,
    )
    followable(task)
    if task.is_judged and is_levelled(made(str(task.instrument))):
        raise UsageError(f"{label_of(task)}: {task.instrument} re-encodes all samples together; score it at a fixed n")
    return task


def _plain(found: Sequence[Settled], n: int, most: int) -> dict[str, Any]:
    """What was decided, as it stands in the record."""
    limits = []
    for s in found:
        facts = {"metric": s.follower.name, "min": s.rule.min, "max": s.rule.max, "outcome": s.outcome, "n": s.n}
        limits.append({key: x for key, x in facts.items() if x is not None})
    return {"n": n, "most": most, "limits": limits}
