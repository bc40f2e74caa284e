"""What a report shows beside its numbers: sample grids, nearest training neighbours, curves, matrices, class tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .attribution import attribution_exhibits
from .fronts import timed
from .judged import judged
from .metrics.memorization import nearest
from .samples.statistics import StatisticsSet
from .showing import SHORTEST, Copied, copied, marked, passages, picked_grids, tradeoffs
from .thumbnails import thumbnail
from .types import (
    Comparison,
    Exhibit,
    Features,
    Grid,
    Pair,
    Pairs,
    Picture,
    Sample,
    Shown,
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
    finder = copied(scored, comparison)
    found: list[Exhibit | None] = [
        _grid(scored, comparison, finder),
        *picked_grids(scored, _show),
        # Made of the records alone: quality against costs, and whether the instruments agree.
        *comparison.exhibits,
        _costs(scored),
        *tradeoffs(comparison),
        *judged(scored, bench),
        _classes(scored),
        _neighbours(scored, comparison),
        passages(scored, finder),
        *attribution_exhibits(scored, _show),
    ]
    return tuple(e for e in found if e is not None)


def _show(sample: Sample, owner: str) -> Picture | str:
    media = sample.load()
    if isinstance(media, str):
        return media
    label = f", {sample.group}" if sample.group else ""
    return thumbnail(media, f"{owner}: {sample.id}{label}")


def _grid(scored: Sequence[Scored], comparison: Comparison, finder: Copied | None) -> Grid:
    count = SHOWN[comparison.modality]
    real = scored[0].sides.real
    shown = real is not None and not isinstance(real.samples, StatisticsSet)
    lines: list[tuple[str, tuple[Shown, ...]]] = []
    if real is not None and shown:
        lines.append((f"real: {real.samples.name}", _first(real, count)))
    lines += [(s.entrant.name, tuple(marked(item, finder) for item in _first(s.sides.fake, count))) for s in scored]
    rule = f"The first {count} samples of each subject in the order they were drawn or listed; none was picked by hand."
    if any(s.entrant.generator for s in scored):
        rule += f" All generators used seed {scored[0].record.seed}."
    if finder is not None:
        rule += f" Marked: passages of {SHORTEST} words or more that stand word for word in a training text."
    return Grid("Samples", rule, tuple(lines))


def _first(side: Measured, count: int) -> tuple[Shown, ...]:
    return tuple(_show(s, side.samples.name) for s, _ in zip(side.samples, range(count), strict=False))


def _costs(scored: Sequence[Scored]) -> Table | None:
    """What each generator cost to train and to draw from; a dash where it is not known."""
    drawn = [(s.entrant.name, s.record.timing) for s in scored if s.record.timing]
    if not drawn:
        return None
    keys = [key for key, _, _ in COSTS if any(timed(timing, key) is not None for _, timing in drawn)]
    chosen = [(key, title, scale) for key, title, scale in COSTS if key in keys]
    rows = []
    for name, timing in drawn:
        found = ((timed(timing, key), scale) for key, _, scale in chosen)
        rows.append((name, *("–" if value is None else _plain(value * scale) for value, scale in found)))
    note = (
        f"On {drawn[0][1]['device']}. Energy and operations are of one sample in a whole batch; operations are those of"
        " matrix products and convolutions. Memory is the process's (on cuda the allocator's). A dash: not known."
    )
    return Table("Cost", note, ("generator", *(title for _, title, _ in chosen)), tuple(rows))


def _plain(value: float) -> str:
    """Three digits at least, thousands apart, no powers of ten for what is large."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
