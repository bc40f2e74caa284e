"""AUROC of a rule where texts come in groups: DeLong's interval for clustered data (Obuchowski 1997).

A human text and the machine texts that continue it are not independent draws, and ten rewritings of one text are not
ten texts. The variance is taken over groups; with groups of one text each it is DeLong's. Where it is 0 although the
sides are not separate (nothing but ties, or every pair alike), the interval is that of the share of groups, unseen so
far, that would not be so (Clopper-Pearson, none of n).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import TooFewSamples
from ..metrics.detection import wilson
from ..types import Estimate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DELONG, TIES = "delong", "clopper-pearson"
CLUSTERED = "delong, by group (Obuchowski 1997)"


def area(scores: npt.NDArray[np.float64], is_fake: npt.NDArray[np.bool_], group: npt.NDArray[np.int64]) -> Estimate:
    """P(fake score > real score) + half P(equal), in [0, 1], with its 95 % interval on the logit scale; all [N].

    group: a number from 0 for the group of each text. With one group on a side nothing is known of the next and the
    interval is all of [0, 1]. Raises TooFewSamples where a side is empty.
    """
    import numpy as np
    from scipy.stats import norm, rankdata

    m, n = int(is_fake.sum()), int((~is_fake).sum())
    if not m or not n:
        raise TooFewSamples(f"{n} real and {m} fake texts; an AUROC needs both sides")
    ranks = rankdata(scores)
    of_fake = (ranks[is_fake] - rankdata(scores[is_fake])) / n
    of_real = 1 - (ranks[~is_fake] - rankdata(scores[~is_fake])) / m
    # From the ranks, whose sum is exact: 0.5 is 0.5 and not one rounding beside it.
    value = (float(ranks[is_fake].sum()) - m * (m + 1) / 2) / (m * n)
    size = int(group.max()) + 1
    fakes, reals = (len(np.unique(group[side])) for side in (is_fake, ~is_fake))
    if min(fakes, reals) < 2:
        return Estimate(value, 0.0, 1.0, "none: one group on a side")
    if not 0 < value < 1:
        low, high = wilson(value, min(fakes, reals))
        return Estimate(value, min(low, value), max(high, value), DELONG)
    moved = np.bincount(group[is_fake], of_fake - value, size) / m
    other = np.bincount(group[~is_fake], of_real - value, size) / n
    alone = fakes == m and reals == n and len(np.unique(group)) == m + n
    both = len(np.unique(group))
    variance = (
        fakes / (fakes - 1) * float(moved @ moved)
        + reals / (reals - 1) * float(other @ other)
        + 2 * both / max(1, both - 1) * float(moved @ other)
    )
    if variance < 1e-12:
        reach = (1 - 0.025 ** (1 / fakes + 1 / reals)) / 2
        return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), TIES)
    centre = math.log(value / (1 - value))
    reach = float(norm.ppf(0.975)) * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-min(700.0, max(-700.0, x)))) for x in (centre - reach, centre + reach))
    return Estimate(value, low, high, DELONG if alone else CLUSTERED)
