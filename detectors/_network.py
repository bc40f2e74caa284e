"""Judges that are networks on crops: nothing is resized, because resizing rewrites the traces that are looked for.

The side of the crop is chosen at fit from the data and then fixed, so that all prepared tensors of a judge have one
shape. Training sees a random crop of every image in every epoch; judging averages the log-odds of a fixed few, the
centre and the four corners. An image smaller than the crop is padded by reflection; one under 8 pixels a side is
refused. Of an image over 256 pixels a side the centre is read, in training and in judging alike.

Three networks are trained, each without a third of the samples; that third chooses the epoch and calibrates the score,
so that P(fake) is learnt from samples the network did not see. The log-odds of the judge are the mean of the three.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evalkit.errors import UnreadableSample
from evalkit.extractors.area import image_of
from evalkit.extractors.identity import identity
from evalkit.types import SampleSet

from ._augment import Augmentation, augmented, generator, places
from ._calibrate import platt
from ._fit import TrainingSet, balanced_weights, collect, grouped_folds, seeded
from ._judge import Judge
from ._training import Keeper, Lesson, Schedule, train

if TYPE_CHECKING:
    from evalkit.types import Media

NETWORKS = 3
SMALLEST, REGION = 8, 256

# Pixels that pass through the networks at once when judging, 64 views of 64 x 64: memory is bounded whatever the batch.
AT_ONCE = 64**3


@dataclass(frozen=True)
class Crops:
    """Sides of the crops: in training from `least` to `most`, even; `view` the most when judging, 0: as in training.

    views: how many crops of an image are judged; one where images are no larger than the crop.
    """

    least: int
    most: int
    view: int = 0
    views: int = 5


@dataclass(frozen=True)
class Effort:
    """Epochs: `visits` of samples in all, kept between `fewest` and `most`; larger sets train for fewer epochs."""

    visits: int
    fewest: int
    most: int


@dataclass(frozen=True)
class Plans:
    """How a judge cuts, learns and changes its images; the schedule's epochs are set by the effort."""

    crops: Crops
    effort: Effort
    schedule: Schedule
    changes: Augmentation

    @property
    def settings(self) -> dict[str, object]:
        """What a recipe says of them."""
        return {"networks": NETWORKS, "region": REGION, "plans": astuple(self)}


