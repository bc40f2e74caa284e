"""What training needs whatever is trained: its own chance, an averaged copy, a stop when it diverges, a report."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from evalkit.errors import RunFailed
from evalkit.types import Progress

Net = TypeVar("Net", bound=nn.Module)


@contextmanager
def isolated(seed: int, device: str) -> Iterator[torch.Generator]:
    """Seeded chance for a training: a generator for data and noise, and torch's global state put back at the end."""
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda), torch.enable_grad():
        # The global state still serves initial weights and dropout.
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@contextmanager
def announced(progress: Progress | None, task: str, total: int) -> Iterator[Callable[[int], None]]:
    """Start a task, yield how to advance it, and finish it whatever happens."""
    if progress is None:
        yield lambda n: None
        return
    progress.start(task, total)
    try:
        yield progress.advance
    finally:
        progress.finish()


class Diverged(RunFailed):
    """The loss is not finite any more; `state` holds the last weights that were sound, None when there are none yet."""

    def __init__(self, message: str, state: dict[str, Tensor] | None = None) -> None:
        super().__init__(message)
        self.state = state


class LastGood:
    """The weights of a network as they were some steps ago: what is left when training diverges."""

    EVERY = 50

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.state: dict[str, Tensor] | None = None

    def note(self, step: int) -> None:
        """Keep the weights of every fiftieth step, if they are finite."""
        if step > 0 and step % self.EVERY == 0:
            state = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
            if all(bool(v.isfinite().all()) for v in state.values() if v.is_floating_point()):
                self.state = state


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, family: str, step: int, good: LastGood | None = None
) -> None:
    """One optimizer step on a loss; raises Diverged naming the step, counted from 1, when the loss is not finite."""
    if not bool(torch.isfinite(loss)):
        raise Diverged(
            f"training {family} diverged: the loss is not finite at step {step + 1}; lower its learning_rate",
            None if good is None else good.state,
        )
    if good is not None:
        good.note(step)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


class Ema(Generic[Net]):
    """Exponential moving average of a network's weights; `net` is the averaged copy."""

    def __init__(self, net: Net, decay: float) -> None:
        self.net: Net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.steps += 1
        # Warm-up: early on, the average must not be dominated by the random weights it started from.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for kept, new in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
