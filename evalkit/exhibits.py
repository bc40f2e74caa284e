"""What a report shows beside its numbers: sample grids, nearest training neighbours, curves, matrices, class tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .attribution import attribution_exhibits
from .comparison import result_of
from .judged import judged
from .metrics.memorization import nearest
from .samples.statistics import StatisticsSet
from .thumbnails import thumbnail
from .types import (
    Comparison,
    Exhibit,
    Features,
    Grid,
    Pair,
    Pairs,
    Picture,
    Point,
    Sample,
    Scatter,
    Table,
)

if TYPE_CHECKING:
    from .measurement import Bench, Measured
    from .subjects import Scored

SHOWN = {"image": 20, "text": 6}
PAIRS = {"image": 7, "text": 2}
MOST_CLASSES = 20
# Path in a record's timing, title of its column, scale.
COSTS = (
    ("parameters", "parameters", 1.0),
    ("training_seconds", "training s", 1.0),
    ("best_batch.samples_per_second", "samples/s, best batch", 1.0),
    ("best_batch.batch_size", "best batch", 1.0),
    ("latency_ms.p50", "one sample, ms: p50", 1.0),
    ("latency_ms.p95", "p95", 1.0),
    ("latency_ms.p99", "p99", 1.0),
    ("peak_bytes", "peak MiB", 2.0**-20),
    ("flops_per_sample", "Mflop/sample", 1e-6),
    ("joules_per_sample", "J/sample", 1.0),
)


def exhibits(scored: Sequence[Scored], comparison: Comparison, bench: Bench) -> tuple[Exhibit, ...]:
    """Everything there is to show of a board, in the order a reader wants it."""
    found: list[Exhibit | None] = [
        _grid(scored, comparison),
        _speed(scored, comparison),
        _costs(scored),
        *judged(scored, bench),
        _classes(scored),
        _neighbours(scored, comparison),
        *attribution_exhibits(scored, _show),
    ]
    return tuple(e for e in found if e is not None)


def _show(sample: Sample, owner: str) -> Picture | str:
    media = sample.load()
    if isinstance(media, str):
        return media
    label = f", {sample.group}" if sample.group else ""
    return thumbnail(media, f"{owner}: {sample.id}{label}")


def _grid(scored: Sequence[Scored], comparison: Comparison) -> Grid:
    count = SHOWN[comparison.modality]
    real = scored[0].sides.real
    shown = real is not None and not isinstance(real.samples, StatisticsSet)
    lines = [(f"real: {real.samples.name}", _first(real, count))] if real is not None and shown else []
    lines += [(s.entrant.name, _first(s.sides.fake, count)) for s in scored]
    rule = f"The first {count} samples of each subject in the order they were drawn or listed; none was picked by hand."
    if any(s.entrant.generator for s in scored):
        rule += f" All generators used seed {scored[0].record.seed}."
    return Grid("Samples", rule, tuple(lines))


def _first(side: Measured, count: int) -> tuple[Picture | str, ...]:
    return tuple(_show(s, side.samples.name) for s, _ in zip(side.samples, range(count), strict=False))


def _speed(scored: Sequence[Scored], comparison: Comparison) -> Scatter | None:
    """Quality against speed, for subjects that were timed."""
    lead = comparison.columns[0] if comparison.columns else None
    points = []
    for s in scored:
        if lead is None or s.record.timing is None or s.entrant.role == "ceiling":
            continue
        result = result_of(s.record, lead.name, lead.protocol)
        if result is not None:
            speed = float(s.record.timing["samples_per_second"])
            points.append(Point(s.entrant.name, speed, result.value, result.low, result.high, s.entrant.role))
    if lead is None or len(points) < 2:
        return None
    arrow = "lower is better" if lead.better == "lower" else "higher is better"
    device = next(s.record.timing["device"] for s in scored if s.record.timing)
    note = f"{lead.name} ({arrow}) against samples per second on {device}; bars are 95 % intervals."
    values = [p.y for p in points]
    wide = min(values) > 0 and max(values) / min(values) > 20
    return Scatter("Quality against speed", note, "samples per second", lead.name, tuple(points), True, wide)


def _costs(scored: Sequence[Scored]) -> Table | None:
    """What each generator cost to train and to draw from; a dash where it is not known."""
    timed = [(s.entrant.name, s.record.timing) for s in scored if s.record.timing]
    if not timed:
        return None
    keys = [key for key, _, _ in COSTS if any(_cost(timing, key) is not None for _, timing in timed)]
    chosen = [(key, title, scale) for key, title, scale in COSTS if key in keys]
    rows = []
    for name, timing in timed:
        found = ((_cost(timing, key), scale) for key, _, scale in chosen)
        rows.append((name, *("–" if value is None else _plain(value * scale) for value, scale in found)))
    note = (
        f"On {timed[0][1]['device']}. Energy and operations are of one sample in a whole batch; operations are those of"
        " matrix products and convolutions. Memory is the process's (on cuda the allocator's). A dash: not known."
    )
    return Table("Cost", note, ("generator", *(title for _, title, _ in chosen)), tuple(rows))


def _plain(value: float) -> str:
    """Three digits at least, thousands apart, no powers of ten for what is large."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cost(timing: Mapping[str, Any], path: str) -> float | None:
    """The number under "a.b" of a record's timing."""
    found: Any = timing
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return None if found is None else float(found)


