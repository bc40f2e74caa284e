"""What a block of generated samples says of a metric: independent values whose mean a confidence sequence can follow.

The reference is taken as it is. What is followed is therefore the metric's expected value over further generated
samples, *given this reference*: the luck of its draw is not in the interval, unlike in the intervals of a fixed n.

- kid is unbiased: the mean over blocks is the value for endless generated samples, and no block size is part of it.
- mind and coverage depend on n: each block is held against as many real samples, drawn anew for every block, and the
  mean is the metric's expected value *at the block's n a side*. A limit has to be one for that n.
- auroc of a fixed detector: every generated sample's share of real scores below its own is a value in [0, 1] by itself.
- perplexity and bits are ratios of two means, of nats and of tokens or bytes.

FID has none: its value at the n of a block is mostly bias, and no average of blocks takes that away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import TooFewSamples, UsageError
from .hardware import derive_seed
from .planning import Task
from .sequences import BlockMean, BlockRatio, BoundedMean

if TYPE_CHECKING:
    from torch import Tensor

LAI = "confidence sequence (mixture t, Lai 1976)"
BETTING = "confidence sequence (betting, Waudby-Smith & Ramdas 2024)"

PART = 4096  # real rows turned into float64 at once

Tell = Callable[["Tensor", int], float]


@dataclass(frozen=True)
class Followable:
    """A metric with a sequence: which construction, and what its mean is, in words that go into the protocol."""

    method: str
    target: str


AT_BLOCK = "expected value at the block's n a side, given this reference"
FOLLOWABLE: Mapping[str, Followable] = MappingProxyType(
    {
        "kid": Followable(LAI, "expected value, given this reference"),
        "mind": Followable(LAI, AT_BLOCK),
        "prdc.coverage": Followable(LAI, AT_BLOCK),
        "perplexity": Followable(LAI, "expected nats over expected tokens"),
        "bits_per_byte": Followable(LAI, "expected nats over expected bytes"),
        "bits_per_dim": Followable(LAI, "expected nats over expected values"),
        "auroc": Followable(BETTING, "expected value of this detector, given this reference"),
    }
)


def followable(task: Task) -> Followable:
    """The sequence of a task; UsageError naming the metrics that have one where it has none."""
    name = task.metric.name if task.part is None else f"{task.metric.name}.{task.part}"
    found = FOLLOWABLE.get(name)
    if found is None:
        why = ": its mean over blocks is mostly bias" if task.metric.name in ("fid", "sfid") else ""
        raise UsageError(f"{name} has no confidence sequence{why}; take one of {', '.join(FOLLOWABLE)}")
    if name == "kid" and (task.settings.get("subsets") or task.settings.get("dialect")):
        raise UsageError("kid over drawn subsets has no confidence sequence; leave subsets and dialect out")
    return found


@dataclass
class Follower:
    """One number as it is followed: rows [M, D] are taken in the order of their draw, whole blocks are made of them."""

    name: str
    task: Task
    about: Followable
    sequence: BlockMean | BlockRatio | BoundedMean
    block: int
    real: Tensor | None
    tell: Tell | None
    scale: Callable[[float], float] = float
    blocks: int = 0
    taken: int = 0
    left: Tensor | None = field(default=None, repr=False)

    def take(self, rows: Tensor) -> None:
        """Add what these samples say; what does not fill a block waits for the next ones."""
        import torch

        self.taken += len(rows)
        if isinstance(self.sequence, BoundedMean):
            assert self.real is not None
            self.sequence.add(placements(self.real, rows))
            return
        waiting = rows if self.left is None else torch.cat([self.left, rows])
        whole = len(waiting) // self.block * self.block
        for block in torch.split(waiting[:whole], self.block) if whole else ():
            if isinstance(self.sequence, BlockRatio):
                nats, tokens, size = block.double().mean(dim=0).tolist()
                self.sequence.add([nats], [tokens if self.task.metric.name == "perplexity" else size])
            else:
                assert self.tell is not None
                self.sequence.add([self.tell(block, self.blocks)])
            self.blocks += 1
        self.left = waiting[whole:]

    @property
    def interval(self) -> tuple[float, float, float]:
        """The value so far and the ends of its interval, in the metric's unit; infinite where nothing can be said."""
        low, high = self.scale(self.sequence.low), self.scale(self.sequence.high)
        return min(max(self.scale(self.sequence.value), low), high), low, high


