"""What images drawn pixel by pixel share: training on exact nats, the sum over classes, sampling at a temperature."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Batch, Progress

from ._images import LikelyFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

EMA_DECAY = 0.995
BATCH = 32
VALIDATION_SHARE = 0.05
VALIDATIONS = 20


class PixelNetwork(nn.Module, ABC):
    """Pixel values in -1..1 [B, C, H, W] and classes [B] -> logits of the grey levels [B, V, C, H, W]."""

    # The grey levels in -1..1 [V].
    values: Tensor

    @abstractmethod
    def draw(self, labels: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Indices [B, C, H, W], pixel by pixel: `choose` makes one index each [B] of logits [B, V]."""


def nats(net: PixelNetwork, indices: Tensor, labels: Tensor) -> Tensor:
    """-ln p(x | y) of indices [B, C, H, W], in nats [B]."""
    logits: Tensor = net(net.values[indices], labels)
    return F.cross_entropy(logits, indices, reduction="none").sum((1, 2, 3))


class PixelFamily(LikelyFamily):
    """A family whose network gives the chance of every pixel from those before it."""

    _net: PixelNetwork

    @abstractmethod
    def _build(self, look: Look) -> PixelNetwork:
        """The network with fresh weights."""

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        levels = torch.tensor(look.values)
        indices, labels = torch.bucketize((x * 255).round().long().contiguous(), levels).to(device), labels.to(device)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            order = torch.randperm(len(x), generator=rng).to(device)
            share = max(1, round(VALIDATION_SHARE * len(x)))
            held, kept = order[:share], order[share:]
            net = self._build(look).to(device)
            ema, best, best_nats = Ema(net, EMA_DECAY), net.state_dict(), math.inf
            adam = torch.optim.Adam(net.parameters(), rate, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
            good = LastGood(ema.net)
            for step in range(steps):
                rows = kept[torch.randint(len(kept), (BATCH,), generator=rng).to(device)]
                loss = nats(net, indices[rows], labels[rows]).mean() / math.prod(look.shape)
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
                # A thousand images are soon known by heart: what counts is the best on those held out.
                if (step + 1) % max(1, steps // VALIDATIONS) == 0 or step + 1 == steps:
                    with torch.no_grad():
                        now = sum(
                            float(nats(ema.net, indices[r], labels[r]).sum())
                            for r in torch.chunk(held, -(-len(held) // 64))
                        )
                    if now < best_nats:
                        best_nats, best = now, {k: v.clone() for k, v in ema.net.state_dict().items()}
        ema.net.load_state_dict(best)
        return ema.net

    def _nats(self, indices: Tensor) -> Tensor:
        # One class at a time, so that the memory needed does not grow with the classes.
        given = [nats(self._net, indices, torch.full_like(indices[:, 0, 0, 0], y)) for y in range(self._look.kinds)]
        return math.log(self._look.kinds) - torch.stack(given).neg().logsumexp(0)

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        labels = self._look.cycle(start, count)
        x = self._generate(labels.to(self._device), rng)
        # The levels are drawn, not approximated: there is no haze to take away.
        return Batch(replace(self._look, haze=0).render(x), self._look.names(labels))

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        temperature = float(self._settings["temperature"])

        def choose(logits: Tensor) -> Tensor:
            p = (logits.float().cpu() / temperature).softmax(1)
            return torch.multinomial(p, 1, generator=rng).squeeze(1).to(labels.device)

        return self._look.shades(self._net.draw(labels, choose))
