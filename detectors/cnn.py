"""Judge by eye: convolutional networks trained from scratch on real and fake images, small ones or ResNet-18.

The median shorter side of the first hundred training images of each set decides. To 32 pixels every image is
area-averaged to that side, at least 8. Above, nothing is resized: ResNet-18 by the recipe of CNNDetection (Wang et al.
2020) learns from crops of at most 64 pixels after blur and JPEG with probability 0.5 each, and judges the mean of five
(`_network`). It starts from the weights of He et al. 2015, not from ImageNet's, and learns for minutes of one CPU
thread (`CROPPED`): a few hundred images teach it little.

Three networks are trained, each without a third of the samples; that third chooses the epoch and calibrates the score,
so that P(fake) is learnt from samples the network did not see. The small judge is the mean of their probabilities.

Images of at most 16 pixels are drawings more than textures: which grey level stands at which place is what gives a fake
away. There the networks read grey levels as channels and weigh every place by itself, and the training images are
neither shifted nor mirrored. Those up to 32 are mirrored, shifted and pooled, so that a flaw counts wherever it is.

`cnn:adversarial` learns from images moved by a one-step attack with a random start, 4 of 255 grey levels (Wong et al.
2020). Whether that helps has to be measured each time: on the digits of docs/matrix.md it did not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import UnknownName
from evalkit.extractors.area import area_average, image_of
from evalkit.types import SampleSet

from ._augment import Augmentation
from ._fit import TrainingSet, balanced_weights, collect, folds
from ._network import NETWORKS, CropJudge, Crops, Effort, Plans
from ._resnet import initialise, resnet18
from ._training import Lesson, Schedule

if TYPE_CHECKING:
    from evalkit.types import Media

SMALLEST, LARGEST = 8, 32
WIDTH = 24
LEVELS = 17
BATCH, DECAY = 64, 0.02
EPOCHS, FEWEST_EPOCHS = 30, 4
ADVERSARIAL, EPSILON = "adversarial", 4.0

# Above 32 pixels: crops that one CPU thread can learn from in minutes.
CROPPED = Plans(Crops(32, 64), Effort(1_500, 2, 40), Schedule(0, 32, 1e-3, 0.02), Augmentation(blur=0.5, jpeg=0.5))


@dataclass(frozen=True)
class Plan:
    """How images of some sides are read and learnt from."""

    largest_side: int
    levels: int  # channels of grey level beside the three of colour
    by_place: bool  # the head weighs every place by itself, and training images stay as they are
    input_dropout: float
    dropout: float
    peak_rate: float
    visits: int  # how often a network may look at a sample in all: larger sets train for fewer epochs


# On digits of 8 x 8 against a GAN's, AUROC of held-out samples: 0.59 shifted and pooled, 0.84 no longer shifted, 0.91
# when neither mirrored nor pooled; grey levels with this dropout and rate take the loss aside from 0.59 to 0.47.
PLANS = (
    Plan(16, LEVELS, True, 0.2, 0.5, 2e-3, 9_000),
    Plan(LARGEST, 0, False, 0.0, 0.3, 6e-3, 12_000),
)


class SmallCNN(nn.Module):
    """Log-odds of fake [B] from images [B, 3, S, S] in [-1, 1]; S from 8 to 32."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.plan = plan = _plan(side)
        # Sides over 16 start with a stride: the cost of a pass grows no faster than the side.
        first = 2 if side > 16 else 1
        self.stages = nn.Sequential(
            *_stage(3 + plan.levels, WIDTH, first),
            *_stage(WIDTH, 2 * WIDTH, 2),
            *_stage(2 * WIDTH, 2 * WIDTH, 1),
        )
        self.input_dropout = nn.Dropout(plan.input_dropout)
        self.dropout = nn.Dropout(plan.dropout)
        places = math.ceil(side / first / 2) ** 2
        self.head = nn.Linear(2 * WIDTH * places if plan.by_place else 4 * WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        if self.plan.levels:
            images = torch.cat([images, grey_levels(images, self.plan.levels)], dim=1)
        stages = self.stages(self.input_dropout(images))
        if self.plan.by_place:
            seen = stages.flatten(1)
        else:
            # The mean says how much of a texture there is, the maximum whether a flaw is anywhere.
            seen = torch.cat([stages.mean(dim=(2, 3)), stages.amax(dim=(2, 3))], dim=1)
        log_odds: Tensor = self.head(self.dropout(seen)).squeeze(1)
        return log_odds


def grey_levels(images: Tensor, levels: int) -> Tensor:
    """How near each pixel's mean colour is to each of `levels` even steps, 0..1, summing to 1 over the levels.

    images [B, 3, H, W] in [-1, 1] -> [B, levels, H, W]. A value on a step is that step alone; one between two steps is
    shared by them, so that the reading has no edges.
    """
    position = (images.mean(dim=1, keepdim=True) + 1) * ((levels - 1) / 2)
    step = torch.arange(levels, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
    return (1 - (position - step).abs()).clamp_min(0)


def _plan(side: int) -> Plan:
    return next(plan for plan in PLANS if side <= plan.largest_side)


def _stage(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    # Batch normalisation is worth 0.06 of AUROC on 160 + 160 digits; when judging it is a fixed scale, so rows stay
    # independent of their batch.
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()


class CNN(CropJudge):
    """Three convolutional networks, cross-fitted and calibrated: small ones to 32 pixels a side, ResNet-18 above."""

    name = "cnn"
    version: ClassVar[int] = 3
    modality: ClassVar[Literal["image"]] = "image"
    plans = CROPPED
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {
            "networks": NETWORKS,
            "sides": (SMALLEST, LARGEST),
            "width": WIDTH,
            "training": (BATCH, DECAY, EPOCHS, FEWEST_EPOCHS),
            "small": tuple(astuple(plan) for plan in PLANS),
            "large": CROPPED.settings,
        }
    )

    def __init__(self, variant: str = "") -> None:
        """variant: "adversarial" trains on images under a one-step attack of 4/255. Raises UnknownName."""
        super().__init__()
        if variant not in ("", ADVERSARIAL):
            raise UnknownName("variant of cnn", variant, [ADVERSARIAL])
        self._attack = EPSILON if variant else 0.0
        if variant:
            # What `name` and `settings` of the class say of every other cnn; a variant is another detector.
            vars(self).update(name=f"{self.name}:{variant}", settings={**self.settings, "attack": EPSILON})

    def prepare(self, sample: Media) -> Tensor:
        """To 32 pixels: float32 [3, S, S] in [-1, 1], S the side chosen at fit. Above: uint8 [views, 3, S, S]."""
        self._fitted()
        if not self._is_small:
            return super().prepare(sample)
        return _sized(image_of(sample, f"detector {self.name!r}"), self._facts["side"])

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        calibration = self._fitted()["calibration"]
        if not self._is_small:
            return super().__call__(batch)
        return torch.sigmoid(self._found(batch) * calibration[:, 0] + calibration[:, 1]).mean(dim=1, keepdim=True)

    def log_odds(self, images: Tensor) -> Tensor:
        """Log-odds of fake [B] of float images [B, 3, H, W] in 0..255, calibrated, with gradients in the images.

        Of small networks it is the mean of their log-odds, where the row is the mean of their probabilities; they
        agree on the side of 0.5 wherever the networks do.
        """
        self._fitted()
        if not self._is_small:
            return super().log_odds(images)
        side = self._facts["side"]
        # The area average of `prepare`, as an operation that has gradients.
        x = F.adaptive_avg_pool2d(images, side) if images.shape[-2:] != (side, side) else images
        return self._calibrated(self._found(x / 127.5 - 1), 1)

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed sets folds, first weights, order and augmentation."""
        median = self._chosen_side(real, fake)
        if median > LARGEST:
            self._fit_crops(self._collected(real, fake), median, seed, device)
            return
        side = max(SMALLEST, median)
        data = collect(self.name, self.modality, lambda sample: _sized(image_of(sample, self.name), side), real, fake)
        self._learn_folds(data, folds(data.is_fake, NETWORKS, seed), {"seed": seed, "side": side}, device)

    @property
    def _is_small(self) -> bool:
        return "side" in self._facts

    def _network(self, facts: Mapping[str, Any]) -> nn.Module:
        if "side" in facts:
            return SmallCNN(int(facts["side"]))
        # Under 64 pixels the published stem would leave one place of the map.
        network = resnet18() if facts["crop"] >= 64 else resnet18(stem=(3, 2), pool=False)
        initialise(network)
        return network

    def _schedule(self, learnt: int, facts: Mapping[str, Any]) -> Schedule:
        if "side" not in facts:
            return replace(super()._schedule(learnt, facts), attack=self._attack)
        plan = _plan(int(facts["side"]))
        epochs = max(FEWEST_EPOCHS, min(EPOCHS, plan.visits // learnt))
        return Schedule(epochs, BATCH, plan.peak_rate, DECAY, balanced=False, half=False, attack=self._attack)

    def _lesson(
        self, data: TrainingSet, aside: npt.NDArray[np.bool_], facts: Mapping[str, Any], seed: int, device: str
    ) -> Lesson:
        if "side" not in facts:
            return super()._lesson(data, aside, facts, seed, device)
        learnt, by_place = torch.from_numpy(~aside).to(device), _plan(int(facts["side"])).by_place
        images = torch.stack(data.prepared).to(device)
        truth = torch.from_numpy(data.is_fake).float().to(device)
        weights = torch.from_numpy(balanced_weights(data.is_fake)).float().to(device)
        x, held = images[learnt], images[~learnt]
        return Lesson(
            lambda index, epoch: x[index] if by_place else _augment(x[index]),
            truth[learnt],
            weights[learnt],
            lambda network: _scores(network, held),
            truth[~learnt],
            weights[~learnt],
        )

    def _unseen(
        self, network: nn.Module, data: TrainingSet, which: npt.NDArray[np.int64], facts: Mapping[str, Any], device: str
    ) -> Tensor:
        if "side" not in facts:
            return super()._unseen(network, data, which, facts, device)
        return _scores(network, torch.stack([data.prepared[i] for i in which]).to(device))

    def _ready(self) -> None:
        if "side" not in self._facts:
            super()._ready()
            return
        side = int(self._facts["side"])
        if self._tensors["calibration"].shape != (NETWORKS, 2) or not SMALLEST <= side <= LARGEST:
            raise ValueError("calibration or side is not this detector's")
        self._build()


def _sized(image: npt.NDArray[np.uint8], side: int) -> Tensor:
    return torch.from_numpy(area_average(image, side).transpose(2, 0, 1).copy()) / 127.5 - 1


def _augment(batch: Tensor) -> Tensor:
    """Half of the batch mirrored (a mirrored flaw is a flaw), all of it shifted by up to one pixel."""
    mirrored = torch.rand(len(batch), 1, 1, 1).to(batch.device) < 0.5
    flipped = torch.where(mirrored, batch.flip(3), batch)
    dy, dx = (int(v) for v in torch.randint(-1, 2, (2,)))
    side = batch.shape[-1]
    return F.pad(flipped, (1, 1, 1, 1), mode="replicate")[:, :, 1 + dy : 1 + dy + side, 1 + dx : 1 + dx + side]


@torch.no_grad()
def _scores(network: nn.Module, images: Tensor) -> Tensor:
    network.eval()
    return torch.cat([network(images[i : i + 256]) for i in range(0, len(images), 256)])
