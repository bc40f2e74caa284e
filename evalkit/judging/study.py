"""The document of `evalkit detect` as a study that a report can draw: sentences, tables, curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..maps.pictures import as_picture
from ..shortcuts.beside import shortcut_lines
from ..types import Curves, Excluded, Exhibit, Grid, Line, Picture, Study, Table

LISTED = 100
# In a table; the JSON has the whole sentence with the numbers, which are the same on every row.
SHORT = {"between_thresholds": "between the thresholds"}


def study_of(
    document: Mapping[str, Any],
    command: str = "",
    maps: Path | None = None,
    pictures: Mapping[str, tuple[Picture, ...]] | None = None,
) -> Study:
    """Findings first: verdicts and what the thresholds promise; then the numbers, the curves and the samples.

    maps: the folder of the explanation maps that the document lists. pictures: thumbnails of the images with the
    highest P(fake), the highest first, by the detector's name.
    """
    source = document["source"]
    provenance = {"command": command} if command else {}
    provenance["source"] = f"{source['name']}, n = {source['n']}, {source['digest']}"
    for judge in document["detectors"]:
        provenance[f"detector {judge['name']}"] = f"{judge['digest']}; trained on {judge['trained_on'] or 'unknown'}"
        for side in ("real", "fake"):
            if side in (point := judge.get("operating_point", {})):
                told = point[side]
                provenance[f"calibration {side}s"] = f"{told['name']}, n = {told['n']}, {told['digest']}"
    provenance.update({key: str(value) for key, value in document["environment"].items()})
    return Study(
        schema=document["schema"],
        title=f"{source['name']}: {source['n']} {source['modality']}s judged",
        findings=tuple(findings(document)),
        exhibits=(
            *_exhibits(document),
            *_most_fake(pictures or {}),
            *(() if maps is None else _maps(document, maps)),
            *_samples(document),
        ),
        data=document,
        provenance=provenance,
        warnings=tuple(document["warnings"]),
        excluded=tuple((source["name"], Excluded(e["id"], e["reason"])) for e in document["excluded"]),
    )


def findings(document: Mapping[str, Any]) -> Iterator[str]:
    """What trivial rules tell, one or two sentences a detector, and one on all of them together."""
    for line in shortcut_lines(document.get("shortcut")):
        yield f"{line[:1].upper()}{line[1:]}."
    for judge in document["detectors"]:
        yield f"{judge['name']}: {_counted(judge['verdicts'])}."
        if judge["reasons"]:
            yield f"{judge['name']} is uncertain because of: {_counted(judge['reasons'])}."
        if point := judge.get("operating_point"):
            yield f"{judge['name']}: {promise(point)}."
            if "tpr" in point:
                yield f"{judge['name']}: {_worth(point)}."
        elif seen := next((r for r in judge["results"] if r["name"] == f"fpr@{judge['name']}.threshold"), None):
            share = f"{_interval(seen)} of the {seen['n']['real']:,} judged samples known to be real"
            yield f"{judge['name']} was not calibrated on your reals; its own threshold flags {share}."
        else:
            yield f"{judge['name']} was not calibrated on your reals: its rate of false alarms there is unknown."
    if "combined" in document:
        together = _counted(document["combined"]["verdicts"])
        yield f"All detectors together, synthetic or authentic where they agree: {together}."


def promise(point: Mapping[str, Any]) -> str:
    """What a threshold says of fresh reals, in one sentence without its full stop."""
    kind = (
        f"with {point['confidence']:.0%} confidence at most {point['fpr']:.3g} of fresh reals are flagged"
        if point["confidence"]
        else f"on average at most {point['fpr']:.3g} of fresh reals are flagged"
    )
    realised = point["realised_fpr"]
    return (
        f"{kind} above P(fake) {point['threshold']:.6g} (number {point['rank']} from the top of"
        f" {point['real']['n']:,} calibration reals; the promise comes from that rank. Of those reals themselves"
        f" {realised['count']} lie above it, a share of {_interval(realised)} by Clopper and Pearson)"
    )


def _worth(point: Mapping[str, Any]) -> str:
    values = "; ".join(f"PPV at {p['prevalence']:.3g} prevalence {_interval(p)}" for p in point["ppv"])
    values = values or f"PPV {point['ppv_note']}"
    return f"TPR on the calibration fakes {_interval(point['tpr'])}; {values}"


def _most_fake(pictures: Mapping[str, tuple[Picture, ...]]) -> Iterator[Grid]:
    lines = tuple((name, shown) for name, shown in pictures.items() if shown)
    if lines:
        most = max(len(shown) for _, shown in lines)
        rule = (
            f"The {most} images with the highest P(fake) under each detector, the highest first, whatever the verdict."
        )
        yield Grid("Highest P(fake)", rule, lines)


def _maps(document: Mapping[str, Any], folder: Path) -> Iterator[Grid]:
    for judge in document["detectors"]:
        if found := judge.get("maps"):
            pictures = tuple(
                as_picture(folder / one["file"], f"{one['id']}: {one['what']}") for one in found["samples"]
            )
            said = "" if "over_all" not in found else f" Over all of them: {found['over_all']['verdict']}."
            rule = f"The images it finds most fake; each map says whether deleting by it lowers P(fake).{said}"
            yield Grid(f"What {judge['name']} looked at", rule, ((judge["name"], pictures),))


def _exhibits(document: Mapping[str, Any]) -> Iterator[Exhibit]:
    judges = document["detectors"]
    yield _verdicts(document)
    results = [(r["name"], r) for judge in judges for r in judge["results"]]
    if results:
        rows = tuple((name, f"{r['value']:.3g}", _ends(r), _sizes(r["n"]), r.get("note", "")) for name, r in results)
        note = "The truth of these samples is known. 95 % intervals; none where it would mislead."
        yield Table("How well", note, ("number", "value", "interval", "n", "how"), rows)
    yield from _curves(judges)


def _verdicts(document: Mapping[str, Any]) -> Table:
    entries = [
        *document["detectors"],
        *([{"name": "all together", **document["combined"]}] if "combined" in document else []),
    ]
    kinds = ("synthetic", "authentic", "uncertain")
    rows = tuple((e["name"], *(str(e["verdicts"].get(k, 0)) for k in kinds), _limits(e)) for e in entries)
    return Table(
        "Verdicts", "Uncertain is an answer: each has its reasons below.", ("detector", *kinds, "thresholds"), rows
    )


def _limits(entry: Mapping[str, Any]) -> str:
    return " / ".join(f"{t:.4g}" for t in entry["threshold"]) if "threshold" in entry else entry.get("rule", "")


def _curves(judges: Sequence[Mapping[str, Any]]) -> Iterator[Exhibit]:
    told = [(judge["name"], judge["curves"]) for judge in judges if judge.get("curves")]
    if not told:
        return
    lines = tuple(Line(name, _points(c["roc"])) for name, c in told)
    yield Curves("ROC", "Fakes caught against false alarms.", "false positive rate", "true positive rate", lines, True)
    both = [
        (name + part.replace(".", ", "), c, part)
        for name, c in told
        for part in ("", ".calibrated")
        if f"reliability{part}" in c
    ]
    lines = tuple(
        Line(
            name, tuple((b["said"], b["share"]) for b in c[f"reliability{part}"]), _bin_counts(c[f"reliability{part}"])
        )
        for name, c, part in both
    )
    note = "On the diagonal P(fake) means what it says. Both sides weigh half; 15 bins, empty ones left out."
    yield Curves("Reliability", note, "mean P(fake) in the bin", "share of fakes", lines, True)
    lines = tuple(Line(name, _points(c[f"risk_coverage{part}"])) for name, c, part in both)
    note = "Wrong answers among the most confident ones; the area under it is AURC."
    yield Curves("Risk against coverage", note, "share answered", "share wrong", lines)
    header = ("detector", "P(fake)", "reals", "fakes", "mean P", "share of fakes")
    rows = tuple((name, *_bin(b)) for name, c, part in both for b in c[f"reliability{part}"])
    yield Table("Reliability in counts", "How many samples each point of the curve stands on.", header, rows)


def _samples(document: Mapping[str, Any]) -> Iterator[Exhibit]:
    for judge in document["detectors"]:
        header, rows = sample_rows(judge, LISTED)
        n = len(judge["samples"])
        left = f" The first {LISTED} of {n}; all of them are in the JSON and CSV." if n > LISTED else ""
        even = " Calibrated P(fake) is at even odds, as if half of all were fake." if CALIBRATED in header else ""
        note = f"By P(fake), the highest first; the p-value is against the calibration reals.{even}{left}"
        yield Table(f"Samples under {judge['name']}", note, header, rows)


CALIBRATED = "calibrated, even odds"


def sample_rows(judge: Mapping[str, Any], most: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Header and up to `most` rows of the samples of one detector, the highest P(fake) first.

    A column that no sample has a number for is left out; a reason that the thresholds in the table above say in full is
    shortened.
    """
    prevalence = judge.get("operating_point", {}).get("prevalence")
    at = "" if prevalence is None else f"{prevalence:.3g}"
    shown = (
        ("p_fake", "P(fake)"),
        ("p_calibrated", CALIBRATED),
        ("p_at_prevalence", f"P at prevalence {at}"),
        ("p_value", "p-value"),
    )
    keys = [(key, name) for key, name in shown if key == "p_fake" or any(key in s for s in judge["samples"])]
    ranked = sorted(judge["samples"], key=lambda s: -s.get("p_fake", -1.0))
    rows = tuple(
        (
            s["id"],
            s["verdict"],
            *(_number(s, key) for key, _ in keys),
            "; ".join(SHORT.get(r["kind"], r["detail"]) for r in s.get("reasons", ())),
        )
        for s in ranked[:most]
    )
    return ("sample", "verdict", *(name for _, name in keys), "reasons"), rows


def _points(pairs: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in pairs)


def _bin(b: Mapping[str, Any]) -> tuple[str, ...]:
    n = b["n"]
    return (
        f"{b['low']:.2f} to {b['high']:.2f}",
        str(n["real"]),
        str(n["fake"]),
        f"{b['said']:.3f}",
        f"{b['share']:.3f}",
    )


def _bin_counts(bins: Sequence[Mapping[str, Any]]) -> str:
    return f"{len(bins)} bins, {sum(b['n']['real'] + b['n']['fake'] for b in bins)} samples"


def _number(sample: Mapping[str, Any], key: str) -> str:
    return f"{sample[key]:.4g}" if key in sample else "–"


def _ends(result: Mapping[str, Any]) -> str:
    return f"{result['low']:.3g} to {result['high']:.3g}" if "low" in result else "–"


def _interval(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"


def _sizes(n: Mapping[str, int]) -> str:
    return " + ".join(f"{count} {side}" for side, count in n.items())


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items()) or "none"
