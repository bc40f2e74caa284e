"""What the study of differences simulates: two subjects against one shared sample, of families of known distribution.

Generated samples carry the same names in both subjects unless a row says otherwise: 00000.png is in every folder. In
most rows these samples are independent all the same, and the names may do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from evalkit.metrics.alignment import clip_score_estimate
from evalkit.metrics.detection import area_under_roc, equal_error_rate
from evalkit.metrics.frechet import frechet_distance, frechet_estimate
from evalkit.metrics.kernel import kernel_distance, kernel_estimate
from evalkit.metrics.likelihood import corpus_perplexity
from evalkit.metrics.mind import sliced_distance, sliced_estimate
from evalkit.metrics.neighbours import neighbour_estimates, precision_recall_density_coverage
from evalkit.types import Estimate

from .families import gaussian, likelihoods, mixture

Found = Mapping[str, Estimate]
Pair = Callable[[torch.Generator], "tuple[Found, Found]"]
Rows = Callable[[int, int, torch.Generator], "tuple[Tensor, Tensor, Tensor]"]

N = 350
# How much of their noise two checkpoints share that start from the same seeds.
SHARED = 0.8


@dataclass(frozen=True)
class Case:
    """Two subjects measured once with fresh samples by `draw`, {part: estimate} each.

    values: the same without intervals, {part: value}, where that costs less. equal: both have one distribution, and the
    true difference is 0. named_alike: whether generated samples at one place have one name. repeats: how many draws are
    looked at; fewer where one costs much.
    """

    metric: str
    family: str
    n: int
    d: int
    draw: Pair
    values: Callable[[torch.Generator], tuple[Mapping[str, float], Mapping[str, float]]] | None = None
    equal: bool = False
    named_alike: bool = True
    repeats: int = 400


def place(shift: float, scale: float) -> Callable[[int, int, torch.Generator], Tensor]:
    return lambda n, d, g: gaussian(n, d, g, shift=shift, scale=scale)


def apart(a: Callable[..., Tensor], b: Callable[..., Tensor], real: Callable[..., Tensor] = gaussian) -> Rows:
    """The real sample, and a sample of each subject."""
    return lambda n, d, g: (real(n, d, g), a(n, d, g), b(n, d, g))


def checkpoints(n: int, d: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Two checkpoints of one generator, sampled from the same seeds."""
    real, one, other = gaussian(n, d, g), gaussian(n, d, g), gaussian(n, d, g)
    return real, 0.2 + 1.1 * one, 0.25 + 1.12 * (SHARED * one + (1 - SHARED**2) ** 0.5 * other)


def modes(count: int) -> Callable[[int, int, torch.Generator], Tensor]:
    return lambda n, d, g: mixture(n, d, g, modes=count)


MOVED = place(0.2, 1.1)
# Name of the family, n, columns, samples, whether both subjects have one distribution, whether samples are named alike.
FAMILIES: tuple[tuple[str, int, int, Rows, bool, bool], ...] = (
    ("equal subjects", N, 16, apart(MOVED, MOVED), True, True),
    ("equal subjects, other names", N, 16, apart(MOVED, MOVED), True, False),
    ("both as the real ones", N, 16, apart(gaussian, gaussian), True, True),
    ("slightly different", N, 16, apart(MOVED, place(0.25, 1.12)), False, True),
    ("slightly different", 1000, 16, apart(MOVED, place(0.25, 1.12)), False, True),
    ("one clearly worse", N, 16, apart(place(0.1, 1.0), place(0.6, 1.3)), False, True),
    ("spread 0.7 and 1.4", N, 16, apart(place(0.2, 0.7), place(0.2, 1.4)), False, True),
    ("mixture, 8 and 7 of 10 modes", N, 64, apart(modes(8), modes(7), mixture), False, True),
    ("two checkpoints, same seeds", N, 16, checkpoints, False, True),
)
# Those that cost much are looked at on fewer families.
FEW = ("equal subjects", "slightly different", "two checkpoints, same seeds")


