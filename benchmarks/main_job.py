"""What the main job costs: `evalkit compare` in an empty cache, then again, as whole processes.

    python -m benchmarks.main_job

Prints a Markdown table of wall seconds, CPU seconds, peak memory of the process and size of the report.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path


def run_once(cache: Path, out: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of one `evalkit compare`."""
    arguments = [sys.executable, "-m", "evalkit.cli", "compare", "--quiet", "--out", str(out)]
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execve(sys.executable, arguments, {**os.environ, "EVALKIT_CACHE": str(cache)})
    _, status, used = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"evalkit compare ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measure the first and the second run and print the table."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        print("| run | wall s | CPU s | peak MiB | report kB |")
        print("|---|---|---|---|---|")
        for name in ("first, empty cache", "second, models and rows cached"):
            out = home / name.split(",")[0]
            wall, cpu, peak = run_once(home / "cache", out)
            size = (out / "index.html").stat().st_size / 1000
            print(f"| {name} | {wall:.1f} | {cpu:.1f} | {peak:.0f} | {size:.0f} |", flush=True)


if __name__ == "__main__":
    main()
