"""What one file of an audit costs, part by part: CPU of this process and of its isolated workers, one core.

The same JPEG photographs (made of noise and gradients, quality 90, 4:2:0) go through the isolated opening with one
reader after the other added, then through whole audits. CPU time, because it is what a machine's cores have to give,
whatever else runs on it; wall time beside it. Whole audits by wall time alone: their workers are gone when they end.

    python -m benchmarks.audit_costs [--files 256] [--sides 256 1024]
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from evalkit.auditing.requesting import Request
from evalkit.auditing.running import audit
from evalkit.isolation import Pool
from evalkit.measurement import Bench

PROVENANCE, DWTDCT = ("provenance", {"at": "2026-01-01T00:00:00+00:00"}), ("dwtdct", {})
READERS: dict[str, tuple[tuple[tuple[str, dict[str, str]], ...], bool]] = {
    "decode": ((), False),
    "+ perceptual hashes": ((), True),
    "+ provenance": ((PROVENANCE,), True),
    "+ dwtDct": ((PROVENANCE, DWTDCT), True),
}


def photograph(side: int, seed: int) -> bytes:
    """A JPEG with edges, grain and a gradient: about as many bytes as a camera's."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 12, (side, side, 1))
    noisy = np.clip(np.asarray(image, dtype=np.float64) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).filter(ImageFilter.GaussianBlur(0.6)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def cpu() -> float:
    """CPU seconds of this process and of all that live beneath it."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text("ascii", "replace").rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            used[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / ticks
    mine, added = {os.getpid()}, True
    while added:
        added = {p for p, parent in parents.items() if parent in mine} - mine
        mine |= added
    return sum(used.get(process, 0.0) for process in mine)


def part(files: Sequence[bytes], witnesses: Sequence[tuple[str, dict[str, str]]], hashes: bool) -> tuple[float, float]:
    """Milliseconds a file, CPU and wall, once the worker is warm."""
    with Pool(1, witnesses=list(witnesses), hashes=hashes) as pool:
        for data in files[:4]:
            pool.open(data)
        before, start = cpu(), time.perf_counter()
        for data in files[4:]:
            pool.open(data)
        n = len(files) - 4
        return 1000 * (cpu() - before) / n, 1000 * (time.perf_counter() - start) / n


def timed(place: Path, name: str) -> float:
    """Wall seconds of a whole audit of the folder `name`."""
    start = time.perf_counter()
    audit(Request(paths=(str(place / name),)), place / f"out-{name}", bench=Bench(workers=1))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=256)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 1024])
    given = parser.parse_args()
    print(f"{given.files} photographs a size; load {os.getloadavg()[0]:.1f}")
    print("| part | side | kB a file | CPU ms a file | wall ms a file |\n|---|---|---|---|---|")
    for side in given.sides:
        files = [photograph(side, seed) for seed in range(given.files)]
        size = sum(map(len, files)) / len(files) / 1000
        for name, (witnesses, hashes) in READERS.items():
            used, passed = part(files, witnesses, hashes)
            print(f"| open in isolation: {name} | {side} | {size:.0f} | {used:.1f} | {passed:.1f} |", flush=True)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "files"
            folder.mkdir()
            for i, data in enumerate(files):
                (folder / f"{i:06d}.jpg").write_bytes(data)
            for name, count in (("few", 8), ("all", given.files)):
                one = Path(place) / name
                one.mkdir()
                for file in sorted(folder.iterdir())[:count]:
                    os.link(file, one / file.name)
            few, every = (timed(Path(place), name) for name in ("few", "all"))
            passed = 1000 * (every - few) / (given.files - 8)
            print(f"| whole audit with its dossier, no detector | {side} | {size:.0f} | | {passed:.1f} |", flush=True)
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"peak of the command {peaks[0]:.0f} MiB, of a worker {peaks[1]:.0f} MiB")


if __name__ == "__main__":
    main()
