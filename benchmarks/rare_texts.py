"""Do intervals hold where few texts make the number, or none? Rare copies, rare n-grams, sides that never meet.

Each row draws n texts of which a share p is of another kind, and counts how often two intervals hold the number's
expected value at that n: even ends (Student's t of the jackknife or the standard error, cut to the range), whose width
is zero where no text is of the other kind; and the metric's own. Prints a Markdown table, under 93 % in bold:
`python -m benchmarks.rare_texts [--repeats 1000]`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from evalkit.metrics.copied import copied_share, mean_longest
from evalkit.metrics.mauve import area_of_frontier, estimate_of
from evalkit.metrics.references import corpus_bleu, mean_rouge
from evalkit.metrics.toxicity import mean_score
from evalkit.types import Estimate

HEAD = (
    "| number | p | n | expected value | draws without spread % | even ends hold it % | reported ends hold it % "
    "| below, above % | mean width: even, reported |"
)
LEAST = 93.0
ORDINARY = 400


@dataclass(frozen=True)
class Case:
    """A number of n texts of which a share p is of another kind; `draw` measures one set of them."""

    name: str
    p: float
    n: int
    draw: Callable[[torch.Generator, float, int], Estimate]
    repeats: int = 1000
    low: float = 0.0
    high: float = 1.0


def _lengths(g: torch.Generator, p: float, n: int) -> list[Tensor]:
    """Match lengths of texts of 20 to 60 words; a copier's text is verbatim from a place in its first half on."""
    found = []
    for size, is_copy in zip(torch.randint(20, 61, (n,), generator=g).tolist(), _rare(g, p, n), strict=True):
        own = torch.ones(size, dtype=torch.int64)
        if is_copy:
            start = int(torch.randint(size // 2, (1,), generator=g))
            own[start:] = torch.arange(size - start, 0, -1)
        found.append(own)
    return found


def _rare(g: torch.Generator, p: float, n: int) -> list[bool]:
    is_rare: list[bool] = (torch.rand(n, generator=g) < p).tolist()
    return is_rare


def _bleu(g: torch.Generator, p: float, n: int) -> Estimate:
    """Texts that share two words in a row with their reference, and with probability p four."""
    texts, references = [], []
    for i, is_rare in enumerate(_rare(g, p, n)):
        shared = [f"s{w}" for w in torch.randint(50, (4 if is_rare else 2,), generator=g).tolist()]
        texts.append(" ".join([*shared, *(f"a{i}.{j}" for j in range(8))]))
        references.append([" ".join([*shared, *(f"b{i}.{j}" for j in range(8))])])
    return corpus_bleu(texts, references)


def _rouge(g: torch.Generator, p: float, n: int) -> Estimate:
    """Texts that share nothing with their reference, and with probability p all."""
    rare = _rare(g, p, n)
    return mean_rouge(["a b c"] * n, [["a b c" if is_rare else "x y z"] for is_rare in rare], "1")


def _toxic(g: torch.Generator, p: float, n: int) -> Estimate:
    """Probabilities of 0, and with probability p one between 0.5 and 1."""
    return mean_score(torch.tensor(_rare(g, p, n)).double() * (0.5 + torch.rand(n, generator=g).double() / 2))


def _mauve(g: torch.Generator, p: float, n: int) -> Estimate:
    """Two buckets, one of either side, where a share p of either lies in the other's."""
    real, fake = (torch.tensor(_rare(g, p, n)).long() for _ in range(2))
    return estimate_of([(real, 1 - fake)], area_of_frontier)


CASES = (
    *(
        Case("copied.5", p, n, lambda g, p, n: copied_share(_lengths(g, p, n), 5))
        for n, p in ((200, 0.001), (200, 0.005), (200, 0.015), (200, 0.05), (200, 0.5), (50, 0.001), (50, 0.02))
    ),
    *(
        Case("longest_copy", p, 200, lambda g, p, n: mean_longest(_lengths(g, p, n)), high=61.0)
        for p in (0.001, 0.005, 0.015, 0.05)
    ),
    *(Case("bleu", p, 100, _bleu, ORDINARY) for p in (0.002, 0.01, 0.05)),
    *(Case("rouge.1", p, 200, _rouge, ORDINARY) for p in (0.001, 0.015, 0.05)),
    *(Case("toxicity", p, 200, _toxic) for p in (0.001, 0.015, 0.05)),
    *(Case("mauve, sides apart", p, 100, _mauve) for p in (0.001, 0.01, 0.05)),
)


def even(found: Estimate, case: Case) -> tuple[float, float]:
    """Student's ends around the value from how far the texts move it, cut to the range."""
    moves = found.moves or {}
    error = math.sqrt(sum(float(moved.square().sum()) for moved in moves.values()))
    reach = error * float(stats.t.ppf(0.975, case.n - 1))
    return max(case.low, found.value - reach), min(case.high, found.value + reach)


def row(case: Case, repeats: int) -> str:
    found = [case.draw(torch.Generator().manual_seed(1_000_000 + i), case.p, case.n) for i in range(repeats)]
    fresh = [case.draw(torch.Generator().manual_seed(2_000_000 + i), case.p, case.n).value for i in range(repeats)]
    truth = math.fsum(fresh) / repeats
    ends = [even(estimate, case) for estimate in found]
    # Equal terms leave the rounding of their mean.
    still = sum(high - low < 1e-9 for low, high in ends)
    before = 100 * sum(low <= truth <= high for low, high in ends) / repeats
    below = 100 * sum(e.high < truth for e in found) / repeats
    above = 100 * sum(e.low > truth for e in found) / repeats
    widths = [math.fsum(b - a for a, b in own) / repeats for own in (ends, [(e.low, e.high) for e in found])]
    shares = [f"{share:.1f}" if share >= LEAST else f"**{share:.1f}**" for share in (before, 100 - below - above)]
    return (
        f"| {case.name} | {case.p} | {case.n} | {truth:.4g} | {100 * still / repeats:.1f} | {' | '.join(shares)} "
        f"| {below:.1f}, {above:.1f} | {widths[0]:.3g}, {widths[1]:.3g} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="at most; numbers that cost more take 400")
    parser.add_argument("--only", nargs="*", default=None, help="names of numbers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    print(HEAD)
    print("|---" * (HEAD.count("|") - 1) + "|")
    for case in (one for one in CASES if given.only is None or one.name in given.only):
        print(row(case, min(given.repeats, case.repeats)), flush=True)
    print(f"\n{given.repeats} repetitions or fewer, one thread, {(time.process_time() - start) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
