"""Tables for the terminal: plain text that pipes, columns that line up, numbers with their intervals."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registry import Listing
    from .types import Cell, Comparison

ARROW = {"lower": "↓", "higher": "↑"}
# The terminal shows so many subjects, and the ranks of so many candidates in so many columns; the report shows all.
MOST_SUBJECTS = 40
MOST_STANDING = 20
MOST_LEADING = 3
LONGEST_NAME = 24
# How the name of a baseline begins on a board.
BASELINE = "baseline: "
MARK = {(True, False): " *", (False, True): " ="}


def board_table(comparison: Comparison) -> str:
    """A comparison with one line a metric and one column a subject: * best, = tied with the best; then the ranks."""
    rows = comparison.rows[:MOST_SUBJECTS]
    lines = [["", *(f"{_clean(row.name, LONGEST_NAME)}{_role(row.role)}" for row in rows)]]
    for i, column in enumerate(comparison.columns):
        lines.append([f"{column.name} {ARROW[column.better]}", *(_cell(row.cells[i]) for row in rows)])
    # Of a board without a number only the reasons below are left to show.
    said = [comparison.title, *(_lay(lines) if comparison.columns else ["no number; the reasons are below", ""])]
    if len(comparison.rows) > len(rows):
        said.append(f"{len(comparison.rows) - len(rows):,} more subjects are in the report and in --json")
    said += standings_lines(comparison)
    said += comparison.verdict
    said += [f"not comparable: {reason}" for reason in comparison.refused]
    said += [f"warning: {warning}" for warning in comparison.warnings]
    if comparison.excluded:
        said.append(f"excluded: {len(comparison.excluded)} unreadable samples, listed in the record")
        said += [f"  {_clean(name)}: {_clean(e.id)}: {_clean(e.reason)}" for name, e in comparison.excluded[:5]]
    legend = ["[95 % interval]"] if comparison.columns else []
    if comparison.best:
        legend = ["* best", "= tied with the best", *legend]
    if any(row.role in ("ceiling", "floor") for row in comparison.rows):
        legend.append("ceiling and floor frame the scale")
    if any(row.role == "saboteur" for row in comparison.rows):
        legend.append("a saboteur is broken on purpose")
    return "\n".join([*(_printable(line) for line in said), *(["   ".join(legend)] if legend else []), ""])


def standings_lines(comparison: Comparison) -> list[str]:
    """Where the candidates stand in the leading columns: ranks, letters, differences from the best and the baseline."""
    leading = [c for c in comparison.columns if ".group=" not in c.name and c.name in comparison.standings]
    lines = []
    for column in leading[:MOST_LEADING]:
        stand, found = comparison.standings[column.name], _pairs(comparison, column.name)
        best = comparison.best[column.name]
        baseline = next((row.name for row in comparison.rows if row.name.startswith(BASELINE)), None)
        shown = sorted(stand, key=lambda n: (stand[n].best, stand[n].worst, n != best, n))[:MOST_STANDING]
        header = [f"{column.name} {ARROW[column.better]}", "rank", "letters", f"against {_clean(best, LONGEST_NAME)}"]
        rows = [header if baseline is None else [*header, f"against {_clean(baseline, LONGEST_NAME)}"]]
        for name in shown:
            own = stand[name]
            ranks = f"{own.best}" if own.best == own.worst else f"{own.best}–{own.worst}"
            cells = [_clean(name, LONGEST_NAME), ranks, own.letters or "–"]
            against = [best] if baseline is None else [best, baseline]
            rows.append([*cells, *("–" if name == other else found.get((name, other), "–") for other in against)])
        lines += _lay(rows)
        if len(stand) > len(shown):
            lines.append(f"{len(stand) - len(shown):,} more candidates are in the report and in --json")
    if lines:
        lines.append("rank: with 95 % confidence for all at once; who shares a letter is not told apart")
    return lines


def _pairs(comparison: Comparison, column: str) -> dict[tuple[str, str], str]:
    """The differences of a column in words, by who is set against whom, both ways round."""
    found = {}
    turned = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}
    for d in comparison.differences.get(column, ()):
        settles = f", n {d.settles_at:,} to settle" if d.settles_at else ""
        found[d.one, d.other] = f"{d.verdict} {d.value:+.3g} [{d.low:+.3g}, {d.high:+.3g}]{settles}"
        mirrored = f"{-d.value:+.3g} [{-d.high:+.3g}, {-d.low:+.3g}]"
        found[d.other, d.one] = f"{turned[d.verdict]} {mirrored}{settles}"
    return found


def _role(role: str) -> str:
    return "" if role == "candidate" else f" ({role})"


def _cell(cell: Cell) -> str:
    if cell.value is None:
        return "–"
    mark = MARK.get((cell.best, cell.tied), "  ")
    if cell.low is None or cell.high is None:
        return f"{cell.value:.3g}{mark}"
    return f"{cell.value:.3g} [{cell.low:.3g}, {cell.high:.3g}]{mark}"


def listing_table(kind: str, listings: Sequence[Listing]) -> str:
    """One door's parts: name, what is declared of it, where it comes from, one sentence."""
    width = max((len(x.name) for x in listings), default=0)
    lines = [kind.upper()]
    for x in listings:
        facts = _facts(x)
        origin = "" if x.origin == "built in" else f" [{x.origin}]"
        first = f"  {x.name:<{width}}  {x.summary}{origin}"
        lines += [first, *([f"  {'':<{width}}  {facts}"] if facts else [])]
    return "\n".join([*lines, ""])


