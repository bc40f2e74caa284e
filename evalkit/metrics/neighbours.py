"""Whether generated samples look like real ones and cover all of them: precision, recall, density and coverage.

A sample set is taken as the union of balls around its samples that reach to the k-th nearest neighbour. One pass over
the distances within each side finds the radii, one over those between the sides finds who lies in whose ball.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import TooFewSamples
from ..types import Estimate, Features, metric
from ._balls import Balls, Meetings, meetings
from ._distances import Cloud, clouds
from ._guards import at_least_one
from ._halves import DRAWS, Halves, listed_for, radii_in_halves, split_mean, split_share
from ._nearest import own_radii

PARTS = ("precision", "recall", "density", "coverage")


@metric(on={"image": "inception", "text": "char_ngrams"}, better="higher", unit="share", min_n=7)
def prdc(real: Features, fake: Features, *, k: int = 5, strict: bool = False) -> dict[str, Estimate]:
    """Precision, recall and coverage in [0, 1] and density >= 0 of the generated features against the real ones.

    Kynkaanniemi et al. 2019, eq. 2; Naeem et al. 2020, eq. 4 and 6. strict: a sample on the surface of a ball is
    outside it, as in the prdc package. Interval: differences between random halves of both sides.
    """
    return neighbour_estimates(real.rows, fake.rows, k=k, strict=strict)


def precision_recall_density_coverage(
    real_rows: Tensor, fake_rows: Tensor, *, k: int = 5, strict: bool = False
) -> dict[str, float]:
    """The four shares by name: precision, recall, coverage in [0, 1], density >= 0 (about 1 for equal distributions).

    real_rows [N, D], fake_rows [M, D], any float dtype, memory-mapped or not; N, M >= k + 2. Memory O(block D + N k).
    Precision and recall count a sample in a ball with `<=` (Kynkaanniemi et al. 2019, eq. 2). So do density and
    coverage, where the code of Naeem et al. 2020 has `<`: it makes no difference to continuous features, and keeps a
    set of repeated samples from scoring 0 against itself. strict: `<` for all four, as in that code and in dgm-eval.
    Raises TooFewSamples, BadRows, and BadSetting when k < 1.
    """
    real, fake = two_clouds(real_rows, fake_rows, k)
    balls = [Balls(side, own_radii(side, k)[0], strict=strict) for side in (real, fake)]
    whole = _Tally(real, fake, 1)
    for of_real, of_fake in meetings(real, fake, *balls):
        whole.add_real_balls(of_real, of_real.inside[:, None])
        whole.add_fake_balls(of_fake, of_fake.inside[:, None])
    return {part: float(rows.mean()) for part, rows in whole.shares(k).items()}


def neighbour_estimates(
    real_rows: Tensor, fake_rows: Tensor, *, k: int = 5, strict: bool = False
) -> dict[str, Estimate]:
    """`precision_recall_density_coverage` with a 95 % interval for each, from the same pass over the distances.

    per_sample of precision: whether some real ball holds the generated sample; of density: how many do, over k.
    """
    real, fake = two_clouds(real_rows, fake_rows, k)
    halves = Halves(real, fake)
    (real_balls, real_within), (fake_balls, fake_within) = (
        _balls(side, dealt, k, strict) for side, dealt in ((real, halves.real), (fake, halves.fake))
    )
    whole, apart = _Tally(real, fake, 1), _Tally(real, fake, DRAWS)
    for of_real, of_fake in meetings(real, fake, real_balls, fake_balls):
        whole.add_real_balls(of_real, of_real.inside[:, None])
        whole.add_fake_balls(of_fake, of_fake.inside[:, None])
        for some in of_real.chunks():
            apart.add_real_balls(some, halves.kept(some, real_within[some.real]))
        for some in of_fake.chunks():
            apart.add_fake_balls(some, halves.kept(some, fake_within[some.fake]))
    return _estimates(whole.shares(k), apart.shares(k), halves)


def _balls(side: Cloud, dealt: Tensor, k: int, strict: bool) -> tuple[Balls, Tensor]:
    """The balls to the k-th neighbour, and [N, DRAWS] the squared distance at which they end within a half."""
    radii, near = own_radii(side, k, listed_for(k))
    within = radii_in_halves(near, dealt, k)
    balls = Balls(side, radii, strict=strict, reach=within.amax(dim=1))
    return balls, balls.roughly(within)


def _estimates(whole: dict[str, Tensor], apart: dict[str, Tensor], halves: Halves) -> dict[str, Estimate]:
    found = {}
    for part in PARTS:
        of_fake = part in ("precision", "density")
        spread = split_mean if part == "density" else split_share
        rows = whole[part][:, 0]
        found[part] = spread(rows, apart[part], *((halves.fake, "fake") if of_fake else (halves.real, "real")))
        if of_fake:
            found[part] = replace(found[part], per_sample=rows.cpu())
    return found


def two_clouds(real_rows: Tensor, fake_rows: Tensor, k: int, *, least_fake: int | None = None) -> tuple[Cloud, Cloud]:
    """Both sides, checked, with samples enough for a k-th neighbour, k + 2 of each if nothing else is said of the fake.

    Raises TooFewSamples, BadRows, BadSetting.
    """
    least = at_least_one("k", k) + 2
    for side, rows, few in (("real", real_rows, least), ("fake", fake_rows, least_fake or least)):
        if len(rows) < few:
            raise TooFewSamples(f"{len(rows)} {side} samples; a metric of neighbours with k={k} needs at least {few}")
    real, fake = clouds(1, real=real_rows, fake=fake_rows)
    return real, fake


class _Tally:
    """Counted in each of some draws: balls that hold each row, and fake rows that each real ball holds [., draws]."""

    def __init__(self, real: Cloud, fake: Cloud, draws: int) -> None:
        self.around_fake, self.around_real, self.in_real_ball = (
            torch.zeros(len(side), draws, dtype=torch.int32, device=side.rows.device) for side in (fake, real, real)
        )

    def add_real_balls(self, pairs: Meetings, kept: Tensor) -> None:
        """kept [P, draws]: whether the ball of the real row holds the fake one."""
        self.around_fake.index_add_(0, pairs.fake, kept.int())
        self.in_real_ball.index_add_(0, pairs.real, kept.int())

    def add_fake_balls(self, pairs: Meetings, kept: Tensor) -> None:
        """kept [P, draws]: whether the ball of the fake row holds the real one."""
        self.around_real.index_add_(0, pairs.real, kept.int())

    def shares(self, k: int) -> dict[str, Tensor]:
        """By part, what each row [., draws] adds to the mean."""
        return {
            "precision": (self.around_fake > 0).double(),
            "recall": (self.around_real > 0).double(),
            "density": self.around_fake.double() / k,
            "coverage": (self.in_real_ball > 0).double(),
        }
