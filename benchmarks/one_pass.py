"""One decode and one forward for three metrics, against a peer route that makes a pass for each.

    python -m benchmarks.one_pass [--n 2000] [--side 64]

Both sides score the same PNG files with the same network (`random_conv`). evalkit: one `evaluate` for fid, kid and prdc
with their intervals. Peers: torchmetrics FrechetInceptionDistance and KernelInceptionDistance with the network given as
`feature=`, and the `prdc` package on features of its own pass; no intervals. Prints decodes and forwards a sample,
seconds, and the ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from evalkit import registry
from evalkit.evaluation import Sides, evaluate, measure_side
from evalkit.extractors.random_conv import RandomConv
from evalkit.measurement import Bench
from evalkit.planning import instruments, plan
from evalkit.samples import open_samples
from evalkit.types import Subject

NAMES = ["fid@random_conv", "kid@random_conv", "prdc@random_conv"]


def write_images(folder: Path, n: int, side: int, seed: int) -> None:
    """n smooth random pictures, as photographs are smoother than noise."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(n):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.png")


class Counting(RandomConv):
    """`random_conv` that counts what it is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = self.forwards = 0

    def prepare(self, sample: Any) -> torch.Tensor:
        self.prepared += 1
        return super().prepare(sample)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.forwards += len(batch)
        return super().__call__(batch)


def ours(real: Path, fake: Path) -> tuple[int, int, dict[str, float]]:
    """Decodes, forwards and values of one evaluation of all three metrics."""
    bench = Bench()
    tasks = plan(NAMES, "image", with_train=False, with_timing=False)
    counting = Counting()
    made = {**instruments(tasks, "image"), "random_conv": counting}
    sides = [measure_side(w, open_samples(p), tasks, made, bench) for w, p in (("fake", fake), ("real", real))]
    subject = Subject("fake", "image", str(fake), len(sides[0].samples), sides[0].samples.digest)
    record = evaluate(subject, Sides(*sides), tasks, seed=0, bench=bench)
    return counting.prepared, counting.forwards, {r.name: r.value for r in record.results}


class AsFeature(torch.nn.Module):
    """`random_conv` as torchmetrics wants it: uint8 [B, 3, H, W] in, rows out."""

    num_features = 512

    def __init__(self) -> None:
        super().__init__()
        self.network = RandomConv()
        self.forwards = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.forwards += len(images)
        batch = torch.stack([self.network.prepare(i.permute(1, 2, 0).contiguous().numpy()) for i in images])
        return self.network(batch)


def batches(folder: Path, size: int = 64) -> Iterator[torch.Tensor]:
    """uint8 [B, 3, H, W] of a folder's images, decoded again at every call."""
    files = sorted(folder.iterdir())
    for start in range(0, len(files), size):
        images = [np.asarray(Image.open(f).convert("RGB")) for f in files[start : start + size]]
        yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def peers(real: Path, fake: Path) -> tuple[int, int, dict[str, float]]:
    """Decodes, forwards and values of a pass a metric."""
    from prdc import compute_prdc
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    feature = AsFeature()
    n = len(list(real.iterdir()))
    fid = FrechetInceptionDistance(feature=feature).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=feature, subsets=100, subset_size=min(1000, n))
    decodes = 0
    for metric in (fid, kid):
        for folder, is_real in ((real, True), (fake, False)):
            for batch in batches(folder):
                metric.update(batch, real=is_real)
                decodes += len(batch)
    rows = [torch.cat([feature(b) for b in batches(folder)]).numpy() for folder in (real, fake)]
    decodes += 2 * n
    found = {k: float(v) for k, v in compute_prdc(*rows, nearest_k=5).items()}
    return decodes, feature.forwards, {"fid": float(fid.compute()), "kid": float(kid.compute()[0]), **found}


Route = Callable[[Path, Path], tuple[int, int, dict[str, float]]]


def timed(route: Route, real: Path, fake: Path) -> tuple[float, Any]:
    """Seconds of a route, and what it found."""
    start = time.perf_counter()
    found = route(real, fake)
    return time.perf_counter() - start, found


def main() -> None:
    """Run both routes on the same files and print the table and the values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--side", type=int, default=64)
    given = parser.parse_args()
    registry.metrics.get("fid")
    with tempfile.TemporaryDirectory() as folder:
        real, fake = Path(folder, "real"), Path(folder, "fake")
        write_images(real, given.n, given.side, 0)
        write_images(fake, given.n, given.side, 1)
        own_seconds, (own_decodes, own_forwards, own) = timed(ours, real, fake)
        peer_seconds, (peer_decodes, peer_forwards, other) = timed(peers, real, fake)
    total = 2 * given.n
    print(f"2 x {given.n} images of {given.side}x{given.side}, {torch.get_num_threads()} threads\n")
    print("| route | decodes a sample | forwards a sample | seconds |\n|---|---|---|---|")
    print(f"| evalkit (with intervals) | {own_decodes / total:g} | {own_forwards / total:g} | {own_seconds:.1f} |")
    print(f"| torchmetrics + prdc | {peer_decodes / total:g} | {peer_forwards / total:g} | {peer_seconds:.1f} |")
    print(f"\nratio {peer_seconds / own_seconds:.2f}x\n")
    print("values, evalkit:", ", ".join(f"{k} {v:.6g}" for k, v in own.items()))
    print("values, peers:  ", ", ".join(f"{k} {v:.6g}" for k, v in other.items()))


if __name__ == "__main__":
    main()