def _facts(x: Listing) -> str:
    parts = []
    on = x.facts.get("on")
    if isinstance(on, dict):
        parts.append("default " + ", ".join(f"{x.name}@{v} ({k})" for k, v in on.items() if v))
    elif on:
        parts.append(f"default {x.name}@{on}")
    if "better" in x.facts:
        parts.append(f"{x.facts['better']} is better")
    for key in ("unit", "modality", "role"):
        if key in x.facts and x.facts[key] != "candidate":
            parts.append(str(x.facts[key]))
    if "licence" in x.facts:
        parts.append(f"published weights: {x.facts['licence']}")
    if "trained" in x.facts:
        parts.append(f"trained on {x.facts['trained']}")
    if x.facts.get("controls"):
        parts.append("--set " + " ".join(x.facts["controls"]))
    return "; ".join(p for p in parts if p.strip() not in ("", "default"))


Rows = tuple[Sequence[str], Sequence[Sequence[str]]]


def detection_table(found: dict[str, Any], listed: Mapping[str, Rows]) -> str:
    """Verdicts of each detector with what its threshold promises, and, where the truth is known, how well it did.

    listed: header and rows of some samples under each detector, by its name.
    """
    lines = [f"{found['source']['name']}: {found['source']['n']} samples"]
    for judged in found["detectors"]:
        low, high = judged["threshold"]
        ends = f"thresholds {low:.6g} and {high:.6g}, trained on {_short(judged['trained_on']) or 'unknown'}"
        lines.append(f"{judged['name']}: {_counted(judged['verdicts'])} ({ends})")
        if judged["reasons"]:
            lines.append(f"  uncertain because of: {_counted(judged['reasons'])} (a sample may have several reasons)")
        lines += [f"  {line}" for line in _operating(judged.get("operating_point"))]
        for result in judged["results"]:
            note = f"  {result['note']}" if "note" in result else ""
            lines.append(f"  {result['name']} {_with_ends(result)}{note}")
        if judged["name"] in listed:
            header, rows = listed[judged["name"]]
            shown = f"{len(rows)} of " if len(rows) < len(judged["samples"]) else "all "
            lines.append(f"  {shown}{len(judged['samples'])} samples by P(fake), the highest first:")
            lines += [f"  {line}".rstrip() for line in _lay([header, *rows])]
    if "combined" in found:
        lines.append(f"together ({found['combined']['rule']}): {_counted(found['combined']['verdicts'])}")
    if found["excluded"]:
        first = found["excluded"][0]
        said = (
            f"{len(found['excluded'])} unreadable, not judged (first: {_clean(first['id'])}: {_clean(first['reason'])})"
        )
        lines.append(f"excluded: {said}")
    for line in found["warnings"]:
        lines.append(f"warning: {line}")
    return "\n".join(lines)


def _operating(point: dict[str, Any] | None) -> list[str]:
    """The lines of an operating point: what it promises, what it catches, what a flag is then worth."""
    if point is None:
        return ["not calibrated on your reals: --calibrate REAL sets the threshold for a false positive rate"]
    sure = f"{point['confidence']:.0%} confidence" if point["confidence"] else "on average"
    lines = [
        f"FPR <= {point['fpr']:.3g} ({sure}, {point['real']['n']:,} calibration reals): the threshold is number"
        f" {point['rank']} from their top; {point['realised_fpr']['count']} of them lie above it (the promise comes"
        " from the rank, not from this count)"
    ]
    if "tpr" in point:
        lines.append(f"TPR {_with_ends(point['tpr'])} on {point['fake']['n']:,} calibration fakes")
        lines += [f"PPV {_with_ends(p)} where {p['prevalence']:.3g} of all are fake" for p in point["ppv"]]
        lines += [f"PPV {point['ppv_note']}"] if "ppv_note" in point else []
    return lines


def _short(text: str) -> str:
    """The text with digests cut to 12 digits; the JSON keeps them whole."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{4,}\b", r"\1", text)


def _with_ends(found: dict[str, Any]) -> str:
    ends = f" [{found['low']:.3g}, {found['high']:.3g}]" if "low" in found else ""
    return f"{found['value']:.3g}{ends}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items())


def _lay(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width; a table wider than the terminal is cut into bands of whole columns."""
    lines = [[_clean(cell) for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    room = max(shutil.get_terminal_size((160, 24)).columns, 60)
    bands: list[list[int]] = [[]]
    for i in range(1, len(widths)):
        used = widths[0] + sum(widths[k] + 2 for k in bands[-1])
        if bands[-1] and used + widths[i] + 2 > room:
            bands.append([])
        bands[-1].append(i)
    laid = []
    for band in bands:
        for line in lines:
            cells = [line[0].ljust(widths[0]), *(line[i].rjust(widths[i]) for i in band)]
            laid.append("  ".join(cells).rstrip())
        laid.append("")
    return laid


def _clean(text: str, longest: int = 120) -> str:
    return _printable(text if len(text) <= longest else f"{text[: longest - 1]}…")


def _printable(text: str) -> str:
    """The text without what a terminal would obey or cannot show: control characters, halves of surrogate pairs."""
    return "".join(c if c.isprintable() else "?" for c in text)
