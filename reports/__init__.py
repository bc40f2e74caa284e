"""What a person, a spreadsheet or a CI server reads: each report turns a leaderboard into text and computes nothing."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "html": "reports.html:render",
    "json": "reports.as_json:render",
    "csv": "reports.as_csv:render",
    "markdown": "reports.markdown:render",
    "junit": "reports.junit:render",
    "html_folder": "reports.html:render_folder",
    "study_html": "reports.study:as_html",
    "study_json": "reports.study:as_json",
    "study_csv": "reports.study:as_csv",
    "study_markdown": "reports.study:as_markdown",
    "gate_html": "reports.gate:as_html",
    "gate_json": "reports.gate_files:as_json",
    "gate_csv": "reports.gate_files:as_csv",
    "gate_junit": "reports.gate_files:as_junit",
    "gate_markdown": "reports.gate_markdown:as_markdown",
    "judge_html": "reports.human:as_html",
    "history_html": "reports.history:as_html",
    "dossier": "reports.dossier:render",
    "report_policy": "reports.history:stored_policy",
}