def of_rows(
    metric: str,
    estimate: Callable[[Tensor, Tensor], Estimate | Found],
    value: Callable[[Tensor, Tensor], float | Mapping[str, float]],
    repeats: int = 400,
    families: tuple[str, ...] = (),
) -> list[Case]:
    """The cases of a metric of real and generated features; `value` is the metric without an interval."""

    def case(name: str, n: int, d: int, rows: Rows, equal: bool, alike: bool) -> Case:
        def draw(g: torch.Generator) -> tuple[Found, Found]:
            real, a, b = rows(n, d, g)
            return parts(estimate(real, a)), parts(estimate(real, b))

        def values(g: torch.Generator) -> tuple[Mapping[str, float], Mapping[str, float]]:
            real, *both = rows(n, d, g)
            one, other = (value(real, x) for x in both)
            return (one if isinstance(one, Mapping) else {"": one}), (
                other if isinstance(other, Mapping) else {"": other}
            )

        return Case(metric, name, n, d, draw, values, equal, alike, repeats)

    return [case(*family) for family in FAMILIES if not families or (family[0] in families and family[1] == N)]


def parts(found: Estimate | Found) -> Found:
    return {"": found} if isinstance(found, Estimate) else found


def of_scores(metric: str, estimate: Callable[[Tensor, Tensor], Estimate]) -> list[Case]:
    """The cases of a detector's scores: the real samples are shared, and with one detector so are their scores."""

    def pair(one: float, other: float, same_real: float, same_fake: float) -> Pair:
        def draw(g: torch.Generator) -> tuple[Found, Found]:
            real, second, a, b = torch.randn(4, N, generator=g)
            b = same_fake * a + (1 - same_fake**2) ** 0.5 * b
            second = same_real * real + (1 - same_real**2) ** 0.5 * second
            return parts(estimate(real, a + one)), parts(estimate(second, b + other))

        return draw

    return [
        Case(metric, "equal subjects", N, 1, pair(1, 1, 1, 0), equal=True),
        Case(metric, "slightly different", N, 1, pair(1, 1.2, 1, 0)),
        Case(metric, "one clearly worse", N, 1, pair(0.5, 2.5, 1, 0)),
        Case(metric, "two checkpoints, same seeds", N, 1, pair(1, 1.2, 1, SHARED)),
        Case(metric, "two detectors of one subject", N, 1, pair(1, 1, SHARED, SHARED), equal=True),
    ]


def of_texts() -> list[Case]:
    """The cases of perplexity: generated texts only, continued from the same prompts or not."""

    def pair(factor: float, shared: float) -> Pair:
        def draw(g: torch.Generator) -> tuple[Found, Found]:
            a, b = likelihoods(N, g), likelihoods(N, g)
            if shared:
                rate = shared * (a[:, 0] / a[:, 1] - 1.5) + (1 - shared**2) ** 0.5 * (b[:, 0] / b[:, 1] - 1.5) + 1.5
                b = torch.stack([rate * a[:, 1], a[:, 1], a[:, 2]], dim=1)
            b = b * torch.tensor([factor, 1, 1], dtype=b.dtype)
            return parts(corpus_perplexity(a)), parts(corpus_perplexity(b))

        return draw

    return [
        Case("perplexity", "equal subjects", N, 3, pair(1, 0), equal=True),
        Case("perplexity", "slightly different", N, 3, pair(1.02, 0)),
        Case("perplexity", "one clearly worse", N, 3, pair(1.5, 0)),
        Case("perplexity", "same prompts", N, 3, pair(1.02, SHARED)),
    ]


def of_prompts() -> list[Case]:
    """The cases of CLIPScore: both subjects get the same prompts, some of which are harder than others."""

    def pair(one: float, other: float) -> Pair:
        def draw(g: torch.Generator) -> tuple[Found, Found]:
            prompts, ease = gaussian(N, 64, g), 1 + 0.5 * torch.randn(N, 1, generator=g, dtype=torch.float64)
            a, b = (strength * ease * prompts + gaussian(N, 64, g) for strength in (one, other))
            return parts(clip_score_estimate(a, prompts)), parts(clip_score_estimate(b, prompts))

        return draw

    return [
        Case("clip_score", "equal subjects, same prompts", N, 64, pair(0.3, 0.3), equal=True),
        Case("clip_score", "slightly different, same prompts", N, 64, pair(0.3, 0.32)),
        Case("clip_score", "one clearly worse, same prompts", N, 64, pair(0.5, 0.1)),
    ]


def all_cases() -> list[Case]:
    """Everything, in the order of the table."""
    return [
        *of_rows("fid", frechet_estimate, frechet_distance, 300),
        *of_rows("kid", kernel_estimate, kernel_distance),
        *of_rows("prdc", neighbour_estimates, precision_recall_density_coverage, 250),
        *of_rows("mind", partial(sliced_estimate, directions=200), partial(sliced_distance, directions=200), 250, FEW),
        *of_scores("auroc", area_under_roc),
        *of_scores("eer", equal_error_rate)[1:4],
        *of_texts(),
        *of_prompts(),
    ]
