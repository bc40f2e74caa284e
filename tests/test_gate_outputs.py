"""What a pipeline reads of a gate agrees in every output, no name becomes a command, limits of size are kept."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import evalkit
from evalkit import registry
from evalkit.cli import run
from evalkit.gating.outputs import append_summary, lines, workflow_commands
from evalkit.records import write_record
from evalkit.types import Check, GateReport, Reading, Rule, Subject
from tests.pages import PAYLOADS, Page
from tests.test_gate import NAME, number
from tests.test_gate import run as run_record

pytestmark = pytest.mark.usefixtures("at_home")

KINDS = ("fail", "inconclusive", "pass", "skipped")
BOOLS = st.booleans()


def rendered(name: str, report: GateReport, *more: int) -> str:
    return str(registry.reports.get(f"gate_{name}")(report, *more))


# ---------------------------------------------------------------------------------------------- agreement


@st.composite
def numbers(draw: Any) -> dict[str, Any]:
    """Results by metric: sound, missing, without an interval, of another protocol or direction, too few."""
    found = {}
    for name in ("fid@pixels", "kid@pixels", "prdc@pixels.recall"):
        if draw(st.sampled_from((0, 1, 1, 1))):
            made = number(draw(st.sampled_from((1.0, 2.0, 3.0))), draw(st.sampled_from((0.0, 0.1, 1.0))), name)
            odd = draw(st.sampled_from(("", "", "", "", "protocol", "few", "better")))
            changes: Mapping[str, dict[str, Any]] = {
                "": {}, "protocol": {"protocol": "sha256:q"},
                "few": {"n": {"real": 5, "fake": 5}}, "better": {"better": "higher"},
            }  # fmt: skip
            found[name] = replace(made, **changes[odd])
    return found


LIMITS = {
    "max": st.sampled_from((0.5, 1.5, 2.5, 9.0)),
    "min": st.sampled_from((0.1, 0.4)),
    "max_increase": st.sampled_from(("5%", 0.5, 9)),
    "max_decrease": st.sampled_from(("5%", 0)),
    "min_n": st.sampled_from((2, 100)),
}
RULES = st.dictionaries(
    st.sampled_from(("fid@pixels", "kid@pixels", "prdc@pixels.recall")),
    st.fixed_dictionaries(
        {"require": BOOLS, "max": LIMITS["max"]}, optional={k: v for k, v in LIMITS.items() if k != "max"}
    ),
    min_size=1,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(now=numbers(), base=st.none() | numbers(), rules=RULES, top=st.sampled_from(("holm", "none")))
def test_exit_code_words_and_every_output_agree(
    now: dict[str, Any],
    base: dict[str, Any] | None,
    rules: dict[str, Any],
    top: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spare = number(1.0, name="other@pixels")
    write_record(run_record(*now.values(), spare), Path("run.json"))
    Path("base.json").unlink(missing_ok=True)
    if base is not None:
        write_record(run_record(*base.values(), spare), Path("base.json"))
    quoted = [f'[gate."{m}"]\n' + "".join(f"{k} = {json.dumps(v)}\n" for k, v in r.items()) for m, r in rules.items()]
    Path("evalkit.toml").write_text(f'[gate]\nadjust = "{top}"\n' + "".join(quoted))
    Path("step.md").unlink(missing_ok=True)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "step.md")
    arguments = ["gate", "run.json", *(["--baseline", "base.json"] if base is not None else [])]
    files = [x for suffix in ("json", "md", "html", "xml", "csv") for x in ("-o", f"g.{suffix}")]
    code = run([*arguments, *files, "--junit", "j.xml", "--summary", "s.md", "--pr-body", "b.md"])
    out, err = capsys.readouterr()

    said = json.loads(Path("g.json").read_text())
    assert code == said["exit_code"] == {"pass": 0, "fail": 1, "inconclusive": 4}[said["outcome"]]
    expected = {c["metric"]: c["verdict"] for c in said["checks"]}
    counted = [v for v in expected.values() if v != "skipped"]
    worst = next((v for v in KINDS[:3] if v in counted), "inconclusive")
    assert said["outcome"] == worst and set(expected) == set(rules)

    printed = [line.split() for line in out.splitlines()[:-1] if not line.startswith(" ")]
    assert {words[1]: words[0] for words in printed} == expected
    assert out.splitlines()[-1].startswith(said["verdict"])

    totals = Counter(expected.values())
    for file in ("g.xml", "j.xml"):
        suite = ET.parse(file).getroot().find("testsuite")
        assert suite is not None
        cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
        lone = cases.pop("gate", None)
        assert (lone == ["error"]) == (not counted) and (lone is None) == bool(counted)
        tags = {"fail": "failure", "inconclusive": "error", "skipped": "skipped", "pass": "system-out"}
        assert cases == {name: [tags[verdict]] for name, verdict in expected.items()}
        wanted = [totals["fail"], totals["inconclusive"] + (not counted), totals["skipped"]]
        assert [int(suite.get(k, "")) for k in ("failures", "errors", "skipped")] == wanted

    commands = Counter(line.split()[0].strip(":") for line in err.splitlines())
    assert commands["error"] == totals["fail"]
    assert commands["warning"] == totals["inconclusive"] + (not counted)
    assert (code == 0) == (commands["error"] + commands["warning"] == 0)

    bold = {"fail": "**FAIL**", "inconclusive": "**INCONCLUSIVE**", "pass": "pass", "skipped": "skipped"}
    for file in ("g.md", "s.md", "b.md", "step.md"):
        text = Path(file).read_text()
        assert said["verdict"] in text and text.startswith("<!-- evalkit:gate:model -->\n")
        rows = [line.split(" | ") for line in text.splitlines() if line.count(" | ") == 5][1:]
        found = {row[1].split()[0]: row[0].removeprefix("| ") for row in rows}
        assert found == {name: bold[verdict] for name, verdict in expected.items()}

    page = Page(Path("g.html").read_text()).root
    (statement,) = page.all("p", class_="statement")
    assert statement.attrs["data-outcome"] == said["outcome"] and statement.text == said["verdict"]
    seen = {row.all("span", class_="who")[0].text.split("\xa0")[0]: row.attrs for row in page.all("tr") if row.attrs}
    assert {name: attrs["data-verdict"] for name, attrs in seen.items()} == expected
    table = list(csv.DictReader(io.StringIO(Path("g.csv").read_text())))
    assert {row["metric"]: row["verdict"] for row in table} == expected


def test_json_on_stdout_is_one_document_and_annotations_are_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(run_record(number()), Path("run.json"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run(["gate", "run.json", "--max", f"{NAME}=1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out, parse_constant=lambda c: pytest.fail(c))["outcome"] == "fail"
    assert err.startswith("::error title=evalkit gate%3A fid@pixels::fail: ")
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert run(["gate", "run.json", "--max", f"{NAME}=9"]) == 0
    assert "::" not in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- hostile names


def hostile(payload: str, outcome: Any = "fail") -> GateReport:
    check = Check(
        payload, outcome, f"{payload} says", payload, "lower", payload, {"real": 9, payload: 9}, payload,
        Reading(1.0, 0.5, 1.5, 0.95), Reading(1.0, 0.5, 1.5, 0.95), Reading(0.0, -1.0, 1.0, 0.95), 1.0, payload,
        rule=Rule(payload, max=0.9),
    )  # fmt: skip
    subject = Subject(payload, "image", payload, 9, payload)
    provenance = {"command": payload, payload or "x": payload}
    return GateReport(subject, None, replace(subject, n=8), outcome, (check,), provenance, (payload,))


COMMANDS = (
    "::error::owned",
    "\n::set-output name=x::y",
    "a\r\n::add-mask::b",
    "##[error]owned",
    "x ##[warning]y",
    "a,b:c%0A::error::d",
    "--><img src=x>",
    "-- >",
    "=cmd|' /C calc'!A0",
    "@team see #1",
    "10 kB " * 1700,
)


@pytest.mark.parametrize("payload", [*PAYLOADS, *COMMANDS], ids=range(len(PAYLOADS) + len(COMMANDS)))
@pytest.mark.parametrize("outcome", ["fail", "pass"])
def test_no_name_is_markup_a_formula_or_a_command(payload: str, outcome: str) -> None:
    report = hostile(payload, outcome)
    page = Page(rendered("html", report)).root
    plain = Page(rendered("html", hostile("plain", outcome))).root
    # A long name gets a title of its own; nothing else may come of one.
    tags = Counter(node.tag for node in page.walk() if node.tag not in ("span", "wbr"))
    assert tags == Counter(node.tag for node in plain.walk() if node.tag not in ("span", "wbr"))
    assert not any(key.startswith("on") or key in ("src", "style") for node in page.walk() for key in node.attrs)
    assert all(node.attrs["href"].startswith("#") for node in page.walk() if node.attrs.get("href"))

    text = rendered("markdown", report)
    first, _, rest = text.partition("\n")
    assert re.fullmatch(r"<!-- evalkit:gate:[A-Za-z0-9._-]+ -->", first) and "--" not in first[5:-4]
    assert not re.search(r"<(?!/?(?:br|sub|details|summary)>)", rest) and not re.search(r"(?<!\w)@team", rest)
    rows = [line for line in text.splitlines() if re.match(r"\| (\*\*|pass)", line)]
    assert len(rows) == 1 and len(re.findall(r"(?<!\\)\|", rows[0])) == 7

    for row in csv.reader(io.StringIO(rendered("csv", report))):
        assert not any(re.match(r"[=@\t\r\n+]|-(?![\d.])", cell) for cell in row)
    document = rendered("json", report)
    assert document.isascii() and json.loads(document)["checks"][0]["metric"] == payload.encode(
        "utf-8", "surrogatepass"
    ).decode("utf-8", "surrogatepass")
    junit = rendered("junit", report)
    assert len(ET.fromstring(junit).findall(".//testcase")) == 1
    printed, commands = "\n".join(lines(report)), "\n".join(workflow_commands(report))
    for line in printed.splitlines():
        assert not line.lstrip().startswith("::") and len(line) < 6000
    assert all(line.isprintable() for line in printed.split("\n")) and len(printed.split("\n")) == 2 + bool(payload)
    for line in commands.splitlines():
        found = re.fullmatch(r"::(error|warning|notice) title=([^:,\r\n]*)::[^\r\n]*", line)
        assert found and found[2].startswith("evalkit gate")
    assert "##[" not in printed + commands + document
    assert len(commands.splitlines()) == (2 if outcome == "fail" else 1)


# ---------------------------------------------------------------------------------------------- size


def many(count: int) -> GateReport:
    kinds = ("pass", "fail", "inconclusive", "pass")
    checks = tuple(
        Check(f"fid@net{i}", kinds[i % 4], "a sentence " * 30, "at most 3", "lower", found=Reading(1.0, 0.5, 1.5, 0.95))
        for i in range(count)
    )  # type: ignore[arg-type]
    subject = Subject("model", "image", "samples", 9, "sha256:s")
    return GateReport(subject, None, None, "fail", checks, {"command": "evalkit gate"}, ("careful",) * 300)


def test_summary_and_body_are_cut_by_rows_with_a_note() -> None:
    report = many(5000)
    whole = rendered("markdown", report)
    assert len(whole.encode()) > 900 * 1024
    for limit in (900 * 1024, 60 * 1024, 8192, 1500):
        text = rendered("markdown", report, limit)
        assert len(text.encode()) <= limit and report.verdict in text
        rows = [line for line in text.splitlines() if re.match(r"\| (\*\*|pass)", line)]
        if rows:
            left = 5000 - len(rows)
            assert re.search(rf"^{left} more rows are left out", text, re.M)
            # Failures come first: no pass is shown while a failure is left out.
            assert all("FAIL" in row for row in rows[:1250]) and len(text.encode()) > limit - 5000
    assert rendered("markdown", report, 60) == ""
    assert len(ET.fromstring(rendered("junit", report)).findall(".//testcase")) == 5000
    assert len(json.loads(rendered("json", report))["checks"]) == 5000
    commands = Counter(line.split()[0] for line in workflow_commands(report))
    assert commands == {"::error": 10, "::warning": 10, "::notice": 1}
    assert "1241 more: fail" in "\n".join(workflow_commands(report))


def test_the_job_summary_grows_to_its_limit_and_never_changes_a_verdict(tmp_path: Path) -> None:
    report, file = many(5000), tmp_path / "summary.md"
    place = {"GITHUB_STEP_SUMMARY": str(file)}
    file.write_text("# an earlier step\n")
    assert append_summary(report, place) == ""
    assert file.read_text().startswith("# an earlier step\n\n<!-- evalkit:gate:model -->")
    assert 800 * 1024 < file.stat().st_size <= 900 * 1024
    append_summary(report, place)
    assert file.stat().st_size <= 900 * 1024
    before = file.read_text()
    file.write_text(before + "x" * (900 * 1024 - len(before)))
    assert "no room" in append_summary(report, place)
    assert append_summary(report, {"GITHUB_STEP_SUMMARY": str(tmp_path)}).startswith("cannot write")
    assert append_summary(report, {}) == "" and append_summary(report, {"GITHUB_STEP_SUMMARY": "a\0b"})


def test_a_summary_given_as_the_step_summary_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(run_record(number()), Path("run.json"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "s.md")
    assert run(["gate", "run.json", "--max", f"{NAME}=3", "--summary", "s.md", "--name", "nightly"]) == 0
    assert Path("s.md").read_text().count("<!-- evalkit:gate:nightly -->") == 1


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("evalkit.run/1", "evalkit.run/2"),
        lambda text: text.replace('"value": 2.0', '"value": null'),
        lambda text: text.replace('"value": 2.0', '"value": NaN'),
        lambda text: text.replace('"value": 2.0', '"value": "two"'),
        lambda text: text.replace('"results"', '"result"'),
        lambda text: "[]",
        lambda text: "\udcff\udcfe",
    ],
)
def test_a_damaged_record_is_exit_2_in_one_line(spoil: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(run_record(number()), Path("run.json"))
    good = Path("run.json").read_text()
    Path("bad.json").write_bytes(spoil(good).encode("utf-8", "surrogateescape"))
    for arguments in (["bad.json"], ["run.json", "--baseline", "bad.json"]):
        assert run(["gate", *arguments, "--max", f"{NAME}=3", "-o", "g.json"]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("evalkit: ") and err.count("\n") == 1
        assert not Path("g.json").exists()


def test_other_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    write_record(run_record(number()), Path("run.json"))
    write_record(replace(run_record(number()), results=()), Path("empty.json"))
    rule = ["--max", f"{NAME}=3"]
    assert run(["gate", "empty.json", *rule]) == 5
    assert run(["gate", "empty.json"]) == 2
    assert run(["gate", "nowhere.json", *rule]) == 2
    assert run(["gate", "run.json", *rule, "-o", "g.pdf"]) == 2
    assert run(["gate", "run.json", *rule, "--junit", "no/folder.xml"]) == 2
    assert run(["gate", "run.json", "--max-increase", f"{NAME}=5%"]) == 4
    text = run_record(number())
    write_record(replace(text, subject=replace(text.subject, modality="text")), Path("text.json"))
    assert run(["gate", "run.json", "--baseline", "text.json", *rule]) == 2
    assert not capsys.readouterr().out.count("Traceback")


def test_same_records_same_bytes() -> None:
    one, two = (evalkit.gate(run_record(number()), run_record(number(1.0)), {NAME: {"max": 3}}) for _ in range(2))
    for name in ("html", "json", "csv", "junit", "markdown"):
        assert rendered(name, one) == rendered(name, two)
