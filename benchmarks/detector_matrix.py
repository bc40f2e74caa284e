"""Which detector finds a generator it never saw: the cross-generator matrices and attacks that docs/matrix.md shows.

    python -m benchmarks.detector_matrix              all parts
    python -m benchmarks.detector_matrix zoo          generators trained on embedded:digits
    python -m benchmarks.detector_matrix cifar faces  real photographs, fakes with known traces, normalised
    python -m benchmarks.detector_matrix attacks      PGD and transfer on the detectors of the zoo
    python -m benchmarks.detector_matrix --quick      every part with few samples and two detectors: does it run?

Prints Markdown. Generators, detectors and rows are kept in the cache: a run that was cut off goes on where it was. The
photographs are optional test data (EVALKIT_TEST_DATA, data/image); a part without its data is skipped with a line.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from evalkit import registry
from evalkit.cache import Cache, default_root
from evalkit.detection import fitted, pooled
from evalkit.entrants import trained_generator
from evalkit.errors import EvalkitError
from evalkit.generation import generate, trained
from evalkit.laundering import resized
from evalkit.matrices.crossing import cross_matrix
from evalkit.matrices.regimes import cut
from evalkit.measurement import Bench
from evalkit.samples import halves, open_samples, select
from evalkit.samples._transformed import transformed
from evalkit.stressing.attack_suite import attacks
from evalkit.stressing.bed import made_bed
from evalkit.types import Detector, Matrix, SampleSet, Study, Table

Pixels = npt.NDArray[np.uint8]

DETECTORS = ("spectrum", "residual", "npr", "patch", "cnn", "clip_probe:random_conv", "reconstruction", "ensemble")
HARDENED = "cnn:adversarial"
# Generator -> family.
ZOO: Mapping[str, str] = {
    "gan": "adversarial",
    "vae": "autoencoder",
    "diffusion": "diffusion",
    "realnvp": "likelihood",
    "pixelcnn": "likelihood",
}
N, QUICK_N = 320, 60
PARTS = ("zoo", "cifar", "faces", "attacks")


def known(names: Sequence[str]) -> list[str]:
    """The detectors of these that exist and can be made here; the others are said on stderr."""
    found = []
    for name in names:
        try:
            registry.detectors.get(name)()
        except (EvalkitError, TypeError) as error:
            print(f"without {name}: {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


# Samples --------------------------------------------------------------------------------------------------------------


def zoo(n: int, names: Sequence[str], bench: Bench) -> tuple[SampleSet, dict[str, SampleSet]]:
    """Digits that no generator was trained on, and n samples of every generator."""
    real = open_samples("embedded:digits/heldout")
    fakes: dict[str, SampleSet] = {}
    for name in names:
        generator = trained_generator(name, None, 0, None, bench)
        fakes[name] = generate(generator, n, 0, bench, model="0").samples
    return select(real, range(min(n, len(real)))), fakes


def photographs(part: str, n: int, bench: Bench) -> tuple[SampleSet, dict[str, SampleSet], dict[str, str]] | None:
    """Real photographs, and for every trace as many others that went through it; None without the data.

    Every maker gets photographs of its own, so that none can be known by what it shows.
    """
    root = Path(os.environ.get("EVALKIT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared")) / "data" / "image"
    folder = root / ("cifar10_subset" if part == "cifar" else "faces/real")
    if not folder.is_dir():
        print(f"without {part}: no {folder.name} here", file=sys.stderr)
        return None
    whole = open_samples(folder)
    first, rest = halves(whole)
    real = select(first, range(min(n, len(first))), "real")
    families = {name: "interpolation" if name in INTERPOLATIONS else name for name in TRACES}
    share = min(n, len(rest) // len(TRACES))
    fakes: dict[str, SampleSet] = {
        name: transformed(select(rest, range(k * share, (k + 1) * share)), partial(_traced, trace), name, name=name)
        for k, (name, trace) in enumerate(TRACES.items())
    }
    if part == "faces":
        fakes["faces"] = select(open_samples(root / "faces" / "fake"), range(min(n, 280)), "faces")
    else:
        # Briefly: the default is made for digits, and a blurred sample is a trace like the others.
        model = trained("vae", first, seed=0, bench=bench, controls={"steps": min(600, 2 * n)})
        fakes["vae"] = generate(model, share, 0, bench, model="0").samples
    return real, fakes, {name: families.get(name, name) for name in fakes}


def _traced(trace: Callable[[Pixels], Pixels], image: Pixels, seed: int) -> Pixels:
    return trace(image)


def upsampled(image: Pixels, kernel: Image.Resampling) -> Pixels:
    """Halved and brought back with one kernel: the last layer of many generators."""
    height, width = image.shape[:2]
    half = resized(image, max(1, width // 2), max(1, height // 2), Image.Resampling.BOX)
    return resized(half, width, height, kernel)


def quantised(image: Pixels, step: float = 12.0) -> Pixels:
    """The DCT of every 8 x 8 block in steps of 12: a codec's grid without its file."""
    from scipy.fft import dctn, idctn

    height, width = (side - side % 8 for side in image.shape[:2])
    blocks = image[:height, :width].astype(float).reshape(height // 8, 8, width // 8, 8, 3)
    coefficients = np.round(dctn(blocks, axes=(1, 3), norm="ortho") / step) * step
    out = image.copy()
    out[:height, :width] = np.clip(np.rint(idctn(coefficients, axes=(1, 3), norm="ortho")), 0, 255).reshape(
        height, width, 3
    )
    return out


TRACES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "nearest": partial(upsampled, kernel=Image.Resampling.NEAREST),
    "bilinear": partial(upsampled, kernel=Image.Resampling.BILINEAR),
    "lanczos": partial(upsampled, kernel=Image.Resampling.LANCZOS),
    "dct": quantised,
}
INTERPOLATIONS = ("nearest", "bilinear", "lanczos")


