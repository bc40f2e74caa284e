"""Judge by eye: a small convolutional network trained from scratch on real and fake images.

Every image is area-averaged to one small side, chosen from the training images: the median shorter side of the first
hundred of each set, at least 8 and at most 32. Three networks are trained, each without a third of the samples; that
third chooses the epoch and calibrates the score, so that P(fake) is learnt from samples the network did not see. The
judge is the mean of the three probabilities.

What it cannot see: detail finer than its side. `spectrum` reads that.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import UnreadableSample
from evalkit.extractors.area import area_average, image_of
from evalkit.types import SampleSet

from ._calibrate import platt
from ._fit import balanced_weights, collect, folds, seeded
from ._judge import Judge

if TYPE_CHECKING:
    from evalkit.types import Media

NETWORKS = 3
SMALLEST, LARGEST = 8, 32
WIDTH = 24
BATCH, PEAK_RATE, DECAY, DROPOUT = 64, 6e-3, 0.02, 0.3
EPOCHS, FEWEST_EPOCHS = 30, 4
VISITS = 12_000  # how often a network may look at a sample in all: larger sets train for fewer epochs


class SmallCNN(nn.Module):
    """Log-odds of fake [B] from images [B, 3, S, S] in [-1, 1]; S from 8 to 32."""

    def __init__(self, side: int, dropout: float = 0.0) -> None:
        super().__init__()
        # Sides over 16 start with a stride: the cost of a pass grows no faster than the side.
        first = 2 if side > 16 else 1
        self.stages = nn.Sequential(
            *_stage(3, WIDTH, first),
            *_stage(WIDTH, 2 * WIDTH, 2),
            *_stage(2 * WIDTH, 2 * WIDTH, 1),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        stages = self.stages(images)
        # The mean says how much of a texture there is, the maximum whether a flaw is anywhere.
        pooled = torch.cat([stages.mean(dim=(2, 3)), stages.amax(dim=(2, 3))], dim=1)
        log_odds: Tensor = self.head(self.dropout(pooled)).squeeze(1)
        return log_odds


def _stage(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    # Batch normalisation is worth 0.06 of AUROC on 160 + 160 digits; when judging it is a fixed scale, so rows stay
    # independent of their batch.
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()


class CNN(Judge):
    """Three small convolutional networks, cross-fitted and calibrated, on images averaged to at most 32 x 32."""

    name = "cnn"
    modality: ClassVar[Literal["image"]] = "image"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {
            "networks": NETWORKS,
            "sides": (SMALLEST, LARGEST),
            "width": WIDTH,
            "training": (BATCH, PEAK_RATE, DECAY, DROPOUT, EPOCHS, FEWEST_EPOCHS, VISITS),
        }
    )

    def __init__(self) -> None:
        super().__init__()
        self._networks: list[SmallCNN] = []

    def prepare(self, sample: Media) -> Tensor:
        """float32 [3, S, S] in [-1, 1], S the side chosen when the judge was fitted."""
        self._fitted()
        return _sized(image_of(sample, f"detector {self.name!r}"), self._facts["side"])

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        calibration = self._fitted()["calibration"]
        log_odds = torch.stack([network(batch) for network in self._networks], dim=1)
        return torch.sigmoid(log_odds * calibration[:, 0] + calibration[:, 1]).mean(dim=1, keepdim=True)

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed sets folds, first weights, order and augmentation."""
        side = _choose_side(real, fake)
        data = collect(self.name, self.modality, lambda sample: _sized(image_of(sample, self.name), side), real, fake)
        images = torch.stack(data.prepared).to(device)
        fold = folds(data.is_fake, NETWORKS, seed)
        tensors, calibration = {}, []
        for k in range(NETWORKS):
            with seeded(seed * NETWORKS + k, device):
                network, unseen = _train(images, data.is_fake, fold == k, side)
            tensors.update({f"network{k}.{key}": value for key, value in network.state_dict().items()})
            found = platt(unseen, data.is_fake[fold == k])
            calibration.append([found.slope, found.offset])
        self.to(device)
        self._learn({**tensors, "calibration": torch.tensor(calibration)}, {"seed": seed, "side": side}, data.words)

    def _ready(self) -> None:
        side = int(self._facts["side"])
        if self._tensors["calibration"].shape != (NETWORKS, 2) or not SMALLEST <= side <= LARGEST:
            raise ValueError("calibration or side is not this detector's")
        # Built on meta, so that no first weights are drawn from the caller's random stream.
        with torch.device("meta"):
            networks = [SmallCNN(side) for _ in range(NETWORKS)]
        for k, network in enumerate(networks):
            prefix = f"network{k}."
            state = {key.removeprefix(prefix): t for key, t in self._tensors.items() if key.startswith(prefix)}
            network.load_state_dict(state, assign=True)
            network.to(self._device).eval().requires_grad_(False)
        self._networks = networks


def _choose_side(real: SampleSet, fake: SampleSet) -> int:
    """The median shorter side of the first hundred readable images of each set, kept within 8 and 32."""
    sides = []
    for samples in (real, fake):
        for sample in islice(samples, 100):
            with suppress(UnreadableSample):
                sides.append(min(image_of(sample.load(), CNN.name).shape[:2]))
    return int(np.clip(np.median(sides or [SMALLEST]), SMALLEST, LARGEST))


def _sized(image: npt.NDArray[np.uint8], side: int) -> Tensor:
    return torch.from_numpy(area_average(image, side).transpose(2, 0, 1).copy()) / 127.5 - 1


def _train(
    images: Tensor, is_fake: npt.NDArray[np.int64], aside: npt.NDArray[np.bool_], side: int
) -> tuple[SmallCNN, npt.NDArray[np.float64]]:
    """A network fitted on the samples not `aside`, at the epoch best for those aside, and its scores of them."""
    mask = torch.from_numpy(aside).to(images.device)
    truth = torch.from_numpy(is_fake).float().to(images.device)
    weights = torch.from_numpy(balanced_weights(is_fake)).float().to(images.device)
    x, y, w = images[~mask], truth[~mask], weights[~mask]
    network = SmallCNN(side, DROPOUT).to(images.device)
    epochs = max(FEWEST_EPOCHS, min(EPOCHS, VISITS // len(x)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    steps = epochs * math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    best, kept = math.inf, copy.deepcopy(network)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), BATCH):
            index = order[start : start + BATCH]
            loss = F.binary_cross_entropy_with_logits(network(_augment(x[index])), y[index], w[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        loss_aside = F.binary_cross_entropy_with_logits(_scores(network, images[mask]), truth[mask], weights[mask])
        if loss_aside.item() < best:
            best, kept = loss_aside.item(), copy.deepcopy(network)
    return kept, _scores(kept, images[mask]).double().cpu().numpy()


def _augment(batch: Tensor) -> Tensor:
    """Half of the batch mirrored (a mirrored flaw is a flaw), all of it shifted by up to one pixel."""
    mirrored = torch.rand(len(batch), 1, 1, 1).to(batch.device) < 0.5
    flipped = torch.where(mirrored, batch.flip(3), batch)
    dy, dx = (int(v) for v in torch.randint(-1, 2, (2,)))
    side = batch.shape[-1]
    return F.pad(flipped, (1, 1, 1, 1), mode="replicate")[:, :, 1 + dy : 1 + dy + side, 1 + dx : 1 + dx + side]


@torch.no_grad()
def _scores(network: SmallCNN, images: Tensor) -> Tensor:
    network.eval()
    scores = torch.cat([network(images[i : i + 256]) for i in range(0, len(images), 256)])
    network.train()
    return scores
