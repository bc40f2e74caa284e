"""A rule and the numbers it speaks of -> a check: pass, fail or inconclusive, with the reason.

Order matters. First whether there is a number to judge at all, then whether baseline and run were measured alike, and
only then any value. A comparison that cannot be made is inconclusive and never a pass; a limit that was broken stays
broken although something else could not be compared. Regressions are judged together, since they share one alpha.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import ModalityMismatch, NothingToEvaluate
from ..types import SHARED, Check, MetricResult, Outcome, Reading, Rule, RunRecord
from .changes import Change, Limited, change_of, floor_of, has_interval, needed, quantile, steps
from .names import relatives
from .rules import Gate
from .words import apart, asked, level_words, number, reading, rounded, unlike

MOST_UNREADABLE = 0.01
WORST: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")


@dataclass
class Case:
    """One rule on its way to a check: what was found so far, and the directions in which a change is limited."""

    rule: Rule
    now: MetricResult | None = None
    base: MetricResult | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    limited: list[Limited] = field(default_factory=list)
    shown: Reading | None = None
    p: float | None = None
    counts: bool = True

    def add(self, outcome: Outcome, says: str, advice: str = "") -> None:
        self.outcomes.append(outcome)
        if says:
            self.says.append(says)
        if advice:
            self.advice.append(advice)

    def check(self) -> Check:
        now, base = self.now, self.base
        return Check(
            metric=self.rule.metric,
            outcome=min(self.outcomes, key=WORST.index, default="pass"),
            says="; ".join(self.says),
            asked=asked(self.rule, None if now is None else now.better),
            better=None if now is None else now.better,
            unit="" if now is None else now.unit,
            n={} if now is None else dict(now.n),
            protocol="" if now is None else now.protocol,
            found=None if now is None else _reading(now),
            baseline=None if base is None else _reading(base),
            difference=self.shown,
            p=self.p,
            advice="; ".join(dict.fromkeys(self.advice)),
            counts=self.counts,
            rule=self.rule,
        )


def checks(record: RunRecord, baseline: RunRecord | None, gate: Gate) -> tuple[Check, ...]:
    """Every rule of the gate judged, in the order of the rules.

    Raises NothingToEvaluate for a record without a number, ModalityMismatch for a baseline of another modality.
    """
    if baseline is not None and baseline.subject.modality != record.subject.modality:
        raise ModalityMismatch(
            f"the run holds {record.subject.modality} samples, the baseline {baseline.subject.modality} samples:"
            " give a baseline of the same modality"
        )
    if not record.results:
        raise NothingToEvaluate(f"the record of {record.subject.name!r} holds no number; score it again with --metrics")
    cases = [_begun(rule, record, baseline) for rule in gate.rules]
    tested = [(case, limited) for case in cases for limited in case.limited]
    held = steps([limited.p for _, limited in tested], gate.alpha, gate.adjust)
    for (case, limited), (p, alpha) in zip(tested, held, strict=True):
        _judge_change(case, limited, p, alpha, proven=p < gate.alpha)
    return tuple(case.check() for case in cases)


def outcome_of(found: Sequence[Check]) -> Outcome:
    """Fail before inconclusive before pass, over the checks that count; inconclusive where none does."""
    return min((c.outcome for c in found if c.counts), key=WORST.index, default="inconclusive")


def too_many_unreadable(record: RunRecord) -> str:
    """Which side lost more than 1 % of its samples to files that cannot be read, in words; empty for none."""
    sizes = {"": record.subject.n}
    for word, other in zip(SHARED, (record.reference, record.train), strict=True):
        sizes[word] = 0 if other is None else other.n
    lost = dict.fromkeys(sizes, 0)
    for entry in record.excluded:
        lost[next((word for word in SHARED if entry.id.startswith(word)), "")] += 1
    for word, n in sizes.items():
        if lost[word] > MOST_UNREADABLE * (n + lost[word]):
            side = {"": "generated", SHARED[0]: "reference", SHARED[1]: "training"}[word]
            return f"{lost[word]} of {n + lost[word]} {side} samples could not be read, more than 1 %"
    return ""


def _begun(rule: Rule, record: RunRecord, baseline: RunRecord | None) -> Case:
    """The case with everything that needs no other case: what is missing, absolute limits, what there is to compare."""
    case = Case(rule)
    found = [r for r in record.results if r.name == rule.metric]
    if not found:
        _missing(case, record)
        return case
    if doubt := _doubt(found) or too_many_unreadable(record):
        # A number of which nothing is certain is not shown: somebody would read it.
        case.now = None
        case.add("inconclusive", doubt)
        return case
    case.now = found[0]
    if rule.min_n is not None and (fewest := _fewest(found[0])) < rule.min_n:
        case.add(
            "inconclusive",
            f"{reading(_reading(found[0]))} rests on n = {fewest or 'unknown'}, fewer than {rule.min_n}",
            f"score it again with --n {rule.min_n} or more, and as many real samples",
        )
        return case
    changes = rule.max_increase is not None or rule.max_decrease is not None
    if changes:
        _compare(case, record, baseline)
    _judge_limits(case)
    if not case.outcomes and not case.limited:
        case.add("pass", f"{reading(_reading(found[0]))}{_with_n(rule, found[0])}")
    return case


def _missing(case: Case, record: RunRecord) -> None:
    name = case.rule.metric
    why = next((w.split(": ", 1)[1] for w in record.warnings if w.startswith(f"{name} is missing: ")), "")
    near = relatives(name, [r.name for r in record.results])
    hint = f"the record holds {', '.join(near)}" if near else f"score it with --metrics {name}"
    case.counts = case.rule.require
    case.add(
        "inconclusive",
        f"is missing{f': {why}' if why else ''}{'' if case.rule.require else ', and not required'}",
        hint,
    )


def _doubt(found: Sequence[MetricResult]) -> str:
    """Why a number of the record cannot be judged, in words; empty where it can."""
    if len(found) > 1:
        return f"stands {len(found)} times in the record, which was edited"
    result = found[0]
    if not math.isfinite(result.value):
        return f"is not a finite number ({result.value})"
    if not (math.isfinite(result.low) and math.isfinite(result.high)):
        return "has an interval without an end"
    if not result.low <= result.value <= result.high:
        return f"lies outside its own interval {number(result.low)} to {number(result.high)}; the record was edited"
    if not 0 < result.level < 1:
        return f"has an interval of level {result.level}, which is none"
    return "" if result.better in ("lower", "higher") else f"has no direction: better is {result.better!r}"


def _fewest(result: MetricResult) -> int:
    """The fewest samples of a side; a side of unknown size, as some statistics files are, is left out. 0 = unknown."""
    return min((n for n in result.n.values() if n), default=0)


def _with_n(rule: Rule, result: MetricResult) -> str:
    return "" if rule.min_n is None else f" of n = {_fewest(result)}"


def _reading(result: MetricResult) -> Reading:
    """The number with its interval; a record without one has both ends at the value."""
    level = result.level if has_interval(result) else None
    return Reading(result.value, result.low, result.high, level)


# ---------------------------------------------------------------------------------------------- absolute limits


def _judge_limits(case: Case) -> None:
    rule, now = case.rule, case.now
    assert now is not None
    for limit, sign, words in ((rule.max, 1, "at most"), (rule.min, -1, "at least")):
        if limit is None:
            continue
        over = sign * (now.value - limit) > 0
        value, bound = apart(now.value, limit)
        _, low, high = rounded(now.value, now.low, now.high)
        shown = f"{value} [{low}, {high}]" if has_interval(now) else value
        straddles = now.low <= limit <= now.high and now.low < now.high and limit != now.value
        n = _settles(now, limit) if straddles else ""
        outside = f"{shown} is {'over' if sign > 0 else 'under'} the limit of {bound}"
        inside = f"{shown} is {words} {bound}"
        if not rule.confident:
            unsure = f"the interval includes {bound}{n}" if straddles else ""
            case.add("fail" if over else "pass", outside if over else inside, unsure)
        elif not has_interval(now):
            case.add("inconclusive", f"{shown} has no interval to hold against {bound}")
        elif sign * (now.low - limit) > 0 and sign * (now.high - limit) > 0:
            case.add("fail", f"{outside} with its whole interval")
        elif sign * (now.low - limit) <= 0 and sign * (now.high - limit) <= 0:
            case.add("pass", f"{inside} with its whole interval")
        else:
            case.add("inconclusive", f"{shown} has the limit of {bound} inside its interval", n.removeprefix("; "))


def _settles(now: MetricResult, limit: float) -> str:
    """How many samples would take the limit out of the interval, were the value to stay."""
    reach = now.high - now.value if limit > now.value else now.value - now.low
    n = needed(_fewest(now), reach, abs(limit - now.value))
    return f"; about {n} samples a side would settle it" if n else ""


# ---------------------------------------------------------------------------------------------- against a baseline


def _compare(case: Case, record: RunRecord, baseline: RunRecord | None) -> None:
    """Set up the change to be judged, or say why there is none."""
    if baseline is None:
        case.add("inconclusive", "has no baseline to be compared with", "give one with --baseline RECORD")
        return
    now = case.now
    assert now is not None
    found = [r for r in baseline.results if r.name == now.name]
    if not found:
        case.add("inconclusive", "is missing in the baseline", "score the baseline again with the same --metrics")
        return
    if differs := unlike(now, found[0]):
        case.add(
            "inconclusive", f"was measured otherwise than the baseline: {differs}", "score both under one protocol"
        )
        return
    if doubt := _doubt(found) or too_many_unreadable(baseline):
        case.add("inconclusive", f"the baseline's number {doubt}" if len(found) > 1 else f"in the baseline: {doubt}")
        return
    case.base = found[0]
    change = change_of(now, found[0])
    case.limited = list(_limited(case.rule, change))


def _limited(rule: Rule, change: Change) -> Iterator[Limited]:
    for floor, sign in ((rule.max_increase, 1), (rule.max_decrease, -1)):
        if floor is not None:
            yield Limited(change, sign, floor_of(floor, change.base))


def _judge_change(case: Case, limited: Limited, p: float, alpha: float, *, proven: bool) -> None:
    """A regression is beyond the floor, and proven: the interval of the difference excludes zero on that side."""
    change, now = limited.change, case.now
    assert now is not None
    # A rule may limit both directions; the one that was taken is shown.
    if case.shown is None or limited.size > 0:
        case.shown, case.p = change.at(alpha), p if change.known else None
    verb = "rise" if limited.sign > 0 else "fall"
    over = limited.size > limited.floor
    size, floor = apart(limited.size, limited.floor)
    allowed = f"more than the {floor} allowed" if limited.floor > 0 else "none is allowed"
    moved = _moved(change, alpha, size if over else "")
    n, sees = _fewest(now), _sees(limited, alpha, verb) if change.known else ""
    if over and not change.known:
        case.add("inconclusive", f"{moved}: {allowed}, and without intervals nobody knows how much is noise")
    elif over and proven:
        case.add("fail", f"{moved}: {allowed}, and not noise")
    elif over:
        wanted = limited.n_for(limited.size, n, alpha)
        settled = f"about {wanted} samples a side would settle a {verb} of this size" if wanted else ""
        case.add("pass", f"{moved}: {allowed}, but not told from no change", "; ".join(filter(None, (settled, sees))))
    else:
        # Where both directions are limited, the one that was not taken needs no words.
        silent = len(case.limited) > 1 and (limited.size < 0 or (limited is case.limited[1] and change.value == 0))
        within = f"no {verb}" if limited.size <= 0 else f"within the {floor} allowed"
        said = "" if silent else f"{moved}: {within}"
        case.add("pass", said, sees + _blind(limited, alpha, n) if change.known else "")


def _moved(change: Change, alpha: float, exact: str) -> str:
    """The change in words, such as: rose by 0.3 [-0.2, 0.8] from 12 (95 % interval)."""
    shown = change.at(alpha)
    if change.value == 0:
        return f"is the baseline's {number(change.base)}"
    down = change.value < 0
    if shown.level is None:
        return f"{'fell' if down else 'rose'} by {exact or number(abs(change.value))} from {number(change.base)}"
    ends = (-shown.value, -shown.high, -shown.low) if down else (shown.value, shown.low, shown.high)
    value, low, high = rounded(*ends)
    named = f"from {number(change.base)} ({level_words(shown.level)} interval)"
    return f"{'fell' if down else 'rose'} by {exact or value} [{low}, {high}] {named}"


def _sees(limited: Limited, alpha: float, verb: str) -> str:
    """What a run of this noise would have found."""
    seen, base = limited.seen(alpha), abs(limited.change.base)
    share = f" ({100 * seen / base:.2g} %)" if base > 0 and seen / base < 10 else ""
    return f"a {verb} of {number(seen)}{share} or more is found in at least 8 of 10 runs"


def _blind(limited: Limited, alpha: float, n: int) -> str:
    """A warning where the noise is larger than the floor: the floor promises more than this n can keep."""
    noise = quantile(alpha) * limited.error
    if not noise > limited.floor or limited.floor == 0:
        return ""
    wanted = needed(n, noise, limited.floor)
    more = f"; about {wanted} samples a side would bring it down to the floor" if wanted else ""
    return f"; blind below that: noise alone moves it by {number(noise)}, the floor is {number(limited.floor)}{more}"
