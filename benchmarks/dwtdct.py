"""The dwtDct witness: its null on real images, detection by kind of program and JPEG quality, speed.

    python -m benchmarks.dwtdct DATA [PHOTOS]

DATA holds `image/faces`, `image/watermark_dwtdct`, `image/pdq_bridge_mods` and `image/provenance`; PHOTOS is a
folder of further photographs for the null. Marks are embedded with invisible-watermark 0.2.0, which has to be
installed, from whole grey levels or from floating-point ones, as the programs do. It prints Markdown tables.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from imwatermark import WatermarkDecoder, WatermarkEncoder
from PIL import Image
from sklearn.datasets import load_sample_image

from detectors._payload import HINT, STRONG
from detectors.dwtdct import KNOWN, READINGS, DwtDct, block_votes, decode

Pixels = npt.NDArray[np.uint8]

FACES = 40
TILE = 256
MOST_TILES = 12
CHANGES = ("clean", "JPEG 95 4:4:4", "JPEG 90 4:4:4", "JPEG 95 4:2:0", "JPEG 75 4:2:0", "8 px cropped")
PROGRAMS = {
    "uint8": "whole levels, BGR (Stable Diffusion 1, 2)",
    "float": "floating point, BGR (SDXL, FLUX, diffusers from 0.27)",
    "float_rgb": "floating point, RGB (diffusers before 0.27)",
}


def row(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |")


def head(*cells: str) -> None:
    print()
    row(*cells)
    row(*("---" for _ in cells))


def read(file: Path | io.BytesIO) -> Pixels:
    return np.array(Image.open(file).convert("RGB"))


def photographs(data: Path, more: Path | None) -> Iterator[Pixels]:
    """Photographs at hand: none of a generator, no copy of another."""
    yield from (load_sample_image(name) for name in ("china.jpg", "flower.jpg"))
    c2pa = data / "image/provenance/c2pa"
    files = [data / "image/pdq_bridge_mods/aaa-orig.jpg"]
    files += [c2pa / "adobe-20220124-A.jpg", c2pa / "adobe-20220124-I.jpg", c2pa / "nikon-20221019-building.jpeg"]
    files += sorted(more.rglob("*.jp*g")) if more else []
    for file in files:
        try:
            yield read(file)
        except Exception as error:  # A folder of photographs may hold anything.
            print(f"<!-- {file.name}: {type(error).__name__} -->")


def reals(data: Path, more: Path | None) -> Iterator[Pixels]:
    """Faces as they are, photographs whole and in at most a dozen tiles each."""
    yield from (read(file) for file in sorted((data / "image/faces/real").iterdir()))
    for pixels in photographs(data, more):
        yield pixels
        rows, columns = pixels.shape[0] // TILE, pixels.shape[1] // TILE
        places = [(i, j) for i in range(rows) for j in range(columns)]
        for i, j in places[:: max(1, len(places) // MOST_TILES)]:
            yield pixels[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE]


def null(data: Path, more: Path | None) -> None:
    witness = DwtDct()
    counts: dict[str, list[int]] = {p.name: [] for p in KNOWN}
    for pixels in reals(data, more):
        for name, (matched, _) in witness.count(pixels).items():
            counts[name].append(matched)
    head("payload", "readings", "reals", "mean share", "most matched", "p < 0.01", "hints", "strong")
    for payload in KNOWN:
        found, n = counts[payload.name], len(payload.bits)
        chances = np.array([payload.p_binomial(m) for m in found])
        shares = [f"{(chances < 0.01).mean():.2%}", int((chances < HINT).sum()), int((chances < STRONG).sum())]
        row(payload.name, len(payload.readings), len(found), f"{np.mean(found) / n:.3f}", f"{max(found)}/{n}", *shares)


def embedded(pixels: Pixels, program: str) -> Pixels:
    encoder = WatermarkEncoder()
    encoder.set_watermark("bits", list(next(p.bits for p in KNOWN if p.name == "sdxl")))
    image = np.ascontiguousarray(pixels if program == "float_rgb" else pixels[..., ::-1])
    out = encoder.encode(image if program == "uint8" else image.astype(np.float32), "dwtDct")
    out = np.clip(out, 0, 255).round().astype(np.uint8)
    return out if program == "float_rgb" else np.ascontiguousarray(out[..., ::-1])


def changed(pixels: Pixels, change: str) -> Pixels:
    if change.startswith("JPEG"):
        _, quality, chroma = change.split()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(quality), subsampling=chroma)
        return read(file)
    return pixels[8:, 8:] if "crop" in change else pixels


def detection(data: Path) -> None:
    sdxl = next(p for p in KNOWN if p.name == "sdxl")
    bits = np.array(sdxl.bits, dtype=bool)
    covers = [read(file) for file in sorted((data / "image/faces/real").iterdir())[:FACES]]
    covers += [p[:512, :512] for p in photographs(data, None)]
    head("embedded from", "change", "images", "package's reading: strong", "three readings: strong", "mean matched")
    for program, words in PROGRAMS.items():
        marked = [embedded(cover, program) for cover in covers]
        for change in CHANGES:
            best = []
            alone = 0
            for pixels in (changed(m, change) for m in marked):
                votes = [decode(pixels, 48, reading) for reading in READINGS]
                matched = [int((v == bits).sum()) for v in votes if v is not None]
                # The package's reading alone is one test, not three.
                alone += sdxl.p_binomial(matched[0]) / len(READINGS) < STRONG
                best.append(max(matched))
            strong = sum(sdxl.p_binomial(m) < STRONG for m in best)
            row(
                words,
                change,
                len(best),
                f"{alone / len(best):.0%}",
                f"{strong / len(best):.0%}",
                f"{np.mean(best):.1f}",
            )


def recorded(data: Path) -> None:
    folder = data / "image/watermark_dwtdct"
    labels = json.loads((folder / "labels.json").read_text("utf-8"))["matched_bits"]
    head("file", "recorded: SDv1, SDV2, SDXL", "found", "evidence")
    for file, rows in labels.items():
        counts = DwtDct().count(read(folder / file))
        names = ("stable-diffusion-v1", "stable-diffusion-v2", "sdxl")
        said = [p.name for p in KNOWN if p.p_binomial(counts[p.name][0]) < STRONG]
        row(
            file,
            ", ".join(str(m) for m, _ in rows.values()),
            ", ".join(str(counts[n][0]) for n in names),
            *said or ["none"],
        )


def speed(data: Path) -> None:
    pixels = read(data / "image/watermark_dwtdct/cover_SD1-5.png")
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    witness = DwtDct()
    tasks = {
        "package, one payload": lambda: WatermarkDecoder("bits", 48).decode(bgr, "dwtDct"),
        "ours, one payload": lambda: decode(pixels, 48),
        "ours, one floating-point reading": lambda: block_votes(pixels, "float"),
        "the witness: all payloads and readings": lambda: witness.count(pixels),
    }
    head("512 x 512", "ms (least of 7, CPU time)")
    for name, task in tasks.items():
        seconds = []
        for _ in range(7):
            start = time.process_time()
            task()
            seconds.append(time.process_time() - start)
        row(name, f"{min(seconds) * 1000:.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("photos", type=Path, nargs="?")
    given = parser.parse_args()
    null(given.data, given.photos)
    detection(given.data)
    recorded(given.data)
    speed(given.data)


if __name__ == "__main__":
    main()
