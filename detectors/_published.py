"""What published detectors share: their authors' weights, preprocessing and decision, and nothing to fit.

A file whose digest is known must be that file; one that nobody pinned is taken from where the user names it, checked by
its layout, and known by what it turns out to be: the tensors and their file's digest are part of the judge's digest.

P(fake) is the sigmoid of the published log-odds and not calibrated: its authors decide at 0.5, and what lies between
0.2 and 0.8 is called uncertain here, as for every judge.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import torch
from torch import Tensor, nn

from evalkit.errors import RunFailed, UnknownName, UsageError
from evalkit.extractors._center import IMAGENET_MEAN, IMAGENET_STD
from evalkit.extractors._network import Checkpoint, plain_float32
from evalkit.extractors.area import image_of
from evalkit.extractors.identity import identity
from evalkit.types import SampleSet
from evalkit.weights import DETECTORS

from ._judge import Judge
from ._views import View

if TYPE_CHECKING:
    from evalkit.types import Media

COUNTER = "num_batches_tracked"
PIXELS_AT_ONCE = 2**18


@dataclass(frozen=True)
class Release:
    """One published weight file and how its authors show it images.

    weights: its name in `evalkit weights list`. mean, std: of grey levels scaled to [0, 1].
    """

    weights: str
    view: View
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def words(self) -> str:
        """What is done to an image."""
        return f"{self.view.words}; (x / 255 - {list(self.mean)}) / {list(self.std)}"


class PublishedJudge(Judge, ABC):
    """Base of the published detectors: a table of releases, a network with the authors' names of weights.

    A detector sets `name`, `version`, `licence`, `trained`, `instead` and `releases` (the first is what it is without a
    variant), and writes `network`; where the network speaks of real images, `speaks_of` turns it round.
    """

    modality: ClassVar[Literal["image"]] = "image"
    licence: str
    trained: ClassVar[str]
    instead: ClassVar[str] = "cnn"
    releases: ClassVar[Mapping[str, Release]]
    speaks_of: ClassVar[Literal["fake", "real"]] = "fake"

    def __init__(self, variant: str = "", *, path: Path | None = None) -> None:
        """variant: a key of `releases`. path: the weight file, when it is not to be looked for.

        Raises UnknownName for a variant that was not published.
        """
        super().__init__()
        first = next(iter(self.releases))
        if (variant or first) not in self.releases:
            raise UnknownName(f"variant of detector {type(self).name!r}:", variant, self.releases)
        self.release = self.releases[variant or first]
        if variant and variant != first:
            # Two variants can judge the same images at once, and rows are kept by name.
            self.name = f"{type(self).name}:{variant}"  # type: ignore[misc]
        record = DETECTORS[self.release.weights]
        self.licence = record.licence
        self._checkpoint = Checkpoint(self.name, record, path)
        self._trained_on = record.trained_on
        self._network: nn.Module | None = None
        self._digest = ""

    # What a detector writes --------------------------------------------------------------------------------

    @abstractmethod
    def network(self) -> nn.Module:
        """The network, log-odds [B] of normalised images; built on the meta device, weights come later."""

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the published file under the network's names; ValueError in words when they are others."""
        return dict(tensors)

    def log_odds_of(self, x: Tensor) -> Tensor:
        """What the network says [B] of normalised images."""
        said: Tensor = self._ready_network()(x)
        return said

    # Identity ----------------------------------------------------------------------------------------------

    @property
    def recipe(self) -> str:
        """The digest of network, release and preprocessing, before the weights are known."""
        terms = {**self.settings, "release": self.release.weights, "preprocessing": self.release.words}
        return identity(self.name, self.version, terms)

    @property
    def digest(self) -> str:
        """The digest of recipe and weights; the word `unfitted` and the recipe before `obtain`."""
        return self._digest or f"unfitted:{self.recipe}"

    @property
    def about(self) -> Mapping[str, str]:
        """Weights, licence and preprocessing in words."""
        return MappingProxyType({**self._checkpoint.about, "preprocessing": self.release.words})

    # Weights -----------------------------------------------------------------------------------------------

    def obtain(self) -> None:
        """Find or fetch the weights and take them; RunFailed, one line, when they cannot be had or are others."""
        if self._tensors:
            return
        tensors = self._checkpoint.tensors()
        file = self._checkpoint.fetch()
        try:
            found = {key: t.float() if t.is_floating_point() else t for key, t in self.read(tensors).items()}
            self._learn(found, {"weights sha256": self._checkpoint.sha256}, self._trained_on)
        except ValueError as error:
            raise RunFailed(
                f"weights {file} do not fit detector {self.name!r}: {error}; hand in the published"
                f" {DETECTORS[self.release.weights].name}"
            ) from error

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> NoReturn:
        """Nothing is fitted: raises UsageError and names a detector that is trained here."""
        raise UsageError(f"detector {self.name!r} is published as it is; train {self.instead!r} instead")

    def _learn(self, tensors: dict[str, Tensor], facts: dict[str, Any], trained_on: str) -> None:
        super()._learn(tensors, facts, trained_on)
        self._digest = identity(self.recipe, self.version, self._facts, self._tensors)

    def _ready(self) -> None:
        with torch.device("meta"):
            network = self.network()
        self._network = laid_out(network, self._tensors).eval().requires_grad_(False)

    def _fitted(self) -> dict[str, Tensor]:
        self._ready_network()
        return self._tensors

    def _ready_network(self) -> nn.Module:
        if self._network is None:
            raise RunFailed(f"the weights of detector {self.name!r} are not here yet; call obtain() or load() first")
        return self._network

    # Judging -----------------------------------------------------------------------------------------------

    def prepare(self, sample: Media) -> Tensor:
        """[..., 3, h, w] in grey levels 0..255, cut or resized as published; UnreadableSample when too small."""
        return self.release.view.prepare(image_of(sample, f"detector {self.name!r}"))

    def __call__(self, batch: Tensor) -> Tensor:
        """P(fake) [B, 1] of a prepared batch."""
        self._ready_network()
        # On a CPU whole batches of large images leave its caches at every layer: 1.9 times slower at 64 of 256 x 256.
        height, width = batch.shape[-2:]
        step = len(batch) if batch.device.type != "cpu" else max(1, PIXELS_AT_ONCE // (height * width))
        with plain_float32(batch.device):
            parts = [batch[i : i + step] for i in range(0, len(batch), step)]
            said = torch.cat([self._towards_fake(part) for part in parts])
        return torch.sigmoid(said)[:, None].float()

    def log_odds(self, images: Tensor) -> Tensor:
        """Log-odds of fake [B] of float images [B, 3, H, W] in 0..255, with gradients."""
        self._ready_network()
        with plain_float32(images.device), torch.enable_grad():
            return self._towards_fake(self.release.view.of(images))

    def _towards_fake(self, grey: Tensor) -> Tensor:
        said = self.log_odds_of(self.normalised(grey))
        return said if self.speaks_of == "fake" else -said

    def normalised(self, grey: Tensor) -> Tensor:
        """Grey levels 0..255 [..., 3, h, w] as the network takes them."""
        mean = torch.tensor(self.release.mean, device=grey.device).view(3, 1, 1)
        std = torch.tensor(self.release.std, device=grey.device).view(3, 1, 1)
        return (grey.float() / 255 - mean) / std


def laid_out(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network (it may be on meta) holding these tensors themselves; ValueError, in words, unless all fit.

    Counters of batches, which older files lack and inference does not read, may be missing.
    """
    wanted = network.state_dict()
    for key, like in wanted.items():
        if key.endswith(COUNTER):
            continue
        if key not in tensors:
            raise ValueError(f"they lack {key} {tuple(like.shape)}")
        if tensors[key].shape != like.shape:
            raise ValueError(f"{key} has shape {tuple(tensors[key].shape)}, expected {tuple(like.shape)}")
    if extra := next((key for key in tensors if key not in wanted), None):
        raise ValueError(f"they hold {extra}, which the network does not have")
    device = next(iter(tensors.values())).device
    counters = {key: torch.zeros((), dtype=torch.int64, device=device) for key in wanted if key.endswith(COUNTER)}
    network.load_state_dict({**counters, **tensors}, assign=True)
    return network


def without_prefix(tensors: Mapping[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    """The tensors of a checkpoint that was written by a data-parallel wrapper, under the names of the network."""
    wrapped = all(key.startswith(prefix) for key in tensors)
    return {key.removeprefix(prefix) if wrapped else key: tensor for key, tensor in tensors.items()}
