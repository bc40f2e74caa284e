"""Where sampling time goes: the share of a batch that each generator's network takes, and the share of everything else.

    python -m benchmarks.sampling

Models are found in the cache, or trained with their defaults on the embedded digits. One thread, batches of 64, the
median of five.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

import evalkit
from evalkit.cache import Cache, default_root
from evalkit.generation import trained

NAMES = (
    "vanilla_gan", "gan", "wgan_gp", "dcgan", "stylegan", "cyclegan", "vae", "diffusion", "flow_matching",
    "latent_diffusion", "text_to_image", "realnvp", "pixelcnn", "pixelrnn",
)  # fmt: skip


class Clock:
    """Seconds inside the calls of a network, nested calls counted once."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.seconds, self.calls, self._depth, self._start = 0.0, 0, 0, 0.0
        for module in network.modules():
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def _enter(self, *_: Any) -> None:
        if self._depth == 0:
            self._start = time.perf_counter()
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._start
            self.calls += 1


def measured(generator: Any) -> tuple[float, float, int]:
    """Milliseconds of a batch of 64, the share of its network, and how often that is entered."""
    list(generator.sample(64, 0))
    plain = []
    for seed in range(5):
        start = time.perf_counter()
        list(generator.sample(64, seed))
        plain.append(time.perf_counter() - start)
    # The hooks cost time of their own: shares come from a run with them, milliseconds from runs without.
    clock = Clock(generator._net)
    start = time.perf_counter()
    list(generator.sample(64, 0))
    whole = time.perf_counter() - start
    return 1000 * statistics.median(plain), clock.seconds / whole, clock.calls


def main() -> None:
    """Measure each and print a Markdown table."""
    torch.set_num_threads(1)
    bench = evalkit.Bench(cache=Cache(default_root()))
    digits = evalkit.open_samples("embedded:digits/train")
    print("| generator | ms for 64 samples | network | everything else | calls |")
    print("|---|---|---|---|---|")
    for name in NAMES:
        milliseconds, share, calls = measured(trained(name, digits, seed=0, bench=bench))
        print(f"| {name} | {milliseconds:.3g} | {share:.0%} | {1 - share:.0%} | {calls} |", flush=True)


if __name__ == "__main__":
    main()
