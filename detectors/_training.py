"""How networks learn to tell fake from real: one loop for all judges that are trained here.

AdamW under one cycle of the rate (Smith & Topin 2019); the network ends as it was in the epoch that was best for
samples set aside. Given a folder the loop writes its whole state every few epochs: what is cut off goes on there, and
ends in the same bits as what was not. Random numbers are torch's own stream, so the caller runs it inside `seeded`,
whose state is part of what is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from evalkit.errors import RunFailed, UnwritableOutput, UsageError

# The state is written after so many epochs.
KEPT_EVERY = 2


@dataclass(frozen=True)
class Schedule:
    """How a network learns: at most `epochs`, fewer when `patience` epochs in a row were no better (0: all of them).

    balanced: every batch is half real and half fake; otherwise every sample comes once an epoch, weighted by its side.
    half: 16-bit floats where they serve, on CUDA only. attack: half-width, in grey levels, of the cube that a one-step
    attack moves training images in; 0 trains on them as they are.
    """

    epochs: int
    batch: int
    peak_rate: float
    decay: float
    patience: int = 0
    balanced: bool = True
    half: bool = True
    attack: float = 0.0


@dataclass(frozen=True)
class Lesson:
    """What one network learns from: `views` makes float images [B, 3, H, W] in [-1, 1] of sample numbers and an epoch.

    truth and weight [N] are of the samples learnt from, those of `aside` of the ones set aside; `scores` gives their
    log-odds.
    """

    views: Callable[[Tensor, int], Tensor]
    truth: Tensor
    weight: Tensor
    scores: Callable[[nn.Module], Tensor]
    truth_aside: Tensor
    weight_aside: Tensor


class Keeper:
    """A training's state in a folder: NAME.json, and the tensors it names and vouches for by sha256.

    key: the digest of everything the training depends on.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        self._folder, self._name, self._key = folder, name, key

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was written last; None when there is nothing whole. UsageError when it is of another training."""
        try:
            facts = json.loads((self._folder / f"{self._name}.json").read_text("utf-8"))
            content = (self._folder / facts["tensors"]).read_bytes()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if facts.get("key") != self._key:
            raise UsageError(
                f"{self._folder} keeps a training on other data, or of another recipe or seed; give another folder"
            )
        whole = hashlib.sha256(content).hexdigest() == facts.get("sha256")
        return (tensors_from(content), facts) if whole else None

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Tensors first, under a new name, then the facts that name them: cut off anywhere, one whole state is left."""
        content = bytes_of({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        named = f"{self._name}-{facts['epoch']}.safetensors"
        card = {**facts, "key": self._key, "tensors": named, "sha256": hashlib.sha256(content).hexdigest()}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for file, data in ((named, content), (f"{self._name}.json", json.dumps(card).encode())):
                beside = self._folder / f".{file}.{os.getpid()}"
                beside.write_bytes(data)
                beside.replace(self._folder / file)
        except OSError as error:
            raise UnwritableOutput(f"training state {self._folder} cannot be written ({error.strerror})") from error
        self._clear(keep=named)

    def remove(self) -> None:
        """Delete what was written here; the folder stays."""
        with suppress(OSError):
            (self._folder / f"{self._name}.json").unlink()
        self._clear()

    def _clear(self, keep: str = "") -> None:
        for old in self._folder.glob(f"{self._name}-*.safetensors"):
            if old.name != keep:
                with suppress(OSError):
                    old.unlink()


class Training:
    """One network on its way: what it needs beside its weights to go on as if it had never stopped."""

    def __init__(self, network: nn.Module, lesson: Lesson, plan: Schedule, keeper: Keeper | None = None) -> None:
        self._network, self._lesson, self._plan, self._keeper = network, lesson, plan, keeper
        self._device = lesson.truth.device
        self._half = plan.half and self._device.type == "cuda"
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=plan.peak_rate, weight_decay=plan.decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, plan.peak_rate, total_steps=plan.epochs * self._steps()
        )
        self._scaler = torch.amp.GradScaler("cuda", enabled=self._half)
        self.epoch, self._best_epoch, self._best = 0, 0, math.inf
        self._kept = self._weights()

    def run(self) -> None:
        """Train until done; RunFailed at a loss that is no number."""
        self._restore()
        while not self._done():
            self._network.train()
            for index in self._batches():
                self._step(index)
            self.epoch += 1
            loss = self._loss_aside()
            if loss < self._best:
                self._best, self._best_epoch, self._kept = loss, self.epoch, self._weights()
            if self._keeper and (self.epoch % KEPT_EVERY == 0 or self._done()):
                self._write(self._keeper)
        self._network.load_state_dict(self._kept)

    def _done(self) -> bool:
        stale = self.epoch - self._best_epoch
        return self.epoch >= self._plan.epochs or 0 < self._plan.patience <= stale

    def _steps(self) -> int:
        """Batches in an epoch: as many as show each sample of the larger side once."""
        n, fake = len(self._lesson.truth), int(self._lesson.truth.sum())
        return math.ceil((2 * max(fake, n - fake) if self._plan.balanced else n) / self._plan.batch)

    def _batches(self) -> Iterator[Tensor]:
        """Sample numbers in a new order; of balanced sides the smaller begins again when it is through."""
        truth, size = self._lesson.truth.cpu(), self._plan.batch
        if not self._plan.balanced:
            yield from torch.split(torch.randperm(len(truth)), size)
            return
        sides = [torch.nonzero(truth == label).flatten() for label in (0, 1)]
        most = max(len(side) for side in sides)
        columns = []
        for side in sides:
            rounds = [side[torch.randperm(len(side))] for _ in range(math.ceil(most / len(side)))]
            columns.append(torch.cat(rounds)[:most])
        yield from torch.split(torch.stack(columns, dim=1).flatten(), size)

    def _step(self, index: Tensor) -> None:
        lesson = self._lesson
        images = lesson.views(index, self.epoch)
        where = index.to(self._device)
        # Where batches are balanced a weight would count the sides twice.
        weight = None if self._plan.balanced else lesson.weight[where]
        if self._plan.attack:
            images = self._attacked(images, lesson.truth[where])
        with torch.autocast(self._device.type, enabled=self._half):
            loss = F.binary_cross_entropy_with_logits(self._network(images).float(), lesson.truth[where], weight)
        self._check(loss.item())
        self._optimiser.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._schedule.step()

    def _attacked(self, images: Tensor, truth: Tensor) -> Tensor:
        """One step of 1.25 epsilon along the sign of the gradient from a random start (Wong et al. 2020, section 4)."""
        epsilon = self._plan.attack / 127.5
        start = images + (torch.rand(images.shape) * 2 - 1).to(images.device) * epsilon
        start = start.clamp(-1, 1).requires_grad_()
        loss = F.binary_cross_entropy_with_logits(self._network(start).float(), truth)
        (gradient,) = torch.autograd.grad(loss, start)
        moved = start.detach() + 1.25 * epsilon * gradient.sign()
        return torch.clamp(moved, images - epsilon, images + epsilon).clamp(-1, 1)

    @torch.no_grad()
    def _loss_aside(self) -> float:
        lesson = self._lesson
        found = lesson.scores(self._network)
        loss = F.binary_cross_entropy_with_logits(found, lesson.truth_aside, lesson.weight_aside).item()
        return self._check(loss)

    def _check(self, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        left = "; the state before it is kept" if self._keeper and self.epoch >= KEPT_EVERY else ""
        raise RunFailed(f"the loss became {loss} in epoch {self.epoch + 1}{left}; train with another seed")

    def _weights(self) -> dict[str, Tensor]:
        return {key: tensor.detach().clone() for key, tensor in self._network.state_dict().items()}

    def _write(self, keeper: Keeper) -> None:
        optimiser = self._optimiser.state_dict()
        tensors = {f"network.{key}": tensor for key, tensor in self._network.state_dict().items()}
        tensors |= {f"best.{key}": tensor for key, tensor in self._kept.items()}
        for number, state in optimiser["state"].items():
            tensors |= {f"optimiser.{number}.{key}": tensor for key, tensor in state.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self._device)
        facts = {
            "epoch": self.epoch,
            "best_epoch": self._best_epoch,
            "best": self._best,
            "groups": optimiser["param_groups"],
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        keeper.write(tensors, facts)

    def _restore(self) -> None:
        found = self._keeper.read() if self._keeper else None
        if found is None:
            return
        tensors, facts = found
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimiser": {}, "random": {}}
        for key, tensor in tensors.items():
            part, _, rest = key.partition(".")
            parts[part][rest] = tensor
        self._network.load_state_dict(parts["network"])
        self._kept = {key: tensor.to(self._device) for key, tensor in parts["best"].items()}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimiser"].items():
            number, _, rest = key.partition(".")
            state.setdefault(int(number), {})[rest] = tensor
        self._optimiser.load_state_dict({"state": state, "param_groups": facts["groups"]})
        self._schedule.load_state_dict(facts["schedule"])
        self._scaler.load_state_dict(facts["scaler"])
        self.epoch, self._best_epoch, self._best = facts["epoch"], facts["best_epoch"], facts["best"]
        torch.set_rng_state(parts["random"]["cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(parts["random"]["cuda"], self._device)


def train(network: nn.Module, lesson: Lesson, plan: Schedule, keeper: Keeper | None = None) -> None:
    """Fit `network` in place, to end as it was in the epoch best for the samples aside; run it inside `seeded`.

    Raises RunFailed when a loss is not a finite number, with the last written state left as it is; UsageError when the
    keeper's folder holds another training.
    """
    Training(network, lesson, plan, keeper).run()
