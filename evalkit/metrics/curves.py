"""How false alarms trade against catches as a detector's threshold falls: the ROC curve and what is read off it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._guards import scores_of


class Curve(NamedTuple):
    """Samples called fake at each distinct threshold, from none to all: real ones and fake ones, int [..., T + 1]."""

    false_alarms: Tensor
    catches: Tensor


def operating_curve(real_scores: Tensor, fake_scores: Tensor) -> Curve:
    """The curve of one detector: at threshold t a sample is called fake when its score is >= t.

    Scores [N] and [M]; equal scores are one threshold. Raises TooFewSamples, BadRows.
    """
    real, fake = scores_of("real", real_scores, 1), scores_of("fake", fake_scores, 1)
    ranks, count = descending_ranks(real, fake)
    return curve_of_ranks(ranks[: len(real)][None], ranks[len(real) :][None], count)


def descending_ranks(real: Tensor, fake: Tensor) -> tuple[Tensor, int]:
    """The place [N + M] of every score among the distinct scores, 0 for the highest, and how many there are."""
    values, order = torch.cat([real, fake]).sort()
    rises = torch.cat([torch.zeros(1, dtype=torch.bool), values.diff() > 0]).cumsum(dim=0)
    place = torch.empty_like(rises).scatter_(0, order, rises)
    return rises[-1] - place, int(rises[-1]) + 1


def curve_of_ranks(real_ranks: Tensor, fake_ranks: Tensor, count: int) -> Curve:
    """Curves [B, count + 1] of B detectors at once, from the places [B, N] and [B, M] of their scores."""
    return Curve(_cumulated(real_ranks, count), _cumulated(fake_ranks, count))


def _cumulated(ranks: Tensor, count: int) -> Tensor:
    # One place more in front: the threshold above all scores, which calls nothing fake.
    counts = torch.zeros(len(ranks), count + 1, dtype=torch.int64)
    counts.scatter_add_(1, ranks + 1, torch.ones_like(ranks))
    return counts.cumsum(dim=1)


def roc_points(real_scores: Tensor, fake_scores: Tensor, limit: int = 200) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) at all distinct thresholds, from (0, 0) to (1, 1), at most `limit`.

    Points on a straight line between their neighbours are left out; if more than `limit` remain, those at even
    steps along the curve stay, so that thinning moves no part of it by more than such a step. Fawcett 2006, section 5.
    """
    alarms, catches = operating_curve(real_scores, fake_scores)
    fpr, tpr = alarms[0].double() / alarms[0, -1], catches[0].double() / catches[0, -1]
    corners = _corners(alarms[0], catches[0])
    fpr, tpr = fpr[corners], tpr[corners]
    if len(fpr) > limit:
        # fpr + tpr is the length along the steps: it rises from 0 to 2.
        marks = torch.linspace(0, 2, max(2, limit), dtype=torch.float64)
        chosen = torch.searchsorted(fpr + tpr, marks).clamp_max(len(fpr) - 1)
        # Two marks can fall on one point, where a single threshold steps far.
        chosen = torch.tensor(sorted({0, *chosen.tolist()}))
        fpr, tpr = fpr[chosen], tpr[chosen]
    return list(zip(fpr.tolist(), tpr.tolist(), strict=True))


def _corners(alarms: Tensor, catches: Tensor) -> Tensor:
    """Whether each point is an end or a bend: its two steps are not parallel (exact, in whole counts)."""
    right, up = alarms.diff(), catches.diff()
    bends = right[:-1] * up[1:] != right[1:] * up[:-1]
    ends = torch.ones(1, dtype=torch.bool)
    return torch.cat([ends, bends, ends])
