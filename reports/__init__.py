"""What a person, a spreadsheet or a CI server reads: each report turns a leaderboard into text and computes nothing."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "html": "reports.html:render",
    "json": "reports.as_json:render",
    "csv": "reports.as_csv:render",
    "markdown": "reports.markdown:render",
    "junit": "reports.junit:render",
    "study_html": "reports.study:as_html",
    "study_json": "reports.study:as_json",
    "study_csv": "reports.study:as_csv",
    "study_markdown": "reports.study:as_markdown",
}
