"""What report pages cost: bytes, seconds to build, milliseconds until a browser has laid them out and answers.

    python -m benchmarks.report_pages [--peers]

Prints a Markdown table. Load: from navigation to the end of the load event, Chromium headless over file://, the median
of some visits in fresh profiles; computing: CPU time of the page's main thread meanwhile, which does not depend on what
else the machine does; sort: from a click on a column's head until the rows are drawn again. With --peers the
same curves as a plotly page with its library inline (`pip install plotly` first).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalkit.publishing import LARGEST_PAGE
from evalkit.types import Curves, Leaderboard
from reports import html
from tests.browsers import launched, visit
from tests.shown import detector_curves, full, many, small_digits

VISITS = 3
SORTED = """async () => {
  const button = document.querySelector('.board button.sort');
  const start = performance.now();
  button.click();
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""
LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"
CASES: tuple[tuple[str, Callable[[], Leaderboard]], ...] = (
    ("5 + 4 models, every exhibit", full),
    ("20 models x 64 digits", lambda: small_digits(20, 64)),
    ("20 models, 64 photographs", lambda: many(20, 64)),
    ("200 models, 500 photographs", lambda: many(200, 500)),
    ("200 models, 6,000 photographs", lambda: many(200, 6000)),
    ("2,000 models", lambda: many(2000, 1)),
)


def timed(browser: Any, file: Path) -> tuple[float, float, float]:
    """Median milliseconds: of loading, of the page's thread at work meanwhile, of sorting the board (0 without one)."""
    loads, works, sorts = [], [], []
    for _ in range(VISITS):
        with visit(browser, None) as seen:
            tools = seen.context.new_cdp_session(seen.page)
            tools.send("Performance.enable", {"timeDomain": "threadTicks"})
            seen.page.goto(file.as_uri())
            seen.page.wait_for_function("() => performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
            loads.append(float(seen.page.evaluate(LOADED)))
            found = {m["name"]: m["value"] for m in tools.send("Performance.getMetrics")["metrics"]}
            works.append(1000 * found["TaskDuration"])
            if seen.page.locator(".board button.sort").count():
                sorts.append(float(seen.page.evaluate(SORTED)))
    return statistics.median(loads), statistics.median(works), statistics.median(sorts) if sorts else 0.0


def written(board: Leaderboard, folder: Path) -> tuple[int, int, float]:
    """Bytes of the page, files beside it, seconds to build it."""
    start = time.perf_counter()
    page = html.render(board).encode()
    files = {"index.html": page}
    if len(page) > LARGEST_PAGE:
        files = dict(html.render_folder(board))
    seconds = time.perf_counter() - start
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return len(files["index.html"]), len(files) - 1, seconds


def plotly_page(chart: Curves, folder: Path) -> tuple[int, float]:
    """The same curves drawn by plotly with its library in the page: bytes and seconds."""
    import plotly.graph_objects as go

    start = time.perf_counter()
    figure = go.Figure()
    for line in chart.lines:
        x, y = zip(*line.points, strict=True)
        figure.add_scatter(x=x, y=y, name=line.name)
    text = figure.to_html(include_plotlyjs=True, full_html=True)
    (folder / "index.html").write_text(text, "utf-8")
    return len(text.encode()), time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", action="store_true")
    peers = parser.parse_args(sys.argv[1:]).peers
    html.render(full())  # the templates are compiled once a process
    print("| page | kB | files beside | build s | load ms | of these computing | sort ms |")
    print("|---|---|---|---|---|---|---|")
    with launched() as browser:
        for name, make in CASES:
            board = make()
            with tempfile.TemporaryDirectory() as home:
                size, beside, seconds = written(board, Path(home))
                load, work, sort = timed(browser, Path(home) / "index.html")
            print(
                f"| {name} | {size / 1000:,.0f} | {beside} | {seconds:.2f} | {load:.0f} | {work:.0f} | {sort:.0f} |",
                flush=True,
            )
        if peers:
            with tempfile.TemporaryDirectory() as home:
                size, seconds = plotly_page(detector_curves()[0], Path(home))
                load, work, _ = timed(browser, Path(home) / "index.html")
            print(
                f"| one chart, plotly inline | {size / 1000:,.0f} | 0 | {seconds:.2f} | {load:.0f} | {work:.0f} | – |"
            )


if __name__ == "__main__":
    main()
