"""Training images as one array, and what samples must share with them: size, colour, grey levels, class names."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource, TooFewSamples, UnreadableSample
from evalkit.types import Batch, Progress, SampleSet

from ._family import Family
from ._training import count_parameters

if TYPE_CHECKING:
    from evalkit.types import Media

FEWEST = 8
LARGEST_SIDE = 64
MOST_CLASSES = 64
MOST_LEVELS = 64

# Networks leave a haze of a few grey values on a background that is exactly 0, and a detector needs nothing else.
HAZE = 16


@dataclass(frozen=True)
class Look:
    """What the training images have in common: size, channels (1 where R=G=B everywhere), grey levels, class names."""

    height: int
    width: int
    channels: int
    # Every value a pixel takes, where there are at most 64 of them; empty for photographs.
    levels: tuple[int, ...]
    # Values under this one are background; 0 where there is none.
    haze: int
    # Empty where the images carry no labels or too many of them.
    classes: tuple[str, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Look:
        """The look that `asdict` turned into JSON."""
        return cls(**{**facts, "levels": tuple(facts["levels"]), "classes": tuple(facts["classes"])})

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) as networks read it."""
        return self.channels, self.height, self.width

    @property
    def is_small(self) -> bool:
        """Small enough for a plain MLP on flattened pixels; above, convolutions are cheaper and better."""
        return max(self.height, self.width) <= 16

    @property
    def kinds(self) -> int:
        """How many classes a conditional network tells apart; 1 when there are no labels."""
        return max(1, len(self.classes))

    def cycle(self, start: int, count: int) -> Tensor:
        """Class index of samples `start` to `start + count`: the classes in turn."""
        return torch.arange(start, start + count) % self.kinds

    def names(self, labels: Tensor) -> list[str] | None:
        """The class names of `labels`; None where the training images had none."""
        return [self.classes[i] for i in labels.tolist()] if self.classes else None

    @property
    def values(self) -> tuple[int, ...]:
        """The grey levels a pixel may take, in order: those of the training images, else all 256."""
        return self.levels or tuple(range(256))

    def indices(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """uint8 [C, H, W]: which of `values` each pixel of an image [H, W, 3] is nearest to; C = 1 reads its mean."""
        values = torch.tensor(self.values, dtype=torch.float32)
        x = torch.from_numpy(pixels[..., : self.channels] if self.channels == 3 else pixels.mean(2, keepdims=True))
        return torch.bucketize(x.permute(2, 0, 1).float().contiguous(), (values[1:] + values[:-1]) / 2).to(torch.uint8)

    def shades(self, indices: Tensor) -> Tensor:
        """Values in 0..1 of indices into `values`, float32 of the same shape."""
        return torch.tensor(self.values, dtype=torch.float32, device=indices.device)[indices.long()] / 255

    def render(self, x: Tensor) -> npt.NDArray[np.uint8]:
        """uint8 images [B, H, W, 3] of values in 0..1, [B, C, H, W]: clipped and snapped to the training levels."""
        values = x.detach().float().cpu().clamp(0, 1) * 255
        values = torch.where(values < self.haze, 0.0, values)
        if self.levels:
            levels = torch.tensor(self.levels, dtype=torch.float32)
            values = levels[torch.bucketize(values, (levels[1:] + levels[:-1]) / 2)]
        pixels = values.round().to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
        return cast("npt.NDArray[np.uint8]", np.ascontiguousarray(pixels.numpy()))


def read_images(
    samples: SampleSet, family: str, *, fewest: int = FEWEST, largest: int | None = LARGEST_SIDE
) -> npt.NDArray[np.uint8]:
    """All images of a set as uint8 [N, H, W, 3]; raises TooFewSamples, or BadSource for what cannot be one array."""
    if len(samples) < fewest:
        raise TooFewSamples(f"{family} needs at least {fewest} training images, {samples.name!r} has {len(samples)}")
    images: list[npt.NDArray[np.uint8]] = []
    for sample in samples:
        try:
            image = cast("npt.NDArray[np.uint8]", sample.load())
        except UnreadableSample as e:
            raise BadSource(f"training image {sample.id!r} cannot be read ({e}); remove it from the set") from e
        if images and image.shape != images[0].shape:
            raise BadSource(
                f"images of {samples.name!r} differ in size: {sample.id!r} is {_size(image)}, "
                f"the first is {_size(images[0])}; {family} needs one size"
            )
        if largest is not None and max(image.shape[:2]) > largest:
            raise BadSource(
                f"{family} supports images up to {largest}x{largest} pixels, {sample.id!r} is {_size(image)}; "
                "scale the training set down"
            )
        images.append(image)
    return np.stack(images)


def study(pixels: npt.NDArray[np.uint8], samples: SampleSet, family: str) -> tuple[Look, Tensor]:
    """The look of training images [N, H, W, 3] and the class index of each [N]; BadSource if all are constant."""
    levels = np.unique(pixels)
    if len(levels) < 2:
        raise BadSource(f"every pixel of {samples.name!r} is {levels[0]}; {family} cannot learn from constant images")
    grey = bool((pixels == pixels[..., :1]).all())
    groups = [s.group for s in samples]
    classes = sorted({g for g in groups if g is not None})
    if None in groups or len(classes) > MOST_CLASSES:
        classes = []
    position = {name: i for i, name in enumerate(classes)}
    labels = torch.tensor([position.get(g or "", 0) if classes else 0 for g in groups])
    look = Look(
        height=pixels.shape[1],
        width=pixels.shape[2],
        channels=1 if grey else 3,
        levels=tuple(levels.tolist()) if len(levels) <= MOST_LEVELS else (),
        haze=HAZE if float((pixels == 0).mean()) > 0.25 else 0,
        classes=tuple(classes),
    )
    return look, labels


def _size(image: npt.NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


class ImageFamily(Family):
    """A family that keeps one network and the look of its training images."""

    modality = "image"
    _look: Look
    # The look of the images being learnt from, before there is a network for it.
    _studied: Look
    _net: nn.Module
    _device: str = "cpu"

    def to(self, device: str) -> None:
        """Sample on `device` from now on."""
        self._net, self._device = self._net.to(device), device

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        pixels = read_images(samples, self.name)
        look, labels = study(pixels, samples, self.name)
        x = torch.from_numpy(pixels[..., : look.channels]).permute(0, 3, 1, 2).float() / 255
        self._studied = look
        net = self._train(look, x, labels, seed, device, progress)
        self._look, self._net, self._device = look, net.eval(), device
        return count_parameters(net)

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        net = self._build(self._studied)
        net.load_state_dict(state)
        self._look, self._net, self._device = self._studied, net.eval(), "cpu"
        return True

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        labels = self._look.cycle(start, count)
        x = self._generate(labels.to(self._device), rng)
        return Batch(self._look.render(x), self._look.names(labels))

    def _tensors(self) -> dict[str, Tensor]:
        return dict(self._net.state_dict())

    def _facts(self) -> dict[str, Any]:
        return asdict(self._look)

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        look = Look.of(facts)
        net = self._build(look)
        net.load_state_dict(tensors)
        self._look, self._net, self._device = look, net.eval(), "cpu"

    @abstractmethod
    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        """The trained network for images x in 0..1 [N, C, H, W] with class indices [N]."""

    @abstractmethod
    def _build(self, look: Look) -> nn.Module:
        """The network that `_generate` uses, with fresh weights."""

    @abstractmethod
    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images in 0..1 [B, C, H, W] of the classes `labels` [B]."""


class LikelyFamily(ImageFamily):
    """A family that knows how probable an image is: the chance of its grey levels, each one of `Look.values`."""

    def prepare(self, sample: Media) -> Tensor:
        """uint8 [C, H, W] indices of grey levels; BadSource for an image of another size, BadSetting before `fit`."""
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before likelihood")
        if isinstance(sample, str) or sample.shape[:2] != self._look.shape[1:]:
            found = "a text" if isinstance(sample, str) else _size(sample)
            raise BadSource(f"{self.name} learned {self._look.width}x{self._look.height} images, this is {found}")
        return self._look.indices(sample)

    def likelihood(self, batch: Tensor) -> Tensor:
        """float32 [B, 3] of (nats, pixel values, bytes) of indices [B, C, H, W]; classes, where any, are summed out."""
        with torch.no_grad():
            nats = self._nats(batch.to(self._device).long())
        size = torch.full_like(nats, math.prod(self._look.shape))
        return torch.stack([nats, size, size], 1).float()

    @abstractmethod
    def _nats(self, indices: Tensor) -> Tensor:
        """-ln p of images as indices int64 [B, C, H, W] -> [B]."""


class CodeFamily(ImageFamily):
    """A family whose image is a function of a class and of a code z ~ N(0, I)."""

    @property
    @abstractmethod
    def latent_size(self) -> int:
        """How many numbers a code has."""

    def decode(self, z: Tensor) -> Tensor:
        """Images of the codes z [B, latent_size], float32 [B, 3, H, W] in 0..255, code i of class i in turn.

        Neither rounded nor snapped to the training levels as samples are: a small step of the code has to show.
        Raises BadSetting before `fit`.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before decode")
        labels = self._look.cycle(0, len(z)).to(self._device)
        with torch.no_grad():
            x = self._decoded(z.to(self._device, torch.float32), labels)
        return x.clamp(0, 1).expand(-1, 3, -1, -1) * 255

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        z = torch.randn(len(labels), self.latent_size, generator=rng).to(labels.device)
        return self._decoded(z, labels)

    @abstractmethod
    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images in 0..1 [B, C, H, W] of the codes z [B, latent_size] and the classes `labels` [B]."""
