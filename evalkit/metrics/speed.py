"""How fast a generator makes samples: many at a time (throughput), one at a time (latency), token by token.

Tools define the speed of tokens differently, so the formulas are these, t_i the seconds from the request to the arrival
of token i = 1..n of one text drawn alone (the end of a text is no token; warm-up left out, device synchronised):

    ttft                = t_1
    inter_token_latency = t_i - t_(i-1), all gaps of all texts
    tpot                = (t_n - t_1) / (n - 1), vLLM's: the first token is no part of it
    tokens_per_second   = sum of n / sum of t_n;  .decode = sum of (n - 1) / sum of (t_n - t_1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from scipy import stats

from ..errors import DoesNotApply, TooFewSamples
from ..resample import LEVEL, bootstrap, jackknife
from ..types import Estimate, Timing, metric

PERCENTILES = (50, 95, 99)
STREAM_PERCENTILES = (50, 95)  # of texts, which are few


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


@metric(on=None, better="lower", unit="milliseconds", min_n=1)
def ttft(timing: Timing) -> dict[str, Estimate]:
    """Time to the first token of a text drawn alone, in milliseconds: median (p50) and 95th percentile of the texts.

    Interval: order statistics of the texts, which bound no tail that they do not reach.
    """
    first = 1000 * torch.tensor([text[0] for text in _streamed(timing)], dtype=torch.float64).sort().values
    return {f"p{percent}": percentile(first, percent) for percent in STREAM_PERCENTILES}


@metric(on=None, better="lower", unit="milliseconds", min_n=1)
def tpot(timing: Timing) -> dict[str, Estimate]:
    """Time per output token after the first, (t_n - t_1) / (n - 1) of each text, in milliseconds: p50 and p95 of texts.

    The definition of vLLM; others count the first token in. Texts of one token have none. Interval: order statistics.
    """
    each = [(text[-1] - text[0]) / (len(text) - 1) for text in _streamed(timing, 2)]
    ordered = 1000 * torch.tensor(each, dtype=torch.float64).sort().values
    return {f"p{percent}": percentile(ordered, percent) for percent in STREAM_PERCENTILES}


@metric(on=None, better="lower", unit="milliseconds", min_n=1)
def inter_token_latency(timing: Timing) -> dict[str, Estimate]:
    """Gaps between the tokens of a text drawn alone, all texts together, in milliseconds: p50, p95 and p99.

    The time to the first token is no gap. Interval: bootstrap over texts, because the gaps of one text are alike.
    """
    gaps = [1000 * torch.tensor(text, dtype=torch.float64).diff() for text in _streamed(timing, 2)]
    shares = torch.tensor([percent / 100 for percent in PERCENTILES], dtype=torch.float64)

    def statistic(drawn: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        found = [torch.quantile(torch.cat([gaps[i] for i in own]), shares) for own in drawn[0].tolist()]
        return {f"p{percent}": column for percent, column in zip(PERCENTILES, torch.stack(found).T, strict=True)}

    # The moves of a bootstrap belong to draws of samples; these are draws of calls.
    return {part: replace(found, moves=None) for part, found in bootstrap(statistic, [len(gaps)]).items()}


@metric(on=None, better="higher", unit="tokens per second", min_n=1)
def tokens_per_second(timing: Timing) -> dict[str, Estimate]:
    """Output tokens per second of texts drawn alone, sum of n / sum of t_n, > 0; `decode`: after the first token.

    Interval: leave-one-out jackknife over the texts; a single text has none and says so ("one call").
    """
    texts = _streamed(timing)
    longer = [text for text in texts if len(text) > 1]
    found = {"": _rate([len(text) for text in texts], [text[-1] for text in texts])}
    if longer:
        found["decode"] = _rate([len(text) - 1 for text in longer], [text[-1] - text[0] for text in longer])
    return found


def _streamed(timing: Timing, least: int = 1) -> list[tuple[float, ...]]:
    """The arrival times of every streamed text of at least so many tokens; DoesNotApply where there is none."""
    found = [text for text in timing.tokens if len(text) >= least]
    if not found:
        raise DoesNotApply("the generator does not stream its tokens, or no text of it has enough of them")
    return found


def _rate(counts: Sequence[int], seconds: Sequence[float]) -> Estimate:
    made, took = (torch.tensor(column, dtype=torch.float64) for column in (counts, seconds))
    # A clock may not tell two tokens apart.
    value = float(made.sum() / took.sum().clamp_min(1e-9))
    if len(counts) == 1:
        return Estimate(value, value, value, "one call")
    without = (made.sum() - made) / (took.sum() - took).clamp_min(1e-9)
    return jackknife(value, [without], low=0.0)


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
