"""Hostile texts in every field of a report, in a real browser: no script runs, no request is made.

The browser is told to ignore the page's Content-Security-Policy, so that what is tested is that the texts stay texts;
that the policy would stop a script that got through all the same has a test of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalkit.types import Leaderboard
from reports import html

from .browsers import launched, visit
from .pages import everywhere
from .payloads import FAR, HOSTILE, RUN
from .shown import tiny

GROUP = 30  # payloads a page

# What a reader may do to a page: point at everything, focus it, open what is folded.
TOUCH = """() => {
  for (const e of document.querySelectorAll('details')) { e.removeAttribute('name'); e.open = true; }
  for (const e of document.querySelectorAll('body *')) {
    e.dispatchEvent(new MouseEvent('mouseover', {bubbles: false}));
    e.dispatchEvent(new MouseEvent('pointerenter', {bubbles: false}));
    if (e.matches('[tabindex], button, input, summary')) e.focus();
    if (e.matches('button.sort')) e.click();
  }
  const count = (where, what) => where.querySelectorAll(what).length;
  return [typeof window.hacked, count(document, 'script'), count(document.body, 'style')];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


def test_there_are_more_than_a_hundred_of_them() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 100


def together(payloads: Sequence[str]) -> Leaderboard:
    """A board with a chapter for each payload, which stands in front of each of its texts: names stay different."""
    boards = [everywhere(tiny(), lambda text, payload=payload: payload + text) for payload in payloads]
    return dataclasses.replace(
        boards[0],
        title="".join(payloads),
        comparisons=tuple(comparison for board in boards for comparison in board.comparisons),
        records=tuple(record for board in boards for record in board.records),
        provenance={key: value for board in boards for key, value in board.provenance.items()},
    )


@pytest.mark.parametrize("start", range(0, len(HOSTILE), GROUP))
def test_no_payload_runs_or_asks_for_anything(browser: Any, tmp_path: Path, start: int) -> None:
    file = tmp_path / "index.html"
    file.write_text(html.render(together(HOSTILE[start : start + GROUP])), "utf-8")
    with visit(browser, file, bypass_csp=True) as seen:
        assert seen.page.evaluate(TOUCH) == ["undefined", 1, 0]
        assert seen.said == []
        assert {url for url in seen.asked if not url.startswith("data:image/png;base64,")} == {file.as_uri()}


def test_the_policy_stops_what_got_through(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    hole = f"<script>{RUN}</script><img src={FAR}.png><img src=x onerror={RUN}><style>body{{color:red}}</style>"
    file.write_text(html.render(tiny()).replace("<h1>", f"{hole}<h1>", 1), "utf-8")
    with visit(browser, file) as seen:
        asked: list[str] = []
        seen.page.on("requestfinished", lambda request: asked.append(request.url))
        assert seen.page.evaluate("() => typeof window.hacked") == "undefined"
        assert seen.page.evaluate("() => getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
        assert seen.page.locator("#image-board button.sort").count() > 0  # its own script still works
        assert not any("evil" in url for url in asked)
        assert any("Content Security Policy" in words for words in seen.said)
