"""Per-token statistics of mixed lengths: tokens a second against the plain padded loop, and memory against vocabulary.

    OMP_NUM_THREADS=2 python -m benchmarks.token_statistics

The plain loop is what a short script does: one batch padded to its longest text, full logits in float32, log_softmax,
then log-probability, rank, entropy and variance of every place. Both sides read the same GPT-2 with first weights from
transformers, and the same tokens; a row of the table stands only where their values agree. Memory is the largest growth
of the resident size of a process of its own, above what the model takes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from evalkit.errors import RunFailed
from evalkit.extractors.causal.hub import HubNetwork
from evalkit.extractors.causal.reading import read
from evalkit.extractors.causal.windows import rolling

LENGTHS = (24, 40, 56, 72, 96, 128, 160, 512)
TEXTS = 8
WIDTH, LAYERS, CONTEXT = 128, 2, 512
VOCABULARIES = (8192, 32_768, 131_072)
ROUNDS = 2
AGREEMENT = 1e-5


def model(vocabulary: int) -> HubNetwork:
    """A GPT-2 of two layers with first weights."""
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=CONTEXT, initializer_range=0.1
    )
    return HubNetwork(transformers.GPT2LMHeadModel(config), CONTEXT)


def texts(vocabulary: int, count: int) -> list[Tensor]:
    """Token numbers of `count` texts of mixed lengths, a prefix included."""
    g = torch.Generator().manual_seed(1)
    return [torch.randint(0, vocabulary, (1 + LENGTHS[i % len(LENGTHS)],), generator=g) for i in range(count)]


@torch.no_grad()
def plain(network: HubNetwork, given: list[Tensor]) -> list[Tensor]:
    """Statistics [4, T] of each text, the plain way."""
    longest = max(map(len, given)) - 1
    tokens = torch.zeros(len(given), longest, dtype=torch.int64)
    targets, mask = tokens.clone(), tokens.clone()
    for i, text in enumerate(given):
        tokens[i, : len(text) - 1], targets[i, : len(text) - 1], mask[i, : len(text) - 1] = text[:-1], text[1:], 1
    log_p = network._model(input_ids=tokens, attention_mask=mask, use_cache=False).logits.log_softmax(-1)
    own = log_p.gather(-1, targets[..., None])
    rank = 1 + (log_p > own).sum(-1)
    p = log_p.exp()
    mu = (p * log_p).sum(-1)
    variance = (p * log_p.square()).sum(-1) - mu.square()
    found = torch.stack([own[..., 0], rank.float(), -mu, variance])
    return [found[:, i, : len(text) - 1] for i, text in enumerate(given)]


def ours(network: HubNetwork, given: list[Tensor]) -> list[Tensor]:
    """Statistics [4, T] of each text, as the instruments read them."""
    found = read(network, given, [rolling(len(text), CONTEXT) for text in given])
    return [torch.stack([s.log_p, s.rank, s.entropy, s.variance]) for s in found]


def apart(found: list[Tensor], expected: list[Tensor]) -> tuple[float, int]:
    """Largest relative difference of the sums over a text, and how many ranks differ, by rounding of near ties."""
    pairs = [(a.double(), b.double()) for a, b in zip(found, expected, strict=True)]
    sums = [float(((a.sum(1) - b.sum(1)).abs() / b.sum(1).abs().clamp_min(1e-9)).max()) for a, b in pairs]
    return max(sums), sum(int((a[1] != b[1]).sum()) for a, b in pairs)


def seconds(run: Callable[[], object]) -> float:
    """The fastest of some rounds, after one that is not counted."""
    run()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def grown(vocabulary: int, name: str) -> int:
    """Megabytes by which one call raises the peak of this process above the model's."""
    network, given = model(vocabulary), texts(vocabulary, TEXTS)
    {"plain": plain, "ours": ours}[name](network, given[:1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    {"plain": plain, "ours": ours}[name](network, given)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def memory(vocabulary: int, name: str) -> str:
    """`grown` in a process of its own; how it ended where the machine has too little memory."""
    command = [sys.executable, "-m", "benchmarks.token_statistics", "--memory", str(vocabulary), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{done.stdout.split()[-1]} MB" if done.returncode == 0 else "not enough memory"


HEADS = ("vocabulary", "threads", "plain, tokens/s", "ours, tokens/s", "ratio", "sums apart", "ranks apart")


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--memory"]:
        print(grown(int(sys.argv[2]), sys.argv[3]))
        return
    threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    torch.set_num_threads(threads)
    print("| " + " | ".join((*HEADS, "memory: plain", "ours")) + " |")
    print("|---|---|---|---|---|---|---|---|---|")
    for vocabulary in VOCABULARIES:
        network, given = model(vocabulary), texts(vocabulary, TEXTS)
        # The plain loop would ask for ten gigabytes at the largest vocabulary.
        small = vocabulary < VOCABULARIES[-1]
        cells = [f"{vocabulary:,}", str(threads)]
        cells += timed(network, given) if small else [""] * 5
        cells += (
            [memory(vocabulary, "plain") if small else "", memory(vocabulary, "ours")] if threads == 1 else ["", ""]
        )
        print("| " + " | ".join(cells) + " |", flush=True)


def timed(network: HubNetwork, given: list[Tensor]) -> list[str]:
    """Both rates, their ratio and how far the values are apart."""
    tokens = sum(len(text) - 1 for text in given)
    difference, ranks = apart(ours(network, given), plain(network, given))
    if difference > AGREEMENT:
        raise RunFailed(f"the values differ by {difference:.1e}")
    slow, fast = (tokens / seconds(partial(run, network, given)) for run in (plain, ours))
    rates = [f"{slow:,.0f}", f"{fast:,.0f}", f"{fast / slow:.1f}"]
    return [*rates, f"{difference:.0e}", f"{ranks} of {tokens}"]


if __name__ == "__main__":
    main()
