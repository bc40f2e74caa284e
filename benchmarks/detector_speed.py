"""How much faster detectors judge images in batches than one at a time; decoding and preparation counted.

    python -m benchmarks.detector_speed --images FOLDER [--n 256]

Both ways read the same files, on all cores of the machine: one after the other as a loop of load, prepare, call; and
through the pipeline that every command uses. Weights are drawn at random where a detector needs others' files: time
does not depend on them. Best of three runs each; rows must agree to 1e-4.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from evalkit import registry
from evalkit.cache import Cache
from evalkit.detection import fitted, load_detector
from evalkit.measurement import Bench, measure
from evalkit.samples import halves, open_samples, select
from evalkit.types import Detector, SampleSet

RUNS = 3


def one_at_a_time(detector: Any, samples: SampleSet) -> tuple[float, torch.Tensor]:
    """Seconds and rows of a loop over the files."""
    start = time.perf_counter()
    with torch.inference_mode():
        rows = [detector(detector.prepare(sample.load())[None]) for sample in samples]
    return time.perf_counter() - start, torch.cat(rows)


def batched(detector: Detector, samples: SampleSet, device: str) -> tuple[float, torch.Tensor]:
    """Seconds and rows of the pipeline, nothing remembered."""
    start = time.perf_counter()
    rows = measure(samples, [detector], Bench(device=device, cache=Cache(None))).features[detector.name].rows
    return time.perf_counter() - start, rows


def detectors(names: list[str], samples: SampleSet, device: str) -> list[Detector]:
    """Each detector fitted to tell one half of the files from the other, or with its published weights."""
    found = []
    for name in names:
        if (Path(name) / "card.json").is_file() or "licence" in dict(_facts()).get(name.partition(":")[0], {}):
            found.append(load_detector(name, device=device))
        else:
            a, b = halves(samples)
            found.append(fitted(name, a, b, seed=0, bench=Bench(device=device)))
    return found


def _facts() -> list[tuple[str, Any]]:
    return [(listing.name, listing.facts) for listing in registry.detectors.listings()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("names", nargs="*", default=["spectrum", "residual", "cnn", "npr", "patch"])
    given = parser.parse_args()
    everything = open_samples(given.images)
    samples = select(everything, range(min(given.n, len(everything))))
    print(f"{len(samples)} files of {given.images}, {torch.get_num_threads()} threads, {given.device}\n")
    print("| detector | one at a time, images/s | batched, images/s | ratio |\n|:--|--:|--:|--:|")
    for detector in detectors(given.names, samples, given.device):
        detector.to(given.device)
        slow, fast = [], []
        for _ in range(RUNS):
            slow.append(one_at_a_time(detector, samples))
            fast.append(batched(detector, samples, given.device))
        gap = float((slow[0][1].cpu() - fast[0][1]).abs().max())
        assert gap < 1e-4, f"{detector.name}: rows differ by {gap}"
        seconds = [min(run[0] for run in runs) for runs in (slow, fast)]
        rates = [len(samples) / s for s in seconds]
        print(f"| `{detector.name}` | {rates[0]:,.0f} | {rates[1]:,.0f} | {seconds[0] / seconds[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
