"""Do the error bars hold? Simulates samples of known families and counts how often a 95 % interval holds the truth.

The truth is the statistic's expected value at the same n, estimated from these and further draws. Prints a
Markdown table: `python -m benchmarks.coverage [--repeats 200] [--only NAME ...]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evalkit.metrics.detection import area_under_roc, average_precision_estimate, equal_error_rate, true_positive_rate
from evalkit.metrics.frechet import frechet_estimate
from evalkit.metrics.inception_score import class_estimates, inception_estimate
from evalkit.metrics.kernel import kernel_estimate
from evalkit.metrics.likelihood import corpus_perplexity
from evalkit.metrics.memorization import memorization_estimate
from evalkit.metrics.neighbours import neighbour_estimates
from evalkit.metrics.ngrams import distinct_share, mean_self_bleu, novel_share
from evalkit.metrics.two_sample import two_sample_test
from evalkit.types import Estimate

Found = Mapping[str, Estimate]


@dataclass(frozen=True)
class Case:
    """A metric on a family of samples: `draw` makes fresh samples with a generator and measures them once."""

    metric: str
    family: str
    n: int
    d: int
    draw: Callable[[torch.Generator], Found]


def gaussian(n: int, d: int, g: torch.Generator, shift: float = 0.0, scale: float = 1.0, decay: float = 0.0) -> Tensor:
    """Rows [n, d] of independent columns; the spread of column i falls as (i + 1) ** -decay."""
    spread = torch.arange(1, d + 1, dtype=torch.float64) ** -decay
    return shift + scale * spread * torch.randn(n, d, generator=g, dtype=torch.float64)


def mixture(n: int, d: int, g: torch.Generator, modes: int = 10) -> Tensor:
    """Rows [n, d] around the first `modes` of ten fixed centres, as features of ten classes."""
    centres = 2 * torch.randn(10, d, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return centres[torch.randint(modes, (n,), generator=g)] + gaussian(n, d, g)


def texts(n: int, g: torch.Generator, power: float = 1.0) -> list[str]:
    """Texts of 20 to 60 words whose frequencies fall as rank ** -power in a vocabulary of 300."""
    weights = torch.arange(1, 301, dtype=torch.float64) ** -power
    sizes = torch.randint(20, 61, (n,), generator=g).tolist()
    words = torch.multinomial(weights, sum(sizes), replacement=True, generator=g).tolist()
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [" ".join(f"w{w}" for w in words[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def two_sided(metric: str, estimate: Callable[[Tensor, Tensor], Estimate | Found], n: int = 350) -> list[Case]:
    """The cases of a metric of real and fake features."""

    def case(family: str, d: int, real: Callable[..., Tensor], fake: Callable[..., Tensor]) -> Case:
        def draw(g: torch.Generator) -> Found:
            found = estimate(real(n, d, g), fake(n, d, g))
            return {"": found} if isinstance(found, Estimate) else found

        return Case(metric, family, n, d, draw)

    def moved(n: int, d: int, g: torch.Generator) -> Tensor:
        return gaussian(n, d, g, shift=0.2, scale=1.1)

    def decayed(n: int, d: int, g: torch.Generator) -> Tensor:
        return gaussian(n, d, g, decay=0.7)

    def decayed_moved(n: int, d: int, g: torch.Generator) -> Tensor:
        return gaussian(n, d, g, shift=0.02, scale=1.1, decay=0.7)

    def dropped(n: int, d: int, g: torch.Generator) -> Tensor:
        return mixture(n, d, g, modes=7)

    return [
        case("Gaussian, equal", 16, gaussian, gaussian),
        case("Gaussian, moved", 16, gaussian, moved),
        case("mixture, 3 of 10 modes lost", 64, mixture, dropped),
        case("Gaussian, equal", 256, gaussian, gaussian),
        case("falling spectrum, equal", 512, decayed, decayed),
        case("falling spectrum, moved", 512, decayed, decayed_moved),
    ]


def one_sided() -> list[Case]:
    """The cases of metrics of logits, likelihoods, scores and texts."""
    n = 350

    def logits(g: torch.Generator) -> Tensor:
        labels = torch.multinomial(torch.arange(1.0, 11.0), n, replacement=True, generator=g)
        sure = 6 * torch.rand(n, 1, generator=g)
        return sure * torch.nn.functional.one_hot(labels, 10) + torch.randn(n, 10, generator=g)

    def likelihood(g: torch.Generator) -> Tensor:
        size = torch.randint(20, 400, (n,), generator=g).double()
        rate = 1.5 + 0.3 * torch.randn(n, generator=g, dtype=torch.float64)
        return torch.stack([size * rate.clamp_min(0.1), size, size], dim=1)

    def judged(estimate: Callable[[Tensor, Tensor], Estimate], shift: float) -> Callable[[torch.Generator], Found]:
        return lambda g: {"": estimate(torch.randn(n, generator=g), torch.randn(n, generator=g) + shift)}

    def copied(g: torch.Generator) -> Found:
        train = gaussian(1000, 16, torch.Generator().manual_seed(3))
        copies = train[torch.randint(1000, (n,), generator=g)] + 0.7 * gaussian(n, 16, g)
        return {"": memorization_estimate(gaussian(n, 16, g), copies, train)}

    known = texts(500, torch.Generator().manual_seed(5))
    scores = [
        Case(name, f"scores {shift} apart", n, 1, judged(estimate, shift))
        for shift in (0.0, 1.0, 3.0)
        for name, estimate in (
            ("auroc", area_under_roc),
            ("average_precision", average_precision_estimate),
            ("eer", equal_error_rate),
            ("tpr_at_fpr", true_positive_rate),
        )
    ]
    return [
        Case("inception_score", "ten unequal classes", n, 10, lambda g: {"": inception_estimate(logits(g))}),
        Case("classes", "ten unequal classes", n, 10, lambda g: class_estimates(logits(g))),
        Case("perplexity", "unequal lengths", n, 3, lambda g: {"": corpus_perplexity(likelihood(g))}),
        Case("memorization", "near copies", n, 16, copied),
        *scores,
        Case("distinct", "Zipf words", 150, 2, lambda g: {"": distinct_share(texts(150, g))}),
        Case("self_bleu", "Zipf words", 150, 4, lambda g: {"": mean_self_bleu(texts(150, g), n=4)}),
        Case("novelty", "Zipf words", 150, 2, lambda g: {"": novel_share(known, texts(150, g), n=2)}),
    ]


def all_cases() -> list[Case]:
    """Everything, two-sided metrics first."""
    return [
        *two_sided("fid", frechet_estimate),
        *two_sided("kid", kernel_estimate),
        *two_sided("prdc", neighbour_estimates),
        *two_sided("c2st", two_sample_test, n=200)[:2],
        *one_sided(),
    ]


def run(case: Case, repeats: int) -> list[str]:
    """Table rows of one case, one a part: intervals from `repeats` draws, the truth from these and half as many."""
    found = [case.draw(torch.Generator().manual_seed(1_000_000 + i)) for i in range(repeats)]
    fresh = [case.draw(torch.Generator().manual_seed(2_000_000 + i)) for i in range(repeats // 2)]
    rows = []
    for part in found[0]:
        estimates = [f[part] for f in found]
        values = torch.tensor([e.value for e in estimates], dtype=torch.float64)
        again = torch.tensor([f[part].value for f in fresh], dtype=torch.float64)
        # All draws together fix the truth better; a draw weighs so little in it that its interval gains nothing.
        truth = float(torch.cat([values, again]).mean())
        covered = sum(e.low <= truth <= e.high for e in estimates) / repeats
        width = sum(e.high - e.low for e in estimates) / repeats
        spread = float(torch.cat([values, again]).std())
        name = f"{case.metric}.{part}" if part else case.metric
        rows.append(
            f"| {name} | {case.family} | {case.n} | {case.d} | {estimates[0].method} | {truth:.4g} "
            f"| {100 * covered:.1f} | {width:.3g} | {spread:.3g} | {width / 3.92:.3g} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=None, help="metric names")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    print("| metric | family | n a side | d | method | truth | covered % | mean width | SD | width / 3.92 |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for case in all_cases():
        if given.only is None or case.metric in given.only:
            print("\n".join(run(case, given.repeats)), flush=True)
    print(f"\n{given.repeats} repetitions, one thread, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