class CropJudge(Judge):
    """Base of the judges whose networks read crops; a judge gives its plans and `_network`."""

    modality: ClassVar[Literal["image"]] = "image"
    plans: ClassVar[Plans]

    def __init__(self) -> None:
        super().__init__()
        self._networks: list[nn.Module] = []
        self._folder: Path | None = None

    @abstractmethod
    def _network(self, facts: Mapping[str, Any]) -> nn.Module:
        """A new network for these crops: log-odds [B] of images [B, 3, H, W] in [-1, 1]."""

    def keep_in(self, folder: Path) -> None:
        """Keep the state of a training in this folder while it lasts, and go on from what is there."""
        self._folder = folder

    def prepare(self, sample: Media) -> Tensor:
        """uint8 [views, 3, S, S]; UnreadableSample when a side is under 8 pixels."""
        self._fitted()
        image = torch.from_numpy(np.ascontiguousarray(self._readable(sample).transpose(2, 0, 1)))
        return views(image[None], self._facts["view"], self._facts["views"])[0]

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        self._fitted()
        found = [self._found(part.float() / 127.5 - 1) for part in _parts(batch.flatten(0, 1))]
        return torch.sigmoid(self._calibrated(torch.cat(found), batch.shape[1]))[:, None]

    def log_odds(self, images: Tensor) -> Tensor:
        """Log-odds of fake [B] of float images [B, 3, H, W] in 0..255, with gradients: the logit of the row."""
        self._fitted()
        height, width = images.shape[-2:]
        _check_sides(self.name, height, width)
        rows, columns = central(height), central(width)
        seen = views(images[..., rows, columns], self._facts["view"], self._facts["views"])
        return self._calibrated(self._found(seen.flatten(0, 1) / 127.5 - 1), seen.shape[1])

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed sets folds, first weights, order and augmentation.

        Raises TooFewSamples also when copies leave fewer than three different samples a side; RunFailed when the loss
        stops being a number.
        """
        self._fit_crops(self._collected(real, fake), self._chosen_side(real, fake), seed, device)

    def _fit_crops(self, data: TrainingSet, median: int, seed: int, device: str) -> None:
        crops = self.plans.crops
        side = int(np.clip(median, crops.least, crops.most)) // 2 * 2
        view = max(side, min(median, crops.view))
        facts = {"seed": seed, "crop": side, "view": view, "views": crops.views if median > view else 1}
        self._learn_folds(data, grouped_folds(data, NETWORKS, seed), facts, device)

    def _learn_folds(self, data: TrainingSet, fold: npt.NDArray[np.int64], facts: dict[str, Any], device: str) -> None:
        """Train a network without each fold, calibrate it on that fold, and take over all of them."""
        tensors, calibration, keepers = {}, [], []
        for k in range(NETWORKS):
            seed, keeper = facts["seed"] * NETWORKS + k, self._keeper(data, facts, k, device)
            with seeded(seed, device):
                network = self._network(facts).to(device)
                lesson = self._lesson(data, fold == k, facts, seed, device)
                train(network, lesson, self._schedule(len(lesson.truth), facts), keeper)
                unseen = self._unseen(network, data, np.flatnonzero(fold == k), facts, device)
            tensors.update({f"network{k}.{key}": value for key, value in network.state_dict().items()})
            found = platt(unseen.double().cpu().numpy(), data.is_fake[fold == k])
            calibration.append([found.slope, found.offset])
            keepers.append(keeper)
        self.to(device)
        self._learn({**tensors, "calibration": torch.tensor(calibration)}, facts, data.words)
        for done in keepers:
            if done:
                done.remove()

    def _schedule(self, learnt: int, facts: Mapping[str, Any]) -> Schedule:
        """The schedule for so many samples to learn from."""
        effort = self.plans.effort
        epochs = max(effort.fewest, min(effort.most, effort.visits // learnt))
        return replace(self.plans.schedule, epochs=epochs)

    def _keeper(self, data: TrainingSet, facts: dict[str, Any], k: int, device: str) -> Keeper | None:
        if self._folder is None:
            return None
        about = {"data": data.words, "groups": data.groups, **facts, "network": k, "device": device}
        return Keeper(self._folder, f"network{k}", identity(self.recipe, self.version, about))

    def _lesson(
        self, data: TrainingSet, aside: npt.NDArray[np.bool_], facts: Mapping[str, Any], seed: int, device: str
    ) -> Lesson:
        learnt, held = np.flatnonzero(~aside), np.flatnonzero(aside)

        def training_views(index: Tensor, epoch: int) -> Tensor:
            made = []
            for i in learnt[index.numpy()]:
                image = data.prepared[i].permute(1, 2, 0).numpy()
                made.append(augmented(image, facts["crop"], self.plans.changes, generator(seed, epoch, int(i))))
            batch = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()
            return batch.to(device).float() / 127.5 - 1

        # One view of each tells the epochs apart; the score that is calibrated takes them all.
        centre = {**facts, "view": facts["crop"], "views": 1}
        truth = torch.from_numpy(data.is_fake).float().to(device)
        weight = torch.from_numpy(balanced_weights(data.is_fake)).float().to(device)
        return Lesson(
            training_views,
            truth[learnt],
            weight[learnt],
            lambda network: self._unseen(network, data, held, centre, device),
            truth[held],
            weight[held],
        )

    @torch.no_grad()
    def _unseen(
        self, network: nn.Module, data: TrainingSet, which: npt.NDArray[np.int64], facts: Mapping[str, Any], device: str
    ) -> Tensor:
        """The log-odds of some samples as they are judged, before calibration."""
        network.eval()
        seen = [views(data.prepared[i][None], facts["view"], facts["views"])[0] for i in which]
        found = [network(part.to(device).float() / 127.5 - 1) for part in _parts(torch.cat(seen))]
        return torch.cat(found).view(-1, facts["views"]).mean(dim=1)

    def _ready(self) -> None:
        if self._tensors["calibration"].shape != (NETWORKS, 2):
            raise ValueError("calibration is not this detector's")
        side, view, count = (int(self._facts[key]) for key in ("crop", "view", "views"))
        if not SMALLEST <= side <= view <= REGION or count not in (1, 5):
            raise ValueError("crop or views are not this detector's")
        self._build()

    def _build(self) -> None:
        """The networks of the tensors, ready to judge."""
        # Built on meta, so that no first weights are drawn from the caller's random stream.
        with torch.device("meta"):
            networks: list[nn.Module] = [self._network(self._facts) for _ in range(NETWORKS)]
        for k, network in enumerate(networks):
            prefix = f"network{k}."
            state = {key.removeprefix(prefix): t for key, t in self._tensors.items() if key.startswith(prefix)}
            network.load_state_dict(state, assign=True)
            network.to(self._device).eval().requires_grad_(False)
        self._networks = networks

    def _found(self, seen: Tensor) -> Tensor:
        """Log-odds [N, networks] of views [N, 3, S, S] in [-1, 1], before calibration."""
        return torch.stack([network(seen) for network in self._networks], dim=1)

    def _calibrated(self, found: Tensor, count: int) -> Tensor:
        """Log-odds [B] of the images from those of `count` views of each."""
        calibration = self._tensors["calibration"]
        found = found.view(-1, count, NETWORKS).mean(dim=1)
        return (found * calibration[:, 0] + calibration[:, 1]).mean(dim=1)

    def _readable(self, sample: Media) -> npt.NDArray[np.uint8]:
        """The central part of an image, uint8 [H, W, 3]."""
        image = image_of(sample, f"detector {self.name!r}")
        _check_sides(self.name, *image.shape[:2])
        return image[central(image.shape[0]), central(image.shape[1])]

    def _collected(self, real: SampleSet, fake: SampleSet) -> TrainingSet:
        def whole(sample: Media) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(self._readable(sample).transpose(2, 0, 1)))

        return collect(self.name, self.modality, whole, real, fake)

    def _chosen_side(self, real: SampleSet, fake: SampleSet) -> int:
        """The median shorter side of the first hundred readable images of each set."""
        sides = []
        for samples in (real, fake):
            for sample in islice(samples, 100):
                with suppress(UnreadableSample):
                    sides.append(min(image_of(sample.load(), f"detector {self.name!r}").shape[:2]))
        return int(np.median(sides or [SMALLEST]))


def views(images: Tensor, side: int, count: int) -> Tensor:
    """Fixed crops [B, count, C, side, side] of images [B, C, H, W]: the centre, and the four corners when count is 5.

    A side shorter than the crop is reflected. Indexing only, so gradients pass.
    """
    height, width = images.shape[-2:]
    crops = []
    for vertical, horizontal in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2))[:count]:
        y, x = (
            torch.from_numpy(places(length, side, max(0, length - side) * at // 2)).to(images.device)
            for length, at in ((height, vertical), (width, horizontal))
        )
        crops.append(images[..., y, :][..., x])
    return torch.stack(crops, dim=1)


def _parts(seen: Tensor) -> tuple[Tensor, ...]:
    """Views [N, 3, S, S] cut into what passes through a network at once."""
    parts: tuple[Tensor, ...] = torch.split(seen, max(1, AT_ONCE // seen.shape[-1] ** 2))
    return parts


def central(length: int) -> slice:
    """The part of a side that is read."""
    start = max(0, length - REGION) // 2
    return slice(start, start + REGION)


def _check_sides(name: str, height: int, width: int) -> None:
    if min(height, width) < SMALLEST:
        raise UnreadableSample(f"the image is {width} x {height}; {name} needs {SMALLEST} pixels a side")
