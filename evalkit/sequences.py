"""Confidence sequences: intervals that hold at every n at once, so that one may look at each and stop when one likes.

An ordinary 95 % interval holds at an n that was fixed beforehand; looked at again and again until it says something, it
errs far more often. A confidence sequence (low_t, high_t) holds the true mean at *all* t with the stated probability.

Two constructions:

- `BoundedMean`, for independent values in [0, 1]: the hedged capital process of Waudby-Smith & Ramdas 2024, "Estimating
  means of bounded random variables by betting", section 4.4. The guarantee is a theorem for every distribution and n.
- `BlockMean` and `BlockRatio`, for means of blocks of samples: the scale-invariant mixture t-test of Lai 1976, with a
  normal prior on the effect (Wang & Ramdas 2024, "Anytime-valid t-tests and confidence sequences for Gaussian means
  with unknown variance"). Exact where block means are normal, which a block of some tens of samples makes nearly true;
  for any finite variance it tends to the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy &
  Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences", with rho^2 = PRIOR.

All keep the running intersection: what was once excluded stays excluded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .errors import BadRows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEVEL = 0.95
# Variance of the effect, mean / spread of a block, under the mixture. Tightest at about 20 blocks: by Waudby-Smith et
# al. 2024, eq. 24, rho^2 = (-2 log a + log(1 - 2 log a)) / t with a = 0.05.
PRIOR = 0.4
# Blocks before anything is said: fewer do not show how far blocks differ, and how lopsided they are.
LEAST_BLOCKS = 12
# A skewness beyond this is not believed: it comes from one value.
LARGEST_SKEWNESS = 4.0
GRID = 1001
# A bet may lose at most this share of the capital on one value. Waudby-Smith & Ramdas 2024, eq. 24, there 1/2 or 3/4.
LARGEST_BET = 0.75
CHUNK = 256  # values weighed at once against every point of the grid


class Following(Protocol):
    """What every sequence says after some values: the mean so far and the ends of the running interval."""

    count: int
    low: float
    high: float

    @property
    def value(self) -> float: ...
    @property
    def is_empty(self) -> bool: ...


class BoundedMean:
    """Confidence sequence of the mean of independent values in [0, 1], by betting; exact at every count.

    Two gamblers share a capital of 1: one bets that the mean lies above m, one that it lies below, for every m of a
    grid. Where either would have won 1 / (1 - level), m is excluded. The ends are those of the grid's cells.
    """

    def __init__(self, level: float = LEVEL, points: int = GRID) -> None:
        import numpy as np

        self.level, self.count, self.low, self.high = level, 0, 0.0, 1.0
        self._grid = np.linspace(0.0, 1.0, points)
        self._above, self._below = np.zeros(points), np.zeros(points)
        self._excluded = np.zeros(points, dtype=bool)
        self._sum = self._squares = 0.0

    @property
    def value(self) -> float:
        """Mean of the values so far; 1/2 before any."""
        return self._sum / self.count if self.count else 0.5

    @property
    def is_empty(self) -> bool:
        """Whether every mean is excluded, which independent values of one distribution do with probability <= 5 %."""
        return bool(self._excluded.all())

    def add(self, values: Sequence[float] | Floats) -> None:
        """Take further values, each in [0, 1], in the order in which they were drawn; BadRows for any other."""
        import numpy as np

        given = np.asarray(values, dtype=np.float64)
        if given.size and not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
            raise BadRows("a value outside [0, 1] in a confidence sequence of a bounded mean")
        for start in range(0, len(given), CHUNK):
            self._weigh(given[start : start + CHUNK])
        if given.size:
            self._narrow()

    def _weigh(self, x: Floats) -> None:
        import numpy as np

        m = self._grid
        bets = self._bets(x)[:, None]
        with np.errstate(divide="ignore"):
            up, down = np.minimum(bets, LARGEST_BET / m), np.minimum(bets, LARGEST_BET / (1 - m))
        gap = x[:, None] - m
        above = self._above + np.cumsum(np.log1p(up * gap), axis=0)
        below = self._below + np.cumsum(np.log1p(-down * gap), axis=0)
        self._above, self._below = above[-1], below[-1]
        # Half of the capital for each gambler.
        won = np.maximum(above, below).max(axis=0)
        self._excluded |= won >= math.log(2 / (1 - self.level))

    def _bets(self, x: Floats) -> Floats:
        """The predictable plug-in bets of Waudby-Smith & Ramdas 2024, eq. 26: each from the values before it."""
        import numpy as np

        i = self.count + np.arange(1, len(x) + 1)
        sums = self._sum + np.cumsum(x)
        means = (0.5 + sums) / (i + 1)
        squares = self._squares + np.cumsum((x - means) ** 2)
        before = np.concatenate([[self._squares], squares[:-1]])
        variance = (0.25 + before) / i
        self.count, self._sum, self._squares = int(i[-1]), float(sums[-1]), float(squares[-1])
        return np.sqrt(2 * math.log(2 / (1 - self.level)) / (variance * i * np.log(i + 1)))

    def _narrow(self) -> None:
        import numpy as np

        kept = np.flatnonzero(~self._excluded)
        if not len(kept):
            return
        # The excluded neighbour, not the first point kept: the mean may lie anywhere between the two.
        last = len(self._grid) - 1
        self.low = max(self.low, float(self._grid[max(0, kept[0] - 1)]))
        self.high = min(self.high, float(self._grid[min(last, kept[-1] + 1)]))


def reach(blocks: int, level: float = LEVEL, prior: float = PRIOR) -> float:
    """Half the width of the mixture t-sequence after so many blocks, in standard deviations of one block; inf early.

    The mean m stays while the Bayes factor of "m plus an effect" against "m" is below 1 / (1 - level), which solves in
    closed form: Lai 1976, section 3; Rouder et al. 2009, eq. 2, before its prior on the effect's variance.
    """
    if blocks < 2:
        return math.inf
    wide = 1 + blocks * prior
    base = (math.sqrt(wide) / (1 - level)) ** (2 / blocks)
    if base >= wide:
        return math.inf
    return math.sqrt((blocks - 1) / blocks * (base - 1) / (1 - base / wide))


class _Blocks:
    """What the sequences of block values share: the count, the running interval, and whether it has become empty."""

    def __init__(self, level: float, least: int, within: tuple[float, float]) -> None:
        self.level, self.least = level, least
        self.low, self.high = within
        self.count, self.is_empty = 0, False

    def _meet(self, low: float, high: float) -> None:
        """Keep what lies in this interval too."""
        low, high = max(self.low, low), min(self.high, high)
        self.is_empty = self.is_empty or low > high
        if not self.is_empty:
            self.low, self.high = low, high


class BlockMean(_Blocks):
    """Confidence sequence of the mean of independent block values: exact for normal ones, asymptotic for others.

    On the side to which the values lean it is widened by the second-order term of their skewness (Johnson 1978;
    Hall 1992), and never narrowed on the other: the first blocks of a skewed value vary too little.
    within: the range that the mean can take. share_of: the number of samples a block, where values are shares of them:
    then a block varies at least as a binomial share of so many, so that equal first blocks claim nothing.
    """

    def __init__(
        self,
        level: float = LEVEL,
        *,
        least: int = LEAST_BLOCKS,
        within: tuple[float, float] = (-math.inf, math.inf),
        share_of: int | None = None,
    ) -> None:
        super().__init__(level, least, within)
        self.share_of = share_of
        self._values: list[float] = []

    @property
    def value(self) -> float:
        """Mean of the blocks so far; NaN before any."""
        return math.fsum(self._values) / self.count if self.count else math.nan

    def add(self, values: Sequence[float] | Floats) -> None:
        """Take further blocks in the order in which they were drawn; BadRows for a value that is not finite."""
        for x in map(float, values):
            if not math.isfinite(x):
                raise BadRows(f"a block's value is {x}; a confidence sequence needs finite numbers")
            self._values.append(x)
            self.count += 1
            if self.count >= self.least:
                self._narrow()

    def _narrow(self) -> None:
        import numpy as np

        found = np.array(self._values)
        mean, least = float(found.mean()), 0.0
        if self.share_of is not None:
            n = self.count * self.share_of
            smooth = (n * min(1.0, max(0.0, mean)) + 2) / (n + 4)
            least = math.sqrt(smooth * (1 - smooth) / self.share_of)
        down, up = _reaches(found, self.level, least)
        self._meet(mean - down, mean + up)


def _reaches(values: Floats, level: float, least: float = 0.0) -> tuple[float, float]:
    """How far the sequence reaches below and above the mean of these values, with the term of their skewness."""
    count = len(values)
    centred = values - values.mean()
    spread = math.sqrt(float((centred**2).sum()) / (count - 1))
    critical = reach(count, level)
    off = critical * max(spread, least)
    if not spread > 0 or not math.isfinite(off):
        return off, off
    skewness = float((centred**3).mean()) / spread**3
    lean = max(-LARGEST_SKEWNESS, min(LARGEST_SKEWNESS, skewness)) * spread * (1 / 6 + critical**2 * count / 3) / count
    return off + max(0.0, -lean), off + max(0.0, lean)


class BlockRatio(_Blocks):
    """Confidence sequence of E[numerator] / E[denominator] from block means of both, denominators above 0.

    A ratio r is excluded when 0 is excluded as the mean of numerator - r denominator (Fieller 1954, with the critical
    value of `reach`): at the true r those are independent values of mean 0, so the guarantee is that of `BlockMean`.
    """

    def __init__(self, level: float = LEVEL, *, least: int = LEAST_BLOCKS) -> None:
        super().__init__(level, least, (-math.inf, math.inf))
        self._pairs: list[tuple[float, float]] = []

    @property
    def value(self) -> float:
        """Ratio of the means so far; NaN before any block."""
        return math.fsum(x for x, _ in self._pairs) / math.fsum(y for _, y in self._pairs) if self.count else math.nan

    def add(self, numerators: Sequence[float] | Floats, denominators: Sequence[float] | Floats) -> None:
        """Take further blocks; BadRows unless both are finite and the denominator is above 0."""
        for x, y in zip(map(float, numerators), map(float, denominators), strict=True):
            if not (math.isfinite(x) and math.isfinite(y) and y > 0):
                raise BadRows(f"a block of {x} over {y}; expected finite numbers, the second above 0")
            self._pairs.append((x, y))
            self.count += 1
            if self.count >= self.least:
                self._narrow()

    def _narrow(self) -> None:
        import numpy as np

        x, y = np.array(self._pairs).T
        critical = reach(self.count, self.level) ** 2
        (xx, xy), (_, yy) = np.cov(x, y).tolist()
        # (mean x - r mean y)^2 <= reach^2 var(x - r y) as a quadratic in r.
        across, up = float(x.mean()), float(y.mean())
        square = up**2 - critical * yy
        if not (math.isfinite(critical) and square > 0):
            return
        middle, rest = across * up - critical * xy, across**2 - critical * xx
        root = math.sqrt(max(0.0, middle**2 - square * rest))
        # What skewness adds, at the estimated ratio.
        left = x - across / up * y
        plain = math.sqrt(critical) * float(left.std(ddof=1))
        more_down, more_up = (side - plain for side in _reaches(left, self.level))
        self._meet((middle - root) / square - more_down / up, (middle + root) / square + more_up / up)