# Parts ----------------------------------------------------------------------------------------------------------------


def matrices(part: str, detectors: Sequence[str], quick: bool, bench: Bench) -> Study | None:
    """The matrix of one part: each, and leave-one-out."""
    n = QUICK_N if quick else N
    if part == "zoo":
        names = ("vae", "realnvp") if quick else tuple(ZOO)
        real, fakes = zoo(n, names, bench)
        families = {name: ZOO[name] for name in names}
    else:
        found = photographs(part, n, bench)
        if found is None:
            return None
        real, fakes, families = found
    rules = ["each", "leave-one-out"] if quick else ["each", "leave-one-out", "leave-family-out"]
    return cross_matrix(
        detectors, real=real, fakes=fakes, rules=rules, families=families, normalise=part != "zoo", bench=bench
    )


def attacked(detectors: Sequence[str], quick: bool, bench: Bench) -> Study:
    """The detectors of the zoo, fitted to all of it, under attack; `cnn` again with another seed as a surrogate."""
    real, fakes = zoo(QUICK_N if quick else N, ("vae", "realnvp") if quick else tuple(ZOO), bench)
    real_cut, cuts = cut(real, "real"), [cut(samples, name) for name, samples in fakes.items()]
    learnt = pooled([c.fit for c in cuts])
    judges: dict[str, Detector] = {}
    for name in [*detectors, *known([HARDENED])]:
        judges[name] = fitted(name, real_cut.fit, learnt, seed=0, bench=bench)
    if "cnn" in judges:
        judges["cnn, another seed"] = fitted("cnn", real_cut.fit, learnt, seed=1, bench=bench)
    bed, _ = made_bed(judges, real_cut.test, {c.name: c.test for c in cuts}, fpr=0.05, bench=bench)
    part = attacks(bed)
    return Study("evalkit.stress/1", "Attacks", part.findings, part.exhibits, {}, {}, part.warnings)


def shown(study: Study, title: str) -> str:
    """Findings, the tables of means and of unseen generators, and every matrix."""
    kept = [e for e in study.exhibits if isinstance(e, Matrix) or (isinstance(e, Table) and e.title != "Attacks")]
    part = Study(study.schema, title, study.findings, tuple(kept), {}, {}, study.warnings, study.excluded)
    text: str = registry.reports.get("study_markdown")(part)
    return text


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detector_matrix", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when left out")
    parser.add_argument("--only", nargs="+", help="these detectors instead of all")
    parser.add_argument("--quick", action="store_true", help="few samples, two detectors")
    given = parser.parse_args()
    for part in given.parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}; there are {', '.join(PARTS)}")
    bench = Bench(cache=Cache(default_root()))
    detectors = known(given.only or (("spectrum", "cnn") if given.quick else DETECTORS))
    for part in given.parts or PARTS:
        start, cpu = time.perf_counter(), time.process_time()
        measure = attacked if part == "attacks" else partial(matrices, part)
        study = measure(detectors, given.quick, bench)
        if study is not None:
            print(shown(study, part), flush=True)
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        print(f"{part}: {wall:.0f} s, {used:.0f} CPU s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