def follow(name: str, task: Task, real: Tensor | None, block: int, seed: int) -> Follower:
    """A follower of `task` in blocks of so many samples, against the real rows [N, D] where it reads them.

    Raises UsageError for a metric without a sequence, TooFewSamples where a block cannot be held against the reference.
    """
    about, metric = followable(task), task.metric.name
    if metric == "auroc":
        return Follower(name, task, about, BoundedMean(), 1, real, None)
    if metric in ("perplexity", "bits_per_byte", "bits_per_dim"):
        scale = _exp if metric == "perplexity" else _bits
        return Follower(name, task, about, BlockRatio(), block, None, None, scale)
    assert real is not None
    least = max(3, int(task.settings.get("k", 1)) + 2)
    if not least <= block <= len(real):
        told = f"{name} in blocks of {block} against {len(real)} real samples"
        raise TooFewSamples(f"{told}; a block needs {least} to {len(real)}: give --batch N")
    if metric == "kid":
        return Follower(name, task, about, BlockMean(), block, real, kernel_teller(real, **_kernel(task)))
    within = (0.0, 1.0) if metric == "prdc" else (0.0, math.inf)
    sequence = BlockMean(within=within, share_of=block if metric == "prdc" else None)
    tell = coverage_teller if metric == "prdc" else monge_teller
    return Follower(name, task, about, sequence, block, real, tell(real, task.settings, seed))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0)) if value < math.inf else math.inf


def _bits(value: float) -> float:
    return value / math.log(2)


def placements(real_scores: Tensor, fake_scores: Tensor) -> list[float]:
    """Of every generated score [M, 1] the share of real scores [N, 1] below it, equal ones counting half: their mean
    is the AUROC against these real samples."""
    import torch

    ordered, scores = real_scores.flatten().sort().values, fake_scores.flatten()
    below, not_above = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
    found: list[float] = ((below + not_above).double() / (2 * len(ordered))).tolist()
    return found


def _kernel(task: Task) -> dict[str, Any]:
    return {key: task.settings[key] for key in ("degree", "gamma", "coef")}


def kernel_teller(real: Tensor, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> Tell:
    """The unbiased squared MMD of a block against all real rows, whose own pairs are summed up once.

    Blocks are independent given the reference: the sum over pairs within a block, less twice the mean with the reals.
    """
    import torch

    from .metrics.kernel import polynomial
    from .metrics.mmd import pair_sums, panels

    kernel = polynomial(real.shape[1], degree, gamma, coef)
    (sums,) = pair_sums(*panels(real, real[:3], least=3), kernel)
    own = float(sums.real_real.sum()) / (len(real) * (len(real) - 1))

    def tell(block: Tensor, _: int) -> float:
        rows = block.double()
        n = len(rows)
        within = kernel(rows @ rows.T)
        pairs = float(within.sum() - within.diagonal().sum()) / (n * (n - 1))
        # Piece by piece: the rows may be mapped from a file.
        across = math.fsum(float(kernel(rows @ part.double().T).sum()) for part in torch.split(real, PART))
        return own + pairs - 2 * across / (n * len(real))

    return tell


def _drawn(real: Tensor, size: int, seed: int, number: int) -> Tensor:
    """As many real rows as a block has, drawn for this block alone."""
    import numpy as np
    import torch

    rng = np.random.default_rng(derive_seed(seed, "block", str(number)))
    return real[torch.from_numpy(rng.choice(len(real), size, replace=False))]


def coverage_teller(real: Tensor, settings: Mapping[str, Any], seed: int) -> Tell:
    """Coverage of as many real rows, drawn for the block, by the block's rows."""
    from .metrics.neighbours import precision_recall_density_coverage

    def tell(block: Tensor, number: int) -> float:
        drawn = _drawn(real, len(block), seed, number)
        shares = precision_recall_density_coverage(drawn, block, k=settings["k"], strict=settings["strict"])
        return shares["coverage"]

    return tell


def monge_teller(real: Tensor, settings: Mapping[str, Any], seed: int) -> Tell:
    """Monge distance of the block's rows from as many real rows, drawn for the block."""
    from .metrics.mind import sliced_distance

    def tell(block: Tensor, number: int) -> float:
        drawn = _drawn(real, len(block), seed, number)
        return sliced_distance(drawn, block, directions=settings["directions"], seed=settings["seed"])

    return tell
