"""A real browser for the tests of pages: headless Chromium through Playwright, skipped with the reason where absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "google-chrome")


@contextmanager
def launched() -> Iterator[Any]:
    """A running browser."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Visit:
    """One page open in a browser, with what it asked for and what it complained of."""

    def __init__(self, browser: Any, file: Path | None, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("a dialog"), dialog.dismiss()))
        if file is not None:
            self.page.goto(file.as_uri())

    def close(self) -> None:
        self.context.close()


@contextmanager
def visit(browser: Any, file: Path | None, **settings: Any) -> Iterator[Visit]:
    """A page opened in a fresh profile and closed again; with no file an empty one."""
    found = Visit(browser, file, **settings)
    try:
        yield found
    finally:
        found.close()


def axe() -> str:
    """The source of axe-core, which the tests alone use; skipped where it is not installed."""
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python is not installed (extra: test)")
    return (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")