def _classes(scored: Sequence[Scored]) -> Table | None:
    """What a classifier makes of the samples: how sure it is, whether it agrees with the label, how even they are."""
    # A table a class a column: not for the thousand classes of photographs.
    found = ((k, f) for s in scored for k, f in s.sides.fake.features.items() if "logits" in f.heads)
    name = next((k for k, f in found if f.head("logits").rows.shape[1] <= MOST_CLASSES), None)
    if name is None:
        return None
    rows = []
    real = scored[0].sides.real
    if real is not None and name in real.features and len(real.features[name].rows):
        rows.append((f"real: {real.samples.name}", *_class_row(real.features[name])))
    rows += [(s.entrant.name, *_class_row(s.sides.fake.features[name])) for s in scored]
    logits = scored[0].sides.fake.features[name].head("logits").rows
    header = ("subject", "confidence", "agreement", *(f"{c}" for c in range(logits.shape[1])))
    note = (
        f"Share of samples that {name} puts in each class; confidence is its mean top-class probability; agreement is"
        " how often its class is the label the sample was made for (conditional generators only)."
    )
    return Table("Per class", note, header, tuple(rows))


def _class_row(features: Features) -> tuple[str, ...]:
    logits = features.head("logits").rows.double()
    top, winner = logits.softmax(dim=1).max(dim=1)
    shares = winner.bincount(minlength=logits.shape[1]).double() / len(winner)
    groups = [s.group for s in features.samples]
    labelled = [(g, int(w)) for g, w in zip(groups, winner, strict=True) if g is not None and g.isdecimal()]
    agreement = f"{sum(int(g) == w for g, w in labelled) / len(labelled):.0%}" if labelled else "–"
    return (f"{float(top.mean()):.1%}", agreement, *(f"{float(share):.0%}" for share in shares))


def _neighbours(scored: Sequence[Scored], comparison: Comparison) -> Pairs | None:
    """The generated samples that lie nearest to a training sample, beside it."""
    count = PAIRS[comparison.modality]
    column = next((c for c in comparison.columns if c.name.startswith("memorization@")), None)
    if column is None:
        return None
    name = column.name.split("@")[1]
    lines = []
    for s in scored:
        train = s.sides.train
        if train is None or s.entrant.role == "floor" or name not in s.sides.fake.features:
            continue
        own, home = s.sides.fake.features[name].head("features"), train.features[name].head("features")
        distances, indices = nearest(own.rows, home.rows)
        listed, known = tuple(own.samples), tuple(home.samples)
        pairs = []
        for i in distances.argsort(stable=True)[:count].tolist():
            says = "exact copy" if distances[i] == 0 else f"distance {float(distances[i]):.3g}"
            pairs.append(Pair(_show(listed[i], s.entrant.name), _show(known[int(indices[i])], "training sample"), says))
        lines.append((s.entrant.name, tuple(pairs)))
    rule = (
        f"The {count} samples of each subject that lie nearest to a training sample under {name}, each beside that"
        " training sample. Near is not copied: compare with the ceiling, which never saw the training data."
    )
    return Pairs("Nearest training neighbours", rule, tuple(lines))
