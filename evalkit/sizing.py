"""`evalkit plan`: how many samples a side tell a difference of a wanted size, from a pilot's own error.

Errors of means and of smooth functions of them fall as 1 / sqrt(n), side by side: var(n) = real / n_real + fake /
n_fake, where `MetricResult.moves` says which share of the pilot's variance each side has. A two-sided test at level
alpha finds a difference of D with the wanted power where D = (z(1 - alpha / 2) + z(power)) se(n), the textbook formula
(Lehr 1992 for two means). The variance of a difference is that of both numbers, less what shared samples do to both.
A pilot made of samples is also measured at a half and a quarter of its n: there one sees whether the law holds and how
far the value itself moves, which for FID is a bias of order 1 / n (Chong & Forsyth 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from .comparison import difference, result_of
from .detection import Judge, judge
from .entrants import as_entrant, check_generators, open_source, opened, training_data
from .errors import BadRecord, BadSetting, EvalkitError, UnknownName, UsageError
from .evaluation import Sides, evaluate, measure_side
from .hardware import derive_seed
from .measurement import Bench, narrowed_to, taken
from .pairing import correlation
from .planning import instruments
from .planning import plan as tasks_of
from .records import read_record
from .samples import some
from .settings import Settings
from .staging import MOST_BY_DEFAULT, is_record
from .types import MetricResult, RunRecord, Subject

FAR = 10
PARTS = (4, 2, 1)
# Measured exponents of n further from -1/2 than this are said to break the law.
LAW, OFF = -0.5, 0.15


@dataclass(frozen=True)
class Noise:
    """What one sample a side adds to the variance of a number or a difference: var = real / n_real + fake / n_fake.

    n: samples a side of the pilot, the fewer of the two. reference: how many real samples there are; 0 where none are
    read. split: whether the shares of the sides are known; otherwise all of it stands under `fake`.
    """

    real: float
    fake: float
    n: int
    reference: int = 0
    split: bool = True

    def error(self, n: int, reference: int | None = None) -> float:
        """Standard error with n samples a side, or with n generated ones against so many real ones."""
        return math.sqrt(self.real / (n if reference is None else reference) + self.fake / n)


@dataclass(frozen=True)
class Seen:
    """The pilot at a part of its samples: n generated ones, the mean value and mean standard error over `runs`."""

    n: int
    value: float
    error: float
    runs: int


@dataclass(frozen=True)
class SamplePlan:
    """How many samples one metric needs.

    n: samples a side when both sides grow. n_fixed: generated ones when the reference stays as it is, None where no
    number of them is enough. floor: the smallest difference that endless generated samples would show with this
    reference; 0 where it has no say. table: (n, smallest detectable difference) a side. says: the sentences.
    """

    metric: str
    detect: float
    power: float
    alpha: float
    n: int
    n_fixed: int | None
    floor: float
    noise: Noise
    table: tuple[tuple[int, float], ...]
    says: tuple[str, ...]
    seen: tuple[Seen, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {key: x for key, x in asdict(self).items() if x is not None}


def plan(
    pilot: Any,
    *,
    metrics: Sequence[str],
    detect: Sequence[str | float],
    real: Any = None,
    against: Path | str | None = None,
    train: Any = None,
    power: float = 0.8,
    alpha: float = 0.05,
    paired: bool = False,
    limit: bool = False,
    settings: Settings | None = None,
    bench: Bench | None = None,
) -> tuple[SamplePlan, ...]:
    """How many samples a side show a difference of `detect` with the wanted power, one plan a metric.

    pilot: a run record (a file or the object), or a subject to be scored against `real`. detect: one for all metrics,
    or one each, in the metric's unit or relative to the pilot's value, "5%". The difference is one of two subjects like
    the pilot; against: the record of the other one; paired: the real samples move both alike; limit: of one subject
    from a fixed number. Raises BadSetting, UnknownName for a metric the pilot does not have, BadRecord.
    """
    _check(metrics, detect, power, alpha, (paired, limit, against is not None))
    wanted = list(detect) * len(metrics) if len(detect) == 1 else list(detect)
    seen: Mapping[str, tuple[Seen, ...]] = {}
    if isinstance(pilot, RunRecord) or is_record(pilot):
        record = pilot if isinstance(pilot, RunRecord) else read_record(Path(pilot))
    else:
        record, seen = _measured(pilot, real, train, metrics, settings or Settings(), bench or Bench())
    other = None if against is None else read_record(Path(against))
    plans = []
    for name, text in zip(metrics, wanted, strict=True):
        own = _result(record, name)
        rival = own if other is None else _result(other, own.name)
        noise = noise_of(own, None if limit else rival, paired=paired)
        total = 0 if record.reference is None else record.reference.n
        noise = Noise(noise.real, noise.fake, noise.n, total, noise.split)
        plans.append(sized(own, noise, amount(text, own), power, alpha, seen.get(own.name, ())))
    return tuple(plans)


def _check(names: Sequence[str], detect: Sequence[Any], power: float, alpha: float, kinds: tuple[bool, ...]) -> None:
    if not names:
        raise UsageError("plan for which number? give --metric NAME, such as --metric fid@inception")
    if len(detect) not in (1, len(names)):
        raise BadSetting(f"{len(detect)} differences for {len(names)} metrics; give --detect once, or once for each")
    if sum(kinds) > 1:
        raise BadSetting("--paired, --limit and --against exclude each other; give one")
    for word, share in (("power", power), ("alpha", alpha)):
        if not 0 < share < 1:
            raise BadSetting(f"{word} = {share}; expected a number between 0 and 1")
    if power <= alpha / 2:
        raise BadSetting(f"power = {power} is no more than chance at alpha = {alpha}")


def amount(text: str | float, result: MetricResult) -> float:
    """A difference in the metric's unit: "0.5", or "5%" of the result's value; BadSetting unless it is above 0."""
    share = isinstance(text, str) and text.strip().endswith("%")
    try:
        found = float(str(text).strip().rstrip("%"))
    except ValueError as error:
        raise BadSetting(f"detect = {text!r}; expected a number such as 0.5, or a share such as 5%") from error
    if share and not result.value > 0:
        raise BadSetting(f"{text} of {result.name}, which is {result.value:.3g}: give a difference in its unit")
    found = found / 100 * result.value if share else found
    if not 0 < found < math.inf:
        raise BadSetting(f"detect = {text!r}; expected a difference above 0")
    return found


def _result(record: RunRecord, name: str) -> MetricResult:
    found = result_of(record, name)
    if found is None:
        (task,) = tasks_of([name], record.subject.modality, with_train=True, with_timing=True, with_prompts=True)
        found = result_of(record, task.label if task.part is None else f"{task.label}.{task.part}")
    if found is None:
        raise UnknownName(f"metric of the record of {record.subject.name}", name, [r.name for r in record.results])
    if not found.high > found.low or not found.n.get("fake"):
        raise BadRecord(f"{found.name} of {record.subject.name} has no interval over samples; nothing can be planned")
    if "until_decided" in found.terms:
        raise BadRecord(f"{found.name} has a confidence sequence, whose width is not its error; score at a fixed n")
    return found


def standard_error(result: MetricResult) -> float:
    """The standard error behind a result's interval, taken as a symmetric one; Student's t for jackknives."""
    return (result.high - result.low) / 2 / _critical(result)


def _critical(result: MetricResult) -> float:
    if result.interval == "jackknife":
        from scipy import stats

        return float(stats.t.ppf(0.5 + result.level / 2, min(n for n in result.n.values() if n) - 1))
    return NormalDist().inv_cdf(0.5 + result.level / 2)


def noise_of(own: MetricResult, rival: MetricResult | None, *, paired: bool = False) -> Noise:
    """The noise of own - rival (`rival` is `own` for a second subject like it), or of own alone without a rival.

    paired: that second subject is moved by the real samples as the pilot is. Raises BadRecord for unlike protocols.
    """
    sides = [n for n in own.n.values() if n]
    n, count = min(sides), {side: own.n.get(side) or min(sides) for side in ("real", "fake")}
    variance = standard_error(own) ** 2
    share = own.moves["real"].share if "real" in own.moves else 0.0
    split = "real" in own.moves or "real" not in own.n
    if rival is None:
        real, whole = share * variance, variance
    elif rival is own:
        real = 2 * share * variance * (0 if paired else 1)
        whole = 2 * variance - (2 * share * variance if paired else 0)
    else:
        if rival.protocol != own.protocol:
            raise BadRecord(f"{own.name} of the two records has unlike protocols; evalkit compare says what differs")
        _, low, high = difference(own, rival)
        whole = ((high - low) / 2 / _critical(own)) ** 2
        errors = standard_error(own), standard_error(rival)
        other = rival.moves["real"].share if "real" in rival.moves else 0.0
        only = ({"real": x.moves["real"]} if "real" in x.moves else {} for x in (own, rival))
        shared = correlation(*only)
        real = share * errors[0] ** 2 + other * errors[1] ** 2 - 2 * shared * errors[0] * errors[1]
        real = min(whole, max(0.0, real))
    return Noise(real * count["real"], (whole - real) * count["fake"], n, split=split)


def sized(
    result: MetricResult, noise: Noise, detect: float, power: float, alpha: float, seen: Sequence[Seen] = ()
) -> SamplePlan:
    """The plan for one number: n in closed form, the floor of the reference, the table and the sentences."""
    normal = NormalDist()
    factor = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    n = max(2, math.ceil((factor / detect) ** 2 * (noise.real + noise.fake)))
    fixed = noise.reference or None
    floor = factor * math.sqrt(noise.real / fixed) if fixed else 0.0
    room = (detect / factor) ** 2 - (noise.real / fixed if fixed else 0.0)
    n_fixed = max(2, math.ceil(noise.fake / room)) if room > 0 else None
    sizes = sorted({max(2, round(n * step)) for step in (0.25, 0.5, 1, 2, 4)} | {noise.n})
    table = tuple((size, factor * noise.error(size)) for size in sizes)
    says = _sentences(result, noise, detect, power, alpha, n, n_fixed, floor, seen)
    return SamplePlan(result.name, detect, power, alpha, n, n_fixed, floor, noise, table, says, tuple(seen))


def _sentences(
    result: MetricResult,
    noise: Noise,
    detect: float,
    power: float,
    alpha: float,
    n: int,
    n_fixed: int | None,
    floor: float,
    seen: Sequence[Seen],
) -> tuple[str, ...]:
    says = [f"{result.name}: {n} samples a side show a difference of {detect:.3g} with {power:.0%} power at {alpha:g}."]
    if n > FAR * noise.n:
        says.append(f"That is {n / noise.n:.0f} times the pilot's n = {noise.n}: take it as an order of magnitude.")
    if "real" in result.n and not noise.split:
        says.append("The pilot does not say which share the real side has; a fixed reference may set a limit.")
    if noise.reference and n > noise.reference and floor > 0:
        share = noise.real / (noise.real + noise.fake)
        end = f"{n_fixed} generated ones are enough then" if n_fixed else "no number of generated ones is enough then"
        says.append(
            f"There are {noise.reference} real samples: their {share:.0%} of the variance does not shrink, {end}, and a"
            f" difference below {floor:.3g} cannot be seen with this reference."
        )
    if len(seen) > 1:
        says.append(_law(seen))
        move = seen[0].value - seen[-1].value
        if abs(move) > 2 * math.hypot(seen[0].error / math.sqrt(seen[0].runs), seen[-1].error):
            bias = move / (1 / seen[0].n - 1 / seen[-1].n)
            says.append(
                f"The value itself goes from {seen[0].value:.4g} at n = {seen[0].n} to {seen[-1].value:.4g} at"
                f" n = {seen[-1].n}: as 1 / n it would be {seen[-1].value + bias * (1 / n - 1 / seen[-1].n):.4g} at"
                f" n = {n}. Compare it at equal n only."
            )
    return tuple(says)


def _law(seen: Sequence[Seen]) -> str:
    """The measured exponent of n in the error, and whether it is the one that was used."""
    slope = math.log(seen[-1].error / seen[0].error) / math.log(seen[-1].n / seen[0].n)
    kept = "as assumed" if abs(slope - LAW) <= OFF else "not the -0.5 that this plan assumes: treat it with care"
    return f"From n = {seen[0].n} to {seen[-1].n} the error goes as n^{slope:.2f}, {kept}."


def _measured(
    subject: Any, real: Any, train: Any, names: Sequence[str], settings: Settings, bench: Bench
) -> tuple[RunRecord, dict[str, tuple[Seen, ...]]]:
    """The pilot scored, and again on disjoint halves and quarters of both sides."""
    if real is None:
        raise UsageError("a pilot of samples needs something to score against: give --real SOURCE, or --pilot RECORD")
    reference = open_source(real, bench, split="heldout")
    training = training_data(real, train, reference.modality, bench)
    check_generators([subject])
    [subject] = opened([subject], reference.modality, bench)
    tasks = tasks_of(
        names, reference.modality, with_train=training is not None, with_timing=False, settings=settings.metric
    )
    made = instruments(tasks, reference.modality)
    n = min(settings.n or MOST_BY_DEFAULT, len(reference) or MOST_BY_DEFAULT, MOST_BY_DEFAULT)
    entrant = as_entrant(subject, real, training, n, settings.seed, bench, reference.modality)
    fake, own = (
        measure_side(word, side, tasks, made, bench) for word, side in (("fake", entrant.samples), ("real", reference))
    )
    trained = None if training is None else measure_side("train", training, tasks, made, bench)
    fake = narrowed_to(fake, some(fake.samples, n, settings.seed))
    judges: dict[str, Judge | EvalkitError] = {}
    for name in {str(task.instrument) for task in tasks if task.is_judged}:
        seed = derive_seed(settings.seed, "judge", name)
        judges[name] = judge(name, own.samples, fake.samples, seed=seed, bench=bench)
    whole = Sides(fake, own, trained, judges=judges)
    about = Subject(entrant.name, reference.modality, entrant.source, len(fake.samples), fake.samples.digest)
    runs: dict[int, list[RunRecord]] = {}
    for parts in PARTS:
        for part in range(parts):
            sides = whole if parts == 1 else _part(whole, part, parts, settings.seed)
            runs.setdefault(parts, []).append(evaluate(about, sides, tasks, seed=settings.seed, bench=bench))
    record = runs[1][0]
    return record, {r.name: _seen(r.name, runs) for r in record.results}


def _part(sides: Sides, part: int, parts: int, seed: int) -> Sides:
    """Every `parts`-th sample of both sides in shuffled order, from the `part`-th on."""
    import torch

    def kept(n: int) -> list[int]:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
        return sorted(order[part::parts])

    assert sides.real is not None
    judges: dict[str, Judge | EvalkitError] = {}
    for name, one in sides.judges.items():
        assert isinstance(one, Judge)
        real, fake = taken(one.real, kept(len(one.real))), taken(one.fake, kept(len(one.fake)))
        judges[name] = Judge(one.detector, real, fake, one.fitted_on)
    fake_side, real_side = (narrowed_to(side, kept(len(side.samples))) for side in (sides.fake, sides.real))
    return Sides(fake_side, real_side, sides.train, judges=judges)


def _seen(name: str, runs: Mapping[int, Sequence[RunRecord]]) -> tuple[Seen, ...]:
    found = []
    for records in runs.values():
        results = [r for record in records if (r := result_of(record, name)) is not None and r.high > r.low]
        if len(results) == len(records):
            values, errors = [r.value for r in results], [standard_error(r) for r in results]
            count = results[0].n.get("fake", 0)
            mean_error = math.sqrt(math.fsum(e * e for e in errors) / len(errors))
            found.append(Seen(count, math.fsum(values) / len(values), mean_error, len(values)))
    return tuple(found)
