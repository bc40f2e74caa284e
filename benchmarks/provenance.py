"""What reading provenance costs: CPU milliseconds a file, how much of that is C2PA, and the memory of the process.

Reads every file of the folders given, as the audit's workers do (bytes in, pixels already decoded), and one picture
with an alpha channel of its own, whose hidden text has to be looked for. Prints two Markdown tables:
`python -m benchmarks.provenance FOLDER ... [--trust PEM] [--at DATE-TIME] [--repeats 7]`.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from detectors._c2pa import ManifestReader, Unlooked, has_box
from detectors.provenance import Provenance
from evalkit.types import MediaFile


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def median_ms(act: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        act()
        taken.append(1000 * (time.process_time() - start))
    return statistics.median(taken)


def opened(data: bytes) -> MediaFile:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return MediaFile(data, str(image.format), "image", pixels=np.asarray(image.convert("RGB")))
    except Exception:
        return MediaFile(data, "", "image")


def with_alpha(side: int) -> bytes:
    """A PNG of noise with an alpha channel: the worst case of looking for a hidden text."""
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 4), dtype=np.uint8)).save(held, "PNG")
    return held.getvalue()


def each(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes, one file at a time, so that the peak of memory is that of the largest."""
    yield from ((path.name, path.read_bytes()) for path in paths)
    yield "(noise, 1024 x 1024, RGBA)", with_alpha(1024)


def manifest_ms(reader: ManifestReader, data: bytes, repeats: int) -> float:
    def read() -> None:
        with suppress(Unlooked):
            reader.read(data)

    return median_ms(read, repeats) if has_box(data) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--trust", type=Path, help="trust list, PEM")
    parser.add_argument("--at", default="2026-11-22T00:00:00+00:00")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    anchors = given.trust.read_text("utf-8") if given.trust else ""
    witness, reader = Provenance(anchors=anchors, at=given.at), ManifestReader(anchors)
    paths = [
        p for f in given.folders for p in sorted(f.rglob("*")) if p.is_file() and p.suffix not in (".pem", ".json")
    ]
    before = peak_mib()
    first = next((data for _, data in each(paths) if has_box(data)), b"")
    start = time.process_time()
    witness.testify(MediaFile(first, "", "image"))
    loading, loaded = 1000 * (time.process_time() - start), peak_mib()
    for _, data in each(paths):
        witness.testify(MediaFile(data, "", "image"))
    # Taken before this benchmark decodes pictures of its own, which the workers have done anyway.
    most = peak_mib()
    print("| file | kB | CPU ms | of it C2PA | kinds of evidence |\n|:--|--:|--:|--:|:--|")
    taken: dict[bool, list[float]] = {True: [], False: []}
    for name, data in each(paths):
        media = opened(data)
        said = witness.testify(media)
        whole = median_ms(lambda media=media: witness.testify(media), given.repeats)
        c2pa = manifest_ms(reader, data, given.repeats)
        taken[c2pa > 0].append(whole)
        words = ", ".join(f"{item.source}: {item.says} ({item.strength})" for item in said) or "none"
        print(f"| {name} | {len(data) / 1000:,.0f} | {whole:.2f} | {c2pa:.2f} | {words} |")
    print("\n| of all files | |\n|:--|--:|")
    for manifest, words in ((False, "without a manifest"), (True, "with a manifest")):
        if taken[manifest]:
            print(f"| median CPU ms, {len(taken[manifest])} files {words} | {statistics.median(taken[manifest]):.2f} |")
    print(f"| CPU ms of the first manifest, loading c2pa-python | {loading:.0f} |")
    print(f"| peak MiB before it, after it, after all files | {before:.0f}, {loaded:.0f}, {most:.0f} |")


if __name__ == "__main__":
    main()
