"""How fast a generator makes samples: many at a time (throughput) and one at a time (latency)."""

from __future__ import annotations

import torch
from scipy import stats

from ..errors import DoesNotApply, TooFewSamples
from ..resample import LEVEL, jackknife
from ..types import Estimate, Timing, metric

PERCENTILES = (50, 95, 99)


@metric(on=None, better="higher", unit="samples per second", min_n=1)
def throughput(timing: Timing) -> Estimate:
    """Samples per second over the timed calls of the largest size, > 0.

    Interval: leave-one-out jackknife over the calls; a single call has no interval and says so ("one call").
    """
    largest = max(timing.sizes, default=0)
    seconds = _calls(timing, largest)
    if len(seconds) == 0:
        raise TooFewSamples("no timed call that made samples; throughput needs at least one")
    value = largest * len(seconds) / float(seconds.sum())
    if len(seconds) == 1:
        return Estimate(value, value, value, "one call")
    without = largest * (len(seconds) - 1) / (seconds.sum() - seconds)
    return jackknife(value, [without], low=0.0)


@metric(on=None, better="lower", unit="milliseconds", min_n=1)
def latency(timing: Timing) -> dict[str, Estimate]:
    """Time to make one sample, in milliseconds: median (p50) and the 95th and 99th percentile of the single calls.

    Interval: order statistics of the calls. A tail that few calls reach cannot be bounded from above by them: with
    fewer than 72 calls the upper end of p95, with fewer than 368 that of p99, is only the slowest call.
    """
    milliseconds = 1000 * _calls(timing, 1).sort().values
    if len(milliseconds) == 0:
        raise DoesNotApply("no call made a single sample: it is asked for whole sets only")
    return {f"p{percent}": percentile(milliseconds, percent) for percent in PERCENTILES}


@metric(on=None, better="lower", unit="joules per sample", min_n=1)
def energy(timing: Timing) -> Estimate:
    """Energy of making one sample in whole batches, in joules, > 0, read from the machine's own meter (NVML or RAPL).

    What the idle machine needs in that time is in it. Raises DoesNotApply where the machine reports no energy.
    """
    if timing.joules is None or not timing.joules_for:
        raise DoesNotApply("this machine reports no energy")
    value = timing.joules / timing.joules_for
    return Estimate(value, value, value, "one reading")


@metric(on=None, better="lower", unit="floating-point operations", min_n=1)
def flops(timing: Timing) -> Estimate:
    """Floating-point operations of matrix products and convolutions for one sample of a whole batch, > 0.

    Counted by torch, a multiplication and an addition as two. Raises DoesNotApply for a generator without such
    operations.
    """
    if timing.flops is None:
        raise DoesNotApply("it makes its samples without matrix products or convolutions that torch counts")
    return Estimate(timing.flops, timing.flops, timing.flops, "counted")


def percentile(ordered: torch.Tensor, percent: int) -> Estimate:
    """A percentile of sorted values [N], N >= 1, linear between order statistics, with its 95 % interval.

    The ends are the order statistics between which the true percentile lies with at least that chance, as the number
    of values below it is binomial; the extremes where there is no such pair. David & Nagaraja 2003, section 7.1.
    """
    n, share = len(ordered), percent / 100
    value = float(torch.quantile(ordered, share))
    tail = (1 - LEVEL) / 2
    # The k-th smallest value lies above the percentile when fewer than k do below it.
    below = int(stats.binom.ppf(tail, n, share))
    above = int(stats.binom.ppf(1 - tail, n, share)) + 1
    low, high = float(ordered[max(below, 1) - 1]), float(ordered[min(above, n) - 1])
    return Estimate(value, min(low, value), max(high, value), "order statistics", LEVEL)


def _calls(timing: Timing, size: int) -> torch.Tensor:
    """Seconds of the calls of that size, float64."""
    chosen = [s for s, made in zip(timing.seconds, timing.sizes, strict=True) if made == size and size > 0]
    return torch.tensor(chosen, dtype=torch.float64)
