"""What a pipeline reads of a gate: printed lines, annotations, job summary, pull-request body, files.

All of it comes from one GateReport. Names of metrics and subjects are not ours: a log line is a command to a GitHub
runner when it begins with `::`, or holds `##[`, so every line begins with a word of ours and names are escaped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .. import registry
from ..errors import EvalkitError
from ..publishing import check_outputs
from ..records import write_text
from ..types import Check, GateReport
from .words import few_lines

FORMATS = {
    ".json": "gate_json",
    ".csv": "gate_csv",
    ".md": "gate_markdown",
    ".html": "gate_html",
    ".xml": "gate_junit",
}
# GitHub drops a whole summary above 1024 KiB and refuses a comment above 64 KiB.
SUMMARY_BYTES = 900 * 1024
BODY_BYTES = 60 * 1024
# GitHub shows ten annotations of a kind a step.
MOST_ANNOTATIONS = 10


def check_files(outputs: Sequence[Path], *others: Path | None) -> None:
    """Refuse, before any work, an output of unknown suffix, and any whose folder does not exist."""
    check_outputs(outputs, FORMATS)
    for file in others:
        if file is not None:
            check_outputs([file], {file.suffix: ""})


def write_files(
    report: GateReport,
    outputs: Sequence[Path] = (),
    *,
    junit: Path | None = None,
    summary: Path | None = None,
    body: Path | None = None,
) -> None:
    """Write the report to files: by suffix, and as JUnit XML, summary and pull-request body where a place is given."""
    for file in outputs:
        write_text(file, registry.reports.get(FORMATS[file.suffix])(report))
    if junit is not None:
        write_text(junit, registry.reports.get("gate_junit")(report))
    markdown = registry.reports.get("gate_markdown")
    if summary is not None:
        write_text(summary, markdown(report, SUMMARY_BYTES))
    if body is not None:
        write_text(body, markdown(report, BODY_BYTES))


def append_summary(report: GateReport, environment: Mapping[str, str] = os.environ, written: Path | None = None) -> str:
    """Add the Markdown to the file that GITHUB_STEP_SUMMARY names; what went wrong, in words, or nothing.

    The file and what other steps wrote into it stay under 900 KiB together. A summary that cannot be written does not
    change a verdict. written: a file that holds the summary already.
    """
    place = environment.get("GITHUB_STEP_SUMMARY", "")
    if not place:
        return ""
    file = Path(place)
    try:
        if written is not None and file.exists() and written.resolve() == file.resolve():
            return ""
        there = file.stat().st_size if file.exists() else 0
        text = registry.reports.get("gate_markdown")(report, SUMMARY_BYTES - there - 1)
        if there + len(text.encode()) + 1 > SUMMARY_BYTES:
            return f"GITHUB_STEP_SUMMARY holds {there} bytes already: no room for the gate's summary"
        with file.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write("\n" + text if there else text)
    except (OSError, EvalkitError, ValueError) as error:
        return f"cannot write to GITHUB_STEP_SUMMARY: {error}"
    return ""


def lines(report: GateReport) -> Iterator[str]:
    """One line a check in words, and one for the whole gate."""
    for check in report.checks:
        yield f"{word(check):<12} {few_lines(check.metric)}  {few_lines(check.says, 2000)}"
        if check.advice:
            yield f"{'':<12} hint: {few_lines(check.advice, 2000)}"
    yield few_lines(f"{report.verdict} ({few_lines(report.subject.name)})", 400)


def word(check: Check) -> str:
    """pass, fail, inconclusive, or skipped for a check that does not count."""
    return check.outcome if check.counts else "skipped"


def workflow_commands(report: GateReport) -> Iterator[str]:
    """Workflow commands: an error a failed metric, a warning an inconclusive one, a notice for the rest together.

    At most ten of a kind, which is what GitHub shows; the last says how many more there are.
    """
    kinds = {"fail": "error", "inconclusive": "warning", "skipped": "notice"}
    for kind, command in kinds.items():
        found = [check for check in report.checks if word(check) == kind]
        room = MOST_ANNOTATIONS - (kind == "skipped")
        for check in found if len(found) <= room else found[: room - 1]:
            yield _command(command, f"evalkit gate: {check.metric}", f"{kind}: {check.says}")
        if len(found) > room:
            yield _command(command, "evalkit gate", f"{len(found) - room + 1} more: {kind}")
    if report.outcome == "inconclusive" and not any(word(c) == "inconclusive" for c in report.checks):
        yield _command("warning", "evalkit gate", report.verdict)
    else:
        yield _command("notice", "evalkit gate", report.verdict)


def _command(kind: str, title: str, message: str) -> str:
    # A property ends at a comma or a colon; a line break would begin a command of its own.
    name = _escaped(few_lines(title)).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={name}::{_escaped(few_lines(message, 2000))}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
