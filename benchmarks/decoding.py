"""How much a key-value cache saves the language model `lm`, and where the time of drawing texts goes.

    python -m benchmarks.decoding [--length 256] [--texts 8]

Draws `texts` texts of exactly `length` tokens from a network of the default size with fresh weights: speed does not
depend on what was learnt. Once with the cache, once with the whole text through the network again for every token; both
with the same sampling. Prints tokens a second of each and their ratio, checks that both drew the same tokens, and then
what the network, the sampling and the rest cost in a draw as users make it. Exits with 1 when the ratio is below 5.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from generators import _causal
from generators._bpe import END, Bpe
from generators.lm import Lm, Transformer, choose

LEAST_RATIO = 5.0


def fresh(length: int) -> Lm:
    """A default `lm` that has learnt nothing, with as many tokens as the default allows and no way to end a text."""
    lm = Lm(context=max(16, length))
    characters = [chr(0x4E00 + i) for i in range(int(lm.settings["vocabulary"]) - 1)]
    torch.manual_seed(0)
    lm._bpe, lm._longest = Bpe(characters, []), length
    lm._net = Unending(lm._build(len(lm._bpe))).eval()
    lm._trained_on = "nothing"
    return lm


class Unending(Transformer):
    """A transformer that never ends a text, so that every text has the length asked for."""

    def __init__(self, like: Transformer) -> None:
        torch.nn.Module.__init__(self)
        for name, module in like.named_children():
            self.add_module(name, module)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        logits, state = super().forward(tokens, state)
        logits[..., END] = -1e9
        return logits, state


def decode(net: Transformer, texts: int, length: int, cached: bool) -> tuple[float, Tensor]:
    """Seconds to draw tokens [texts, length], and the tokens."""
    rng, tokens, state = torch.Generator().manual_seed(0), torch.full((texts, 1), END), None
    start = time.perf_counter()
    with torch.inference_mode():
        for _ in range(length):
            logits, state = net(tokens[:, -1:], state) if cached else net(tokens)
            tokens = torch.cat([tokens, choose(logits[:, -1], 1.0, 0, 0.95, rng)[:, None]], 1)
    return time.perf_counter() - start, tokens


def timed(spent: dict[str, float], name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    """`act`, adding its seconds to `spent[name]`."""

    def run(*given: Any) -> Any:
        start = time.perf_counter()
        result = act(*given)
        spent[name] += time.perf_counter() - start
        return result

    return run


def profile(lm: Lm, n: int) -> dict[str, float]:
    """Share of the time of `sample(n)` in the network, in sampling, and in everything else."""
    spent, net_forward, real_choose = {"network": 0.0, "sampling": 0.0}, lm._net.forward, _causal.choose
    lm._net.forward = timed(spent, "network", net_forward)  # type: ignore[method-assign]
    _causal.choose = timed(spent, "sampling", real_choose)
    start = time.perf_counter()
    try:
        list(lm.sample(n, 0))
    finally:
        lm._net.forward = net_forward  # type: ignore[method-assign]
        _causal.choose = real_choose
    total = time.perf_counter() - start
    return {**{k: v / total for k, v in spent.items()}, "the rest": 1 - sum(spent.values()) / total}


def main() -> None:
    """Measure, print, and fail when the cache does not pay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--texts", type=int, default=8)
    given = parser.parse_args()
    lm = fresh(given.length)
    decode(lm._net, given.texts, 8, cached=True)  # warm up
    with_cache, tokens = decode(lm._net, given.texts, given.length, cached=True)
    without, again = decode(lm._net, given.texts, given.length, cached=False)
    n, ratio = given.texts * given.length, without / with_cache
    print(f"{given.texts} texts of {given.length} tokens, {torch.get_num_threads()} threads\n")
    print("| route | seconds | tokens a second |\n|---|---|---|")
    print(f"| with the cache | {with_cache:.2f} | {n / with_cache:.0f} |")
    print(f"| without | {without:.2f} | {n / without:.0f} |")
    print(f"\nratio {ratio:.1f}x; same tokens: {torch.equal(tokens, again)}\n")
    print("64 texts:", ", ".join(f"{share:.0%} {name}" for name, share in profile(lm, 64).items()))
    sys.exit(ratio < LEAST_RATIO)


if __name__ == "__main__":
    main()
