"""A gate for machines: strict JSON, CSV for spreadsheets, JUnit XML for CI servers; all of one GateReport."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from evalkit.types import Check, GateReport, Reading

from ._numbers import finite
from ._words import one_line, visible
from .as_csv import safe

HEADER = (
    *("verdict", "metric", "value", "low", "high", "level", "better", "unit", "n_real", "n_fake"),
    *("baseline", "baseline_low", "baseline_high", "difference", "difference_low", "difference_high"),
    *("difference_level", "p", "asked", "says", "advice", "protocol"),
)


def verdict(check: Check) -> str:
    """pass, fail, inconclusive, or skipped for a check that does not count."""
    return check.outcome if check.counts else "skipped"


def as_json(report: GateReport) -> str:
    """The gate as strict JSON, schema `evalkit.gate/1`: outcome, exit code, verdict in words, totals, every check.

    ASCII only, no NaN or Infinity: a number that is none is left out. Ends with a newline.
    """
    subject, reference, baseline = report.subject, report.reference, report.baseline
    document = {
        "schema": report.schema,
        "outcome": report.outcome,
        "exit_code": int(report.exit_code),
        "verdict": report.verdict,
        "totals": report.totals,
        "subject": {"name": subject.name, "modality": subject.modality, "n": subject.n, "digest": subject.digest},
        "reference": reference and {"name": reference.name, "n": reference.n, "digest": reference.digest},
        "baseline": baseline and {"name": baseline.name, "n": baseline.n, "digest": baseline.digest},
        "checks": [_check(check) for check in report.checks],
        "warnings": list(report.warnings),
        "provenance": dict(report.provenance),
    }
    # `##[` is a command to a GitHub runner wherever it stands; the escape reads back as the same text.
    return json.dumps(document, indent=1, allow_nan=False).replace("##[", "##\\u005b") + "\n"


def _check(check: Check) -> dict[str, Any]:
    found: dict[str, Any] = {
        "metric": check.metric,
        "verdict": verdict(check),
        "outcome": check.outcome,
        "counts": check.counts,
        "says": check.says,
        "asked": check.asked,
    }
    if check.better is not None:
        found |= {"better": check.better, "unit": check.unit, "n": dict(check.n), "protocol": check.protocol}
    for word in ("found", "baseline", "difference"):
        if (own := getattr(check, word)) is not None and (numbers := _reading(own)):
            found[word] = numbers
    found |= {"p": check.p} if finite(check.p) else {}
    return found | ({"advice": check.advice} if check.advice else {})


def _reading(own: Reading) -> dict[str, float]:
    """Value, and ends and level of the interval where there is one."""
    if not finite(own.value):
        return {}
    ends = {"low": own.low, "high": own.high}
    if own.level is None or not all(finite(x) for x in (own.low, own.high, own.level)):
        return {"value": own.value}
    return {"value": own.value, **ends, "level": own.level}


def as_csv(report: GateReport) -> str:
    """The gate as CSV, one line a metric, numbers in full, empty where there is none; no text is a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for check in report.checks:
        found, base, gap = (_numbers(own) for own in (check.found, check.baseline, check.difference))
        sides = (check.n.get("real", ""), check.n.get("fake", ""))
        words = [safe(one_line(text)) for text in (check.asked, check.says, check.advice, check.protocol)]
        p = repr(check.p) if finite(check.p) else ""
        first = [verdict(check), safe(one_line(check.metric)), *found, check.better or "", safe(one_line(check.unit))]
        writer.writerow([*first, *sides, *base[:3], *gap, p, *words])
    return out.getvalue()


def _numbers(own: Reading | None) -> list[str]:
    known: Mapping[str, float] = {} if own is None else _reading(own)
    return [repr(known[key]) if key in known else "" for key in ("value", "low", "high", "level")]


def as_junit(report: GateReport) -> str:
    """The gate as JUnit XML, one test case a metric: a failure failed, an error is inconclusive, a skip does not count.

    Where no check counts, a case `gate` is an error: a suite of skips alone would read as a pass.
    """
    name = visible(f"evalkit gate: {report.subject.name}")
    root = ET.Element("testsuites", name=name)
    suite = ET.SubElement(root, "testsuite", name=name)
    where = visible(f"gate.{report.subject.name}")
    for check in report.checks:
        _case(suite, where, check)
    if not any(check.counts for check in report.checks):
        case = ET.SubElement(suite, "testcase", classname=where, name="gate", time="0")
        ET.SubElement(case, "error", message=visible(report.verdict), type="inconclusive")
    counts = {"tests": len(suite)}
    counts |= {
        key: len(suite.findall(f"testcase/{tag}"))
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    for element in (root, suite):
        for key, value in counts.items():
            element.set(key, str(value))
    notes = [report.verdict, *report.warnings, *(f"{key}: {value}" for key, value in report.provenance.items())]
    ET.SubElement(suite, "system-out").text = visible("\n".join(notes))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, where: str, check: Check) -> None:
    case = ET.SubElement(suite, "testcase", classname=where, name=visible(check.metric), time="0")
    says, more = visible(check.says), visible(f"asked: {check.asked}\n{check.advice}".rstrip("\n"))
    kind = verdict(check)
    if kind == "skipped":
        ET.SubElement(case, "skipped", message=says)
    elif kind == "pass":
        ET.SubElement(case, "system-out").text = f"{says}\n{more}"
    else:
        tag = "failure" if kind == "fail" else "error"
        ET.SubElement(case, tag, message=says, type=kind).text = more
