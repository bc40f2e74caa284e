"""What the coverage study simulates: every metric with an interval of its own, each on families of known distribution.

Cases of real and fake features come first, then those of one side, of training data, of scores and of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evalkit.metrics.alignment import clip_score_estimate
from evalkit.metrics.clipped import clipped_estimates
from evalkit.metrics.cmmd import cmmd_estimates
from evalkit.metrics.copying import authentic_share, data_copying, memorization_informed_distance
from evalkit.metrics.detection import area_under_roc, average_precision_estimate, equal_error_rate, true_positive_rate
from evalkit.metrics.diversity import mean_pair_distance
from evalkit.metrics.frechet import frechet_estimate, frechet_unbiased
from evalkit.metrics.inception_score import class_estimates, inception_estimate, split_estimates
from evalkit.metrics.kernel import kernel_estimate, subset_estimates
from evalkit.metrics.likelihood import corpus_perplexity
from evalkit.metrics.memorization import memorization_estimate
from evalkit.metrics.mind import sliced_estimate
from evalkit.metrics.neighbours import neighbour_estimates
from evalkit.metrics.ngrams import distinct_share, mean_self_bleu, novel_share
from evalkit.metrics.path_length import path_length
from evalkit.metrics.realism import realism_estimate
from evalkit.metrics.two_sample import two_sample_test
from evalkit.metrics.vendi import vendi_estimate
from evalkit.types import Estimate, Moments

from .families import gaussian, likelihoods, logits, mixture, near_copies, texts

Found = Mapping[str, Estimate]
Draw = Callable[[torch.Generator], "Estimate | Found"]
TwoSided = Callable[[Tensor, Tensor], "Estimate | Found"]

N = 350


@dataclass(frozen=True)
class Case:
    """A metric on a family of samples: `draw` makes fresh samples with a generator and measures them once.

    repeats: how many intervals are looked at; fewer where a draw costs much.
    """

    metric: str
    family: str
    n: int
    d: int
    draw: Draw
    repeats: int = 400


def moved(n: int, d: int, g: torch.Generator) -> Tensor:
    return gaussian(n, d, g, shift=0.2, scale=1.1)


def decayed(n: int, d: int, g: torch.Generator) -> Tensor:
    return gaussian(n, d, g, decay=0.7)


def decayed_moved(n: int, d: int, g: torch.Generator) -> Tensor:
    return gaussian(n, d, g, shift=0.02, scale=1.1, decay=0.7)


def dropped(n: int, d: int, g: torch.Generator) -> Tensor:
    return mixture(n, d, g, modes=7)


# Name of the family, columns, real side, fake side; at n = 350 the first two have more than 4 samples a column.
FAMILIES: tuple[tuple[str, int, Callable[..., Tensor], Callable[..., Tensor]], ...] = (
    ("Gaussian, equal", 16, gaussian, gaussian),
    ("Gaussian, moved", 16, gaussian, moved),
    ("mixture, 3 of 10 modes lost", 64, mixture, dropped),
    ("Gaussian, equal", 256, gaussian, gaussian),
    ("falling spectrum, equal", 512, decayed, decayed),
    ("falling spectrum, moved", 512, decayed, decayed_moved),
)


def two_sided(metric: str, estimate: TwoSided, n: int = N, families: int = len(FAMILIES)) -> list[Case]:
    """The cases of a metric of real and fake features, on the first of the families."""

    def case(family: str, d: int, real: Callable[..., Tensor], fake: Callable[..., Tensor]) -> Case:
        repeats = 400 if d < 100 and metric != "c2st" else 200
        return Case(metric, family, n, d, lambda g: estimate(real(n, d, g), fake(n, d, g)), repeats)

    return [case(*family) for family in FAMILIES[:families]]


def distances() -> list[Case]:
    """The cases of metrics of how far two sides lie apart."""
    fixed = gaussian(5000, 16, torch.Generator().manual_seed(11))
    of_file = Moments(fixed.mean(dim=0), fixed.T.cov(), 5000)
    return [
        *two_sided("fid", frechet_estimate),
        Case("fid", "Gaussian, moved; real side a file", N, 16, lambda g: frechet_estimate(of_file, moved(N, 16, g))),
        Case(
            "fid", "Gaussian, moved; n = 20 d", 1280, 64, lambda g: frechet_estimate(*_pair(1280, 64, g)), repeats=200
        ),
        *two_sided("fid.unbiased", frechet_unbiased),
        *two_sided("kid", kernel_estimate),
        Case("kid", "Gaussian, moved; 50 subsets of 100", N, 16, _kid_of_subsets),
        *two_sided("cmmd", cmmd_estimates),
        *two_sided("mind", sliced_estimate),
    ]


def _pair(n: int, d: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    return gaussian(n, d, g), moved(n, d, g)


def _kid_of_subsets(g: torch.Generator) -> Estimate:
    return subset_estimates(*_pair(N, 16, g), subsets=50, subset_size=100)[""]


def neighbours() -> list[Case]:
    """The cases of metrics of who lies near whom, and of the two-sample test."""
    return [
        *two_sided("prdc", neighbour_estimates),
        *two_sided("clipped", clipped_estimates),
        *two_sided("realism", realism_estimate),
        *two_sided("c2st", two_sample_test, n=200, families=2),
    ]


def of_one_side() -> list[Case]:
    """The cases of metrics of the generated rows alone."""

    def vendi(family: str, d: int, rows: Callable[..., Tensor], q: float = 1.0, repeats: int = 400) -> Case:
        return Case("vendi", family, N, d, lambda g: vendi_estimate(rows(N, d, g), q=q), repeats)

    def prompted(g: torch.Generator) -> Estimate:
        prompts = gaussian(N, 64, g)
        return clip_score_estimate(0.3 * prompts + gaussian(N, 64, g), prompts)

    def steps(g: torch.Generator) -> Estimate:
        return path_length(gaussian(1000, 1, g)[:, 0].exp() * 1e-8)

    return [
        vendi("Gaussian", 16, gaussian),
        vendi("Gaussian, order 2", 16, gaussian, q=2.0),
        vendi("Gaussian, order 0.5", 16, gaussian, q=0.5),
        vendi("mixture, 7 modes", 64, dropped),
        vendi("Gaussian", 256, gaussian, repeats=200),
        vendi("falling spectrum", 512, decayed, repeats=200),
        Case("vendi", "Gaussian, rbf", N, 16, lambda g: vendi_estimate(gaussian(N, 16, g), kernel="rbf"), 200),
        Case("lpips_diversity", "Gaussian", N, 16, lambda g: mean_pair_distance(gaussian(N, 16, g))),
        Case("lpips_diversity", "mixture, 7 modes", N, 64, lambda g: mean_pair_distance(dropped(N, 64, g))),
        Case("inception_score", "ten unequal classes", N, 10, lambda g: inception_estimate(logits(N, g))),
        Case("inception_score", "10 splits, torch-fidelity", N, 10, _score_of_splits),
        Case("classes", "ten unequal classes", N, 10, lambda g: class_estimates(logits(N, g))),
        Case("clip_score", "prompts followed in part", N, 64, prompted),
        Case("ppl", "log-normal steps, 1 % cut", 1000, 1, steps),
        Case("perplexity", "unequal lengths", N, 3, lambda g: corpus_perplexity(likelihoods(N, g))),
    ]


def _score_of_splits(g: torch.Generator) -> Estimate:
    return split_estimates(logits(N, g), dialect="torch_fidelity")[""]


def of_training_data() -> list[Case]:
    """The cases of metrics that look for copies; the training rows are the same in every draw."""
    train = gaussian(1000, 16, torch.Generator().manual_seed(3))

    def copies(g: torch.Generator, noise: float) -> Tensor:
        return near_copies(N, 16, g, train, noise)

    def memorized(g: torch.Generator) -> Estimate:
        return memorization_estimate(gaussian(N, 16, g), copies(g, 0.7), train)

    def copying(g: torch.Generator) -> Estimate:
        return data_copying(gaussian(N, 16, g), copies(g, 0.7), train)

    def penalised(noise: float) -> Draw:
        return lambda g: memorization_informed_distance(gaussian(N, 16, g), copies(g, noise), train)

    return [
        Case("memorization", "near copies", N, 16, memorized),
        Case("authenticity", "near copies", N, 16, lambda g: authentic_share(copies(g, 0.7), train)),
        Case("authenticity", "fresh samples", N, 16, lambda g: authentic_share(gaussian(N, 16, g), train)),
        Case("ct", "near copies", N, 16, copying, repeats=200),
        Case("mifid", "copies, penalised", N, 16, penalised(0.2)),
        Case("mifid", "near copies, not penalised", N, 16, penalised(0.9)),
    ]


def of_scores_and_texts() -> list[Case]:
    """The cases of metrics of a detector's scores and of n-grams."""

    def judged(estimate: Callable[[Tensor, Tensor], Estimate], shift: float) -> Draw:
        return lambda g: estimate(torch.randn(N, generator=g), torch.randn(N, generator=g) + shift)

    known = texts(500, torch.Generator().manual_seed(5))
    scores = [
        Case(name, f"scores {shift} apart", N, 1, judged(estimate, shift))
        for shift in (0.0, 1.0, 3.0)
        for name, estimate in (
            ("auroc", area_under_roc),
            ("average_precision", average_precision_estimate),
            ("eer", equal_error_rate),
            ("tpr_at_fpr", true_positive_rate),
        )
    ]
    return [
        *scores,
        Case("distinct", "Zipf words", 150, 2, lambda g: distinct_share(texts(150, g))),
        Case("self_bleu", "Zipf words", 150, 4, lambda g: mean_self_bleu(texts(150, g), n=4), repeats=200),
        Case("novelty", "Zipf words", 150, 2, lambda g: novel_share(known, texts(150, g), n=2)),
    ]


def all_cases() -> list[Case]:
    """Everything, in the order of the table."""
    return [*distances(), *neighbours(), *of_one_side(), *of_training_data(), *of_scores_and_texts()]
