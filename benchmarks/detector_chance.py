"""Two halves of one source, called real and fake: every detector has to be at chance.

    python -m benchmarks.detector_chance [--images FOLDER] [--n 400] [DETECTOR ...]

Each half is cut again by content, the detector is fitted on one part and tested on the other. What is not near 0.5 is a
detector that learns its samples by heart, or a test that leaks. Prints Markdown: AUROC with DeLong's interval.
"""

from __future__ import annotations

import argparse
import time

from evalkit.cache import Cache, default_root
from evalkit.detection import judge
from evalkit.measurement import Bench
from evalkit.metrics.detection import area_under_roc
from evalkit.samples import halves, open_samples, select, some

DETECTORS = ("spectrum", "residual", "patch", "npr", "cnn", "clip_probe:random_conv", "reconstruction")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detector_chance", description=__doc__)
    parser.add_argument("--images", action="append", default=[], help="folders beside embedded:digits/train")
    parser.add_argument("--n", type=int, default=400, help="the most samples of a half")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("detectors", nargs="*", default=DETECTORS)
    given = parser.parse_args()
    bench = Bench(cache=Cache(default_root()))
    print("| source | detector | n tested a side | AUROC | seconds |\n|:--|:--|--:|--:|--:|")
    for source in ("embedded:digits/train", *given.images):
        sides = [
            select(s, some(s, given.n, 0), word) for s, word in zip(halves(open_samples(source)), "ab", strict=True)
        ]
        for name in given.detectors:
            start = time.perf_counter()
            found = judge(name, *sides, seed=given.seed, bench=bench)
            value = area_under_roc(found.real.head("p_fake").rows, found.fake.head("p_fake").rows)
            n = f"{len(found.real)} + {len(found.fake)}"
            shown = f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
            print(f"| {source} | `{name}` | {n} | {shown} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
