"""What attribution found, as numbers and a study: a confusion matrix with a column `unknown`, and how often right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..calibration import proportion
from ..hardware import environment
from ..types import Attributor, Cell, Estimate, Excluded, Exhibit, Matrix, Sample, Study, Table

SCHEMA = "evalkit.attribute/1"
UNKNOWN = "unknown"
# A page or a Markdown file names so many samples; JSON and CSV name all.
SHOWN = 200


@dataclass(frozen=True)
class Named:
    """Where one sample was placed: the best source, its score, how usual the sample is of it, and the verdict."""

    sample: Sample
    best: str
    score: float
    typicality: float
    verdict: str
    truth: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """What became of a source that the attributor was never shown, beside the sources it was."""

    name: str
    left_out: tuple[Named, ...]
    known: tuple[Named, ...]


def confusion(found: Sequence[Named], sources: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """True sources, those known first, and for each the counts of verdicts: one a known source, and unknown last."""
    truths = {one.truth for one in found if one.truth is not None}
    rows = (*(name for name in sources if name in truths), *sorted(truths - set(sources)))
    counts = Counter((one.truth, one.verdict) for one in found)
    return rows, tuple(tuple(counts[row, verdict] for verdict in (*sources, UNKNOWN)) for row in rows)


def results(found: Sequence[Named], sources: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """How well samples of known truth were placed: each number with interval and n.

    closed_accuracy: of samples of known sources, the best source is the true one, rejected or not; its `chance` is
    1 / sources, what a name drawn at random gets. accuracy: of all,
    the verdict is right; for a source not known it is right when unknown. balanced_accuracy: its mean over the true
    sources. rejected_known: of samples of known sources, called unknown. open_auroc: P(a sample of a source not known
    is less typical of its best source than one of a known source).
    """
    import torch

    from ..metrics.detection import area_under_roc
    from ..resample import bootstrap

    judged = [one for one in found if one.truth is not None]
    known = [one for one in judged if one.truth in sources]
    strange = [one for one in judged if one.truth not in sources]
    listed: list[dict[str, Any]] = []

    def add(name: str, value: float, low: float, high: float, interval: str, n: Any) -> None:
        listed.append({"name": name, "value": value, "low": low, "high": high, "interval": interval, "n": n})

    def share(name: str, hits: Sequence[bool]) -> None:
        if hits:
            p = proportion(sum(hits), len(hits))
            add(name, p.value, p.low, p.high, "clopper-pearson", len(hits))

    share("closed_accuracy", [one.best == one.truth for one in known])
    for number in listed:
        number["chance"] = 1 / len(sources)
    share("accuracy", [_right(one, sources) for one in judged])
    by_truth: dict[str, list[float]] = {}
    for one in judged:
        by_truth.setdefault(str(one.truth), []).append(float(_right(one, sources)))
    if len(by_truth) > 1:
        columns = [torch.tensor(hits) for hits in by_truth.values()]

        def mean(indices: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
            recalls = [column[index].mean(dim=1) for column, index in zip(columns, indices, strict=True)]
            return {"": torch.stack(recalls).mean(dim=0)}

        e = bootstrap(mean, [len(column) for column in columns], seed=seed)[""]
        add("balanced_accuracy", e.value, e.low, e.high, e.method, {k: len(v) for k, v in by_truth.items()})
    share("rejected_known", [one.verdict == UNKNOWN for one in known])
    share("rejected_unknown", [one.verdict == UNKNOWN for one in strange])
    if min(len(known), len(strange)) > 1:
        low, high = (torch.tensor([[1 - one.typicality] for one in side]) for side in (known, strange))
        area: Estimate = area_under_roc(low, high)
        n = {"known": len(known), "unknown": len(strange)}
        add("open_auroc", area.value, area.low, area.high, area.method, n)
    return listed


def _right(one: Named, sources: Sequence[str]) -> bool:
    return one.verdict == (one.truth if one.truth in sources else UNKNOWN)


# ---------------------------------------------------------------------------------------------- the study


def study_of(
    model: Attributor,
    found: tuple[Named, ...],
    excluded: tuple[Excluded, ...],
    tried: tuple[LeftOut, ...],
    on_halves: bool,
    device: str,
) -> Study:
    """What was found as a study: verdicts, confusion matrix, numbers, what marks each source; `data` has all of it."""
    rule = "learnt from half of every source by content, judged on the other half" if on_halves else ""
    numbers = results(found, model.sources)
    rows, counts = confusion(found, model.sources)
    left = [{"left_out": t.name, "results": results((*t.known, *t.left_out), _without(model, t))} for t in tried]
    exhibits: list[Exhibit] = []
    if rows:
        exhibits += [_matrix(rows, counts, model.sources), _table("How often it is right", rule, numbers)]
    exhibits += [_left_table(left)] if left else []
    marks = tuple((name, model.evidence.get(name, "")) for name in model.sources)
    exhibits += [Table("What marks each source", "", ("source", "evidence"), marks), samples_table(found, SHOWN)]
    placed = Counter(one.verdict for one in found)
    order = (*model.sources, UNKNOWN)
    says = f"{len(found)} samples: " + ", ".join(f"{name} {placed[name]}" for name in order if placed[name]) + "."
    said = [f"{x['name']} {x['value']:.3f} [{x['low']:.3f}, {x['high']:.3f}]{_by_chance(x)}" for x in numbers]
    data = {
        "attributor": {
            "name": model.name,
            "digest": model.digest,
            "trained_on": model.trained_on,
            "sources": list(model.sources),
            "reject": model.reject,
            "evidence": dict(model.evidence),
        },
        "rule": rule,
        "results": numbers,
        "confusion": {"rows": list(rows), "columns": list(order), "counts": [list(line) for line in counts]},
        "leave_out": left,
        "samples": [_as_json(one) for one in found],
    }
    provenance = {
        "attributor": f"{model.name} {model.digest}",
        "trained on": model.trained_on,
        "rejected": f"typicality of the best source under {model.reject:.4f}",
        **{key: str(value) for key, value in environment(device).items()},
    }
    return Study(
        schema=SCHEMA,
        title=f"Sources by {model.name}",
        findings=(says, *(["; ".join(said) + "."] if said else [])),
        exhibits=tuple(exhibits),
        data=data,
        provenance=provenance,
        excluded=tuple(("judged", out) for out in excluded),
    )


def samples_table(found: Sequence[Named], most: int | None) -> Table:
    """One line a sample, at most so many."""
    shown = found if most is None else found[:most]
    note = "" if len(shown) == len(found) else f"the first {len(shown)} of {len(found)}; .json and .csv have all"
    header = ("sample", "source", "best", "score", "typicality", "truth")
    lines = tuple(
        (x.sample.id, x.verdict, x.best, f"{x.score:.4f}", f"{x.typicality:.4f}", x.truth or "") for x in shown
    )
    return Table("Samples", note, header, lines)


def _matrix(rows: tuple[str, ...], counts: tuple[tuple[int, ...], ...], sources: tuple[str, ...]) -> Matrix:
    cells = []
    for line in counts:
        shares = [proportion(count, sum(line)) for count in line]
        cells.append(tuple(Cell(p.value, p.low, p.high) for p in shares))
    names = tuple(
        f"{name} (n = {sum(line)}{'' if name in sources else ', not known to it'})"
        for name, line in zip(rows, counts, strict=True)
    )
    note = "share of each true source that was given each name, Clopper-Pearson 95 % intervals"
    return Matrix(
        "Confusion", note, "true source", "verdict", names, (*sources, UNKNOWN), tuple(cells), neutral=0.0, extreme=1.0
    )


def _table(title: str, note: str, numbers: Sequence[dict[str, Any]]) -> Table:
    lines = tuple(
        (
            x["name"] + _by_chance(x),
            f"{x['value']:.3f}",
            f"[{x['low']:.3f}, {x['high']:.3f}]",
            x["interval"],
            _count(x["n"]),
        )
        for x in numbers
    )
    return Table(title, note, ("number", "value", "95 %", "interval", "n"), lines)


def _left_table(left: Sequence[dict[str, Any]]) -> Table:
    wanted = ("rejected_unknown", "open_auroc", "rejected_known", "closed_accuracy")
    lines = []
    for one in left:
        by_name = {x["name"]: x for x in one["results"]}
        shown = [
            f"{by_name[w]['value']:.3f} [{by_name[w]['low']:.3f}, {by_name[w]['high']:.3f}]" if w in by_name else ""
            for w in wanted
        ]
        lines.append((str(one["left_out"]), *shown))
    note = "each source in turn never shown to the attributor: its samples should come out as unknown"
    return Table("Left out", note, ("left out", *(w.replace("_", " ") for w in wanted)), tuple(lines))


def _by_chance(number: dict[str, Any]) -> str:
    return f" (chance {number['chance']:.3f})" if "chance" in number else ""


def _count(n: Any) -> str:
    return " + ".join(str(v) for v in n.values()) if isinstance(n, dict) else str(n)


def _without(model: Attributor, tried: LeftOut) -> tuple[str, ...]:
    return tuple(name for name in model.sources if name != tried.name)


def _as_json(one: Named) -> dict[str, Any]:
    return {
        "id": one.sample.id,
        "sha256": one.sample.digest,
        "source": one.verdict,
        "best": one.best,
        "score": one.score,
        "typicality": one.typicality,
        **({} if one.truth is None else {"truth": one.truth}),
    }
