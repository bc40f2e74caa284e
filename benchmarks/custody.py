"""What sealing, verifying and exporting an audit cost, and whether memory grows with the number of records.

    python -m benchmarks.custody [--records N ...]

Records are made by hand, of one detector, one claim and one near-duplicate (about 1.6 kB each); making them is timed
apart. Each step of each size runs in a process of its own, whose peak resident memory is read at its end.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STEPS = ("make", "seal", "verify", "csv", "jsonl", "sarif", "parquet")


def made(n: int) -> Iterator[dict[str, Any]]:
    """n records as an audit makes them, no two of one content."""
    from evalkit.auditing.documents import record_of
    from evalkit.types import Evidence, Finding, Opened, Opinion, Ruling

    claim = Evidence("metadata", "synthetic", "claim", "provenance", "PNG text names a generator", {"steps": 20})
    near = Evidence("known", "unknown", "hint", "hashlist", "a near-duplicate of another file", {"distance": 12})
    for i in range(n):
        opened = Opened(
            "ok", "", None, "pillow 11.0.0", "JPEG", "image", 640, 480, {"quality": 90, "tables": "ab12cd34ef56"},
            {"pdq": f"{i:064x}", "pdq_quality": 100, "phash": f"{i:016x}"}, (claim,),
        )  # fmt: skip
        p = (i + 0.5) / n
        opinion = Opinion("cnn", "sha256:" + "d" * 64, "embedded digits", 1 - p, 3.5 - 7 * p, 0.2, 0.8, 1 - p, p)
        finding = Finding(i, f"upload/{i:07d}.jpg", b"upload/%07d.jpg" % i, f"{i:064x}", 54321, opened, (opinion,),
                          (claim, near))  # fmt: skip
        p_and_q = (1 - p, p, min(1.0, 2 * p))
        flagged = Ruling("synthetic", "discovery", *p_and_q, True)
        yield record_of(finding, flagged if p < 0.1 else Ruling("authentic", "detectors_clear", *p_and_q))


def step(name: str, folder: Path, n: int) -> dict[str, Any]:
    """Seconds and peak memory of one step; what it needs of earlier ones is in the folder."""
    from evalkit.auditing.exports import export
    from evalkit.auditing.sealing import seal
    from evalkit.auditing.verifying import verify

    # Of one thread; the processor's clock does not count what else the machine does.
    start = time.process_time()
    if name == "make":
        assert sum(1 for _ in made(n)) == n
    elif name == "seal":
        frozen = dict.fromkeys(("configuration", "manifest", "detectors", "calibration", "code"), "sha256:00")
        seal(folder, {"frozen": frozen}, made(n))
    elif name == "verify":
        assert verify(folder).ok
    else:
        export(folder, folder / f"out.{name}")
    seconds = time.process_time() - start
    # Linux counts kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    file = folder / ("audit.jsonl" if name in ("seal", "verify") else f"out.{name}")
    return {"seconds": seconds, "peak": peak, "bytes": file.stat().st_size if file.exists() else 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=STEPS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is not None:
        sys.stdout.write(json.dumps(step(given.steps[0], given.folder, given.records[0])))
        return
    sys.stdout.write("| records | step | records a CPU second | CPU seconds | peak memory MiB | file MB |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for n in given.records:
        with tempfile.TemporaryDirectory() as place:
            for name in given.steps:
                _row(name, Path(place), n)


def _row(name: str, folder: Path, n: int) -> None:
    call = [sys.executable, "-m", "benchmarks.custody", "--folder", str(folder), "--records", str(n), "--steps", name]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    rate, size = n / found["seconds"], found["bytes"] / 1e6
    sys.stdout.write(
        f"| {n:,} | {name} | {rate:,.0f} | {found['seconds']:.1f} | {found['peak'] / 2**20:.0f} | {size:.1f} |\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
