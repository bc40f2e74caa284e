"""What each backend makes of one core: images per CPU second of Inception, and how far its features lie from eager's.

    OMP_NUM_THREADS=1 python -m benchmarks.backends [--batch 16] [--rounds 3]

Every route has the same random weights and sees the same images; the eager route is torch-fidelity's network, as it
and the other torch peers run it. The routes take turns, so that a busy moment hits all, and the median round counts.
Seconds are those of the process, which stay comparable where others use the machine too. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from evalkit.extractors._backends import BACKENDS, apart
from evalkit.extractors._inception_net import SIDE, InceptionNet, network

from ._peer_networks import Job, fidelity_network, module, through_blocks

Route = Callable[[Tensor], Tensor]


def eager() -> Route:
    """torch-fidelity's network from the resized images to the 2048 features, NCHW, batch norm as a step of its own."""
    with tempfile.TemporaryDirectory() as folder:
        here, path = Path(folder), Path(folder, "port.pth")
        torch.save(module("tests.inceptions").random_port(), path)
        peer = fidelity_network(Job(here, here, path), ["2048"])
    return partial(through_blocks, peer)


def folded(net: InceptionNet, *, rounded: bool = False) -> Route:
    """Our network in torch, channels last; rounded: in bfloat16 by autocast."""

    def run(images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rounded):
            rows: Tensor = net(images)
        return rows.float()

    return run


Found = TypeVar("Found")


def timed(work: Callable[[], Found]) -> tuple[float, Found]:
    """CPU seconds of the process, all its threads together, and what came of it."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


@torch.no_grad()
def main() -> None:
    """Measure the routes in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    inputs = module("tests.inceptions")
    photographs = [torch.from_numpy(p).permute(2, 0, 1) for p in inputs.photographs(given.batch, SIDE, SIDE)]
    images = (torch.stack(photographs).float() - 128) / 128
    net = network(inputs.random_port(), "pool3")
    makers: dict[str, Callable[[], Route]] = {
        "eager, NCHW (torch-fidelity's network)": eager,
        "torch: batch norm folded, channels last": lambda: folded(net),
        "torch, bf16 autocast": lambda: folded(net, rounded=True),
    }
    for name, backend in BACKENDS.items():
        makers[name] = partial(backend.make, net, images)
    ready, routes = {}, {}
    for name, make in makers.items():
        ready[name], routes[name] = timed(make)
    rows: dict[str, Tensor] = {name: route(images)[:, :2048] for name, route in routes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    for _ in range(given.rounds):
        for name, route in routes.items():
            seconds[name].append(timed(partial(route, images))[0])
    base, *_ = routes
    print("| route | images / CPU s | times eager, median (range) | largest relative difference | CPU s to make |")
    print("|---|---|---|---|---|")
    for name in routes:
        speed = given.batch / statistics.median(seconds[name])
        ratios = [slow / own for slow, own in zip(seconds[base], seconds[name], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if name != base else "1"
        difference = f"{apart(rows[name], rows[base]):.1e}" if name != base else "0"
        made = f"{ready[name]:.1f}" if name in BACKENDS else ""
        print(f"| {name} | {speed:.2f} | {ratio} | {difference} | {made} |")


if __name__ == "__main__":
    main()
