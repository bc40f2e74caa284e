"""How long marks last: dwtDct and an XMP label of our own over every laundering chain, KGW and SynthID over text edits.

    python -m benchmarks.marking DATA [PART ...]

DATA holds `image/faces/real` (photographs of 256 x 256), `image/provenance` and `image/pdq_bridge_mods` (larger ones,
from which tiles of 512 x 512 are cut). Parts: payloads, images, texts; all without one. Each prints Markdown tables.
Reals are other photographs, and texts that the same model drew without a mark.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from evalkit.laundering import CHAINS
from evalkit.marking.checking import checked
from evalkit.marking.embedding import embedded
from evalkit.marking.writing import embed
from evalkit.measurement import Bench
from evalkit.samples import open_samples, select
from evalkit.samples.arrays import from_images, from_texts
from evalkit.types import SampleSet, Study
from generators.lm import Lm

SDXL = "b3ec907bb19e"
FACES, SIDE, MOST_TILES = 60, 512, 8
PHOTOGRAPHS = (
    "pdq_bridge_mods/aaa-orig.jpg",
    "provenance/c2pa/adobe-20220124-A.jpg",
    "provenance/c2pa/adobe-20220124-C.jpg",
    "provenance/c2pa/adobe-20220124-I.jpg",
    "provenance/c2pa/nikon-20221019-building.jpeg",
)
LENGTHS = (3, 4, 6, 8, 17)  # bytes
LM: dict[str, int | float | str] = {"steps": 300, "width": 96, "layers": 2, "vocabulary": 1024}
DRAWN, JOINED = 192, 3

Pixels = npt.NDArray[np.uint8]


def row(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    row(*("---" for _ in cells))


def tiles(data: Path) -> list[Pixels]:
    """Tiles of the larger photographs, at most eight of each, evenly over it."""
    found: list[Pixels] = []
    for name in PHOTOGRAPHS:
        image = np.asarray(Image.open(data / "image" / name).convert("RGB"))
        corners = [
            (y, x) for y in range(0, image.shape[0] - SIDE + 1, SIDE) for x in range(0, image.shape[1] - SIDE + 1, SIDE)
        ]
        kept = [corners[i] for i in sorted({round(k) for k in np.linspace(0, len(corners) - 1, MOST_TILES)})]
        found += [image[y : y + SIDE, x : x + SIDE].copy() for y, x in kept]
    return found


def faces(data: Path, first: int, last: int) -> SampleSet:
    return select(open_samples(data / "image/faces/real"), range(first, last))


def pixels_of(samples: SampleSet) -> list[Pixels]:
    return [image for s in samples if not isinstance(image := s.load(), str)]


# ---------------------------------------------------------------------------------------------- parts


def payloads(data: Path) -> None:
    """Matched bits of clean marked images by the length of the payload, and how far a mark moves the pixels."""
    from detectors.dwtdct import DwtDct

    head("dwtdct, clean, untouched", "bits", "images", "found", "median of matched bits", "PSNR, dB (median)")
    rng = np.random.default_rng(0)
    for name, images in (("256 x 256", pixels_of(faces(data, 0, FACES))), ("512 x 512", tiles(data))):
        for length in LENGTHS:
            payload = rng.bytes(length)
            witness, matched, found, noise = DwtDct(payloads={"own": payload.hex()}), [], 0, []
            own = next(p for p in witness.payloads if p.name == "own")
            for image in images:
                marked = embedded(image, payload)
                matched.append(witness.count(marked)["own"][0])
                found += own.p_binomial(matched[-1]) < 1e-6
                noise.append(np.mean((marked.astype(float) - image) ** 2))
            psnr = 10 * np.log10(255**2 / np.median(noise))
            shares = f"{np.median(matched) / (8 * length):.3f}"
            row(name, 8 * length, len(images), f"{found / len(images):.2f}", shares, f"{psnr:.1f}")


def surviving(name: str, study: Study, layers: Sequence[str]) -> None:
    head(name, *layers, *(f"{layer}, unmarked" for layer in layers))
    for chain, found in study.data["chains"].items():
        alarms = study.data["false_alarms"][chain]
        row(chain, *(words(side[layer]) for side in (found, alarms) for layer in layers))


def words(share: dict[str, float]) -> str:
    if "value" not in share:
        return str(share["why"])
    return f"{share['value']:.2f} [{share['low']:.2f}, {share['high']:.2f}] of {share['n']}"


def images(data: Path) -> None:
    """Our own dwtDct and label over every named chain, at two sizes."""
    cut = tiles(data)
    sets = (
        ("faces, 256 x 256", faces(data, 0, FACES), faces(data, FACES, 2 * FACES)),
        ("tiles, 512 x 512", from_images(np.stack(cut), "tiles"), None),
    )
    for name, samples, real in sets:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "marked")
            embed(samples, {"dwtdct": SDXL}, out, {}, Bench())
            # Untouched, the same images are the reals of the small set of tiles.
            chains = ["resaved", "stripped", *CHAINS]
            study = checked(open_samples(out), samples if real is None else real, chains=chains)
        surviving(name, study, ("metadata", "watermark"))
        print("\n" + "\n".join(study.findings))


def texts(data: Path) -> None:
    """KGW and SynthID of the `lm` generator over the text edits; unmarked: the same model without a mark."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model")
        plain = Lm(**LM)
        plain.fit(open_samples("embedded:prose/train"), seed=0)
        plain.save(model)
        unmarked = from_texts(drawn("none", model)[0], "unmarked")
        for mark in ("kgw", "synthid"):
            written, generator = drawn(mark, model)
            out = Path(folder, mark)
            out.mkdir()
            for i, text in enumerate(written):
                (out / f"{i:03d}.txt").write_text(text, "utf-8")
            key = {**(generator.watermark or {}), "tokenizer": {"kind": "model_folder", "folder": str(model)}}
            (out / "set.json").write_text(json.dumps({"watermark": key}), "utf-8")
            surviving(f"lm with {mark}", checked(open_samples(out), unmarked), ("watermark",))


def drawn(mark: str, folder: Path) -> tuple[list[str], Lm]:
    """Texts of three draws each."""
    generator = Lm(**{**LM, "watermark": mark})
    generator.load(folder)
    single = [t for batch in generator.sample(DRAWN, 1) for t in batch.items]
    return [" ".join(single[i : i + JOINED]) for i in range(0, DRAWN, JOINED)], generator


PARTS = {"payloads": payloads, "images": images, "texts": texts}


def main() -> None:
    """Run the parts asked for and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    given = parser.parse_args()
    for name in given.parts or PARTS:
        PARTS[name](given.data)


if __name__ == "__main__":
    main()
